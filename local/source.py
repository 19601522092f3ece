"""``make source``: shows what a source's declaration makes of an event, before anything is deployed.

The declaration is in a file with the content of the webhook secret. The event is one of API Gateway
(events/source-….json), or a body; then name the source, unless only one is declared.
"""

import argparse
import base64
import json
import sys
import time
from codecs import BOM_UTF8
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from end_conversation.aws.secret import INVISIBLE
from end_conversation.command import Command
from end_conversation.errors import EndConversationError, InvalidRequest, InvalidSignature
from end_conversation.http_request import FORM, HttpRequest
from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks.expressions import EvaluationError
from end_conversation.webhooks.proofs import (
    form_fields,
    sign_hmac,
    sign_standard,
    sign_twilio,
    signed_content,
)
from end_conversation.webhooks.sources import Source, WebhookSecret, parse_webhook_secret
from local.terminal import styled

_BASE_URL = "https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com"

_USAGE = """make source EVENT=event.json [SECRET=secret.json] [SOURCE=name] [BASE_URL=https://…]

Shows what a source's declaration makes of an event, before you deploy anything.

EVENT     an API Gateway event, or a file with the body alone
SECRET    a file with the content of the webhook secret (default: local/webhook-secret.json)
SOURCE    the source that a body is for (default: the only one)
BASE_URL  the URL up to /webhooks/, for senders that sign it (WebhookBaseUrl)

Try: make source EVENT=events/source-zendesk.json"""


class Unusable(Exception):
    """Something is missing in the files; the message says what."""


def explain(secret: WebhookSecret, event: dict[str, Any], base_url: str | None) -> Iterator[tuple[bool, str]]:
    """What the source makes of an event: lines of text, each with whether all is well."""
    request = to_http_request(event)
    for name, reason in secret.invalid.items():
        yield False, f"source   {name} is invalid: {reason}"
    source = secret.sources.get(request.source or "")
    if source is None:
        if request.source not in secret.invalid:
            yield False, f"source   {request.source} is not declared"
        return
    yield True, f"source   {source.name}, {source.proof.type}"
    yield _signature(source, request, base_url)
    for line in expected(source, request, base_url):
        yield True, f"expected {line}"
    if (challenge := source.challenge_in(request)) is not None:
        yield True, f"answer   {json.dumps({'challenge': challenge})}"
        return
    try:
        events = source.events(request)
    except EndConversationError as error:
        yield False, f"body     {error}"
        return
    for number, each in enumerate(events, 1):
        yield from _explain_event(source, each, number, request.sent_at)


def _explain_event(
    source: Source, event: object, number: int, sent_at: datetime | None
) -> Iterator[tuple[bool, str]]:
    payload: dict[str, Any] = {}
    try:
        mapped = source.payload(event)
        if mapped is None:
            yield True, f"event {number}  is ignored, because of `when`"
            return
        payload = mapped
        Command.parse(payload, sent_at)
    except InvalidRequest as error:
        yield False, f"event {number}  makes no valid command"
        for field, message in error.errors:
            yield False, f"  {field} {message}; it is {_shown(_value(source, event, field))}"
        if not payload:
            return
    else:
        yield True, f"event {number}  makes the command"
    given = {field: value for field, value in payload.items() if value is not None}
    yield True, _shown(given, indent=2)


def _value(source: Source, event: object, field: str) -> object:
    """An expression's result, or the value for which it failed."""
    expression = source.when if field == "when" else source.command.get(field)
    try:
        return expression and expression.search(event)
    except EvaluationError as error:
        return error.value


def _shown(value: object, indent: int | None = None) -> str:
    # Escape invisible characters: they are often the mistake.
    return json.dumps(value, indent=indent, ensure_ascii=not str(value).isprintable())


def expected(source: Source, request: HttpRequest, base_url: str | None) -> Iterator[str]:
    """The headers that prove the source, made with its first key; it does not show the key itself."""
    proof, key, body = source.proof, source.keys[0], request.body()
    now = _now(request)
    match proof.type:
        case "standard":
            message_id = _said(request, "webhook-id", "msg_1")
            timestamp = _said(request, "webhook-timestamp", str(int(now)))
            yield f"webhook-id: {message_id}"
            yield f"webhook-timestamp: {timestamp}"
            yield f"webhook-signature: {sign_standard(key, message_id, timestamp, body)}"
        case "hmac":
            timestamp = _written(now, proof.timestamp_format) if "{timestamp}" in proof.signed else ""
            if proof.timestamp_header:
                timestamp = _said(request, proof.timestamp_header, timestamp)
                yield f"{proof.timestamp_header}: {timestamp}"
            try:
                content = signed_content(proof, request, timestamp, base_url)
            except InvalidSignature:
                yield f"{proof.header}: (not without the headers that are signed)"
                return
            filled = proof.format.replace("{timestamp}", timestamp)
            yield f"{proof.header}: {filled.replace('{signature}', sign_hmac(proof, key, content))}"
        case "token":
            yield f"{proof.header}: {proof.prefix}(one of the keys)"
        case "basic":
            yield "authorization: Basic (base64 of one of the keys)"
        case "twilio":
            url = request.url(base_url)
            fields = form_fields(body) if request.is_form else []
            if not request.is_form and "bodySHA256" not in request.query:
                url += f"{'&' if request.query else '?'}bodySHA256={sha256(body).hexdigest()}"
            yield f"x-twilio-signature: {sign_twilio(key, url, fields)}"
            yield f"         for {url}"


def event_of(data: bytes, name: str | None, secret: WebhookSecret, base_url: str) -> dict[str, Any]:
    """The event of API Gateway that a file holds, or the one that its content would make as a body."""
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    # Broken JSON is no form.
    is_json = document is not None or data.removeprefix(BOM_UTF8).lstrip()[:1] in (b"{", b"[")
    if isinstance(document, dict) and "requestContext" in document:
        return document
    if name is None:
        declared = [*secret.sources, *secret.invalid]
        if len(declared) != 1:
            raise Unusable(f"say which source it is for: make source … SOURCE={' or '.join(declared)}")
        (name,) = declared
    path = f"/webhooks/{name}"
    return {
        "rawPath": urlsplit(base_url).path + path,
        "rawQueryString": "",
        "routeKey": "POST /webhooks/{source}",
        "headers": {"content-type": "application/json" if is_json else FORM},
        "pathParameters": {"source": name},
        "requestContext": {
            "domainName": urlsplit(base_url).netloc,
            "http": {"method": "POST"},
            "timeEpoch": int(time.time() * 1000),
        },
        "body": base64.b64encode(data).decode(),
        "isBase64Encoded": True,
    }


def _signature(source: Source, request: HttpRequest, base_url: str | None) -> tuple[bool, str]:
    """Whether the request was valid when it was received. A body alone has no proof; that is no error."""
    try:
        source.verify(request, _now(request), base_url)
    except InvalidSignature as refusal:
        if refusal.cause.endswith("_missing"):
            return True, "proof    none in this file"
        return False, f"proof    {refusal.cause}"
    return True, "proof    valid"


def _now(request: HttpRequest) -> float:
    return time.time() if request.sent_at is None else request.sent_at.timestamp()


def _said(request: HttpRequest, header: str, default: str) -> str:
    return next(iter(request.header(header)), default)


def _written(now: float, form: str) -> str:
    match form:
        case "rfc3339":
            return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case "unix-ms":
            return str(int(now * 1000))
    return str(int(now))


def main() -> None:
    """Explain the event that is named on the command line."""
    parser = argparse.ArgumentParser(usage=_USAGE)
    parser.add_argument("secret", type=Path)
    parser.add_argument("event", type=Path, nargs="?")
    parser.add_argument("--source")
    parser.add_argument("--base-url")
    given = parser.parse_args()
    if given.event is None:
        print(_USAGE)
        sys.exit(2)
    try:
        secret = parse_webhook_secret(given.secret.read_text(encoding="utf-8").strip(INVISIBLE))
        event = event_of(given.event.read_bytes(), given.source, secret, given.base_url or _BASE_URL)
        lines = list(explain(secret, event, given.base_url))
    except (OSError, ValueError, Unusable) as error:
        sys.exit(str(error))
    for is_right, line in lines:
        print(line if is_right else styled(line, "red"))
    sys.exit(0 if all(is_right for is_right, _ in lines) else 1)


if __name__ == "__main__":
    main()
