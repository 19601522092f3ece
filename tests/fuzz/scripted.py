"""A Twilio that answers what it is told to, byte for byte."""

import contextlib
import re
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.fuzz.inputs import Reply

_LENGTH = re.compile(rb"(?i)\r\nContent-Length: *(\d+)")
_NO_LIST = b'{"executions": [], "meta": {"next_page_url": null}}'
_REST = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_NO_LIST), _NO_LIST)


class ScriptedTwilio:
    """A server on loopback, as a context manager.

    Attributes:
        requests: The head and the body of each request that came.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self._replies: list[Reply] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def host(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Where shutting down does not wake who accepts, a connection does.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname()).close()
        self._listener.close()
        self._thread.join(1)
        self.hang_up()

    def script(self, replies: Sequence[Reply]) -> None:
        """Forget what was, and answer this to the requests that come; after that, empty lists."""
        with self._lock:
            self.requests.clear()
            self._replies = list(reversed(replies))

    def hang_up(self) -> None:
        """Close every connection."""
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)
        with connection, contextlib.suppress(OSError):
            received = b""
            while True:
                while not (request := _first_request(received)):
                    if not (more := connection.recv(65536)):
                        break
                    received += more
                if not request:
                    break
                head, body = request
                received = received[len(head) + len(body) :]
                with self._lock:
                    self.requests.append((head.decode("latin-1"), body.decode("latin-1")))
                    reply = self._replies.pop() if self._replies else Reply(_REST, closes=False)
                connection.sendall(reply.content)
                if reply.closes:
                    break
        with self._lock:
            self._connections.discard(connection)


def _first_request(received: bytes) -> tuple[bytes, bytes] | None:
    head, end, rest = received.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    size = int(length[1]) if length else 0
    return (head + end, rest[:size]) if end and len(rest) >= size else None
