"""Twilio's Studio API, Secrets Manager and EventBridge over TLS, as quick as can be, in a process apart.

It keeps no state: every request to end an Execution succeeds, so that each invocation does the same.
"""

import asyncio
import contextlib
import json
import multiprocessing
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import certifi
import trustme

from local.studio import ACCOUNT_SID, API_KEY, Executions

SECRET_ID = "end-conversation/twilio"  # noqa: S105 -- its name

_ENDING = re.compile(rb"POST /v2/Flows/(FW\w{32})/Executions/(FN\w{32}) ", re.ASCII)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class StandIn:
    """Where it listens, and what makes a client trust it.

    Attributes:
        url: where answers come at once.
        slow_url: where they take as long as was asked for.
        ca_bundle: path of the certificates that a client has to know, with all the usual ones, since loading
            those is part of what a client does.
    """

    url: str
    slow_url: str
    ca_bundle: str


@contextlib.contextmanager
def running(folder: Path, latency: float = 0.0) -> Iterator[StandIn]:
    """The stand-in, as long as this lasts; its certificates are made in the folder."""
    certificate = _make_certificates(folder)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, certificate, latency), daemon=True)
    process.start()
    try:
        quick, slow = ours.recv()
        ca_bundle = str(folder / "ca-bundle.pem")
        yield StandIn(f"https://127.0.0.1:{quick}", f"https://127.0.0.1:{slow}", ca_bundle)
    finally:
        process.terminate()
        process.join()


def _serve(told: Connection, certificate: Path, latency: float) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        servers = [
            await loop.create_server(partial(_Connection, delay), "127.0.0.1", ssl=tls, backlog=512)
            for delay in (0, latency)
        ]
        told.send([server.sockets[0].getsockname()[1] for server in servers])
        await asyncio.gather(*(server.serve_forever() for server in servers))

    asyncio.run(serve())


class _Connection(asyncio.Protocol):
    """One client, and its requests one after the other."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of TCP it is
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or (length and len(body) < int(length[1])):
            return
        self._received = b""
        asyncio.get_running_loop().call_later(self._delay, self._transport.write, _answer(head, body))


def _answer(head: bytes, body: bytes) -> bytes:
    if head.startswith(b"HEAD "):
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    content_type, content = "application/x-amz-json-1.1", _SECRET
    if b"AWSEvents.PutEvents" in head:
        ids = [{"EventId": "11111111-2222-3333-4444-555555555555"} for _ in json.loads(body)["Entries"]]
        content = {"FailedEntryCount": 0, "Entries": ids}
    elif request := _ENDING.match(head):
        flow_sid, sid = (group.decode() for group in request.groups())
        content_type, content = (
            "application/json;charset=utf-8",
            _EXECUTION | {"flow_sid": flow_sid, "sid": sid},
        )
    answer = json.dumps(content).encode()
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(answer)}\r\n"
        f"Twilio-Request-Id: RQ{'0' * 32}\r\n\r\n"
    ).encode() + answer


_EXECUTION = (
    Executions()
    .add("FW" + "0" * 32, status="ended", date_created=datetime.now(UTC) - timedelta(hours=1))
    .to_dict("https://studio.twilio.com")
)
_EXECUTION["date_updated"] = _EXECUTION["date_updated"] or _EXECUTION["date_created"]
_SECRET = {
    "ARN": f"arn:aws:secretsmanager:us-east-1:000000000000:secret:{SECRET_ID}-AbCdEf",
    "Name": SECRET_ID,
    "VersionId": "11111111-2222-3333-4444-555555555555",
    "SecretString": json.dumps(
        {"accountSid": ACCOUNT_SID, "apiKeySid": API_KEY[0], "apiKeySecret": API_KEY[1]}
    ),
    "VersionStages": ["AWSCURRENT"],
    "CreatedDate": 1.7e9,
}


def _make_certificates(folder: Path) -> Path:
    """A certificate for loopback, and a bundle of the usual authorities and its own."""
    authority, certificate = trustme.CA(), folder / "certificate.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    bundle = certifi.contents().encode() + b"\n" + authority.cert_pem.bytes()
    (folder / "ca-bundle.pem").write_bytes(bundle)
    return certificate
