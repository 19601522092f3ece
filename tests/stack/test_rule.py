"""From the rule in template.yaml through its queue into the function, with moto in place of AWS."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from conftest import FLOW_SID, Function
from stack import template

from end_conversation import app
from end_conversation.aws import clients as aws
from local.poller import batch
from local.stand_ins import StandIns, stand_ins

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

MOTO_CREATES = ("AWS::Events::Rule", "AWS::SQS::Queue")


class Stack:
    """The rule and the queues of template.yaml, deployed with its defaults to AWS on this machine."""

    def __init__(self, aws_url: str) -> None:
        deployed = deepcopy(template())
        del deployed["Transform"]
        kept = {name: each for name, each in deployed["Resources"].items() if each["Type"] in MOTO_CREATES}
        deployed["Resources"] = kept
        deployed["Outputs"] = {
            name: output for name, output in deployed["Outputs"].items() if output["Value"].get("Ref") in kept
        }
        self._client: Callable[[str], Any] = lambda service: boto3.client(service, endpoint_url=aws_url)
        cloudformation = self._client("cloudformation")
        cloudformation.create_stack(StackName="end-conversation", TemplateBody=json.dumps(deployed))
        (stack,) = cloudformation.describe_stacks(StackName="end-conversation")["Stacks"]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def put_event(
        self, detail: dict[str, Any], source: str = "end-conversation", kind: str = "EndConversation"
    ) -> None:
        """What a caller does, with boto3."""
        entry = {"Source": source, "DetailType": kind, "Detail": json.dumps(detail)}
        assert self._client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0

    def messages(self, queue: str) -> "list[MessageTypeDef]":
        """The messages in the queue of this output."""
        received: dict[str, Any] = self._client("sqs").receive_message(
            QueueUrl=self.outputs[queue],
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
            MaxNumberOfMessages=10,
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
    deployed = Stack(around.aws.url)
    environment.setenv("DEAD_LETTER_QUEUE_URL", deployed.outputs["DeadLetterQueueUrl"])
    app._service.cache_clear()
    aws._clients.cache_clear()
    return deployed


def test_event_ends_an_execution(stack: Stack, around: StandIns, function: Function) -> None:
    """An event that the rule matches arrives in the queue, and its message ends the Execution."""
    execution = around.studio.seed(FLOW_SID)

    stack.put_event({"flow_sid": FLOW_SID, "execution_sid": execution.sid})
    answer = function(batch(stack.messages("QueueUrl")))

    assert answer == {"batchItemFailures": []}
    assert around.studio.executions.get(FLOW_SID, execution.sid).status == "ended"


def test_event_that_can_never_succeed(stack: Stack, function: Function) -> None:
    """A command that is refused moves to the dead-letter queue of the stack at once, with its code."""
    stack.put_event({"flow_sid": FLOW_SID})

    answer = function(batch(stack.messages("QueueUrl")))
    (dead_letter,) = stack.messages("DeadLetterQueueUrl")

    assert answer == {"batchItemFailures": []}
    assert dead_letter["MessageAttributes"]["code"]["StringValue"] == "invalid_request"
    assert json.loads(dead_letter["Body"])["detail"] == {"flow_sid": FLOW_SID}


def test_events_of_others(stack: Stack) -> None:
    """An event of another source stays away from the queue."""
    stack.put_event({"flow_sid": FLOW_SID}, source="somebody.else")

    assert stack.messages("QueueUrl") == []


def test_outcomes_do_not_come_back(stack: Stack) -> None:
    """Outcomes on the bus and with the source of the events for the rule stay away from the queue."""
    for kind in ("ConversationEnded", "ConversationNotEnded", "SweepFinished"):
        stack.put_event({"flow_sid": FLOW_SID}, kind=kind)
    assert stack.messages("QueueUrl") == []

    stack.put_event({"flow_sid": FLOW_SID})
    assert len(stack.messages("QueueUrl")) == 1


def test_queue_gives_up_after_its_receives(stack: Stack, around: StandIns) -> None:
    """SQS moves a message of the queue to the dead-letter queue after MaxReceiveCount tries."""
    attributes = around.aws.sqs().get_queue_attributes(
        QueueUrl=stack.outputs["QueueUrl"], AttributeNames=["RedrivePolicy"]
    )["Attributes"]
    policy = json.loads(attributes["RedrivePolicy"])

    assert policy["maxReceiveCount"] == template()["Parameters"]["MaxReceiveCount"]["Default"]
    assert (
        policy["deadLetterTargetArn"].rpartition(":")[2]
        == stack.outputs["DeadLetterQueueUrl"].rpartition("/")[2]
    )
