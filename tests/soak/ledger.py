"""What happens in a soak, as its threads write it down, and all output searched for canaries."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from local.canaries import Canaries, without_told
from local.rie import Outcome
from tests.soak.orders import CANARY, Order, tags

MOST_LEAKS = 20
"""How many finds are kept to be shown."""


class Ledger:
    """Safe for threads.

    Attributes:
        sent_at: when each order was sent first, by its tag.
        done_at: when the function had done it.
        happened: how often what happened.
        metrics: the sum of each metric, of those that are counts.
        outcomes: the outcome events.
        searched: bytes that were searched.
        canaries: credentials to search for, besides contacts and payloads.
        leaks: where something was found that has no place there.
    """

    def __init__(self) -> None:
        self.sent_at: dict[str, float] = {}
        self.done_at: dict[str, float] = {}
        self.happened: Counter[str] = Counter()
        self.metrics: Counter[str] = Counter()
        self.outcomes: list[dict[str, Any]] = []
        self.searched = 0
        self.leaks: list[str] = []
        self._lock = threading.Lock()
        self.canaries = Canaries()

    def count(self, what: str, number: int = 1) -> None:
        """Something happened."""
        with self._lock:
            self.happened[what] += number

    def sent(self, order: Order) -> None:
        """An order is about to be sent, for the first time or again."""
        with self._lock:
            if order.tag in self.sent_at:
                self.happened["sent twice"] += 1
            else:
                self.sent_at[order.tag] = time.monotonic()

    def delivered(self, messages: Iterable[dict[str, Any]]) -> None:
        """Messages come out of the queue."""
        with self._lock:
            for message in messages:
                again = int(message["Attributes"]["ApproximateReceiveCount"]) > 1
                self.happened["delivered again" if again else "delivered"] += 1

    def done(self, messages: Iterable[dict[str, Any]]) -> None:
        """The function says that it has done these."""
        now = time.monotonic()
        with self._lock:
            for message in messages:
                for tag in tags(message["Body"]):
                    self.done_at.setdefault(tag, now)

    def watch(self, outcome: Outcome) -> None:
        """An invocation is over: add its metrics, and search all that it gave out."""
        self.search("an answer", json.dumps(outcome.answer, ensure_ascii=False))
        for line in outcome.lines:
            self.search("a log line", without_told(line))
        with self._lock:
            self.happened["invocations"] += 1
            self.happened.update(f"log {_message(line)}" for line in outcome.logs)
            for document in outcome.metrics:
                for metric in document["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
                    if metric["Unit"] == "Count":
                        self.metrics[metric["Name"]] += int(sum(document[metric["Name"]]))

    def told(self, text: str) -> None:
        """An outcome event came out."""
        self.search("an outcome event", text)
        self.outcomes.append(json.loads(text))

    def search(self, where: str, text: str) -> None:
        """Look for what was planted."""
        contact = CANARY.search(text)
        found = contact[0] if contact else self.canaries.find(text)
        with self._lock:
            self.searched += len(text.encode())
            if found and len(self.leaks) < MOST_LEAKS:
                self.leaks.append(f"{found} in {where}: {text[:500]}")


def _message(line: str) -> str:
    try:
        return str(json.loads(line)["message"])
    except (ValueError, KeyError, TypeError):
        return "that is none"
