"""Outcome events: their schema, and the example of a rule for them."""

import json
from typing import Any

import pytest
from jsonschema import Draft4Validator
from moto.events.models import EventPattern
from samtranslator.yaml_helper import yaml_parse
from stack import ROOT

SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "outcome-events.schema.json").read_text())
EXAMPLE = ROOT / "docs" / "examples" / "outcome-alert.yaml"

FLOW_SID = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
EXECUTION_SID = "FNb34180fe8141086f0b56b3810cb2c44a"
OUTCOMES = {
    "ConversationEnded": {
        "flow_sid": FLOW_SID,
        "trigger": "sqs",
        "conversation_id": "case-4711",
        "occurred_at": "2026-03-02T09:41:07Z",
        "executions": [{"sid": EXECUTION_SID, "status": "ended"}],
        "already_ended": 0,
    },
    "ConversationNotEnded": {
        "flow_sid": FLOW_SID,
        "account_sid": "AC" + "0" * 32,
        "trigger": "webhook",
        "source": "helpdesk",
        "executions": [],
        "failed": [{"sid": EXECUTION_SID, "code": "twilio_error"}],
        "code": "twilio_error",
    },
    "SweepFinished": {
        "dry_run": False,
        "complete": False,
        "flows": [
            {"flow_sid": FLOW_SID, "stuck": 12, "ended": 11, "failed": 1},
            {"flow_sid": FLOW_SID, "stuck": 0, "ended": 0, "failed": 0, "error": "twilio_timeout"},
        ],
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
        "detail": OUTCOMES[kind] | detail,
    }


def test_the_schema_is_draft_4() -> None:
    """EventBridge's registry takes it, as it does docs/eventbridge.schema.json."""
    Draft4Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("kind", OUTCOMES)
def test_outcomes_are_of_the_schema(kind: str) -> None:
    """Each kind of event has its form, and nothing more is required than what always applies."""
    Draft4Validator(SCHEMA).validate(event(kind))


def test_a_dead_letter_that_is_no_command_tells_its_code() -> None:
    """Of a message that could not be read there is nothing but the trigger and the code."""
    outcome = event("ConversationNotEnded")
    outcome["detail"] = {"trigger": "sqs", "code": "invalid_request"}

    Draft4Validator(SCHEMA).validate(outcome)


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        ("ConversationEnded", {"contact": "+15551234567"}),
        ("ConversationEnded", {"reason": "resolved"}),
        ("ConversationEnded", {"code": "twilio_error"}),
        ("ConversationNotEnded", {"contact": "+15551234567"}),
        ("ConversationNotEnded", {"code": "unheard_of"}),
        ("SweepFinished", {"flow_sids": [FLOW_SID]}),
    ],
)
def test_what_no_outcome_holds(kind: str, detail: dict[str, Any]) -> None:
    """A contact, a reason or a payload is against the schema, and so is a success with a code."""
    assert not Draft4Validator(SCHEMA).is_valid(event(kind, **detail))


def test_outcomes_have_codes_and_kinds_of_their_own() -> None:
    """There are three kinds; the event that asks for something is none of them."""
    kinds = [each["properties"]["detail-type"]["enum"] for each in SCHEMA["oneOf"]]

    assert kinds == [[kind] for kind in OUTCOMES]
    assert not Draft4Validator(SCHEMA).is_valid(
        event("ConversationEnded") | {"detail-type": "EndConversation"}
    )


def test_the_example_matches_failures_only() -> None:
    """The rule of docs/examples/outcome-alert.yaml is for what was not ended."""
    pattern = yaml_parse(EXAMPLE.read_text())["Resources"]["Rule"]["Properties"]["EventPattern"]
    rule = EventPattern.load(json.dumps(pattern))

    assert [kind for kind in OUTCOMES if rule.matches_event(event(kind))] == ["ConversationNotEnded"]
