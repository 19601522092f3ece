"""HTTP requests become API Gateway's events, and the function's responses become HTTP."""

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
TEXT = "text/plain;charset=UTF-8"
FAILED = 500, b'{"message":"Internal Server Error"}', "application/json"


def event(
    body: bytes = b"{}",
    headers: Iterable[tuple[str, str]] = (JSON,),
    target: str = "/conversations/end",
) -> dict[str, Any]:
    made = event_of("POST", target, headers, body, "127.0.0.1")
    assert made
    return made


def shape(value: Any) -> Any:
    """The names and types in a document, without its values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return type(value)


@pytest.mark.parametrize(
    ("sample", "route", "target"),
    [
        ("http", "/conversations/end", "/conversations/end"),
        ("webhook", "/webhooks/conversation-ended", "/webhooks/conversation-ended"),
        ("source-zendesk", "/webhooks/{source}", "/webhooks/zend%65sk"),
    ],
)
def test_shape(sample: str, route: str, target: str) -> None:
    """The event has the fields of a real one, and no other: only the IAM route names a caller."""
    real, made = load(EVENTS / f"{sample}.json"), event(target=target)
    assert shape(made | {"headers": None}) == shape(real | {"headers": None})
    assert made["routeKey"] == made["requestContext"]["routeKey"] == f"POST {route}"
    assert (made["rawPath"], made.get("pathParameters")) == (target, real.get("pathParameters"))
    assert abs(made["requestContext"]["timeEpoch"] / 1000 - time.time()) < 60


def test_headers() -> None:
    """Names are in lower case, duplicates are joined, and those of one connection are left out."""
    sent = [("X-One", "1"), ("x-one", " 2 "), ("Connection", "close"), ("Cookie", "c=3; d=4")]
    made = event(headers=sent)
    assert made["headers"].items() >= {"x-one": "1,2", "x-forwarded-for": "127.0.0.1"}.items()
    assert {"connection", "cookie"}.isdisjoint(made["headers"])
    assert made["cookies"] == ["c=3", "d=4"]


def test_query() -> None:
    """It is there twice, as sent and decoded. What is empty is missing, as with API Gateway."""
    made = event(target="/conversations/end?a=1&a=2&b=%20")
    assert made["rawQueryString"] == "a=1&a=2&b=%20"
    assert made["queryStringParameters"] == {"a": "1,2", "b": " "}
    assert {"cookies", "queryStringParameters", "body"}.isdisjoint(event(b""))


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/conversations/end"),
        ("post", "/conversations/end"),
        ("POST", "/conversations/end/"),
        ("GET", "/webhooks/zendesk"),
        ("POST", "/webhooks/"),
        ("POST", "/webhooks/zendesk/more"),
        ("POST", "/"),
    ],
)
def test_no_route(method: str, target: str) -> None:
    """Any other route has no event."""
    assert event_of(method, target, [JSON], b"{}", "127.0.0.1") is None


@pytest.mark.parametrize(
    ("body", "content_type", "binary"),
    [
        (b'{"a": "\xc3\xbc"}', "application/json", False),
        (b"a", "text/plain; charset=utf-8", False),
        (b"a", None, False),
        (b"\xff", "application/json", True),
        (b"a=b", "application/x-www-form-urlencoded", True),
    ],
)
def test_body(body: bytes, content_type: str | None, *, binary: bool) -> None:
    """A body that is not text, or not declared as text, is in base64."""
    made = event(body, [("content-type", content_type)] if content_type else [])
    assert made["isBase64Encoded"] is binary
    assert made["body"] == (base64.b64encode(body).decode() if binary else body.decode())
    assert json.loads(json.dumps(made)) == made


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"statusCode": 202, "body": "ü", "headers": {"Content-Type": "a/b"}}, (202, "ü".encode(), "a/b")),
        ({"statusCode": 200, "body": "/w==", "isBase64Encoded": True}, (200, b"\xff", TEXT)),
        ({"statusCode": 204}, (204, b"", TEXT)),
        ({"a": 1}, (200, b'{"a": 1}', "application/json")),
        ({"statusCode": "many"}, FAILED),
        ({"statusCode": 200, "body": {}}, FAILED),
        ({"errorType": "E", "errorMessage": ""}, FAILED),
    ],
)
def test_response(answer: Any, expected: tuple[int, bytes, str]) -> None:
    """The function's response is read as API Gateway reads it; what it cannot read is its own 500."""
    response = response_of(Outcome(answer, []), "request-id")
    assert (response.status, response.body, dict(response.headers)["content-type"]) == expected


def test_response_headers() -> None:
    """Headers are passed on, cookies are headers of their own, and there is a request id."""
    answer = {"statusCode": 200, "headers": {"Retry-After": 7}, "cookies": ["a=1", "b=2"]}
    headers = response_of(Outcome(answer, []), "request-id").headers
    expected = [("retry-after", "7"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]
    assert [*expected, ("apigw-requestid", "request-id")] == [each for each in headers if each[1] != TEXT]
