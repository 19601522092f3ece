"""The page of ``make serve``: free a customer, and see the request, the outcome, and the API.

All of it comes from this machine: Swagger UI from its package, the API's description from ``docs/``.
"""

import base64
import importlib.util
import json
import mimetypes
import random
import re
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks.sources import parse_webhook_secret
from local import samples, source
from local.gateway import Response
from local.rie import Outcome
from local.signing import signed
from local.stand_ins import StandIns
from local.studio import ACCOUNT_SID, Execution, new_sid

PREFIX = "/_local/"
SENDERS = f"{PREFIX}webhooks/"
"""Below it, a body gets its source's proof, and goes to the API as its sender would send it."""

_ROOT = Path(__file__).parent.parent
# Below the prefix as they are in the repository, so that their links to each other work.
_DOCUMENTS = (
    "docs/openapi.yaml",
    "src/end_conversation/command.schema.json",
    *(str(file.relative_to(_ROOT)) for file in sorted(_ROOT.glob("docs/**/*.md"))),
)
_TYPES = {".yaml": "application/yaml", ".md": "text/plain; charset=utf-8"}
_MAX_OUTCOMES = 20

_STUCK = (
    ("zendesk", timedelta(days=3, hours=2)),
    ("intercom", timedelta(hours=26)),
    ("salesforce", timedelta(days=12)),
    ("agent-desktop", timedelta(days=21)),
    ("ticketing", timedelta(hours=5)),
    ("twilio-taskrouter", timedelta(minutes=40)),
)
"""Sources whose samples have stuck customers, and since when they are stuck."""

_FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "throttled": ("Twilio throttles (429)", {"status": 429, "headers": {"Retry-After": "1"}}),
    "down": ("Twilio is down (503)", {"status": 503}),
    "slow": ("Twilio takes 3 seconds", {"delay": 3}),
    "flaky": ("Twilio loses half of its responses", {"broken": "reset", "carried_out": True, "share": 0.5}),
    "rejected": ("Twilio rejects the credentials (401)", {"status": 401}),
}
"""Faults to switch on: label, and what `Studio.fail` takes."""


class Page:
    """The page, and what its script asks for. Thread-safe.

    Args:
        ready: The stand-ins.
    """

    def __init__(self, ready: StandIns) -> None:
        self._ready = ready
        self._studio = ready.studio
        self._secret = parse_webhook_secret(json.dumps(ready.webhook_secret))
        self._lock = threading.Lock()
        self._outcomes: deque[dict[str, Any]] = deque(maxlen=_MAX_OUTCOMES)
        self._last: dict[str, Any] | None = None
        self._last_source: str | None = None
        self._last_of_source: dict[str, dict[str, Any]] = {}
        self._of_message: dict[str, str] = {}
        self._faults: set[str] = set()
        self._first_request = 0
        self._customers: list[Execution] = []
        for name, age in _STUCK:
            self._seed_sample(name, age)
        self._files = {"/": Path(__file__).with_name("page.html")}
        self._files |= {PREFIX + name: _ROOT / name for name in _DOCUMENTS}
        self._files |= {f"{PREFIX}swagger-ui/{file.name}": file for file in _swagger_ui().iterdir()}

    @staticmethod
    def has(target: str) -> bool:
        """Whether a request is for the page, and not for the API."""
        path = urlsplit(target).path
        return path == "/" or (path.startswith(PREFIX) and not path.startswith(SENDERS))

    def respond(self, method: str, target: str, body: bytes) -> Response:
        """The answer to a request of the page."""
        path = urlsplit(target).path
        if method in {"GET", "HEAD"} and path in self._files:
            file = self._files[path]
            media_type = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "text/plain"
            return Response(200, file.read_bytes(), (("content-type", media_type),))
        document: object = {}
        match method, path.removeprefix(PREFIX).split("/"):
            case "GET", ["state"]:
                document = self._state()
            case "POST", ["customers"]:
                number = f"+1{random.randint(200, 999)}55501{random.randint(0, 99):02}"  # noqa: S311 -- a sample
                self._customers.append(self._studio.seed(samples.FLOW_OF_SOURCES, contact=number))
            case "POST", ["samples", name] if name in self._ready.webhook_secret["sources"]:
                self._seed_sample(name, timedelta())
                document = _sample(name)
            case "POST", ["signatures"]:
                document = signed(body, key=self._ready.webhook_secret["keys"][0])
            case "PUT" | "DELETE", ["faults", name] if name in _FAULTS:
                self._switch(name, on=method == "PUT")
            case _:
                return Response(404, b"")
        return Response(200, json.dumps(document).encode(), (("content-type", "application/json"),))

    def prove(self, event: dict[str, Any]) -> None:
        """Add the proof of the event's source to its headers, as the sender would."""
        request = to_http_request(event)
        if declared := self._secret.sources.get(request.source or ""):
            proof, key = declared.proof, self._ready.webhook_secret["sources"][declared.name]["keys"][0]
            if proof.type == "token":
                event["headers"][proof.header] = f"{proof.prefix}{key}"
            elif proof.type == "basic":
                event["headers"]["authorization"] = f"Basic {base64.b64encode(key.encode()).decode()}"
            else:
                if proof.type == "twilio" and not request.is_form:
                    # Twilio signs no other body than a form: the URL has its hash.
                    event["rawQueryString"] = f"bodySHA256={sha256(request.body()).hexdigest()}"
                    request = to_http_request(event)
                lines = [line.partition(": ") for line in source.expected(declared, request, None)]
                event["headers"] |= {name: value for name, _, value in lines if value and " " not in name}

    def sending(self) -> None:
        """The function is about to be invoked."""
        self._first_request = len(self._studio.requests)

    def received(self, event: dict[str, Any], response: Response) -> None:
        """Show a request to the API, and its response."""
        body = samples.body_of(event).decode(errors="replace")
        self._last = {
            "request": f"{event['requestContext']['http']['method']} {event['rawPath']}",
            "headers": event["headers"],
            "body": body,
            "status": response.status,
            "response": response.body.decode(errors="replace"),
            "summary": summary(response.body),
        }
        self._last_source = event.get("pathParameters", {}).get("source")
        if name := self._last_source:
            self._last_of_source[name] = {
                "status": response.status,
                "answer": json.loads(response.body or b"{}"),
                "explained": list(source.explain(self._secret, event, None)),
            }

    def consumed(self, outcome: Outcome) -> None:
        """Show the results of a batch from the queue, from the function's log lines."""
        for line in outcome.logs:
            match json.loads(line):
                case {"message_id": str(message_id), "message": str(message), **fields}:
                    became = fields.get("code") or f"{fields.get('ended', 0)} ended"
                    self._of_message[message_id] = f"{message}: {became}"

    def _state(self) -> dict[str, Any]:
        with self._lock:
            self._outcomes.extendleft(self._ready.new_outcomes())
        requests = [request for request in self._studio.requests[self._first_request :] if request.user]
        return {
            "account_sid": ACCOUNT_SID,
            "customers": [
                one.to_dict("") | {"age": _age(one.date_created)}
                for one in sorted(self._customers, key=lambda one: one.date_created)
            ],
            "last": self._last,
            "requests": [[one.method, one.path, one.status or "no response"] for one in requests[-10:]],
            "outcomes": list(self._outcomes),
            "sources": [self._source(name) for name in self._ready.webhook_secret["sources"]],
            "faults": [[name, label, name in self._faults] for name, (label, _) in _FAULTS.items()],
        }

    def _source(self, name: str) -> dict[str, Any]:
        last = self._last_of_source.get(name, {})
        answer = last.get("answer", {})
        ids = answer.get("message_ids") or filter(None, [answer.get("message_id")])
        declared = self._secret.sources.get(name)
        return last | {
            "name": name,
            "is_last": name == self._last_source,
            "proof": declared.proof.type if declared else f"invalid: {self._secret.invalid.get(name)}",
            "has_sample": _path(name).exists(),
            "became": [self._of_message.get(one, "in the queue") for one in ids],
        }

    def _seed_sample(self, name: str, age: timedelta) -> None:
        """Add the stuck customers of a source's sample, unless they are there."""
        if name not in self._ready.webhook_secret["sources"] or not _path(name).exists():
            return
        for command in samples.commands(samples.load(_path(name))):
            sid, executions = command.execution_sid, self._studio.executions
            contact = command.contact or samples.number_of(sid or "")
            mine = [one for one in self._customers if sid == one.sid or (not sid and contact == one.contact)]
            if not mine or (mine[-1].status == "ended" and not sid):
                if not mine and not sid:
                    # The same Execution as that of the sample itself: one for each contact.
                    sid = new_sid("FN", f"{command.flow_sid} {contact}")
                began_at = datetime.now(UTC) - age
                self._customers.append(
                    executions.add(command.flow_sid, sid, contact=contact, date_created=began_at)
                )

    def _switch(self, name: str, *, on: bool) -> None:
        with self._lock:
            (self._faults.add if on else self._faults.discard)(name)
            self._studio.faults.clear()
            for each in self._faults:
                self._studio.fail(**_FAULTS[each][1], times=None)


def summary(body: bytes) -> str:
    """What a response of the API says, in a few words."""
    try:
        document: Any = json.loads(body)
    except ValueError:
        return ""
    match document:
        case {"executions": [], "near": [*near]}:
            return f"nothing to end; near: {', '.join(map(str, near))}"
        case {"executions": []}:
            return "nothing to end"
        case {"executions": [*executions]}:
            return ", ".join(f"{one.get('sid')} {one.get('status')}" for one in executions)
        case {"code": text} | {"status": text} | {"message": text}:
            return str(text)
    return ""


def _sample(name: str) -> dict[str, str]:
    """The sample of a source as its sender would send it now."""
    event, now = samples.load(_path(name)), time.time()
    body = re.sub(
        r"2026-03-02T09:41:\d\d(\.\d+)?Z",
        datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        samples.body_of(event).decode(),
    )
    body = re.sub(r"\b1772\d{6}(\d{3})?\b", lambda it: str(int(now * (1000 if it[1] else 1))), body)
    return {"content-type": event["headers"].get("content-type", "application/json"), "body": body}


def _path(name: str) -> Path:
    return samples.EVENTS / f"source-{name}.json"


def _age(since: datetime) -> str:
    minutes = int((datetime.now(UTC) - since).total_seconds() // 60)
    for unit, length in (("day", 1440), ("hour", 60), ("minute", 1)):
        if minutes >= length:
            number = minutes // length
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return "a moment"


def _swagger_ui() -> Path:
    package = importlib.util.find_spec("flask_swagger_ui")
    if package is None or package.origin is None:
        raise OSError("Swagger UI is not installed: run make clean, then make serve")
    return Path(package.origin).with_name("dist")
