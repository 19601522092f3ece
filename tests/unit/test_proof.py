"""How senders are verified: what vendors publish is accepted, and forgeries are rejected."""

import base64
import hmac
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from conftest import sample
from hypothesis import given
from hypothesis import strategies as st

from end_conversation.errors import InvalidSignature
from end_conversation.http_request import FORM, HttpRequest
from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks import proofs
from end_conversation.webhooks.proofs import Proof, check, form_fields, parse_key, sign_standard

NOW = 1772444469.0
KEY, OTHER_KEY = b"0123456789abcdef0123456789abcdef", b"f" * 32
BODY = b'{"say": "hello"}'


def request(headers: dict[str, Any], content: bytes | None = BODY, **fields: Any) -> HttpRequest:
    """A request to a source; a header may have several values."""
    values = {name: value if isinstance(value, list) else [value] for name, value in headers.items()}
    return HttpRequest("POST", headers=values, content=content, **fields)


def cause(proof: Proof, asked: HttpRequest, *keys: bytes, now: float = NOW) -> str:
    """Why a request is rejected; empty if it is accepted."""
    try:
        check(proof, keys or (KEY,), asked, now)
    except InvalidSignature as refusal:
        return refusal.cause
    return ""


def hmac_proof(**fields: Any) -> Proof:
    return Proof("hmac", "x-s", **fields)


TOKEN = Proof("token", "authorization", prefix="Bearer ")
TIMED = {"timestamp_header": "x-t"}
BASIC, TWILIO, STANDARD = Proof("basic"), Proof("twilio"), Proof("standard")


def twilio_request(signature: str, content: bytes, query: str = "", algorithm: str = "") -> HttpRequest:
    """A request to the URL in the tests of Twilio's SDK."""
    headers = {
        "x-twilio-signature": signature,
        "x-twilio-webhooks-signature-settings": f"key=k, algorithm={algorithm}",
        "content-type": "application/json" if query else FORM,
    }
    url = {"host": "mycompany.com", "path": "/myapp.php", "query": f"foo=1&bar=2{query}"}
    return request(headers, content, **url)


TWILIO_FORM = (
    b"CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309"
)
SVIX = {
    "id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "timestamp": "1614265330",
    "signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
SVIX_KEY, SVIX_BODY = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), b'{"test": 2432232314}'
KNOWN: dict[str, tuple[Proof, HttpRequest, bytes, float]] = {
    # Zendesk used to sign in this order; there is no example of today's.
    # https://developer.zendesk.com/documentation/event-connectors/webhooks/verifying/
    "zendesk": (
        hmac_proof(encoding="base64", signed="{body}{timestamp}", timestamp_format="rfc3339", **TIMED),
        request({"x-s": "tRDSF7URY8BLCDlaBcQ7FHu051Zk+aAB0NKMP53teMw=", "x-t": "2021-07-25T10:00:00Z"}),
        b"HRkRd4BeOAoUkfZr-mhauJT64rvBASlJRoIyPsd3zeA=",
        1627207200.0,
    ),
    # https://github.com/HubSpot/hubspot-api-python/blob/master/tests/spec/utils/test_signature.py
    "hubspot": (
        hmac_proof(
            encoding="base64", signed="{method}{url}{body}{timestamp}", timestamp_format="unix-ms", **TIMED
        ),
        request(
            {"x-s": "HPW73RUtKmcYoEDADG0s6MmGFWUzWJKAW07r8RDgcQw=", "x-t": "15000000"},
            b"{'example_field':'example_value'}",
            host="www.example.com",
            path="/webhook_uri",
        ),
        b"yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy",
        15000.0,
    ),
    # https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    "github": (
        hmac_proof(format="sha256={signature}"),
        request(
            {"x-s": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
            b"Hello, World!",
        ),
        b"It's a Secret to Everybody",
        NOW,
    ),
    # https://docs.slack.dev/authentication/verifying-requests-from-slack
    "slack": (
        hmac_proof(format="v0={signature}", signed="v0:{timestamp}:{body}", **TIMED),
        request(
            {
                "x-s": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
                "x-t": "1531420618",
            },
            b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
            b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
            b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGl"
            b"gcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
        ),
        b"8f742231b10e8888abcd99yyyzzz85a5",
        1531420618.0,
    ),
    # RFC 2202's second case. Intercom signs like this, but publishes no example with its key.
    "sha1": (
        hmac_proof(algorithm="sha1", format="sha1={signature}"),
        request({"x-s": "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"}, b"what do ya want for nothing?"),
        b"Jefe",
        NOW,
    ),
    # https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/python/tests/test_webhooks.py,
    # among entries that are of another version, wrong or unreadable; then under Svix's names.
    "standard": (
        STANDARD,
        request(
            {f"webhook-{name}": value for name, value in SVIX.items()}
            | {"webhook-signature": f"v2,x v1 , v1,v1,é v1,{'A' * 43}= {SVIX['signature']}"},
            SVIX_BODY,
        ),
        SVIX_KEY,
        1614265330.0,
    ),
    "svix": (
        STANDARD,
        request({f"svix-{name}": value for name, value in SVIX.items()}, SVIX_BODY),
        SVIX_KEY,
        1614265330.0,
    ),
    # https://github.com/twilio/twilio-python/blob/main/tests/unit/test_request_validator.py
    **{
        f"twilio-{name}": (TWILIO, twilio_request(*arguments), b"12345", NOW)
        for name, arguments in {
            "form": ("RSOYDt4T1cUTdK1PDd93/VVr8B8=", TWILIO_FORM),
            "port": ("kvajT1Ptam85bY51eRf/AJRuM3w=", TWILIO_FORM),
            "repeated": (
                "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
                b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234",
            ),
            "json": (
                "a9nBmqA0ju/hNViExpshrM61xv4=",
                b'{"property": "value", "boolean": true}',
                "&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620",
            ),
            # By Twilio's SDK, for the field `a b` with the value `é&`.
            "bytes": ("QbALUnbBcBzSv91LLypt8CUzsgo=", b"\xef\xbb\xbfa+b=%C3%A9%26&&"),
            "sha256": ("LUOLmyCob0xsJC2c75HFewqp2s/z9a2C4K5FPIxHcDs=", b"a+b=%C3%A9%26", "", "HMAC_SHA256"),
        }.items()
    },
}


@pytest.mark.parametrize("name", KNOWN)
def test_examples_of_vendors_are_accepted(name: str) -> None:
    """Published by the vendors, or in the tests of their libraries; with one more byte they are rejected."""
    proof, asked, key, now = KNOWN[name]
    assert cause(proof, asked, key, now=now) == ""
    changed = replace(asked, content=asked.body() + b"x")
    assert cause(proof, changed, key, now=now) in {"signature_unknown", "body_hash_unknown"}


def signature_of(content: bytes, algorithm: str = "sha256") -> str:
    return hmac.digest(KEY, content, algorithm).hex()


def signed(timestamp: str) -> HttpRequest:
    """A request with a timestamp, and the right signature for it."""
    content = timestamp.encode(errors="surrogatepass") + BODY
    return request({"x-s": signature_of(content), "x-t": timestamp})


SIGNED = hmac_proof(signed="{timestamp}{body}", **TIMED)


@pytest.mark.parametrize(
    ("age", "expected"),
    [(-301, "timestamp_too_new"), (-300, ""), (0, ""), (300, ""), (301, "timestamp_too_old")],
)
@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("unix", lambda at: str(int(at))),
        ("unix-ms", lambda at: str(int(at * 1000))),
        ("rfc3339", lambda at: datetime.fromtimestamp(at, UTC).isoformat()),
    ],
)
def test_a_timestamp_may_differ_by_five_minutes(
    form: str, written: Callable[[float], str], age: int, expected: str
) -> None:
    """Either way, in each format, and not a second more."""
    assert cause(replace(SIGNED, timestamp_format=form), signed(written(NOW - age))) == expected


@pytest.mark.parametrize(
    ("form", "timestamp", "expected"),
    [
        ("unix", "", "timestamp_missing"),
        ("unix", "2026-03-02T09:41:09Z", "timestamp_malformed"),
        ("unix", "\u0661" * 10, "timestamp_malformed"),
        ("unix", "9" * 5000, "timestamp_malformed"),
        ("unix-ms", str(int(NOW)), "timestamp_too_old"),
        ("unix-ms", "9" * 15, "timestamp_too_new"),
        ("rfc3339", str(int(NOW)), "timestamp_malformed"),
        ("rfc3339", "9999-12-31T23:59:60Z", "timestamp_malformed"),
        ("rfc3339", "\ud800", "timestamp_malformed"),
    ],
)
def test_a_timestamp_in_another_format_is_rejected(form: str, timestamp: str, expected: str) -> None:
    """Even with a valid signature."""
    assert cause(replace(SIGNED, timestamp_format=form), signed(timestamp)) == expected


def basic(value: bytes) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(value).decode()}


V1 = hmac_proof(
    format="t={timestamp},v1={signature}", signed="{timestamp}.{body}", timestamp_format="unix-ms"
)
AT = str(int(NOW * 1000))
V1_SIGNATURE = signature_of(f"{AT}.".encode() + BODY)
ID_SIGNED = hmac_proof(signed="{header:X-Event-Id}:{body}")
MESSAGE_ID = (bytes(range(0x21, 0x2E)) + bytes(range(0x2F, 0x7F))).decode().ljust(256, "x")
GENUINE: list[tuple[Proof, dict[str, str]]] = [
    (hmac_proof(format="v0={signature}"), {"x-s": f"V0={signature_of(BODY)}"}),
    (hmac_proof(), {"x-s": signature_of(BODY).upper()}),
    (
        hmac_proof(signed="v0:{method}:{body}", algorithm="sha1"),
        {"x-s": signature_of(b"v0:POST:" + BODY, "sha1")},
    ),
    (V1, {"x-s": f"t={AT},v1={V1_SIGNATURE}"}),
    (V1, {"x-s": f"v0=00, v1={V1_SIGNATURE}, v1={'0' * 64}, t={AT}"}),
    (replace(V1, format="ts={timestamp};h1={signature}"), {"x-s": f"ts={AT};h1={V1_SIGNATURE}"}),
    (replace(V1, format="{timestamp}.{signature}"), {"x-s": f"{AT}.{V1_SIGNATURE}"}),
    # https://developers.trengo.com/docs/verifiying-request
    (replace(V1, format="{timestamp};{signature}"), {"x-s": f"{AT};{V1_SIGNATURE}"}),
    (replace(V1, format="{timestamp},{signature}"), {"x-s": f"{AT}, {V1_SIGNATURE}"}),
    # Persona and 360Learning, while a key is rotated.
    (V1, {"x-s": f"t={AT},v1={V1_SIGNATURE} t={AT},v1={'0' * 64}"}),
    (hmac_proof(format="v1,{signature}"), {"x-s": f"v1,{signature_of(BODY)} v1,{'0' * 64}"}),
    (hmac_proof(format="v1={signature}"), {"x-s": f"v1={'0' * 64},v1={signature_of(BODY)}"}),
    (ID_SIGNED, {"x-s": signature_of(b"evt_1:" + BODY), "x-event-id": "evt_1"}),
    # A template is filled in once: names in what it is filled with stay as they are.
    (ID_SIGNED, {"x-s": signature_of(b"{body}:" + BODY), "x-event-id": "{body}"}),
    (TOKEN, {"authorization": "Bearer " + KEY.decode()}),
    (TOKEN, {"authorization": "bearer " + KEY.decode()}),
    (Proof("token", "x-api-key"), {"x-api-key": KEY.decode()}),
    (BASIC, basic(KEY)),
    (BASIC, {"authorization": basic(KEY)["authorization"].replace("Basic", "BASIC")}),
    (
        STANDARD,
        {
            "webhook-id": MESSAGE_ID,
            "webhook-timestamp": AT[:-3],
            "webhook-signature": sign_standard(KEY, MESSAGE_ID, AT[:-3], BODY),
        },
    ),
]


@pytest.mark.parametrize(("proof", "headers"), GENUINE)
def test_any_key_may_match(proof: Proof, headers: dict[str, str]) -> None:
    """For rotation: the old one, the new one, or both; headers as senders write them."""
    asked = request(headers)
    for keys in ((KEY,), (OTHER_KEY, KEY), (KEY, OTHER_KEY)):
        assert cause(proof, asked, *keys) == ""
    assert cause(proof, asked, OTHER_KEY, b"g" * 32) == "signature_unknown"


LONG = b"user:" + b"p" * 99


@pytest.mark.parametrize(
    ("key", "sent", "expected"),
    [
        (b"user:pass:word:\xc3\xa9", b"user:pass:word:\xc3\xa9", ""),
        (KEY, KEY[:-1], "signature_unknown"),
        (KEY, KEY + b"\0", "signature_unknown"),
        (LONG, LONG, ""),
        (LONG, hmac.digest(b"", LONG, "sha256"), "signature_unknown"),
        (LONG, sha256(LONG).digest(), "signature_unknown"),
    ],
)
def test_a_password_is_compared_itself(key: bytes, sent: bytes, expected: str) -> None:
    """Not by an HMAC: it takes a long key's SHA-256, or a key followed by NULs, for the key."""
    assert cause(BASIC, request(basic(sent)), key) == expected


REJECTED: list[tuple[Proof, dict[str, Any], str]] = [
    (SIGNED, {}, "signature_missing"),
    (SIGNED, {"x-s": ""}, "signature_missing"),
    (SIGNED, {"x-s": ["00", "00"]}, "signature_repeated"),
    (SIGNED, {"x-s": "00" * 32}, "timestamp_missing"),
    (SIGNED, {"x-s": "00", "x-t": [AT[:-3]] * 2}, "timestamp_repeated"),
    (hmac_proof(), {"x-s": "00" * 32}, "signature_unknown"),
    (hmac_proof(), {"x-s": "\u00e9"}, "signature_unknown"),
    (hmac_proof(), {"x-s": "\ud800"}, "signature_unknown"),
    (hmac_proof(), {"x-s": "00,00"}, "signature_unknown"),
    (hmac_proof(format="v0={signature}"), {"x-s": "v1=" + "00" * 32}, "signature_malformed"),
    (hmac_proof(format="v0={signature}"), {"x-s": "v0="}, "signature_malformed"),
    (hmac_proof(encoding="base64"), {"x-s": "!!!"}, "signature_unknown"),
    (V1, {"x-s": f"t={AT}"}, "signature_malformed"),
    (V1, {"x-s": f"v1={V1_SIGNATURE}"}, "timestamp_missing"),
    (V1, {"x-s": f"t={AT},t=1,v1={V1_SIGNATURE}"}, "timestamp_repeated"),
    (V1, {"x-s": f"t={int(AT) + 1},v1={V1_SIGNATURE}"}, "signature_unknown"),
    (V1, {"x-s": f"t=1,v1={V1_SIGNATURE}"}, "timestamp_too_old"),
    (ID_SIGNED, {"x-s": signature_of(b":" + BODY)}, "header_missing"),
    (ID_SIGNED, {"x-s": "00", "x-event-id": ["1", "1"]}, "header_repeated"),
    (TOKEN, {}, "signature_missing"),
    (TOKEN, {"authorization": KEY.decode()}, "signature_malformed"),
    (TOKEN, {"authorization": "Bearer "}, "signature_unknown"),
    (TOKEN, {"authorization": "Bearer " + KEY.decode() + " "}, "signature_unknown"),
    (TOKEN, {"authorization": "Bearer \ud800"}, "signature_unknown"),
    (BASIC, {"authorization": "Basic "}, "signature_unknown"),
    (BASIC, {"authorization": "Basic \u00e9"}, "signature_malformed"),
    (BASIC, {"authorization": "Bearer " + KEY.decode()}, "signature_malformed"),
    (TWILIO, {}, "signature_missing"),
    (TWILIO, {"x-twilio-signature": "x"}, "body_hash_unknown"),
    (
        TWILIO,
        {"x-twilio-signature": "x", "x-twilio-webhooks-signature-settings": "key=k,algorithm=HMAC_MD5"},
        "algorithm_unknown",
    ),
    (STANDARD, {}, "id_missing"),
    (STANDARD, {"svix-id": "a", "svix-timestamp": AT}, "signature_missing"),
    # Two of one family and one of the other.
    (
        STANDARD,
        {"webhook-id": "a", "webhook-timestamp": AT, "svix-signature": f"v1,{'A' * 43}="},
        "signature_missing",
    ),
    (Proof("none"), {"authorization": "Bearer " + KEY.decode()}, "source_unknown"),
]


@pytest.mark.parametrize(("proof", "headers", "expected"), REJECTED)
def test_a_rejection_takes_as_long_as_any_other(
    proof: Proof, headers: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the cause, which is for the log, the body is hashed with every key."""
    hashed: list[bytes] = []
    real = hmac.digest

    def digest(key: bytes, content: bytes, algorithm: str) -> bytes:
        hashed.append(content)
        return real(key, content, algorithm)

    monkeypatch.setattr(proofs.hmac, "digest", digest)
    assert cause(proof, request(headers), KEY, OTHER_KEY) == expected
    assert sum(BODY in content for content in hashed) >= 2


def test_a_form_may_have_a_thousand_fields() -> None:
    """Twilio's signature needs all of them sorted, so their number is limited before it is verified."""
    for fields, expected in ((1000, "signature_unknown"), (1001, "body_unreadable")):
        assert cause(TWILIO, twilio_request("x", b"&".join([b"a=1"] * fields))) == expected


def test_comparing_does_not_stop_at_the_first_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time does not tell which of the keys is in use."""
    compared = []
    monkeypatch.setattr(proofs.hmac, "compare_digest", lambda a, b: compared.append(a) or a == b)
    proof, headers = GENUINE[0]
    assert cause(proof, request(headers), KEY, OTHER_KEY, b"g" * 32) == ""
    assert len(compared) == 3


def test_without_keys_everything_is_rejected() -> None:
    """Even what was signed with the key that keeps the time the same."""
    signature = sign_standard(b"no key", "msg_1", AT[:-3], BODY)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": AT[:-3], "webhook-signature": signature}
    with pytest.raises(InvalidSignature):
        check(STANDARD, (), request(headers), NOW)


header_values = (
    st.lists(st.text(max_size=9), max_size=3)
    | st.from_regex(r"(Basic|Bearer|sha1=|v1,|t=1,v1=) ?[A-Za-z0-9+/=]{0,44}", fullmatch=True)
    | st.integers(0, 2 * 10**9).map(str)
    | st.just(FORM)
)
header_names = {name for _, asked, *_ in KNOWN.values() for name in asked.headers}
header_names |= {name for _, headers, _ in REJECTED for name in headers}
odd_texts = st.text(max_size=9) | st.just("\ud800")


@given(
    st.sampled_from([*(proof for proof, *_ in REJECTED), *(proof for proof, *_ in KNOWN.values())]),
    st.dictionaries(st.sampled_from(sorted(header_names)), header_values),
    st.binary() | st.none(),
    st.fixed_dictionaries({"host": odd_texts, "path": odd_texts, "query": odd_texts}),
)
def test_any_forgery_is_rejected(
    proof: Proof, headers: dict[str, Any], content: bytes | None, url: dict[str, str]
) -> None:
    """With the one error that has one response, whatever the request is."""
    with pytest.raises(InvalidSignature, match=r"^the request has no valid signature$"):
        check(proof, (KEY,), request(headers, content, **url), NOW)


@pytest.mark.parametrize(
    ("kind", "text", "encoding", "key"),
    [
        ("standard", "whsec_" + "A" * 32, "text", bytes(24)),
        ("standard", "A" * 32, "text", bytes(24)),
        ("standard", "A" * 34, "text", bytes(25)),
        ("standard", "A" * 35, "text", bytes(26)),
        ("standard", "\ufeff " + "A" * 32 + "\r\n", "text", bytes(24)),
        ("hmac", "whsec_" + "A" * 32, "text", b"whsec_" + b"A" * 32),
        ("hmac", "00fF" * 8, "hex", b"\x00\xff" * 8),
        ("hmac", "\ufeff " + "A" * 32 + "\r\n", "hex", b"\xaa" * 16),
        ("hmac", "AP8A" * 8, "base64", b"\x00\xff\x00" * 8),
        ("hmac", "AP8" + "A" * 16, "base64", b"\x00\xff" + bytes(12)),
        ("token", "\u00e9" * 16, "text", ("\u00e9" * 16).encode()),
        ("token", "\ufeff " + "A" * 32 + "\u202c\r\n", "text", b"A" * 32),
        ("basic", "user:password:", "text", b"user:password:"),
    ],
)
def test_a_key_is_decoded(kind: str, text: str, encoding: str, key: bytes) -> None:
    """Base64 for Standard Webhooks, with or without padding; else as it is or as declared; stripped."""
    assert parse_key(kind, text, encoding) == key


NOT_BASE64 = "must be the base64 of 24 bytes or more"
PUBLISHED = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="
NOT_SECRET = "is not secret: its vendor publishes it for tests"


@pytest.mark.parametrize(
    ("kind", "text", "encoding", "complaint"),
    [
        ("standard", "whsec_" + "A" * 28, "text", NOT_BASE64),
        ("standard", "whsk_" + "A" * 32, "text", NOT_BASE64),
        ("standard", "!" * 40, "text", NOT_BASE64),
        ("standard", "\u00e9" * 40, "text", NOT_BASE64),
        ("basic", "username-and-password", "text", "must be user:password"),
        ("basic", "user-with-spaces:        ", "text", "must be user:password"),
        ("hmac", "\ud800" * 16, "text", "must be Unicode, and not blank"),
        ("token", "\t" * 16, "text", "must be Unicode, and not blank"),
        ("hmac", "0g" * 16, "hex", "must be hex"),
        ("hmac", "!" * 16, "base64", "must be base64"),
        ("hmac", PUBLISHED, "text", NOT_SECRET),
        ("hmac", PUBLISHED, "base64", NOT_SECRET),
    ],
)
def test_an_invalid_key_is_refused(kind: str, text: str, encoding: str, complaint: str) -> None:
    """The message says what a key must be, and does not quote it."""
    with pytest.raises(ValueError, match=f"^{complaint}$") as refusal:
        parse_key(kind, text, encoding)
    assert refusal.value.__context__ is None or text not in str(refusal.value.__context__)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"a=1&b=&c=%2B1+x&d", [("a", "1"), ("b", ""), ("c", "+1 x"), ("d", "")]),
        (b"\xef\xbb\xbfa=1&&b=2&", [("a", "1"), ("b", "2")]),
        ("a=é&b=%C3%A9".encode(), [("a", "é"), ("b", "é")]),
        (b"a=%FF%zz%4&%61=1=2&=x", [("a", "\ufffd%zz%4"), ("a", "1=2"), ("", "x")]),
        (b"a=1;b=2", [("a", "1;b=2")]),
        (b"", []),
    ],
)
def test_a_form_is_parsed_as_browsers_write_it(body: bytes, fields: list[tuple[str, str]]) -> None:
    """By the WHATWG's parser, which takes any bytes: https://url.spec.whatwg.org/#urlencoded-parsing."""
    assert form_fields(body) == fields


QUERY = "multiValueQueryStringParameters"


@pytest.mark.parametrize(
    ("api", "changes", "url"),
    [
        ("source-zendesk", {}, "/webhooks/zendesk"),
        ("source-zendesk", {"rawQueryString": "b=%7E&a=1&a="}, "/webhooks/zendesk?b=%7E&a=1&a="),
        ("source-zendesk", {"rawPath": "/prod/webhooks/zendesk"}, "/prod/webhooks/zendesk"),
        ("source-zendesk", {"rawPath": "/\ud800"}, "/?"),
        # A REST API decodes the query; its stage is in the context.
        ("http-rest", {QUERY: {"a": ["1", "b c"]}}, "/prod/conversations/end?a=1&a=b%20c"),
        ("http-rest", {QUERY: {"\ud800": ["\ud800"]}}, "/prod/conversations/end?%3F=%3F"),
    ],
)
def test_the_url_is_what_the_sender_requested(api: str, changes: dict[str, Any], url: str) -> None:
    """Through both kinds of API, with the stage."""
    event = sample(api) | changes
    assert to_http_request(event).url() == f"https://{event['requestContext']['domainName']}{url}"
