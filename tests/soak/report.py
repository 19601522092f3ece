"""What happened in a soak, and whether every promise was kept."""

import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.tables import table
from local.canaries import Canaries, without_callers_values
from local.rie import Outcome
from tests.soak.workload import CANARY, TAG, Case, Workload

MAX_LEAKS = 20
MAX_SHOWN = 5
"""Pieces of evidence that are shown for a broken promise."""

LOST = "nothing is lost: every command is done, or set aside"
STUCK = "no success while the customer is still stuck"
SURVIVORS = "nothing is ended that goes on"


def tags(text: str) -> list[str]:
    """The tags of the cases that a text is about."""
    return list(dict.fromkeys(TAG.findall(text)))


class Record:
    """What happened, as the soak's threads write it down; all output is searched for canaries. Thread-safe.

    Attributes:
        sent_at, done_at: when each case was sent first, and done, by its tag.
        happened: how often what happened, and the sums of metrics.
        events: the outcome events.
        near: the near misses in the log, by the tag of the case.
        leaks: what was found in output that has no place there; canaries: credentials to search for.
        dead_letters: the tag of each message in the dead-letter queue, or its text where it has none.
        unpublished: the tags in the requests of PutEvents that EventBridge refused.
        left: messages that are still in the queue at the end.
        requests: how many requests Twilio got.
        foreign: those of them with another account's credentials than the Flow's.
        seconds: how long it took.
    """

    def __init__(self) -> None:
        self.sent_at: dict[str, float] = {}
        self.done_at: dict[str, float] = {}
        self.happened: Counter[str] = Counter()
        self.events: list[dict[str, Any]] = []
        self.near: dict[str, set[str]] = {}
        self.canaries = Canaries()
        self.leaks: list[str] = []
        self.dead_letters: list[str] = []
        self.unpublished: set[str] = set()
        self.foreign: list[str] = []
        self.left = self.requests = 0
        self.seconds = 0.0
        self._lock = threading.Lock()

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.happened[what] += number

    def sent(self, tag: str) -> None:
        with self._lock:
            self.happened["sent again"] += tag in self.sent_at
            self.sent_at.setdefault(tag, time.monotonic())

    def done(self, texts: Iterable[str]) -> None:
        """The function says that it has done these."""
        with self._lock:
            for text in texts:
                for tag in tags(text):
                    self.done_at.setdefault(tag, time.monotonic())

    def watch(self, outcome: Outcome) -> None:
        """Add an invocation's metrics and log lines, and search all its output."""
        self.search("an answer", json.dumps(outcome.answer, ensure_ascii=False))
        for line in outcome.lines:
            self.search("a log line", without_callers_values(line))
        with self._lock:
            for line in outcome.logs:
                fields = _fields(line)
                self.happened[f"log {fields['message']}"] += 1
                self.near.setdefault(fields.get("conversation_id", ""), set()).update(fields.get("near", ()))
            for document in outcome.metrics:
                for metric in document["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
                    if metric["Unit"] == "Count":
                        self.happened[f"metric {metric['Name']}"] += int(sum(document[metric["Name"]]))

    def published(self, event: dict[str, Any]) -> None:
        self.search("an outcome event", json.dumps(event))
        self.events.append(event)

    def search(self, where: str, text: str) -> None:
        contact = CANARY.search(text)
        found = contact[0] if contact else self.canaries.find(text)
        if found and len(self.leaks) < MAX_LEAKS:
            self.leaks.append(f"{found} in {where}: {text[:500]}")


def _fields(line: str) -> dict[str, Any]:
    """A log line; Lambda's runtime writes those about exceptions as plain text."""
    try:
        fields: dict[str, Any] = {"message": "without a message"} | json.loads(line)
    except (ValueError, TypeError):
        return {"message": "of Lambda's runtime"}
    return fields


class Report:
    """The result of a soak; `promises` has the evidence against each promise, none if it was kept.

    Args:
        workload: what was sent.
        record: what happened.
        expected: what had to happen in each phase, by the phase's name.
    """

    def __init__(self, workload: Workload, record: Record, expected: Mapping[str, str]) -> None:
        self._record, self._cases = record, workload.cases
        self._events: dict[str, list[dict[str, Any]]] = {}
        for event in record.events:
            self._events.setdefault(event["detail"].get("conversation_id", ""), []).append(event)
        dead, poison = set(record.dead_letters), {one.tag for one in self._cases if one.is_poison}
        wanted = {one.tag for one in self._cases if one.outcome in {"ended", "nothing", "dry run"}}
        self._silent = {case.tag for case in self._cases if self._is_silent(case)}
        self.promises: dict[str, Sequence[str]] = {
            LOST: sorted(wanted - record.done_at.keys() | poison - dead),
            STUCK: [case.tag for case in self._cases if self._is_stuck(case)],
            SURVIVORS: [one.sid for one in workload.survivors if one.status != "active"],
            "no account's credentials are used for another account": record.foreign,
            "every command has its outcome event, where EventBridge accepts it": sorted(
                self._silent - record.unpublished
            ),
            "no outcome event is wrong": list(self._wrong_events()),
            "only what can never succeed is in the dead-letter queue": sorted(dead - poison),
            "the queue is empty in time": [f"{record.left} messages"] if record.left else [],
            "no credential, contact or payload is in any output": record.leaks,
            "everything that was to go wrong went wrong": [
                f"{name}: no {what}" for name, what in expected.items() if not record.happened[what]
            ],
        }

    @property
    def broken(self) -> set[str]:
        """The promises that were not kept."""
        return {promise for promise, evidence in self.promises.items() if evidence}

    def __str__(self) -> str:
        """All figures, and each promise."""
        record, near = self._record, [case for case in self._cases if case.near]
        done, sent = record.done_at, record.sent_at
        seconds = [done[case.tag] - sent[case.tag] for case in self._cases if case.tag in done] or [0.0]
        cuts = statistics.quantiles([*seconds, seconds[0]], n=100, method="inclusive")
        figures: dict[str, Any] = {
            "commands": len(self._cases),
            "Executions ended": sum(one.status == "ended" for case in self._cases for one in case.targets),
            "lost": len(self.promises[LOST]),
            "wrongly ended": len(self.promises[SURVIVORS]),
            "successes with the customer still stuck": len(self.promises[STUCK]),
            "near misses": len(near),
            "near misses told as such": sum(self._is_near_told(case) for case in near),
            "dead-lettered": len(set(record.dead_letters)),
            "outcome events": len(record.events),
            "commands whose event EventBridge refused": len(self._silent & record.unpublished),
            "requests to Twilio per command": f"{record.requests / len(self._cases):.2f}",
            "seconds from sending to done: median, p99, longest": " ".join(
                f"{one:.1f}" for one in (cuts[49], cuts[98], max(seconds))
            ),
            "seconds in all": f"{record.seconds:.0f}",
            **{name: number for name, number in sorted(record.happened.items()) if number},
        }
        lines = [table(["", ""], [(name, str(value)) for name, value in figures.items()]), ""]
        for promise, evidence in self.promises.items():
            lines.append(f"BROKEN  {promise}: {len(evidence)}" if evidence else f"kept    {promise}")
            lines += [f"          {each}" for each in evidence[:MAX_SHOWN]]
        return "\n".join(lines)

    def _is_stuck(self, case: Case) -> bool:
        """Whether it is a success while the customer has an active Execution, and nothing says so."""
        is_success = case.tag in self._record.done_at and not case.is_poison
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
        events = sum(event["detail"].get("code") == "invalid_request" for event in self._events.get("", ()))
        if invalid > events + self._record.happened["metric OutcomesNotPublished"]:
            yield f"{invalid} invalid commands, {events} events"


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
