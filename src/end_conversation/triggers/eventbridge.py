"""What an EventBridge event brings, whether a rule sent it to the function or to the queue before it.

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
    """Whether it is an event, and not the bare command."""
    return isinstance(value, dict) and "detail-type" in value


def handle(invocation: Invocation, event: dict[str, Any]) -> dict[str, Any]:
    """The result of the event's command.

    Raises:
        EndConversationError: Lambda invokes twice more, and then sends the event to the failure destination.
    """
    outcome = invocation.carry_out(lambda: request_of(event))
    if outcome.error is None or outcome.error.permanent:
        # Any other failure is not final: Lambda tries again.
        invocation.publish_later(outcome)
    return outcome.result()


def request_of(event: dict[str, Any]) -> Request:
    """The command in an event's detail, and the event's own time.

    Raises:
        InvalidRequest: the time is invalid, so that there is no telling what happened before it.
    """
    time = event.get("time")
    try:
        return Request(event.get("detail"), None if time is None else parse_date_time(str(time)))
    except ValueError:
        raise InvalidRequest.of_fields(FieldError("time", "must be an RFC 3339 date-time")) from None
