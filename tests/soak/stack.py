"""The rule and the queues of template.yaml in the stand-in for AWS, and Lambda around the function."""

import contextlib
import http.client
import json
import os
import random
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]  # it brings none

from local.aws import REGION, Aws
from local.rie import Emulated, Outcome
from local.stand_ins import StandIns
from local.studio import Studio
from tests.soak.report import Record
from tests.soak.workload import Case

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
DUPLICATES = 0.01
"""The share of messages that are delivered again although they are done: SQS delivers at least once."""


@dataclass(frozen=True)
class Pace:
    """How fast time runs, in seconds and deliveries: what takes hours in AWS is over in minutes.

    The template's function has a timeout of 30 seconds, its queue a visibility of 180 and 100 receives.

    Attributes:
        timeout, visibility, receives: of the function and its queue.
        phase: how long each thing goes wrong.
    """

    timeout: int = 5
    visibility: int = 12
    receives: int = 10
    phase: float = 5.0

    @property
    def outage(self) -> float:
        """How long Twilio is down: longer than one delivery takes, and shorter than all of them."""
        return 2.0 * self.visibility

    @property
    def patience(self) -> float:
        """How long it takes until the last message must be done or given up."""
        return 2.0 * self.visibility * (self.receives + 1) + 60


@cache
def template() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml_parse(TEMPLATE.read_text())
    return parsed


def default(parameter: str) -> Any:
    """A parameter's default in the template."""
    return template()["Parameters"][parameter]["Default"]


_DEPLOYED = ("Rule", "Queue", "DeadLetterQueue", "OnFailureQueue")


def deploy(studio: Studio, aws: Aws, pace: Pace) -> StandIns:
    """Make the rule and the queues as the template says, but for the pace; and a queue for outcome events."""
    content = deepcopy({name: template()[name] for name in ("Parameters", "Resources", "Outputs")})
    for part, kept in (("Resources", _DEPLOYED), ("Outputs", ("QueueUrl", "DeadLetterQueueUrl"))):
        content[part] = {name: content[part][name] for name in kept}
    properties = content["Resources"]["Queue"]["Properties"]
    properties["VisibilityTimeout"] = pace.visibility
    properties["RedrivePolicy"]["maxReceiveCount"] = pace.receives
    cloudformation, sqs, events = (aws.client(name) for name in ("cloudformation", "sqs", "events"))
    cloudformation.create_stack(StackName="soak", TemplateBody=json.dumps(content))
    (stack,) = cloudformation.describe_stacks(StackName="soak")["Stacks"]
    urls = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    bus = {"EventBusName": default("EventBusName")}
    pattern = {"source": ["end-conversation"], "detail-type": [{"anything-but": "EndConversation"}]}
    outcomes = sqs.create_queue(QueueName="outcomes")["QueueUrl"]
    events.put_rule(Name="outcomes", EventPattern=json.dumps(pattern), **bus)
    arn = f"arn:aws:sqs:{REGION}:123456789012:outcomes"
    events.put_targets(Rule="outcomes", Targets=[{"Id": "outcomes", "Arn": arn}], **bus)
    return StandIns(studio, aws, urls["QueueUrl"], urls["DeadLetterQueueUrl"], outcomes)


LOST = Outcome({"errorType": "Sandbox.Lost", "errorMessage": ""}, [])
"""Of an invocation whose process was lost."""


class Sandbox(Emulated):
    """A process of the function, to be killed at any moment."""

    busy = False

    def invoke(self, event: object) -> Outcome:
        """Send an event, and wait for the outcome; a lost process is an error."""
        self.busy = True
        try:
            return super().invoke(event)
        except (OSError, http.client.HTTPException):
            return LOST
        finally:
            self.busy = False

    def start(self) -> None:
        """Have the function imported, so that no message waits for it."""
        for _ in range(20):
            if Sandbox.invoke(self, {}).error == "InvalidRequest":
                break

    def kill(self) -> int:
        """Kill the function's process, which Lambda then replaces; returns how many there were."""
        killed = 0
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
                for pid in (thread / "children").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                    killed += 1
        return killed

    def emulator_log(self) -> str:
        """What the emulator itself wrote, and the function to its standard error."""
        return Path(f"/proc/{self._process.pid}/fd/2").read_text(errors="replace")


class Worker(Sandbox):
    """A process that works on the queue: records each batch, and forgets now and then that one is done."""

    record: Record
    draw: random.Random

    def invoke(self, event: Any) -> Outcome:
        """Invoke the function with a batch."""
        records = event["Records"]
        for one in records:
            is_first = one["attributes"]["ApproximateReceiveCount"] == "1"
            self.record.count("delivered" if is_first else "delivered again")
        outcome = super().invoke(event)
        self.record.watch(outcome)
        try:
            failed = {item["itemIdentifier"] for item in outcome.answer["batchItemFailures"]}
        except (KeyError, TypeError):
            self.record.count("batches without an answer")
            return LOST
        done = [one for one in records if one["messageId"] not in failed]
        self.record.done(one["body"] for one in done)
        failed |= {one["messageId"] for one in done if self.draw.random() < DUPLICATES}
        return Outcome({"batchItemFailures": [{"itemIdentifier": each} for each in sorted(failed)]}, [])


class AsyncInvocations:
    """Asynchronous invocations, one at a time: Lambda retries with the same payload.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
    """

    def __init__(self, sandbox: Sandbox, record: Record, pace: Pace) -> None:
        self._sandbox, self._record, self._pause = sandbox, record, pace.visibility / 10
        self._thread = ThreadPoolExecutor(1)
        self._sent: list[tuple[Case, Future[Any]]] = []

    def send(self, case: Case) -> None:
        self._sent.append((case, self._thread.submit(self._invoke, case)))

    def finish(self, seconds: float) -> None:
        """As an operator does when all is well again: invoke the function with the records of what failed."""
        failed = [(case, record) for case, sent in self._sent if (record := sent.result())]
        give_up = time.monotonic() + seconds
        for case, record in failed:
            self._record.count("failure records redriven")
            while not self._is_done(case, record) and time.monotonic() < give_up:
                time.sleep(self._pause)

    def _invoke(self, case: Case) -> dict[str, Any] | None:
        """Returns Lambda's record of the failure."""
        function = template()["Resources"]["EndConversationFunction"]["Properties"]
        event = {"detail-type": "EndConversation", "time": _now(), "detail": case.command}
        for attempt in range(1 + function["EventInvokeConfig"]["MaximumRetryAttempts"]):
            if attempt:
                self._record.count("asynchronous invocations retried")
                time.sleep(self._pause)
            if self._is_done(case, event):
                return None
        context = {"functionArn": "arn:aws:lambda:...", "condition": "RetriesExhausted"}
        return {"timestamp": _now(), "requestContext": context, "requestPayload": event}

    def _is_done(self, case: Case, event: Any) -> bool:
        outcome = self._sandbox.invoke(event)
        self._record.watch(outcome)
        if outcome.error is None:
            self._record.done([case.text])
        return outcome.error is None


def _now() -> str:
    return datetime.now(UTC).isoformat()
