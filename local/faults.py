"""What the Studio stand-in does wrong on request: which requests fail, and how."""

import random
import threading
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

Broken = Literal["reset", "hang", "drip"]


@dataclass(frozen=True)
class Fault:
    """One way to go wrong. Without ``status``, ``body`` and ``broken`` it only takes ``delay`` longer.

    A request that is refused, reset or left hanging is not carried out, unless ``carried_out`` says that only
    its answer was lost: a retry meets 409 then.
    """

    _: KW_ONLY
    delay: float = 0.0
    """Seconds before anything else happens."""
    status: int | None = None
    """Answer this, with Twilio's error JSON, or with ``body``."""
    code: int | None = None
    """Twilio's error code in that JSON; by default what Twilio uses for the status."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers, ``Retry-After`` for example."""
    body: str | None = None
    """The body instead of the right one, malformed for example."""
    broken: Broken | None = None
    """Reset the connection, never answer, or answer byte by byte with ``interval`` seconds between them."""
    interval: float = 0.1
    carried_out: bool = False
    """Whether the request is carried out all the same."""
    method: str | None = None
    """Only requests with this method."""
    times: int | None = 1
    """How many requests it hits; ``None``: all that come."""
    share: float = 1.0
    """The share of the requests that it hits, drawn from the stand-in's seeded random numbers."""

    def __post_init__(self) -> None:
        if self.broken not in {None, "reset", "hang", "drip"}:
            raise ValueError(f"broken: {self.broken!r}")
        if not 0 <= self.share <= 1 or self.delay < 0 or self.interval <= 0:
            raise ValueError("share is between 0 and 1, delay and interval are seconds")
        if self.times is not None and self.times < 1:
            raise ValueError("times is at least 1")

    @property
    def lets_work(self) -> bool:
        """Whether the request is carried out by itself."""
        return self.status is None and self.broken in {None, "drip"}


class Faults:
    """The faults that wait for requests: in their order, those without an end after the others."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)  # noqa: S311 -- repeatable, not secret
        self._waiting: list[tuple[Fault, int | None]] = []

    def add(self, fault: Fault) -> None:
        """Let the coming requests meet this fault, after those that wait already."""
        with self._lock:
            self._waiting.append((fault, fault.times))

    def clear(self) -> None:
        """Go right again."""
        with self._lock:
            self._waiting.clear()

    def next(self, method: str) -> Fault | None:
        """What happens to a request that comes now."""
        with self._lock:
            for index, (fault, left) in sorted(enumerate(self._waiting), key=_has_no_end):
                if fault.method not in {None, method}:
                    continue
                if fault.share < 1 and self._random.random() >= fault.share:
                    continue
                if left is not None:
                    self._waiting[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                return fault
        return None


def _has_no_end(item: tuple[int, tuple[Fault, int | None]]) -> bool:
    return item[1][1] is None
