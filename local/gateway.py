"""HTTP requests as events of an API Gateway HTTP API (payload 2.0), and the function's responses as HTTP.

Function and caller see the same as with API Gateway, but nothing checks SigV4 signatures here.
"""

import base64
import binascii
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from local.rie import Outcome

_ACCOUNT_ID = "123456789012"
_API_ID = "a1b2c3d4e5"
_DOMAIN = f"{_API_ID}.execute-api.us-east-1.amazonaws.com"
_AUTHORIZER = {
    "iam": {
        "accessKey": "AKIAIOSFODNN7EXAMPLE",
        "accountId": _ACCOUNT_ID,
        "callerId": "AIDACKCEVSQ6C2EXAMPLE",
        "cognitoIdentity": None,
        "principalOrgId": "o-a1b2c3d4e5",
        "userArn": f"arn:aws:iam::{_ACCOUNT_ID}:user/local",
        "userId": "AIDACKCEVSQ6C2EXAMPLE",
    }
}
ROUTES = {
    ("POST", "/conversations/end"): {"authorizer": _AUTHORIZER},
    ("POST", "/webhooks/conversation-ended"): {},
    ("POST", "/webhooks/{source}"): {},
    ("HEAD", "/webhooks/conversation-ended"): {},
    ("HEAD", "/webhooks/{source}"): {},
}
"""Each route, and what its authorizer adds to the request's context."""

_SOURCE = re.compile(r"/webhooks/([^/]+)")
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript")
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "upgrade", "te", "trailer"}


@dataclass(frozen=True)
class Response:
    """An HTTP response."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)


def refusal(status: int, message: str) -> Response:
    """API Gateway's own response."""
    return Response(status, json.dumps({"message": message}, separators=(",", ":")).encode())


def event_of(
    method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes, source_ip: str
) -> dict[str, Any] | None:
    """The event of a request; ``None`` if there is no such route."""
    url = urlsplit(target)
    path, parameters = url.path, None
    # A fixed route takes precedence.
    if (method, path) not in ROUTES and (source := _SOURCE.fullmatch(path)):
        path, parameters = "/webhooks/{source}", {"source": unquote(source[1])}
    if (method, path) not in ROUTES:
        return None
    route, now = f"{method} {path}", datetime.now(UTC)
    combined = _combined((name.lower(), value.strip()) for name, value in headers)
    cookies = combined.pop("cookie", None)
    for name in _HOP_BY_HOP:
        combined.pop(name, None)
    combined |= {
        "x-amzn-trace-id": f"Root=1-{int(now.timestamp()):08x}-{secrets.token_hex(12)}",
        "x-forwarded-for": source_ip,
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
    }
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": url.path,
        "rawQueryString": url.query,
        "headers": combined,
        "requestContext": {
            "accountId": _ACCOUNT_ID,
            "apiId": _API_ID,
            **ROUTES[method, path],
            "domainName": _DOMAIN,
            "domainPrefix": _API_ID,
            "http": {
                "method": method,
                "path": url.path,
                "protocol": "HTTP/1.1",
                "sourceIp": source_ip,
                "userAgent": combined.get("user-agent", ""),
            },
            "requestId": base64.b64encode(secrets.token_bytes(11)).decode(),
            "routeKey": route,
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1000),
        },
    }
    # API Gateway omits empty fields.
    if parameters:
        event["pathParameters"] = parameters
    if cookies:
        event["cookies"] = [cookie.strip() for cookie in cookies.replace(",", ";").split(";")]
    if url.query:
        event["queryStringParameters"] = _combined(parse_qsl(url.query, keep_blank_values=True))
    text = _text(body, combined.get("content-type"))
    if body:
        event["body"] = base64.b64encode(body).decode() if text is None else text
    return event | {"isBase64Encoded": text is None}


def response_of(outcome: Outcome, request_id: str) -> Response:
    """The HTTP response for what the function returned."""
    answer = outcome.answer
    traced = ("apigw-requestid", request_id)
    if outcome.error:
        failed = refusal(500, "Internal Server Error")
        return Response(failed.status, failed.body, (*failed.headers, traced))
    if not isinstance(answer, dict) or "statusCode" not in answer:
        inferred = answer if isinstance(answer, str) else json.dumps(answer)
        return Response(200, inferred.encode(), (("content-type", "application/json"), traced))
    try:
        text = "" if answer.get("body") is None else answer["body"]
        body = base64.b64decode(text, validate=True) if answer.get("isBase64Encoded") else text.encode()
        headers = {str(name).lower(): str(value) for name, value in (answer.get("headers") or {}).items()}
        cookies = [("set-cookie", str(cookie)) for cookie in answer.get("cookies") or ()]
        headers.pop("content-length", None)
        headers.setdefault("content-type", "text/plain;charset=UTF-8")
        return Response(int(answer["statusCode"]), body, (*headers.items(), *cookies, traced))
    except (AttributeError, TypeError, ValueError, binascii.Error):
        return refusal(500, "Internal Server Error")


def _text(body: bytes, content_type: str | None) -> str | None:
    """The body as text; ``None`` if API Gateway treats it as binary."""
    if content_type and not content_type.strip().lower().startswith(_TEXT_TYPES):
        return "" if not body else None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _combined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    combined: dict[str, str] = {}
    for name, value in pairs:
        combined[name] = f"{combined[name]},{value}" if name in combined else value
    return combined
