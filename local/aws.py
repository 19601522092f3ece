"""AWS on this machine: moto's server on loopback, with made-up credentials, and with faults on request."""

import contextlib
import http.client
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from io import BytesIO
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from local.faults import Fault, Faults

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REGION = "us-east-1"
ACCESS_KEY = SECRET_KEY = "test"  # noqa: S105 -- made up

OWN = "stand-in"
"""In the user agent of the stand-in's own calls, which are not recorded and meet no faults."""


_AUTHORIZATION = f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/{REGION}/secretsmanager/aws4_request"


@cache
def _session() -> boto3.Session:
    """It parses the services' models, which takes longest."""
    return boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)


@dataclass
class Call:
    """A call that was not the stand-in's own."""

    target: str
    """Service and operation: `secretsmanager.GetSecretValue`."""
    request: Any
    """JSON."""
    answer: Any = None
    """JSON; ``None`` unless the call succeeded."""

    @property
    def operation(self) -> str:
        """The operation's name."""
        return self.target.rpartition(".")[2]


class Aws:
    """The stand-in as a context manager: it serves, with nothing in it at first, from entering to leaving.

    moto keeps everything in the process, so there can be one at a time.

    Args:
        port: Where to listen; by default on any free port.
        seed: For faults that hit only a share of the calls.

    Attributes:
        calls: The calls so far, in the order of arrival.
        secrets: The texts that were put so far, by the secrets' names.
        faults: What goes wrong.
    """

    def __init__(self, port: int = 0, *, seed: int = 0) -> None:
        self.calls: list[Call] = []
        self.secrets: dict[str, str] = {}
        self.faults = Faults(seed)
        self._over = threading.Event()
        self._clients: dict[str, Any] = {}
        # moto's queues lose a message that comes while another is deleted.
        self._in_turn = threading.Lock()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", port, self._serve, threaded=True, request_handler=_QuietHandler
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call("/moto-api/reset")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.recover()
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

    def fail(self, operation: str | None = None, **fault: Any) -> None:  # noqa: ANN401 -- as Fault
        """Fail the next calls of an operation, or of all; see ``Fault``: all but ``reset`` and ``raw``."""
        if "code" in fault:
            fault = {"status": 400} | fault
        self.faults.add(Fault(method=operation, **fault))

    def recover(self) -> None:
        """Stop failing, and give up the calls that wait."""
        self.faults.clear()
        self._over.set()
        self._over = threading.Event()

    def client(self, service: str) -> Any:  # noqa: ANN401 -- there is a type for each service
        """A client whose calls are neither recorded nor meet faults."""
        with self._in_turn:
            if service not in self._clients:
                self._clients[service] = _session().client(
                    service,  # type: ignore[call-overload]
                    endpoint_url=self.url,
                    # A slow machine loses no call, so none is sent twice.
                    config=Config(user_agent_extra=OWN, read_timeout=600, retries={"total_max_attempts": 1}),
                )
            return self._clients[service]

    def put_secret(self, name: str, value: dict[str, Any] | str) -> None:
        """Make this the secret's current value, whether it exists or not."""
        text = self.secrets[name] = value if isinstance(value, str) else json.dumps(value)
        if self._call(target="secretsmanager.CreateSecret", Name=name, SecretString=text) != HTTPStatus.OK:
            self._call(target="secretsmanager.PutSecretValue", SecretId=name, SecretString=text)

    def delete_secret(self, name: str) -> None:
        """Delete the secret."""
        self._call(target="secretsmanager.DeleteSecret", SecretId=name, ForceDeleteWithoutRecovery=True)

    def _call(self, path: str = "/", target: str = "", **request: Any) -> int:  # noqa: ANN401 -- JSON
        """A call without boto3, which takes its time to make a client."""
        connection = http.client.HTTPConnection("127.0.0.1", self._server.server_port)
        headers = {"User-Agent": OWN, "X-Amz-Target": target, "Authorization": _AUTHORIZATION}
        connection.request("POST", path, json.dumps(request), headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    def _serve(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET")
        if not target or OWN in environ.get("HTTP_USER_AGENT", ""):
            return self._carry_out(environ)(environ, start_response)
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = BytesIO(body)
        call, over = Call(target, json.loads(body)), self._over
        self.calls.append(call)
        fault = self.faults.next(call.operation, body.decode()) or Fault()
        response = self._carry_out(environ) if fault.carried_out else None
        over.wait(None if fault.broken == "hang" else fault.delay)
        if over.is_set():
            response = Response(status=503)
        elif fault.status is not None:
            response = _json(json.dumps({"__type": fault.code or "ServiceFailure"}), fault.status)
        elif response is None:
            response = self._carry_out(environ)
        if fault.body is not None:
            response = _json(fault.body, response.status_code)
        if response.status_code == HTTPStatus.OK:
            with contextlib.suppress(ValueError):
                call.answer = json.loads(response.get_data())
        if fault.broken == "drip":
            response.response = _dripping(response.get_data(), fault.interval, over)
        return response(environ, start_response)

    def _carry_out(self, environ: "WSGIEnvironment") -> Response:
        with self._in_turn:
            return Response.from_app(self._moto, environ, buffered=True)


def _json(text: str, status: int) -> Response:
    return Response(text, status, content_type="application/x-amz-json-1.1")


def _dripping(answer: bytes, interval: float, over: threading.Event) -> Iterator[bytes]:
    for byte in answer:
        yield bytes([byte])
        if over.wait(interval):
            return


class _QuietHandler(MotoRequestHandler):
    def log(self, *_: object) -> None:
        """Print nothing: calls are recorded."""
