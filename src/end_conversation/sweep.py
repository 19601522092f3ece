"""The Lambda handler that ends the Executions which nobody ended, by schedule or on demand."""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from end_conversation.deadline import ANSWER_MARGIN, Deadline
from end_conversation.errors import (
    ConfigurationError,
    EndConversationError,
    ExecutionNotFound,
    FieldError,
    InternalError,
    InvalidRequest,
    TwilioThrottled,
)
from end_conversation.invocation import Invocation
from end_conversation.observability import count, logger, metrics_of
from end_conversation.once import Once
from end_conversation.schema import compiled
from end_conversation.service import Service, badness
from end_conversation.twilio.studio import TRY_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_lambda_powertools.utilities.typing import LambdaContext

CONCURRENCY = 20
"""Executions that are ended at once, while Twilio throttles none of them."""

DEFAULT_MINUTES = "1440"

_check = compiled(json.loads(Path(__file__).with_name("sweep.schema.json").read_bytes()))


@dataclass(frozen=True, slots=True)
class Sweep:
    """What to sweep.

    Attributes:
        flow_sids: the Flows, each once.
        older_than: the age from which on an Execution is stuck.
        limit: how many Executions to end at the most; None is all.
        dry_run: whether to count only.
    """

    flow_sids: tuple[str, ...]
    older_than: timedelta
    limit: int | None = None
    dry_run: bool = False

    @classmethod
    def parse(cls, event: object, environ: Mapping[str, str] = os.environ) -> Sweep:
        """Check the function's input, and take what it lacks from the environment.

        Raises:
            InvalidRequest: the input is wrong, or names no Flow and neither does the environment.
            ConfigurationError: the environment is wrong.
        """
        given = _check(event)
        default = _defaults(environ)
        flow_sids = given["flow_sids"] or default["flow_sids"]
        if not flow_sids:
            raise InvalidRequest.of_fields(FieldError("flow_sids", "is required: SWEEP_FLOW_SIDS is empty"))
        minutes = given["older_than_minutes"]
        return cls(
            flow_sids=tuple(dict.fromkeys(flow_sids)),
            older_than=timedelta(minutes=default["older_than_minutes"] if minutes is None else minutes),
            limit=given["limit"] and int(given["limit"]),
            dry_run=bool(given["dry_run"]),
        )


class Stuck(NamedTuple):
    """An Execution to end."""

    flow_sid: str
    sid: str


def handler(event: Any, context: LambdaContext) -> dict[str, Any]:  # noqa: ANN401 - a caller may send anything
    """End what is stuck in some Flows, oldest first.

    Returns:
        What was found and ended in each Flow; README.md has its table.

    Raises:
        InvalidRequest: before anything is done, as is FlowNotAllowed.
        EndConversationError: no Flow could be listed to its end.
    """
    seconds = context.get_remaining_time_in_millis() / 1000 - ANSWER_MARGIN
    invocation = Invocation("sweep", context.aws_request_id, Deadline(seconds), _service)
    with metrics_of("sweep"), invocation.reporting({}, "sweep_failed"):
        sweep = Sweep.parse(event)
        service = invocation.service()
        for flow_sid in sweep.flow_sids:
            service.check_allowed(flow_sid)
        return _Run(sweep, service, invocation).run()


class _Run:
    """One sweep: first everything is listed, since ending shifts the pages, then it is ended."""

    def __init__(self, sweep: Sweep, service: Service, invocation: Invocation) -> None:
        self._sweep = sweep
        self._service = service
        self._invocation = invocation
        self._found: dict[str, dict[str, None]] = {}
        self._unlisted: dict[str, EndConversationError] = {}
        self._throttled: dict[Stuck, TwilioThrottled] = {}
        # Nothing is begun that could not be finished: a last try has its time, or a quarter of all there is.
        left = invocation.deadline.remaining()
        self._stop = Deadline(left - min(TRY_TIMEOUT, left / 4))

    def run(self) -> dict[str, Any]:
        # A list that is too long leaves half of the time to end what was found of it.
        half_time = Deadline(self._stop.remaining() / 2)
        until = datetime.now(UTC) - self._sweep.older_than
        for flow_sid in self._sweep.flow_sids:
            self._list(flow_sid, until, half_time)
        stuck = [Stuck(flow_sid, sid) for flow_sid, sids in self._found.items() for sid in reversed(sids)]
        count("StuckExecutions", len(stuck))
        pending = deque(() if self._sweep.dry_run else stuck[: self._sweep.limit])
        tally = self._end(pending)
        for one, throttled in self._throttled.items():
            self._fail(one, throttled, tally)
        if not stuck and len(self._unlisted) == len(self._sweep.flow_sids):
            raise min(self._unlisted.values(), key=badness)
        for flow_sid, error in self._unlisted.items():
            self._invocation.report(error, {"flow_sid": flow_sid})
        ended = sum(number for (_, outcome), number in tally.items() if outcome == "ended")
        everything = self._sweep.dry_run or ended == len(stuck)
        return self._result(tally, complete=everything and not self._unlisted)

    def _list(self, flow_sid: str, until: datetime, deadline: Deadline) -> None:
        found = self._found[flow_sid] = {}
        try:
            # What was found before a failure is kept.
            found.update((one.sid, None) for one in self._service.studio.active(flow_sid, until, deadline))
        except EndConversationError as error:
            self._unlisted[flow_sid] = error
        except Exception as defect:  # noqa: BLE001 - costs this Flow only, untold
            self._unlisted[flow_sid] = InternalError(f"unforeseen {type(defect).__name__}")

    def _end(self, pending: deque[Stuck]) -> Counter[tuple[str, str]]:
        """Work through what is pending; what is left of it there was no time for."""
        tallies = [Counter[tuple[str, str]]() for _ in range(min(CONCURRENCY, len(pending)))]
        threads = [Thread(target=self._work, args=(pending, tally)) for tally in tallies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(tallies, Counter())

    def _work(self, pending: deque[Stuck], tally: Counter[tuple[str, str]]) -> None:
        while self._stop.remaining():
            try:
                one = pending.popleft()
            except IndexError:
                return
            try:
                ended = self._service.studio.end(one.flow_sid, one.sid, self._invocation.deadline)
            except ExecutionNotFound:
                # Gone is as good as ended.
                tally[one.flow_sid, "ended"] += 1
            except TwilioThrottled as error:
                self._throttled[one] = error
                pending.append(one)
                time.sleep(min(error.retry_after or 1, self._stop.remaining()))
                continue
            except EndConversationError as error:
                self._fail(one, error, tally)
            except Exception as defect:  # noqa: BLE001 - costs this one only, untold
                self._fail(one, InternalError(f"unforeseen {type(defect).__name__}"), tally)
            else:
                tally[one.flow_sid, "ended"] += 1
                count("ExecutionsAlreadyEnded" if ended.already_ended else "ExecutionsEnded")
                self._log("execution_ended", {"flow_sid": one.flow_sid, "execution_sid": one.sid})
            self._throttled.pop(one, None)

    def _fail(self, one: Stuck, error: EndConversationError, tally: Counter[tuple[str, str]]) -> None:
        tally[one.flow_sid, "failed"] += 1
        self._invocation.report(error, {"flow_sid": one.flow_sid, "execution_sid": one.sid})

    def _log(self, message: str, keys: dict[str, Any]) -> None:
        logger.info(message, extra=self._invocation.named(keys))

    def _result(self, tally: Counter[tuple[str, str]], *, complete: bool) -> dict[str, Any]:
        flows = []
        for flow_sid, sids in self._found.items():
            flow: dict[str, Any] = {
                "flow_sid": flow_sid,
                "stuck": len(sids),
                "ended": tally[flow_sid, "ended"],
                "failed": tally[flow_sid, "failed"],
            }
            if error := self._unlisted.get(flow_sid):
                flow["error"] = error.code
            self._log("flow_swept", flow | {"dry_run": self._sweep.dry_run})
            flows.append(flow)
        return {"dry_run": self._sweep.dry_run, "complete": complete, "flows": flows}


def _defaults(environ: Mapping[str, str]) -> dict[str, Any]:
    entries = [entry.strip() for entry in environ.get("SWEEP_FLOW_SIDS", "").split(",")]
    minutes = environ.get("SWEEP_OLDER_THAN_MINUTES") or DEFAULT_MINUTES
    defaults = {
        "flow_sids": [entry for entry in entries if entry] or None,
        "older_than_minutes": int(minutes) if minutes.isdecimal() and minutes.isascii() else minutes,
    }
    try:
        checked = _check(defaults)
    except InvalidRequest as refusal:
        fields = dict.fromkeys(error.field.partition(".")[0] for error in refusal.errors)
        names = " and ".join(f"SWEEP_{field.upper()}" for field in fields)
        raise ConfigurationError(f"{names} cannot be meant") from None
    return checked


_service = Once(partial(Service.from_environment, CONCURRENCY))
