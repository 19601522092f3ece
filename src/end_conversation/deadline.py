"""How much time an invocation has left, and how to enforce it on calls that have no limit."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ANSWER_MARGIN = 0.5
"""Seconds reserved for logging, metrics and the response."""

PUBLISHING_TIME = 1.0
"""Seconds reserved for publishing outcome events, if there is a bus."""

PUBLISHING_LIMIT = 3.0
"""Seconds that publishing may take at most, because HTTP callers wait for it."""

API_GATEWAY_LIMIT = 29.0
"""Seconds after which a REST API gives up; an HTTP API waits for 30.

https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
"""

COLD_START_ALLOWANCE = 4.0
"""Seconds that the gateway may have waited for a cold start; Lambda's remaining time excludes them."""

WARM_UP_LIMIT = 3.0
"""Seconds that a cold start may spend on connections; imports take less than one more."""

HTTP_BUDGET = API_GATEWAY_LIMIT - COLD_START_ALLOWANCE - ANSWER_MARGIN
"""Seconds for the work of an HTTP request."""


class Deadline:
    """The time by which the work has to be done."""

    __slots__ = ("_at",)

    def __init__(self, seconds: float) -> None:
        """The time `seconds` from now."""
        self._at = monotonic() + seconds

    def within(self, seconds: float) -> Deadline:
        """The earlier of this time and the one `seconds` from now."""
        return Deadline(min(seconds, self.remaining()))

    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._at - monotonic())


def call_within(seconds: float, function: Callable[[], T]) -> T:
    """The result of `function`, or TimeoutError after `seconds`.

    A socket timeout applies to each operation: it limits neither a DNS lookup, nor a list of addresses to
    try, nor a response that arrives byte by byte. An abandoned call continues in its thread until its own
    timeouts end it; its result is dropped. With no time left, the call does not start.
    """
    if seconds <= 0:
        raise TimeoutError
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised again, in the caller's thread
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future.result(seconds)
