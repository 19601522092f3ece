"""Sources: what a declaration may say, and the commands that it makes of what the source sends."""

import base64
import json
import operator
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import FLOW_SID, sample
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from end_conversation.command import SCHEMA, Command
from end_conversation.errors import InvalidRequest, InvalidSignature, UnsupportedMediaType
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
NOW = 1772444469.0
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


def request(
    body: object, *, source: str = "crm", media_type: str = "application/json", token: str = KEY
) -> HttpRequest:
    text = body if isinstance(body, str) else json.dumps(body)
    return to_http_request(
        sample("webhook")
        | {
            "routeKey": "POST /webhooks/{source}",
            "pathParameters": {"source": source},
            "headers": {"content-type": media_type, "authorization": f"Bearer {token}"},
            "body": text,
        }
    )


def events(declaration: dict[str, Any], body: object, **more: Any) -> list[dict[str, Any] | None]:
    return parse_source("crm", TOKEN | declaration).events(request(body, **more))


def test_the_example_of_the_contract() -> None:
    """A token, a condition, and expressions for the fields of the command."""
    crm = {
        "verify": {"type": "token"},
        "keys": ["0123456789abcdef"],
        "when": "event == 'case.closed'",
        "command": {
            "flow_sid": f"'{FLOW_SID}'",
            "contact": "join('', ['whatsapp:', customer.phone])",
            "occurred_at": "closed_at",
            "conversation_id": "to_string(case_id)",
        },
    }
    secret = secret_of({"crm": crm}, keys=[OWN_KEY])
    assert (secret.keys, dict(secret.invalid)) == ((bytes(24),), {})
    asked = request(
        {
            "event": "case.closed",
            "customer": {"phone": "+15551234567"},
            "closed_at": "2026-03-02T09:41:07Z",
            "case_id": 48151,
        }
    )
    (payload,) = secret.authenticate(asked, NOW).events(asked)
    command = Command.parse(payload)
    assert (command.flow_sid, command.contacts, command.conversation_id) == (
        FLOW_SID,
        ("whatsapp:+15551234567",),
        "48151",
    )
    assert secret.authenticate(asked, NOW).events(request({"event": "case.opened"})) == [None]


@pytest.mark.parametrize(
    "source", ["crm", "broken", "other", "CRM", "", "../crm", "conversation-ended", None]
)
def test_who_is_not_the_source_is_refused(source: str | None) -> None:
    """In one way, whether there is such a source or not."""
    secret = secret_of({"crm": TOKEN, "broken": {}})
    asked = replace(request({}, token="x" * 16), source=source)
    with pytest.raises(InvalidSignature) as refusal:
        secret.authenticate(asked, NOW)
    assert refusal.value.cause == ("signature_unknown" if source == "crm" else "source_unknown")
    assert refusal.value.is_by_secret


@pytest.mark.parametrize(
    ("verify", "proof"),
    [
        (None, Proof("standard")),
        ({}, Proof("standard")),
        ({"type": "standard"}, Proof("standard")),
        ({"type": "basic"}, Proof("basic")),
        ({"type": "twilio"}, Proof("twilio")),
        ({"type": "token"}, Proof("token", header="authorization", prefix="Bearer ")),
        ({"type": "token", "header": "X-Api-Key"}, Proof("token", header="x-api-key", prefix="Bearer ")),
        ({"type": "token", "header": "X-Api-Key", "prefix": ""}, Proof("token", header="x-api-key")),
        (HMAC, Proof("hmac", header="x-signature")),
        (HMAC | {"algorithm": None, "prefix": None}, Proof("hmac", header="x-signature")),
        (
            HMAC
            | {
                "algorithm": "sha1",
                "encoding": "base64",
                "prefix": "sha1=",
                "signed": "v0:{timestamp}:{method}\n{url}:{body}",
                "timestamp_header": "X-Time",
                "timestamp_format": "unix-ms",
            },
            Proof(
                "hmac",
                "x-signature",
                "sha1",
                "base64",
                "sha1=",
                "v0:{timestamp}:{method}\n{url}:{body}",
                "x-time",
                "unix-ms",
            ),
        ),
    ],
)
def test_verify(verify: object, proof: Proof) -> None:
    """Each type with its defaults; headers in any case."""
    keys = ["user:" + "A" * 32] if proof.type == "basic" else ["A" * 32]
    assert parse_source("crm", TOKEN | {"verify": verify, "keys": keys}).proof == proof


INVALID: list[tuple[object, str]] = [
    (None, "must be an object"),
    ([], "must be an object"),
    ({}, "keys is required; command is required"),
    (TOKEN | {"keys": None}, "keys is required"),
    (TOKEN | {"keys": []}, "keys must contain at least 1 items"),
    (TOKEN | {"keys": KEY}, "keys must be an array"),
    (TOKEN | {"keys": [KEY, CANARY[:15]]}, "keys.1 must be longer than or equal to 16 characters"),
    (TOKEN | {"keys": [KEY, 7]}, "keys.1 must be a string"),
    (TOKEN | {"keys": ["\ud800" * 16]}, "keys is not Unicode"),
    (TOKEN | {"verify": None}, "keys.0 must be the base64 of 24 bytes or more"),
    (TOKEN | {"verify": {"type": "basic"}}, "keys.0 must be user:password"),
    (TOKEN | {"key": CANARY}, "key is unknown"),
    (TOKEN | {CANARY: 1}, "a field is unknown"),
    (TOKEN | {"respond": CANARY}, "respond must be one of ['async', 'sync', None]"),
    (TOKEN | {"preset": CANARY}, "preset must be one of zendesk, intercom, twilio-taskrouter, salesforce"),
    (
        TOKEN | {"preset": ["zendesk"]},
        "preset must be one of zendesk, intercom, twilio-taskrouter, salesforce",
    ),
    (TOKEN | {"verify": "token"}, "verify must be an object"),
    (TOKEN | {"verify": {"type": CANARY}}, "verify.type must be one of standard, hmac, token, basic, twilio"),
    (TOKEN | {"verify": {"type": "none"}}, "verify.type must be one of standard, hmac, token, basic, twilio"),
    (
        TOKEN | {"verify": {"type": ["hmac"]}},
        "verify.type must be one of standard, hmac, token, basic, twilio",
    ),
    (TOKEN | {"verify": {"header": "x"}}, "verify.header is unknown"),
    (TOKEN | {"verify": {"type": "hmac"}}, "verify.header is required"),
    (TOKEN | {"verify": HMAC | {"header": "X Y"}}, "verify.header must match pattern ^[A-Za-z0-9_-]{1,64}$"),
    (TOKEN | {"verify": HMAC | {"header": "X\n"}}, "verify.header must match pattern ^[A-Za-z0-9_-]{1,64}$"),
    (
        TOKEN | {"verify": HMAC | {"algorithm": "md5"}},
        "verify.algorithm must be one of ['sha256', 'sha1', None]",
    ),
    (
        TOKEN | {"verify": HMAC | {"encoding": "hax"}},
        "verify.encoding must be one of ['hex', 'base64', None]",
    ),
    (TOKEN | {"verify": HMAC | {"tolerance": 9}}, "verify.tolerance is unknown"),
    (
        TOKEN | {"verify": HMAC | {"signed": "{method}"}},
        "verify.signed must contain {body}",
    ),
    (
        TOKEN | {"verify": HMAC | {"signed": "{timestamp}{body}"}},
        "verify.timestamp_header and {timestamp} in verify.signed require each other",
    ),
    (
        TOKEN | {"verify": HMAC | {"timestamp_header": "x"}},
        "verify.timestamp_header and {timestamp} in verify.signed require each other",
    ),
    (TOKEN | {"command": None}, "command is required"),
    (TOKEN | {"command": []}, "command must be an object"),
    (TOKEN | {"command": {}}, "command.flow_sid is required"),
    (TOKEN | {"command": {"contact": "a"}}, "command.flow_sid is required"),
    (TOKEN | {"command": {"flow_sid": "a"}}, "command must have execution_sid or contact"),
    (TOKEN | {"command": {"flow_sid": "a", "contact": None}}, "command must have execution_sid or contact"),
    (TOKEN | {"command": {"flow_sid": "a", "contact": 7}}, "command.contact must be a string"),
    (TOKEN | {"command": {"flow_sid": "a", "contact": "b", "Phone": "c"}}, "command.Phone is unknown"),
    (
        TOKEN | {"command": {"flow_sid": "a", "contact": "b("}},
        "command.contact is not valid JMESPath (character 3)",
    ),
    (TOKEN | {"when": "b("}, "when is not valid JMESPath (character 3)"),
    (TOKEN | {"when": f"{CANARY}(@)"}, "when calls a function that does not exist"),
    (TOKEN | {"when": ""}, "when must be longer than or equal to 1 characters"),
    (TOKEN | {"each": "a" * 1025}, "each must be shorter than or equal to 1024 characters"),
    (TOKEN | {"each": "!" * 900 + "a"}, "each is nested too deeply"),
]


@pytest.mark.parametrize(("declaration", "reason"), INVALID)
def test_a_declaration_that_makes_no_sense_disables_itself_alone(declaration: object, reason: str) -> None:
    """Its reason names fields, and never what they hold; the other sources and our own key work."""
    secret = secret_of({"good": TOKEN, "bad": declaration}, keys=[OWN_KEY])
    assert dict(secret.invalid) == {"bad": reason}
    assert (set(secret.sources), secret.keys) == ({"good"}, (bytes(24),))
    assert CANARY not in repr(secret)


BEYOND_THE_SCHEMA = re.compile(
    r"keys|preset must be |verify.type|.*(JMESPath|function|deeply|too long|contain|each other)"
)


@pytest.mark.parametrize(("declaration", "reason"), INVALID)
def test_the_schema_says_the_same(declaration: object, reason: str) -> None:
    """As far as a schema can, for editors that check a declaration while it is written."""
    validator = Draft202012Validator(SOURCE_SCHEMA)
    validator.check_schema(SOURCE_SCHEMA)
    assert validator.is_valid(TOKEN)
    assert all(map(validator.is_valid, signing.SECRET["sources"].values()))
    # Python's `$` lets a line break through, unlike the one that JSON Schema means.
    assert (
        not validator.is_valid(declaration) or BEYOND_THE_SCHEMA.match(reason) or r"X\n" in str(declaration)
    )


@pytest.mark.parametrize(
    "name", ["", "Crm", "7crm", "-crm", "c.rm", "c/rm", "c rm", "crm\n", "\u00e9", "c" * 33, CANARY * 9]
)
def test_a_name_that_is_none_is_not_repeated(name: str) -> None:
    """It is told by its position: who knows what was pasted there."""
    secret = secret_of({"good": TOKEN, name: TOKEN})
    assert dict(secret.invalid) == {"#1": "its name must match [a-z][a-z0-9-]{0,31}"}


def test_the_name_of_our_own_route_is_taken() -> None:
    """`POST /webhooks/conversation-ended` is not for others."""
    secret = secret_of({"conversation-ended": TOKEN, "c": TOKEN, "c-9" + "x" * 29: TOKEN})
    assert dict(secret.invalid) == {"conversation-ended": "its name is reserved"}
    assert len(secret.sources) == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the webhook secret is not JSON"),
        ("[" * 100_000, "the webhook secret is not JSON"),
        ("[]", "the webhook secret has neither keys nor sources"),
        ("{}", "the webhook secret has neither keys nor sources"),
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
    assert secret_of({"crm": TOKEN}).keys == ()
    assert secret_of({"crm": {}}).sources == {}
    assert secret_of([TOKEN], keys=[OWN_KEY]).invalid == {"sources": "must be an object"}
    assert parse_webhook_secret(json.dumps({"keys": [7, OWN_KEY, "x"]})).unreadable_keys == (0, 2)


def test_a_secret_that_did_not_change_is_equal() -> None:
    """So it is known that reading it again brought nothing new."""
    first, second = secret_of({"crm": TOKEN | {"when": "a"}}), secret_of({"crm": TOKEN | {"when": "a"}})
    assert first == second
    assert first != secret_of({"crm": TOKEN | {"when": "b"}})
    assert first != secret_of({"crm": TOKEN | {"when": "a", "keys": ["f" * 16]}})


def test_a_secret_does_not_show_its_keys() -> None:
    """Neither by accident."""
    secret = secret_of({"crm": TOKEN}, keys=[OWN_KEY])
    assert KEY not in repr(secret)
    assert repr(bytes(24)) not in repr(secret)


@pytest.mark.parametrize("found", [None, False, "", [], {}])
def test_when_nothing_is_found_the_event_is_ignored(found: object) -> None:
    """False, null and what is empty: JMESPath's own idea of false."""
    assert events({"when": "it"}, {"it": found}) == [None]


@pytest.mark.parametrize("found", [True, 0, 1, "false", [0], {"a": None}])
def test_when_something_is_found_it_is_not(found: object) -> None:
    """The number 0 is something."""
    assert events({"when": "it"}, {"it": found, "phone": "x"}) == [{"flow_sid": FLOW_SID, "contact": "x"}]


def test_each_finds_the_events() -> None:
    """Each is looked at by itself."""
    body = {"list": [{"a": 1, "phone": "x"}, {"phone": "y"}, {"a": 1}]}
    made = events({"each": "list", "when": "a"}, body)
    assert made == [{"flow_sid": FLOW_SID, "contact": "x"}, None, {"flow_sid": FLOW_SID, "contact": None}]
    assert events({"each": "@"}, []) == []
    assert len(events({"each": "@"}, [{}] * MAX_EVENTS)) == MAX_EVENTS


@pytest.mark.parametrize("found", [None, {}, "x", 1, [{}] * (MAX_EVENTS + 1)])
def test_each_has_to_be_a_list_of_a_hundred_at_most(found: object) -> None:
    """The caller is told which part of the declaration its body does not fit."""
    with pytest.raises(InvalidRequest, match=r"^each must be a list of at most 100 events$") as refusal:
        events({"each": "it"}, {"it": found})
    assert [error.field for error in refusal.value.errors] == ["each"]


@pytest.mark.parametrize(
    ("declaration", "field"),
    [
        ({"each": "join('', [@])"}, "each"),
        ({"when": "powertools_json(text)"}, "when"),
        ({"command": {"flow_sid": "'FW'", "contact": "e164(text)"}}, "contact"),
        ({"command": {"flow_sid": "'FW'", "contact": "a", "occurred_at": "from_unix(text)"}}, "occurred_at"),
    ],
)
def test_what_cannot_be_evaluated_is_told_by_its_field(declaration: dict[str, Any], field: str) -> None:
    """And nothing of the body is told."""
    with pytest.raises(InvalidRequest) as refusal:
        events(declaration, {"text": CANARY})
    ((told, message),) = refusal.value.errors
    assert (told, message.partition(":")[0]) == (field, "cannot be evaluated")
    assert CANARY not in message
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize("value", [7, True, [], {}, CANARY * 30, "\ud800"])
def test_what_an_expression_finds_is_checked_like_any_command(value: object) -> None:
    """It makes no difference to the schema where a command comes from."""
    (payload,) = events({}, {"phone": value})
    with pytest.raises(InvalidRequest, match=r"^contact ") as refusal:
        Command.parse(payload)
    assert CANARY not in str(refusal.value)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("a=1&b=&c=%2B1+x", {"a": "1", "b": "", "c": "+1 x"}),
        ("a=1&a=2&a=2", {"a": ["1", "2", "2"]}),
        ("a=%C3%A9", {"a": "\u00e9"}),
        ("a=\u00e9", {"a": "\u00e9"}),
        ("=x", {"": "x"}),
    ],
)
def test_a_form_is_an_object_of_its_fields(body: str, found: object) -> None:
    """One that is repeated is a list, which nobody takes for a contact."""
    command = {"flow_sid": "'FW'", "contact": "@"}
    for media_type in (FORM, "Application/X-WWW-Form-URLencoded; charset=UTF-8"):
        (payload,) = events({"command": command}, body, media_type=media_type)
        assert payload is not None
        assert payload["contact"] == found


@pytest.mark.parametrize(
    ("body", "media_type", "complaint"),
    [
        ("", "application/json", "the body is empty"),
        ("{", "application/json", "the body is not JSON"),
        ('{"a": NaN}', "application/json", "the body is not JSON"),
        ("[" * 100_000, "application/json", "the body is nested too deeply"),
        (f"a={CANARY}", "application/json", "the body is not JSON"),
        (f'"{CANARY * 75_000}"', "application/json", f"the body is larger than {MAX_BODY} bytes"),
        ("", FORM, "the body is empty"),
        (f'{{"{CANARY}": 1}}', FORM, "the body is not a form"),
        ("a=%FF", FORM, "the body is not a form"),
        ("&".join(["a=1"] * 1001), FORM, "the body is not a form"),
    ],
)
def test_a_body_that_is_none_is_refused(body: str, media_type: str, complaint: str) -> None:
    """Whoever has proved itself is told what is wrong."""
    with pytest.raises(InvalidRequest, match=f"^{complaint}$") as refusal:
        events({}, body, media_type=media_type)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "multipart/form-data", "json"])
def test_another_media_type_is_unsupported(media_type: str) -> None:
    """415; a missing one is taken for JSON."""
    with pytest.raises(UnsupportedMediaType):
        events({}, {}, media_type=media_type)
    assert len(events({}, {}, media_type="")) == 1


def test_a_command_may_have_every_field() -> None:
    """Those that the schema of the command has."""
    command = dict.fromkeys(SCHEMA["properties"].keys() - {"dry_run"}, "a")
    assert parse_source("crm", TOKEN | {"command": command}).command.keys() == command.keys()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(CANARY) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "phone"]), inner),
    max_leaves=9,
)
expressions = st.sampled_from(
    [
        "a",
        "b",
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
        "command": st.fixed_dictionaries({"flow_sid": expressions, "contact": expressions}),
    },
    optional={"each": expressions, "when": expressions, "preset": st.sampled_from(["zendesk", "intercom"])},
)
invalid = st.dictionaries(
    st.sampled_from(["keys", "verify", "command", "each", "when", "preset", "respond", "x"]),
    json_values
    | st.dictionaries(st.sampled_from(["type", "header", "signed", "flow_sid", "contact"]), json_values),
    min_size=1,
    max_size=2,
)
declarations = valid | st.builds(operator.or_, valid, invalid) | json_values


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # JMESPath's, of quotes that are not JSON
@given(st.dictionaries(st.sampled_from(["crm", "b", "B."]), declarations), json_values)
def test_any_secret_is_read_and_any_body_looked_into(sources: object, body: object) -> None:
    """With no errors but the promised ones, none of which holds anything of the secret or the body."""
    text = json.dumps({"keys": [OWN_KEY], "sources": sources})
    secret = parse_webhook_secret(text)
    told = str(dict(secret.invalid))
    for source in secret.sources.values():
        try:
            for payload in source.events(request(body)):
                if payload is not None:
                    Command.parse(payload)
        except InvalidRequest as refusal:
            told += str(refusal)
    assert CANARY not in told
