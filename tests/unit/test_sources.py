"""Sources: which declarations are valid, and which commands they make from a webhook."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import FLOW_SID
from jsonschema import Draft202012Validator

from end_conversation.command import SCHEMA, Command
from end_conversation.errors import InvalidRequest, UnsupportedMediaType
from end_conversation.http_request import FORM, HttpRequest
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
    values = {name: [value] for name, value in headers.items()}
    return HttpRequest(headers={"content-type": [media_type]} | values, content=content)


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
        ({"type": "token"}, Proof("token", "authorization", prefix="Bearer ")),
        ({"type": "token", "header": "X-Api-Key", "prefix": ""}, Proof("token", "x-api-key")),
        (HMAC, Proof("hmac", "x-signature")),
        (HMAC | {"algorithm": None, "prefix": None}, Proof("hmac", "x-signature")),
        (HMAC | {"prefix": "sha1="}, Proof("hmac", "x-signature", format="sha1={signature}")),
        (
            HMAC | {"format": "t={timestamp},v1={signature}", "signed": "{timestamp}{body}"},
            Proof("hmac", "x-signature", format="t={timestamp},v1={signature}", signed="{timestamp}{body}"),
        ),
        (
            HMAC | {"timestamp_header": "X-Time", "signed": "{timestamp}{body}"},
            Proof("hmac", "x-signature", timestamp_header="x-time", signed="{timestamp}{body}"),
        ),
        *(
            (HMAC | {field: value}, Proof("hmac", "x-signature", **{field: value}))
            for field, value in (
                ("algorithm", "sha1"),
                ("encoding", "base64"),
                ("key_encoding", "hex"),
                ("signed", "v0:{method}\n{url}:{header:X-Id}{body}"),
                ("timestamp_format", "unix-ms"),
            )
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
ADDRESS = "command must have execution_sid or contact"
PRESETS = f"preset must be one of {', '.join(sources.presets())}"
SIGNED = "verify.signed must have {timestamp} if timestamp_header or format has it, else not"
FORMAT = "verify.format must contain {signature} once, and {timestamp} at most once"
INVALID: list[tuple[object, str]] = [
    ([], "must be an object"),
    ({}, "keys is required; command is required"),
    ({"preset": "zendesk"}, "keys is required"),
    ({"preset": "zendesk", "keys": [KEY]}, "command.flow_sid is required"),
    ({"preset": "zendesk", "keys": [KEY], "command": 7}, "command must be an object"),
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
    (TOKEN | {"command": {"flow_sid": "a"}}, ADDRESS),
    (TOKEN | {"command": {"flow_sid": "a", "contact": None}}, ADDRESS),
]
BEYOND_THE_SCHEMA: list[tuple[object, str]] = [
    (TOKEN | {"keys": ["\ud800" * 16]}, "keys is not Unicode"),
    (TOKEN | {"verify": None}, "keys.0 must be the base64 of 24 bytes or more"),
    (TOKEN | {"verify": {"type": "basic"}}, "keys.0 must be user:password"),
    (verifying(key_encoding="hex") | {"keys": ["x" * 16]}, "keys.0 must be hex"),
    # What Intercom does not send: an address.
    (TOKEN | {"preset": "intercom", "command": {"flow_sid": "a"}}, ADDRESS),
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
def test_an_invalid_declaration_disables_only_itself(declaration: object, reason: str) -> None:
    """The reason names fields and quotes no values; the other sources and our own key work."""
    secret = secret_of({"good": TOKEN, "bad": declaration}, keys=[OWN_KEY])
    assert dict(secret.invalid) == {"bad": reason}
    assert (set(secret.sources), secret.keys) == ({"good"}, (bytes(24),))
    assert CANARY not in repr(secret)


def test_the_published_schema_agrees() -> None:
    """As far as a schema can; editors check declarations with it."""
    validator = Draft202012Validator(SOURCE_SCHEMA)
    validator.check_schema(SOURCE_SCHEMA)
    assert all(map(validator.is_valid, [TOKEN, *signing.SECRET["sources"].values()]))
    assert not [declaration for declaration, _ in INVALID if validator.is_valid(declaration)]


@pytest.mark.parametrize(
    "name", ["", "Crm", "7crm", "-crm", "c.rm", "c/rm", "c rm", "crm\n", "\u00e9", "c" * 33, CANARY * 9]
)
def test_an_invalid_name_is_not_repeated(name: str) -> None:
    """Its position is given instead: anything may have been pasted there."""
    secret = secret_of({"good": TOKEN, name: TOKEN})
    assert dict(secret.invalid) == {"#1": "its name must match [a-z][a-z0-9-]{0,31}"}


NEITHER = "the webhook secret has neither keys nor sources"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the webhook secret is not JSON"),
        ("[" * 100_000, "the webhook secret is not JSON"),
        ("[]", NEITHER),
        ('{"keys": [], "sources": {}}', NEITHER),
        ('{"keys": ["short"], "sources": []}', NEITHER),
        ('{"keys": [null, 1, ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]]}', NEITHER),
        ('{"keys": {}}', NEITHER),
        ('{"keys": "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}', NEITHER),
        ('{"sources": null}', NEITHER),
    ],
)
def test_a_secret_without_anything_usable_is_refused(text: str, complaint: str) -> None:
    """The message, which is for the log, quotes nothing."""
    with pytest.raises(ValueError, match=f"^{complaint}$") as refusal:
        parse_webhook_secret(text)
    assert refusal.value.__cause__ is None


def test_a_secret_may_have_no_keys_of_our_own() -> None:
    """Sources do not need them."""
    secret = secret_of({"crm": TOKEN, "c-9" + "x" * 29: TOKEN})
    assert (secret.keys, dict(secret.invalid)) == ((), {})


def test_what_is_invalid_is_reported() -> None:
    """Keys by their positions, sources by their names, with the reason."""
    assert secret_of({"crm": TOKEN}, keys=[7, OWN_KEY, "x"]).unreadable_keys == (0, 2)
    assert secret_of({"conversation-ended": TOKEN}).invalid == {"conversation-ended": "its name is reserved"}
    assert secret_of([TOKEN], keys=[OWN_KEY]).invalid == {"sources": "must be an object"}


def test_secrets_are_equal_if_they_say_the_same() -> None:
    """So it is known whether another read brought anything new. `repr` has no keys."""
    first, second = secret_of({"crm": TOKEN | {"when": "a"}}), secret_of({"crm": TOKEN | {"when": "a"}})
    assert first == second
    assert first != secret_of({"crm": TOKEN | {"when": "b"}})
    assert first != secret_of({"crm": TOKEN | {"when": "a", "keys": ["f" * 16]}})
    assert first != secret_of({"crm": TOKEN | {"when": "a", "dry_run": True}})
    shown = repr(secret_of({"crm": TOKEN}, keys=[OWN_KEY]))
    assert (KEY in shown, repr(bytes(24)) in shown) == (False, False)


@pytest.mark.parametrize("found", [None, False, "", [], {}, True, 0, 1, "false", [0], {"a": None}])
def test_when_ignores_what_jmespath_counts_as_false(found: object) -> None:
    """False, null and what is empty; the number 0 is not."""
    ignored = found is None or found is False or found in ("", [], {})
    assert payloads({"when": "it"}, {"it": found}) == [None if ignored else payload()]


def test_each_finds_the_events() -> None:
    """Each is judged by itself: an invalid one does not affect the others."""
    body = {"list": [{"a": 1, "phone": "x"}, {"phone": "y"}, {"a": [], "phone": "z"}, {"a": 1}]}
    declaration = {"each": "list", "when": "a == `[]` && abs(a) || a"}
    error = "when cannot be evaluated: abs does not accept array"
    assert payloads(declaration, body) == [payload(contact="x"), None, error, payload()]
    assert payloads({"each": "@"}, []) == []
    assert len(payloads({"each": "@"}, [{}] * MAX_EVENTS)) == MAX_EVENTS


@pytest.mark.parametrize(
    ("each", "complaint"),
    [
        *((f"it[{index}]", "must be a list of at most 100 events") for index in range(5)),
        ("abs(it)", "cannot be evaluated: abs does not accept array"),
    ],
)
def test_each_must_find_at_most_a_hundred_events(each: str, complaint: str) -> None:
    """The message names the part of the declaration that the body does not fit."""
    with pytest.raises(InvalidRequest, match=f"^each {complaint}$"):
        payloads({"each": each}, {"it": [None, {}, "x", 1, [{}] * (MAX_EVENTS + 1)]})


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (
            {"contact": "e164(text)"},
            "contact cannot be evaluated: the phone number has letters or an extension",
        ),
        ({"contact": "join('', ['a', none])"}, "contact cannot be evaluated: join does not accept null"),
        (
            {"contact": "a", "occurred_at": "from_unix(text)", "account_sid": "abs(text)"},
            "occurred_at cannot be evaluated; account_sid cannot be evaluated: abs does not accept string",
        ),
    ],
)
def test_fields_that_cannot_be_evaluated_are_named(command: dict[str, str], error: str) -> None:
    """All of them, with the reason if there is one, and nothing of the body."""
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
def test_a_field_for_logs_never_costs_an_event(found: object, kept: str | None) -> None:
    """A number becomes its text; what is still invalid is left out."""
    command = TOKEN["command"] | {"conversation_id": "id", "reason": "abs(id)"}
    body = json.dumps({"id": found, "phone": "+15551234567"}).replace("Infinity", "1e999").encode()
    (made,) = payloads({"command": command}, body)
    assert made["conversation_id"] == kept
    assert made["reason"] == (kept if type(found) in (int, float) else None)
    Command.parse(made)


@pytest.mark.parametrize("dry_run", [True, False, None])
def test_shadow_mode_is_not_for_the_mapping_to_change(dry_run: bool | None) -> None:  # noqa: FBT001 - a case
    """Every command gets `dry_run`, whatever the event says."""
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
    """In a header or in the body; any other request is an event."""
    source = parse_source("crm", TOKEN | {"challenge": challenge})
    assert source.challenge_in(request(body, **headers)) == found


def test_a_repeated_field_of_a_form_is_a_list() -> None:
    """So it is never taken for one contact; and `+` is a space."""
    (made,) = payloads({"command": {"flow_sid": "a", "contact": "b"}}, b"a=1+x&b=%2B1&b=%2B2&", FORM)
    assert made == {"flow_sid": "1 x", "contact": ["+1", "+2"]}


@pytest.mark.parametrize(
    ("body", "media_type", "complaint"),
    [
        (b"", "application/json", "the body is empty"),
        (b"\xef\xbb\xbf", "application/json", "the body is empty"),
        (CANARY.encode(), "application/json", "the body is not JSON"),
        (b'"' + bytes(MAX_BODY), "application/json", f"the body is larger than {MAX_BODY} bytes"),
        (b"", FORM, "the body is empty"),
        (b"&".join([b"a=1"] * 1001), FORM, "the body is not a form"),
    ],
)
def test_an_invalid_body_is_rejected(body: bytes, media_type: str, complaint: str) -> None:
    """The message quotes nothing of it."""
    with pytest.raises(InvalidRequest, match=f"^{complaint}$") as refusal:
        payloads({}, body, media_type)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/xml", "multipart/form-data", "json", "+jsonx"]
)
def test_another_media_type_is_unsupported(media_type: str) -> None:
    """415, whatever the body is."""
    with pytest.raises(UnsupportedMediaType):
        payloads({}, {}, media_type)


def test_every_field_of_a_command_can_be_mapped() -> None:
    """The schema of sources has all that the command's schema has."""
    assert set(SCHEMA["properties"]) <= set(SOURCE_SCHEMA["properties"]["command"]["properties"])
