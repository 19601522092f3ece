"""Keep-alive connections to one server, on which a request and its whole answer keep to a time limit.

urllib3 makes, checks and keeps the connections. The exchange itself is http.client's: what urllib3 does
around it costs more than everything else in an invocation. A timeout of theirs would hold for each operation
of a socket, and so wait without end for a server that sends a byte now and then.
"""

from __future__ import annotations

import io
import ssl
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from end_conversation.deadline import call_within

if TYPE_CHECKING:
    from email.message import Message
    from socket import socket

CONNECT_TIMEOUT = 3.0
"""Seconds to find a server's address, open a connection and agree on TLS."""

_LARGEST_ANSWER = 32 * 1024 * 1024


class ConnectionFailed(Exception):
    """There is no answer, or none that is HTTP; the text is the kind of the cause."""


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: Message
    content: bytes


class Connections:
    """Connections to one server, each kept for the next request. Safe for threads.

    Args:
        base_url: scheme, host and port.
        number: how many are kept.
    """

    def __init__(self, base_url: str, number: int) -> None:
        url = urlsplit(base_url)
        host = url.hostname or ""
        self._host = url.netloc
        self._pool: HTTPConnectionPool
        if url.scheme == "https":
            # Loading the certificates takes tens of milliseconds: once, not for each connection.
            context = ssl.create_default_context()
            self._pool = HTTPSConnectionPool(host, url.port, maxsize=number, ssl_context=context)
            self._pool.ConnectionCls = _BoundedHTTPSConnection
        else:
            self._pool = HTTPConnectionPool(host, url.port, maxsize=number)
            self._pool.ConnectionCls = _BoundedHTTPConnection

    def open(self, seconds: float) -> None:
        """Have a connection ready for the next request; if that fails, the request will tell."""
        connection = self._pool._get_conn()  # noqa: SLF001 - urllib3 connects only for a request of its own
        try:
            self._connect(connection, seconds)
        except (HTTPError, OSError):
            # After a failed handshake urllib3 keeps a socket that is none any more.
            connection.close()
        self._pool._put_conn(connection)  # noqa: SLF001 - as above

    def exchange(
        self, method: str, target: str, headers: dict[str, str], body: str, seconds: float
    ) -> Answer:
        """Send a request and read the whole answer to it.

        Args:
            method: GET, say.
            target: path and query.
            headers: all but Host and Content-Length.
            body: ASCII; may be empty.
            seconds: for everything together.

        Raises:
            TimeoutError: no whole answer in time.
            ConnectionFailed: no answer, or none that is HTTP.
        """
        due = monotonic() + seconds
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        request = "\r\n".join([*lines, "", body]).encode("ascii")
        connection: Any = self._pool._get_conn()  # noqa: SLF001 - a request of its own is what is avoided
        reusable = False
        try:
            self._connect(connection, seconds)
            # Head and body in one write: one packet, one record of TLS, one system call.
            connection.sock.settimeout(max(due - monotonic(), 0.001))
            connection.sock.sendall(request)
            response = _BoundedResponse(connection.sock, due, method)
            response.begin()
            content = response.read(_LARGEST_ANSWER)
            if response.length:
                raise ConnectionFailed("the answer is cut short, or too large")
            final = response.status >= HTTPStatus.OK
            reusable = final and response.isclosed() and not response.will_close
            return Answer(response.status, response.headers, content)
        except NewConnectionError as error:
            # To urllib3 a refused connection is one that timed out, too.
            raise ConnectionFailed(type(error).__name__) from error
        except ConnectTimeoutError as error:
            raise TimeoutError from error
        except TimeoutError:
            raise
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            # Without its cause, whose text may be what the server sent.
            raise ConnectionFailed(type(error).__name__) from None
        finally:
            if not reusable:
                connection.close()
            self._pool._put_conn(connection)  # noqa: SLF001 - as above

    @staticmethod
    def _connect(connection: Any, seconds: float) -> None:  # noqa: ANN401 - urllib3 tells no more of it
        if connection.is_closed:
            connection.timeout = min(CONNECT_TIMEOUT, seconds)
            connection.connect()


class _BoundedHTTPConnection(HTTPConnection):
    def _new_conn(self) -> socket:
        """Connect in time: a name look-up knows no timeout, and each address of a host gets all of it."""
        timeout = self.timeout or CONNECT_TIMEOUT
        due = monotonic() + timeout
        try:
            connected: socket = call_within(timeout, super()._new_conn)
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection within {timeout} s") from error
        # What is left of the time is for the handshake of TLS, which keeps to it as a whole.
        connected.settimeout(max(due - monotonic(), 0.001))
        return connected


class _BoundedHTTPSConnection(_BoundedHTTPConnection, HTTPSConnection):
    """The same with TLS."""


class _BoundedReader(io.RawIOBase):
    """What a socket receives until an instant."""

    def __init__(self, raw: io.RawIOBase, sock: socket, due: float) -> None:
        self._raw = raw
        self._sock = sock
        self._due = due

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:  # noqa: ANN401 - as io.RawIOBase has it
        left = self._due - monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(HTTPResponse):
    """An answer that is read until an instant."""

    def _read_status(self) -> tuple[str, int, str]:
        # Of the interim answers, of which a server may send any, http.client passes over this one only.
        version, status, reason = super()._read_status()  # type: ignore[misc] # http.client's own
        interim = HTTPStatus.SWITCHING_PROTOCOLS < status < HTTPStatus.OK
        return version, HTTPStatus.CONTINUE if interim else status, reason

    def __init__(self, sock: socket, due: float, method: str) -> None:
        super().__init__(sock, method=method)
        self.fp = io.BufferedReader(_BoundedReader(self.fp.detach(), sock, due))
