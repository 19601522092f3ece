"""urllib3's connections, held to a timeout as a whole.

urllib3 hands a timeout to the socket, where it holds for each operation: a server that sends a byte now and
then is waited for without end, a name look-up knows no timeout, and every address of a host gets all of it.
"""

from __future__ import annotations

import io
from http.client import HTTPResponse
from time import monotonic
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError

from end_conversation.deadline import call_within

if TYPE_CHECKING:
    from socket import socket


class _BoundedReader(io.RawIOBase):
    """Reads from a socket within the timeout that the socket has at the beginning."""

    def __init__(self, raw: io.RawIOBase, sock: socket) -> None:
        self._raw = raw
        self._sock = sock
        self._due = monotonic() + (sock.gettimeout() or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:  # noqa: ANN401 - as io.RawIOBase has it
        left = self._due - monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(HTTPResponse):
    """An answer whose headers and body, together, keep to the timeout: urllib3 sets it just before."""

    def __init__(self, sock: socket, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_BoundedReader(self.fp.detach(), sock))


class BoundedHTTPConnection(HTTPConnection):
    """An HTTP connection that gives up when its timeout is over."""

    response_class = _BoundedResponse

    def _new_conn(self) -> socket:
        timeout = self.timeout or 0.0
        try:
            connected: socket = call_within(timeout, super()._new_conn)
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection within {timeout} s") from error
        return connected


class BoundedHTTPSConnection(BoundedHTTPConnection, HTTPSConnection):
    """The same with TLS, whose handshake keeps to the timeout by itself."""
