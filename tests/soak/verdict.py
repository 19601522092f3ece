"""Whether every promise was kept: what was sent, compared with what became of it."""

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.tables import table
from tests.soak.ledger import Ledger
from tests.soak.orders import Book, Fate, Order, tags
from tests.soak.spells import Spell

MOST_SHOWN = 5
"""How many of those that broke a promise are shown."""

_NO_COMMAND = "invalid_request"


@dataclass(frozen=True)
class End:
    """What there is when a soak is over.

    Attributes:
        dead_letters: the tag of each message in the dead-letter queue, or its text where it has none.
        unpublished: what EventBridge was given and refused.
        left: messages that are still in the queue.
        asked: requests that Twilio got.
        foreign: those of them with another account's credentials than the Flow's.
        seconds: how long it took.
    """

    dead_letters: Sequence[str]
    unpublished: Sequence[str]
    left: int
    asked: int
    foreign: Sequence[str]
    seconds: float


@dataclass(frozen=True)
class Promise:
    """What has to be so, and what says that it is not."""

    text: str
    broken_by: Sequence[str] = ()

    def __str__(self) -> str:
        if not self.broken_by:
            return f"kept    {self.text}"
        shown = "".join(f"\n          {evidence}" for evidence in self.broken_by[:MOST_SHOWN])
        return f"BROKEN  {self.text}: {len(self.broken_by)}{shown}"


class Verdict:
    """What came of a soak."""

    def __init__(self, book: Book, ledger: Ledger, spells: Sequence[Spell], end: End) -> None:
        self._book = book
        self._ledger = ledger
        self._spells = spells
        self._end = end
        self.lost = [order.tag for order in self._of("ended") if not self._is_ended(order)]
        self.wrongly_ended = [one.sid for one in book.survivors if one.status != "active"]
        poison = {order.tag for order in self._of("dead-lettered")}
        self.lost += sorted(poison - set(end.dead_letters))
        self.wrongly_dead_lettered = sorted(set(end.dead_letters) - poison)
        refused = {tag for text in end.unpublished for tag in tags(text)}
        silent = self._without_event()
        self.unpublished = [tag for tag in silent if tag in refused]
        self.untold = [tag for tag in silent if tag not in refused]

    @property
    def is_good(self) -> bool:
        """Whether all promises were kept."""
        return not any(promise.broken_by for promise in self.promises())

    def promises(self) -> Iterator[Promise]:
        """Everything that has to be so."""
        yield Promise("nothing is lost: every command is done, or set aside", self.lost)
        yield Promise("nothing is ended that goes on", self.wrongly_ended)
        yield Promise("no account's credentials are used for another account", self._end.foreign)
        yield Promise("what became of a command is told, where EventBridge lets it be", self.untold)
        yield Promise("no event tells what is not so", list(self._wrong_events()))
        yield Promise("only what can never succeed is in the dead-letter queue", self.wrongly_dead_lettered)
        yield Promise("the queue is empty in time", [f"{self._end.left} messages"] if self._end.left else ())
        yield Promise("no credential, contact or payload is in any output", self._ledger.leaks)
        yield Promise(
            "everything that was to go wrong went wrong",
            [
                f"{spell.name}: no {evidence}"
                for spell in self._spells
                for evidence in spell.evidence
                if not self._ledger.happened[evidence]
            ],
        )

    def tables(self) -> str:
        """Everything counted and measured."""
        return f"{self._totals()}\n\n{self._happened()}"

    def _totals(self) -> str:
        ledger, end, orders = self._ledger, self._end, self._book.orders
        sent = len(ledger.sent_at) + ledger.happened["sent twice"]
        already_ended = ledger.metrics["ExecutionsAlreadyEnded"]
        ended = sum(one.status == "ended" for order in self._of("ended") for one in order.targets)
        latencies = self._latencies(order.tag for order in self._of("ended"))
        rows = [
            ("commands", f"{len(orders):,}"),
            ("sent, some of them twice", f"{sent:,}"),
            (
                "delivered, some of them again",
                f"{ledger.happened['delivered'] + ledger.happened['delivered again']:,}",
            ),
            ("Executions ended", f"{ended:,}"),
            ("found already ended", f"{already_ended:,}"),
            ("dead-lettered", f"{len(set(end.dead_letters)):,}"),
            ("… of which poison", f"{len(set(end.dead_letters)) - len(self.wrongly_dead_lettered):,}"),
            ("lost", f"{len(self.lost):,}"),
            ("wrongly ended", f"{len(self.wrongly_ended):,}"),
            ("requests with foreign credentials", f"{len(end.foreign):,}"),
            ("outcome events", f"{len(ledger.outcomes):,}"),
            ("commands without one, which EventBridge refused", f"{len(self.unpublished):,}"),
            ("commands without one", f"{len(self.untold):,}"),
            ("Executions that had to survive", f"{len(self._book.survivors):,}"),
            ("calls to Twilio for each command", f"{end.asked / len(orders):.2f}"),
            *((f"seconds from sending to done, {name}", f"{value:.2f}") for name, value in latencies.items()),
            ("output searched", f"{ledger.searched / 1e6:.1f} MB"),
            ("finds", f"{len(ledger.leaks):,}"),
            ("duration", f"{end.seconds:.0f} s"),
        ]
        return table(["in all", ""], rows)

    def _happened(self) -> str:
        counts = Counter(self._ledger.happened) + Counter(
            {f"metric {name}": number for name, number in self._ledger.metrics.items()}
        )
        return table(["what happened", "times"], [[name, f"{counts[name]:,}"] for name in sorted(counts)])

    def _of(self, fate: Fate) -> Iterator[Order]:
        return (order for order in self._book.orders if order.fate == fate)

    def _is_ended(self, order: Order) -> bool:
        return order.tag in self._ledger.done_at and all(one.status == "ended" for one in order.targets)

    def _without_event(self) -> list[str]:
        """The commands of which no event tells what became of them."""
        told: dict[str | None, list[dict[str, Any]]] = {}
        for event in self._ledger.outcomes:
            told.setdefault(event["detail"].get("conversation_id"), []).append(event)
        silent = [
            order.tag
            for order in self._book.orders
            if order.outcome
            and order.code != _NO_COMMAND
            and not any(_tells(event, order) for event in told.get(order.tag, ()))
        ]
        # Of what is no command an event has nothing but the code.
        number = sum(order.code == _NO_COMMAND for order in self._book.orders)
        nameless = sum(event["detail"].get("code") == _NO_COMMAND for event in told.get(None, ()))
        if number > nameless + self._ledger.metrics["OutcomesNotPublished"]:
            silent.append(f"{number} invalid commands, {nameless} events")
        return silent

    def _wrong_events(self) -> Iterator[str]:
        ended: set[object] = {
            one.sid for order in self._book.orders for one in order.targets if one.status == "ended"
        }
        ended |= {order.command.get("execution_sid") for order in self._of("ended")}
        none = {order.tag for order in self._book.orders if order.outcome is None}
        for event in self._ledger.outcomes:
            detail = event["detail"]
            sids = {one["sid"] for one in detail.get("executions", ())}
            if detail.get("conversation_id") in none or not sids <= ended:
                yield json.dumps(event)

    def _latencies(self, tags: Iterable[str]) -> dict[str, float]:
        done, sent = self._ledger.done_at, self._ledger.sent_at
        values = [done[tag] - sent[tag] for tag in tags if tag in done] or [float("nan")]
        if len(values) == 1:
            values *= 2
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        return {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "longest": max(values)}


def _tells(event: dict[str, Any], order: Order) -> bool:
    """Whether an event tells what had to come of an order."""
    detail, command = event["detail"], order.command
    if (event["detail-type"], detail.get("code")) != order.outcome:
        return False
    if any(detail.get(name) != command.get(name) for name in ("flow_sid", "account_sid")):
        return False
    sid = command.get("execution_sid")
    return order.code is not None or sid is None or [one["sid"] for one in detail["executions"]] == [sid]
