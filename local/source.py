"""``make source``: what a source's declaration makes of an event, before anything is deployed.

The declaration is in a file that holds what the secret of the webhooks will hold. The event is one of API
Gateway (events/source-….json), or a file with nothing but the body; then the source has to be named, unless
only one is declared.
"""

import argparse
import base64
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from end_conversation.command import Command
from end_conversation.errors import EndConversationError, InvalidRequest, InvalidSignature
from end_conversation.http_request import FORM, HttpRequest
from end_conversation.triggers.api_gateway import to_http_request
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


class Unusable(Exception):
    """The files do not say enough; the text tells what is missing."""


def explain(secret: WebhookSecret, event: dict[str, Any], base_url: str | None) -> Iterator[tuple[bool, str]]:
    """What the source of an event makes of it, line by line, each with whether it is as it should be."""
    request = to_http_request(event)
    for name, reason in secret.invalid.items():
        yield False, f"source   {name} cannot be used: {reason}"
    source = secret.sources.get(request.source or "")
    if source is None:
        if request.source not in secret.invalid:
            yield False, f"source   {request.source} is not declared"
        return
    yield True, f"source   {source.name}, {source.proof.type}"
    yield _signature(source, request, base_url)
    for line in expected(source, request, base_url):
        yield True, f"expected {line}"
    try:
        payloads = source.events(request)
    except EndConversationError as error:
        yield False, f"body     {error}"
        return
    for number, payload in enumerate(payloads, 1):
        if payload is None:
            yield True, f"event {number}  is ignored, by `when`"
            continue
        try:
            Command.parse(payload, request.sent_at)
        except InvalidRequest as error:
            yield False, f"event {number}  makes no valid command: {error}"
        else:
            yield True, f"event {number}  makes the command"
        given = {field: value for field, value in payload.items() if value is not None}
        yield True, json.dumps(given, indent=2, ensure_ascii=False)


def expected(source: Source, request: HttpRequest, base_url: str | None) -> Iterator[str]:
    """The headers that prove the source, made with its first key; what is sent as it is, is not shown."""
    proof, key, body = source.proof, source.keys[0], request.body()
    now = _now(request)
    match proof.type:
        case "standard":
            message_id, timestamp = (
                _said(request, "webhook-id", "msg_1"),
                _said(request, "webhook-timestamp", str(int(now))),
            )
            yield f"webhook-id: {message_id}"
            yield f"webhook-timestamp: {timestamp}"
            yield f"webhook-signature: {sign_standard(key, message_id, timestamp, body)}"
        case "hmac":
            timestamp = ""
            if proof.timestamp_header:
                timestamp = _said(request, proof.timestamp_header, _written(now, proof.timestamp_format))
                yield f"{proof.timestamp_header}: {timestamp}"
            content = signed_content(proof, request, timestamp, base_url)
            yield f"{proof.header}: {proof.prefix}{sign_hmac(proof, key, content)}"
        case "token":
            yield f"{proof.header}: {proof.prefix}(one of the keys)"
        case "basic":
            yield "authorization: Basic (base64 of one of the keys)"
        case "twilio":
            url = request.url(base_url)
            fields = form_fields(body) if request.is_form else []
            yield f"x-twilio-signature: {sign_twilio(key, url, fields)}"
            yield f"         for {url}"


def event_of(data: bytes, name: str | None, secret: WebhookSecret, base_url: str) -> dict[str, Any]:
    """The event of API Gateway that a file holds, or the one that its content would make as a body."""
    try:
        document = json.loads(data)
    except ValueError:
        document = None
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
        "headers": {"content-type": FORM if document is None else "application/json"},
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
    """Whether the event's proof holds, at the time when the event was received."""
    try:
        source.verify(request, _now(request), base_url)
    except InvalidSignature as refusal:
        # A body alone has none, and an event may be tried out without.
        return refusal.cause.endswith("_missing"), f"proof    {refusal.cause}"
    return True, "proof    holds"


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
    parser = argparse.ArgumentParser(description="What a source's declaration makes of an event.")
    parser.add_argument("secret", type=Path, help="what the secret of the webhooks holds")
    parser.add_argument("event", type=Path, help="an event of API Gateway, or a body alone")
    parser.add_argument("--source", help="the source, for a body alone")
    parser.add_argument("--base-url", help="the URL before /webhooks/, as WEBHOOK_BASE_URL")
    given = parser.parse_args()
    try:
        secret = parse_webhook_secret(given.secret.read_text(encoding="utf-8"))
        event = event_of(given.event.read_bytes(), given.source, secret, given.base_url or _BASE_URL)
        lines = list(explain(secret, event, given.base_url))
    except (OSError, ValueError, Unusable) as error:
        sys.exit(str(error))
    for is_right, line in lines:
        print(line if is_right else styled(line, "red"))
    sys.exit(0 if all(is_right for is_right, _ in lines) else 1)


if __name__ == "__main__":
    main()
