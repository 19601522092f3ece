"""Limits the requests in flight: fewer after a 429, more again after successes.

Additive increase and multiplicative decrease, as in TCP: independent processes settle below Twilio's
limit for all of them.
"""

from __future__ import annotations

from threading import Condition


class Limiter:
    """Lets through as many requests at once as Twilio accepts, at most `maximum`. Thread-safe."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._limit = float(maximum)
        self._inside = 0
        self._changed = Condition()

    def acquire(self, seconds: float) -> bool:
        """Wait for a slot; False if there is none within `seconds`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._inside < int(self._limit), seconds):
                return False
            self._inside += 1
            return True

    def release(self, *, throttled: bool | None) -> None:
        """Return the slot.

        Args:
            throttled: whether the response was a 429; None if there was no response.
        """
        with self._changed:
            self._inside -= 1
            if throttled:
                self._limit = max(1.0, self._limit / 2)
            elif throttled is not None:
                self._limit = min(self._maximum, self._limit + 1 / self._limit)
            self._changed.notify_all()
