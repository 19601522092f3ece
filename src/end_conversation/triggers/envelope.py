"""Unwraps commands from EventBridge events, SNS notifications and records of failed invocations.

They nest: a rule's event may come through a topic and a queue, and end in the record of a failed invocation.
Each has its own time. A sender can choose some of them, so the earliest counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from end_conversation.command import earliest, parse_date_time, parse_json
from end_conversation.errors import FieldError, InvalidRequest
from end_conversation.invocation import Request

if TYPE_CHECKING:
    from datetime import datetime

_FAILED = ("RetriesExhausted", "EventAgeExceeded")
"""Conditions in the record of an asynchronous invocation that failed; of one that did not, it is Success.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""


def is_eventbridge_event(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether this is an EventBridge event.

    https://docs.aws.amazon.com/eventbridge/latest/ref/events-structure.html
    """
    return isinstance(value, dict) and "detail-type" in value


def is_invocation_record(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether this is a record that Lambda sends to a destination."""
    match value:
        case {"requestContext": {"functionArn": str()}}:
            return True
    return False


def is_notification(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether this is an SNS notification that was delivered as JSON, not raw.

    https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
    """
    match value:
        case {"Type": "Notification", "TopicArn": str(), "Message": str()}:
            return True
    return False


def unwrap(payload: object, sent_at: datetime | None = None) -> Request:
    """The command in a payload, and the earliest of the times around it.

    Args:
        payload: the decoded JSON.
        sent_at: the trigger's own time.

    Raises:
        InvalidRequest: a time is invalid, so `occurred_at` has no upper limit; or there is no command to run.
    """
    # A loop, because a sender can nest records as deeply as JSON allows.
    while True:
        if is_invocation_record(payload):
            if payload["requestContext"].get("condition") not in _FAILED:
                error = FieldError("requestContext.condition", "must be that of a failed invocation")
                raise InvalidRequest.of_fields(error)
            sent_at = earliest(sent_at, _time(payload, "timestamp"))
            payload = payload.get("requestPayload")
        elif is_eventbridge_event(payload):
            if payload.get("time") is not None:
                sent_at = earliest(sent_at, _time(payload, "time"))
            payload = payload.get("detail")
        elif is_notification(payload):
            sent_at = earliest(sent_at, _time(payload, "Timestamp"))
            payload = parse_json(payload["Message"])
        else:
            return Request(payload, sent_at)


def _time(envelope: dict[str, Any], field: str) -> datetime:
    try:
        return parse_date_time(envelope.get(field))
    except ValueError:
        raise InvalidRequest.of_fields(FieldError(field, "must be an RFC 3339 date-time")) from None
