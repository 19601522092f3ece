"""Presets: the declarations that ship, each shown with a payload as its vendor documents it."""

import hmac
import json
import re
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Function, SecretsManager, Sqs, sample
from twilio.request_validator import RequestValidator

from end_conversation.http_request import HttpRequest
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


def first_event(declared: Source, preset: str) -> Any:
    """The first event of the sample."""
    return declared.events(to_http_request(sample(f"source-{preset}")))[0]


NOT_FOR_US: list[tuple[str, dict[str, Any]]] = [
    ("zendesk", {"status": "open"}),
    # Zendesk closes solved tickets days later, when the next conversation may have begun.
    ("zendesk", {"status": "closed"}),
    ("zendesk", {"phone": ""}),
    ("zendesk", {"phone": "  ", "external_id": ""}),
    # A native event of Zendesk.
    ("zendesk", {"status": None, "type": "zen:event-type:ticket.status_changed"}),
    ("intercom", {"topic": "ping"}),
    ("intercom", {"topic": "conversation.user.created"}),
    # An e-mail conversation, and a contact without a number.
    ("intercom", {"data": {"item": {"custom_attributes": {}, "contacts": {"contacts": []}}}}),
    ("intercom", {"data": {"item": {"custom_attributes": {"phone": None}}}}),
    ("twilio-taskrouter", {"EventType": "task.created"}),
    ("twilio-taskrouter", {"EventType": "worker.activity.update"}),
    # A voice task, and one without attributes.
    ("twilio-taskrouter", {"TaskAttributes": '{"call_sid": "CA1"}'}),
    ("twilio-taskrouter", {"TaskAttributes": ""}),
    ("twilio-event-streams", {"type": "com.twilio.eventstreams.test-event"}),
    ("twilio-event-streams", {"type": "com.twilio.taskrouter.task.created"}),
    ("twilio-event-streams", {"data": {"payload": {"task_attributes": '{"call_sid": "CA1"}'}}}),
    ("twilio-event-streams", {"data": {"payload": {}}}),
    ("twilio-conversations", {"StateTo": "inactive"}),
    ("twilio-conversations", {"EventType": "onMessageAdded"}),
    # A conversation that no Flow made.
    ("twilio-conversations", {"Attributes": "{}"}),
    ("twilio-conversations", {"Attributes": ""}),
    ("front", {"type": "inbound_received"}),
    # An e-mail conversation, and one without a recipient.
    ("front", {"payload": {"conversation": {"recipient": {"handle": "jo@example.com", "role": "from"}}}}),
    ("front", {"payload": {"conversation": {"recipient": None}}}),
    ("freshdesk", {"event": "ticket.created"}),
    ("freshdesk", {"phone": ""}),
    ("salesforce", {"event": "case.created"}),
    ("salesforce", {"phone": None}),
]


@pytest.mark.parametrize(("preset", "changes"), NOT_FOR_US)
def test_an_event_that_is_not_for_us_is_ignored(preset: str, changes: dict[str, Any]) -> None:
    """It is no error: vendors disable endpoints that respond with errors."""
    declared = source(preset)
    event = first_event(declared, preset)
    assert declared.payload(event) is not None
    assert declared.payload(event | changes) is None


@pytest.mark.parametrize(("body", "count"), [({"type": "x"}, 1), ([], 0)])
def test_event_streams_may_send_any_number_of_events(body: Any, count: int) -> None:
    """One without a list, or none."""
    asked = HttpRequest(content=json.dumps(body).encode())
    assert len(source("twilio-event-streams").events(asked)) == count


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
    declared = source("salesforce")
    payload = declared.payload(first_event(declared, "salesforce") | {"closed_at": closed_at})
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
