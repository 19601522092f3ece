"""What tests put in the place of AWS where moto's server cannot misbehave on request."""

import json
import threading
import uuid
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]


class Refusal(NamedTuple):
    """An answer of AWS that is an error."""

    code: str
    status: int = 400


class Service(ABC):
    """A service of AWS that speaks JSON, over HTTP on loopback; it fails as told.

    Attributes:
        error: AWS error code to refuse requests with.
        status: of that refusal.
        delay: seconds before an answer; the request is carried out when they are over.
        drip: seconds between the bytes of an answer.
        late: whether a request is carried out before its answer is delayed or refused.
        times: how many requests go wrong so; None: all.
        asked: set once there was a request.
        calls: how many requests there were.
    """

    def __init__(self) -> None:
        self.error: str | None = None
        self.status = 400
        self.delay = 0.0
        self.drip = 0.0
        self.late = False
        self.times: int | None = None
        self.asked = threading.Event()
        self.stopped = threading.Event()
        self.calls = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))

    @property
    def url(self) -> str:
        """The endpoint, for AWS_ENDPOINT_URL_…."""
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

    @abstractmethod
    def carry_out(self, request: Json) -> Json | Refusal:
        """The right answer to a request."""

    def delay_of(self, request: Json) -> float:  # noqa: ARG002 - some services look at it
        """Seconds that this request waits, if it is one of those that go wrong."""
        return self.delay

    def answer(self, request: Json) -> tuple[Json | Refusal, float]:
        """The answer to a request, and the seconds between its bytes."""
        with self._lock:
            self.calls += 1
            goes_wrong = self.times != 0
            if self.times:
                self.times -= 1
        self.asked.set()
        if not goes_wrong:
            return self.carry_out(request), 0.0
        answer = self.carry_out(request) if self.late else None
        gave_up = self.stopped.wait(self.delay_of(request))
        if self.error is not None:
            return Refusal(self.error, self.status), self.drip
        if answer is None:
            answer = Refusal("Stopped", 503) if gave_up else self.carry_out(request)
        return answer, self.drip


class SecretsManager(Service):
    """Answers GetSecretValue.

    Attributes:
        secrets: texts by secret id.
        delays: seconds before an answer about one secret, by its id.
        errors: AWS error codes to refuse one secret with, by its id.
        reads: ids of the secrets that were asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.secrets: dict[str, str] = {}
        self.delays: dict[str, float] = {}
        self.errors: dict[str, str] = {}
        self.reads: list[str] = []

    def answer(self, request: Json) -> tuple[Json | Refusal, float]:
        self.reads.append(request["SecretId"])
        return super().answer(request)

    def delay_of(self, request: Json) -> float:
        return self.delays.get(request["SecretId"], self.delay)

    def carry_out(self, request: Json) -> Json | Refusal:
        secret_id = request["SecretId"]
        text = self.secrets.get(secret_id)
        if code := self.errors.get(secret_id):
            return Refusal(code)
        if text is None:
            return Refusal("ResourceNotFoundException")
        return {"Name": secret_id, "SecretString": text}


class Sqs(Service):
    """Takes SendMessage.

    Attributes:
        messages: the requests that were carried out, in their order.
        refuses: tells of a request whether SQS has something against it, beside what goes wrong.
    """

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Json] = []
        self.refuses: Callable[[Json], bool] = lambda _: False

    @property
    def bodies(self) -> list[Any]:
        """What the messages hold, as JSON."""
        return [json.loads(message["MessageBody"]) for message in self.messages]

    @property
    def ids(self) -> list[str]:
        """SQS's ids of the messages."""
        return [message["MessageId"] for message in self.messages]

    def carry_out(self, request: Json) -> Json | Refusal:
        if self.refuses(request):
            return Refusal("InvalidParameterValue")
        message_id = str(uuid.uuid4())
        self.messages.append(request | {"MessageId": message_id})
        return {"MessageId": message_id}


class EventBridge(Service):
    """Takes PutEvents.

    Attributes:
        puts: the entries of each request, whatever came of them.
        entries: those that were taken.
        refuses: tells of an entry whether it fails; asked once for each time that the entry comes.
        answers: what to answer instead; the entries are not taken then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.puts: list[list[Json]] = []
        self.entries: list[Json] = []
        self.refuses: Callable[[Json], bool] = lambda _: False
        self.answers: Json | None = None

    @property
    def events(self) -> list[Json]:
        """What was taken, as EventBridge would deliver it."""
        return [
            {
                "version": "0",
                "id": str(uuid.uuid4()),
                "source": entry["Source"],
                "detail-type": entry["DetailType"],
                "time": "2026-03-02T09:41:08Z",
                "detail": json.loads(entry["Detail"]),
            }
            for entry in self.entries
        ]

    def answer(self, request: Json) -> tuple[Json | Refusal, float]:
        self.puts.append(request["Entries"])
        return super().answer(request)

    def carry_out(self, request: Json) -> Json | Refusal:
        if self.answers is not None:
            return self.answers
        outcomes: list[Json] = []
        for entry in request["Entries"]:
            if self.refuses(entry):
                outcomes.append({"ErrorCode": "InternalFailure", "ErrorMessage": "for now"})
            else:
                self.entries.append(entry)
                outcomes.append({"EventId": str(uuid.uuid4())})
        return {"FailedEntryCount": sum("ErrorCode" in one for one in outcomes), "Entries": outcomes}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], service: Service) -> None:
        super().__init__(address, _Handler)
        self.service = service

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_POST(self) -> None:
        service = self.server.service
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer, drip = service.answer(request)
        is_error = isinstance(answer, Refusal)
        body = json.dumps({"__type": answer.code} if is_error else answer).encode()
        self.send_response(answer.status if is_error else 200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for octet in body if drip else ():
            self.wfile.write(bytes([octet]))
            self.wfile.flush()
            service.stopped.wait(drip)
        if not drip:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests look at what was asked."""
