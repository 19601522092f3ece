"""Twilio's Studio API, Secrets Manager and EventBridge over TLS, in a process apart."""

import contextlib
import json
import multiprocessing
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

import certifi
import trustme

from local.studio import ACCOUNT_SID, API_KEY, Latency, NotFoundError, Request, Studio

SECRET_ID = "end-conversation/twilio"  # noqa: S105 -- its name


@dataclass(frozen=True)
class StandIn:
    """Where it listens, and what makes a client trust it.

    Attributes:
        twilio_url: where Twilio answers at once.
        slow_twilio_url: where it takes as long as was asked for.
        aws_url: where AWS answers.
        ca_bundle: path of the certificates that a client has to know, with all the usual ones, since loading
            those is part of what a client does.
    """

    twilio_url: str
    slow_twilio_url: str
    aws_url: str
    ca_bundle: str


@contextlib.contextmanager
def running(folder: Path, latency: float = 0.0) -> Iterator[StandIn]:
    """The stand-in, as long as this lasts; its certificates are made in the folder."""
    certificate, ca_bundle = _make_certificates(folder)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, certificate, latency), daemon=True)
    process.start()
    try:
        yield StandIn(*ours.recv(), str(ca_bundle))
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, certificate: Path, latency: float) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    aws = ThreadingHTTPServer(("127.0.0.1", 0), _Aws)
    aws.socket = tls.wrap_socket(aws.socket, server_side=True)
    with Studio(tls=tls) as quick, Studio(tls=tls, latency=Latency(other=latency)) as slow:
        for studio in (quick, slow):
            _let_all_be_active(studio)
        pipe.send((quick.url, slow.url, f"https://127.0.0.1:{aws.server_address[1]}"))
        aws.serve_forever()


def _let_all_be_active(studio: Studio) -> None:
    """Every request to end an Execution finds it active, so that each invocation does the same."""
    created, lock = datetime.now(UTC) - timedelta(hours=1), threading.Lock()

    def before(request: Request) -> None:
        if request.method == "POST":
            _, _, _, flow_sid, _, sid = request.path.split("/")
            with lock:
                with contextlib.suppress(NotFoundError):
                    studio.executions.delete(flow_sid, sid)
                studio.seed(flow_sid, sid, date_created=created)

    studio.before = before


class _Aws(BaseHTTPRequestHandler):
    """Returns the secret, and accepts events."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = _SECRET
        if self.headers["X-Amz-Target"] == "AWSEvents.PutEvents":
            ids = [{"EventId": "11111111-2222-3333-4444-555555555555"} for _ in request["Entries"]]
            content = {"FailedEntryCount": 0, "Entries": ids}
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


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


def _make_certificates(folder: Path) -> tuple[Path, Path]:
    """A certificate for loopback, and a bundle of the usual authorities and its own."""
    authority, certificate, bundle = trustme.CA(), folder / "certificate.pem", folder / "ca-bundle.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    bundle.write_bytes(certifi.contents().encode() + b"\n" + authority.cert_pem.bytes())
    return certificate, bundle
