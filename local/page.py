"""The page of ``make serve``: the API to read and to try, and what comes of it.

All of it comes from this machine: Swagger UI from its package, the API's description from ``docs/``.
"""

import importlib.util
import json
import mimetypes
import threading
from collections import deque
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from local import samples
from local.gateway import Response
from local.rie import Outcome
from local.signing import SECRET, renewed, signed
from local.stand_ins import StandIns

PREFIX = "/_local/"

_ROOT = Path(__file__).parent.parent
# Below the prefix as they are in the repository, so that the reference of one to the other holds.
_DOCUMENTS = ("docs/openapi.yaml", "src/end_conversation/command.schema.json")
_OUTCOMES = 20
_TRANSPORT = ("content-length", "host", "x-amzn-", "x-forwarded-")


class Page:
    """The page, and what its script asks for. Safe for threads.

    Args:
        ready: Whose Executions, outcome events and sources are shown.
    """

    def __init__(self, ready: StandIns) -> None:
        self._ready = ready
        self._studio = ready.studio
        self._lock = threading.Lock()
        self._outcomes: deque[dict[str, Any]] = deque(maxlen=_OUTCOMES)
        self._last_of_source: dict[str, dict[str, Any]] = {}
        self._of_message: dict[str, str] = {}
        self._files = {"/": Path(__file__).with_name("page.html")}
        self._files |= {PREFIX + name: _ROOT / name for name in _DOCUMENTS}
        self._files |= {f"{PREFIX}swagger-ui/{file.name}": file for file in _swagger_ui().iterdir()}

    @staticmethod
    def has(target: str) -> bool:
        """Whether a request is for the page, and not for the API."""
        path = urlsplit(target).path
        return path == "/" or path.startswith(PREFIX)

    def respond(self, method: str, target: str, body: bytes) -> Response:
        """The answer to a request of the page."""
        path = urlsplit(target).path
        if method in {"GET", "HEAD"} and path in self._files:
            file = self._files[path]
            media_type = mimetypes.guess_type(file.name)[0] or "application/yaml"
            return Response(200, file.read_bytes(), (("content-type", media_type),))
        document: object
        match method, path.removeprefix(PREFIX):
            case "GET", "executions":
                document = [one.to_dict(self._studio.url) for one in self._studio.executions.all()][::-1]
            case "POST", "executions":
                like = next(self._studio.executions.all())
                document = self._studio.seed(like.flow_sid, contact=like.contact).to_dict(self._studio.url)
            case "GET", "outcomes":
                with self._lock:
                    self._outcomes.extendleft(self._ready.new_outcomes())
                    document = list(self._outcomes)
            case "GET", "sources":
                document = [self._source(name) for name in SECRET["sources"]]
            case "GET", "samples":
                document = {name: _sample(name) for name in SECRET["sources"]}
            case "POST", "signatures":
                document = signed(body)
            case _:
                return Response(404, b"")
        return Response(200, json.dumps(document).encode(), (("content-type", "application/json"),))

    def received(self, event: dict[str, Any], response: Response) -> None:
        """Show the event of a source, and how it was answered."""
        if source := event.get("pathParameters", {}).get("source"):
            self._last_of_source[source] = {
                "body": samples.body_of(event).decode(errors="replace"),
                "time": event["requestContext"]["timeEpoch"],
                "status": response.status,
                "answer": json.loads(response.body),
            }

    def consumed(self, outcome: Outcome) -> None:
        """Show what became of the queued commands in a batch, as the function's log lines tell it."""
        for line in outcome.logs:
            match json.loads(line):
                case {"message_id": str(message_id), "message": str(message), **told}:
                    became = told.get("code") or f"{told.get('ended', 0)} ended"
                    self._of_message[message_id] = f"{message}: {became}"

    def _source(self, name: str) -> dict[str, Any]:
        declared = SECRET["sources"][name]
        shown = {"name": name, "proof": declared.get("preset") or declared["verify"]["type"]}
        if last := self._last_of_source.get(name):
            answer = last["answer"]
            ids = answer.get("message_ids") or filter(None, [answer.get("message_id")])
            shown |= last | {"became": [self._of_message.get(one, "in the queue") for one in ids]}
        return shown


def _sample(name: str) -> dict[str, Any]:
    """The sample of a source as its sender would send it now."""
    event = renewed(samples.load(samples.EVENTS / f"source-{name}.json"))
    headers = {
        header: value for header, value in event["headers"].items() if not header.startswith(_TRANSPORT)
    }
    return {"path": event["rawPath"], "headers": headers, "body": samples.body_of(event).decode()}


def _swagger_ui() -> Path:
    package = importlib.util.find_spec("flask_swagger_ui")
    if package is None or package.origin is None:
        raise OSError("Swagger UI is not installed")
    return Path(package.origin).with_name("dist")
