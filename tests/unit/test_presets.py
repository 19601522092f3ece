"""Presets: the declarations that ship, each shown by a payload as its vendor documents it."""

import base64
import hashlib
import hmac
import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from conftest import sample
from twilio.request_validator import RequestValidator

from end_conversation.command import Command
from end_conversation.errors import InvalidSignature
from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks.proofs import Proof
from end_conversation.webhooks.sources import (
    Source,
    WebhookSecret,
    parse_source,
    parse_webhook_secret,
    presets,
)
from local import signing
from local.samples import EVENTS
from local.signing import renewed

DOCS = EVENTS.parent / "docs"
NOW = 1772444469.0
"""When the samples were received."""
FLOW_SID = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
KEYS = {name: source["keys"][0] for name, source in signing.SECRET["sources"].items()}
SAMPLES = {name: f"source-{name}" for name in ("zendesk", "intercom", "twilio-taskrouter", "salesforce")}


def secret() -> WebhookSecret:
    """What the stand-in for Secrets Manager has."""
    return parse_webhook_secret(json.dumps(signing.SECRET))


def body(event: dict[str, Any]) -> bytes:
    return to_http_request(event).body()


def source(preset: str, **command: str) -> Source:
    """A source that adds nothing to a preset but the Flow, and what is given."""
    return parse_source(
        "x", {"preset": preset, "keys": ["k" * 32], "command": {"flow_sid": f"'{FLOW_SID}'"} | command}
    )


def test_every_preset_has_a_sample() -> None:
    """And every sample declaration is valid."""
    assert set(SAMPLES) == set(presets())
    assert not secret().invalid
    assert set(SAMPLES) < set(secret().sources)
    assert {each.proof.type for each in secret().sources.values()} == {
        "standard",
        "hmac",
        "token",
        "basic",
        "twilio",
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "zendesk",
            {
                "contact": "+15005550101",
                "conversation_id": "48151",
                "occurred_at": "2026-03-02T09:41:09.512000+00:00",
            },
        ),
        (
            "intercom",
            {
                "contact": "whatsapp:+15005550103",
                "conversation_id": "1911149811",
                "occurred_at": "2026-03-02T09:41:07+00:00",
            },
        ),
        (
            "twilio-taskrouter",
            {
                "execution_sid": "FN3c6e8f0a1b2d4c5e7f9a0b1c2d3e4f5a",
                "conversation_id": "WT2e3f4a5b5e1f0c9a7b3d4e2f8a6c0b1d",
                "reason": "task.completed",
                "occurred_at": "2026-03-02T09:41:07.934000+00:00",
            },
        ),
        (
            "salesforce",
            {
                "contact": "+15005550105",
                "conversation_id": "5008d00000AbCdEAAV",
                "occurred_at": "2026-03-02T09:41:07+00:00",
            },
        ),
    ],
)
def test_a_sample_makes_its_command(name: str, expected: dict[str, str]) -> None:
    """Proved by its header, and mapped."""
    asked = to_http_request(sample(SAMPLES[name]))
    (payload,) = secret().authenticate(asked, NOW).events(asked)
    command = Command.parse(payload, asked.sent_at)
    made = {
        "flow_sid": command.flow_sid,
        "execution_sid": command.execution_sid,
        "contact": "".join(command.contacts) or None,
        "conversation_id": command.conversation_id,
        "reason": command.reason,
        "occurred_at": command.occurred_at.isoformat(),
    }
    assert {field: value for field, value in made.items() if value is not None} == {
        "flow_sid": FLOW_SID
    } | expected


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_with_another_body_is_refused(name: str) -> None:
    """Except from who sends but a token, which proves nothing of the body."""
    event = sample(SAMPLES[name])
    changed = body(event).replace(b"a", b"b", 1)
    asked = to_http_request(event | {"body": base64.b64encode(changed).decode(), "isBase64Encoded": True})
    if name == "salesforce":
        asked = to_http_request(
            event | {"headers": event["headers"] | {"authorization": "Bearer " + "x" * 27}}
        )
    with pytest.raises(InvalidSignature) as refusal:
        secret().authenticate(asked, NOW)
    assert refusal.value.cause == "signature_unknown"


def test_the_forged_sample_is_refused() -> None:
    """Somebody else's key made its signature."""
    with pytest.raises(InvalidSignature) as refusal:
        secret().authenticate(to_http_request(sample("source-zendesk-forged")), NOW)
    assert refusal.value.cause == "signature_unknown"


def test_zendesk_signs_timestamp_and_body() -> None:
    """base64(HMACSHA256(TIMESTAMP + BODY)): https://developer.zendesk.com/documentation/webhooks/verifying/."""
    event = sample("source-zendesk")
    headers = event["headers"]
    content = headers["x-zendesk-webhook-signature-timestamp"].encode() + body(event)
    digest = hmac.new(KEYS["zendesk"].encode(), content, hashlib.sha256).digest()
    assert headers["x-zendesk-webhook-signature"] == base64.b64encode(digest).decode()
    with pytest.raises(InvalidSignature) as refusal:
        secret().authenticate(to_http_request(event), NOW + 301)
    assert refusal.value.cause == "timestamp_too_old"


def test_intercom_signs_the_body() -> None:
    """`sha1=` and the hexadecimal HMAC-SHA1: https://intercom-developer-hub.readme.io/reference/signed-notifications."""
    event = sample("source-intercom")
    digest = hmac.new(KEYS["intercom"].encode(), body(event), hashlib.sha1).hexdigest()
    assert event["headers"]["x-hub-signature"] == f"sha1={digest}"


def test_twilio_signs_url_and_form() -> None:
    """As its own SDK checks it."""
    event = sample("source-twilio-taskrouter")
    fields = {
        name: values[0] for name, values in parse_qs(body(event).decode(), keep_blank_values=True).items()
    }
    url = f"https://{event['requestContext']['domainName']}{event['rawPath']}"
    assert RequestValidator(KEYS["twilio-taskrouter"]).validate(
        url, fields, event["headers"]["x-twilio-signature"]
    )


def test_salesforce_sends_a_token() -> None:
    """In a header of an external credential, which may be `Authorization`."""
    assert sample("source-salesforce")["headers"]["authorization"] == f"Bearer {KEYS['salesforce']}"
    assert source("salesforce").proof == Proof("token", header="authorization", prefix="Bearer ")


@pytest.mark.parametrize(
    ("preset", "payload"),
    [
        ("zendesk", {"status": "open", "phone": "+15005550101"}),
        ("zendesk", {"phone": "+15005550101"}),
        ("intercom", {"topic": "ping"}),
        ("intercom", {"topic": "conversation.user.created", "created_at": 1}),
        ("twilio-taskrouter", {"EventType": "task.created", "TaskAttributes": ""}),
        ("twilio-taskrouter", {"EventType": "worker.activity.update"}),
        ("salesforce", {"event": "case.created"}),
    ],
)
def test_other_events_are_ignored(preset: str, payload: dict[str, Any]) -> None:
    """Before anything else of them is looked at."""
    made = source(preset, **({} if preset == "twilio-taskrouter" else {"contact": "phone"}))
    event = sample("source-zendesk") | {"body": json.dumps(payload)}
    assert made.events(to_http_request(event)) == [None]


@pytest.mark.parametrize("phone", ["", "  ", None])
def test_a_customer_without_a_phone_number_makes_no_command(phone: str | None) -> None:
    """400 with the field: somebody has to notice, since nothing is ended."""
    event = sample("source-zendesk") | {"body": json.dumps({"status": "closed", "phone": phone})}
    (payload,) = source("zendesk").events(to_http_request(event))
    assert payload is not None
    assert payload["contact"] is None


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
    event = sample("source-zendesk") | {
        "body": '{"status": "solved", "external_id": "FN1", "ticket_id": "1"}'
    }
    assert changed.events(to_http_request(event)) == [
        {"flow_sid": "FW", "contact": None, "execution_sid": "FN1", "conversation_id": "1"}
    ]


def test_a_preset_alone_is_not_a_declaration() -> None:
    """It cannot know the keys, the Flow, nor what Intercom does not send: an address."""
    for preset, reason in [
        ({"preset": "zendesk"}, "keys is required"),
        ({"preset": "zendesk", "keys": ["k" * 16]}, "command.flow_sid is required"),
        (
            {"preset": "intercom", "keys": ["k" * 16], "command": {"flow_sid": "'FW'"}},
            "command must have execution_sid or contact",
        ),
    ]:
        with pytest.raises(ValueError, match=f"^{reason}$"):
            parse_source("x", preset)


@pytest.mark.parametrize(
    "page",
    [DOCS / "sources.md", *sorted((DOCS / "sources").glob("*.md"))],
    ids=lambda page: page.stem,
)
def test_the_declarations_in_the_docs_are_valid(page: Path) -> None:
    """As they stand there, but for the keys and the Flow."""
    blocks = re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)
    secrets = [parse_webhook_secret(block) for block in blocks if '"sources"' in block]
    assert secrets
    assert all(found.sources and not found.invalid for found in secrets)


@pytest.mark.parametrize("name", SAMPLES.values())
def test_a_renewed_sample_is_right_today(name: str) -> None:
    """`make run` sends it with a timestamp of this minute, where it has one."""
    secret().authenticate(to_http_request(renewed(sample(name))), time.time())
