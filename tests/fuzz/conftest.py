"""The function with stand-ins around it, and the invariants that hold for every input."""

import json
import os
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, NamedTuple

import pytest
from conftest import EventBridge, Function, Sqs
from hypothesis import HealthCheck, event, given, settings
from hypothesis.strategies import SearchStrategy

from end_conversation import app, errors, sweep
from fuzz.inputs import CANARY, CLIENT, EXECUTIONS, FLOWS, FOREIGN_FLOW, PHONE, UNKNOWN_FLOW
from fuzz.model import Expected, Times, expected
from local.aws import Aws
from local.studio import Executions, Studio

settings.register_profile(
    "fuzz", settings.get_profile("tests"), max_examples=int(os.environ.get("INPUTS") or 2000)
)


def fuzz(*inputs: SearchStrategy[Any]) -> Callable[[Any], Any]:
    """Run a test with many inputs; it resets the world for each."""
    return lambda test: settings(suppress_health_check=list(HealthCheck))(given(*inputs)(test))


SECRET_ID = "end-conversation/webhooks"
AGE = timedelta(hours=1)
"""Of the Executions that may be ended."""

SECONDS, PATIENCE = 20.0, 40.0
"""An invocation's time in Lambda, and its limit here on a busy machine; one that hangs takes longer."""

_PATH = re.compile(r"/v2/Flows/(FW[0-9a-fA-F]{32})/Executions(/FN[0-9a-fA-F]{32})?", re.ASCII)
_QUERY = {"status", "DateCreatedFrom", "DateCreatedTo", "PageSize", "Page", "PageToken"}


class Result(NamedTuple):
    """What the function returned, or the code of what it raised."""

    answer: Any
    code: str | None

    @property
    def is_response(self) -> bool:
        return isinstance(self.answer, dict) and "statusCode" in self.answer

    @property
    def status(self) -> int:
        return int(self.answer["statusCode"])

    @property
    def body(self) -> Any:
        return json.loads(self.answer["body"] or "{}")


@dataclass
class World:
    """Everything around the function.

    Attributes:
        handler: what is invoked.
        active: the Executions that may be ended.
    """

    function: Function
    studio: Studio
    aws: Aws
    handler: Callable[[Any, Any], Any] = app.handler
    active: frozenset[str] = frozenset()

    def renew(self) -> None:
        """The same Executions as ever, and a process that has seen none of them."""
        app._service.cache_clear()
        sweep._service.cache_clear()
        self.studio.clear_requests()
        self.studio.executions = executions = Executions()
        now = datetime.now(UTC)
        for flow_sid, sid, contact, status in (
            (FLOWS[0], EXECUTIONS[0], CLIENT, "active"),
            (FLOWS[0], EXECUTIONS[1], PHONE, "active"),
            (FLOWS[1], EXECUTIONS[2], CLIENT, "active"),
            (FLOWS[1], EXECUTIONS[3], PHONE, "ended"),
        ):
            executions.add(flow_sid, sid, contact=contact, status=status, date_created=now - AGE)
        self._survivors = [
            executions.add(FLOWS[0], contact=CLIENT, date_created=now + timedelta(days=1)),
            executions.add(FOREIGN_FLOW, contact=CLIENT, date_created=now - AGE),
        ]
        self.active = frozenset(one.sid for one in executions.all("active"))
        self.aws.calls.clear()

    def expected(self, payload: Any, times: Times = ()) -> Expected:
        """The right outcome of a command; ask before it is sent."""
        return expected(payload, self.studio.executions.all(), times)

    @property
    def ended(self) -> frozenset[str]:
        """The Executions that have been ended."""
        return self.active - {one.sid for one in self.studio.executions.all("active")}

    @property
    def queued(self) -> list[Any]:
        """The commands that are in the queue."""
        return [json.loads(one["MessageBody"]) for one in self._messages("commands")]

    @property
    def dead_letters(self) -> list[tuple[str, str]]:
        """Bodies and codes of the messages in the dead-letter queue."""
        return [
            (one["MessageBody"], one["MessageAttributes"]["code"]["StringValue"])
            for one in self._messages("dead-letters")
        ]

    @property
    def published(self) -> list[Any]:
        """The requests to publish outcome events."""
        return [call.request for call in self.aws.calls if call.operation == "PutEvents"]

    def _messages(self, queue: str) -> list[Any]:
        calls = (call for call in self.aws.calls if call.operation == "SendMessage" and call.answer)
        return [call.request for call in calls if call.request["QueueUrl"].endswith(queue)]

    def invoke(self, given: Any, seconds: float = SECONDS) -> Result:
        """Invoke the function, and check the invariants that hold for any input."""
        self.function.handler = self.handler
        began = time.monotonic()
        answer: Any = None
        failure: Exception | None = None
        try:
            answer = self.function(given, seconds)
        except errors.EndConversationError as error:
            failure = error
        assert time.monotonic() - began < PATIENCE
        raised = "".join(traceback.format_exception(failure)) if failure else ""
        for text in (self.function.output, json.dumps(answer), raised, json.dumps(self.published)):
            assert CANARY not in text, "personal data in the output"
        assert not isinstance(failure, errors.InternalError), self.function.output
        for request in self.studio.requests:
            path = _PATH.fullmatch(request.path)
            assert path, "another path"
            assert path[1] in {*FLOWS, UNKNOWN_FLOW}, "a Flow that is not allowed"
            assert request.query.keys() <= _QUERY
            assert request.method in {"GET", "POST"}
            assert request.form == ({"Status": "ended"} if request.method == "POST" else {})
        assert not self.ended & {one.sid for one in self._survivors}, "ended something that goes on"
        result = Result(answer, failure.code if failure else None)
        # For hypothesis's statistics.
        event(f"{result.status} {result.body.get('code')}" if result.is_response else str(result.code))
        return result

    def check(self, result: Result, want: Expected) -> None:
        """Check the outcome of one command: in a response, returned or raised, or in the queue."""
        if result.is_response:
            if result.status == HTTPStatus.ACCEPTED:
                assert [self.expected(command) for command in self.queued] == [want]
                assert not self.ended
                return
            result = Result(result.body, result.body.get("code"))
        assert result.code == want.code
        if want.code is None:
            statuses = {one["sid"]: one["status"] for one in result.answer["executions"]}
            assert statuses == {
                one.sid: one.status for one in self.studio.executions.all() if one.sid in want.sids
            }
            assert want.dry_run == result.answer.get("dry_run", False)
            assert want.near in {None, frozenset(result.answer.get("near", ()))}
            assert self.function.metrics.get("ExecutionsEnded", 0) == len(self.ended)
        assert self.ended == (frozenset() if want.dry_run else want.sids & self.active)


@pytest.fixture
def world(environment: pytest.MonkeyPatch, function: Function, studio: Studio, moto: Aws) -> World:
    """The function with every setting."""
    queue, dead_letters = Sqs(moto, "commands"), Sqs(moto, "dead-letters")
    EventBridge(moto, "outcomes")
    for name, value in {
        "ALLOWED_FLOW_SIDS": ",".join((*FLOWS, UNKNOWN_FLOW)),
        "SWEEP_FLOW_SIDS": FLOWS[0],
        "WEBHOOK_SECRET_ID": SECRET_ID,
        "AWS_ENDPOINT_URL": moto.url,
        "QUEUE_URL": queue.url,
        "DEAD_LETTER_QUEUE_URL": dead_letters.url,
        "OUTCOME_EVENT_BUS": "outcomes",
    }.items():
        environment.setenv(name, value)
    return World(function, studio, moto)
