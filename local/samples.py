"""The sample events: their commands, and the Executions that these name."""

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from local.studio import ACCOUNT_SID, Execution, NotFoundError, Studio, is_sid, new_sid

EVENTS = Path(__file__).parent.parent / "events"

FLOW_OF_SOURCES = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
"""The Flow that every source in `webhook-secret.json` is for."""

_SWEEP_FIELDS = {"account_sid", "flow_sids", "older_than_minutes", "limit", "dry_run"}


@dataclass(frozen=True)
class Command:
    """What one command is about."""

    flow_sid: str
    execution_sid: str | None
    contact: str | None
    occurred_at: datetime | None
    account_sid: str = ACCOUNT_SID
    dry_run: bool = False


class Seeded(NamedTuple):
    """The Executions that an event is about, all of them active."""

    to_end: list[Execution]
    to_stay: list[Execution]
    """Those that must stay active."""


def load(path: Path) -> Any:  # noqa: ANN401 -- an event is any JSON
    """A sample event."""
    return json.loads(path.read_text(encoding="utf-8"))


def commands(event: object) -> Iterator[Command]:
    """Every command in an event of any trigger, even if the function will reject it."""
    match event:
        case {"flow_sid": str(flow_sid), **fields} if is_sid("FW", flow_sid):
            yield from _of_command(flow_sid, fields)
        case {"pathParameters": {"source": str(source)}, "body": str(_)}:
            yield from _of_source(source, event)
        case {"isBase64Encoded": True, "body": str(body)}:
            with contextlib.suppress(binascii.Error):
                yield from _read(base64.b64decode(body))
        case dict():
            for value in event.values():
                yield from commands(value)
        case list():
            for value in event:
                yield from commands(value)
        case str():
            yield from _read(event)


def _of_command(flow_sid: str, fields: dict[Any, Any]) -> Iterator[Command]:
    """One for each address of a contact."""
    sid, contact = fields.get("execution_sid"), fields.get("contact")
    sid = sid if isinstance(sid, str) and is_sid("FN", sid) else None
    given = _instant(fields.get("occurred_at")), _account(fields), fields.get("dry_run") is True
    for one in contact if isinstance(contact, list) else [contact]:
        address = one if isinstance(one, str) else None
        if sid or address:
            yield Command(flow_sid, sid, address, *given)


def _of_source(source: str, event: Any) -> Iterator[Command]:  # noqa: ANN401 -- an event is any JSON
    """What the webhook of a sample source is about, found without its declaration."""
    found: list[tuple[str | None, str | None]] = []
    match source, _payload(event):
        case "zendesk" | "salesforce" | "freshdesk", {"phone": str(phone)}:
            found = [(None, re.sub(r"[^+\d]", "", phone))]
        case "intercom", {"data": {"item": {"custom_attributes": {"whatsapp": str(number)}}}}:
            found = [(None, f"whatsapp:{number}")]
        case "twilio-taskrouter" | "twilio-conversations" | "twilio-event-streams", payload:
            found = [(sid, None) for sid in _of_twilio(payload)]
        case "front", {"payload": {"conversation": {"recipient": {"handle": str(handle)}}}}:
            found = [(None, handle)]
        case "ticketing", {"tickets": [*tickets]}:
            for ticket in tickets:
                match ticket:
                    case {"state": "closed", "caller": str(caller)}:
                        found.append((None, caller))
        case "agent-desktop", {"conversation": {"execution_sid": str(sid)}}:
            found = [(sid, None)]
    for execution_sid, contact in found:
        received_at = datetime.fromtimestamp(event["requestContext"]["timeEpoch"] / 1000, UTC)
        yield Command(FLOW_OF_SOURCES, execution_sid, contact, received_at)


def _of_twilio(payload: Any) -> Iterator[str]:  # noqa: ANN401 -- a body
    """The Executions in the attributes of tasks and conversations that are over."""
    for event in payload if isinstance(payload, list) else [payload]:
        match event:
            case {"data": {"name": "task.completed" | "task.canceled", "payload": {"task_attributes": text}}}:
                attributes = json.loads(text)
            case {"TaskAttributes": text} | {"StateTo": "closed", "Attributes": text}:
                attributes = json.loads(text)
            case _:
                attributes = {}
        if sid := attributes.get("studio_execution_sid"):
            yield sid


def _account(fields: Any) -> str:  # noqa: ANN401 -- a part of an event
    account_sid = fields.get("account_sid")
    return account_sid if isinstance(account_sid, str) and is_sid("AC", account_sid) else ACCOUNT_SID


def body_of(event: Any) -> bytes:  # noqa: ANN401 -- an event is any JSON
    """The body of an HTTP request, as it was sent."""
    body: str = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()


def _payload(event: Any) -> object:  # noqa: ANN401 -- an event is any JSON
    """The body, which is JSON or a form."""
    body = body_of(event)
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(body)
    return dict(parse_qsl(body.decode(errors="replace")))


def is_sweep(event: object) -> bool:
    """Whether the event is for the function that sweeps."""
    return isinstance(event, dict) and event.keys() <= _SWEEP_FIELDS


def seed(studio: Studio, event: object) -> Seeded:
    """Create the Executions that the event is about, unless they exist: one for each contact.

    Beside that of a contact there is another contact's, which has to stay.
    """
    seeded = Seeded([], [])
    if is_sweep(event):
        _seed_stuck(studio, event, seeded)
    for command in commands(event):
        flow_sid = command.flow_sid
        studio.executions.add_flow(flow_sid, command.account_sid)
        began_at = (command.occurred_at or datetime.now(UTC)) - timedelta(hours=1)
        to_end = seeded.to_stay if command.dry_run else seeded.to_end
        if command.execution_sid:
            contact = number_of(command.execution_sid)
            _seed(studio, to_end, flow_sid, command.execution_sid, contact, began_at)
        elif command.contact:
            name = f"{flow_sid} {command.contact}"
            _seed(studio, to_end, flow_sid, new_sid("FN", name), command.contact, began_at)
            other = new_sid("FN", f"{name} somebody else")
            _seed(studio, seeded.to_stay, flow_sid, other, number_of(other), began_at)
    return seeded


def seed_all(studio: Studio) -> None:
    """Create the Executions of every sample event."""
    for path in sorted(EVENTS.glob("*.json")):
        seed(studio, load(path))


def number_of(sid: str) -> str:
    """A telephone number for an Execution without a contact in its sample; 555-01xx are fictional numbers."""
    digits = int(sid[-8:], 16)
    return f"+1{200 + digits % 800}55501{digits // 800 % 100:02}"


def _seed_stuck(studio: Studio, event: Any, seeded: Seeded) -> None:  # noqa: ANN401 -- an event is any JSON
    """In each Flow three Executions that are stuck, and one that is not."""
    stuck_since = timedelta(minutes=event.get("older_than_minutes") or 1440)
    for flow_sid in event.get("flow_sids") or ():
        studio.executions.add_flow(flow_sid, _account(event))
        to_end = seeded.to_stay if event.get("dry_run") else seeded.to_end
        for number, age in enumerate((timedelta(days=20), timedelta(days=3), timedelta(hours=1))):
            sid = new_sid("FN", f"{flow_sid} stuck {number}")
            _seed(studio, to_end, flow_sid, sid, number_of(sid), datetime.now(UTC) - stuck_since - age)
        sid = new_sid("FN", f"{flow_sid} young")
        young = datetime.now(UTC) - stuck_since + timedelta(hours=1)
        _seed(studio, seeded.to_stay, flow_sid, sid, number_of(sid), young)


def _seed(  # noqa: PLR0913, PLR0917 -- what an Execution has, and where it goes
    studio: Studio, seeded: list[Execution], flow_sid: str, sid: str, contact: str, date_created: datetime
) -> None:
    try:
        execution = studio.executions.get(flow_sid, sid)
    except NotFoundError:
        execution = studio.seed(flow_sid, sid, contact=contact, date_created=date_created)
    if execution not in seeded:
        seeded.append(execution)


def _read(text: str | bytes) -> Iterator[Command]:
    # RecursionError: a sample may nest too deep on purpose.
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(document := json.loads(text), dict):
            yield from commands(document)


def _instant(value: object) -> datetime | None:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            instant = datetime.fromisoformat(value)
            return instant if instant.tzinfo else None
    return None
