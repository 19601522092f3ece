"""Direct invocation: the payload is a command, or Lambda's record of a failed asynchronous invocation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from end_conversation.command import parse_date_time
from end_conversation.errors import FieldError, InvalidRequest
from end_conversation.invocation import Request
from end_conversation.triggers import eventbridge

if TYPE_CHECKING:
    from datetime import datetime

    from end_conversation.invocation import Invocation


def handle(invocation: Invocation, event: object) -> dict[str, Any]:
    """The result of the command.

    Raises:
        EndConversationError: its class tells the caller what went wrong.
    """
    outcome = invocation.carry_out(lambda: request_of(event))
    if outcome.error is None:
        invocation.publish_later(outcome)
    return outcome.result()


def is_failure_record(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether this is a record that Lambda sends to a failure destination.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    """
    match value:
        case {"requestContext": {"functionArn": str()}}:
            return True
    return False


def request_of(payload: object, sent_at: datetime | None = None) -> Request:
    """The command in a payload: bare, in an EventBridge event, or in the record of a failed invocation.

    Args:
        payload: the decoded JSON.
        sent_at: the trigger's own time, for payloads without one.

    Raises:
        InvalidRequest: the payload's own time is invalid, so `occurred_at` has no upper limit.
    """
    # A loop: records can be nested as deeply as JSON can, by whoever writes the message.
    while is_failure_record(payload):
        try:
            sent_at = parse_date_time(payload.get("timestamp"))
        except ValueError:
            error = FieldError("timestamp", "must be an RFC 3339 date-time")
            raise InvalidRequest.of_fields(error) from None
        payload = payload.get("requestPayload")
    if eventbridge.is_event(payload):
        request = eventbridge.request_of(payload)
        return request._replace(sent_at=request.sent_at or sent_at)
    return Request(payload, sent_at)
