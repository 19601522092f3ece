"""The HTTP trigger: routing, responses and RFC 9457 problems."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from end_conversation.aws.queues import send
from end_conversation.command import Command, parse_json
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
    severity,
)
from end_conversation.invocation import Request
from end_conversation.observability import count, logger
from end_conversation.outcome import Outcome
from end_conversation.triggers.api_gateway import route_of, to_http_request

if TYPE_CHECKING:
    from end_conversation.deadline import Deadline
    from end_conversation.http_request import HttpRequest
    from end_conversation.invocation import Invocation
    from end_conversation.webhooks.sources import Source

ROUTE = "/conversations/end"
"""The gateway's IAM authorizer decides who may call it."""

WEBHOOK_ROUTE = "/webhooks/conversation-ended"
"""Open at the gateway; callers sign with one of our keys."""

SOURCE_ROUTE = "/webhooks/{source}"
"""Open at the gateway; each source declares how it is verified."""

MAX_CONCURRENCY = 10
"""Commands of one request that run concurrently."""

DEFAULT_SID_LIMIT = 2.0
"""Seconds to find out the default account's SID, before commands are queued all the same."""

QUEUEING_LIMIT = 4.0
"""Seconds for queueing commands: some senders give up after 5."""

# One that is not closed goes on to the end: looking for the end of each anew would take quadratic time.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*\\?(?:"|\Z)', re.DOTALL)


class NotFound(RequestRejected):
    """The event did not come through one of the routes."""

    code = "not_found"


class MethodNotAllowed(RequestRejected):
    """The method is not POST."""

    code = "method_not_allowed"


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
"""The HTTP status of each error."""


def trigger_of(event: dict[str, Any]) -> str:
    """Which of the HTTP triggers an API Gateway event belongs to."""
    return "webhook" if route_of(event) in (WEBHOOK_ROUTE, SOURCE_ROUTE) else "http"


def handle(invocation: Invocation, event: dict[str, Any]) -> dict[str, Any]:
    """The response to an API Gateway event. Never raises."""
    request = to_http_request(event)
    fields: dict[str, Any] = {"request_id": request.request_id}
    try:
        with invocation.reporting(fields):
            if request.route == SOURCE_ROUTE:
                fields["source"] = request.source
            source = _authenticate(invocation, request)
    except EndConversationError as error:
        # The sender is unknown, so no outcome is published.
        return _problem(error, request.request_id)
    try:
        with invocation.reporting(fields):
            payloads: list[object] = [_payload(request)] if source is None else _payloads(source, request)
            queue_url = invocation.service.config.queue_url
    except EndConversationError as error:
        invocation.publish_later(Outcome(None, error=error), fields.get("source"))
        return _problem(error, request.request_id)
    requests = [Request(payload, request.sent_at) for payload in payloads]
    if not requests:
        logger.info("webhook_ignored", extra=invocation.log_fields(fields))
        return _answer(HTTPStatus.OK, {"status": "ignored"})
    is_async = _prefers_async(request) if source is None else source.respond == "async"
    if is_async and queue_url is not None:
        return _accept(invocation, requests, queue_url, fields)
    return _carry_out(invocation, requests, fields)


def _authenticate(invocation: Invocation, request: HttpRequest) -> Source | None:
    """Verify the sender; returns the source, if the request is from one.

    Raises:
        RequestRejected: wrong route or method, or an unverified sender.
        EndConversationError: the sender cannot be verified now.
    """
    if request.route not in (ROUTE, WEBHOOK_ROUTE, SOURCE_ROUTE):
        raise NotFound("the route does not exist")
    if request.method != "POST":
        raise MethodNotAllowed("the route accepts POST only")
    if request.route == ROUTE:
        return None
    # Only webhooks need proofs and sources; other commands should not wait for their import.
    from end_conversation.webhooks import verifier  # noqa: PLC0415 - see above

    config = invocation.service.config
    if request.route == SOURCE_ROUTE:
        return verifier.authenticated_source(config, request, invocation.deadline)
    verifier.authenticate(config, request, invocation.deadline)
    return None


def _carry_out(invocation: Invocation, requests: list[Request], fields: dict[str, Any]) -> dict[str, Any]:
    """The response after carrying out the commands."""
    with ThreadPoolExecutor(MAX_CONCURRENCY) as threads:
        # A single command needs no thread of its own.
        each = map if len(requests) == 1 else threads.map
        outcomes = list(each(lambda request: invocation.carry_out(lambda: request, **fields), requests))
    for outcome in outcomes:
        invocation.publish_later(outcome, fields.get("source"))
    if failures := [(outcome.error, outcome) for outcome in outcomes if outcome.error is not None]:
        error, worst = max(failures, key=lambda failure: severity(failure[0]))
        told = worst.to_dict() | {"failed": worst.failures()} if worst.failed else None
        return _problem(error, fields["request_id"], told)
    results = [outcome.to_dict() for outcome in outcomes]
    return _answer(HTTPStatus.OK, results[0] if len(results) == 1 else {"results": results})


def _accept(
    invocation: Invocation, requests: list[Request], queue_url: str, fields: dict[str, Any]
) -> dict[str, Any]:
    """The response after queueing all of the commands."""
    commands: list[Command] = []
    # One for all: Secrets Manager may hang, and the sender does not wait.
    checked_by = invocation.deadline.within(DEFAULT_SID_LIMIT)
    for request in requests:
        command: Command | None = None
        try:
            with invocation.reporting(fields):
                command = Command.parse(*request)
                invocation.service.check_acceptable(command, checked_by)
        except EndConversationError as error:
            invocation.publish_later(Outcome(command, error=error), fields.get("source"))
            return _problem(error, fields["request_id"])
        commands.append(command)
    deadline = invocation.deadline.within(QUEUEING_LIMIT)
    with ThreadPoolExecutor(MAX_CONCURRENCY) as threads:
        message_ids = list(
            threads.map(lambda command: _queue(invocation, command, queue_url, deadline, fields), commands)
        )
    if queued := sum(isinstance(told, str) for told in message_ids):
        count("CommandsQueued", queued)
    for told in message_ids:
        if isinstance(told, EndConversationError):
            # Those already queued are carried out anyway, and again when the sender retries.
            return _problem(told, fields["request_id"])
    ids = {"message_id": message_ids[0]} if len(message_ids) == 1 else {"message_ids": message_ids}
    headers = {"preference-applied": "respond-async"}
    return _answer(HTTPStatus.ACCEPTED, {"status": "accepted", **ids}, headers=headers)


def _queue(
    invocation: Invocation, command: Command, queue_url: str, deadline: Deadline, fields: dict[str, Any]
) -> str | EndConversationError:
    """SQS's id of the command's message, or the reason why there is none; both are logged.

    Unless SQS confirms it, no outcome is published: the caller is told, and it may be in the queue.
    """
    attributes = {"source": fields["source"]} if fields.get("source") else {}
    fields = fields | command.log_fields()
    try:
        with invocation.reporting(fields):
            message_id = send(queue_url, json.dumps(command.to_json()), deadline, **attributes)
    except EndConversationError as error:
        return error
    logger.info("command_queued", extra=invocation.log_fields(fields | {"message_id": message_id}))
    return message_id


def _prefers_async(request: HttpRequest) -> bool:
    """Whether the caller prefers a response before its command is carried out.

    https://www.rfc-editor.org/rfc/rfc7240#section-2
    """
    # An empty value counts as none; other quoted strings may contain anything.
    header = _QUOTED.sub(lambda quoted: "" if quoted[0] == '""' else "?", ",".join(request.header("prefer")))
    preferences = (each.partition(";")[0].strip().lower() for each in header.split(","))
    return any(re.fullmatch(r"respond-async(\s*=)?", preference) for preference in preferences)


def _payloads(source: Source, request: HttpRequest) -> list[object]:
    """The command fields of a webhook's events, without ignored events.

    Raises:
        RequestRejected: the body is not what the source declares.
    """
    events = source.events(request)
    payloads: list[object] = [event for event in events if event is not None]
    if ignored := len(events) - len(payloads):
        count("WebhooksIgnored", ignored)
    return payloads


def _payload(request: HttpRequest) -> object:
    """The command in the body.

    Raises:
        RequestRejected: there is no valid JSON.
    """
    if request.media_type not in ("", "application/json"):
        raise UnsupportedMediaType("the body must be application/json")
    body = request.body()
    if not body:
        raise InvalidRequest("the body is empty")
    return parse_json(body)


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
        case QueueUnavailable():
            headers["retry-after"] = "1"
    if isinstance(error, TwilioThrottled):
        headers["retry-after"] = str(error.retry_after or 1)
    return _answer(status, problem, "application/problem+json", headers)


def _answer(
    status: HTTPStatus,
    content: dict[str, Any],
    media_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    return {
        "statusCode": int(status),
        "headers": {"content-type": media_type, "cache-control": "no-store"} | (headers or {}),
        "body": json.dumps(content),
        "isBase64Encoded": False,
    }
