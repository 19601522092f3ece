"""``make serve``: the function behind an HTTP endpoint."""

import concurrent.futures
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks.sources import parse_webhook_secret
from local import signing
from local.gateway import event_of
from local.page import Page
from local.rie import Outcome
from local.serve import endpoint, main, read_secret
from local.stand_ins import stand_ins

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
            connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=50)
            with contextlib.closing(connection):
                connection.request(method, path, body, headers or {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.body = answer.read()
                return answer

        yield call


def test_answer(function: Function, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """A request reaches the function as an event, its response comes back, and a line says both."""
    body = json.dumps({"executions": [{"sid": "FN1", "status": "ended"}]}).encode()
    answer = call("POST", "/conversations/end", body)
    assert (answer.status, answer.body, answer.headers["x-seen"]) == (200, body, "yes")
    assert [event["body"] for event in function.events] == [body.decode()]
    (line,) = capsys.readouterr().out.splitlines()
    assert "POST /conversations/end  200  " in line
    assert line.endswith("FN1 ended")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/conversations/end", {}, 404),
        ("POST", "/elsewhere", {}, 404),
        ("POST", "/conversations/end", {"content-length": "many"}, 400),
        ("POST", "/conversations/end", {"transfer-encoding": "chunked"}, 411),
        ("POST", "/conversations/end", {"content-length": "11000000"}, 413),
    ],
)
def test_refusals(function: Function, call: Call, method: str, path: str, headers: Any, status: int) -> None:
    """What API Gateway or Lambda would not accept never reaches the function."""
    assert call(method, path, b"", headers).status == status
    assert function.events == []


def test_many_at_once(function: Function, call: Call) -> None:
    """Requests are accepted while others wait for the function."""
    together = threading.Barrier(4, timeout=50)
    answer = function.invoke

    def invoke(event: dict[str, Any]) -> Outcome:
        together.wait()
        return answer(event)

    function.invoke = invoke
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        statuses = pool.map(lambda _: call("POST", "/conversations/end", b"{}").status, range(4))
        assert list(statuses) == [200] * 4


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with stand_ins() as running:
        yield Page(running)


@pytest.mark.parametrize("name", signing.SECRET["sources"])
def test_any_body_gets_its_senders_proof(page: Page, name: str) -> None:
    """Curl needs no signature to try a source."""
    body = b"EventType=task.completed" if name == "twilio-taskrouter" else b'{"a": 1}'
    kind = "application/x-www-form-urlencoded" if body.startswith(b"E") else "application/json"
    event = event_of("POST", f"/webhooks/{name}", [("content-type", kind)], body, "127.0.0.1")
    assert event
    page.prove(event)
    secret = parse_webhook_secret(json.dumps(signing.SECRET))
    assert secret.authenticate(to_http_request(event), time.time(), None).name == name


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file"), ("{", "is not JSON"), ('{"sources": []}', "sources")]
)
def test_a_secret_that_cannot_be_used(tmp_path: Path, content: str | None, message: str) -> None:
    """One line says which file, and why."""
    path = tmp_path / "my.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit, match=message) as left:
        read_secret(path)
    assert str(left.value).startswith(str(path))


def test_a_secret_with_an_invalid_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named with the reason, and the others are served."""
    path = tmp_path / "my.json"
    path.write_text(json.dumps({"sources": {"good": {}, "bad": {"preset": "none"}}}))
    assert read_secret(path)["sources"].keys() == {"good", "bad"}
    assert "bad is invalid: preset must be one of" in capsys.readouterr().out


def test_ports_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """PORT moves all three servers; the error for a port in use says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("PORT", str(port - 1))
        with pytest.raises(SystemExit, match=f"{port - 1} to {port + 1} .* PORT="):
            main()
