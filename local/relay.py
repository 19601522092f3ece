"""Connects the containers of `sam local` to the stand-ins, which listen on this machine's loopback only.

With Docker Desktop, host.docker.internal reaches the loopback. With a Docker engine on Linux it does not, and
`sam local` cannot use the host's network. So another container has the name host.docker.internal in a Docker
network of its own, and passes each connection through a Unix socket to this process, which connects to the
loopback: no port is opened on this machine.
"""

import contextlib
import platform
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

NETWORK = "end-conversation"
HOST = "host.docker.internal"
PORTS = (8801, 8802)
IMAGE = "public.ecr.aws/lambda/python:3.13-" + ("arm64" if platform.machine() == "aarch64" else "x86_64")
"""The image that `sam local` itself runs the function in."""

Connect = Callable[[], socket.socket]


@contextlib.contextmanager
def relay() -> Iterator[None]:
    """Keep the network, and on Linux the container, from entering to leaving.

    Raises:
        RuntimeError: Docker failed; the message is Docker's.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_network())
        if sys.platform == "linux":
            sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="end-conversation-")))
            for port in PORTS:
                server = _UnixServer(str(sockets / str(port)), _connect_to_loopback(port))
                stack.enter_context(_serving(server))
            stack.enter_context(_container(sockets))
        yield


@contextlib.contextmanager
def _network() -> Iterator[None]:
    if _docker("network", "inspect", NETWORK).returncode:
        created = _docker("network", "create", NETWORK)
        if created.returncode:
            raise RuntimeError(created.stderr.strip())
    try:
        yield
    finally:
        # It stays where a container of sam local still uses it.
        _docker("network", "rm", NETWORK)


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607 - its place differs, and so it is with sam
    except FileNotFoundError:
        raise RuntimeError("sam local needs Docker, and there is no docker command") from None


@contextlib.contextmanager
def _container(sockets: Path) -> Iterator[None]:
    command = ["docker", "run", "--rm", "--interactive", "--network", NETWORK, "--network-alias", HOST]
    command += ["--volume", f"{sockets}:/relay", "--volume", f"{Path(__file__).resolve()}:/relay.py:ro"]
    command += ["--entrypoint", "python3", IMAGE, "/relay.py", "/relay"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - as above
        try:
            if not cast("IO[bytes]", process.stdout).readline():
                raise RuntimeError("the container of the relay did not start")
            yield
        finally:
            # The container lives until its input ends, so it goes even if this process is killed.
            cast("IO[bytes]", process.stdin).close()


def _inside(sockets: Path) -> None:
    """What runs in the container: accept connections, and pass them to the sockets."""
    with contextlib.ExitStack() as stack:
        for path in sockets.iterdir():
            server = _TcpServer(("0.0.0.0", int(path.name)), _connect_to_unix(path))  # noqa: S104 -- the container's own network, not the machine's
            stack.enter_context(_serving(server))
        print("ready", flush=True)
        sys.stdin.read()


def _connect_to_loopback(port: int) -> Connect:
    return lambda: socket.create_connection(("127.0.0.1", port))


def _connect_to_unix(path: Path) -> Connect:
    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        return connection

    return connect


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], connect: Connect) -> None:
        self.connect = connect
        super().__init__(address, _Handover)


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, address: str, connect: Connect) -> None:
        self.connect = connect
        super().__init__(address, _Handover)


class _Handover(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        # Close this end, too, so that the function notices.
        with contextlib.suppress(OSError), cast("_TcpServer | _UnixServer", self.server).connect() as other:
            answers = threading.Thread(target=_pump, args=(other, self.request), daemon=True)
            answers.start()
            _pump(self.request, other)
            answers.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


if __name__ == "__main__":
    _inside(Path(sys.argv[1]))
