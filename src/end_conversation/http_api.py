"""The HTTP trigger: API Gateway's events in, answers and RFC 9457 problems out.

Both of the gateway's payload formats: 2.0 of HTTP APIs, and 1.0 of REST APIs.
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

import json
from base64 import b64decode
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from end_conversation.command import from_milliseconds, parse_json
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
from end_conversation.webhook import InvalidSignature, Signed, verifier

if TYPE_CHECKING:
    from datetime import datetime

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


class UnsupportedMediaType(RequestRejected):
    """The body is declared to be something else than JSON."""

    code = "unsupported_media_type"


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


def trigger_of(event: object) -> str:
    """Which of the HTTP triggers an event of API Gateway is."""
    return "webhook" if _method_and_path(event)[1] == WEBHOOK_ROUTE else "http"


def handle(invocation: Invocation, event: dict[str, Any]) -> dict[str, Any]:
    """The answer to an API Gateway event: never an exception."""
    request_id = _request_id(event)
    try:
        result = invocation.carry_out(
            lambda: Request(_payload(invocation, event), _sent_at(event)), request_id=request_id
        )
    except EndConversationError as error:
        return _problem(error, request_id)
    if result.worst is not None:
        failed = [{"sid": sid, "code": error.code} for sid, error in result.failed]
        return _problem(result.worst, request_id, result.to_json() | {"failed": failed})
    return _answer(HTTPStatus.OK, "application/json", result.to_json())


def _request_id(event: dict[str, Any]) -> str | None:
    match event:
        case {"requestContext": {"requestId": str(request_id)}}:
            return request_id
    return None


def _sent_at(event: dict[str, Any]) -> datetime | None:
    match event:
        case {"requestContext": {"timeEpoch": time} | {"requestTimeEpoch": time}}:
            return from_milliseconds(time)
    return None


def _payload(invocation: Invocation, event: dict[str, Any]) -> object:
    """The command in the body.

    Raises:
        RequestRejected: there is none, or the request is for something else, or from who knows whom.
        EndConversationError: it cannot be told from whom the request is.
    """
    method, path = _method_and_path(event)
    if path not in (ROUTE, WEBHOOK_ROUTE):
        raise NotFound("there is no such route")
    if method != "POST":
        raise MethodNotAllowed("the route takes POST only")
    if path == WEBHOOK_ROUTE:
        _check_signature(invocation, event)
    media_type = "".join(_header(event, "content-type")[:1]).partition(";")[0].strip().lower()
    if media_type not in ("", "application/json"):
        raise UnsupportedMediaType("the body must be application/json")
    body = _body(event)
    if not body:
        raise InvalidRequest("the body is empty")
    return parse_json(body)


def _check_signature(invocation: Invocation, event: dict[str, Any]) -> None:
    """Let only those through who have a signing key, before anything that they sent is looked into."""
    config = invocation.service().config
    if config.webhook_secret_id is None:
        raise InvalidSignature("no_keys_configured")
    signed = Signed.of(lambda name: _header(event, name))
    try:
        body = _body(event)
    except InvalidRequest:
        raise InvalidSignature("body_unreadable") from None
    verifier(config.webhook_secret_id, config.secret_max_age).check(signed, body, invocation.deadline)


def _body(event: dict[str, Any]) -> bytes:
    """What the caller sent, byte for byte."""
    match event:
        case {"body": str(body), "isBase64Encoded": True}:
            try:
                return b64decode(body, validate=True)
            except ValueError:
                raise InvalidRequest("the body is not base64, as the event says it is") from None
        case {"body": str(body)}:
            # Half of a surrogate pair, which no caller can send, is for the JSON parser to refuse.
            return body.encode(errors="surrogatepass")
    return b""


def _method_and_path(event: object) -> tuple[object, object]:
    """The method of the request, and the path of the route that it matched, not just the one it asked for."""
    match event:
        case {"routeKey": str(route_key), "requestContext": {"http": {"method": method}}}:
            return method, route_key.partition(" ")[2]
        case {"httpMethod": method, "resource": path}:
            return method, path
    return None, None


def _header(event: dict[str, Any], name: str) -> list[str]:
    """Every value of a header; an HTTP API joins those of one name by commas, and gives them as one."""
    for headers in (event.get("multiValueHeaders"), event.get("headers")):
        if isinstance(headers, dict):
            found = [value for key, value in headers.items() if key.lower() == name]
            values = [one for value in found for one in (value if isinstance(value, list) else [value])]
            if texts := [value for value in values if isinstance(value, str)]:
                return texts
    return []


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
