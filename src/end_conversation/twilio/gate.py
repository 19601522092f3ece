"""How many requests may be under way at once: fewer after a refusal, more again after successes.

Additive increase and multiplicative decrease, as TCP finds its share of a link: several processes that do not
know of each other settle below the limit that Twilio has for all of them.
"""

from __future__ import annotations

from threading import Condition


class Gate:
    """Lets through as many at once as it is good for, and never more than `most`. Safe for threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._inside = 0
        self._changed = Condition()

    def enter(self, seconds: float) -> bool:
        """Wait for a place; False if there is none within `seconds`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._inside < int(self._limit), seconds):
                return False
            self._inside += 1
            return True

    def leave(self, *, throttled: bool | None) -> None:
        """Give the place back, and tell whether the request came too fast, where the answer said so."""
        with self._changed:
            self._inside -= 1
            if throttled:
                self._limit = max(1.0, self._limit / 2)
            elif throttled is not None:
                self._limit = min(self._most, self._limit + 1 / self._limit)
            self._changed.notify_all()
