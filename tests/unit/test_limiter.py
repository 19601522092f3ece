"""How many requests of an account are in flight: fewer after a 429, more again after successes."""

from collections.abc import Iterable

import pytest

from end_conversation.twilio.limiter import Limiter


def places(limiter: Limiter) -> int:
    """How many it lets through at once."""
    inside = 0
    while limiter.acquire(0):
        inside += 1
    for _ in range(inside):
        limiter.release(throttled=None)
    return inside


@pytest.mark.parametrize(
    ("responses", "left"),
    [
        ([], 10),
        # Each 429 halves, but one place stays.
        ([True], 5),
        ([True] * 8, 1),
        # As many successes as there are places add one, as TCP finds its share, and never more than before.
        ([True, *[False] * 5], 5),
        ([True, *[False] * 6], 6),
        ([True] * 8 + [False] * 200, 10),
        # What gets no response says nothing.
        ([True, *[None] * 50], 5),
    ],
)
def test_the_limit_follows_the_responses(responses: Iterable[bool | None], left: int) -> None:
    """Several processes settle near what Twilio takes from all of them."""
    limiter = Limiter(10)
    for throttled in responses:
        assert limiter.acquire(0)
        limiter.release(throttled=throttled)
    assert places(limiter) == left
