"""The entries of the function, each with what is sent to it and with what has to come of that."""

import base64
import contextlib
import json
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from hypothesis.strategies import SearchStrategy

from end_conversation.command import Command, from_milliseconds, parse_json
from end_conversation.config import Config
from end_conversation.errors import ConfigurationError, InvalidRequest
from end_conversation.triggers.proof import SHORTEST_KEY, TOLERANCE
from end_conversation.triggers.sources import parse_webhook_secret
from end_conversation.twilio import studio
from end_conversation.twilio.credentials import parse_credentials
from fuzz import inputs
from fuzz.inputs import FLOWS, Exchange, Webhook
from fuzz.model import CODES, PERMANENT, Outcome, by_sid, instant, is_valid, parsed
from fuzz.scripted import ScriptedTwilio
from fuzz.world import AGE_MINUTES, OUTCOMES, SECONDS, Told, World, insist, world
from local import signing
from local.studio import API_KEY


class Target(NamedTuple):
    """What is fuzzed.

    Attributes:
        inputs: what is sent.
        check: sends one, tells what came of it in a word, and raises a Finding if that may not be.
        world: everything around.
    """

    inputs: SearchStrategy[Any]
    check: Callable[[Any], str]
    world: World


REFUSALS = {"InvalidRequest", "FlowNotAllowed", "ExecutionNotFound"}
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

FAILURES = REFUSALS | {
    "TwilioError",
    "TwilioTimeout",
    "TwilioThrottled",
    "CredentialsRejected",
    "CredentialsUnavailable",
}
"""What it may raise while Twilio answers anything."""


@contextlib.contextmanager
def events(handler: str | None) -> Iterator[Target]:
    """The function's handler, with an event of any trigger."""

    def check(event: Any) -> str:  # noqa: ANN401 -- any JSON
        around.renew()
        told = around.invoke(event, around.handler)
        around.look_at_twilio()
        around.look_at_what_ended(event, told)
        match told.answer:
            case {"statusCode": _}:
                return _answered(around, told, event)
            case {"batchItemFailures": failures}:
                return _batch(around, told, event["Records"], failures)
        latest = None
        expected = Outcome("invalid_request")
        if isinstance(event, dict) and "detail-type" in event:
            latest, event, is_time = _trigger_time(event)
            expected = around.model.outcome(event, latest) if is_time else expected
        else:
            expected = around.model.outcome(event, None)
        code = None if told.error is None else told.error.code
        insist(code == expected.code, f"{code} is not what has to come of the command, but {expected.code}")
        if told.error is not None:
            return _refused(told)
        insist(told.count(*OUTCOMES) == 1, "there is not one log line for the command")
        insist(by_sid(told.answer["executions"]) == expected.ended, "this is not what had to be ended")
        insist({one.sid for one in around.ended()} == expected.ended, "it did not end what it says")
        return "ended"

    with world(handler) as around:
        yield Target(inputs.events, check, around)


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
            insist(status != 401, "what was rightly signed is refused")  # noqa: PLR2004 -- Unauthorized
        if status != 401:  # noqa: PLR2004 -- Unauthorized
            insist(_is_signed(event), "what nobody signed is taken")
            age = time.time() - int(event["headers"]["webhook-timestamp"])
            insist(abs(age) < TOLERANCE + SECONDS, "a signature is taken that is too old, or not yet made")
        else:
            insist(not around.around.studio.requests, "Twilio is asked for what nobody signed")
        return _answered(around, told, event)

    with world(handler) as around:
        yield Target(inputs.webhooks, check, around)


@contextlib.contextmanager
def sweeps(handler: str | None) -> Iterator[Target]:
    """The sweep's handler, with any input."""

    def check(event: Any) -> str:  # noqa: ANN401 -- any JSON
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
        insist(told.sum("StuckExecutions") == stuck >= ended, "what is stuck is not counted")
        whole = (event.get("dry_run") or ended == stuck) and not any(
            "error" in flow for flow in told.answer["flows"]
        )
        insist(
            told.answer["complete"] == whole, "it is complete, and does not say so, or the other way round"
        )
        return "swept" if ended else "nothing to sweep"

    with world(handler) as around:
        yield Target(inputs.sweeps, check, around)


@contextlib.contextmanager
def answers(handler: str | None) -> Iterator[Target]:
    """Both handlers, with a Twilio that answers anything."""
    # Waiting between tries is not what is looked into.
    before, studio.BACKOFF = studio.BACKOFF, 0.001
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
        kind = type(told.error).__name__
        insist(kind in FAILURES, f"{kind} is not what may come of Twilio's answer")
        return kind

    try:
        with (
            ScriptedTwilio() as twilio,
            world(handler, {"TWILIO_STUDIO_BASE_URL": f"http://{twilio.host}"}) as around,
        ):
            yield Target(inputs.exchanges, check, around)
    finally:
        studio.BACKOFF = before


@contextlib.contextmanager
def commands(handler: str | None) -> Iterator[Target]:
    """The parser of commands, against other implementations of JSON Schema and RFC 3339."""

    def check(text: str) -> str:
        sent = text.encode(errors="surrogatepass")
        try:
            payload: Any = parse_json(sent)
        except InvalidRequest as refusal:
            around.search(str(refusal))
            insist(not parsed(sent)[0], "JSON is refused")
            return "no JSON"
        insist(parsed(sent)[0], "what is no JSON is taken")
        try:
            command = Command.parse(payload)
        except InvalidRequest as refusal:
            around.search(str(refusal), repr(refusal.errors))
            insist(not is_valid(payload), "a valid command is refused")
            return "refused"
        insist(is_valid(payload), "an invalid command is taken")
        around.search(repr(replace(command, reason=None, conversation_id=None)))
        for name in ("flow_sid", "execution_sid", "contact", "conversation_id", "reason"):
            insist(getattr(command, name) == payload.get(name), f"{name} is another one")
        occurred_at, now = instant(payload.get("occurred_at")), datetime.now(UTC)
        off = (
            now - command.occurred_at
            if occurred_at is None or occurred_at > now
            else occurred_at - command.occurred_at
        )
        insist(
            abs(off.total_seconds()) < SECONDS if occurred_at is None or occurred_at > now else not off,
            "occurred_at is another one",
        )
        return "taken"

    with world(handler) as around:
        yield Target(inputs.json_texts(inputs.commands), check, around)


@contextlib.contextmanager
def secrets(handler: str | None) -> Iterator[Target]:
    """The parsers of both secrets."""

    def check(text: str) -> str:
        taken = []
        for parse in (parse_credentials, parse_webhook_secret):
            try:
                with around.listening():
                    value: Any = parse(text)
            except ValueError as refusal:
                around.search("".join(traceback.format_exception(refusal)))
                continue
            taken.append(parse.__name__)
            around.search(repr(value) if parse is parse_credentials else "")
            if parse is parse_webhook_secret:
                insist(
                    all(len(key) >= SHORTEST_KEY for key in value.keys), "a key that is too short is taken"
                )
            else:
                insist(
                    value.authorization == _authorization(text),
                    "no value of a header, or another one",
                )
        return " and ".join(taken) or "refused"

    with world(handler) as around:
        yield Target(inputs.secrets, check, around)


@contextlib.contextmanager
def settings(handler: str | None) -> Iterator[Target]:
    """The environment."""

    def check(environ: Mapping[str, str]) -> str:
        try:
            config = Config.from_environment(environ)
        except ConfigurationError as refusal:
            around.search(str(refusal))
            return "refused"
        url = urlsplit(config.studio_base_url)
        insist(url.netloc and not url.path and "@" not in url.netloc, "the base URL is more than a host")
        insist(
            config.studio_base_url.isascii() and config.studio_base_url.isprintable(),
            "the base URL is no URL",
        )
        is_near = url.hostname in {"127.0.0.1", "::1", "localhost"}
        in_sam = environ.get("AWS_SAM_LOCAL") == "true"
        insist(url.scheme == "https" or is_near or in_sam, "the credentials may travel in the clear")
        given = environ.get("ALLOWED_FLOW_SIDS", "")
        listed = {one for one in map(str.strip, given.split(",")) if re.fullmatch("FW[0-9a-fA-F]{32}", one)}
        insist(config.allowed_flow_sids == (listed if given else None), "another list of Flows is allowed")
        return "taken"

    with world(handler) as around:
        yield Target(inputs.settings, check, around)


TARGETS: dict[str, Callable[[str | None], contextlib.AbstractContextManager[Target]]] = {
    made.__name__: made for made in (events, webhooks, sweeps, answers, commands, secrets, settings)
}
"""By name."""


def _refused(told: Told, message: str = "conversation_not_ended") -> str:
    kind = type(told.error).__name__
    insist(kind in REFUSALS, f"{kind} while nothing around the function fails")
    insist(told.count(message) == 1, "there is not one log line for the failure")
    metric = "ExecutionsNotFound" if kind == "ExecutionNotFound" else "RequestsRejected"
    insist(told.sum(metric) == 1, f"the failure is not counted once in {metric}")
    return kind


def _answered(around: World, told: Told, event: Mapping[str, Any]) -> str:
    status, headers = told.answer["statusCode"], told.answer["headers"]
    insist(status in CODES, f"{status} while nothing around the function fails")
    insist(told.count(*OUTCOMES) == 1, "there is not one log line for the command")
    body = json.loads(told.answer["body"])
    code = body.get("code")
    insist(code in CODES[status], f"{status} with {code}")
    (line,) = (line for line in told.lines if line.get("message") in OUTCOMES)
    insist(line.get("code") == code, "the log has another code")
    expected = _expected_of_body(around, event)
    if code is None:
        insist(headers["content-type"] == "application/json", "a result has another type")
        insist(by_sid(body["executions"]) == expected.ended, "this is not what had to be ended")
        insist({one.sid for one in around.ended()} == expected.ended, "it did not end what it says")
        return "200"
    insist(headers["content-type"] == "application/problem+json", "a problem has another type")
    insist(body.keys() >= {"type", "title", "status", "detail", "request_id"}, "a problem lacks something")
    insist(body["status"] == status, "a problem has another status")
    if code in PERMANENT:
        insist(code == expected.code, f"{code} is not what has to come of the command, but {expected.code}")
    return f"{status} {code}"


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
    bodies = [record.get("body", "") for record in records]
    insist(
        all(body in bodies and code in PERMANENT for body, code in letters), "another message was set aside"
    )
    insist({one.sid for one in around.ended()} == ended, "this is not what had to be ended")
    return f"{len(records)} messages, {set_aside} set aside, {len(failures)} again"


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


def _authorization(text: str) -> str | None:
    """The value of the header that a Twilio secret makes, if it does."""
    _, secret = parsed(text)
    for user, password in (("apiKeySid", "apiKeySecret"), ("accountSid", "authToken")):
        if isinstance(secret, dict) and all(
            _is_shown(secret.get(name)) for name in ("accountSid", user, password)
        ):
            return "Basic " + base64.b64encode(f"{secret[user]}:{secret[password]}".encode("ascii")).decode()
    return None


def _is_shown(value: object) -> bool:
    """Whether it is printable ASCII, and not just spaces."""
    return isinstance(value, str) and re.fullmatch("[ -~]*[!-~][ -~]*", value) is not None


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
