"""API Gateway's responses: results, and problems as in RFC 9457."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from end_conversation.errors import (
    AccountNotAllowed,
    ConfigurationError,
    CredentialsRejected,
    CredentialsUnavailable,
    EndConversationError,
    ExecutionNotFound,
    FlowNotAllowed,
    InternalError,
    InvalidRequest,
    InvalidSignature,
    QueueUnavailable,
    RequestRejected,
    TwilioError,
    TwilioFailure,
    TwilioThrottled,
    TwilioTimeout,
    UnsupportedMediaType,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

QUEUE_RETRY_AFTER = 1
"""Seconds until SQS probably accepts messages again."""

SECRET_RETRY_AFTER = 5
"""Seconds until a secret that could not be read is tried again: the verifier's FAILURE_PAUSE."""

CHALLENGE = 'Basic realm="end-conversation"'
"""Some clients send their credentials only in reply to it: https://www.rfc-editor.org/rfc/rfc7617#section-2."""


class NotFound(RequestRejected):
    """The event did not come through one of the routes."""

    code = "not_found"


class MethodNotAllowed(RequestRejected):
    """The route does not accept the method.

    Attributes:
        allowed: value of the header `Allow`.
    """

    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"the route accepts {allowed.replace(', ', ' and ')} only")
        self.allowed = allowed


STATUS: dict[type[EndConversationError], HTTPStatus] = {
    InvalidRequest: HTTPStatus.BAD_REQUEST,
    InvalidSignature: HTTPStatus.UNAUTHORIZED,
    FlowNotAllowed: HTTPStatus.FORBIDDEN,
    AccountNotAllowed: HTTPStatus.FORBIDDEN,
    ExecutionNotFound: HTTPStatus.NOT_FOUND,
    NotFound: HTTPStatus.NOT_FOUND,
    MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
    ConfigurationError: HTTPStatus.INTERNAL_SERVER_ERROR,
    TwilioError: HTTPStatus.BAD_GATEWAY,
    CredentialsRejected: HTTPStatus.BAD_GATEWAY,
    CredentialsUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    QueueUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    TwilioThrottled: HTTPStatus.SERVICE_UNAVAILABLE,
    TwilioTimeout: HTTPStatus.GATEWAY_TIMEOUT,
}
"""The HTTP status of each error, and of its subclasses."""


def problem(
    error: EndConversationError,
    request_id: str | None,
    more: dict[str, Any] | None = None,
    each: Iterable[EndConversationError] = (),
) -> dict[str, Any]:
    """A response of RFC 9457.

    Args:
        error: decides about the status.
        request_id: the gateway's.
        more: further members.
        each: all errors, of which `error` is the most serious.
    """
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    internal = isinstance(error, InternalError)
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status,
        "detail": "the function's log has the details" if internal else str(error),
        "code": error.code,
        "request_id": request_id,
        **(more or {}),
    }
    headers = {}
    match error:
        case InvalidRequest(errors=errors) if errors:
            problem["errors"] = [item._asdict() for item in errors]
        case TwilioFailure(twilio_code=int(twilio_code)):
            problem["twilio_code"] = twilio_code
        case MethodNotAllowed():
            headers["allow"] = error.allowed
        case InvalidSignature():
            headers["www-authenticate"] = CHALLENGE
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = str(max(_retry_after(one) for one in (error, *each)))
    return answer(status, problem, "application/problem+json", headers)


def _retry_after(error: EndConversationError) -> int:
    """Seconds; 0 for errors for which waiting does not help."""
    match error:
        case QueueUnavailable():
            return QUEUE_RETRY_AFTER
        case CredentialsUnavailable():
            return SECRET_RETRY_AFTER
        case TwilioThrottled(retry_after=seconds):
            return seconds or 1
    return 0


def answer(
    status: HTTPStatus,
    content: dict[str, Any],
    media_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A response with JSON."""
    return response(status, json.dumps(content), {"content-type": media_type} | (headers or {}))


def response(status: HTTPStatus, body: str, headers: dict[str, str]) -> dict[str, Any]:
    """A response in the form of API Gateway."""
    return {
        "statusCode": int(status),
        "headers": {"cache-control": "no-store"} | headers,
        "body": body,
        "isBase64Encoded": False,
    }
