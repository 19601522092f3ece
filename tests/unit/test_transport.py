"""Connections to Twilio: kept, bounded in time and size, with credentials for Twilio only."""

import gzip
import socket
import ssl
import threading
import traceback
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import trustme
from conftest import BUSY

from end_conversation.twilio import transport
from end_conversation.twilio.transport import ConnectionFailed, Connections
from local.studio import Studio

OK = b"HTTP/1.1 200 OK\r\n"
CONTACT = b"+15551234567"


def get(connections: Connections, seconds: float = 5.0) -> int:
    return connections.exchange("GET", "/", {"Authorization": "Basic c2VjcmV0"}, None, seconds).status


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"broken": "reset"}, "ConnectionResetError"),
        ({"broken": "close"}, "RemoteDisconnected"),
        ({"raw": CONTACT + b" is a contact\r\n\r\n"}, "BadStatusLine"),
        ({"raw": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK + b"\r\n"}, "HTTPException"),
        ({"raw": b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}"}, "HTTPException"),
        ({"raw": OK + b"Content-Length: 20\r\n\r\n" + CONTACT, "broken": "close"}, "IncompleteRead"),
        ({"raw": OK + b"Content-Length: 2000\r\n\r\n" + CONTACT * 100}, "TooLarge"),
        ({"raw": OK + b"Content-Length: %d\r\n\r\n" % 2**62}, "TooLarge"),
        ({"raw": OK + b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + CONTACT * 200}, "TooLarge"),
        ({"raw": OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % 2**80}, "OverflowError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_response(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], kind: str
) -> None:
    """The error names its kind, not what the server sent, and the connection is not used again."""
    monkeypatch.setattr(transport, "MAX_RESPONSE", 1000)
    studio.fail(**fault)
    connections = Connections(studio.url, 1)
    with pytest.raises(ConnectionFailed) as raised:
        get(connections)
    assert str(raised.value) == kind
    assert CONTACT.decode() not in "".join(traceback.format_exception(raised.value))
    assert get(connections) == 401
    assert studio.connections == 2


@pytest.mark.parametrize("broken", ["hang", "drip"])
def test_time_is_for_the_whole_response(studio: Studio, broken: str) -> None:
    """Silence and a byte now and then both end in time."""
    studio.fail(broken=broken)
    began = monotonic()
    with pytest.raises(TimeoutError):
        get(Connections(studio.url, 1), 0.3)
    assert 0.3 <= monotonic() - began < 0.3 + BUSY


def test_time_is_for_the_handshake_too() -> None:
    """A server may take a connection and never agree on TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections = Connections(f"https://127.0.0.1:{server.getsockname()[1]}", 1)
        began = monotonic()
        with pytest.raises(TimeoutError):
            get(connections, 0.3)
        assert monotonic() - began < 0.3 + BUSY


def test_a_server_that_hangs_up_in_the_handshake() -> None:
    """The error names its kind, and blames no proxy."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            server.accept()[0].close()

        threading.Thread(target=hang_up).start()
        with pytest.raises(ConnectionFailed, match=r"^(ConnectionResetError|SSLEOFError)$"):
            get(Connections(f"https://127.0.0.1:{server.getsockname()[1]}", 1))


def test_time_is_for_the_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up has no timeout of its own; a connection that comes too late is closed."""
    released, resolve = threading.Event(), socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: released.wait() and resolve(*a, **k))
    with socket.create_server(("127.0.0.1", 0)) as server:
        began = monotonic()
        with pytest.raises(TimeoutError):
            get(Connections(f"http://127.0.0.1:{server.getsockname()[1]}", 1), 0.3)
        assert monotonic() - began < 0.3 + BUSY
        released.set()
        assert server.accept()[0].recv(1) == b""


def test_a_refused_connection_fails_at_once() -> None:
    """That is no timeout."""
    with pytest.raises(ConnectionFailed, match="NewConnectionError"):
        get(Connections("http://127.0.0.1:9", 1))


def test_connections_are_kept(studio: Studio) -> None:
    """One request after the other goes over the connection that was opened first, whatever the answers."""
    connections = Connections(studio.url, 1)
    connections.open(5.0)
    for status in (404, 500, 301):
        studio.fail(status=status)
        assert get(connections) == status
    assert studio.connections == 1


def test_nothing_is_decompressed(studio: Studio) -> None:
    """Twilio was not asked to compress, and a small response could expand to any size."""
    compressed = gzip.compress(b"{}")
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(compressed)
    studio.fail(raw=head + compressed)
    assert Connections(studio.url, 1).exchange("GET", "/", {}, None, 5.0).data == compressed


def test_connections_are_given_up_where_the_server_says_so(studio: Studio) -> None:
    """Also where it leaves its own end open: what comes over it next may be anything."""
    studio.fail(raw=OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}")
    connections = Connections(studio.url, 1)
    assert (get(connections), get(connections)) == (200, 401)
    assert studio.connections == 2


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that the environment trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return authority


@pytest.mark.parametrize(
    ("issued_by", "name", "expected"),
    [
        ("trusted", "127.0.0.1", 401),
        ("trusted", "example.com", "SSLCertVerificationError"),
        ("other", "127.0.0.1", "SSLCertVerificationError"),
    ],
)
def test_certificates(trusted: trustme.CA, issued_by: str, name: str, expected: int | str) -> None:
    """A server that cannot prove its name gets no credentials, and does not spoil what comes later."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (trusted if issued_by == "trusted" else trustme.CA()).issue_cert(name).configure_cert(context)
    with Studio(tls=context) as studio:
        connections = Connections(studio.url, 1)
        connections.open(5.0)
        try:
            found: int | str = get(connections)
        except ConnectionFailed as error:
            found = str(error)
        assert found == expected
        assert bool(studio.requests) == (expected == 401)


def test_certificates_are_loaded_once() -> None:
    """It takes tens of milliseconds: all connections share them."""
    pool: Any = Connections("https://studio.twilio.com", 2)._pool
    assert pool.conn_kw["ssl_context"]
    assert pool._new_conn().ssl_context is pool._new_conn().ssl_context is pool.conn_kw["ssl_context"]
