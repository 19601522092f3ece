"""Sources: what a declaration may say, and the commands that it makes of what the source sends."""

import base64
import json
import operator
from pathlib import Path
from typing import Any

import pytest
from conftest import FLOW_SID, sample
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from end_conversation.command import SCHEMA, Command
from end_conversation.errors import InvalidRequest, UnsupportedMediaType
from end_conversation.http_request import FORM, HttpRequest
from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks import sources
from end_conversation.webhooks.proofs import Proof
from end_conversation.webhooks.sources import (
    MAX_BODY,
    MAX_EVENTS,
    WebhookSecret,
    parse_source,
    parse_webhook_secret,
)
from local import signing

SOURCE_SCHEMA: dict[str, Any] = json.loads(
    Path(sources.__file__).with_name("source.schema.json").read_bytes()
)
KEY = "0123456789abcdef"
OWN_KEY = "whsec_" + base64.b64encode(bytes(24)).decode()
CANARY = "canary7e57c0de"
TOKEN: dict[str, Any] = {
    "verify": {"type": "token"},
    "keys": [KEY],
    "command": {"flow_sid": f"'{FLOW_SID}'", "contact": "phone"},
}
HMAC = {"type": "hmac", "header": "X-Signature"}


def secret_of(sources: object, **more: object) -> WebhookSecret:
    return parse_webhook_secret(json.dumps({"sources": sources} | more))


def request(body: object, media_type: str = "application/json", **headers: str) -> HttpRequest:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return to_http_request(
        sample("webhook")
        | {
            "routeKey": "POST /webhooks/{source}",
            "headers": {"content-type": media_type} | headers,
            "body": base64.b64encode(content).decode(),
            "isBase64Encoded": True,
        }
    )


def payloads(declaration: dict[str, Any], body: object, media_type: str = "application/json") -> list[Any]:
    """The command fields of each event, with errors as `field message; …`."""
    source = parse_source("crm", TOKEN | declaration)
    made: list[Any] = []
    for event in source.events(request(body, media_type)):
        try:
            made.append(source.payload(event))
        except InvalidRequest as refusal:
            made.append(str(refusal))
    return made


def payload(**fields: Any) -> dict[str, Any]:
    return {"flow_sid": FLOW_SID, "contact": None} | fields


@pytest.mark.parametrize(
    ("verify", "proof"),
    [
        (None, Proof("standard")),
        ({}, Proof("standard")),
        ({"type": "basic"}, Proof("basic")),
        ({"type": "twilio"}, Proof("twilio")),
        ({"type": "token"}, Proof("token", header="authorization", prefix="Bearer ")),
        ({"type": "token", "header": "X-Api-Key", "prefix": ""}, Proof("token", header="x-api-key")),
        (HMAC, Proof("hmac", header="x-signature")),
        (HMAC | {"algorithm": None, "prefix": None}, Proof("hmac", header="x-signature")),
        (HMAC | {"prefix": "sha1="}, Proof("hmac", header="x-signature", format="sha1={signature}")),
        (
            HMAC
            | {
                "algorithm": "sha1",
                "encoding": "base64",
                "format": "t={timestamp},v1={signature}",
                "key_encoding": "hex",
                "signed": "v0:{timestamp}:{method}\n{url}:{header:X-Id}{body}",
                "timestamp_format": "unix-ms",
            },
            Proof(
                "hmac",
                header="x-signature",
                algorithm="sha1",
                encoding="base64",
                format="t={timestamp},v1={signature}",
                key_encoding="hex",
                signed="v0:{timestamp}:{method}\n{url}:{header:X-Id}{body}",
                timestamp_format="unix-ms",
            ),
        ),
    ],
)
def test_verify(verify: object, proof: Proof) -> None:
    """Each type with its defaults; headers in any case."""
    keys = ["user:" + "A" * 32] if proof.type == "basic" else ["A" * 32]
    assert parse_source("crm", TOKEN | {"verify": verify, "keys": keys}).proof == proof


def verifying(**fields: object) -> dict[str, Any]:
    return TOKEN | {"verify": HMAC | fields}


TYPES = "verify.type must be one of standard, hmac, token, basic, twilio"
PRESETS = f"preset must be one of {', '.join(sources.presets())}"
SIGNED = "verify.signed must have {timestamp} if timestamp_header or format has it, else not"
FORMAT = "verify.format must contain {signature} once, and {timestamp} at most once"
INVALID: list[tuple[object, str]] = [
    ([], "must be an object"),
    ({}, "keys is required; command is required"),
    (TOKEN | {"keys": []}, "keys must contain at least 1 items"),
    (TOKEN | {"keys": KEY}, "keys must be an array"),
    (TOKEN | {"keys": [KEY, CANARY[:15]]}, "keys.1 must be longer than or equal to 16 characters"),
    (TOKEN | {"keys": [KEY, 7]}, "keys.1 must be a string"),
    (TOKEN | {"key": CANARY}, "key is unknown"),
    (TOKEN | {CANARY: 1}, "a field is unknown"),
    (TOKEN | {"respond": CANARY}, "respond must be one of ['async', 'sync', None]"),
    (TOKEN | {"dry_run": "yes"}, "dry_run must be a boolean"),
    (TOKEN | {"verify": "token"}, "verify must be an object"),
    (TOKEN | {"verify": {"header": "x"}}, "verify.header is unknown"),
    (TOKEN | {"verify": {"type": "hmac"}}, "verify.header is required"),
    (verifying(header="X Y"), "verify.header must match pattern ^[A-Za-z0-9_-]{1,64}$"),
    (verifying(algorithm="md5"), "verify.algorithm must be one of ['sha256', 'sha1', None]"),
    (verifying(encoding="hax"), "verify.encoding must be one of ['hex', 'base64', None]"),
    (verifying(key_encoding="hax"), "verify.key_encoding must be one of ['text', 'hex', 'base64', None]"),
    (verifying(tolerance=9), "verify.tolerance is unknown"),
    (TOKEN | {"command": []}, "command must be an object"),
    (TOKEN | {"command": {"contact": "a"}}, "command.flow_sid is required"),
    (TOKEN | {"command": {"flow_sid": "a", "contact": 7}}, "command.contact must be a string"),
    (TOKEN | {"command": {"flow_sid": "a", "contact": "b", "Phone": "c"}}, "command.Phone is unknown"),
    (TOKEN | {"when": ""}, "when must be longer than or equal to 1 characters"),
    (TOKEN | {"each": "a" * 1025}, "each must be shorter than or equal to 1024 characters"),
    (TOKEN | {"challenge": "x"}, "challenge must be an object"),
    (TOKEN | {"challenge": {"header": "x y"}}, "challenge.header must match pattern ^[A-Za-z0-9_-]{1,64}$"),
    (TOKEN | {"command": {"flow_sid": "a"}}, "command must have execution_sid or contact"),
    (TOKEN | {"command": {"flow_sid": "a", "contact": None}}, "command must have execution_sid or contact"),
]
BEYOND_THE_SCHEMA: list[tuple[object, str]] = [
    (TOKEN | {"keys": ["\ud800" * 16]}, "keys is not Unicode"),
    (TOKEN | {"verify": None}, "keys.0 must be the base64 of 24 bytes or more"),
    (TOKEN | {"verify": {"type": "basic"}}, "keys.0 must be user:password"),
    (verifying(key_encoding="hex") | {"keys": ["x" * 16]}, "keys.0 must be hex"),
    (TOKEN | {"preset": CANARY}, PRESETS),
    (TOKEN | {"preset": ["zendesk"]}, PRESETS),
    (TOKEN | {"verify": {"type": CANARY}}, TYPES),
    (TOKEN | {"verify": {"type": ["hmac"]}}, TYPES),
    (TOKEN | {"verify": {"type": "none"}}, TYPES),
    (verifying(signed="{method}"), "verify.signed must contain {body}"),
    (verifying(signed="{timestamp}{body}"), SIGNED),
    (verifying(timestamp_header="x"), SIGNED),
    (verifying(format="{timestamp}{signature}"), SIGNED),
    (verifying(format="{timestamp}{signature}", signed="{timestamp}{body}", timestamp_header="x"), SIGNED),
    (verifying(format="sha1="), FORMAT),
    (verifying(format="{signature}{signature}"), FORMAT),
    (verifying(format="a={signature}", prefix="a="), "verify.format and verify.prefix exclude each other"),
    (TOKEN | {"challenge": {"header": "x", "body": "y"}}, "challenge must have either header or body"),
    (TOKEN | {"challenge": {"body": "b("}}, "challenge.body is not valid JMESPath (character 3)"),
    (TOKEN | {"when": "b("}, "when is not valid JMESPath (character 3)"),
    (TOKEN | {"when": f"{CANARY}(@)"}, "when calls a function that does not exist"),
    (TOKEN | {"each": "!" * 900 + "a"}, "each is nested too deeply"),
    # Python's `$` lets a line break through, unlike the one that JSON Schema means.
    (verifying(header="X\n"), "verify.header must match pattern ^[A-Za-z0-9_-]{1,64}$"),
]


@pytest.mark.parametrize(("declaration", "reason"), [*INVALID, *BEYOND_THE_SCHEMA])
def test_a_declaration_that_makes_no_sense_disables_itself_alone(declaration: object, reason: str) -> None:
    """Its reason names fields, and never what they hold; the other sources and our own key work."""
    secret = secret_of({"good": TOKEN, "bad": declaration}, keys=[OWN_KEY])
    assert dict(secret.invalid) == {"bad": reason}
    assert (set(secret.sources), secret.keys) == ({"good"}, (bytes(24),))
    assert CANARY not in repr(secret)


def test_the_schema_says_the_same() -> None:
    """As far as a schema can, for editors that check a declaration while it is written."""
    validator = Draft202012Validator(SOURCE_SCHEMA)
    validator.check_schema(SOURCE_SCHEMA)
    assert all(map(validator.is_valid, [TOKEN, *signing.SECRET["sources"].values()]))
    assert not [declaration for declaration, _ in INVALID if validator.is_valid(declaration)]


@pytest.mark.parametrize(
    "name", ["", "Crm", "7crm", "-crm", "c.rm", "c/rm", "c rm", "crm\n", "\u00e9", "c" * 33, CANARY * 9]
)
def test_a_name_that_is_none_is_not_repeated(name: str) -> None:
    """It is told by its position: who knows what was pasted there."""
    secret = secret_of({"good": TOKEN, name: TOKEN})
    assert dict(secret.invalid) == {"#1": "its name must match [a-z][a-z0-9-]{0,31}"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the webhook secret is not JSON"),
        ("[" * 100_000, "the webhook secret is not JSON"),
        ("[]", "the webhook secret has neither keys nor sources"),
        ('{"keys": [], "sources": {}}', "the webhook secret has neither keys nor sources"),
        ('{"keys": ["short"], "sources": []}', "the webhook secret has neither keys nor sources"),
        ('{"sources": null}', "the webhook secret has neither keys nor sources"),
    ],
)
def test_a_secret_without_anything_usable_is_refused(text: str, complaint: str) -> None:
    """Whoever keeps the secret finds what to mend in the log."""
    with pytest.raises(ValueError, match=f"^{complaint}$") as refusal:
        parse_webhook_secret(text)
    assert refusal.value.__cause__ is None


def test_a_secret_may_hold_sources_alone() -> None:
    """Who has no use for our own route needs no key for it, and none of them need be valid."""
    assert secret_of({"crm": TOKEN, "c-9" + "x" * 29: TOKEN}).keys == ()
    assert secret_of({"crm": {}}).sources == {}
    assert secret_of({"conversation-ended": TOKEN}).invalid == {"conversation-ended": "its name is reserved"}
    assert secret_of([TOKEN], keys=[OWN_KEY]).invalid == {"sources": "must be an object"}
    assert parse_webhook_secret(json.dumps({"keys": [7, OWN_KEY, "x"]})).unreadable_keys == (0, 2)


def test_a_secret_is_compared_by_what_it_says_and_shows_no_keys() -> None:
    """So it is known that reading it again brought nothing new."""
    first, second = secret_of({"crm": TOKEN | {"when": "a"}}), secret_of({"crm": TOKEN | {"when": "a"}})
    assert first == second
    assert first != secret_of({"crm": TOKEN | {"when": "b"}})
    assert first != secret_of({"crm": TOKEN | {"when": "a", "keys": ["f" * 16]}})
    assert first != secret_of({"crm": TOKEN | {"when": "a", "dry_run": True}})
    shown = repr(secret_of({"crm": TOKEN}, keys=[OWN_KEY]))
    assert (KEY in shown, repr(bytes(24)) in shown) == (False, False)


@pytest.mark.parametrize("found", [None, False, "", [], {}, True, 0, 1, "false", [0], {"a": None}])
def test_when_is_jmespaths_idea_of_true(found: object) -> None:
    """False, null and what is empty are not; the number 0 is something."""
    ignored = found is None or found is False or found in ("", [], {})
    assert payloads({"when": "it"}, {"it": found}) == [None if ignored else payload()]


def test_each_finds_the_events() -> None:
    """Each is judged by itself: one that does not fit costs no other."""
    body = {"list": [{"a": 1, "phone": "x"}, {"phone": "y"}, {"a": [], "phone": "z"}, {"a": 1}]}
    declaration = {"each": "list", "when": "a == `[]` && abs(a) || a"}
    error = "when cannot be evaluated: abs takes no array"
    assert payloads(declaration, body) == [payload(contact="x"), None, error, payload()]
    assert payloads({"each": "@"}, []) == []
    assert len(payloads({"each": "@"}, [{}] * MAX_EVENTS)) == MAX_EVENTS


@pytest.mark.parametrize("found", [None, {}, "x", 1, [{}] * (MAX_EVENTS + 1)])
def test_each_has_to_be_a_list_of_a_hundred_at_most(found: object) -> None:
    """The caller is told which part of the declaration its body does not fit."""
    with pytest.raises(InvalidRequest, match=r"^each must be a list of at most 100 events$"):
        payloads({"each": "it"}, {"it": found})


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (
            {"contact": "e164(text)"},
            "contact cannot be evaluated: the phone number has letters or an extension",
        ),
        ({"contact": "join('', ['a', none])"}, "contact cannot be evaluated: join takes no null"),
        (
            {"contact": "a", "occurred_at": "from_unix(text)", "account_sid": "abs(text)"},
            "occurred_at cannot be evaluated; account_sid cannot be evaluated: abs takes no string",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_told_by_its_field(command: dict[str, str], error: str) -> None:
    """All of them, with the reason where there is one, and nothing of the body."""
    assert payloads({"command": {"flow_sid": "'FW'"} | command}, {"text": CANARY}) == [error]


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ("48151", "48151"),
        (48151, "48151"),
        (1.5, "1.5"),
        ("x" * 128, "x" * 128),
        *(
            (found, None)
            for found in (None, "", "x" * 300, "\ud800", True, [], {"a": 1}, ["48151"], 10**300, float("inf"))
        ),
    ],
)
def test_what_is_for_logs_only_costs_no_event(found: object, kept: str | None) -> None:
    """A number becomes its text; what is still invalid is left out."""
    command = TOKEN["command"] | {"conversation_id": "id", "reason": "abs(id)"}
    body = json.dumps({"id": found, "phone": "+15551234567"}).replace("Infinity", "1e999").encode()
    (made,) = payloads({"command": command}, body)
    assert made["conversation_id"] == kept
    assert made["reason"] == (kept if type(found) in (int, float) else None)
    Command.parse(made)


@pytest.mark.parametrize("dry_run", [True, False, None])
def test_a_declaration_may_be_for_trial_only(dry_run: bool | None) -> None:  # noqa: FBT001 - a case
    """Its commands end nothing, whatever its mapping says."""
    command = TOKEN["command"] | {"dry_run": "live"}
    (made,) = payloads({"dry_run": dry_run, "command": command}, {"live": False})
    assert made["dry_run"] is bool(dry_run)


@pytest.mark.parametrize(
    ("challenge", "body", "headers", "found"),
    [
        ({"header": "X-Front-Challenge"}, {}, {"x-front-challenge": "abc"}, "abc"),
        ({"header": "X-Front-Challenge"}, {"challenge": "abc"}, {}, None),
        ({"body": "challenge"}, {"challenge": "abc"}, {}, "abc"),
        (
            {"body": "type == 'url_verification' && challenge"},
            {"challenge": "abc", "type": "event"},
            {},
            None,
        ),
        *(({"body": "challenge"}, {"challenge": found}, {}, None) for found in ("", None, 7, ["abc"])),
        ({"body": "abs(challenge)"}, {"challenge": "abc"}, {}, None),
        ({"body": "challenge"}, b"{", {}, None),
        (None, {"challenge": "abc"}, {"x-front-challenge": "abc"}, None),
    ],
)
def test_a_challenge_is_found_where_it_is_declared(
    challenge: Any, body: Any, headers: dict[str, str], found: str | None
) -> None:
    """In a header or in the body; anything else is an event."""
    source = parse_source("crm", TOKEN | {"challenge": challenge})
    assert source.challenge_in(request(body, **headers)) == found


@pytest.mark.parametrize(
    ("body", "media_type", "found"),
    [
        (b'{"a": 1}', "", {"a": 1}),
        (b'{"a": 1}', "Application/JSON; charset=utf-8", {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', "application/cloudevents+json; charset=UTF-8", {"a": 1}),
        (b"[]", "application/vnd.api+json", []),
        (b"a=1&b=&c=%2B1+x&", FORM, {"a": "1", "b": "", "c": "+1 x"}),
        (b"\xef\xbb\xbfa=1", "Application/X-WWW-Form-URLencoded; charset=UTF-8", {"a": "1"}),
        (b"a=1&a=2&a=2", FORM, {"a": ["1", "2", "2"]}),
    ],
)
def test_bodies_are_json_or_forms(body: bytes, media_type: str, found: object) -> None:
    """As senders write them; a repeated field of a form is a list, which nobody takes for a contact."""
    (made,) = payloads({"command": {"flow_sid": "'FW'", "contact": "@"}}, body, media_type)
    assert made["contact"] == found


@pytest.mark.parametrize(
    ("body", "media_type", "complaint"),
    [
        (b"", "application/json", "the body is empty"),
        (b"\xef\xbb\xbf", "application/json", "the body is empty"),
        (b"{", "application/json", "the body is not JSON"),
        (b'{"a": NaN}', "application/json", "the body is not JSON"),
        ('{"a": 1}'.encode("utf-16"), "application/json", "the body is not UTF-8"),
        (b"[" * 100_000, "application/json", "the body is nested too deeply"),
        (CANARY.encode(), "application/json", "the body is not JSON"),
        (b'"' + bytes(MAX_BODY), "application/json", f"the body is larger than {MAX_BODY} bytes"),
        (b"", FORM, "the body is empty"),
        (b"&".join([b"a=1"] * 1001), FORM, "the body is not a form"),
    ],
)
def test_a_body_that_is_none_is_refused(body: bytes, media_type: str, complaint: str) -> None:
    """Whoever has proved itself is told what is wrong."""
    with pytest.raises(InvalidRequest, match=f"^{complaint}$") as refusal:
        payloads({}, body, media_type)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/xml", "multipart/form-data", "json", "+jsonx"]
)
def test_another_media_type_is_unsupported(media_type: str) -> None:
    """415, before anything of the body is looked at."""
    with pytest.raises(UnsupportedMediaType):
        payloads({}, {}, media_type)


def test_a_command_may_have_every_field() -> None:
    """Those that the schema of the command has."""
    assert set(SCHEMA["properties"]) <= set(SOURCE_SCHEMA["properties"]["command"]["properties"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(CANARY) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "phone"]), inner),
    max_leaves=9,
)
expressions = st.sampled_from(
    [
        "a",
        "phone",
        "@",
        "'x'",
        "[*].a",
        "to_string(a)",
        "e164(phone)",
        "powertools_json(a)",
        "a < b",
        "[a, b]",
    ]
)
valid = st.fixed_dictionaries(
    {
        "keys": st.just([KEY]),
        "verify": st.sampled_from([HMAC, TOKEN["verify"], {"type": "twilio"}]),
        "command": st.fixed_dictionaries(
            {"flow_sid": expressions, "contact": expressions}, optional={"conversation_id": expressions}
        ),
    },
    optional={
        "each": expressions,
        "when": expressions,
        "preset": st.sampled_from(["zendesk", "intercom"]),
        "challenge": st.fixed_dictionaries({"body": expressions}),
        "dry_run": st.booleans(),
    },
)
invalid = st.dictionaries(
    st.sampled_from(["keys", "verify", "command", "each", "when", "preset", "respond", "challenge", "x"]),
    json_values
    | st.dictionaries(st.sampled_from(["type", "header", "signed", "format", "flow_sid"]), json_values),
    min_size=1,
    max_size=2,
)
declarations = valid | st.builds(operator.or_, valid, invalid) | json_values


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # JMESPath's, of quotes that are not JSON
@given(st.dictionaries(st.sampled_from(["crm", "b", "B."]), declarations), json_values)
def test_any_secret_is_read_and_any_body_looked_into(sources: object, body: object) -> None:
    """With no errors but the promised ones, none of which holds anything of the secret or the body."""
    secret = parse_webhook_secret(json.dumps({"keys": [OWN_KEY], "sources": sources}))
    told = str(dict(secret.invalid))
    for source in secret.sources.values():
        source.challenge_in(request(body))
        try:
            for event in source.events(request(body)):
                if (made := source.payload(event)) is not None:
                    Command.parse(made)
        except InvalidRequest as refusal:
            told += str(refusal)
    assert CANARY not in told
