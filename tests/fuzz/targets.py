"""The entries of the function, each with what is sent to it and with what has to come of that."""

import base64
import contextlib
import json
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from hypothesis.strategies import SearchStrategy

from local import signing
from local.stand_ins import WEBHOOK_SECRET_ID
from local.studio import API_KEY
from tests.fuzz import inputs, sources
from tests.fuzz.inputs import FLOWS, Exchange, Webhook
from tests.fuzz.model import (
    AT_ONCE,
    CODES,
    PERMANENT,
    SCHEMA,
    Outcome,
    by_sid,
    from_milliseconds,
    instant,
    parsed,
)
from tests.fuzz.scripted import ScriptedTwilio
from tests.fuzz.world import AGE_MINUTES, OUTCOMES, PATIENCE, SECONDS, Told, World, insist, world


class Target(NamedTuple):
    """What is fuzzed.

    Attributes:
        inputs: what is sent.
        check: sends one, tells what came of it in a word, and raises a Finding if that may not be.
    """

    inputs: SearchStrategy[Any]
    check: Callable[[Any], str]


REFUSALS = {"InvalidRequest", "FlowNotAllowed", "AccountNotAllowed", "ExecutionNotFound"}
"""What the function may raise while nothing around it fails."""

FAILURE_CODES: dict[int, set[str | None]] = {
    200: {None},
    404: {"execution_not_found"},
    502: {"twilio_error", "credentials_rejected"},
    503: {"twilio_throttled", "credentials_unavailable"},
    504: {"twilio_timeout"},
}
"""The statuses of answers while Twilio answers anything, each with the codes that it may have."""

LONGEST_MESSAGE = 250_000
"""Characters of a message that a queue certainly takes, with its attributes."""

TOLERANCE = 300
"""Seconds that a signature's time may be off."""


@contextlib.contextmanager
def events(handler: str | None) -> Iterator[Target]:
    """The function's handler, with an event of any trigger."""

    def check(event: Any) -> str:
        around.renew()
        told = around.invoke(event, around.handler)
        around.look_at_twilio()
        around.look_at_what_ended(event, told)
        match told.answer:
            case {"statusCode": _}:
                return _answered(around, told, [_expected_of_body(around, event)])
            case {"batchItemFailures": failures}:
                return _batch(around, told, event["Records"], failures)
        latest = None
        expected = Outcome("invalid_request")
        if isinstance(event, dict) and "detail-type" in event:
            latest, event, is_time = _trigger_time(event)
            expected = around.model.outcome(event, latest) if is_time else expected
        else:
            expected = around.model.outcome(event, None)
        insist(
            told.code == expected.code,
            f"{told.code} is not what has to come of the command, but {expected.code}",
        )
        if told.error is not None:
            return _refused(told)
        insist(told.count(*OUTCOMES) == 1, "there is not one log line for the command")
        insist(by_sid(told.answer["executions"]) == expected.ended, "this is not what had to be ended")
        insist({one.sid for one in around.ended()} == expected.ended, "it did not end what it says")
        return "ended"

    with world(handler) as around:
        yield Target(inputs.events, check)


@contextlib.contextmanager
def webhooks(handler: str | None) -> Iterator[Target]:
    """The webhook route, with requests that are signed, and forged."""

    def check(webhook: Webhook) -> str:
        around.renew()
        event = webhook.event(time.time())
        told = around.invoke(event, around.handler)
        around.look_at_twilio()
        around.look_at_what_ended(event, told)
        insist(told.error is None, "a webhook is answered, whatever it is")
        status = told.answer["statusCode"]
        if webhook.is_genuine:
            insist(status != 401, "what was rightly signed is refused")
        if status != 401:
            insist(_is_signed(event), "what nobody signed is taken")
            age = time.time() - int(event["headers"]["webhook-timestamp"])
            insist(abs(age) < TOLERANCE + SECONDS, "a signature is taken that is too old, or not yet made")
        else:
            insist(not around.around.studio.requests, "Twilio is asked for what nobody signed")
        return _answered(around, told, [_expected_of_body(around, event)])

    with world(handler) as around:
        yield Target(inputs.webhooks, check)


@contextlib.contextmanager
def source_events(handler: str | None) -> Iterator[Target]:
    """The route of sources, with webhooks that prove where they come from, and others."""

    def check(call: sources.Call) -> str:
        around.renew()
        told = around.invoke(call.event(time.time()), around.handler)
        around.look_at_twilio()
        insist(told.error is None, "a webhook is answered, whatever it is")
        status, payloads = told.answer["statusCode"], call.payloads
        insist((status == HTTPStatus.UNAUTHORIZED) == (not call.is_genuine), f"{status} for a proof")
        if not call.is_genuine:
            insist(not around.around.studio.requests, "Twilio is asked for what nobody has proved")
            return _answered(around, told, [])
        if payloads == []:
            insist((status, json.loads(told.answer["body"])) == (200, {"status": "ignored"}), "not ignored")
            return "ignored"
        if payloads is None:
            expected = [Outcome("invalid_request")]
        else:
            latest = from_milliseconds(call.sent_at)
            expected = [around.model.outcome(payload, latest) for payload in payloads]
        return _answered(around, told, expected)

    with world(handler) as around:
        around.around.aws.put_secret(WEBHOOK_SECRET_ID, {"sources": sources.SOURCES})
        yield Target(sources.calls, check)


@contextlib.contextmanager
def declarations(handler: str | None) -> Iterator[Target]:
    """The secret of the webhooks with any declarations, each of which gets a large body."""
    with world(handler) as around:
        # Through the handler, one secret would last for a minute.
        from end_conversation.command import Command  # noqa: PLC0415 -- imported by now, with its coverage
        from end_conversation.errors import EndConversationError  # noqa: PLC0415 -- the same
        from end_conversation.triggers.api_gateway import to_http_request  # noqa: PLC0415 -- the same
        from end_conversation.webhooks.sources import parse_webhook_secret  # noqa: PLC0415 -- the same

        def check(given: tuple[str, str]) -> str:
            text, body = given
            began = time.monotonic()
            try:
                secret = parse_webhook_secret(text)
            except ValueError as refusal:
                around.search("".join(traceback.format_exception(refusal)))
                return "refused"
            around.search(json.dumps(dict(secret.invalid)))
            came = "invalid" if secret.invalid else "only keys"
            for name, source in secret.sources.items():
                came = "no command"
                request = to_http_request(sources.webhook(name, body))
                try:
                    for payload in source.events(request):
                        if payload is not None:
                            Command.parse(payload, request.sent_at)
                        came = "command" if payload else "ignored"
                except EndConversationError as refusal:
                    around.search("".join(traceback.format_exception(refusal)))
            took = time.monotonic() - began
            insist(took < PATIENCE, f"it took {took:.1f} s")
            return came

        yield Target(sources.declared, check)


@contextlib.contextmanager
def sweeps(handler: str | None) -> Iterator[Target]:
    """The sweep's handler, with any input."""

    def check(event: Any) -> str:
        around.renew()
        told = around.invoke(event, around.handler if handler else around.sweep)
        around.look_at_twilio()
        ended = sum(request.method == "POST" for request in around.around.studio.requests)
        if told.error is not None:
            insist(not ended, "something was ended and then forgotten")
            return _refused(told, "sweep_failed")
        insist(told.answer.keys() == {"dry_run", "complete", "flows"}, "this is not what a sweep tells")
        insist(not (ended and event.get("dry_run")), "what was only to be counted was ended")
        insist(ended <= (event.get("limit") or ended), "more was ended than was asked for")
        minutes = event.get("older_than_minutes")
        insist(not ended or (minutes is not None and minutes <= AGE_MINUTES), "what is not stuck was ended")
        insist(
            sum(flow["ended"] for flow in told.answer["flows"]) == ended,
            "what was ended is not what it tells",
        )
        insist(told.sum("ExecutionsEnded") == ended, "the metric is not what was ended")
        stuck = sum(flow["stuck"] for flow in told.answer["flows"])
        insist(stuck >= ended, "more was ended than is stuck")
        counted = 0 if event.get("dry_run") else stuck
        insist(told.sum("StuckExecutions") == counted, "what is stuck is not counted, or in a dry run")
        whole = (event.get("dry_run") or ended == stuck) and not any(
            "error" in flow for flow in told.answer["flows"]
        )
        insist(
            told.answer["complete"] == whole, "it is complete, and does not say so, or the other way round"
        )
        return "swept" if ended else "nothing to sweep"

    with world(handler) as around:
        yield Target(inputs.sweeps, check)


@contextlib.contextmanager
def answers(handler: str | None) -> Iterator[Target]:
    """Both handlers, with a Twilio that answers anything."""
    # Waiting between tries is not what is looked into; the function is imported after this.
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(min(float(seconds), 0.001))
    authorization = "Basic " + base64.b64encode(":".join(API_KEY).encode()).decode()

    def check(exchange: Exchange) -> str:
        twilio.script(exchange.replies)
        around.renew()
        sweep = around.handler if handler else around.sweep
        told = around.invoke(exchange.event, sweep if exchange.is_sweep else around.handler, seconds=0.8)
        # What is left of a script must not be read as the answer to what comes next.
        twilio.hang_up()
        for head, body in twilio.requests:
            _look_at(head, body, twilio.host, authorization)
        asked = {target for target in (_ended_sid(head) for head, _ in twilio.requests) if target}
        if "execution_sid" not in exchange.event and "requestContext" not in exchange.event:
            insist(asked <= _listed(exchange), "what nobody asked for was to be ended")
        if told.error is None:
            said = b"".join(reply.content for reply in exchange.replies)
            if "execution_sid" in exchange.event or (told.answer or {}).get("statusCode") == HTTPStatus.OK:
                insist(b'"ended"' in said or b"20409" in said, "it says ended, and Twilio does not")
            if "requestContext" in exchange.event:
                return _answered_failure(told)
            return "swept" if exchange.is_sweep else "ended"
        return type(told.error).__name__

    with (
        ScriptedTwilio() as twilio,
        # A second for publishing is more than there is in all.
        world(
            handler, {"TWILIO_STUDIO_BASE_URL": f"http://{twilio.host}", "OUTCOME_EVENT_BUS": ""}
        ) as around,
    ):
        yield Target(inputs.exchanges, check)


TARGETS: dict[str, Callable[[str | None], contextlib.AbstractContextManager[Target]]] = {
    made.__name__: made for made in (events, webhooks, source_events, declarations, sweeps, answers)
}
"""By name."""


def _refused(told: Told, message: str = "conversation_not_ended") -> str:
    kind = type(told.error).__name__
    insist(kind in REFUSALS, f"{kind} while nothing around the function fails")
    insist(told.count(message) == 1, "there is not one log line for the failure")
    metric = "ExecutionsNotFound" if kind == "ExecutionNotFound" else "RequestsRejected"
    insist(told.sum(metric) == 1, f"the failure is not counted once in {metric}")
    return kind


def _answered(around: World, told: Told, expected: list[Outcome]) -> str:
    """See that an answer is what has to come of the commands in a request, if there are any."""
    status, headers = told.answer["statusCode"], told.answer["headers"]
    insist(status in CODES, f"{status} while nothing around the function fails")
    body = json.loads(told.answer["body"])
    code = body.get("code")
    insist(code in CODES[status], f"{status} with {code}")
    if status == HTTPStatus.ACCEPTED:
        return _accepted(around, told, expected)
    insist(not told.sum("CommandsQueued"), "what is not accepted is queued")
    lines = [line.get("code") for line in told.lines if line.get("message") in OUTCOMES]
    insist(code in lines, "the log has another code")
    if code is None:
        insist(lines == [None] * len(expected), "there is not one log line for each command")
        insist(headers["content-type"] == "application/json", "a result has another type")
        results = body["results"] if len(expected) > 1 else [body]
        ended = {sid for result in results for sid in by_sid(result["executions"])}
        insist(ended == {sid for each in expected for sid in each.ended}, "this is not what had to be ended")
        insist({one.sid for one in around.ended()} == ended, "it did not end what it says")
        return "200"
    insist(headers["content-type"] == "application/problem+json", "a problem has another type")
    insist(body.keys() >= {"type", "title", "status", "detail", "request_id"}, "a problem lacks something")
    insist(body["status"] == status, "a problem has another status")
    if code in PERMANENT:
        codes = [each.code for each in expected if each.code]
        # Of what is queued nobody knows yet whether Twilio knows it.
        insist(
            code in codes[:1] or code in [each for each in codes if each in AT_ONCE][:1],
            f"{code}, not {codes}",
        )
    return f"{status} {code}"


def _accepted(around: World, told: Told, expected: list[Outcome]) -> str:
    """See that what was accepted is in the queue, and will come to the same."""
    commands = around.queued()
    insist(told.count("command_queued") == told.sum("CommandsQueued") == len(commands), "not all is queued")
    insist(told.count(*OUTCOMES) == 0 and not around.ended(), "it was carried out as well")
    insist(all(command.keys() <= SCHEMA["properties"].keys() for command in commands), "more is queued")
    outcomes = [around.model.outcome(command, None) for command in commands]
    insist(sorted(map(repr, outcomes)) == sorted(map(repr, expected)), f"{outcomes}, not {expected}")
    return "202"


def _answered_failure(told: Told) -> str:
    status, code = told.answer["statusCode"], json.loads(told.answer["body"]).get("code")
    insist(code in FAILURE_CODES.get(status, ()), f"{status} with {code}")
    insist(told.count(*OUTCOMES) == 1, "there is not one log line for the command")
    insist(
        status != HTTPStatus.SERVICE_UNAVAILABLE
        or code != "twilio_throttled"
        or "retry-after" in told.answer["headers"],
        "it does not say when to come again",
    )
    return f"{status} {code or ''}".rstrip()


def _expected_of_body(around: World, event: Mapping[str, Any]) -> Outcome:
    body = event.get("body")
    if not isinstance(body, str):
        return Outcome("invalid_request")
    sent = body.encode(errors="surrogatepass")
    if event.get("isBase64Encoded") is True:
        try:
            sent = base64.b64decode(body, validate=True)
        except ValueError:
            return Outcome("invalid_request")
    is_json, payload = parsed(sent)
    context = event["requestContext"] if isinstance(event["requestContext"], dict) else {}
    latest = from_milliseconds(context.get("timeEpoch", context.get("requestTimeEpoch")))
    return around.model.outcome(payload, latest) if is_json else Outcome("invalid_request")


def _batch(around: World, told: Told, records: list[Any], failures: list[Any]) -> str:
    again = {failure["itemIdentifier"] for failure in failures}
    ended: set[str] = set()
    for record in records:
        expected = _expected_of_message(around, record)
        ended |= expected.ended
        message_id = record["messageId"]
        lines = [line for line in told.lines if line.get("message_id") == message_id]
        codes = [line.get("code") for line in lines if line.get("message") in OUTCOMES]
        insist(codes == [expected.code], f"{codes} is not what has to come of a message, but {expected.code}")
        is_aside = any(line.get("message") == "message_dead_lettered" for line in lines)
        insist(
            is_aside == (expected.code is not None and message_id not in again),
            "a message is lost, or there twice",
        )
        # What no queue can hold, the dead-letter queue refuses.
        is_text = isinstance(record.get("body"), str) and record["body"].isprintable() and record["body"]
        insist(
            message_id not in again or not is_text or len(record["body"]) > LONGEST_MESSAGE,
            "a message comes again",
        )
    set_aside = told.count("message_dead_lettered")
    letters = around.dead_letters() if set_aside or failures else []
    # On a busy machine one may be there twice, or be there and count as failed: sent, but not told in time.
    insist(len(letters) >= set_aside, f"of {set_aside} messages set aside {len(letters)} are in their queue")
    # What is no text cannot be sent on; nor could SQS bring it.
    bodies = [record["body"] if isinstance(record.get("body"), str) else "" for record in records]
    insist(
        all(body in bodies and code in PERMANENT for body, code in letters), "another message was set aside"
    )
    insist({one.sid for one in around.ended()} == ended, "this is not what had to be ended")
    return "batch"


def _expected_of_message(around: World, record: Mapping[str, Any]) -> Outcome:
    body, attributes = record.get("body"), record.get("attributes")
    is_json, payload = parsed(body.encode(errors="surrogatepass")) if isinstance(body, str) else (False, None)
    if not is_json:
        return Outcome("invalid_request")
    sent = from_milliseconds(attributes.get("SentTimestamp") if isinstance(attributes, dict) else None)
    if not isinstance(payload, dict) or "detail-type" not in payload:
        return around.model.outcome(payload, sent)
    latest, payload, is_time = _trigger_time(payload)
    return around.model.outcome(payload, latest or sent) if is_time else Outcome("invalid_request")


def _trigger_time(event: Mapping[str, Any]) -> tuple[datetime | None, Any, bool]:
    """The time of an event, its detail, and whether the time is one, or none is given."""
    latest = instant(event.get("time"))
    return latest, event.get("detail"), latest is not None or event.get("time") is None


def _ended_sid(head: str) -> str | None:
    """The Execution that a request is to end."""
    found = re.match(r"POST /v2/Flows/\w+/Executions/(FN\w+) ", head)
    return found and found[1]


def _listed(exchange: Exchange) -> set[str]:
    """The Executions that may be ended by what Twilio listed."""
    items = [
        item
        for reply in exchange.replies
        if isinstance(reply.document, dict) and isinstance(reply.document.get("executions"), list)
        for item in reply.document["executions"]
        if isinstance(item, dict)
    ]
    contact = exchange.event.get("contact")
    return {
        item["sid"]
        for item in items
        if isinstance(item.get("sid"), str)
        and item.get("status") == "active"
        and contact in (None, item.get("contact_channel_address"))
    }


def _is_signed(event: Mapping[str, Any]) -> bool:
    headers, body = event["headers"], base64.b64decode(event["body"])
    signed = signing.signed(body, message_id=headers["webhook-id"], timestamp=headers["webhook-timestamp"])
    return signed["webhook-signature"] in headers["webhook-signature"].split(" ")


def _look_at(head: str, body: str, host: str, authorization: str) -> None:
    first, *lines = head.split("\r\n")
    method, target, version = first.split(" ")
    url = urlsplit(target)
    insist(
        re.fullmatch(f"/v2/Flows/({'|'.join(FLOWS)})/Executions(/FN[0-9a-fA-F]{{32}})?", url.path),
        "another path",
    )
    query = parse_qs(url.query, keep_blank_values=True)
    insist(query.keys() <= {"status", "DateCreatedTo", "PageSize", "Page", "PageToken"}, "another query")
    if query:
        insist((query["status"], query["PageSize"]) == (["active"], ["1000"]), "Twilio set a filter of ours")
    insist(
        (method, body, version) in {("GET", "", "HTTP/1.1"), ("POST", "Status=ended", "HTTP/1.1")},
        "another request",
    )
    insist(f"Host: {host}" in lines and f"Authorization: {authorization}" in lines, "another host, or user")
    insist(sum(line.lower().startswith("host:") for line in lines) == 1, "there are two hosts")
