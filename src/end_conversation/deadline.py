"""How long an invocation may still take, and how to hold a call to it that does not hold itself."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ANSWER_MARGIN = 0.5
"""Seconds kept back to log, count and answer."""

PUBLISHING_TIME = 1.0
"""Seconds kept back to publish outcome events, where there is a bus for them."""

PUBLISHING_LIMIT = 3.0
"""Seconds that publishing may take where more are left: callers of the HTTP routes wait for it."""

API_GATEWAY_LIMIT = 29.0
"""Seconds after which a REST API gives up; an HTTP API waits for 30.

https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
"""

COLD_START_ALLOWANCE = 4.0
"""Seconds that the gateway may have waited for a cold start, which Lambda's remaining time leaves out."""

WARM_UP_LIMIT = 3.0
"""Seconds that a starting process may spend on connections; importing everything takes less than one more."""

HTTP_BUDGET = API_GATEWAY_LIMIT - COLD_START_ALLOWANCE - ANSWER_MARGIN
"""Seconds for the work of an HTTP request: what the gateway leaves."""


class Deadline:
    """An instant by which the work has to be over."""

    __slots__ = ("_at",)

    def __init__(self, seconds: float) -> None:
        """The instant that is `seconds` from now."""
        self._at = monotonic() + seconds

    def within(self, seconds: float) -> Deadline:
        """The earlier of this instant and the one that is `seconds` from now."""
        return Deadline(min(seconds, self.remaining()))

    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._at - monotonic())


def call_within(seconds: float, function: Callable[[], T]) -> T:
    """The result of `function`, or TimeoutError after `seconds`.

    A timeout of a socket holds for each of its operations: it ends neither a name look-up, nor a list of
    addresses to try, nor an answer that comes byte by byte. A call that is given up goes on in its thread
    until its own timeouts end it; its result is dropped. Without time, it does not begin.
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
