"""Faults on request, in the stand-ins for Twilio and AWS: which requests fail, and how."""

import random
import threading
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

Broken = Literal["reset", "hang", "drip", "close"]


@dataclass(frozen=True)
class Fault:
    """One way to fail. Without ``status``, ``body``, ``raw`` and ``broken``, the answer is only late.

    A request that is refused, reset or left hanging is not carried out, unless ``carried_out`` says that only
    its answer is lost.
    """

    _: KW_ONLY
    delay: float = 0.0
    """Seconds before anything else happens."""
    status: int | None = None
    """Answer this, with an error in the service's format, or with ``body``."""
    code: int | str | None = None
    """The error code: a number of Twilio's, by default the one of the status; or a name of AWS's."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """More headers, ``Retry-After`` for example."""
    body: str | None = None
    """The body instead of the right one, malformed for example."""
    raw: bytes | None = None
    """Send these bytes in place of an HTTP response."""
    broken: Broken | None = None
    """Reset the connection, never answer, answer byte by byte with ``interval`` seconds between them, or
    close the connection: after ``raw``, or without an answer."""
    interval: float = 0.1
    carried_out: bool = False
    """Whether the request is carried out all the same."""
    method: str | None = None
    """Only requests with this method; of AWS: with this operation, `GetSecretValue` for example."""
    about: str | None = None
    """Only requests with this in their path, a SID for example; of AWS: in their body."""
    times: int | None = 1
    """How many requests it hits; ``None``: all that come."""
    share: float = 1.0
    """The share of the requests that it hits, drawn from the stand-in's seeded random numbers."""

    def __post_init__(self) -> None:
        if self.broken not in {None, "reset", "hang", "drip", "close"}:
            raise ValueError(f"broken: {self.broken!r}")
        if not 0 <= self.share <= 1 or self.delay < 0 or self.interval <= 0:
            raise ValueError("share is between 0 and 1, delay and interval are seconds")
        if self.times is not None and self.times < 1:
            raise ValueError("times is at least 1")

    @property
    def lets_work(self) -> bool:
        """Whether the request is carried out by itself."""
        return self.status is None and self.raw is None and self.broken in {None, "drip"}


class Faults:
    """The pending faults in their order; those without an end come last."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)  # noqa: S311 -- repeatable, not secret
        self._waiting: list[tuple[Fault, int | None]] = []

    def add(self, fault: Fault) -> None:
        """Apply this fault to the next requests, after the faults that are already waiting."""
        with self._lock:
            self._waiting.append((fault, fault.times))

    def clear(self) -> None:
        """Stop failing."""
        with self._lock:
            self._waiting.clear()

    def next(self, method: str, about: str) -> Fault | None:
        """The fault that hits this request, if any."""
        with self._lock:
            for index, (fault, left) in sorted(enumerate(self._waiting), key=_has_no_end):
                if fault.method not in {None, method} or (fault.about or "") not in about:
                    continue
                if fault.share < 1 and self._random.random() >= fault.share:
                    continue
                if left is not None:
                    self._waiting[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                return fault
        return None


def _has_no_end(item: tuple[int, tuple[Fault, int | None]]) -> bool:
    return item[1][1] is None
