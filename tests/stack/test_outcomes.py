"""The schema of outcome events, and the example of a rule for them; tests/unit compares what is published."""

import json
from typing import Any

import pytest
from jsonschema import Draft4Validator
from moto.events.models import EventPattern
from samtranslator.yaml_helper import yaml_parse
from stack import ROOT

SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "outcome-events.schema.json").read_text())
FLOW_SID = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
EXECUTION_SID = "FNb34180fe8141086f0b56b3810cb2c44a"
OUTCOMES = {
    "ConversationEnded": {
        "flow_sid": FLOW_SID,
        "trigger": "sqs",
        "executions": [{"sid": EXECUTION_SID, "status": "ended"}],
        "already_ended": 0,
    },
    "ConversationNotEnded": {
        "flow_sid": FLOW_SID,
        "trigger": "webhook",
        "source": "helpdesk",
        "executions": [],
        "failed": [{"sid": EXECUTION_SID, "code": "twilio_error"}],
        "code": "twilio_error",
    },
    "SweepFinished": {
        "dry_run": False,
        "complete": False,
        "flows": [{"flow_sid": FLOW_SID, "stuck": 0, "ended": 0, "failed": 0, "error": "twilio_timeout"}],
    },
}


def event(kind: str, **detail: Any) -> dict[str, Any]:
    """An outcome as EventBridge delivers it; with `detail`, other fields than in the sample."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": kind,
        "source": "end-conversation",
        "account": "123456789012",
        "time": "2026-03-02T09:41:08Z",
        "region": "us-east-1",
        "resources": [],
        "detail": OUTCOMES.get(kind, {}) | detail,
    }


def test_the_schema_is_draft_4() -> None:
    """EventBridge's registry takes it, as it does docs/eventbridge.schema.json."""
    Draft4Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("kind", "detail", "is_valid"),
    [
        *[(kind, {}, True) for kind in OUTCOMES],
        ("ConversationEnded", {"contact": "+15551234567"}, False),
        ("ConversationEnded", {"reason": "resolved"}, False),
        ("ConversationEnded", {"code": "twilio_error"}, False),
        ("ConversationNotEnded", {"contact": "+15551234567"}, False),
        ("ConversationNotEnded", {"code": "unheard_of"}, False),
        ("SweepFinished", {"flow_sids": [FLOW_SID]}, False),
        ("EndConversation", {}, False),
    ],
)
def test_outcomes_are_of_the_schema(kind: str, detail: dict[str, Any], *, is_valid: bool) -> None:
    """Each kind has its form: no contact, reason or payload, no success with a code, no event that asks."""
    assert Draft4Validator(SCHEMA).is_valid(event(kind, **detail)) is is_valid


def test_the_example_matches_failures_only() -> None:
    """The rule of docs/examples/outcome-alert.yaml is for what was not ended."""
    example = yaml_parse((ROOT / "docs/examples/outcome-alert.yaml").read_text())
    rule = EventPattern.load(json.dumps(example["Resources"]["Rule"]["Properties"]["EventPattern"]))

    assert [kind for kind in OUTCOMES if rule.matches_event(event(kind))] == ["ConversationNotEnded"]
