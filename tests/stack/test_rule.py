"""Events in and out: the template's rule and topic, the schema of outcome events, and a rule for them."""

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from conftest import FLOW_SID, Function
from jsonschema import Draft4Validator
from moto.events.models import EventPattern
from samtranslator.yaml_helper import yaml_parse
from stack import ROOT, at, lead_to, of_type

from local.poller import batch
from local.stand_ins import StandIns, stand_ins

EXAMPLE = tomllib.loads((ROOT / "docs/examples/deploy.toml").read_text())
PRODUCTION, STAGING = (
    dict(each.split("=", 1) for each in EXAMPLE[name]["deploy"]["parameters"]["parameter_overrides"])
    for name in ("production", "staging")
)


# EventBridge's registry takes draft 4.
OUTCOMES: dict[str, Any] = json.loads((ROOT / "docs" / "outcome-events.schema.json").read_text())
ENDED = {"flow_sid": FLOW_SID, "trigger": "sqs", "executions": [], "already_ended": 0}
FAILED = {"flow_sid": FLOW_SID, "trigger": "sqs", "code": "twilio_error"}
SWEPT = {"dry_run": False, "complete": False, "flows": []}


@pytest.fixture
def around(function: Function, environment: pytest.MonkeyPatch) -> Iterator[StandIns]:
    """AWS and Twilio, and a function that has not served a request with them yet."""
    with stand_ins() as running:
        lead_to(running, environment)
        yield running


@pytest.mark.parametrize("way", ["rule", "topic"])
def test_a_command_ends_an_execution(way: str, around: StandIns, function: Function) -> None:
    """What the rule matches, and what the topic of SnsTopicArn sends, arrives in the queue as a command."""
    sqs, events, sns = (boto3.client(name) for name in ("sqs", "events", "sns"))
    url = sqs.create_queue(QueueName="queue")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    execution = around.studio.seed(FLOW_SID)
    command = json.dumps({"flow_sid": FLOW_SID, "execution_sid": execution.sid})
    if way == "rule":
        events.put_rule(Name="rule", EventPattern=json.dumps(at("Rule.EventPattern")))
        events.put_targets(Rule="rule", Targets=[{"Id": "queue", "Arn": arn}])
        entry = {"Source": "end-conversation", "DetailType": "EndConversation", "Detail": command}
        events.put_events(Entries=[entry])
    else:
        topic = sns.create_topic(Name="closed")["TopicArn"]
        subscription = at("TopicSubscription", SnsTopicArn=topic)
        assert subscription["Endpoint"] == {"Fn::GetAtt": ["Queue", "Arn"]}
        assert subscription["RedrivePolicy"] == {
            "deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
        }
        sns.subscribe(TopicArn=subscription["TopicArn"], Protocol=subscription["Protocol"], Endpoint=arn)
        sns.publish(TopicArn=topic, Message=command)
    received = sqs.receive_message(QueueUrl=url, MessageSystemAttributeNames=["All"])

    assert function(batch(received["Messages"])) == {"batchItemFailures": []}
    assert around.studio.executions.get(FLOW_SID, execution.sid).status == "ended"


@pytest.mark.parametrize(
    ("source", "kind", "parameters", "is_matched"),
    [
        ("end-conversation", "EndConversation", {}, True),
        ("somebody.else", "EndConversation", {}, False),
        # Our own outcomes on the same bus.
        ("end-conversation", "ConversationEnded", {}, False),
        ("end-conversation", "ConversationNotEnded", {}, False),
        ("end-conversation", "SweepFinished", {}, False),
        # Two stages in one account, deployed as docs/examples/deploy.toml has them.
        (STAGING["EventSource"], "EndConversation", STAGING, True),
        (STAGING["EventSource"], "EndConversation", PRODUCTION, False),
        (PRODUCTION["EventSource"], "EndConversation", STAGING, False),
    ],
)
def test_rule(source: str, kind: str, parameters: dict[str, str], *, is_matched: bool) -> None:
    """Only events that ask for something are matched, and those of one stage by no other stage."""
    (rule,) = of_type("AWS::Events::Rule", **parameters).values()
    event: dict[str, Any] = {"source": source, "detail-type": kind, "detail": {"flow_sid": FLOW_SID}}

    assert EventPattern.load(json.dumps(rule["EventPattern"])).matches_event(event) is is_matched


@pytest.mark.parametrize(
    ("kind", "detail", "is_valid", "is_alert"),
    [
        ("ConversationEnded", ENDED, True, False),
        ("ConversationNotEnded", FAILED, True, True),
        ("ConversationNotEnded", {"trigger": "sqs", "code": "invalid_request"}, True, True),
        ("SweepFinished", SWEPT, True, False),
        ("ConversationEnded", ENDED | {"contact": "+15551234567"}, False, False),
        ("ConversationEnded", ENDED | {"code": "twilio_error"}, False, False),
        ("ConversationNotEnded", FAILED | {"reason": "resolved"}, False, True),
        ("ConversationNotEnded", FAILED | {"code": "unheard_of"}, False, True),
        ("SweepFinished", SWEPT | {"flow_sids": [FLOW_SID]}, False, False),
        ("EndConversation", ENDED, False, False),
    ],
)
def test_outcome_events(kind: str, detail: dict[str, Any], *, is_valid: bool, is_alert: bool) -> None:
    """No contact, reason or payload is valid, no success with a code; the example's rule is for failures.

    tests/unit/test_outcome_events.py validates everything that is published.
    """
    example = yaml_parse((ROOT / "docs/examples/outcome-alert.yaml").read_text())
    rule = EventPattern.load(json.dumps(example["Resources"]["Rule"]["Properties"]["EventPattern"]))
    event = {
        "detail-type": kind,
        "source": "end-conversation",
        "time": "2026-03-02T09:41:08Z",
        "detail": detail,
    }

    Draft4Validator.check_schema(OUTCOMES)
    assert Draft4Validator(OUTCOMES).is_valid(event) is is_valid
    assert rule.matches_event(event) is is_alert


def test_stages_share_nothing() -> None:
    """The example's stages have names, secrets and sources of their own."""
    names = [EXAMPLE[stage]["deploy"]["parameters"]["stack_name"] for stage in ("production", "staging")]

    assert len(set(names)) == len(names)
    for parameter in ("TwilioSecretId", "WebhookSecretId", "EventSource"):
        assert PRODUCTION[parameter] != STAGING[parameter]
