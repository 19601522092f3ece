"""The HTTP trigger: routes in, answers and RFC 9457 problems out."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from end_conversation.command import parse_json
from end_conversation.errors import (
    ConfigurationError,
    CredentialsRejected,
    CredentialsUnavailable,
    EndConversationError,
    ExecutionNotFound,
    FlowNotAllowed,
    InternalError,
    InvalidRequest,
    RequestRejected,
    TwilioError,
    TwilioFailure,
    TwilioThrottled,
    TwilioTimeout,
)
from end_conversation.invocation import Request
from end_conversation.triggers.request import HttpRequest, InvalidSignature, UnsupportedMediaType

if TYPE_CHECKING:
    from end_conversation.invocation import Invocation

ROUTE = "/conversations/end"
"""Whoever may call it is up to the gateway's IAM authorizer."""

WEBHOOK_ROUTE = "/webhooks/conversation-ended"
"""Open at the gateway; whoever calls it has to sign with one of our keys."""


class NotFound(RequestRejected):
    """The event did not come through a route of an API."""

    code = "not_found"


class MethodNotAllowed(RequestRejected):
    """The routes take POST only."""

    code = "method_not_allowed"


STATUS: dict[type[EndConversationError], HTTPStatus] = {
    InvalidRequest: HTTPStatus.BAD_REQUEST,
    InvalidSignature: HTTPStatus.UNAUTHORIZED,
    FlowNotAllowed: HTTPStatus.FORBIDDEN,
    ExecutionNotFound: HTTPStatus.NOT_FOUND,
    NotFound: HTTPStatus.NOT_FOUND,
    MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
    ConfigurationError: HTTPStatus.INTERNAL_SERVER_ERROR,
    TwilioError: HTTPStatus.BAD_GATEWAY,
    CredentialsRejected: HTTPStatus.BAD_GATEWAY,
    CredentialsUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    TwilioThrottled: HTTPStatus.SERVICE_UNAVAILABLE,
    TwilioTimeout: HTTPStatus.GATEWAY_TIMEOUT,
}
"""The status of the answer to each error."""


def trigger_of(event: dict[str, Any]) -> str:
    """Which of the HTTP triggers an event of API Gateway is."""
    return "webhook" if HttpRequest(event).route == WEBHOOK_ROUTE else "http"


def handle(invocation: Invocation, event: dict[str, Any]) -> dict[str, Any]:
    """The answer to an API Gateway event: never an exception."""
    request = HttpRequest(event)
    try:
        result = invocation.carry_out(
            lambda: Request(_payload(invocation, request), request.sent_at), request_id=request.request_id
        )
    except EndConversationError as error:
        return _problem(error, request.request_id)
    if result.worst is not None:
        failed = [{"sid": sid, "code": error.code} for sid, error in result.failed]
        return _problem(result.worst, request.request_id, result.to_json() | {"failed": failed})
    return _answer(HTTPStatus.OK, "application/json", result.to_json())


def _payload(invocation: Invocation, request: HttpRequest) -> object:
    """The command in the body.

    Raises:
        RequestRejected: there is none, or the request is for something else, or from who knows whom.
        EndConversationError: it cannot be told from whom the request is.
    """
    if request.route not in (ROUTE, WEBHOOK_ROUTE):
        raise NotFound("there is no such route")
    if request.method != "POST":
        raise MethodNotAllowed("the route takes POST only")
    if request.route == WEBHOOK_ROUTE:
        _check_signature(invocation, request)
    if request.media_type not in ("", "application/json"):
        raise UnsupportedMediaType("the body must be application/json")
    body = request.body()
    if not body:
        raise InvalidRequest("the body is empty")
    return parse_json(body)


def _check_signature(invocation: Invocation, request: HttpRequest) -> None:
    """Let only those through who have a signing key, before anything that they sent is looked into."""
    from end_conversation.triggers.webhook import verifier  # noqa: PLC0415 - only webhooks wait for it

    config = invocation.service().config
    if config.webhook_secret_id is None:
        raise InvalidSignature("no_keys_configured")
    verifier(config.webhook_secret_id, config.secret_max_age).check(request, invocation.deadline)


def _problem(
    error: EndConversationError, request_id: str | None, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    status = STATUS[type(error)]
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
            headers["allow"] = "POST"
    if isinstance(error, TwilioThrottled):
        headers["retry-after"] = str(error.retry_after or 1)
    return _answer(status, "application/problem+json", problem, headers)


def _answer(
    status: HTTPStatus, media_type: str, content: dict[str, Any], headers: dict[str, str] | None = None
) -> dict[str, Any]:
    return {
        "statusCode": int(status),
        "headers": {"content-type": media_type, "cache-control": "no-store"} | (headers or {}),
        "body": json.dumps(content),
        "isBase64Encoded": False,
    }
