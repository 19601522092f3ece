"""Whether every promise was kept: what was sent, compared with what became of it."""

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.tables import table
from tests.soak.faults import Phase
from tests.soak.record import Record, tags
from tests.soak.workload import Case, Outcome, Workload

MAX_SHOWN = 5
"""How many of those that broke a promise are shown."""

_NO_COMMAND = "invalid_request"


@dataclass(frozen=True)
class End:
    """What there is when a soak is over.

    Attributes:
        dead_letters: the tag of each message in the dead-letter queue, or its text where it has none.
        unpublished: the bodies of the calls of PutEvents that EventBridge refused.
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


@dataclass(frozen=True)
class Promise:
    """What must hold, and the evidence against it."""

    text: str
    broken_by: Sequence[str] = ()

    def __str__(self) -> str:
        if not self.broken_by:
            return f"kept    {self.text}"
        shown = "".join(f"\n          {evidence}" for evidence in self.broken_by[:MAX_SHOWN])
        return f"BROKEN  {self.text}: {len(self.broken_by)}{shown}"


class Report:
    """What came of a soak.

    Attributes:
        lost: cases that are neither done nor set aside.
        stuck: cases that count as a success while their customer is stuck, and nothing says so.
    """

    def __init__(self, workload: Workload, record: Record, phases: Sequence[Phase], end: End) -> None:
        self._workload = workload
        self._record = record
        self._phases = phases
        self._end = end
        self._events: dict[str, list[dict[str, Any]]] = {}
        for event in record.events:
            self._events.setdefault(event["detail"].get("conversation_id", ""), []).append(event)
        unpublished = {tag for body in end.unpublished for tag in tags(body)}
        silent = [case for case in workload.cases if self._is_silent(case)]
        self.unpublished = [case.tag for case in silent if case.tag in unpublished]
        self.unreported = [case.tag for case in silent if case.tag not in unpublished]
        poison = {case.tag for case in self._of("dead-lettered")}
        self.wrongly_dead_lettered = sorted(set(end.dead_letters) - poison)
        self.stuck = [case.tag for case in workload.cases if self._is_stuck(case)]
        successes = (case for case in workload.cases if case.outcome in {"ended", "nothing", "dry run"})
        self.lost = [case.tag for case in successes if case.tag not in record.done_at]
        self.lost += sorted(poison - set(end.dead_letters))
        self.wrongly_ended = [one.sid for one in workload.survivors if one.status != "active"]

    @property
    def is_good(self) -> bool:
        """Whether all promises were kept."""
        return not any(promise.broken_by for promise in self.promises())

    def promises(self) -> Iterator[Promise]:
        """Everything that must hold."""
        yield Promise("nothing is lost: every command is done, or set aside", self.lost)
        yield Promise("no success while the customer is still stuck", self.stuck)
        yield Promise("nothing is ended that goes on", self.wrongly_ended)
        yield Promise("no account's credentials are used for another account", self._end.foreign)
        yield Promise("every command has its outcome event, where EventBridge accepts it", self.unreported)
        yield Promise("no outcome event is wrong", list(self._wrong_events()))
        yield Promise("only what can never succeed is in the dead-letter queue", self.wrongly_dead_lettered)
        yield Promise("the queue is empty in time", [f"{self._end.left} messages"] if self._end.left else ())
        yield Promise("no credential, contact or payload is in any output", self._record.leaks)
        yield Promise(
            "everything that was to go wrong went wrong",
            [
                f"{phase.name}: no {evidence}"
                for phase in self._phases
                for evidence in phase.evidence
                if not self._record.happened[evidence]
            ],
        )

    def tables(self) -> str:
        """Everything counted and measured."""
        counts = Counter(self._record.happened)
        counts.update({f"metric {name}": number for name, number in self._record.metrics.items()})
        happened = table(["event", "times"], [[name, f"{counts[name]:,}"] for name in sorted(counts)])
        return f"{self._totals()}\n\n{happened}"

    def _totals(self) -> str:
        record, end, cases = self._record, self._end, self._workload.cases
        near = [case for case in cases if case.near]
        numbers = {
            "commands": len(cases),
            "sent, some of them twice": len(record.sent_at) + record.happened["sent twice"],
            "delivered by the queue": record.happened["delivered"] + record.happened["delivered again"],
            "Executions ended": sum(one.status == "ended" for case in cases for one in case.targets),
            "found already ended": record.metrics["ExecutionsAlreadyEnded"],
            "lost": len(self.lost),
            "successes with the customer still stuck": len(self.stuck),
            "wrongly ended": len(self.wrongly_ended),
            "Executions that had to survive": len(self._workload.survivors),
            "near misses": len(near),
            "near misses told as such": sum(self._is_near_told(case) for case in near),
            "dead-lettered": len(set(end.dead_letters)),
            "dead-lettered wrongly": len(self.wrongly_dead_lettered),
            "outcome events": len(record.events),
            "commands whose event EventBridge refused": len(self.unpublished),
            "commands without an event": len(self.unreported),
            "leaks": len(record.leaks),
        }
        rows = [(name, f"{number:,}") for name, number in numbers.items()]
        rows.append(("requests to Twilio per command", f"{end.requests / len(cases):.2f}"))
        rows += [(f"seconds from sending to done, {name}", f"{s:.2f}") for name, s in self._latencies()]
        rows.append(("output searched", f"{record.searched / 1e6:.1f} MB"))
        rows.append(("duration", f"{end.seconds:.0f} s"))
        return table(["in all", ""], rows)

    def _of(self, outcome: Outcome) -> Iterator[Case]:
        return (case for case in self._workload.cases if case.outcome == outcome)

    def _is_stuck(self, case: Case) -> bool:
        """Whether it is a success while the customer has an active Execution, and nothing says so."""
        is_success = case.tag in self._record.done_at and case.outcome != "dead-lettered"
        if case.near - {"later"}:
            return is_success and not self._is_near_told(case)
        return is_success and any(one.status == "active" for one in case.targets)

    def _is_near_told(self, case: Case) -> bool:
        return case.near <= self._record.near.get(case.tag, set())

    def _is_silent(self, case: Case) -> bool:
        """Whether no event has the outcome of a case that must have one."""
        if case.event is None or case.code == _NO_COMMAND:
            return False
        return not any(_is_right(event, case) for event in self._events.get(case.tag, ()))

    def _wrong_events(self) -> Iterator[str]:
        cases = {case.tag: case for case in self._workload.cases}
        ended = {one.sid for case in cases.values() for one in case.targets}
        ended |= {case.command.get("execution_sid", "") for case in self._of("ended")}
        for event in self._record.events:
            detail = event["detail"]
            case = cases.get(detail.get("conversation_id", ""))
            sids = {one["sid"] for one in detail.get("executions", ())}
            if (case and case.event is None) or not sids <= ended:
                yield json.dumps(event)
        # Of what is no command, an event has nothing but the code.
        number = sum(case.code == _NO_COMMAND for case in cases.values())
        nameless = sum(event["detail"].get("code") == _NO_COMMAND for event in self._events.get("", ()))
        if number > nameless + self._record.metrics["OutcomesNotPublished"]:
            yield f"{number} invalid commands, {nameless} events"

    def _latencies(self) -> list[tuple[str, float]]:
        done, sent = self._record.done_at, self._record.sent_at
        values = [done[case.tag] - sent[case.tag] for case in self._of("ended") if case.tag in done]
        if len(values) < 2:
            return []
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        return [("p50", cuts[49]), ("p90", cuts[89]), ("p99", cuts[98]), ("longest", max(values))]


def _is_right(event: dict[str, Any], case: Case) -> bool:
    """Whether an event has the outcome of a case."""
    detail, command = event["detail"], case.command
    if (event["detail-type"], detail.get("code")) != case.event:
        return False
    if any(detail.get(name) != command.get(name) for name in ("flow_sid", "account_sid")):
        return False
    if case.code is not None:
        return True
    sids = {one["sid"] for one in detail["executions"]}
    if sid := command.get("execution_sid"):
        return sids == {sid}
    return case.outcome == "ended" or (not sids and case.near <= set(detail.get("near", ())))
