"""How senders prove themselves: vendors' examples and libraries agree with us, and forgers get nowhere."""

import base64
import hmac
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import sample
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from twilio.request_validator import RequestValidator

from end_conversation.errors import InvalidSignature
from end_conversation.http_request import FORM, HttpRequest
from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks import proofs
from end_conversation.webhooks.proofs import Proof, check, form_fields, parse_key, sign_standard

NOW = 1772444469.0
KEY = b"0123456789abcdef0123456789abcdef"
BODY = b'{"say": "hello"}'
HOST = "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com"
URL = f"https://{HOST}/webhooks/crm"


def request(
    headers: dict[str, str] | None = None,
    content: bytes = BODY,
    *,
    query: str = "",
    media_type: str = "application/json",
    host: str = HOST,
    path: str = "/webhooks/crm",
    **changes: Any,
) -> HttpRequest:
    """A request to a source's route, through an HTTP API."""
    return to_http_request(
        sample("webhook")
        | {
            "routeKey": "POST /webhooks/{source}",
            "rawPath": path,
            "rawQueryString": query,
            "pathParameters": {"source": "crm"},
            "headers": {"content-type": media_type} | (headers or {}),
            "requestContext": {"domainName": host, "http": {"method": "POST"}},
            "body": base64.b64encode(content).decode(),
            "isBase64Encoded": True,
        }
        | changes
    )


def cause(
    what: Proof, asked: HttpRequest, *keys: bytes, now: float = NOW, base_url: str | None = None
) -> str:
    """Why a request is refused; empty if it is not."""
    try:
        check(what, keys or (KEY,), asked, now, base_url)
    except InvalidSignature as refusal:
        return refusal.cause
    return ""


def hmac_proof(**fields: Any) -> Proof:
    return Proof(**{"type": "hmac", "header": "x-s"} | fields)


HUBSPOT = hmac_proof(
    header="x-hubspot-signature-v3",
    encoding="base64",
    signed="{method}{url}{body}{timestamp}",
    timestamp_header="x-hubspot-request-timestamp",
    timestamp_format="unix-ms",
)
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SVIX = {
    "id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "timestamp": "1614265330",
    "signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
KNOWN: dict[str, tuple[Proof, HttpRequest, bytes, float]] = {
    # Zendesk signed in this order once; it publishes no example of today's.
    # https://developer.zendesk.com/documentation/event-connectors/webhooks/verifying/
    "zendesk": (
        hmac_proof(
            header="x-zendesk-webhook-signature",
            encoding="base64",
            signed="{body}{timestamp}",
            timestamp_header="x-zendesk-webhook-signature-timestamp",
            timestamp_format="rfc3339",
        ),
        request(
            {
                "x-zendesk-webhook-signature": "tRDSF7URY8BLCDlaBcQ7FHu051Zk+aAB0NKMP53teMw=",
                "x-zendesk-webhook-signature-timestamp": "2021-07-25T10:00:00Z",
            }
        ),
        b"HRkRd4BeOAoUkfZr-mhauJT64rvBASlJRoIyPsd3zeA=",
        1627207200.0,
    ),
    # https://github.com/HubSpot/hubspot-api-python/blob/master/tests/spec/utils/test_signature.py
    "hubspot": (
        HUBSPOT,
        request(
            {
                "x-hubspot-signature-v3": "HPW73RUtKmcYoEDADG0s6MmGFWUzWJKAW07r8RDgcQw=",
                "x-hubspot-request-timestamp": "15000000",
            },
            b"{'example_field':'example_value'}",
            path="/webhook_uri",
            host="www.example.com",
        ),
        b"yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy",
        15000.0,
    ),
    # https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    "github": (
        hmac_proof(header="x-hub-signature-256", format="sha256={signature}"),
        request(
            {
                "x-hub-signature-256": "sha256="
                "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
            },
            b"Hello, World!",
        ),
        b"It's a Secret to Everybody",
        NOW,
    ),
    # https://docs.slack.dev/authentication/verifying-requests-from-slack
    "slack": (
        hmac_proof(
            header="x-slack-signature",
            format="v0={signature}",
            signed="v0:{timestamp}:{body}",
            timestamp_header="x-slack-request-timestamp",
        ),
        request(
            {
                "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
                "x-slack-request-timestamp": "1531420618",
            },
            SLACK_BODY,
            media_type=FORM,
        ),
        b"8f742231b10e8888abcd99yyyzzz85a5",
        1531420618.0,
    ),
    # RFC 2202's second case. Intercom, which signs so, publishes no example with its key.
    "sha1": (
        hmac_proof(header="x-hub-signature", algorithm="sha1", format="sha1={signature}"),
        request(
            {"x-hub-signature": "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
            b"what do ya want for nothing?",
        ),
        b"Jefe",
        NOW,
    ),
    # https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/python/tests/test_webhooks.py,
    # among entries that are of another version, wrong or unreadable; then under Svix's names.
    "standard": (
        Proof("standard"),
        request(
            {f"webhook-{name}": value for name, value in SVIX.items()}
            | {"webhook-signature": f"v2,x v1 , v1,v1,é v1,{'A' * 43}= {SVIX['signature']}"},
            b'{"test": 2432232314}',
        ),
        base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        1614265330.0,
    ),
    "svix": (
        Proof("standard"),
        request({f"svix-{name}": value for name, value in SVIX.items()}, b'{"test": 2432232314}'),
        base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        1614265330.0,
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_examples_of_vendors_are_verified(name: str) -> None:
    """What they publish themselves, or the tests of their libraries have; one byte more is refused."""
    what, asked, key, now = KNOWN[name]
    assert cause(what, asked, key, now=now) == ""
    assert cause(what, replace(asked, content=asked.body() + b" "), key, now=now) == "signature_unknown"


# From the tests of Twilio's own SDK:
# https://github.com/twilio/twilio-python/blob/main/tests/unit/test_request_validator.py
TWILIO_FORM = {
    "CallSid": "CA1234567890ABCDE",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
    "Caller": "+14158675309",
}
TWILIO_HASH = "bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"


def twilio_request(
    signature: str, fields: object = TWILIO_FORM, query: str = "foo=1&bar=2", **changes: Any
) -> HttpRequest:
    return request(
        {"x-twilio-signature": signature},
        fields if isinstance(fields, bytes) else urlencode(fields, doseq=True).encode(),
        query=query,
        media_type="application/json" if isinstance(fields, bytes) else FORM,
        **{"host": "mycompany.com", "path": "/myapp.php"} | changes,
    )


@pytest.mark.parametrize(
    ("signature", "fields", "query"),
    [
        ("RSOYDt4T1cUTdK1PDd93/VVr8B8=", TWILIO_FORM, "foo=1&bar=2"),
        # Signed for the URL with its port, which Twilio does too.
        ("kvajT1Ptam85bY51eRf/AJRuM3w=", TWILIO_FORM, "foo=1&bar=2"),
        (
            "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
            {"Sid": "CA123", "SidAccount": "AC123", "Digits": ["5678", "1234", "1234"]},
            "foo=1&bar=2",
        ),
        (
            "a9nBmqA0ju/hNViExpshrM61xv4=",
            b'{"property": "value", "boolean": true}',
            f"foo=1&bar=2&{TWILIO_HASH}",
        ),
    ],
)
def test_the_examples_of_twilio_are_verified(signature: str, fields: object, query: str) -> None:
    """A form, a form for a URL with a port, repeated fields, and JSON."""
    asked = twilio_request(signature, fields, query)
    assert cause(Proof("twilio"), asked, b"12345") == ""
    assert cause(Proof("twilio"), asked, b"54321") == "signature_unknown"


@pytest.mark.parametrize("marked", ["\ufeff", "&", ""])
def test_twilio_signs_what_a_form_means(marked: str) -> None:
    """However its bytes are written: with a byte order mark, or with empty pieces."""
    signature = RequestValidator("12345").compute_signature("https://mycompany.com/myapp.php", {"a b": "é&"})
    asked = replace(
        twilio_request(signature, query=""), content=f"{marked}a+b=%C3%A9%26{marked[:0]}&".encode()
    )
    assert cause(Proof("twilio"), asked, b"12345") == ""


def test_twilio_signs_the_url_that_it_knows() -> None:
    """Behind a custom domain that is the configured one, with the route's path and the raw query."""
    signature = RequestValidator("12345").compute_signature(
        "https://api.example.com/twilio/webhooks/crm?a=%20b", {}
    )
    asked = request({"x-twilio-signature": signature}, b"", query="a=%20b", media_type=FORM)
    assert cause(Proof("twilio"), asked, b"12345", base_url="https://api.example.com/twilio") == ""
    assert cause(Proof("twilio"), asked, b"12345") == "signature_unknown"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    st.dictionaries(texts, st.lists(texts, min_size=1, max_size=3), max_size=5),
    st.sampled_from(["", "HMAC_SHA256"]),
)
def test_what_twilio_signs_is_taken(fields: dict[str, list[str]], algorithm: str) -> None:
    """By its own SDK, for any form, with an auth token and with a shared key."""

    class Form(dict[str, list[str]]):
        def getlist(self, name: str) -> list[str]:
            return self[name]

    signature = RequestValidator("12345").compute_signature(
        "https://mycompany.com/myapp.php", Form(fields), algorithm or None
    )
    asked = twilio_request(signature, fields, "")
    if algorithm:
        settings = {"x-twilio-webhooks-signature-settings": [f"key=k,algorithm={algorithm}"]}
        asked = replace(asked, headers={**asked.headers, **settings})
    assert cause(Proof("twilio"), asked, b"12345") == ""


@given(st.from_regex(r"[!-\-/-~]{1,256}", fullmatch=True), texts)
def test_standard_webhooks_are_those_of_the_reference(message_id: str, text: str) -> None:
    """What it signs is accepted, and what we sign it accepts, whatever the body is."""
    key, timestamp = b"k" * 24, str(int(datetime.now(UTC).timestamp()))
    reference = Webhook(base64.b64encode(key).decode())
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": reference.sign(message_id, datetime.fromtimestamp(int(timestamp), UTC), text),
    }
    assert cause(Proof("standard"), request(headers, text.encode()), key, now=float(timestamp)) == ""
    headers["webhook-signature"] = sign_standard(key, message_id, timestamp, text.encode())
    reference.verify(text, headers, json_parse=False)


def signature_of(content: bytes, algorithm: str = "sha256") -> str:
    return hmac.digest(KEY, content, algorithm).hex()


def signed(timestamp: str) -> HttpRequest:
    """A request to a source that signs its timestamp, with a signature that is right."""
    content = timestamp.encode(errors="surrogatepass") + BODY
    return request({"x-s": signature_of(content), "x-timestamp": timestamp})


SIGNED = hmac_proof(signed="{timestamp}{body}", timestamp_header="x-timestamp")
TOKEN = Proof("token", header="authorization", prefix="Bearer ")
BASIC = Proof("basic")


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
        ("rfc3339", lambda at: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")),
    ],
)
def test_five_minutes_are_tolerated(
    form: str, written: Callable[[float], str], age: int, expected: str
) -> None:
    """Either way, in each unit, and not a second more."""
    assert cause(replace(SIGNED, timestamp_format=form), signed(written(NOW - age))) == expected


@pytest.mark.parametrize(
    ("form", "timestamp", "expected"),
    [
        ("unix", str(int(NOW * 1000)), "timestamp_malformed"),
        ("unix", "2026-03-02T09:41:09Z", "timestamp_malformed"),
        ("unix", "", "timestamp_missing"),
        ("unix", "1e9", "timestamp_malformed"),
        ("unix", f"{int(NOW)}.5", "timestamp_malformed"),
        ("unix", f" {int(NOW)}", "timestamp_malformed"),
        ("unix", "\u0661" * 10, "timestamp_malformed"),
        ("unix", "9" * 5000, "timestamp_malformed"),
        ("unix-ms", str(int(NOW)), "timestamp_too_old"),
        ("unix-ms", "9" * 15, "timestamp_too_new"),
        ("rfc3339", str(int(NOW)), "timestamp_malformed"),
        ("rfc3339", "2026-03-02T09:41:09", "timestamp_malformed"),
        ("rfc3339", "2026-02-30T09:41:09Z", "timestamp_malformed"),
        ("rfc3339", "9999-12-31T23:59:60Z", "timestamp_malformed"),
        ("rfc3339", "\ud800", "timestamp_malformed"),
    ],
)
def test_a_timestamp_in_another_unit_is_refused(form: str, timestamp: str, expected: str) -> None:
    """Although it is rightly signed."""
    assert cause(replace(SIGNED, timestamp_format=form), signed(timestamp)) == expected


def basic(value: bytes) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(value).decode()}


V1 = hmac_proof(
    format="t={timestamp},v1={signature}", signed="{timestamp}.{body}", timestamp_format="unix-ms"
)
AT = str(int(NOW * 1000))
V1_SIGNATURE = signature_of(f"{AT}.".encode() + BODY)
ID_SIGNED = hmac_proof(signed="{header:X-Event-Id}:{body}")
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
    (hmac_proof(format="v1={signature}"), {"x-s": f"v1={'0' * 64},v1={signature_of(BODY)}"}),
    (ID_SIGNED, {"x-s": signature_of(b"evt_1:" + BODY), "X-Event-ID": "evt_1"}),
    (TOKEN, {"authorization": "Bearer " + KEY.decode()}),
    (TOKEN, {"authorization": "bearer " + KEY.decode()}),
    (Proof("token", header="x-api-key"), {"x-api-key": KEY.decode()}),
    (BASIC, basic(KEY)),
    (BASIC, {"authorization": basic(KEY)["authorization"].replace("Basic", "BASIC")}),
]


@pytest.mark.parametrize(("what", "headers"), GENUINE)
def test_any_of_the_keys_will_do(what: Proof, headers: dict[str, str]) -> None:
    """For rotation: the old one, the new one, or both; headers as senders write them."""
    other, asked = b"f" * 32, request(headers)
    for keys in ((KEY,), (other, KEY), (KEY, other)):
        assert cause(what, asked, *keys) == ""
    assert cause(what, asked, other, b"g" * 32) == "signature_unknown"


def test_names_in_the_body_are_not_filled_in() -> None:
    """A template is filled in once."""
    asked = request({"x-s": signature_of(b"{method}.POST")}, b"{method}")
    assert cause(hmac_proof(signed="{body}.{method}"), asked) == ""


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
def test_what_is_sent_is_compared_itself(key: bytes, sent: bytes, expected: str) -> None:
    """Not a hash that it keys: HMAC takes a long key's SHA-256, and a key with NULs behind it, for it."""
    assert cause(BASIC, request(basic(sent)), key) == expected


MALFORMED: list[tuple[Proof, dict[str, str], str]] = [
    (SIGNED, {}, "signature_missing"),
    (SIGNED, {"x-s": ""}, "signature_missing"),
    (SIGNED, {"x-s": "00" * 32}, "timestamp_missing"),
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
    (TOKEN, {}, "signature_missing"),
    (TOKEN, {"authorization": KEY.decode()}, "signature_malformed"),
    (TOKEN, {"authorization": "Bearer "}, "signature_unknown"),
    (TOKEN, {"authorization": "Bearer " + KEY.decode() + " "}, "signature_unknown"),
    (TOKEN, {"authorization": "Bearer \ud800"}, "signature_unknown"),
    (BASIC, {"authorization": "Basic "}, "signature_unknown"),
    (BASIC, {"authorization": "Basic \u00e9"}, "signature_malformed"),
    (BASIC, {"authorization": "Bearer " + KEY.decode()}, "signature_malformed"),
    (Proof("twilio"), {}, "signature_missing"),
    (Proof("twilio"), {"x-twilio-signature": "x"}, "body_hash_unknown"),
    (
        Proof("twilio"),
        {"x-twilio-signature": "x", "x-twilio-webhooks-signature-settings": "key=k,algorithm=HMAC_MD5"},
        "algorithm_unknown",
    ),
    (Proof("twilio"), {"x-twilio-signature": "x", "content-type": FORM}, "signature_unknown"),
    (Proof("standard"), {}, "id_missing"),
    (Proof("standard"), {"svix-id": "a", "svix-timestamp": AT}, "signature_missing"),
    # Two of one family and one of the other.
    (
        Proof("standard"),
        {"webhook-id": "a", "webhook-timestamp": AT, "svix-signature": f"v1,{'A' * 43}="},
        "signature_missing",
    ),
    (Proof("none"), {"authorization": "Bearer " + KEY.decode()}, "source_unknown"),
]


@pytest.mark.parametrize("keys", [(KEY,), (KEY, b"f" * 32)])
@pytest.mark.parametrize(("what", "headers", "expected"), MALFORMED)
def test_what_proves_nothing_is_refused(
    what: Proof,
    headers: dict[str, str],
    expected: str,
    keys: tuple[bytes, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By one kind of error, with a word for the log; whatever it is, each key hashes the body.

    So the time tells nothing of sources and keys.
    """
    hashed: list[bytes] = []
    real = hmac.digest

    def digest(key: bytes, content: bytes, algorithm: str) -> bytes:
        hashed.append(content)
        return real(key, content, algorithm)

    monkeypatch.setattr(proofs.hmac, "digest", digest)
    with pytest.raises(InvalidSignature, match=r"^the request has no valid signature$") as refusal:
        check(what, keys, request(headers), NOW)
    assert refusal.value.facts == {"cause": expected}
    is_form = headers.get("content-type") == FORM
    assert sum(BODY in content or is_form for content in hashed) >= len(keys)


def test_comparing_does_not_end_at_the_first_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell from the time which of the keys is in use."""
    compared = []
    monkeypatch.setattr(proofs.hmac, "compare_digest", lambda a, b: compared.append(a) or a == b)
    what, headers = GENUINE[0]
    assert cause(what, request(headers), KEY, b"f" * 32, b"g" * 32) == ""
    assert len(compared) == 3


@pytest.mark.parametrize(
    "what", [SIGNED, Proof("token", header="x-s"), BASIC, Proof("twilio"), Proof("standard")]
)
def test_without_keys_nothing_passes(what: Proof) -> None:
    """Not even what is signed with nothing."""
    with pytest.raises(InvalidSignature):
        check(what, (), request({"x-s": "no key"}), NOW)


@pytest.mark.parametrize(
    ("what", "header", "expected"),
    [
        (SIGNED, "x-s", "signature_repeated"),
        (SIGNED, "x-timestamp", "timestamp_repeated"),
        (replace(SIGNED, signed="{timestamp}{body}{header:x-id}"), "x-id", "header_repeated"),
    ],
)
def test_a_header_that_comes_twice_is_refused(what: Proof, header: str, expected: str) -> None:
    """A REST API hands on all of them, and there is no telling which one the sender meant."""
    asked = signed(str(int(NOW)))
    repeated = {header: (asked.header(header) or ["1"]) * 2}
    assert cause(what, replace(asked, headers={**asked.headers, **repeated})) == expected


def test_a_full_stop_in_the_id_could_move_the_timestamp() -> None:
    """That is why it is refused: the same bytes are signed for two readings of a request."""
    at = str(int(NOW))
    genuine = sign_standard(KEY, "msg_1", at, b"x.1700000000.{}")
    assert genuine == sign_standard(KEY, f"msg_1.{at}.x", "1700000000", b"{}")
    headers = {"webhook-id": f"msg_1.{at}.x", "webhook-timestamp": at, "webhook-signature": genuine}
    assert cause(Proof("standard"), request(headers, b"{}")) == "id_malformed"


def test_broken_base64_is_refused() -> None:
    """The gateway announced it, and it is not for a stranger to hear more about."""
    assert cause(TOKEN, request({"authorization": "Bearer " + KEY.decode()}, body="!")) == "body_unreadable"


@pytest.mark.parametrize("host", ["[", "[::1", "]", "a b", "\ud800", ""])
@pytest.mark.parametrize("media_type", [FORM, "application/json"])
def test_an_impossible_host_is_no_defect(host: str, media_type: str) -> None:
    """Whatever an event calls its host, it is signed or not."""
    headers = {"x-twilio-signature": "x", "x-s": "00"}
    asked = request(headers, host=host, media_type=media_type, query=f"bodySHA256={'0' * 64}")
    for what in (Proof("twilio"), hmac_proof(signed="{url}{body}")):
        assert cause(what, asked)


header_values = (
    st.text(max_size=40)
    | st.from_regex(r"(Basic|Bearer|sha1=|v1,|t=1,v1=) ?[A-Za-z0-9+/=]{0,44}", fullmatch=True)
    | st.integers(0, 2 * 10**9).map(str)
    | st.lists(st.text(max_size=9), max_size=3)
    | st.none()
    | st.just(FORM)
)
header_names = {name for _, asked, *_ in KNOWN.values() for name in asked.headers}
header_names |= {name for _, headers, _ in MALFORMED for name in headers}


@given(
    what=st.sampled_from([*(proof for proof, *_ in MALFORMED), *(proof for proof, *_ in KNOWN.values())]),
    headers=st.dictionaries(st.sampled_from(sorted(header_names)), header_values),
    body=st.text() | st.none(),
    encoded=st.booleans(),
    url=st.dictionaries(
        st.sampled_from(["rawPath", "rawQueryString", "multiValueQueryStringParameters"]),
        st.text(max_size=9)
        | st.just("\ud800")
        | st.none()
        | st.dictionaries(st.just("\ud800"), st.text() | st.none()),
    ),
)
def test_forgeries_are_refused_whatever_they_are(
    what: Proof, headers: dict[str, Any], body: str | None, url: dict[str, Any], *, encoded: bool
) -> None:
    """By the one error, and never another one."""
    asked = request(headers, body=body, **url, isBase64Encoded=encoded)
    with pytest.raises(InvalidSignature):
        check(what, (KEY,), asked, NOW)


@pytest.mark.parametrize(
    ("kind", "text", "encoding", "key"),
    [
        ("standard", "whsec_" + "A" * 32, "text", bytes(24)),
        ("standard", "A" * 32, "text", bytes(24)),
        *(
            (
                "standard",
                base64.b64encode(bytes(range(size))).decode().rstrip("="),
                "text",
                bytes(range(size)),
            )
            for size in (25, 26)
        ),
        ("hmac", "whsec_" + "A" * 32, "text", b"whsec_" + b"A" * 32),
        ("hmac", "00fF" * 8, "hex", b"\x00\xff" * 8),
        ("hmac", "AP8A" * 8, "base64", b"\x00\xff\x00" * 8),
        ("hmac", "AP8" + "A" * 16, "base64", b"\x00\xff" + bytes(12)),
        ("token", "\u00e9" * 16, "text", ("\u00e9" * 16).encode()),
        ("basic", "user:password:", "text", b"user:password:"),
        *(
            (kind, "\ufeff " + "A" * 32 + "\r\n", encoding, key)
            for kind, encoding, key in (
                ("standard", "text", bytes(24)),
                ("hmac", "hex", b"\xaa" * 16),
                ("token", "text", b"A" * 32),
            )
        ),
    ],
)
def test_keys_are_read_as_senders_write_them(kind: str, text: str, encoding: str, key: bytes) -> None:
    """Base64 for Standard Webhooks, with or without padding; else as they are or as declared; stripped."""
    assert parse_key(kind, text, encoding) == key


PUBLISHED = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="


@pytest.mark.parametrize(
    ("kind", "text", "encoding", "complaint"),
    [
        ("standard", "whsec_" + "A" * 28, "text", "must be the base64 of 24 bytes or more"),
        ("standard", "!" * 40, "text", "must be the base64 of 24 bytes or more"),
        ("standard", "\u00e9" * 40, "text", "must be the base64 of 24 bytes or more"),
        ("basic", "username-and-password", "text", "must be user:password"),
        ("basic", "user-with-spaces:        ", "text", "must be user:password"),
        ("hmac", "\ud800" * 16, "text", "must be Unicode, and not blank"),
        ("token", "\t" * 16, "text", "must be Unicode, and not blank"),
        ("hmac", "0g" * 16, "hex", "must be hex"),
        ("hmac", "!" * 16, "base64", "must be base64"),
        ("hmac", PUBLISHED, "text", "is not secret: its vendor publishes it for tests"),
        ("hmac", PUBLISHED, "base64", "is not secret: its vendor publishes it for tests"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(kind: str, text: str, encoding: str, complaint: str) -> None:
    """The complaint says what it has to be, and not what it is."""
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
def test_a_form_is_read_as_browsers_write_it(body: bytes, fields: list[tuple[str, str]]) -> None:
    """By the WHATWG's parser, which takes any bytes: https://url.spec.whatwg.org/#urlencoded-parsing."""
    assert form_fields(body) == fields


@pytest.mark.parametrize(
    ("changes", "base_url", "url"),
    [
        ({}, None, URL),
        ({"query": "b=%7E&a=1&a="}, None, f"{URL}?b=%7E&a=1&a="),
        ({"path": "/prod/webhooks/crm"}, None, f"https://{HOST}/prod/webhooks/crm"),
        (
            {"path": "/prod/webhooks/crm"},
            "https://api.example.com/eoc",
            "https://api.example.com/eoc/webhooks/crm",
        ),
        ({"query": "a=1"}, "https://api.example.com", "https://api.example.com/webhooks/crm?a=1"),
    ],
)
def test_the_url_is_what_the_sender_asked_for(
    changes: dict[str, Any], base_url: str | None, url: str
) -> None:
    """With a named stage, which an HTTP API has in its path; or with what stands for all before the route."""
    assert request(**changes).url(base_url) == url


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (None, "https://f6g7h8i9j0.execute-api.us-east-1.amazonaws.com/prod/conversations/end?a=1&a=b%20c"),
        ("https://api.example.com", "https://api.example.com/webhooks/crm?a=1&a=b%20c"),
    ],
)
def test_the_url_of_a_rest_api(base_url: str | None, url: str) -> None:
    """Its stage is in the context, and its query is encoded again."""
    event = sample("http-rest") | {"multiValueQueryStringParameters": {"a": ["1", "b c"]}}
    event |= {"pathParameters": {"source": "crm"}}
    if base_url:
        event["resource"] = "/webhooks/{source}"
    assert to_http_request(event).url(base_url) == url
