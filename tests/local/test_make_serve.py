"""``make serve``: the function behind an HTTP endpoint."""

import concurrent.futures
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.rie import Outcome
from local.serve import endpoint

Call = Callable[..., http.client.HTTPResponse]


class Function:
    """In place of a function: answers with the event's body, and remembers the events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def invoke(self, event: dict[str, Any]) -> Outcome:
        self.events.append(event)
        return Outcome({"statusCode": 200, "body": event["body"], "headers": {"x-seen": "yes"}}, [])


@pytest.fixture
def function() -> Function:
    return Function()


@pytest.fixture
def call(function: Function) -> Iterator[Call]:
    with endpoint(0, function) as url:

        def call(
            method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
        ) -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
            try:
                connection.request(method, path, body, headers or {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.body = answer.read()
                return answer
            finally:
                connection.close()

        yield call


def test_answer(function: Function, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """A request comes to the function as an event, its answer comes back, and a line tells of both."""
    body = json.dumps({"executions": [{"sid": "FN1", "status": "ended"}]}).encode()
    answer = call("POST", "/conversations/end", body)
    assert (answer.status, answer.body, answer.headers["x-seen"]) == (200, body, "yes")
    assert [event["body"] for event in function.events] == [body.decode()]
    (line,) = capsys.readouterr().out.splitlines()
    assert "POST /conversations/end  200  " in line
    assert line.endswith("FN1 ended")


@pytest.mark.parametrize(("method", "path"), [("GET", "/conversations/end"), ("POST", "/elsewhere")])
def test_not_found(function: Function, call: Call, method: str, path: str) -> None:
    """What is no route never comes to the function: API Gateway says so itself."""
    answer = call(method, path)
    assert (answer.status, answer.body) == (404, b'{"message":"Not Found"}')
    assert function.events == []


@pytest.mark.parametrize("size", [6_291_456, 11_000_000])
def test_too_large(function: Function, call: Call, size: int) -> None:
    """What is more than Lambda or API Gateway takes never comes to the function."""
    try:
        answer = call("POST", "/conversations/end", b" " * size)
    except (BrokenPipeError, ConnectionResetError):
        # It was refused before all of it was sent, as it may be.
        assert size > 10_485_760
    else:
        assert answer.status == 413
    assert function.events == []


def test_nonsense_length(function: Function, call: Call) -> None:
    """A length that is no number is refused."""
    headers = {"content-type": "application/json", "content-length": "many"}
    assert call("POST", "/conversations/end", b"{}", headers).status == 400
    assert function.events == []


def test_chunked(function: Function, call: Call) -> None:
    """A body of unknown length is refused, not misunderstood."""
    headers = {"content-type": "application/json", "transfer-encoding": "chunked"}
    assert call("POST", "/conversations/end", b"0\r\n\r\n", headers).status == 411
    assert function.events == []


def test_many_at_once(function: Function, call: Call) -> None:
    """Requests are taken while others wait for the function."""
    together = threading.Barrier(4, timeout=5)
    answer = function.invoke

    def invoke(event: dict[str, Any]) -> Outcome:
        together.wait()
        return answer(event)

    function.invoke = invoke
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        statuses = pool.map(lambda _: call("POST", "/conversations/end", b"{}").status, range(4))
        assert list(statuses) == [200] * 4
