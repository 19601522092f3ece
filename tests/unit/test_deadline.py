"""Time limits, and that the numbers fit together."""

import threading
from time import monotonic

import pytest

from end_conversation import deadline
from end_conversation.aws import clients as aws
from end_conversation.deadline import Deadline, call_within
from end_conversation.twilio import account as studio


def test_a_deadline_never_has_less_than_nothing_left() -> None:
    """What is over has 0 seconds left: a negative timeout would be an error of its own."""
    assert Deadline(-5).remaining() == 0


def test_a_call_that_hangs_is_given_up() -> None:
    """The caller goes on at its time, whatever the call does; else it gets the result, or the error."""
    released = threading.Event()
    began = monotonic()
    with pytest.raises(TimeoutError):
        call_within(0.05, released.wait)
    assert monotonic() - began < 5
    released.set()
    assert call_within(5, lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        call_within(5, lambda: 1 // 0)


def test_an_http_answer_comes_before_the_gateway_gives_up() -> None:
    """Cold start, work and margin together stay within API Gateway's limit."""
    needed = deadline.COLD_START_ALLOWANCE + deadline.HTTP_BUDGET + deadline.ANSWER_MARGIN
    assert needed <= deadline.API_GATEWAY_LIMIT


def test_a_hanging_twilio_gets_a_second_try_within_an_http_request() -> None:
    """One try never uses up the time of a request, even after the slowest reading of the secret."""
    waits = sum(min(studio.BACKOFF * 2**tried, studio.MAX_BACKOFF) for tried in range(1, studio.MAX_ATTEMPTS))
    assert aws.CALL_LIMIT + 2 * studio.TRY_TIMEOUT + waits <= deadline.HTTP_BUDGET + 1
    assert 3 * studio.TRY_TIMEOUT <= deadline.HTTP_BUDGET


@pytest.mark.parametrize("seconds", [0, -1])
def test_without_time_nothing_begins(seconds: float) -> None:
    """A call that never began cannot have an effect."""
    began: list[bool] = []
    with pytest.raises(TimeoutError):
        call_within(seconds, lambda: began.append(True))
    assert not began
