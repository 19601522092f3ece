"""The function in this process, with stand-ins around it, and the invariants that hold for every input."""

import contextlib
import importlib
import io
import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TextIO

from local import samples, signing
from local.canaries import Canaries, without_told
from local.rie import HANDLER, SOURCE, SWEEP_HANDLER
from local.stand_ins import StandIns, stand_ins
from local.studio import API_KEY, Execution, Executions
from tests.fuzz.inputs import CANARY, CONTACTS, EXECUTIONS, FLOWS, FOREIGN_FLOW, UNKNOWN_FLOW
from tests.fuzz.model import ERRORS, Model

SECONDS = 5.0
"""What Lambda gives to an invocation. It has to be over by then, with Twilio and AWS at their best."""

PATIENCE = 3.0
"""Seconds that an invocation may take, however few it is given: far less than any wait that hangs."""

AGE_MINUTES = 60
"""How old the Executions are that may be ended."""

OUTCOMES = {"conversation_ended", "conversation_not_ended"}
"""The log lines of which there is one for each command."""

_PATH = re.compile(r"/v2/Flows/(FW[0-9a-fA-F]{32})/Executions(?:/FN[0-9a-fA-F]{32})?", re.ASCII)
_QUERY = {"status", "DateCreatedTo", "PageSize", "Page", "PageToken"}
_MAY_ASK = {*FLOWS, UNKNOWN_FLOW}


class Finding(AssertionError):
    """What may never happen has happened."""


def insist(holds: object, what: str) -> None:
    """Raise a Finding unless it holds."""
    if not holds:
        raise Finding(what)


class Told(NamedTuple):
    """What came of an invocation.

    Attributes:
        answer: what the function returned; None if it raised.
        error: what it raised.
        lines: what it wrote.
    """

    answer: Any
    error: Exception | None
    lines: list[dict[str, Any]]

    @property
    def code(self) -> str | None:
        """The code of the error."""
        return None if self.error is None else ERRORS[type(self.error).__name__]

    def count(self, *messages: str) -> int:
        """How many log lines have one of these messages."""
        return sum(line.get("message") in messages for line in self.lines)

    def sum(self, metric: str) -> float:
        """What a metric of the unit Count comes to."""
        return sum(sum(line[metric]) for line in self.lines if "_aws" in line and metric in line)


@dataclass
class World:
    """What there is besides the function.

    Attributes:
        around: Twilio and AWS.
        handler: the function's handler; may be another one, to see whether it is found out.
        sweep: the sweep's handler.
        survivors: Executions that nothing may end.
    """

    around: StandIns
    handler: Callable[[Any, Any], Any]
    sweep: Callable[[Any, Any], Any]
    survivors: list[Execution] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._secrets = Canaries()
        self._canaries = Canaries(CANARY)
        for canaries in (self._secrets, self._canaries):
            canaries.plant_credentials(*API_KEY)
            canaries.plant_key(signing.KEY)
        self._sqs = self.around.aws.sqs()
        self.model = Model((), (), ())

    def renew(self) -> None:
        """Have the same Executions as ever, and nothing that was asked."""
        studio = self.around.studio
        studio.clear_requests()
        studio.executions = executions = Executions()
        now = datetime.now(UTC)
        some_time_ago, tomorrow = now - timedelta(minutes=AGE_MINUTES), now + timedelta(days=1)
        executions.add(FLOWS[0], EXECUTIONS[0], contact=CONTACTS[0], date_created=some_time_ago)
        executions.add(FLOWS[0], EXECUTIONS[1], contact=CONTACTS[1], date_created=some_time_ago)
        executions.add(FLOWS[1], EXECUTIONS[2], contact=CONTACTS[0], date_created=some_time_ago)
        self.survivors = [
            executions.add(FLOWS[0], contact=CONTACTS[0], date_created=tomorrow),
            executions.add(FOREIGN_FLOW, EXECUTIONS[3], contact=CONTACTS[0], date_created=some_time_ago),
        ]
        self.model = Model(_MAY_ASK, (*FLOWS, FOREIGN_FLOW), executions.all())
        self.around.aws.calls.clear()

    def invoke(
        self,
        event: Any,
        handler: Callable[[Any, Any], Any],
        seconds: float = SECONDS,
    ) -> Told:
        """Let the function do its work, and see that it gives away nothing, and is done in time.

        Args:
            event: what it is invoked with.
            handler: its handler.
            seconds: what Lambda says that it has. A busy machine may take longer for what takes so little.
        """
        _visited.clear()
        answer: Any = None
        error: Exception | None = None
        began = time.monotonic()
        with _output.captured() as captured:
            try:
                answer = handler(event, _Context(seconds))
            except Exception as raised:  # noqa: BLE001 -- that is what is looked for
                error = raised
        took = time.monotonic() - began
        insist(took < max(seconds, PATIENCE), f"it took {took:.1f} s, and had {seconds:.1f}")
        insist(_visited <= {"127.0.0.1"}, "it went where nobody sent it")
        written = captured.getvalue().splitlines()
        insist(not any(map(self._secrets.find, written)), "a secret is in what a caller may choose")
        self.search(
            *map(without_told, written),
            json.dumps(answer, ensure_ascii=False),
            "".join(traceback.format_exception(error)) if error else "",
        )
        for message in self._taken(self.around.outcomes_queue_url):
            self.search(json.dumps(json.loads(message["Body"])["detail"] | {"conversation_id": None}))
        if error is not None and type(error).__name__ not in ERRORS:
            raise Finding("an error that nobody foresaw") from error
        try:
            lines = [json.loads(line) for line in written]
        except ValueError:
            raise Finding("a line of output that is no JSON") from None
        return Told(answer, error, lines)

    def dead_letters(self) -> list[tuple[str, str]]:
        """Take out what is in the dead-letter queue: bodies and codes."""
        return [
            (message["Body"], message["MessageAttributes"]["code"]["StringValue"])
            for message in self._taken(self.around.dead_letter_queue_url)
        ]

    def queued(self) -> list[Any]:
        """Take out what is to be carried out later."""
        return [json.loads(message["Body"]) for message in self._taken(self.around.queue_url)]

    def _taken(self, queue: str) -> list[Any]:
        messages: list[Any] = self._sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages", [])
        for message in messages:
            self._sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return messages

    def search(self, *texts: str) -> None:
        """See that no canary is in what came out."""
        for text in texts:
            insist(
                self._canaries.find(text) is None,
                "a canary is in the output, in an answer, or in an exception",
            )

    def ended(self) -> list[Execution]:
        """What is over."""
        return list(self.around.studio.executions.all("ended"))

    def look_at_what_ended(self, event: Any, told: Told) -> None:
        """See that only what a command is about was ended, and that it was counted."""
        commands = list(samples.commands(event))
        for execution in self.ended():
            insist(any(_is_about(each, execution) for each in commands), "what no command is about was ended")
        insist(told.sum("ExecutionsEnded") == len(self.ended()), "the metric is not what was ended")

    def look_at_twilio(self) -> None:
        """See that Twilio was asked for nothing but what is allowed, and that what must go on goes on."""
        for request in self.around.studio.requests:
            path = _PATH.fullmatch(request.path)
            insist(path and path[1] in _MAY_ASK, "Twilio was asked for what nobody may ask for")
            insist(request.query.keys() <= _QUERY, "Twilio was asked with a query that is none of ours")
            ends = request.method == "POST"
            insist(request.form == ({"Status": "ended"} if ends else {}), "Twilio was told something else")
            insist(request.method in {"GET", "POST"}, "Twilio was asked with another method")
        insist(all(one.status == "active" for one in self.survivors), "what had to go on was ended")


def _is_about(command: samples.Command, execution: Execution) -> bool:
    if command.flow_sid != execution.flow_sid:
        return False
    if command.execution_sid is not None:
        return command.execution_sid == execution.sid
    is_later = command.occurred_at is not None and command.occurred_at < execution.date_created
    return command.contact == execution.contact and not is_later


class _Output(io.TextIOBase):
    """Takes the place of sys.stdout and sys.stderr before the function keeps either, and can be captured."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = self._before = stream

    def write(self, text: str) -> int:
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    @contextlib.contextmanager
    def captured(self) -> Iterator[io.StringIO]:
        """Have all that is written meanwhile in a text, whichever library writes it."""
        self._stream = captured = io.StringIO()
        try:
            yield captured
        finally:
            self._stream = self._before


_output = _Output(sys.stderr)
_visited: set[str] = set()


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    """Note to what hosts connections go: an audit hook, which nothing in the process gets around."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        _visited.add(arguments[1][0])
    elif event == "socket.getaddrinfo":
        _visited.add(str(arguments[0]))


class _Context:
    """The part of Lambda's context that the function uses."""

    aws_request_id = "11111111-2222-3333-4444-555555555555"

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self._end - time.monotonic()) * 1000)


@contextlib.contextmanager
def world(handler: str | None = None, environment: Mapping[str, str] | None = None) -> Iterator[World]:
    """Everything around the function, which is imported once: a process has one world.

    Args:
        handler: dotted name of the function's handler, if it is another one.
        environment: more environment variables of the function, or other ones.
    """
    # What the stand-ins log is none of the function's output.
    for of_stand_ins in ("werkzeug", "moto"):
        logging.getLogger(of_stand_ins).propagate = False
    with stand_ins() as around:
        of_function = around.environment | {
            "ALLOWED_FLOW_SIDS": ",".join(sorted(_MAY_ASK)),
            "SWEEP_FLOW_SIDS": FLOWS[0],
            "TWILIO_ACCOUNT_SECRET_PREFIX": "",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            **(environment or {}),
        }
        os.environ |= of_function
        sys.path.append(str(SOURCE))
        sys.stdout = sys.stderr = _output
        handlers = _imported(handler or HANDLER), _imported(SWEEP_HANDLER)
        # The handler imports it with the first webhook, and atheris writes a line about each module.
        importlib.import_module("end_conversation.webhooks.verifier")
        yield World(around, *handlers)


def _imported(handler: str) -> Callable[[Any, Any], Any]:
    module, _, name = handler.rpartition(".")
    found: Callable[[Any, Any], Any] = getattr(importlib.import_module(module), name)
    return found


sys.addaudithook(_note)
