"""Presets: the declarations that ship, each shown with a payload as its vendor documents it."""

import hmac
import json
import re
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import Function, SecretsManager, Sqs, sample
from twilio.request_validator import RequestValidator

from end_conversation.http_request import FORM, HttpRequest
from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks.proofs import Proof, form_fields
from end_conversation.webhooks.sources import Source, parse_source, parse_webhook_secret, presets
from local import signing
from local.samples import EVENTS

DOCS = EVENTS.parent / "docs"
NOW = 1772444469.0
"""When the samples were received."""
FLOW_SID = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
SECRET_ID = "end-conversation/webhooks"


@pytest.fixture
def deployed(
    function: Function,
    environment: pytest.MonkeyPatch,
    secrets_manager: SecretsManager,
    clock: SimpleNamespace,
) -> Function:
    """The function with the sample sources, when the samples were received."""
    environment.setenv("WEBHOOK_SECRET_ID", SECRET_ID)
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps(signing.SECRET))
    clock.now = NOW
    return function


def test_every_preset_has_a_sample_and_a_page() -> None:
    """The samples' declarations are valid, and use every type of proof."""
    secret = parse_webhook_secret(json.dumps(signing.SECRET))
    assert set(presets()) <= set(secret.sources)
    assert set(presets()) == {page.stem for page in (DOCS / "sources").glob("*.md")} - {"fit"}
    assert not secret.invalid
    types = {source.proof.type for source in secret.sources.values()}
    assert types == {"standard", "hmac", "token", "basic", "twilio"}


CLOSED, RECEIVED = "2026-03-02T09:41:07.934000Z", "2026-03-02T09:41:09.512000Z"


def by_contact(contact: str, conversation_id: str, occurred_at: str) -> dict[str, str]:
    return {"contact": contact, "conversation_id": conversation_id, "occurred_at": occurred_at}


def by_sid(execution_sid: str, conversation_id: str, reason: str) -> dict[str, str]:
    known = {"execution_sid": execution_sid, "conversation_id": conversation_id}
    return known | {"reason": reason, "occurred_at": CLOSED}


EXPECTED: dict[str, list[dict[str, str]]] = {
    "zendesk": [by_contact("+15005550101", "48151", RECEIVED)],
    "intercom": [by_contact("whatsapp:+15005550103", "1911149811", "2026-03-02T09:41:07Z")],
    "twilio-taskrouter": [
        by_sid("FN3c6e8f0a1b2d4c5e7f9a0b1c2d3e4f5a", "WT2e3f4a5b5e1f0c9a7b3d4e2f8a6c0b1d", "task.completed")
    ],
    "twilio-event-streams": [
        by_sid("FN5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d", "WT" + "1" * 32, "task.completed"),
        by_sid("FN7c8d9e0f1a2b3c4d5e6f7a8b9c0d1e2f", "WT" + "4" * 32, "task.canceled"),
    ],
    "twilio-conversations": [
        by_sid("FN8d9e0f1a2b3c4d5e6f7a8b9c0d1e2f3a", "CH3f4a5b5e1f0c9a7b3d4e2f8a6c0b1d2e", "API")
    ],
    "front": [by_contact("+15005550112", "cnv_55c8c149", CLOSED)],
    "freshdesk": [by_contact("+15005550113", "7301", RECEIVED)],
    "salesforce": [by_contact("+15005550105", "5008d00000AbCdEAAV", "2026-03-02T09:41:07Z")],
}


@pytest.mark.parametrize("name", presets())
def test_a_sample_makes_its_commands(deployed: Function, queue: Sqs, name: str) -> None:
    """Verified, mapped and queued by the function; in any order."""
    assert deployed(sample(f"source-{name}"))["statusCode"] == 202
    commands = [body for body in queue.bodies if body.pop("flow_sid") == FLOW_SID]
    assert sorted(commands, key=str) == sorted(EXPECTED[name], key=str)


@pytest.mark.parametrize("name", presets())
def test_an_altered_sample_is_rejected(deployed: Function, name: str) -> None:
    """Altered in its body, or in its key if it has no signature."""
    event = sample(f"source-{name}")
    headers, content = event["headers"], to_http_request(event).body().replace(b"a", b"b", 1)
    if "authorization" in headers:
        headers["authorization"] = headers["authorization"][:-4] + "xxxx"
    altered = event | {"body": b64encode(content).decode(), "isBase64Encoded": True}
    assert deployed(altered)["statusCode"] == 401
    assert deployed.logs[-1]["cause"] in {"signature_unknown", "body_hash_unknown"}


Sign = Callable[[bytes, HttpRequest], str]


def with_time(header: str, separator: bytes = b"") -> Sign:
    """Timestamp and body."""

    def sign(key: bytes, asked: HttpRequest) -> str:
        content = asked.header(header)[0].encode() + separator + asked.body()
        return b64encode(hmac.digest(key, content, "sha256")).decode()

    return sign


def by_intercom(key: bytes, asked: HttpRequest) -> str:
    """https://intercom-developer-hub.readme.io/reference/signed-notifications."""
    return "sha1=" + hmac.digest(key, asked.body(), "sha1").hex()


def by_twilio(key: bytes, asked: HttpRequest) -> str:
    """https://www.twilio.com/docs/usage/webhooks/webhooks-security, by Twilio's SDK."""
    fields = dict(form_fields(asked.body())) if asked.is_form else {}
    return str(RequestValidator(key.decode()).compute_signature(asked.url(), fields))


@pytest.mark.parametrize(
    ("name", "header", "sign"),
    [
        # https://developer.zendesk.com/documentation/webhooks/verifying/
        ("zendesk", "x-zendesk-webhook-signature", with_time("x-zendesk-webhook-signature-timestamp")),
        # https://dev.frontapp.com/docs/application-webhooks
        ("front", "x-front-signature", with_time("x-front-request-timestamp", b":")),
        ("intercom", "x-hub-signature", by_intercom),
        *(
            (name, "x-twilio-signature", by_twilio)
            for name in ("twilio-taskrouter", "twilio-event-streams", "twilio-conversations")
        ),
    ],
)
def test_a_sample_is_signed_as_its_vendor_documents(name: str, header: str, sign: Sign) -> None:
    """Computed by other means than the function's."""
    asked = to_http_request(sample(f"source-{name}"))
    key = signing.SECRET["sources"][name]["keys"][0].encode()
    assert asked.header(header) == [sign(key, asked)]


def source(preset: str) -> Source:
    """A source that adds nothing to a preset but the Flow, and an address, which Intercom does not send."""
    contact = {"contact": "e164(data.item.custom_attributes.phone)"} if preset == "intercom" else {}
    command = {"flow_sid": f"'{FLOW_SID}'"} | contact
    return parse_source("x", {"preset": preset, "keys": ["user:" + "k" * 32], "command": command})


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
    ("zendesk", "native event", {"type": "zen:event-type:ticket.status_changed", "detail": {"id": "1"}}),
    ("intercom", "test", {"topic": "ping", "data": {"item": {"type": "ping"}}}),
    ("intercom", "another topic", conversation() | {"topic": "conversation.user.created"}),
    ("intercom", "e-mail conversation", conversation(custom_attributes={}, contacts={"contacts": []})),
    ("intercom", "contact without a number", conversation(custom_attributes={"phone": None})),
    ("twilio-taskrouter", "another event", task(studio_execution_sid=SID) | {"EventType": "task.created"}),
    ("twilio-taskrouter", "a worker's event", {"EventType": "worker.activity.update"}),
    ("twilio-taskrouter", "voice task", task(call_sid="CA1")),
    ("twilio-taskrouter", "task without attributes", task() | {"TaskAttributes": ""}),
    ("twilio-event-streams", "test event", [{"type": "com.twilio.eventstreams.test-event"}]),
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
    ("front", "no recipient", archived(None)),
    ("freshdesk", "another event", {"event": "ticket.created", "phone": "+15005550101"}),
    ("freshdesk", "requester without a number", {"event": "ticket.resolved", "phone": ""}),
    ("salesforce", "another event", {"event": "case.created", "phone": "+15005550101"}),
    ("salesforce", "case without a number", {"event": "case.closed", "phone": None}),
]


@pytest.mark.parametrize(("preset", "what", "payload"), NOT_FOR_US)
def test_what_is_not_for_us_is_ignored(preset: str, what: str, payload: Any) -> None:
    """It is no error: vendors disable endpoints that respond with errors."""
    is_form = preset in ("twilio-taskrouter", "twilio-conversations")
    content = (urlencode(payload) if is_form else json.dumps(payload)).encode()
    headers = {"content-type": [FORM if is_form else "application/json"]}
    declared = source(preset)
    events = declared.events(HttpRequest(headers=headers, content=content))
    assert {declared.payload(event) for event in events} <= {None}, what


@pytest.mark.parametrize(
    ("closed_at", "occurred_at"),
    [
        ("2026-03-02T09:41:07.000+0000", "2026-03-02T09:41:07.000Z"),
        ("2026-03-02T09:41:07Z", "2026-03-02T09:41:07Z"),
        ("", None),
        (None, None),
    ],
)
def test_salesforces_time_becomes_rfc_3339(closed_at: str | None, occurred_at: str | None) -> None:
    """Salesforce writes `+0000`; it may send a case late, or without its time."""
    event = {"event": "case.closed", "phone": "+15005550105", "closed_at": closed_at}
    payload = source("salesforce").payload(event)
    assert payload is not None
    assert payload["occurred_at"] == occurred_at


def test_a_declaration_overrides_its_preset() -> None:
    """Field by field in the command: "`null`" removes a field, null keeps the preset's."""
    declaration = {
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
    }
    declared = parse_source("x", declaration)
    assert declared.proof == Proof("basic")
    assert declared.when == source("zendesk").when
    payload = declared.payload({"status": "solved", "phone": "1", "external_id": "FN1", "ticket_id": "1"})
    assert payload == {"flow_sid": "FW", "contact": None, "execution_sid": "FN1", "conversation_id": "1"}


@pytest.mark.parametrize(
    "page", [DOCS / "sources.md", *sorted((DOCS / "sources").glob("*.md"))], ids=lambda page: page.stem
)
def test_declarations_in_the_docs_are_valid(page: Path) -> None:
    """As printed, with their made-up keys and Flows."""
    blocks = re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)
    secrets = [parse_webhook_secret(block) for block in blocks if '"sources"' in block]
    assert secrets or page.stem == "fit"
    assert all(found.sources and not found.invalid for found in secrets)
