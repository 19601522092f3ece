"""The HTTP trigger: routes, and how the commands of a request are carried out."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from end_conversation.aws.queues import send
from end_conversation.command import Command, parse_json
from end_conversation.errors import (
    EndConversationError,
    FlowNotAllowed,
    InvalidRequest,
    RequestRejected,
    UnsupportedMediaType,
    severity,
)
from end_conversation.invocation import Request
from end_conversation.observability import count, logger
from end_conversation.outcome import Outcome
from end_conversation.triggers.api_gateway import route_of, to_http_request
from end_conversation.triggers.responses import MethodNotAllowed, NotFound, answer, problem, response

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

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

WEBHOOK_ROUTES = (WEBHOOK_ROUTE, SOURCE_ROUTE)

MAX_CONCURRENCY = 10
"""Commands of one request that run concurrently."""

DEFAULT_SID_LIMIT = 2.0
"""Seconds to read the default account's SID before commands are queued without it."""

QUEUEING_LIMIT = 4.0
"""Seconds for queueing commands: some senders give up after 5."""

# One that is not closed extends to the end; searching the end of each again would take quadratic time.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*\\?(?:"|\Z)', re.DOTALL)


class _Event(NamedTuple):
    """One of a request's events; a request to our own routes has one.

    Attributes:
        position: its place in the list that a source's `each` gave.
        payload: the command's fields, or why there are none.
    """

    position: int
    payload: object

    def load(self, sent_at: datetime | None) -> Request:
        """The command to carry out.

        Raises:
            InvalidRequest: the source's mapping does not fit the event.
        """
        if isinstance(self.payload, InvalidRequest):
            raise self.payload
        return Request(self.payload, sent_at)


def trigger_of(event: dict[str, Any]) -> str:
    """Which of the HTTP triggers an API Gateway event belongs to."""
    return "webhook" if route_of(event) in WEBHOOK_ROUTES else "http"


def handle(invocation: Invocation, event: dict[str, Any]) -> dict[str, Any]:
    """The response to an API Gateway event. Never raises."""
    request = to_http_request(event)
    if request.method == "HEAD" and request.route in WEBHOOK_ROUTES:
        # Some vendors test a URL with HEAD before they save it. Any name works, which reveals nothing.
        return response(HTTPStatus.OK, "", {})
    fields: dict[str, Any] = {"request_id": request.request_id}
    try:
        with invocation.reporting(fields):
            if request.route == SOURCE_ROUTE:
                fields["source"] = request.source
            source = _authenticate(invocation, request)
    except EndConversationError as error:
        # The sender is unknown, so no outcome is published.
        return problem(error, request.request_id)
    return _respond(invocation, request, source, fields)


def _respond(
    invocation: Invocation, request: HttpRequest, source: Source | None, fields: dict[str, Any]
) -> dict[str, Any]:
    """The response to a verified request."""
    if source is not None and (challenge := source.challenge_in(request)) is not None:
        logger.info("webhook_challenge", extra=invocation.log_fields(fields))
        return answer(HTTPStatus.OK, {"challenge": challenge})
    try:
        with invocation.reporting(fields):
            events = [_Event(0, _payload(request))] if source is None else _events(source, request)
            queue_url = invocation.service.config.queue_url
    except EndConversationError as error:
        invocation.publish_later(Outcome(None, error=error), fields.get("source"))
        return problem(error, request.request_id)
    if not events:
        logger.info("webhook_ignored", extra=invocation.log_fields(fields))
        return answer(HTTPStatus.OK, {"status": "ignored"})
    is_async = _prefers_async(request) if source is None else source.respond == "async"
    if is_async and queue_url is not None:
        return _accept(invocation, events, request.sent_at, queue_url, fields)
    return _carry_out(invocation, events, request.sent_at, fields)


def _authenticate(invocation: Invocation, request: HttpRequest) -> Source | None:
    """Verify the sender; returns the source, if the request is from one.

    Raises:
        RequestRejected: wrong route or method, or an unverified sender.
        EndConversationError: the sender cannot be verified now.
    """
    if request.route not in (ROUTE, *WEBHOOK_ROUTES):
        raise NotFound("the route does not exist")
    if request.method != "POST":
        raise MethodNotAllowed("POST" if request.route == ROUTE else "HEAD, POST")
    if request.route == ROUTE:
        return None
    # Only webhooks need this; other commands should not wait for the import.
    from end_conversation.webhooks import verifier  # noqa: PLC0415 - see above

    config = invocation.service.config
    if request.route == SOURCE_ROUTE:
        return verifier.authenticated_source(config, request, invocation.deadline)
    verifier.authenticate(config, request, invocation.deadline)
    return None


def _carry_out(
    invocation: Invocation, events: list[_Event], sent_at: datetime | None, fields: dict[str, Any]
) -> dict[str, Any]:
    """The response after carrying out the commands."""

    def carry_out(event: _Event) -> Outcome:
        return invocation.carry_out(lambda: event.load(sent_at), **fields, **_place(event, events))

    with ThreadPoolExecutor(MAX_CONCURRENCY) as threads:
        # A single command needs no thread.
        outcomes = list((map if len(events) == 1 else threads.map)(carry_out, events))
    for outcome in outcomes:
        invocation.publish_later(outcome, fields.get("source"))
    errors = [outcome.error for outcome in outcomes]
    rejected = _rejected(events, errors)
    done = [outcome for outcome in outcomes if not isinstance(outcome.error, RequestRejected)]
    if not done:
        return _refuse(events, errors, fields)
    more = {"rejected": rejected} if rejected else {}
    if failures := [(outcome.error, outcome) for outcome in done if outcome.error is not None]:
        error, worst = max(failures, key=lambda failure: severity(failure[0]))
        if worst.failed:
            more |= worst.to_dict() | {"failed": worst.failures()}
        each = [*(error for error, _ in failures), *(one.error for outcome in done for one in outcome.failed)]
        return problem(error, fields["request_id"], more, each)
    results = [outcome.to_dict() for outcome in done]
    return answer(HTTPStatus.OK, results[0] if len(events) == 1 else {"results": results} | more)


def _accept(
    invocation: Invocation,
    events: list[_Event],
    sent_at: datetime | None,
    queue_url: str,
    fields: dict[str, Any],
) -> dict[str, Any]:
    """The response after queueing all of the valid commands."""
    commands: list[Command] = []
    errors: list[EndConversationError | None] = []
    # One limit for all: Secrets Manager may hang, and the sender does not wait.
    checked_by = invocation.deadline.within(DEFAULT_SID_LIMIT)
    for event in events:
        command: Command | None = None
        own = fields | _place(event, events)
        try:
            with invocation.reporting(own):
                command = Command.parse(*event.load(sent_at))
                own |= command.log_fields()
                invocation.service.check_acceptable(command, checked_by)
        except EndConversationError as error:
            invocation.publish_later(Outcome(command, error=error), fields.get("source"))
            if not isinstance(error, RequestRejected):
                return problem(error, fields["request_id"])
            errors.append(error)
        else:
            errors.append(None)
            commands.append(command)
    if not commands:
        return _refuse(events, errors, fields)
    deadline = invocation.deadline.within(QUEUEING_LIMIT)
    with ThreadPoolExecutor(MAX_CONCURRENCY) as threads:
        queued = list(
            threads.map(lambda command: _queue(invocation, command, queue_url, deadline, fields), commands)
        )
    message_ids = [told for told in queued if isinstance(told, str)]
    more: dict[str, Any] = {"message_ids": message_ids} if message_ids and len(events) > 1 else {}
    if rejected := _rejected(events, errors):
        more["rejected"] = rejected
    if message_ids:
        count("CommandsQueued", len(message_ids))
    for told in queued:
        if isinstance(told, EndConversationError):
            # Commands already in the queue are carried out, and again when the sender retries.
            return problem(told, fields["request_id"], more)
    accepted = {"status": "accepted"} | (more if len(events) > 1 else {"message_id": message_ids[0]})
    return answer(HTTPStatus.ACCEPTED, accepted, headers={"preference-applied": "respond-async"})


def _place(event: _Event, events: list[_Event]) -> dict[str, int]:
    """Log fields that identify one of several events."""
    return {} if len(events) == 1 else {"index": event.position}


def _rejected(events: list[_Event], errors: Sequence[EndConversationError | None]) -> list[dict[str, Any]]:
    """The events that are rejected, with the reasons by field."""
    return [
        {"index": event.position, "errors": _field_errors(error)}
        for event, error in zip(events, errors, strict=True)
        if isinstance(error, RequestRejected)
    ]


def _field_errors(error: RequestRejected) -> list[dict[str, str]]:
    match error:
        case InvalidRequest(errors=errors):
            return [each._asdict() for each in errors]
        case FlowNotAllowed():
            return [{"field": "flow_sid", "message": str(error)}]
    return [{"field": "account_sid", "message": str(error)}]


def _refuse(
    events: list[_Event], errors: Sequence[EndConversationError | None], fields: dict[str, Any]
) -> dict[str, Any]:
    """The response if all events are rejected."""
    (first, *others) = filter(None, errors)
    if not others:
        return problem(first, fields["request_id"])
    none = InvalidRequest(f"none of the {len(events)} events can be carried out")
    return problem(none, fields["request_id"], {"rejected": _rejected(events, errors)})


def _queue(
    invocation: Invocation, command: Command, queue_url: str, deadline: Deadline, fields: dict[str, Any]
) -> str | EndConversationError:
    """SQS's id of the command's message, or the reason why there is none; both are logged.

    Unless SQS confirms it, no outcome is published: the caller gets an error, and SQS may have it.
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


def _events(source: Source, request: HttpRequest) -> list[_Event]:
    """A webhook's events, without ignored ones.

    Raises:
        RequestRejected: the body is not what the source declares.
    """
    found = source.events(request)
    events = []
    for position, event in enumerate(found):
        payload: object
        try:
            payload = source.payload(event)
        except InvalidRequest as refusal:
            payload = refusal
        if payload is not None:
            events.append(_Event(position, payload))
    if ignored := len(found) - len(events):
        count("WebhooksIgnored", ignored)
    return events


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
