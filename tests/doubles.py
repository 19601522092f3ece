"""What tests put in the place of AWS where moto's server cannot misbehave on request."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class SecretsManager:
    """Answers GetSecretValue over HTTP on loopback, and fails as told.

    Attributes:
        secrets: texts by secret id.
        error: AWS error code to refuse every request with.
        delay: seconds before an answer.
        drip: seconds between the bytes of an answer.
        reads: ids of the secrets that were asked for.
        asked: set once there was a request.
    """

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.error: str | None = None
        self.delay = 0.0
        self.drip = 0.0
        self.reads: list[str] = []
        self.asked = threading.Event()
        self.stopped = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))

    @property
    def url(self) -> str:
        """The endpoint, for AWS_ENDPOINT_URL_SECRETS_MANAGER."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], secrets_manager: SecretsManager) -> None:
        super().__init__(address, _Handler)
        self.secrets_manager = secrets_manager

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: _Server

    def do_POST(self) -> None:
        told = self.server.secrets_manager
        secret_id = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["SecretId"]
        told.reads.append(secret_id)
        told.asked.set()
        text = told.secrets.get(secret_id)
        error = told.error or ("ResourceNotFoundException" if text is None else None)
        told.stopped.wait(told.delay)
        answer = {"__type": error} if error else {"Name": secret_id, "SecretString": text}
        body = json.dumps(answer).encode()
        self.send_response(400 if error else 200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for octet in body if told.drip else ():
            self.wfile.write(bytes([octet]))
            self.wfile.flush()
            time.sleep(told.drip)
        if not told.drip:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests look at `reads`."""
