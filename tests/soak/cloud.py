"""AWS on this machine, with the rule and the queues of template.yaml, whose services fail one by one."""

import json
import time
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]  # it brings none

from local.aws import OWN, REGION, Aws
from tests.soak.pace import Pace

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
STACK = "end-conversation"

GET_SECRET = "secretsmanager.GetSecretValue"
SEND_MESSAGE = "AmazonSQS.SendMessage"
PUT_EVENTS = "AWSEvents.PutEvents"

_DEPLOYED = ("AWS::Events::Rule", "AWS::SQS::Queue")

SOURCE = "end-conversation"
"""Of outcome events, as docs/outcome-events.schema.json has it."""


class Cloud(Aws):
    """The stand-in for AWS, where what the function calls, and nobody else, fails on request.

    Attributes:
        refused: operations that are answered with 503; may be changed at any time.
        delays: seconds that an operation takes longer; may be changed at any time.
        happened: what of this happened, each time.
        unpublished: the bodies of the calls of PutEvents that were refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()
        self.delays: dict[str, float] = {}
        self.happened: list[str] = []
        self.unpublished: list[str] = []

    def _serve(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        operation = environ.get("HTTP_X_AMZ_TARGET", "")
        if OWN in environ.get("HTTP_USER_AGENT", ""):
            return super()._serve(environ, start_response)
        if delay := self.delays.get(operation):
            time.sleep(delay)
            self.happened.append(f"{operation} slow")
        if operation in self.refused:
            self.happened.append(f"{operation} refused")
            if operation == PUT_EVENTS:
                body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
                self.unpublished.append(body.decode())
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return []
        return super()._serve(environ, start_response)


@dataclass(frozen=True)
class Stack:
    """What template.yaml wires between a caller and the function.

    Attributes:
        queue_url: the queue that the rule feeds.
        dead_letter_queue_url: where SQS and the function put what they give up.
        queue_arn: what the function's events say they come from.
        outcomes_url: a queue that gets the outcome events.
        event_bus: where events go, outcome events as well.
        source: the source of the events that the rule takes.
        batch_size: messages that one invocation gets at the most.
    """

    queue_url: str
    dead_letter_queue_url: str
    queue_arn: str
    outcomes_url: str
    event_bus: str
    source: str
    batch_size: int


@cache
def template() -> dict[str, Any]:
    """What is written in template.yaml, to be looked at only."""
    parsed: dict[str, Any] = yaml_parse(TEMPLATE.read_text())
    return parsed


def default(parameter: str) -> Any:
    """A parameter's default in the template."""
    return template()["Parameters"][parameter]["Default"]


def deploy(cloud: Cloud, pace: Pace) -> Stack:
    """Make the rule and the queues as the template says, but for the pace."""
    made = deepcopy(template())
    del made["Transform"]
    resources = {name: each for name, each in made["Resources"].items() if each["Type"] in _DEPLOYED}
    queue = resources["Queue"]["Properties"]
    queue["VisibilityTimeout"] = pace.visibility
    queue["RedrivePolicy"]["maxReceiveCount"] = pace.receives
    outputs = {
        name: output for name, output in made["Outputs"].items() if output["Value"].get("Ref") in resources
    }
    body = json.dumps(made | {"Resources": resources, "Outputs": outputs})
    cloudformation = cloud.client("cloudformation")
    cloudformation.create_stack(StackName=STACK, TemplateBody=body)
    (stack,) = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
    values = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    source = template()["Resources"]["EndConversationFunction"]["Properties"]["Events"]["Queue"]["Properties"]
    # What the poller does, and all that it does, hangs on these.
    if source["FunctionResponseTypes"] != ["ReportBatchItemFailures"] or source["Queue"] != {
        "Fn::GetAtt": ["Queue", "Arn"]
    }:
        raise RuntimeError(
            "template.yaml wires the queue to the function in a way that the poller does not know"
        )
    return Stack(
        queue_url=values["QueueUrl"],
        dead_letter_queue_url=values["DeadLetterQueueUrl"],
        queue_arn=f"arn:aws:sqs:{REGION}:123456789012:{values['QueueUrl'].rpartition('/')[2]}",
        outcomes_url=_outcomes(cloud),
        event_bus=default("EventBusName"),
        source=default("EventSource"),
        batch_size=source["BatchSize"],
    )


def take(sqs: Any, url: str) -> Iterator[str]:
    """The bodies of all messages in a queue, which is empty then."""
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            yield message["Body"]
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def _outcomes(cloud: Cloud) -> str:
    """Somebody who listens on the same bus to all but what goes to the function."""
    sqs, events, name = cloud.client("sqs"), cloud.client("events"), "outcomes"
    url: str = sqs.create_queue(QueueName=name)["QueueUrl"]
    pattern = {"source": [SOURCE], "detail-type": [{"anything-but": "EndConversation"}]}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern), EventBusName=default("EventBusName"))
    arn = f"arn:aws:sqs:{REGION}:123456789012:{name}"
    events.put_targets(Rule=name, EventBusName=default("EventBusName"), Targets=[{"Id": name, "Arn": arn}])
    return url
