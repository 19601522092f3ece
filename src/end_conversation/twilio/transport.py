"""Keep-alive connections to Twilio with one time limit for a request and its whole response.

urllib3 does the HTTP. Its timeouts apply to each socket operation, so a server that sends a byte now and then
never exceeds one. The connections here read a response until a fixed time instead.
"""

from __future__ import annotations

import io
import ssl
from contextlib import suppress
from functools import partial
from http.client import HTTPException, HTTPResponse
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as UrllibTimeoutError

from end_conversation.deadline import call_within

if TYPE_CHECKING:
    from collections.abc import Mapping
    from socket import socket

    from urllib3 import BaseHTTPResponse

CONNECT_TIMEOUT = 3.0
"""Seconds to resolve a server's name, open a connection and agree on TLS."""

_MAX_RESPONSE = 32 * 1024 * 1024
_FIRST_FINAL_STATUS = 200


class ConnectionFailed(Exception):
    """There is no response, or no valid one; the message is the kind of the cause."""


class Connections:
    """Connections to one server, kept for later requests. Thread-safe.

    Args:
        base_url: scheme, host and port.
        kept: how many idle connections are kept.
    """

    def __init__(self, base_url: str, kept: int) -> None:
        url = urlsplit(base_url)
        host = url.hostname or ""
        self._pool: HTTPConnectionPool
        if url.scheme == "https":
            # Loading the certificates takes tens of milliseconds: do it once, not per connection.
            context = ssl.create_default_context()
            self._pool = HTTPSConnectionPool(host, url.port, maxsize=kept, ssl_context=context)
            self._pool.ConnectionCls = _BoundedHTTPSConnection
        else:
            self._pool = HTTPConnectionPool(host, url.port, maxsize=kept)
            self._pool.ConnectionCls = _BoundedHTTPConnection

    def open(self, seconds: float) -> None:
        """Open a connection for the next request; if this fails, that request reports it."""
        with suppress(TimeoutError, ConnectionFailed):
            self.exchange("HEAD", "/", {}, None, seconds)

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: str | None, seconds: float
    ) -> BaseHTTPResponse:
        """Send a request and read the whole response. Follows no redirects, retries nothing.

        Args:
            method: GET, for example.
            target: path and query.
            headers: without Host and Content-Length.
            body: the request's body.
            seconds: for everything together.

        Raises:
            TimeoutError: no complete response in time.
            ConnectionFailed: no response, or no valid one.
        """
        try:
            # By name: instrumentation that wraps urlopen looks for them so, and may set headers itself.
            return self._pool.urlopen(
                method=method,
                url=target,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=Timeout(connect=min(CONNECT_TIMEOUT, seconds), total=seconds),
                # A small compressed response could expand to any size.
                decode_content=False,
            )
        except NewConnectionError as error:
            # urllib3 counts a refused connection as a timeout, too.
            raise ConnectionFailed(type(error).__name__) from None
        except UrllibTimeoutError:
            raise TimeoutError from None
        except (HTTPError, HTTPException, OSError, ValueError, MemoryError, OverflowError) as error:
            # The last two if the server announces more than could ever be read.
            # Without its cause, whose message may contain what the server sent.
            cause = next((arg for arg in error.args if isinstance(arg, Exception)), error)
            raise ConnectionFailed(type(cause).__name__) from None


class _BoundedHTTPConnection(HTTPConnection):
    def connect(self) -> None:
        """Connect in time: a DNS lookup has no timeout, and each address of a host gets all of it."""
        seconds = self.timeout or CONNECT_TIMEOUT
        due = monotonic() + seconds
        connect = super().connect

        def connect_or_close() -> None:
            connect()
            if monotonic() > due:
                # Nobody waits for it anymore.
                self.close()
                raise TimeoutError

        try:
            call_within(seconds, connect_or_close)
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection within {seconds} s") from error

    def getresponse(self) -> Any:  # noqa: ANN401 - urllib3 and http.client have different classes here
        """The response, read until the request's total time is up."""
        due = monotonic() + (self.timeout or 0)
        response_class: Any = partial(_BoundedResponse, due=due)
        self.response_class = response_class
        return super().getresponse()


class _BoundedHTTPSConnection(_BoundedHTTPConnection, HTTPSConnection):
    """The same with TLS."""


class _BoundedResponse(HTTPResponse):
    """A response that is read until a fixed time and up to a size."""

    def __init__(self, sock: socket, debuglevel: int = 0, method: str | None = None, *, due: float) -> None:
        file: Any = _BoundedSocket(sock, due)
        super().__init__(file, debuglevel, method)

    def begin(self) -> None:
        super().begin()
        if self.status < _FIRST_FINAL_STATUS:
            # The final response would follow, and be taken for that of the next request.
            raise HTTPException("an interim answer")


class _BoundedSocket:
    """The part of a socket that http.client reads from."""

    def __init__(self, sock: socket, due: float) -> None:
        self._sock = sock
        self._due = due

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self._sock, self._due))


class _BoundedReader(io.RawIOBase):
    def __init__(self, sock: socket, due: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._due = due
        self._allowed = _MAX_RESPONSE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:  # noqa: ANN401 - as io.RawIOBase has it
        left = self._due - monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        number = self._raw.readinto(buffer)
        self._allowed -= number or 0
        if self._allowed < 0:
            raise OSError("the answer is too large")
        return number

    def close(self) -> None:
        self._raw.close()
        super().close()
