"""Finds and ends stuck Executions: those of some Flows that are older than a given age."""

from __future__ import annotations

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from end_conversation.deadline import Deadline
from end_conversation.errors import (
    ConfigurationError,
    EndConversationError,
    ExecutionNotFound,
    FieldError,
    InternalError,
    InvalidRequest,
    TwilioThrottled,
    severity,
)
from end_conversation.observability import count, logger
from end_conversation.schema import compiled
from end_conversation.twilio.account import TRY_TIMEOUT
from end_conversation.twilio.active import ActiveExecution, Flow, Item, Window, list_active
from end_conversation.twilio.studio import end

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from end_conversation.invocation import Invocation
    from end_conversation.twilio.account import Retries

CONCURRENCY = 20
"""Executions that are ended concurrently, unless Twilio throttles."""

SUBMITTED = 1000
"""Executions that are submitted to the threads together: each costs 1.5 kB while it waits."""

DEFAULT_MINUTES = "1440"

OLDEST = 10
"""Executions of each Flow that a dry run lists."""

MAX_OLDEST_IN_EVENT = 1000
"""Of all Flows together, in an outcome event: 90 bytes each, and 256 KB for all."""

_check = compiled(json.loads(Path(__file__).with_name("sweep.schema.json").read_bytes()))


@dataclass(frozen=True, slots=True)
class Sweep:
    """What to sweep.

    Attributes:
        flow_sids: the Flows, each once.
        older_than: the age from which an Execution counts as stuck.
        account_sid: the Twilio account of all the Flows; None: the default one.
        limit: how many Executions to end at most; None: all.
        dry_run: only count.
    """

    flow_sids: tuple[str, ...]
    older_than: timedelta
    account_sid: str | None = None
    limit: int | None = None
    dry_run: bool = False

    @classmethod
    def parse(cls, event: object, environ: Mapping[str, str] = os.environ) -> Sweep:
        """Validate the function's input; the environment has the defaults.

        Raises:
            InvalidRequest: the input is invalid, or neither it nor the environment names a Flow.
            ConfigurationError: the environment is invalid.
        """
        given = _check({} if _is_default_payload(event) else event)
        default = _defaults(environ)
        flow_sids = given["flow_sids"] or default["flow_sids"]
        if not flow_sids:
            raise InvalidRequest.of_fields(FieldError("flow_sids", "is required: SWEEP_FLOW_SIDS is empty"))
        minutes = given["older_than_minutes"]
        return cls(
            flow_sids=tuple({sid.casefold(): sid for sid in flow_sids}.values()),
            older_than=timedelta(minutes=default["older_than_minutes"] if minutes is None else minutes),
            account_sid=given["account_sid"],
            limit=given["limit"] and int(given["limit"]),
            dry_run=bool(given["dry_run"]),
        )


class Stuck(NamedTuple):
    """An Execution to end."""

    flow_sid: str
    sid: str


class Sweeper:
    """One sweep: lists first and ends afterwards, so that the oldest of a Flow come first.

    Raises:
        EndConversationError: this deployment does not serve the Flows or the account.
    """

    def __init__(self, sweep: Sweep, invocation: Invocation) -> None:
        service = invocation.service
        for flow_sid in sweep.flow_sids:
            service.check_allowed(flow_sid)
        self._sweep = sweep
        self._invocation = invocation
        self._account = service.accounts.get(sweep.account_sid, invocation.deadline)
        self._found: dict[str, list[str]] = {}
        self._oldest: dict[str, list[ActiveExecution]] = {}
        self._unlisted: dict[str, EndConversationError] = {}
        self._tally: Counter[tuple[str, str]] = Counter()
        # Start nothing that cannot finish: reserve the time of one try, or a quarter of the time left.
        left = invocation.deadline.remaining()
        self._stop = Deadline(left - min(TRY_TIMEOUT, left / 4))

    def run(self) -> dict[str, Any]:
        """Sweep.

        Returns:
            What was found and ended in each Flow.

        Raises:
            EndConversationError: no Flow could be listed, and nothing was found.
        """
        # Listing may take half of the time; the rest is for ending what was found.
        half_time = Deadline(self._stop.remaining() / 2)
        until = datetime.now(UTC) - self._sweep.older_than
        for flow_sid in self._sweep.flow_sids:
            self._list(flow_sid, until, half_time)
        stuck = [Stuck(flow_sid, sid) for flow_sid, sids in self._found.items() for sid in sids]
        if not stuck and len(self._unlisted) == len(self._sweep.flow_sids):
            raise max(self._unlisted.values(), key=severity)
        for flow_sid, error in self._unlisted.items():
            self._invocation.report(error, self._fields(flow_sid))
        if not self._sweep.dry_run:
            count("StuckExecutions", len(stuck))
            self._end(stuck[: self._sweep.limit])
        ended = sum(number for (_, outcome), number in self._tally.items() if outcome == "ended")
        everything = self._sweep.dry_run or ended == len(stuck)
        return self._result(complete=everything and not self._unlisted)

    def _list(self, flow_sid: str, until: datetime, deadline: Deadline) -> None:
        found: dict[str, int] = {}
        until_second = int(until.timestamp())

        def take(items: Iterable[Item]) -> None:
            found.update({one.sid: one.created for one in items if one.created <= until_second})

        try:
            window = Window(None, until_second + 1)
            list_active(Flow(self._account, flow_sid), window, take, deadline, [])
        except EndConversationError as error:
            self._unlisted[flow_sid] = error
        except Exception as defect:  # noqa: BLE001 - a defect costs this Flow only; its text may contain anything
            self._unlisted[flow_sid] = InternalError.of(defect)
        # What was found before a failure is kept.
        self._found[flow_sid] = sids = sorted(found, key=found.__getitem__)
        self._oldest[flow_sid] = [ActiveExecution(sid, found[sid]) for sid in sids[:OLDEST]]

    def _end(self, pending: list[Stuck]) -> None:
        with ThreadPoolExecutor(CONCURRENCY) as threads:
            for begin in range(0, len(pending), SUBMITTED):
                some = pending[begin : begin + SUBMITTED]
                for one, outcome in zip(some, threads.map(self._end_one, some), strict=True):
                    self._tally[one.flow_sid, outcome] += 1

    def _end_one(self, one: Stuck) -> Literal["ended", "failed", "left"]:
        """The outcome; `left` is for the next run."""
        if not self._stop.remaining():
            return "left"
        retries: Retries = []
        try:
            ended = end(self._account, one.flow_sid, one.sid, self._invocation.deadline, retries)
        except ExecutionNotFound:
            # An Execution that no longer exists counts as ended.
            return "ended"
        except EndConversationError as error:
            if isinstance(error, TwilioThrottled):
                # Twilio would throttle every other request, too.
                self._stop = Deadline(0)
            self._invocation.report(error, self._fields(*one, retries=retries))
            return "failed"
        except Exception as defect:  # noqa: BLE001 - a defect costs this Execution only, as above
            self._invocation.report(InternalError.of(defect), self._fields(*one, retries=retries))
            return "failed"
        count("ExecutionsAlreadyEnded" if ended.already_ended else "ExecutionsEnded")
        self._log("execution_ended", self._fields(*one, retries=retries))
        return "ended"

    def _result(self, *, complete: bool) -> dict[str, Any]:
        flows = []
        for flow_sid, sids in self._found.items():
            flow: dict[str, Any] = {
                "flow_sid": flow_sid,
                "stuck": len(sids),
                "ended": self._tally[flow_sid, "ended"],
                "failed": self._tally[flow_sid, "failed"],
            }
            if error := self._unlisted.get(flow_sid):
                flow["error"] = error.code
            self._log("flow_swept", self._fields(**flow, dry_run=self._sweep.dry_run))
            if self._sweep.dry_run:
                flow["oldest"] = [
                    {"sid": one.sid, "date_created": one.date_created} for one in self._oldest[flow_sid]
                ]
            flows.append(flow)
        account = {"account_sid": self._sweep.account_sid} if self._sweep.account_sid else {}
        return {"dry_run": self._sweep.dry_run, "complete": complete, **account, "flows": flows}

    def _fields(self, flow_sid: str, execution_sid: str | None = None, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        own = {"account_sid": self._sweep.account_sid, "flow_sid": flow_sid, "execution_sid": execution_sid}
        return own | more

    def _log(self, message: str, fields: dict[str, Any]) -> None:
        logger.info(message, extra=self._invocation.log_fields(fields))


def event_detail(result: dict[str, Any]) -> dict[str, Any]:
    """The result as the detail of an outcome event, limited in size."""
    listed = MAX_OLDEST_IN_EVENT // len(result["flows"])
    flows = [
        flow | {"oldest": flow["oldest"][:listed]} if "oldest" in flow else flow for flow in result["flows"]
    ]
    return result | {"flows": flows}


def _is_default_payload(event: object) -> bool:
    """Whether this is the payload of an EventBridge or Scheduler schedule without an input.

    https://docs.aws.amazon.com/scheduler/latest/APIReference/API_Target.html
    """
    match event:
        case {"source": "aws.events" | "aws.scheduler", "detail-type": "Scheduled Event"}:
            return True
    return False


def _defaults(environ: Mapping[str, str]) -> dict[str, Any]:
    entries = [entry.strip() for entry in environ.get("SWEEP_FLOW_SIDS", "").split(",")]
    minutes = environ.get("SWEEP_OLDER_THAN_MINUTES") or DEFAULT_MINUTES
    defaults = {
        "flow_sids": [entry for entry in entries if entry] or None,
        "older_than_minutes": int(minutes) if minutes.isdecimal() and minutes.isascii() else minutes,
    }
    try:
        return _check(defaults)
    except InvalidRequest as refusal:
        fields = dict.fromkeys(error.field.partition(".")[0] for error in refusal.errors)
        names = " and ".join(f"SWEEP_{field.upper()}" for field in fields)
        raise ConfigurationError(f"{names} is invalid") from None
