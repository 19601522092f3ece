"""What the schema of outcome events refuses, and the example of a rule for them.

tests/unit/test_outcome_events.py validates everything that is published.
"""

import json
from typing import Any

import pytest
from jsonschema import Draft4Validator
from moto.events.models import EventPattern
from samtranslator.yaml_helper import yaml_parse
from stack import ROOT

# EventBridge's registry takes draft 4.
SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "outcome-events.schema.json").read_text())
FLOW_SID = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
ENDED = {"flow_sid": FLOW_SID, "trigger": "sqs", "executions": [], "already_ended": 0}
FAILED = {"flow_sid": FLOW_SID, "trigger": "sqs", "code": "twilio_error"}
SWEPT = {"dry_run": False, "complete": False, "flows": []}


@pytest.mark.parametrize(
    ("kind", "detail", "is_valid", "is_alert"),
    [
        ("ConversationEnded", ENDED, True, False),
        ("ConversationNotEnded", FAILED, True, True),
        ("ConversationNotEnded", {"trigger": "sqs", "code": "invalid_request"}, True, True),
        ("SweepFinished", SWEPT, True, False),
        ("ConversationEnded", ENDED | {"contact": "+15551234567"}, False, False),
        ("ConversationEnded", ENDED | {"reason": "resolved"}, False, False),
        ("ConversationEnded", ENDED | {"code": "twilio_error"}, False, False),
        ("ConversationNotEnded", FAILED | {"contact": "+15551234567"}, False, True),
        ("ConversationNotEnded", FAILED | {"code": "unheard_of"}, False, True),
        ("SweepFinished", SWEPT | {"flow_sids": [FLOW_SID]}, False, False),
        ("EndConversation", ENDED, False, False),
    ],
)
def test_outcomes(kind: str, detail: dict[str, Any], *, is_valid: bool, is_alert: bool) -> None:
    """No contact, reason or payload is valid, no success with a code; the rule is for failures."""
    Draft4Validator.check_schema(SCHEMA)
    example = yaml_parse((ROOT / "docs/examples/outcome-alert.yaml").read_text())
    rule = EventPattern.load(json.dumps(example["Resources"]["Rule"]["Properties"]["EventPattern"]))
    event = {
        "detail-type": kind,
        "source": "end-conversation",
        "time": "2026-03-02T09:41:08Z",
        "detail": detail,
    }

    assert Draft4Validator(SCHEMA).is_valid(event) is is_valid
    assert rule.matches_event(event) is is_alert
