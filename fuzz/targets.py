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
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import jsonschema
from hypothesis.strategies import SearchStrategy
from rfc3339_validator import validate_rfc3339

from end_conversation import studio
from end_conversation.command import SCHEMA, Command, parse_json
from end_conversation.config import Config
from end_conversation.credentials import parse_credentials
from end_conversation.errors import ConfigurationError, InvalidRequest
from end_conversation.webhook import SHORTEST_KEY, parse_keys
from fuzz import inputs
from fuzz.inputs import FLOWS, Exchange, Webhook
from fuzz.scripted import ScriptedTwilio
from fuzz.world import AGE_MINUTES, OUTCOMES, Told, World, insist, world
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

STATUSES = {200, 400, 401, 403, 404, 405, 415}
"""What it may answer over HTTP then."""

PERMANENT = {"invalid_request", "flow_not_allowed", "execution_not_found"}
"""Why a message may be set aside."""

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
        if told.error is not None:
            return _refused(told)
        match told.answer:
            case {"statusCode": _}:
                return _answered(told)
            case {"batchItemFailures": failures}:
                return _batch(around, told, event["Records"], failures)
        insist(told.count(*OUTCOMES) == 1, "there is not one log line for the command")
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
        else:
            insist(not around.around.studio.requests, "Twilio is asked for what nobody signed")
        return _answered(told)

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
        if told.error is None:
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
    # In Python's re, which jsonschema uses as it is, `$` also matches before a last newline.
    schema = json.loads(json.dumps(SCHEMA).replace('$"', '\\\\Z"'))
    checker = jsonschema.FormatChecker(formats=())
    checker.checks("date-time")(_is_date_time)
    validator = jsonschema.Draft202012Validator(schema, format_checker=checker)

    def check(text: str) -> str:
        sent = text.encode(errors="surrogatepass")
        try:
            payload = parse_json(sent)
        except InvalidRequest as refusal:
            around.search(str(refusal))
            return "no JSON"
        present = payload
        if isinstance(payload, dict):
            present = {name: value for name, value in payload.items() if value is not None}
        expected = validator.is_valid(present) and _is_unicode(payload)
        try:
            command = Command.parse(payload)
        except InvalidRequest as refusal:
            around.search(str(refusal), repr(refusal.errors))
            insist(not expected, "a valid command is refused")
            return "refused"
        insist(expected, "an invalid command is taken")
        around.search(repr(replace(command, reason=None, conversation_id=None)))
        return "taken"

    with world(handler) as around:
        yield Target(inputs.json_texts(inputs.commands), check, around)


@contextlib.contextmanager
def secrets(handler: str | None) -> Iterator[Target]:
    """The parsers of both secrets."""

    def check(text: str) -> str:
        taken = []
        for parse in (parse_credentials, parse_keys):
            try:
                with around.listening():
                    value: Any = parse(text)
            except ValueError as refusal:
                around.search("".join(traceback.format_exception(refusal)))
                continue
            taken.append(parse.__name__)
            around.search(repr(value) if parse is parse_credentials else "")
            if parse is parse_keys:
                insist(all(len(key) >= SHORTEST_KEY for key in value), "a key that is too short is taken")
            else:
                insist(re.fullmatch("Basic [A-Za-z0-9+/]+=*", value.authorization), "no value of a header")
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
    return kind


def _answered(told: Told) -> str:
    answer = told.answer
    insist(
        answer["statusCode"] in STATUSES, f"{answer['statusCode']} while nothing around the function fails"
    )
    insist(told.count(*OUTCOMES) == 1, "there is not one log line for the command")
    body = json.loads(answer["body"])
    code = "" if answer["statusCode"] == 200 else f" {body['code']}"  # noqa: PLR2004 -- OK
    return f"{answer['statusCode']}{code}"


def _batch(around: World, told: Told, records: list[Any], failures: list[Any]) -> str:
    ids = [record["messageId"] for record in records]
    insist(all(failure["itemIdentifier"] in ids for failure in failures), "a message failed that nobody sent")
    set_aside = told.count("message_dead_lettered")
    found = told.count("conversation_ended") + set_aside + len(failures)
    insist(found == len(records), "a message is neither done nor set aside nor reported")
    letters = around.dead_letters() if set_aside or failures else []
    # On a busy machine one may be there twice, or be there and count as failed: sent, but not told in time.
    insist(len(letters) >= set_aside, f"of {set_aside} messages set aside {len(letters)} are in their queue")
    bodies = [record.get("body", "") for record in records]
    insist(
        all(body in bodies and code in PERMANENT for body, code in letters), "another message was set aside"
    )
    return f"{len(records)} messages, {set_aside} set aside, {len(failures)} again"


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


def _is_date_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    text = value.upper()
    # The other implementation knows no leap seconds.
    if text[17:19] == "60":
        text = f"{text[:17]}59{text[19:]}"
    return bool(validate_rfc3339(text)) and not text.endswith("\n") and _is_in_the_calendar(text)


def _is_in_the_calendar(text: str) -> bool:
    """Whether Python can count to it, in UTC."""
    try:
        datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return True


def _is_unicode(payload: object) -> bool:
    """Whether the texts that a command is made of can be written as UTF-8."""
    texts = [payload.get(name) for name in SCHEMA["properties"]] if isinstance(payload, dict) else []
    try:
        "".join(text for text in texts if isinstance(text, str)).encode()
    except UnicodeEncodeError:
        return False
    return True
