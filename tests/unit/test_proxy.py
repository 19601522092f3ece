"""An enterprise's way out: everything goes through its HTTP proxy, in time, and its password nowhere else."""

import asyncio
import base64
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from botocore.httpsession import ProxyConfiguration
from botocore.utils import get_environ_proxies
from conftest import BUSY, FLOW_SID, EventBridge, Function, Sqs, sample
from urllib3 import ProxyManager

from end_conversation.config import Config
from end_conversation.errors import CredentialsUnavailable
from end_conversation.twilio.transport import ConnectionFailed, Connections
from local.aws import Aws
from local.studio import Studio

USER = "egress:s3cret%40proxy"
CREDENTIALS = "Basic " + base64.b64encode(b"egress:s3cret@proxy").decode()

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Network:
    """A proxy that opens tunnels, and TLS in front of stand-ins; all on loopback.

    Attributes:
        proxy: host and port of the proxy.
        answer: what the proxy says instead of opening a tunnel.
        pause: seconds before each byte of that, or before a tunnel opens.
        heads: the requests to the proxy.
    """

    def __init__(self, folder: Path) -> None:
        self.authority = str(folder / "authority.pem")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._tls)
        self.answer: bytes | None = None
        self.pause = 0.0
        self.heads: list[str] = []
        self._tunnels: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._closed = asyncio.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.proxy = self._listen(self._tunnel)

    def proxy_with_tls(self) -> str:
        """The URL of the same proxy behind TLS."""
        return f"https://{USER}@{self._listen(self._tunnel, tls=True)}"

    def behind_tls(self, url: str) -> str:
        """An https:// URL of a server without TLS."""
        port = urlsplit(url).port

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _join((reader, writer), await asyncio.open_connection("127.0.0.1", port))

        return f"https://{self._listen(forward, tls=True)}"

    def hang_up(self) -> None:
        """Close all tunnels."""
        for writer in self._tunnels:
            self._loop.call_soon_threadsafe(writer.close)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._closed.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._closed.wait())

    def _listen(self, serve: Serve, *, tls: bool = False) -> str:
        async def serve_until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(asyncio.CancelledError, asyncio.IncompleteReadError):
                await serve(reader, writer)

        starting = asyncio.start_server(serve_until_closed, "127.0.0.1", 0, ssl=self._tls if tls else None)
        server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        self._tunnels.append(writer)
        if self.answer is not None:
            for byte in self.answer:
                await asyncio.sleep(self.pause)
                writer.write(bytes([byte]))
            writer.close()
            return
        await asyncio.sleep(self.pause)
        host, _, port = head.split()[1].rpartition(":")
        server = await asyncio.open_connection(host, port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _join((reader, writer), server)


async def _join(*connections: Streams) -> None:
    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
        target.close()

    (one, to_one), (other, to_other) = connections
    await asyncio.gather(copy(one, to_other), copy(other, to_one))


@pytest.fixture
def network(environment: pytest.MonkeyPatch, tmp_path: Path, studio: Studio) -> Iterator[Network]:
    """Every server is behind TLS and the proxy."""
    network = Network(tmp_path)
    environment.setenv("SSL_CERT_FILE", network.authority)
    environment.setenv("AWS_CA_BUNDLE", network.authority)
    environment.setenv("HTTPS_PROXY", f"http://{USER}@{network.proxy}")
    environment.setenv("TWILIO_STUDIO_BASE_URL", network.behind_tls(studio.url))
    yield network
    network.close()


@pytest.mark.parametrize("tls", [False, True], ids=["http proxy", "https proxy"])
def test_everything_goes_through_the_proxy(
    function: Function, studio: Studio, moto: Aws, network: Network, *, tls: bool
) -> None:
    """Secrets Manager, SQS, EventBridge and Twilio, with the password, which is in no output; Twilio once."""
    if tls:
        function.setenv("HTTPS_PROXY", network.proxy_with_tls())
    queue = Sqs(moto, "commands")
    EventBridge(moto, "outcomes")
    for service in ("SECRETS_MANAGER", "SQS", "EVENTBRIDGE"):
        function.setenv(f"AWS_ENDPOINT_URL_{service}", network.behind_tls(moto.url))
    function.setenv("QUEUE_URL", queue.url)
    function.setenv("OUTCOME_EVENT_BUS", "outcomes")
    output = ""
    for prefer in ("return=representation", "respond-async", "return=representation"):
        command = {"flow_sid": FLOW_SID, "execution_sid": studio.seed(FLOW_SID).sid}
        event = sample("http") | {"body": json.dumps(command)}
        event["headers"] |= {"prefer": prefer}
        assert function(event)["statusCode"] in (200, 202)
        output += function.output

    assert len(list(studio.executions.all("ended"))) == 2
    targets = [head.split()[1] for head in network.heads]
    assert len(set(targets)) == 4
    assert targets.count(urlsplit(os.environ["TWILIO_STUDIO_BASE_URL"]).netloc) == 1
    assert all(f"proxy-authorization: {CREDENTIALS}".lower() in head.lower() for head in network.heads)
    assert "s3cret" not in output
    assert CREDENTIALS.split()[1] not in output


REFUSED = ConnectionFailed("ProxyError")


@pytest.mark.parametrize(
    ("proxy", "answer", "pause", "expected"),
    [
        ("http://{}", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", 0, REFUSED),
        ("http://{}", b"HTTP/1.1 503 s3cret\r\n\r\n", 0, REFUSED),
        ("http://{}", b"s3cret\r\n\r\n", 0, REFUSED),
        ("http://{}", b"", 0, REFUSED),
        ("http://127.0.0.1:9", None, 0, REFUSED),
        ("http://proxy.invalid", None, 0, REFUSED),
        ("http://{}", b" ", 60, TimeoutError()),
        ("http://{}", b"HTTP/1.1 200 OK" + b" " * 1000, 0.05, TimeoutError()),
        # It takes the connection and never agrees on TLS.
        ("https://{}", None, 0, TimeoutError()),
    ],
)
def test_a_failing_proxy(
    network: Network, proxy: str, answer: bytes | None, pause: float, expected: Exception
) -> None:
    """It costs no more time than there is; the error blames it, and has nothing that it sent."""
    network.answer, network.pause = answer, pause
    connections = Connections(f"https://{network.proxy}", 1, proxy.format(network.proxy))
    began = time.monotonic()
    with pytest.raises(type(expected)) as raised:
        connections.exchange("GET", "/", {}, None, 0.5)
    assert time.monotonic() - began < 0.5 + BUSY
    assert str(raised.value) == str(expected)


def test_time_is_for_the_tunnel_and_the_response_together(network: Network, studio: Studio) -> None:
    """A slow proxy leaves a slow Twilio less time."""
    network.pause = 2.0
    studio.fail(broken="hang")
    config = Config.from_environment()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        Connections(config.studio_base_url, 1, config.proxy_url).exchange("GET", "/", {}, None, 2.5)
    assert time.monotonic() - began < 2.0 + 2.5
    assert studio.requests


def test_what_is_not_the_proxys_fault(network: Network, studio: Studio) -> None:
    """Through a tunnel, Twilio's certificate is still Twilio's, and must be valid."""
    url = network.behind_tls(studio.url).replace("127.0.0.1", "localhost")
    with pytest.raises(ConnectionFailed, match=r"^SSLCertVerificationError$"):
        Connections(url, 1, f"http://{network.proxy}").exchange("GET", "/", {}, None, 3)


def test_a_hanging_proxy_and_boto3(function: Function, network: Network) -> None:
    """Reading a secret through it ends in time as well."""
    network.answer, network.pause = b" ", 60
    function.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"https://{network.proxy}")
    with pytest.raises(CredentialsUnavailable):
        function({"flow_sid": FLOW_SID, "execution_sid": "FN" + "0" * 32}, seconds=2)


def test_a_tunnel_that_was_closed_is_replaced(network: Network, studio: Studio) -> None:
    """Also later than the first one's time was up."""
    config = Config.from_environment()
    connections = Connections(config.studio_base_url, 1, config.proxy_url)
    for _ in range(2):
        assert connections.exchange("GET", "/", {}, None, 1.5).status == 401
        network.hang_up()
        time.sleep(1.6)
    assert len(network.heads) == 2


@pytest.mark.parametrize(
    "variables",
    [
        "",
        "HTTPS_PROXY=http://proxy.example.com:3128",
        "HTTPS_PROXY=http://user:p%40ss@proxy.example.com:3128/",
        "HTTPS_PROXY=http://user@proxy.example.com",
        "HTTPS_PROXY=https://proxy.example.com",
        "HTTPS_PROXY=proxy.example.com:3128",
        "HTTPS_PROXY=//proxy.example.com:3128",
        "HTTPS_PROXY=http://[::1]:3128",
        "HTTPS_PROXY=http://upper:1 https_proxy=http://lower:1",
        "HTTPS_PROXY=http://upper:1 https_proxy=",
        "HTTP_PROXY=http://proxy:1",
        "ALL_PROXY=http://proxy:1",
        "HTTPS_PROXY=http://proxy:1 NO_PROXY=*",
        "HTTPS_PROXY=http://proxy:1 NO_PROXY=",
        "HTTPS_PROXY=http://proxy:1 NO_PROXY=studio.twilio.com",
        "HTTPS_PROXY=http://proxy:1 NO_PROXY=STUDIO.twilio.com:443",
        "HTTPS_PROXY=http://proxy:1 no_proxy=x,.twilio.com,",
        "HTTPS_PROXY=http://proxy:1 no_proxy=com",
        "HTTPS_PROXY=http://proxy:1 no_proxy=twilio.co,io.twilio.com,.amazonaws.com",
        "HTTPS_PROXY=http://proxy:1 NO_PROXY=* no_proxy=",
        "HTTPS_PROXY=http://proxy:1 TWILIO_STUDIO_BASE_URL=http://127.0.0.1:8801",
    ],
)
def test_which_proxy_is_boto3s_choice(monkeypatch: pytest.MonkeyPatch, variables: str) -> None:
    """Of the same variables it takes the same proxy with the same credentials."""
    environ = dict(variable.split("=", 1) for variable in variables.split())
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    config = Config.from_environment(environ | {"TWILIO_SECRET_ID": "x"})

    theirs = ProxyConfiguration(get_environ_proxies(config.studio_base_url))
    url = theirs.proxy_url_for(config.studio_base_url)
    assert config.proxy_url == url
    assert "p%40ss" not in repr(config)
    if url is not None:
        pool: Any = Connections(config.studio_base_url, 1, url)._pool
        headers = {name.title(): value for name, value in pool.proxy_headers.items()}
        assert headers == theirs.proxy_headers_for(url)
        assert pool.proxy._replace(auth=None) == ProxyManager(url).proxy._replace(auth=None, path=None)  # type: ignore[union-attr]
