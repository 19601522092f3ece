"""AWS on this machine: moto's server on loopback, with made-up credentials, and out of order on request."""

import http.client
import json
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import boto3
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

REGION = "us-east-1"
ACCESS_KEY = SECRET_KEY = "test"  # noqa: S105 -- made up


class Aws:
    """The stand-in as a context manager: it serves, with nothing in it at first, from entering to leaving.

    moto keeps everything in the process, so there can be one at a time.

    Args:
        port: Where to listen; by default on any free port.

    Attributes:
        calls: The operations that were called so far, as ``secretsmanager.GetSecretValue``.
        down: Whether to answer every call with 503. May be changed at any time.
        delay: Seconds to take longer over every call. May be changed at any time.
    """

    def __init__(self, port: int = 0) -> None:
        self.calls: list[str] = []
        self.down = False
        self.delay = 0.0
        self._stopped = threading.Event()
        # moto's queues lose a message that comes while another is deleted.
        self._in_turn = threading.Lock()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", port, self._answer, threaded=True, request_handler=_QuietHandler
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        reset = http.client.HTTPConnection("127.0.0.1", self._server.server_port)
        reset.request("POST", "/moto-api/reset")
        reset.getresponse().read()
        reset.close()
        self.calls.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._thread.join()

    @property
    def url(self) -> str:
        """The endpoint of all services."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that bring boto3 here."""
        return {
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": self.url,
        }

    def secrets(self) -> "SecretsManagerClient":
        """A client for Secrets Manager."""
        return boto3.client("secretsmanager", **self._here)

    def sqs(self) -> "SQSClient":
        """A client for SQS."""
        return boto3.client("sqs", **self._here)

    def events(self) -> "EventBridgeClient":
        """A client for EventBridge."""
        return boto3.client("events", **self._here)

    def put_secret(self, name: str, value: dict[str, Any]) -> None:
        """Make this the secret's current value, whether it exists or not."""
        secrets, text = self.secrets(), json.dumps(value)
        try:
            secrets.create_secret(Name=name, SecretString=text)
        except secrets.exceptions.ResourceExistsException:
            secrets.put_secret_value(SecretId=name, SecretString=text)

    @property
    def _here(self) -> dict[str, Any]:
        return {
            "endpoint_url": self.url,
            "region_name": REGION,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET_KEY,
        }

    def _answer(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        self.calls.append(environ.get("HTTP_X_AMZ_TARGET") or environ["PATH_INFO"])
        self._stopped.wait(self.delay)
        if self.down:
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return []
        with self._in_turn:
            return list(self._moto(environ, start_response))


class _QuietHandler(MotoRequestHandler):
    def log(self, *_: object) -> None:
        """A line for each request would drown what the function has to say."""
