"""AWS on this machine, with the rule and the queues of template.yaml, whose services fail one by one."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]  # it brings none

from local.aws import REGION, Aws
from tests.soak.pace import Pace

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
STACK = "end-conversation"

_DEPLOYED = ("AWS::Events::Rule", "AWS::SQS::Queue")


class Cloud(Aws):
    """The stand-in for AWS; each of these may be changed at any time.

    Attributes:
        secrets_down: whether Secrets Manager answers 503 to the function.
        secrets_delay: seconds that it takes over every answer to the function.
        dead_letters_down: whether the function's own messages to the dead-letter queue are answered with 503.
        happened: how often what of this happened.
    """

    def __init__(self) -> None:
        super().__init__()
        self.secrets_down = False
        self.secrets_delay = 0.0
        self.dead_letters_down = False
        self.happened: Counter[str] = Counter()
        self._one_by_one = threading.Lock()

    def client(self, service: str) -> Any:
        """A client for any service."""
        return boto3.client(
            service,  # type: ignore[call-overload]
            **self._here,
            config=Config(retries={"mode": "standard"}),
        )

    def _answer(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        # Sending a single message, or reading a secret, is what the function does, and nobody else here.
        happens = None
        match environ.get("HTTP_X_AMZ_TARGET"):
            case "secretsmanager.GetSecretValue":
                if self.secrets_delay:
                    time.sleep(self.secrets_delay)
                    happens = "Secrets Manager: slow"
                if self.secrets_down:
                    happens = "Secrets Manager: refused"
            case "AmazonSQS.SendMessage" if self.dead_letters_down:
                happens = "SQS: refused"
        # moto's queues lose a message that comes while another is deleted.
        with self._one_by_one:
            if happens:
                self.happened[happens] += 1
                if happens.endswith("refused"):
                    start_response("503 Service Unavailable", [("Content-Length", "0")])
                    return []
            return list(super()._answer(environ, start_response))


@dataclass(frozen=True)
class Stack:
    """What template.yaml wires between a caller and the function.

    Attributes:
        queue_url: the queue that the rule feeds.
        dead_letter_queue_url: where SQS and the function put what they give up.
        queue_arn: what the function's events say they come from.
        event_bus: where events go.
        source: the source of the events that the rule takes.
        batch_size: messages that one invocation gets at the most.
    """

    queue_url: str
    dead_letter_queue_url: str
    queue_arn: str
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
        event_bus=default("EventBusName"),
        source=default("EventSource"),
        batch_size=source["BatchSize"],
    )
