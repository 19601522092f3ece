"""A function whose values are made once each, also when several threads ask for one at the same time."""

from __future__ import annotations

from functools import cache
from threading import RLock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Once(Generic[T]):
    """`functools.cache`, one thread at a time. A failure is not kept: the next call tries again."""

    def __init__(self, make: Callable[..., T]) -> None:
        self._made = cache(make)
        self._lock = RLock()
        self.cache_clear = self._made.cache_clear

    def __call__(self, *key: str) -> T:
        """The value for this key."""
        with self._lock:
            return self._made(*key)
