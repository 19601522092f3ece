"""From the template's rule and topic through its queue into the function, with moto in place of AWS."""

import json
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import boto3
import pytest
from conftest import FLOW_SID, Function
from stack import ROOT, at, deployed

from end_conversation import app
from end_conversation.aws import clients as aws
from local.poller import batch
from local.stand_ins import StandIns, stand_ins

MOTO_CREATES = ("AWS::Events::Rule", "AWS::SQS::Queue")
DEPLOYMENTS = tomllib.loads((ROOT / "docs/examples/deploy.toml").read_text())
STAGES = {
    name: dict(
        each.split("=", 1) for each in DEPLOYMENTS[name]["deploy"]["parameters"]["parameter_overrides"]
    )
    for name in ("production", "staging")
}
"""The example's parameters for each stage."""


class Stack:
    """The rule and the queues of template.yaml, deployed to AWS on this machine."""

    def __init__(self, around: StandIns, stack_name: str = "end-conversation", **parameters: str) -> None:
        self.around = around
        resources = {
            name: each
            for name, each in deepcopy(deployed(**parameters)).items()
            if each["Type"] in MOTO_CREATES
        }
        outputs = {name: {"Value": {"Ref": name}} for name in resources}
        cloudformation = self._client("cloudformation")
        body = json.dumps({"Resources": resources, "Outputs": outputs})
        cloudformation.create_stack(StackName=stack_name, TemplateBody=body)
        (stack,) = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
        self.urls = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def _client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.around.aws.url)  # type: ignore[call-overload]

    def put_event(self, source: str, kind: str, detail: dict[str, Any]) -> None:
        """What a caller does, with boto3."""
        entry = {"Source": source, "DetailType": kind, "Detail": json.dumps(detail)}
        assert self._client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0

    def subscribe(self, topic: str, subscription: dict[str, Any]) -> None:
        """What CloudFormation does for AWS::SNS::Subscription, which moto does not know."""
        arns = {name: url.rpartition("/")[2] for name, url in self.urls.items() if name != "Rule"}
        name, _ = subscription["Endpoint"]["Fn::GetAtt"]
        self._client("sns").subscribe(
            TopicArn=topic,
            Protocol=subscription["Protocol"],
            Endpoint=topic.rpartition(":")[0].replace(":sns:", ":sqs:") + ":" + arns[name],
        )

    def messages(self) -> list[Any]:
        """The messages in the queue."""
        received: dict[str, Any] = self._client("sqs").receive_message(
            QueueUrl=self.urls["Queue"], MessageSystemAttributeNames=["All"], MaxNumberOfMessages=10
        )
        return received.get("Messages", [])


@pytest.fixture
def around() -> Iterator[StandIns]:
    with stand_ins() as running:
        yield running


@pytest.fixture
def stack(around: StandIns, function: Function, environment: pytest.MonkeyPatch) -> Stack:
    """The deployed stack, and a function that has not served a request in it yet."""
    environment.delenv("AWS_ENDPOINT_URL_SECRETS_MANAGER")
    for name, value in around.environment.items():
        environment.setenv(name, value)
    app._service.cache_clear()
    aws._clients.cache_clear()
    return Stack(around)


def test_event_ends_an_execution(stack: Stack, around: StandIns, function: Function) -> None:
    """An event that the rule matches arrives in the queue, and its message ends the Execution."""
    execution = around.studio.seed(FLOW_SID)

    stack.put_event(
        "end-conversation", "EndConversation", {"flow_sid": FLOW_SID, "execution_sid": execution.sid}
    )
    answer = function(batch(stack.messages()))

    assert answer == {"batchItemFailures": []}
    assert around.studio.executions.get(FLOW_SID, execution.sid).status == "ended"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("somebody.else", "EndConversation"),
        ("end-conversation", "ConversationEnded"),
        ("end-conversation", "ConversationNotEnded"),
        ("end-conversation", "SweepFinished"),
    ],
)
def test_events_that_are_no_commands(source: str, kind: str, stack: Stack) -> None:
    """Another source's events, and our own outcomes on the same bus, stay away from the queue."""
    stack.put_event(source, kind, {"flow_sid": FLOW_SID})

    assert stack.messages() == []


def test_stages_do_not_share_events(stack: Stack) -> None:
    """Two stages, deployed as docs/examples/deploy.toml has them, share no events and no secrets."""
    production, staging = (Stack(stack.around, name, **parameters) for name, parameters in STAGES.items())
    stack.put_event(STAGES["staging"]["EventSource"], "EndConversation", {"flow_sid": FLOW_SID})

    assert (len(production.messages()), len(staging.messages())) == (0, 1)
    for name in ("TwilioSecretId", "WebhookSecretId", "EventSource"):
        assert STAGES["production"][name] != STAGES["staging"][name]


def test_topic_sends_to_the_queue(stack: Stack) -> None:
    """A notification of the topic arrives in the queue; what SNS cannot deliver is a dead letter."""
    topic = stack._client("sns").create_topic(Name="closed")["TopicArn"]
    subscription = at("TopicSubscription", SnsTopicArn=topic)
    stack.subscribe(topic, subscription)

    stack._client("sns").publish(TopicArn=topic, Message=json.dumps({"flow_sid": FLOW_SID}))
    (message,) = stack.messages()

    assert subscription["TopicArn"] == topic
    assert json.loads(json.loads(message["Body"])["Message"]) == {"flow_sid": FLOW_SID}
    assert subscription["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
    }
