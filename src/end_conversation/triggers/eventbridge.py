"""What an EventBridge event brings, whether a rule sent it to the function or to the queue before it.

https://docs.aws.amazon.com/eventbridge/latest/ref/events-structure.html
"""

from __future__ import annotations

from typing import Any, TypeGuard

from end_conversation.command import parse_date_time
from end_conversation.errors import FieldError, InvalidRequest
from end_conversation.invocation import Request


def is_event(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether it is an event, and not the bare command."""
    return isinstance(value, dict) and "detail-type" in value


def request_of(event: dict[str, Any]) -> Request:
    """The command in an event's detail, and the event's own time.

    Raises:
        InvalidRequest: the time is none, so that there is no telling what happened before it.
    """
    time = event.get("time")
    try:
        return Request(event.get("detail"), None if time is None else parse_date_time(str(time)))
    except ValueError:
        raise InvalidRequest.of_fields(FieldError("time", "must be an RFC 3339 date-time")) from None
