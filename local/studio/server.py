"""The stand-in's server: Executions that keep their state, and faults on request.

It listens on loopback only. These paths are no part of Twilio's API and need no credentials:

- ``POST /_executions``: add an Execution (the arguments of ``Executions.add``, as JSON)
- ``POST /_faults``: fail (the fields of ``Fault``, as JSON); ``DELETE /_faults``: stop failing
- ``GET /_requests``: the requests so far; ``DELETE /_requests``: forget them
"""

import base64
import binascii
import contextlib
import json
import secrets
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import parse_qsl, urlsplit

from local.faults import Fault, Faults
from local.studio.api import Answer, Request, document, flow_of, problem, respond
from local.studio.executions import ACCOUNT_SID, OTHER_ACCOUNT_SID, Execution, Executions, Paging

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


@dataclass(frozen=True)
class Latency:
    """How long answers take, in seconds: a page of a list, each item in it, and everything else."""

    page: float = 0.1
    item: float = 0.0009
    other: float = 0.1


class Studio:
    """The stand-in as a context manager: it serves from entering to leaving.

    All but ``port``, ``seed`` and ``tls`` may be changed at any time.

    Args:
        port: Where to listen; by default on any free port.
        credentials: The valid user names and passwords of the account with ``ACCOUNT_SID``.
        seed: For faults that hit only a share of the requests.
        paging: How lists are continued: by ``offset``, so that pages shift when Executions end in between, or
            by ``cursor``.
        latency: How slow it is; by default as fast as it can be.
        max_concurrency: How many requests it works on at once; it answers 429 to more.
        tls: To serve HTTPS.

    Attributes:
        other_credentials: The credentials of other accounts, by their SIDs.
        executions: All Executions.
        faults: What goes wrong.
        before: Called with each request before it is worked on: the place to change Executions between pages.
        requests: The requests so far, in the order of arrival.
        connections: How many TCP connections there were so far.
        max_in_flight: How many requests were in flight at the same time, at most.
    """

    def __init__(  # noqa: PLR0913 -- its settings, all of them by name
        self,
        port: int = 0,
        *,
        credentials: Iterable[tuple[str, str]] = (API_KEY, AUTH_TOKEN),
        seed: int = 0,
        paging: Paging = "offset",
        latency: Latency | None = None,
        max_concurrency: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.credentials = set(credentials)
        self.paging: Paging = paging
        self.latency = latency
        self.max_concurrency = max_concurrency
        self.before: Callable[[Request], object] | None = None
        self.other_credentials: dict[str, set[tuple[str, str]]] = {OTHER_ACCOUNT_SID: {OTHER_AUTH_TOKEN}}
        self.executions = Executions()
        self.faults = Faults(seed)
        self.requests: list[Request] = []
        self.connections = 0
        self.max_in_flight = 0
        self._in_flight = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._accounts_of_users: dict[str, str] = {}
        self._stopped = False
        self.scheme = "https" if tls else "http"
        self._server = _Server(port, self, tls)
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
        return f"{self.scheme}://127.0.0.1:{self._server.server_address[1]}"

    def seed(self, flow_sid: str, sid: str | None = None, **properties: Any) -> Execution:  # noqa: ANN401 -- as Executions.add
        """Add an Execution; see ``Executions.add``."""
        return self.executions.add(flow_sid, sid, **properties)

    def fail(self, **fault: Any) -> None:  # noqa: ANN401 -- as Fault
        """Fail the next requests; see ``Fault``."""
        self.faults.add(Fault(**fault))

    @property
    def foreign_requests(self) -> list[Request]:
        """Those that came with one account's credentials for another account's Flow."""
        return [
            request
            for request in tuple(self.requests)
            if request.account_sid and (owner := self._owner(request.path)) and owner != request.account_sid
        ]

    def clear_requests(self) -> None:
        """Forget the requests and connections so far."""
        with self._lock:
            self.requests.clear()
            self.connections = self.max_in_flight = 0

    def _owner(self, path: str) -> str | None:
        return self.executions.account_of(flow_of(path) or "")

    def _account_of(self, credentials: tuple[str, str] | None) -> tuple[str | None, bool]:
        """Whose credentials these are, and whether they are valid. A user that was once valid stays known."""
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
    def _recorded(self, request: Request) -> Iterator[bool]:
        """Yields whether there is room for the request."""
        with self._lock:
            self.requests.append(request)
            self._in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self._in_flight)
            has_room = self.max_concurrency is None or self._in_flight <= self.max_concurrency
        try:
            yield has_room
        finally:
            with self._lock:
                self._in_flight -= 1


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    # Leaving waits for the threads, so that nothing of a stand-in outlives it.
    daemon_threads = False

    def __init__(self, port: int, studio: Studio, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        if tls:
            # Shaking hands is for the connection's own thread.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.studio = studio

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 -- the base class's types
        """Show defects; a client that disconnects is not one."""
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
        """Print nothing: requests are recorded."""

    def answer(self) -> None:
        studio = self.server.studio
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path.startswith("/_"):
            self.send(_administer(studio, self.command, url.path, body))
            return
        credentials = _basic_auth(self.headers)
        account_sid, is_valid = studio._account_of(credentials)  # noqa: SLF001 -- one thing in two classes
        request = Request(
            request_id="RQ" + secrets.token_hex(16),
            connection=self.number,
            time=time.time(),
            method=self.command,
            path=url.path,
            query=_pairs(url.query),
            form=_pairs(body.decode(errors="replace")),
            headers={
                name.lower(): value for name, value in self.headers.items() if name.lower() != "authorization"
            },
            user=credentials[0] if credentials else None,
            account_sid=account_sid,
        )
        with studio._recorded(request) as has_room:  # noqa: SLF001 -- one thing in two classes
            if studio.before:
                studio.before(request)
            fault = (studio.faults.next(self.command, url.path) if has_room else None) or Fault()
            self.client_left(fault.delay)
            if not has_room:
                answer = problem(429)
            elif not (fault.lets_work or fault.carried_out):
                answer = Answer(200)
            elif is_valid:
                base_url = f"{studio.scheme}://{self.headers['Host']}"
                answer = respond(studio.executions, request, base_url, studio.paging)
                self.client_left(_seconds(studio.latency, answer))
            else:
                answer = problem(401, "Authenticate")
            self.reply(request, answer, fault)

    def reply(self, request: Request, answer: Answer, fault: Fault) -> None:
        if fault.broken == "reset":
            self.reset()
        if fault.broken == "hang":
            self.client_left(None)
        if fault.broken in {"hang", "close"}:
            self.close_connection = True
        if fault.raw is not None:
            self.wfile.write(fault.raw)
        elif fault.broken not in {"hang", "close"}:
            if fault.status is not None:
                answer = problem(fault.status, code=int(fault.code) if fault.code else None)
            if fault.body is not None:
                answer = replace(answer, body=fault.body.encode())
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
        if answer.status != 204:  # noqa: PLR2004 -- No Content: the one answer without a length
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
        """Wait, for ever with ``None``, until the client hangs up; returns whether it did."""
        if seconds == 0:
            return False
        if isinstance(self.connection, ssl.SSLSocket):
            # It cannot look without reading.
            time.sleep(3600 if seconds is None else seconds)
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
                return document(201, studio.seed(**properties).to_dict(studio.url))
            case "POST", "/_faults":
                studio.fail(**json.loads(body))
            case "DELETE", "/_faults":
                studio.faults.clear()
            case "GET", "/_requests":
                counts = {"connections": studio.connections, "max_in_flight": studio.max_in_flight}
                return document(200, counts | {"requests": [asdict(it) for it in tuple(studio.requests)]})
            case "DELETE", "/_requests":
                studio.clear_requests()
            case _:
                return document(404, {"message": "Not Found"})
    except (AttributeError, TypeError, ValueError) as error:
        return document(400, {"message": str(error)})
    return Answer(204)


def _seconds(latency: Latency | None, answer: Answer) -> float:
    if latency is None:
        return 0
    return latency.other if answer.items is None else latency.page + latency.item * answer.items


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
