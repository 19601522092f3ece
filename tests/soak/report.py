"""Whether every promise was kept: what was sent, compared with what became of it."""

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.tables import table
from tests.soak.faults import Phase
from tests.soak.record import Record, tags
from tests.soak.workload import Case, Workload

MAX_SHOWN = 5
"""Pieces of evidence that are shown for a broken promise."""

STUCK = "no success while the customer is still stuck"


@dataclass(frozen=True)
class End:
    """What there is when a soak is over.

    Attributes:
        dead_letters: the tag of each message in the dead-letter queue, or its text where it has none.
        unpublished: the requests of PutEvents that EventBridge refused.
        left: messages that are still in the queue.
        requests: how many requests Twilio got.
        foreign: those of them with another account's credentials than the Flow's.
        seconds: how long it took.
    """

    dead_letters: Sequence[str]
    unpublished: Sequence[str]
    left: int
    requests: int
    foreign: Sequence[str]
    seconds: float


class Report:
    """What came of a soak; `promises` has the evidence against each promise, none if it was kept."""

    def __init__(self, workload: Workload, record: Record, phases: Sequence[Phase], end: End) -> None:
        self._record, self._end, self._cases = record, end, workload.cases
        self._events: dict[str, list[dict[str, Any]]] = {}
        for event in record.events:
            self._events.setdefault(event["detail"].get("conversation_id", ""), []).append(event)
        dead, poison = (
            set(end.dead_letters),
            {one.tag for one in self._cases if one.outcome == "dead-lettered"},
        )
        wanted = {one.tag for one in self._cases if one.outcome in {"ended", "nothing", "dry run"}}
        self._refused = {tag for request in end.unpublished for tag in tags(request)}
        self._silent = {case.tag for case in self._cases if self._is_silent(case)}
        self._near = [case for case in self._cases if case.near]
        self.promises: dict[str, Sequence[str]] = {
            "nothing is lost: every command is done, or set aside": sorted(
                wanted - record.done_at.keys() | poison - dead
            ),
            STUCK: [case.tag for case in self._cases if self._is_stuck(case)],
            "nothing is ended that goes on": [
                one.sid for one in workload.survivors if one.status != "active"
            ],
            "no account's credentials are used for another account": end.foreign,
            "every command has its outcome event, where EventBridge accepts it": sorted(
                self._silent - self._refused
            ),
            "no outcome event is wrong": list(self._wrong_events()),
            "only what can never succeed is in the dead-letter queue": sorted(dead - poison),
            "the queue is empty in time": [f"{end.left} messages"] if end.left else [],
            "no credential, contact or payload is in any output": record.leaks,
            "everything that was to go wrong went wrong": [
                f"{phase.name}: no {phase.evidence}"
                for phase in phases
                if not record.happened[phase.evidence]
            ],
        }

    @property
    def broken(self) -> set[str]:
        """The promises that were not kept."""
        return {promise for promise, evidence in self.promises.items() if evidence}

    def __str__(self) -> str:
        """Everything counted and measured, and each promise."""
        record, end = self._record, self._end
        done, sent = record.done_at, record.sent_at
        seconds = [done[case.tag] - sent[case.tag] for case in self._cases if case.tag in done] or [0.0]
        cuts = statistics.quantiles([*seconds, seconds[0]], n=100, method="inclusive")
        rows: dict[str, Any] = {
            "commands": len(self._cases),
            "Executions ended": sum(one.status == "ended" for case in self._cases for one in case.targets),
            "lost": len(self.promises["nothing is lost: every command is done, or set aside"]),
            "wrongly ended": len(self.promises["nothing is ended that goes on"]),
            "successes with the customer still stuck": len(self.promises[STUCK]),
            "near misses": len(self._near),
            "near misses told as such": sum(self._is_near_told(case) for case in self._near),
            "dead-lettered": len(set(end.dead_letters)),
            "outcome events": len(record.events),
            "commands whose event EventBridge refused": len(self._silent & self._refused),
            "requests to Twilio per command": f"{end.requests / len(self._cases):.2f}",
            "seconds from sending to done: median, p99, longest": " ".join(
                f"{one:.1f}" for one in (cuts[49], cuts[98], max(seconds))
            ),
            "seconds in all": f"{end.seconds:.0f}",
            **{name: number for name, number in sorted(record.happened.items()) if number},
        }
        lines = [table(["", ""], [(name, str(value)) for name, value in rows.items()]), ""]
        for promise, evidence in self.promises.items():
            lines.append(f"BROKEN  {promise}: {len(evidence)}" if evidence else f"kept    {promise}")
            lines += [f"          {each}" for each in evidence[:MAX_SHOWN]]
        return "\n".join(lines)

    def _is_stuck(self, case: Case) -> bool:
        """Whether it is a success while the customer has an active Execution, and nothing says so."""
        is_success = case.tag in self._record.done_at and case.outcome != "dead-lettered"
        if case.near - {"later"}:
            return is_success and not self._is_near_told(case)
        return is_success and any(one.status == "active" for one in case.targets)

    def _is_near_told(self, case: Case) -> bool:
        return case.near <= self._record.near.get(case.tag, set())

    def _is_silent(self, case: Case) -> bool:
        """Whether no event has the outcome of a case that must have one; that of no command has no tag."""
        if case.event is None or case.code == "invalid_request":
            return False
        return not any(_is_right(event, case) for event in self._events.get(case.tag, ()))

    def _wrong_events(self) -> Iterator[str]:
        cases = {case.tag: case for case in self._cases}
        ended = {one.sid for case in self._cases for one in case.targets}
        ended |= {case.command.get("execution_sid", "") for case in self._cases if case.outcome == "ended"}
        for event in self._record.events:
            detail = event["detail"]
            case = cases.get(detail.get("conversation_id", ""))
            sids = {one["sid"] for one in detail.get("executions", ())}
            if (case and case.event is None) or not sids <= ended:
                yield json.dumps(event)
        invalid = sum(case.code == "invalid_request" for case in self._cases)
        told = sum(event["detail"].get("code") == "invalid_request" for event in self._events.get("", ()))
        if invalid > told + self._record.happened["metric OutcomesNotPublished"]:
            yield f"{invalid} invalid commands, {told} events"


def _is_right(event: dict[str, Any], case: Case) -> bool:
    """Whether an event has the outcome of a case."""
    detail, command = event["detail"], case.command
    if (event["detail-type"], detail.get("code")) != case.event:
        return False
    if any(detail.get(name) != command.get(name) for name in ("flow_sid", "account_sid")):
        return False
    sids, sid = {one["sid"] for one in detail.get("executions", ())}, command.get("execution_sid")
    if case.code is not None or sid is not None:
        return case.code is not None or sids == {sid}
    return case.outcome == "ended" or (not sids and case.near <= set(detail.get("near", ())))
