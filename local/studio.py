"""A stand-in for Twilio Studio over HTTP: Executions that keep their state, and faults on request.

It listens on loopback only. What is no part of Twilio's API has paths of its own and needs no credentials:

- ``POST /_executions``: keep one more Execution (the arguments of ``Executions.add``, as JSON)
- ``POST /_faults``: go wrong (the fields of ``Fault``, as JSON); ``DELETE /_faults``: go right again
- ``GET /_requests``: what was asked so far; ``DELETE /_requests``: forget it
"""

import argparse
import base64
import binascii
import contextlib
import json
import secrets
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from datetime import datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import parse_qsl, urlsplit

from local.executions import ACCOUNT_SID, OTHER_ACCOUNT_SID, Execution, Executions
from local.faults import Fault, Faults
from local.studio_api import Answer, Request, document, flow_of, problem, respond
from local.terminal import interruptible

API_KEY = ("SK" + "0123456789abcdef" * 2, "not-a-real-api-key-secret")
AUTH_TOKEN = (ACCOUNT_SID, "not-a-real-auth-token")
OTHER_AUTH_TOKEN = (OTHER_ACCOUNT_SID, "not-a-real-auth-token-of-the-other")

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Accept, Authorization, Content-Type",
    "Access-Control-Allow-Credentials": "true",
    "Access-Control-Expose-Headers": "ETag",
}


class Studio:
    """The stand-in as a context manager: it serves from entering to leaving.

    Args:
        port: Where to listen; by default on any free port.
        credentials: The user names and passwords that are right, of the account with ``ACCOUNT_SID``.
        seed: For faults that hit only a share of the requests.

    Attributes:
        credentials: As given; may be replaced at any time.
        other_credentials: The same of other accounts, by their SIDs.
        executions: What there is.
        faults: What goes wrong.
        requests: What was asked so far, in the order of arrival.
        connections: How many TCP connections there were so far.
        most_at_once: How many requests were worked on at the same time, at most.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        credentials: Iterable[tuple[str, str]] = (API_KEY, AUTH_TOKEN),
        seed: int = 0,
    ) -> None:
        self.credentials = set(credentials)
        self.other_credentials: dict[str, set[tuple[str, str]]] = {OTHER_ACCOUNT_SID: {OTHER_AUTH_TOKEN}}
        self.executions = Executions()
        self.faults = Faults(seed)
        self.requests: list[Request] = []
        self.connections = 0
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._accounts_of_users: dict[str, str] = {}
        self._stopped = False
        self._server = _Server(port, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        with self._lock:
            self._stopped = True
            for connection in self._open:
                _hang_up(connection)
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The base URL, to be used instead of ``https://studio.twilio.com``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def seed(self, flow_sid: str, sid: str | None = None, **properties: Any) -> Execution:  # noqa: ANN401 -- as Executions.add
        """Keep one more Execution; see ``Executions.add``."""
        return self.executions.add(flow_sid, sid, **properties)

    def fail(self, **fault: Any) -> None:  # noqa: ANN401 -- as Fault
        """Go wrong with the coming requests; see ``Fault``."""
        self.faults.add(Fault(**fault))

    @property
    def foreign_requests(self) -> list[Request]:
        """Those that came with one account's credentials for another account's Flow."""
        return [
            request
            for request in tuple(self.requests)
            if request.account_sid and (owner := self._owner(request.path)) and owner != request.account_sid
        ]

    def forget_requests(self) -> None:
        """Start recording requests and counting connections anew."""
        with self._lock:
            self.requests.clear()
            self.connections = self.most_at_once = 0

    def _owner(self, path: str) -> str | None:
        return self.executions.account_of(flow_of(path) or "")

    def _account_of(self, credentials: tuple[str, str] | None) -> tuple[str | None, bool]:
        """Whose credentials these are, and whether they are right. A user stays known once they were."""
        if credentials is None:
            return None, False
        for account_sid, right in ((ACCOUNT_SID, self.credentials), *self.other_credentials.items()):
            if credentials in right:
                self._accounts_of_users[credentials[0]] = account_sid
                return account_sid, True
        return self._accounts_of_users.get(credentials[0]), False

    @contextlib.contextmanager
    def _connected(self, connection: socket.socket) -> Iterator[int]:
        with self._lock:
            self.connections += 1
            number = self.connections
            self._open.add(connection)
            if self._stopped:
                _hang_up(connection)
        try:
            yield number
        finally:
            with self._lock:
                self._open.discard(connection)

    @contextlib.contextmanager
    def _recorded(self, request: Request) -> Iterator[None]:
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    # Leaving waits for the threads, so that nothing of a stand-in outlives it.
    daemon_threads = False

    def __init__(self, port: int, studio: Studio) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.studio = studio

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 -- the base class's types
        """A client that went away is no news; anything else is a defect, and shows."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Headers and body of an answer leave together.
    wbufsize = -1
    server: _Server

    def handle(self) -> None:
        with self.server.studio._connected(self.connection) as self.number:  # noqa: SLF001 -- one thing in two classes
            super().handle()

    def log_message(self, *_: object) -> None:
        """Requests are recorded instead."""

    def answer(self) -> None:
        studio = self.server.studio
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path.startswith("/_"):
            self.send(_administer(studio, self.command, url.path, body))
            return
        credentials = _basic_auth(self.headers)
        account_sid, is_right = studio._account_of(credentials)  # noqa: SLF001 -- one thing in two classes
        request = Request(
            request_id="RQ" + secrets.token_hex(16),
            connection=self.number,
            time=time.time(),
            method=self.command,
            path=url.path,
            query=_pairs(url.query),
            form=_pairs(body.decode(errors="replace")),
            user=credentials[0] if credentials else None,
            account_sid=account_sid,
        )
        with studio._recorded(request):  # noqa: SLF001 -- one thing in two classes
            fault = studio.faults.next(self.command) or Fault()
            self.client_left(fault.delay)
            answer = Answer(200)
            if fault.lets_work or fault.carried_out:
                if is_right:
                    host = self.headers.get("Host") or urlsplit(studio.url).netloc
                    answer = respond(studio.executions, request, f"http://{host}")
                else:
                    answer = problem(401, "Authenticate")
            if fault.status is not None:
                answer = problem(fault.status, code=fault.code)
            if fault.body is not None:
                answer = replace(answer, body=fault.body.encode())
            if fault.broken == "reset":
                self.reset()
            if fault.broken == "hang":
                self.client_left(None)
                self.close_connection = True
                return
            request.status = answer.status
            headers = {"Twilio-Request-Id": request.request_id} | _CORS | dict(fault.headers)
            self.send(answer, headers, fault.interval if fault.broken == "drip" else None)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815 -- the base class's names

    def send(
        self, answer: Answer, headers: dict[str, str] | None = None, interval: float | None = None
    ) -> None:
        self.send_response(answer.status)
        if answer.body:
            self.send_header("Content-Type", "application/json;charset=utf-8")
        if answer.status != 204:  # noqa: PLR2004 -- No Content: the one answer that must not tell a length
            self.send_header("Content-Length", str(len(answer.body)))
        for name, value in (*answer.headers, *(headers or {}).items()):
            self.send_header(name, value)
        self.end_headers()
        body = b"" if self.command == "HEAD" else answer.body
        if interval is None:
            self.wfile.write(body)
            return
        self.wfile.flush()
        for byte in body:
            if self.client_left(interval):
                self.close_connection = True
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def client_left(self, seconds: float | None) -> bool:
        """Wait, unless the client hangs up before that: did it? ``None`` is for ever."""
        if seconds == 0:
            return False
        self.connection.settimeout(seconds)
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(None)

    def reset(self) -> NoReturn:
        """Close with RST instead of FIN."""
        at_once = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        # The socket is closed when the last file on it is.
        for file in (self.rfile, self.wfile, self.connection):
            file.close()
        raise ConnectionResetError


def _administer(studio: Studio, method: str, path: str, body: bytes) -> Answer:
    try:
        match method, path:
            case "POST", "/_executions":
                properties = json.loads(body)
                if created := properties.get("date_created"):
                    properties["date_created"] = datetime.fromisoformat(created)
                return document(201, studio.seed(**properties).shown(studio.url))
            case "POST", "/_faults":
                studio.fail(**json.loads(body))
            case "DELETE", "/_faults":
                studio.faults.clear()
            case "GET", "/_requests":
                counts = {"connections": studio.connections, "most_at_once": studio.most_at_once}
                return document(200, counts | {"requests": [asdict(it) for it in tuple(studio.requests)]})
            case "DELETE", "/_requests":
                studio.forget_requests()
            case _:
                return document(404, {"message": "Not Found"})
    except (AttributeError, TypeError, ValueError) as error:
        return document(400, {"message": str(error)})
    return Answer(204)


def _basic_auth(headers: Message) -> tuple[str, str] | None:
    scheme, _, value = str(headers.get("Authorization") or "").partition(" ")
    with contextlib.suppress(binascii.Error, UnicodeDecodeError):
        user, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
        if colon and scheme.lower() == "basic":
            return user, password
    return None


def _pairs(encoded: str) -> dict[str, str]:
    return dict(parse_qsl(encoded, keep_blank_values=True))


def _hang_up(connection: socket.socket) -> None:
    """Wake the thread that reads from it, or hangs on request."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A stand-in for Twilio Studio's REST API.")
    parser.add_argument("--port", type=int, default=8801)
    with interruptible(), Studio(parser.parse_args().port) as studio:
        print(f"Twilio Studio: {studio.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
