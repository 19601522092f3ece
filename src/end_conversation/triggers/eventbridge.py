"""EventBridge events, sent to the function by a rule or through the queue.

https://docs.aws.amazon.com/eventbridge/latest/ref/events-structure.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from end_conversation.command import parse_date_time
from end_conversation.errors import FieldError, InvalidRequest
from end_conversation.invocation import Request

if TYPE_CHECKING:
    from end_conversation.invocation import Invocation


def is_event(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether this is an event rather than a bare command."""
    return isinstance(value, dict) and "detail-type" in value


def handle(invocation: Invocation, event: dict[str, Any]) -> dict[str, Any]:
    """The result of the event's command.

    Raises:
        EndConversationError: Lambda retries twice, then sends the event to the failure destination.
    """
    outcome = invocation.carry_out(lambda: request_of(event))
    if outcome.error is None or outcome.error.permanent:
        # Other failures are not final: Lambda retries.
        invocation.publish_later(outcome)
    return outcome.result()


def request_of(event: dict[str, Any]) -> Request:
    """The command in an event's detail, and the event's own time.

    Raises:
        InvalidRequest: the time is invalid, so `occurred_at` has no upper limit.
    """
    time = event.get("time")
    try:
        return Request(event.get("detail"), None if time is None else parse_date_time(time))
    except ValueError:
        raise InvalidRequest.of_fields(FieldError("time", "must be an RFC 3339 date-time")) from None
