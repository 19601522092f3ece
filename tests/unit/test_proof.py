"""How senders prove themselves: vendors' examples and libraries agree with us, and forgers get nowhere."""

import base64
import hmac
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import sample
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from twilio.request_validator import RequestValidator

from end_conversation.errors import InvalidSignature
from end_conversation.http_request import HttpRequest
from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks import proofs
from end_conversation.webhooks.proofs import Proof, check, parse_key

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
    **changes: Any,
) -> HttpRequest:
    """A request to a source's route, through an HTTP API."""
    event = sample("webhook")
    return to_http_request(
        event
        | {
            "routeKey": "POST /webhooks/{source}",
            "rawPath": "/webhooks/crm",
            "rawQueryString": query,
            "pathParameters": {"source": "crm"},
            "headers": {"content-type": media_type} | (headers or {}),
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


# Zendesk published this example while it signed body and timestamp in that order; it signs them the other way
# round now, and publishes no example of it:
# https://developer.zendesk.com/documentation/event-connectors/webhooks/verifying/
ZENDESK = Proof(
    "hmac",
    header="x-zendesk-webhook-signature",
    encoding="base64",
    signed="{body}{timestamp}",
    timestamp_header="x-zendesk-webhook-signature-timestamp",
    timestamp_format="rfc3339",
)
ZENDESK_KEY = b"HRkRd4BeOAoUkfZr-mhauJT64rvBASlJRoIyPsd3zeA="
ZENDESK_HEADERS = {
    "x-zendesk-webhook-signature": "tRDSF7URY8BLCDlaBcQ7FHu051Zk+aAB0NKMP53teMw=",
    "x-zendesk-webhook-signature-timestamp": "2021-07-25T10:00:00Z",
}
ZENDESK_NOW = 1627207200.0


def test_the_example_of_zendesk_is_verified() -> None:
    """Body and timestamp by HMAC-SHA256, in base64, with the secret as it is written."""
    assert cause(ZENDESK, request(ZENDESK_HEADERS), ZENDESK_KEY, now=ZENDESK_NOW) == ""


# https://github.com/HubSpot/hubspot-api-python/blob/master/tests/spec/utils/test_signature.py
HUBSPOT = Proof(
    "hmac",
    header="x-hubspot-signature-v3",
    encoding="base64",
    signed="{method}{url}{body}{timestamp}",
    timestamp_header="x-hubspot-request-timestamp",
    timestamp_format="unix-ms",
)


def test_the_example_of_hubspot_is_verified() -> None:
    """Its third version signs method, URL, body and a timestamp in milliseconds."""
    asked = request(
        {
            "x-hubspot-signature-v3": "HPW73RUtKmcYoEDADG0s6MmGFWUzWJKAW07r8RDgcQw=",
            "x-hubspot-request-timestamp": "15000000",
        },
        b"{'example_field':'example_value'}",
        rawPath="/webhook_uri",
        requestContext={"domainName": "www.example.com", "http": {"method": "POST"}},
    )
    key = b"yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
    assert cause(HUBSPOT, asked, key, now=15000.0) == ""
    assert cause(HUBSPOT, asked, key, now=15000.0 + 301) == "timestamp_too_old"


def test_the_example_of_github_is_verified() -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries."""
    github = Proof("hmac", header="x-hub-signature-256", prefix="sha256=")
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    asked = request({"x-hub-signature-256": signature}, b"Hello, World!")
    assert cause(github, asked, b"It's a Secret to Everybody") == ""


def test_sha1_is_that_of_rfc_2202() -> None:
    """Its second case; Intercom, which signs like this, publishes no example with its key."""
    intercom = Proof("hmac", header="x-hub-signature", algorithm="sha1", prefix="sha1=")
    signature = "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
    asked = request({"x-hub-signature": signature}, b"what do ya want for nothing?")
    assert cause(intercom, asked, b"Jefe") == ""


# From the tests of Twilio's own SDK:
# https://github.com/twilio/twilio-python/blob/main/tests/unit/test_request_validator.py
TWILIO_FORM = {
    "CallSid": "CA1234567890ABCDE",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
    "Caller": "+14158675309",
}


def twilio_request(
    signature: str,
    fields: object = TWILIO_FORM,
    query: str = "foo=1&bar=2",
    *,
    host: str = "mycompany.com",
    **rest: Any,
) -> HttpRequest:
    return request(
        {"x-twilio-signature": signature},
        urlencode(fields, doseq=True).encode() if not isinstance(fields, bytes) else fields,
        query=query,
        media_type="application/json" if isinstance(fields, bytes) else "application/x-www-form-urlencoded",
        rawPath="/myapp.php",
        requestContext={"domainName": host, "http": {"method": "POST"}},
        **rest,
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
            "foo=1&bar=2&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620",
        ),
    ],
)
def test_the_examples_of_twilio_are_verified(signature: str, fields: object, query: str) -> None:
    """A form, a form for a URL with a port, repeated fields, and JSON."""
    asked = twilio_request(signature, fields, query)
    assert cause(Proof("twilio"), asked, b"12345") == ""
    assert cause(Proof("twilio"), asked, b"54321") == "signature_unknown"


def test_twilio_signs_the_url_that_it_knows() -> None:
    """Behind a custom domain that is the configured one, with the route's path and the raw query."""
    signature = RequestValidator("12345").compute_signature(
        "https://api.example.com/twilio/webhooks/crm?a=%20b", {}
    )
    asked = request(
        {"x-twilio-signature": signature}, b"", query="a=%20b", media_type="application/x-www-form-urlencoded"
    )
    assert cause(Proof("twilio"), asked, b"12345", base_url="https://api.example.com/twilio") == ""
    assert cause(Proof("twilio"), asked, b"12345") == "signature_unknown"


def test_a_json_body_that_the_url_does_not_vouch_for_is_refused() -> None:
    """Twilio's signature is over the URL alone then, and the body might be anybody's."""
    signature = RequestValidator("12345").compute_signature("https://mycompany.com/myapp.php", {})
    asked = twilio_request(signature, b"{}", "")
    assert cause(Proof("twilio"), asked, b"12345") == "body_hash_unknown"


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


@given(st.from_regex(r"[!-\-/-~]{1,256}", fullmatch=True), st.text(st.characters(exclude_categories=["Cs"])))
def test_what_the_reference_of_standard_webhooks_signs_is_taken(message_id: str, text: str) -> None:
    """Whatever the body is."""
    key = b"k" * 24
    at = datetime.fromtimestamp(int(NOW), UTC)
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(NOW)),
        "webhook-signature": Webhook(base64.b64encode(key).decode()).sign(message_id, at, text),
    }
    assert cause(Proof("standard"), request(headers, text.encode()), key) == ""


def signed(timestamp: str, **what: Any) -> HttpRequest:
    """A request to a source that signs its timestamp, with a signature that is right."""
    content = timestamp.encode(errors="surrogatepass") + BODY
    return request(
        {"x-signature": hmac.digest(KEY, content, "sha256").hex(), "x-timestamp": timestamp}, **what
    )


SIGNED = Proof("hmac", header="x-signature", signed="{timestamp}{body}", timestamp_header="x-timestamp")
TOKEN = Proof("token", header="authorization", prefix="Bearer ")
BASIC = Proof("basic")
BASIC_KEY = b"user:pass:word:\xc3\xa9"


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
    what = Proof(**SIGNED_FIELDS | {"timestamp_format": form})
    assert cause(what, signed(written(NOW - age))) == expected


SIGNED_FIELDS: dict[str, Any] = {
    "type": "hmac",
    "header": "x-signature",
    "signed": "{timestamp}{body}",
    "timestamp_header": "x-timestamp",
}


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
        ("rfc3339", "0001-01-01T00:00:00Z", "timestamp_too_old"),
        ("rfc3339", "9999-12-31T23:59:60Z", "timestamp_malformed"),
        ("rfc3339", "\ud800", "timestamp_malformed"),
    ],
)
def test_a_timestamp_in_another_unit_is_refused(form: str, timestamp: str, expected: str) -> None:
    """Although it is rightly signed."""
    assert cause(Proof(**SIGNED_FIELDS | {"timestamp_format": form}), signed(timestamp)) == expected


def basic(value: bytes) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(value).decode()}


GENUINE: dict[str, tuple[Proof, HttpRequest]] = {
    "hex": (
        Proof("hmac", header="x-s", prefix="v0="),
        request({"x-s": "v0=" + hmac.digest(KEY, BODY, "sha256").hex()}),
    ),
    "hex in capitals": (
        Proof("hmac", header="x-s"),
        request({"x-s": hmac.digest(KEY, BODY, "sha256").hex().upper()}),
    ),
    "template": (
        Proof("hmac", header="x-s", signed="v0:{method}:{body}", algorithm="sha1"),
        request({"x-s": hmac.digest(KEY, b"v0:POST:" + BODY, "sha1").hex()}),
    ),
    "a template's names in the body are not filled in": (
        Proof("hmac", header="x-s", signed="{body}.{method}"),
        request({"x-s": hmac.digest(KEY, b"{method}.POST", "sha256").hex()}, b"{method}"),
    ),
    "token": (TOKEN, request({"authorization": "Bearer " + KEY.decode()})),
    "a scheme in other letters": (TOKEN, request({"authorization": "bearer " + KEY.decode()})),
    "token alone": (Proof("token", header="x-api-key"), request({"x-api-key": KEY.decode()})),
}


@pytest.mark.parametrize("name", GENUINE)
def test_any_of_the_keys_will_do(name: str) -> None:
    """For rotation: the old one, the new one, or both."""
    what, asked = GENUINE[name]
    other = b"f" * 32
    for keys in ((KEY,), (other, KEY), (KEY, other)):
        assert cause(what, asked, *keys) == ""
    assert cause(what, asked, other, b"g" * 32) == "signature_unknown"


def test_basic_is_user_and_password() -> None:
    """A password may have colons, and letters beyond ASCII."""
    assert cause(BASIC, request(basic(BASIC_KEY)), BASIC_KEY) == ""
    assert cause(BASIC, request(basic(BASIC_KEY[:-1])), BASIC_KEY) == "signature_unknown"


MALFORMED: list[tuple[Proof, dict[str, str], str]] = [
    (SIGNED, {}, "signature_missing"),
    (SIGNED, {"x-signature": ""}, "signature_missing"),
    (SIGNED, {"x-signature": "00" * 32}, "timestamp_missing"),
    (Proof("hmac", header="x-s"), {"x-s": "00" * 32}, "signature_unknown"),
    (Proof("hmac", header="x-s"), {"x-s": "\u00e9"}, "signature_unknown"),
    (Proof("hmac", header="x-s"), {"x-s": "\ud800"}, "signature_unknown"),
    (Proof("hmac", header="x-s"), {"x-s": "00,00"}, "signature_unknown"),
    (Proof("hmac", header="x-s", prefix="v0="), {"x-s": "v1=" + "00" * 32}, "signature_malformed"),
    (Proof("hmac", header="x-s", prefix="v0="), {"x-s": "v"}, "signature_malformed"),
    (Proof("hmac", header="x-s", encoding="base64"), {"x-s": "!!!"}, "signature_unknown"),
    (TOKEN, {}, "signature_missing"),
    (TOKEN, {"authorization": KEY.decode()}, "signature_malformed"),
    (TOKEN, {"authorization": "Bearer"}, "signature_malformed"),
    (TOKEN, {"authorization": "Bearer "}, "signature_unknown"),
    (TOKEN, {"authorization": "Bearer " + KEY.decode() + " "}, "signature_unknown"),
    (TOKEN, {"authorization": "Bearer \ud800"}, "signature_unknown"),
    (BASIC, {"authorization": "Basic "}, "signature_unknown"),
    (BASIC, {"authorization": "Basic !"}, "signature_malformed"),
    (BASIC, {"authorization": "Basic \u00e9"}, "signature_malformed"),
    (BASIC, {"authorization": "Bearer " + KEY.decode()}, "signature_malformed"),
    (Proof("twilio"), {}, "signature_missing"),
    (Proof("twilio"), {"x-twilio-signature": "x"}, "body_hash_unknown"),
    (
        Proof("twilio"),
        {"x-twilio-signature": "x", "x-twilio-webhooks-signature-settings": "key=k,algorithm=HMAC_MD5"},
        "algorithm_unknown",
    ),
    (
        Proof("twilio"),
        {"x-twilio-signature": "x", "content-type": "application/x-www-form-urlencoded"},
        "body_unreadable",
    ),
    (Proof("standard"), {}, "id_missing"),
    (Proof("none"), {"authorization": "Bearer " + KEY.decode()}, "source_unknown"),
]


@pytest.mark.parametrize(("what", "headers", "expected"), MALFORMED)
def test_what_proves_nothing_is_refused(what: Proof, headers: dict[str, str], expected: str) -> None:
    """By one kind of error with one text; what is wrong is a word for the log."""
    with pytest.raises(InvalidSignature, match=r"^the request has no valid signature$") as refusal:
        check(what, (KEY,), request(headers), NOW)
    assert refusal.value.facts == {"cause": expected}


@pytest.mark.parametrize(("what", "headers", "expected"), MALFORMED)
@pytest.mark.parametrize("keys", [(KEY,), (KEY, b"f" * 32)])
def test_a_refusal_takes_the_same_work(
    what: Proof,
    headers: dict[str, str],
    expected: str,
    keys: tuple[bytes, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever was wrong, each key hashes the body: the time tells nothing of sources and keys."""
    hashed: list[bytes] = []

    def digest(key: bytes, content: bytes, algorithm: str) -> bytes:
        hashed.append(content)
        return real(key, content, algorithm)

    real = hmac.digest
    monkeypatch.setattr(proofs.hmac, "digest", digest)
    assert cause(what, request(headers, BODY * 1000), *keys) == expected
    assert sum(BODY * 1000 in content for content in hashed) >= len(keys)


def test_comparing_does_not_end_at_the_first_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell from the time which of the keys is in use."""
    compared = []
    monkeypatch.setattr(proofs.hmac, "compare_digest", lambda a, b: compared.append(a) or a == b)
    what, asked = GENUINE["hex"]
    assert cause(what, asked, KEY, b"f" * 32, b"g" * 32) == ""
    assert len(compared) == 3


@pytest.mark.parametrize(
    "what", [SIGNED, Proof("token", header="authorization"), BASIC, Proof("twilio"), Proof("standard")]
)
def test_without_keys_nothing_passes(what: Proof) -> None:
    """Not even what is signed with nothing."""
    with pytest.raises(InvalidSignature):
        check(what, (), request({"authorization": "no key"}), NOW)


@pytest.mark.parametrize("header", ["x-signature", "x-timestamp"])
def test_a_header_that_comes_twice_is_refused(header: str) -> None:
    """A REST API hands on all of them, and there is no telling which one the sender meant."""
    asked = signed(str(int(NOW)))
    asked = replace(asked, headers={**asked.headers, header: asked.header(header) * 2})
    assert cause(SIGNED, asked) == f"{header.removeprefix('x-')}_repeated"


def test_broken_base64_is_refused() -> None:
    """The gateway announced it, and it is not for a stranger to hear more about."""
    asked = request({"authorization": "Bearer " + KEY.decode()}, body="!")
    assert cause(TOKEN, asked) == "body_unreadable"


header_values = (
    st.text(max_size=40)
    | st.from_regex(r"(Basic|Bearer|sha1=|v1,) ?[A-Za-z0-9+/=]{0,44}", fullmatch=True)
    | st.integers(0, 2 * 10**9).map(str)
    | st.lists(st.text(max_size=9), max_size=3)
    | st.none()
)


@given(
    what=st.sampled_from(
        [*(what for what, _ in GENUINE.values()), *(what for what, *_ in MALFORMED), HUBSPOT, ZENDESK]
    ),
    headers=st.dictionaries(
        st.sampled_from(
            [
                *{header for _, headers, _ in MALFORMED for header in headers},
                *ZENDESK_HEADERS,
                "content-type",
                "webhook-id",
                "webhook-signature",
                "webhook-timestamp",
                "x-hubspot-request-timestamp",
                "x-hubspot-signature-v3",
            ]
        ),
        header_values | st.just("application/x-www-form-urlencoded"),
    ),
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
    ("kind", "text", "key"),
    [
        ("standard", "whsec_" + "A" * 32, bytes(24)),
        ("standard", "A" * 32, bytes(24)),
        ("hmac", "whsec_" + "A" * 32, b"whsec_" + b"A" * 32),
        ("token", "\u00e9" * 16, ("\u00e9" * 16).encode()),
        ("basic", "user:password:", b"user:password:"),
    ],
)
def test_keys_are_read_as_senders_write_them(kind: str, text: str, key: bytes) -> None:
    """Base64 for Standard Webhooks, and as they stand for all others."""
    assert parse_key(kind, text) == key


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        ("standard", "whsec_" + "A" * 28, "must be the base64 of 24 bytes or more"),
        ("standard", "!" * 40, "must be the base64 of 24 bytes or more"),
        ("standard", "\u00e9" * 40, "must be the base64 of 24 bytes or more"),
        ("basic", "username-and-password", "must be user:password"),
        ("basic", "user-without-password:", "must be user:password"),
        ("basic", "user-with-spaces:        ", "must be user:password"),
        ("hmac", "\ud800" * 16, "must be Unicode, and not blank"),
        ("hmac", " " * 16, "must be Unicode, and not blank"),
        ("token", "\t" * 16, "must be Unicode, and not blank"),
    ],
)
def test_a_key_that_cannot_be_read_is_refused(kind: str, text: str, complaint: str) -> None:
    """The complaint says what it has to be, and not what it is."""
    with pytest.raises(ValueError, match=f"^{complaint}$") as refusal:
        parse_key(kind, text)
    assert refusal.value.__context__ is None or text not in str(refusal.value.__context__)


@pytest.mark.parametrize(
    ("changes", "base_url", "url"),
    [
        ({}, None, URL),
        ({"rawQueryString": "b=%7E&a=1&a="}, None, f"{URL}?b=%7E&a=1&a="),
        ({"rawPath": "/prod/webhooks/crm"}, None, f"https://{HOST}/prod/webhooks/crm"),
        (
            {"rawPath": "/prod/webhooks/crm"},
            "https://api.example.com/eoc",
            "https://api.example.com/eoc/webhooks/crm",
        ),
        ({"rawQueryString": "a=1"}, "https://api.example.com", "https://api.example.com/webhooks/crm?a=1"),
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
