"""What happens in a soak, as its threads write it down, and all output searched for canaries."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from local.canaries import Canaries, without_told
from local.rie import Outcome
from tests.soak.workload import CANARY, TAG

MAX_LEAKS = 20


def tags(text: str) -> Iterator[str]:
    """The tags of the cases that a text is about."""
    return iter(dict.fromkeys(TAG.findall(text)))


class Record:
    """Safe for threads.

    Attributes:
        sent_at, done_at: when each case was sent first, and done, by its tag.
        happened: how often what happened, and the sums of metrics.
        events: the outcome events.
        near: the near misses in the log, by the tag of the case.
        leaks: what was found in output that has no place there; canaries: credentials to search for.
    """

    def __init__(self) -> None:
        self.sent_at: dict[str, float] = {}
        self.done_at: dict[str, float] = {}
        self.happened: Counter[str] = Counter()
        self.events: list[dict[str, Any]] = []
        self.near: dict[str, set[str]] = {}
        self.canaries = Canaries()
        self.leaks: list[str] = []
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
            self.search("a log line", without_told(line))
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
