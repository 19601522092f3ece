"""Presets: the declarations that ship, each shown by a payload as its vendor documents it."""

import base64
import hashlib
import hmac
import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import sample
from twilio.request_validator import RequestValidator

from end_conversation.command import Command
from end_conversation.errors import InvalidSignature
from end_conversation.http_request import FORM
from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks.proofs import Proof, form_fields
from end_conversation.webhooks.sources import Source, parse_source, parse_webhook_secret, presets
from local import signing
from local.samples import EVENTS
from local.signing import renewed

DOCS = EVENTS.parent / "docs"
NOW = 1772444469.0
"""When the samples were received."""
FLOW_SID = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
SECRET = parse_webhook_secret(json.dumps(signing.SECRET))
KEYS = {name: source["keys"][0].encode() for name, source in signing.SECRET["sources"].items()}


def body(event: dict[str, Any]) -> bytes:
    return to_http_request(event).body()


def source(preset: str, **command: str | None) -> Source:
    """A source that adds nothing to a preset but the Flow, what Intercom lacks, and what is given."""
    contact = {"contact": "e164(data.item.custom_attributes.phone)"} if preset == "intercom" else {}
    command = {"flow_sid": f"'{FLOW_SID}'"} | contact | command
    return parse_source("x", {"preset": preset, "keys": ["user:" + "k" * 32], "command": command})


def commands(made: Source, event: dict[str, Any]) -> list[dict[str, Any]]:
    """What commands have of it, without what they lack."""
    asked = to_http_request(event)
    payloads = filter(None, map(made.payload, made.events(asked)))
    found = (Command.parse(payload, asked.sent_at).to_json() for payload in payloads)
    return [{field: value for field, value in each.items() if field != "flow_sid"} for each in found]


def test_every_preset_has_a_sample_and_a_page() -> None:
    """And every sample declaration is valid; together they prove themselves in every way there is."""
    assert set(presets()) <= set(SECRET.sources)
    assert set(presets()) == {page.stem for page in (DOCS / "sources").glob("*.md")} - {"fit"}
    assert not SECRET.invalid
    types = {each.proof.type for each in SECRET.sources.values()}
    assert types == {"standard", "hmac", "token", "basic", "twilio"}


ENDED = "2026-03-02T09:41:07.934Z"
EXPECTED: dict[str, list[dict[str, str]]] = {
    "zendesk": [
        {"contact": "+15005550101", "conversation_id": "48151", "occurred_at": "2026-03-02T09:41:09.512000Z"}
    ],
    "intercom": [
        {
            "contact": "whatsapp:+15005550103",
            "conversation_id": "1911149811",
            "occurred_at": "2026-03-02T09:41:07Z",
        }
    ],
    "twilio-taskrouter": [
        {
            "execution_sid": "FN3c6e8f0a1b2d4c5e7f9a0b1c2d3e4f5a",
            "conversation_id": "WT2e3f4a5b5e1f0c9a7b3d4e2f8a6c0b1d",
            "reason": "task.completed",
            "occurred_at": "2026-03-02T09:41:07.934000Z",
        }
    ],
    "twilio-event-streams": [
        {
            "execution_sid": sid,
            "conversation_id": "WT" + number * 32,
            "reason": reason,
            "occurred_at": "2026-03-02T09:41:07.934000Z",
        }
        for sid, number, reason in (
            ("FN5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d", "1", "task.completed"),
            ("FN7c8d9e0f1a2b3c4d5e6f7a8b9c0d1e2f", "4", "task.canceled"),
        )
    ],
    "twilio-conversations": [
        {
            "execution_sid": "FN8d9e0f1a2b3c4d5e6f7a8b9c0d1e2f3a",
            "conversation_id": "CH3f4a5b5e1f0c9a7b3d4e2f8a6c0b1d2e",
            "reason": "API",
            "occurred_at": "2026-03-02T09:41:07.934000Z",
        }
    ],
    "front": [
        {
            "contact": "+15005550112",
            "conversation_id": "cnv_55c8c149",
            "occurred_at": "2026-03-02T09:41:07.934000Z",
        }
    ],
    "freshdesk": [
        {"contact": "+15005550113", "conversation_id": "7301", "occurred_at": "2026-03-02T09:41:09.512000Z"}
    ],
    "salesforce": [
        {
            "contact": "+15005550105",
            "conversation_id": "5008d00000AbCdEAAV",
            "occurred_at": "2026-03-02T09:41:07Z",
        }
    ],
}


@pytest.mark.parametrize("name", presets())
def test_a_sample_makes_its_commands(name: str) -> None:
    """Proved by its header, and mapped; with a time of this minute too, where it is signed."""
    event = sample(f"source-{name}")
    assert commands(SECRET.authenticate(to_http_request(event), NOW), event) == EXPECTED[name]
    if name != "twilio-taskrouter":
        SECRET.authenticate(to_http_request(renewed(event)), time.time())


@pytest.mark.parametrize("name", presets())
def test_a_sample_that_was_altered_is_refused(name: str) -> None:
    """In its body, or in its key where that is all there is."""
    event = sample(f"source-{name}")
    if (header := event["headers"].get("authorization")) is not None:
        kind, _, key = header.partition(" ")
        event["headers"]["authorization"] = f"{kind} {key[:-4]}xxxx"
    changed = body(event).replace(b"a", b"b", 1)
    event |= {"body": base64.b64encode(changed).decode(), "isBase64Encoded": True}
    with pytest.raises(InvalidSignature) as refusal:
        SECRET.authenticate(to_http_request(event), NOW)
    assert refusal.value.cause in ("signature_unknown", "body_hash_unknown")


def test_the_forged_sample_is_refused() -> None:
    """Somebody else's key made its signature."""
    with pytest.raises(InvalidSignature) as refusal:
        SECRET.authenticate(to_http_request(sample("source-zendesk-forged")), NOW)
    assert refusal.value.cause == "signature_unknown"


def base64_hmac(key: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def test_zendesk_and_front_sign_timestamp_and_body() -> None:
    """https://developer.zendesk.com/documentation/webhooks/verifying/, https://dev.frontapp.com/docs/application-webhooks."""
    for name, headers, separator in (
        ("zendesk", ("x-zendesk-webhook-signature", "x-zendesk-webhook-signature-timestamp"), b""),
        ("front", ("x-front-signature", "x-front-request-timestamp"), b":"),
    ):
        event = sample(f"source-{name}")
        signature, timestamp = (event["headers"][header] for header in headers)
        assert signature == base64_hmac(KEYS[name], timestamp.encode() + separator + body(event))
        with pytest.raises(InvalidSignature) as refusal:
            SECRET.authenticate(to_http_request(event), NOW + 301)
        assert refusal.value.cause == "timestamp_too_old"


def test_front_tries_the_url_before_it_is_saved() -> None:
    """With a challenge, which is answered once its signature is verified."""
    asked = to_http_request(sample("source-front-challenge"))
    challenge = asked.header("x-front-challenge")[0]
    assert SECRET.authenticate(asked, NOW).challenge_in(asked) == challenge


def test_intercom_signs_the_body() -> None:
    """`sha1=` and the hexadecimal HMAC-SHA1: https://intercom-developer-hub.readme.io/reference/signed-notifications."""
    event = sample("source-intercom")
    digest = hmac.new(KEYS["intercom"], body(event), hashlib.sha1).hexdigest()
    assert event["headers"]["x-hub-signature"] == f"sha1={digest}"


@pytest.mark.parametrize("name", ["twilio-taskrouter", "twilio-event-streams", "twilio-conversations"])
def test_twilio_signs_url_and_body(name: str) -> None:
    """As its own SDK checks it."""
    event = sample(f"source-{name}")
    url = f"https://{event['requestContext']['domainName']}{event['rawPath']}"
    is_form = to_http_request(event).is_form
    signed = dict(form_fields(body(event))) if is_form else body(event).decode()
    url += "" if is_form else f"?{event['rawQueryString']}"
    signature = event["headers"]["x-twilio-signature"]
    assert RequestValidator(KEYS[name].decode()).validate(url, signed, signature)


def task(**attributes: str) -> dict[str, Any]:
    return {"EventType": "task.completed", "TaskAttributes": json.dumps(attributes), "TimestampMs": "1"}


def cloud_event(kind: str, **attributes: str) -> dict[str, Any]:
    payload = {"task_attributes": json.dumps(attributes)} if attributes else {}
    return {"specversion": "1.0", "type": f"com.twilio.{kind}", "data": {"payload": payload}}


def closed(attributes: str = "{}", **fields: str) -> dict[str, Any]:
    event = {"EventType": "onConversationStateUpdated", "StateTo": "closed", "Attributes": attributes}
    return event | fields


def conversation(**fields: Any) -> dict[str, Any]:
    return {"topic": "conversation.admin.closed", "created_at": 1, "data": {"item": {"id": "1"} | fields}}


def archived(recipient: Any) -> dict[str, Any]:
    conversation = {"id": "cnv_1", "recipient": recipient}
    return {"type": "conversation_archived", "payload": {"emitted_at": 1.5, "conversation": conversation}}


SID = "FN" + "a" * 32
NOT_FOR_US: list[tuple[str, str, Any]] = [
    ("zendesk", "another status", {"status": "open", "phone": "+15005550101"}),
    # Zendesk closes solved tickets days later, when the next conversation may have begun.
    ("zendesk", "closed by an automation", {"status": "closed", "phone": "+15005550101"}),
    ("zendesk", "requester without a number", {"status": "solved", "phone": "", "ticket_id": "1"}),
    ("zendesk", "blank number", {"status": "solved", "phone": "  ", "external_id": ""}),
    (
        "zendesk",
        "native event",
        {"type": "zen:event-type:ticket.status_changed", "detail": {"id": "1"}},
    ),
    ("intercom", "test", {"topic": "ping", "data": {"item": {"type": "ping"}}}),
    ("intercom", "another topic", conversation() | {"topic": "conversation.user.created"}),
    ("intercom", "e-mail conversation", conversation(custom_attributes={}, contacts={"contacts": []})),
    ("intercom", "contact without a number", conversation(custom_attributes={"phone": None})),
    ("twilio-taskrouter", "another event", task(studio_execution_sid=SID) | {"EventType": "task.created"}),
    ("twilio-taskrouter", "a worker's event", {"EventType": "worker.activity.update"}),
    ("twilio-taskrouter", "voice task", task(call_sid="CA1")),
    ("twilio-taskrouter", "task without attributes", task() | {"TaskAttributes": ""}),
    (
        "twilio-event-streams",
        "test event",
        [{"type": "com.twilio.eventstreams.test-event"}],
    ),
    ("twilio-event-streams", "voice task", [cloud_event("taskrouter.task.completed", call_sid="CA1")]),
    ("twilio-event-streams", "task without attributes", [cloud_event("taskrouter.task.canceled")]),
    ("twilio-event-streams", "event alone", cloud_event("taskrouter.task.created", studio_execution_sid=SID)),
    ("twilio-event-streams", "no events", []),
    ("twilio-conversations", "state inactive", closed(StateTo="inactive")),
    ("twilio-conversations", "another event", closed(EventType="onMessageAdded")),
    ("twilio-conversations", "conversation that no Flow made", closed()),
    ("twilio-conversations", "no attributes", closed("")),
    ("front", "another event", {"type": "inbound_received", "payload": {}}),
    ("front", "e-mail conversation", archived({"handle": "jo@example.com", "role": "from"})),
    ("front", "nobody", archived(None)),
    ("freshdesk", "another event", {"event": "ticket.created", "phone": "+15005550101"}),
    ("freshdesk", "requester without a number", {"event": "ticket.resolved", "phone": ""}),
    ("salesforce", "another event", {"event": "case.created", "phone": "+15005550101"}),
    ("salesforce", "case without a number", {"event": "case.closed", "phone": None}),
]


@pytest.mark.parametrize(("preset", "what", "payload"), NOT_FOR_US)
def test_what_is_not_for_us_is_ignored(preset: str, what: str, payload: Any) -> None:
    """Nothing is wrong with it, and vendors switch endpoints off that answer with errors."""
    is_form = preset in ("twilio-taskrouter", "twilio-conversations")
    event = sample("source-zendesk")
    event["headers"] = {"content-type": FORM if is_form else "application/json"}
    event["body"] = urlencode(payload) if is_form else json.dumps(payload)
    made = source(preset)
    assert {made.payload(each) for each in made.events(to_http_request(event))} <= {None}, what


@pytest.mark.parametrize(
    ("closed_at", "occurred_at"),
    [
        ("2026-03-02T09:41:07.000+0000", "2026-03-02T09:41:07.000Z"),
        ("2026-03-02T09:41:07Z", "2026-03-02T09:41:07Z"),
        ("", None),
        (None, None),
    ],
)
def test_salesforce_writes_its_zone_in_its_own_way(closed_at: str | None, occurred_at: str | None) -> None:
    """`+0000`, which RFC 3339 does not have; a case may come late, so its time counts where there is one."""
    made = source("salesforce").payload(
        {"event": "case.closed", "phone": "+15005550105", "closed_at": closed_at}
    )
    assert made is not None
    assert made["occurred_at"] == occurred_at


def test_what_a_declaration_says_goes_before_its_preset() -> None:
    """Field by field in the command; a literal null takes a field away; null says nothing."""
    changed = parse_source(
        "x",
        {
            "preset": "zendesk",
            "verify": {"type": "basic"},
            "keys": ["user:a-long-password"],
            "when": None,
            "command": {
                "flow_sid": "'FW'",
                "contact": "`null`",
                "execution_sid": "external_id",
                "conversation_id": None,
            },
        },
    )
    assert changed.proof == Proof("basic")
    assert changed.when == source("zendesk").when
    assert {field: expression.text for field, expression in changed.command.items()} == {
        "flow_sid": "'FW'",
        "contact": "`null`",
        "execution_sid": "external_id",
        "conversation_id": "ticket_id",
    }
    assert changed.payload({"status": "solved", "external_id": "FN1", "ticket_id": "1"}) == {
        "flow_sid": "FW",
        "contact": None,
        "execution_sid": "FN1",
        "conversation_id": "1",
    }


@pytest.mark.parametrize(
    ("declaration", "reason"),
    [
        ({"preset": "zendesk"}, "keys is required"),
        ({"preset": "zendesk", "keys": ["k" * 16]}, "command.flow_sid is required"),
        (
            {"preset": "intercom", "keys": ["k" * 16], "command": {"flow_sid": "'FW'"}},
            "command must have execution_sid or contact",
        ),
    ],
)
def test_a_preset_alone_is_not_a_declaration(declaration: dict[str, Any], reason: str) -> None:
    """It cannot know the keys, the Flow, nor what Intercom does not send: an address."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        parse_source("x", declaration)


@pytest.mark.parametrize(
    "page",
    [DOCS / "sources.md", *sorted((DOCS / "sources").glob("*.md"))],
    ids=lambda page: page.stem,
)
def test_the_declarations_in_the_docs_are_valid(page: Path) -> None:
    """As they stand there, but for the keys and the Flow."""
    blocks = re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)
    secrets = [parse_webhook_secret(block) for block in blocks if '"sources"' in block]
    assert secrets or page.stem == "fit"
    assert all(found.sources and not found.invalid for found in secrets)
