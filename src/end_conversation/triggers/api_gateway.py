"""API Gateway's events as HTTP requests, in both payload formats: 2.0 (HTTP API) and 1.0 (REST API).

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any
from urllib.parse import quote, urlencode

from end_conversation.command import from_milliseconds
from end_conversation.http_request import SOURCE_NAME, HttpRequest


def to_http_request(event: dict[str, Any]) -> HttpRequest:
    """The request in an event; fields that are missing or of another type count as absent."""
    method, route = _method_and_route(event)
    host, path, query = _url_parts(event)
    context = _object(event.get("requestContext"))
    request_id = context.get("requestId")
    source = _object(event.get("pathParameters")).get("source")
    return HttpRequest(
        method=method,
        route=route,
        source=source if isinstance(source, str) and SOURCE_NAME.fullmatch(source) else None,
        request_id=request_id if isinstance(request_id, str) else None,
        sent_at=from_milliseconds(context.get("timeEpoch", context.get("requestTimeEpoch"))),
        headers=_headers(event),
        host=host,
        path=path,
        query=query,
        content=_content(event),
    )


def route_of(event: dict[str, Any]) -> str | None:
    """The path of the matching route."""
    return _method_and_route(event)[1]


def _method_and_route(event: dict[str, Any]) -> tuple[str | None, str | None]:
    match event:
        case {"routeKey": str(route_key), "requestContext": {"http": {"method": str(method)}}}:
            return method, route_key.partition(" ")[2]
        case {"httpMethod": str(method), "resource": str(route)}:
            return method, route
    return None, None


def _url_parts(event: dict[str, Any]) -> tuple[str, str, str]:
    """Host, path and query of the URL that the caller requested.

    An HTTP API has the stage in `rawPath`, a REST API in the context's `path`. Neither has an HTTP API's
    mapping of a custom domain. A REST API decodes the query; it is encoded again.
    """
    match event:
        case {
            "rawPath": str(path),
            "rawQueryString": str(query),
            "requestContext": {"domainName": str(host)},
        }:
            return host, path, query
        case {"requestContext": {"path": str(path), "domainName": str(host)}}:
            parameters = _object(event.get("multiValueQueryStringParameters"))
            return host, path, urlencode(parameters, doseq=True, quote_via=quote, errors="replace")
    return "", "", ""


def _headers(event: dict[str, Any]) -> dict[str, list[str]]:
    """All values by lower-case name. A REST API has repeated headers in a separate field."""
    headers: dict[str, list[str]] = {}
    given = _object(event.get("headers")) | _object(event.get("multiValueHeaders"))
    for name, value in given.items():
        values = value if isinstance(value, list) else [value]
        if texts := [text for text in values if isinstance(text, str)]:
            headers.setdefault(name.lower(), []).extend(texts)
    return headers


def _content(event: dict[str, Any]) -> bytes | None:
    match event:
        case {"body": str(body), "isBase64Encoded": True}:
            try:
                return b64decode(body, validate=True)
            except ValueError:
                return None
        case {"body": str(body)}:
            # Lone surrogates, which no caller can send, are for the JSON parser to reject.
            return body.encode(errors="surrogatepass")
    return b""


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
