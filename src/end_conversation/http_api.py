"""The HTTP trigger: API Gateway's events in, answers and RFC 9457 problems out.

Both of the gateway's payload formats: 2.0 of HTTP APIs, and 1.0 of REST APIs.
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

import json
from base64 import b64decode
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

if TYPE_CHECKING:
    from end_conversation.invocation import Invocation

ROUTE = "/conversations/end"
"""Takes POST; whoever may call it is up to the gateway's IAM authorizer."""


class NotFound(RequestRejected):
    """The event did not come through the route of an API."""

    code = "not_found"


class MethodNotAllowed(RequestRejected):
    """The route takes POST only."""

    code = "method_not_allowed"


class UnsupportedMediaType(RequestRejected):
    """The body is declared to be something else than JSON."""

    code = "unsupported_media_type"


STATUS: dict[type[EndConversationError], HTTPStatus] = {
    InvalidRequest: HTTPStatus.BAD_REQUEST,
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


def handle(invocation: Invocation, event: dict[str, Any]) -> dict[str, Any]:
    """The answer to an API Gateway event: never an exception."""
    request_id = _request_id(event)
    try:
        result = invocation.carry_out(lambda: _payload(event), request_id=request_id)
    except EndConversationError as error:
        return _problem(error, request_id)
    return _answer(HTTPStatus.OK, "application/json", result.to_json())


def _request_id(event: dict[str, Any]) -> str | None:
    match event:
        case {"requestContext": {"requestId": str(request_id)}}:
            return request_id
    return None


def _payload(event: dict[str, Any]) -> object:
    """The command in the body.

    Raises:
        RequestRejected: there is none, or the request is for something else.
    """
    method, path = _method_and_path(event)
    if path != ROUTE:
        raise NotFound("there is no such route")
    if method != "POST":
        raise MethodNotAllowed("the route takes POST only")
    media_type = _header(event, "content-type").partition(";")[0].strip().lower()
    if media_type not in ("", "application/json"):
        raise UnsupportedMediaType("the body must be application/json")
    body = event.get("body")
    if not isinstance(body, str) or not body:
        raise InvalidRequest("the body is empty")
    if not event.get("isBase64Encoded"):
        return parse_json(body)
    try:
        octets = b64decode(body, validate=True)
    except ValueError:
        raise InvalidRequest("the body is not base64, as the event says it is") from None
    return parse_json(octets)


def _method_and_path(event: dict[str, Any]) -> tuple[object, object]:
    """The method of the request, and the path of the route that it matched, not just the one it asked for."""
    match event:
        case {"routeKey": str(route_key), "requestContext": {"http": {"method": method}}}:
            return method, route_key.partition(" ")[2]
        case {"httpMethod": method, "resource": path}:
            return method, path
    return None, None


def _header(event: dict[str, Any], name: str) -> str:
    headers = event.get("headers")
    if isinstance(headers, dict):
        for key, value in headers.items():
            if key.lower() == name and isinstance(value, str):
                return value
    return ""


def _problem(error: EndConversationError, request_id: str | None) -> dict[str, Any]:
    status = STATUS[type(error)]
    internal = isinstance(error, InternalError)
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status,
        "detail": "the function's log has the details" if internal else str(error),
        "code": error.code,
        "request_id": request_id,
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
