"""Keep-alive connections to Twilio on which a request and its whole answer keep to one time limit.

urllib3 does the HTTP. Its timeouts hold for each operation of a socket, so a server that sends a byte now and
then never exceeds one: the connections here read an answer until an instant instead.
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

_LARGEST_ANSWER = 32 * 1024 * 1024
_FIRST_FINAL_STATUS = 200


class ConnectionFailed(Exception):
    """There is no answer, or none that is HTTP; the text is the kind of the cause."""


class Connections:
    """Connections to one server, each kept for the next request. Safe for threads.

    Args:
        base_url: scheme, host and port.
        kept: how many idle connections are kept.
    """

    def __init__(self, base_url: str, kept: int) -> None:
        url = urlsplit(base_url)
        host = url.hostname or ""
        self._pool: HTTPConnectionPool
        if url.scheme == "https":
            # Loading the certificates takes tens of milliseconds: once, not for each connection.
            context = ssl.create_default_context()
            self._pool = HTTPSConnectionPool(host, url.port, maxsize=kept, ssl_context=context)
            self._pool.ConnectionCls = _BoundedHTTPSConnection
        else:
            self._pool = HTTPConnectionPool(host, url.port, maxsize=kept)
            self._pool.ConnectionCls = _BoundedHTTPConnection

    def open(self, seconds: float) -> None:
        """Have a connection ready for the next request; if that fails, the next request reports it."""
        with suppress(TimeoutError, ConnectionFailed):
            self.exchange("HEAD", "/", {}, None, seconds)

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: str | None, seconds: float
    ) -> BaseHTTPResponse:
        """Send a request and read the whole answer to it; no redirect is followed, nothing is tried again.

        Args:
            method: GET, say.
            target: path and query.
            headers: all but Host and Content-Length.
            body: what to send.
            seconds: for everything together.

        Raises:
            TimeoutError: no whole answer in time.
            ConnectionFailed: no answer, or none that is HTTP.
        """
        try:
            return self._pool.urlopen(
                method,
                target,
                body,
                headers,
                retries=False,
                redirect=False,
                timeout=Timeout(connect=min(CONNECT_TIMEOUT, seconds), total=seconds),
                # A small answer could unpack into one of any size.
                decode_content=False,
            )
        except NewConnectionError as error:
            # To urllib3, a refused connection is one that timed out, too.
            raise ConnectionFailed(type(error).__name__) from None
        except UrllibTimeoutError:
            raise TimeoutError from None
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            # Without its cause, whose text may be what the server sent.
            cause = next((arg for arg in error.args if isinstance(arg, Exception)), error)
            raise ConnectionFailed(type(cause).__name__) from None


class _BoundedHTTPConnection(HTTPConnection):
    def connect(self) -> None:
        """Connect in time: a name look-up knows no timeout, and each address of a host gets all of it."""
        seconds = self.timeout or CONNECT_TIMEOUT
        due = monotonic() + seconds
        connect = super().connect

        def connect_or_close() -> None:
            connect()
            if monotonic() > due:
                # Nobody waits for it any more.
                self.close()
                raise TimeoutError

        try:
            call_within(seconds, connect_or_close)
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection within {seconds} s") from error

    def getresponse(self) -> Any:  # noqa: ANN401 - urllib3 has a response of its own here, http.client another
        """The answer, read until what urllib3 has left of the request's whole time is over."""
        due = monotonic() + (self.timeout or 0)
        response_class: Any = partial(_BoundedResponse, due=due)
        self.response_class = response_class
        return super().getresponse()


class _BoundedHTTPSConnection(_BoundedHTTPConnection, HTTPSConnection):
    """The same with TLS."""


class _BoundedResponse(HTTPResponse):
    """An answer that is read until an instant, and up to a size."""

    def __init__(self, sock: socket, debuglevel: int = 0, method: str | None = None, *, due: float) -> None:
        file: Any = _BoundedSocket(sock, due)
        super().__init__(file, debuglevel, method)

    def begin(self) -> None:
        super().begin()
        if self.status < _FIRST_FINAL_STATUS:
            # The answer proper would come after this one, and be taken for the answer to the next request.
            raise HTTPException("an interim answer")


class _BoundedSocket:
    """What http.client asks of a socket to read from it: a file."""

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
        self._allowed = _LARGEST_ANSWER

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
