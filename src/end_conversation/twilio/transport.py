"""Keep-alive connections to Twilio, direct or through a proxy, with one time limit for a whole exchange.

urllib3's timeouts apply to each socket operation, so a server that sends a byte now and then never exceeds
one. The connections here read a response until a fixed time instead.
"""

from __future__ import annotations

import io
import ssl
from contextlib import suppress
from functools import partial
from http.client import HTTPException, HTTPResponse
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from urllib3 import PoolManager, ProxyManager, Timeout, make_headers
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxyError
from urllib3.exceptions import TimeoutError as UrllibTimeoutError

from end_conversation.deadline import call_within

if TYPE_CHECKING:
    from collections.abc import Mapping
    from socket import socket
    from urllib.parse import SplitResult

    from urllib3 import BaseHTTPResponse

CONNECT_TIMEOUT = 3.0
"""Seconds to resolve a server's name and open a connection, with or without a proxy, including TLS."""

MAX_RESPONSE = 32 * 1024 * 1024
"""Maximum bytes of a response."""

_FIRST_FINAL_STATUS = 200


class ConnectionFailed(Exception):
    """There is no response, or no valid one; the message is the kind of the cause."""


class TooLarge(ConnectionFailed):
    """The response exceeds MAX_RESPONSE."""


class Connections:
    """Connections to one server, kept for later requests. Thread-safe.

    Args:
        base_url: scheme, host and port.
        kept: how many idle connections are kept.
        proxy_url: HTTP proxy for an https:// server, with user and password if it wants them.
    """

    def __init__(self, base_url: str, kept: int, proxy_url: str | None = None) -> None:
        is_https = base_url.startswith("https:")
        # Loading the certificates takes tens of milliseconds: do it once, not per connection.
        context = ssl.create_default_context() if is_https else None
        if proxy_url:
            proxy = urlsplit(proxy_url)
            manager: PoolManager = ProxyManager(
                f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}",
                proxy_headers=_proxy_headers(proxy),
                proxy_ssl_context=context,
                maxsize=kept,
                ssl_context=context,
            )
        else:
            manager = PoolManager(maxsize=kept, ssl_context=context)
        self._pool = manager.connection_from_url(base_url)
        self._pool.ConnectionCls = _BoundedHTTPSConnection if is_https else _BoundedHTTPConnection

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
            TooLarge: the response exceeds MAX_RESPONSE.
            ConnectionFailed: no response, or no valid one.
        """
        try:
            # By name: instrumentation that wraps urlopen expects them so, and may set headers itself.
            return self._pool.urlopen(
                method=method,
                url=target,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=Timeout(connect=CONNECT_TIMEOUT, total=seconds),
                # A small compressed response could expand to any size.
                decode_content=False,
            )
        except (NewConnectionError, ProxyError) as error:
            cause = getattr(error, "original_error", error)
            # urllib3 counts a refused connection as a timeout, too.
            if isinstance(cause, ConnectTimeoutError) and not isinstance(cause, NewConnectionError):
                raise TimeoutError from None
            raise ConnectionFailed(type(error).__name__) from None
        except UrllibTimeoutError:
            raise TimeoutError from None
        except (HTTPError, HTTPException, OSError, ValueError, MemoryError, OverflowError) as error:
            # The last two if the server announces more than could ever be read.
            # Without its cause, whose message may contain what the server sent.
            cause = next((arg for arg in error.args if isinstance(arg, Exception)), error)
            if isinstance(cause, _TooManyBytesError):
                raise TooLarge("TooLarge") from None
            raise ConnectionFailed(type(cause).__name__) from None


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    """The proxy's credentials, as boto3 reads them from the same URL."""
    if not (proxy.username and proxy.password):
        return {}
    return make_headers(proxy_basic_auth=f"{unquote(proxy.username)}:{unquote(proxy.password)}")


class _BoundedHTTPConnection(HTTPConnection):
    _tunnel_took = 0.0

    def connect(self) -> None:
        """Connect in time: a DNS lookup has no timeout, and each address of a host gets all of it."""
        seconds = self.timeout or CONNECT_TIMEOUT
        due = self._read_until(seconds)
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
        except (OSError, HTTPException) as error:
            if self.proxy is None or isinstance(error, ssl.SSLError):
                raise
            # urllib3 blames the server if a proxy hangs up or sends an invalid response.
            raise ProxyError("the proxy did not open a tunnel", error) from error
        if self.proxy is not None:
            # urllib3's clock for the total time starts only now.
            self._tunnel_took = seconds - (due - monotonic())

    def getresponse(self) -> Any:  # noqa: ANN401 - urllib3 and http.client have different classes here
        """The response, read until the request's total time is up."""
        self._read_until((self.timeout or 0) - self._tunnel_took)
        self._tunnel_took = 0.0
        return super().getresponse()

    def _read_until(self, seconds: float) -> float:
        """Read the next response, also a proxy's to CONNECT, for so many seconds; returns when they end."""
        due = monotonic() + seconds
        response_class: Any = partial(_BoundedResponse, due=due)
        self.response_class = response_class
        return due


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
        if (self.length or 0) > MAX_RESPONSE:
            raise _TooManyBytesError


class _TooManyBytesError(OSError):
    """The response exceeds MAX_RESPONSE."""


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
        self._allowed = MAX_RESPONSE

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
            raise _TooManyBytesError
        return number

    def close(self) -> None:
        self._raw.close()
        super().close()
