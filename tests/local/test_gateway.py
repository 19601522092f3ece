"""HTTP requests become API Gateway's events, and the function's answers become HTTP."""

import base64
import json
import time
from collections.abc import Iterable
from typing import Any

import pytest

from local.gateway import event_of, response_of
from local.rie import Outcome
from local.samples import EVENTS, load

JSON = ("Content-Type", "application/json")


def event(
    body: bytes = b"{}",
    headers: Iterable[tuple[str, str]] = (JSON,),
    target: str = "/conversations/end",
    method: str = "POST",
) -> dict[str, Any] | None:
    return event_of(method, target, headers, body, "127.0.0.1")


def shape(value: Any) -> Any:
    """The names and types in a document, without its values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return type(value)


def test_shape() -> None:
    """The event has what a real one has: no field more, none less, none of another type."""
    real = load(EVENTS / "http.json")
    made = event()
    assert shape(made | {"headers": None}) == shape(real | {"headers": None})
    assert made["routeKey"] == made["requestContext"]["routeKey"] == "POST /conversations/end"
    assert abs(made["requestContext"]["timeEpoch"] / 1000 - time.time()) < 5


def test_headers() -> None:
    """Names are in lower case, duplicates are joined, and what concerns one connection only is left out."""
    headers = event(headers=[("X-One", "1"), ("x-one", " 2 "), ("Connection", "close")])["headers"]
    assert headers["x-one"] == "1,2"
    assert "connection" not in headers
    assert headers["x-forwarded-for"] == "127.0.0.1"


def test_query_and_cookies() -> None:
    """They have fields of their own, which are not there when they are not."""
    made = event(target="/conversations/end?a=1&a=2&b=%20", headers=[("Cookie", "c=3; d=4")])
    assert made["rawQueryString"] == "a=1&a=2&b=%20"
    assert made["queryStringParameters"] == {"a": "1,2", "b": " "}
    assert made["cookies"] == ["c=3", "d=4"]
    assert "cookie" not in made["headers"]
    assert {"cookies", "queryStringParameters"}.isdisjoint(event())


def test_source() -> None:
    """A source's name stands for a part of its route; the path and the query stay as they were sent."""
    made = event(target="/webhooks/help%64esk?a=%20")
    assert made["routeKey"] == made["requestContext"]["routeKey"] == "POST /webhooks/{source}"
    assert made["pathParameters"] == {"source": "helpdesk"}
    assert (made["rawPath"], made["rawQueryString"]) == ("/webhooks/help%64esk", "a=%20")
    assert shape(made | {"headers": None, "rawQueryString": ""}).keys() - {"queryStringParameters"} == set(
        load(EVENTS / "source-zendesk.json")
    )


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/webhooks/zendesk"), ("POST", "/webhooks/"), ("POST", "/webhooks/zendesk/more")],
)
def test_no_source(method: str, target: str) -> None:
    """What is no route has no event."""
    assert event(method=method, target=target) is None


def test_own_webhook() -> None:
    """The route of our own is no source."""
    made = event(target="/webhooks/conversation-ended")
    assert made["routeKey"] == "POST /webhooks/conversation-ended"
    assert "pathParameters" not in made


@pytest.mark.parametrize(
    ("body", "content_type", "binary"),
    [
        (b'{"a": "\xc3\xbc"}', "application/json", False),
        (b"a", "text/plain; charset=utf-8", False),
        (b"a", None, False),
        (b"\xff", "application/json", True),
        (b"a=b", "application/x-www-form-urlencoded", True),
        (b"a", "application/octet-stream", True),
    ],
)
def test_body(body: bytes, content_type: str | None, *, binary: bool) -> None:
    """A body that is no text, or is not said to be any, is in base64."""
    made = event(body, [("content-type", content_type)] if content_type else [])
    assert made["isBase64Encoded"] is binary
    assert made["body"] == (base64.b64encode(body).decode() if binary else body.decode())


def test_no_body() -> None:
    """Without a body there is no such field."""
    assert "body" not in event(b"")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/conversations/end"),
        ("POST", "/conversations/end/"),
        ("POST", "/"),
        ("post", "/conversations/end"),
    ],
)
def test_no_route(method: str, target: str) -> None:
    """What is no route makes no event."""
    assert event(method=method, target=target) is None


@pytest.mark.parametrize(
    ("answer", "status", "body", "content_type"),
    [
        ({"statusCode": 202, "body": "ü", "headers": {"Content-Type": "a/b"}}, 202, "ü".encode(), "a/b"),
        (
            {"statusCode": 200, "body": "/w==", "isBase64Encoded": True},
            200,
            b"\xff",
            "text/plain;charset=UTF-8",
        ),
        ({"statusCode": 204}, 204, b"", "text/plain;charset=UTF-8"),
        ({"a": 1}, 200, b'{"a": 1}', "application/json"),
        ("text", 200, b"text", "application/json"),
        ({"statusCode": "many"}, 500, b'{"message":"Internal Server Error"}', "application/json"),
        ({"statusCode": 200, "body": {}}, 500, b'{"message":"Internal Server Error"}', "application/json"),
        (
            {"errorType": "E", "errorMessage": ""},
            500,
            b'{"message":"Internal Server Error"}',
            "application/json",
        ),
    ],
)
def test_response(answer: Any, status: int, body: bytes, content_type: str | None) -> None:
    """Answers are understood as API Gateway understands them; what it cannot understand is its own 500."""
    response = response_of(Outcome(answer, []), "request-id")
    assert (response.status, response.body) == (status, body or b"")
    assert dict(response.headers)["content-type"] == content_type


def test_response_headers() -> None:
    """Headers are handed on, cookies are headers of their own, and the request id is told."""
    answer = {"statusCode": 200, "headers": {"Retry-After": 7}, "cookies": ["a=1", "b=2"]}
    headers = response_of(Outcome(answer, []), "request-id").headers
    assert ("retry-after", "7") in headers
    assert [value for name, value in headers if name == "set-cookie"] == ["a=1", "b=2"]
    assert ("apigw-requestid", "request-id") in headers


def test_serialisable() -> None:
    """An event is JSON, whatever the request was."""
    assert json.loads(json.dumps(event(b"\x00\xff", [("X", "\xff")])))["isBase64Encoded"] is True


def test_webhook() -> None:
    """The route for webhooks has no authorizer, so the event tells of no caller."""
    real = load(EVENTS / "webhook.json")
    made = event(target="/webhooks/conversation-ended")
    assert shape(made | {"headers": None}) == shape(real | {"headers": None})
