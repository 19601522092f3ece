"""The commands that an event carries, whatever its trigger, and the Executions that they are about."""

import base64
import binascii
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from local.executions import Execution, NotFoundError, is_sid, new_sid
from local.studio import Studio

EVENTS = Path(__file__).parent.parent / "events"


@dataclass(frozen=True)
class Command:
    """What one command is about, as far as it can be told."""

    flow_sid: str
    execution_sid: str | None
    contact: str | None
    occurred_at: datetime | None


def load(path: Path) -> Any:  # noqa: ANN401 -- an event is any JSON
    """A sample event."""
    return json.loads(path.read_text(encoding="utf-8"))


def commands(event: object) -> Iterator[Command]:
    """Every command in it that names an Execution or a contact, also if the event is to be refused."""
    match event:
        case {"flow_sid": str(flow_sid), **fields} if is_sid("FW", flow_sid):
            sid, contact = fields.get("execution_sid"), fields.get("contact")
            sid = sid if isinstance(sid, str) and is_sid("FN", sid) else None
            contact = contact if isinstance(contact, str) else None
            if sid or contact:
                yield Command(flow_sid, sid, contact, _instant(fields.get("occurred_at")))
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


def seed(studio: Studio, event: object) -> list[Execution]:
    """The Executions that the event is about: active, and an hour old when it occurred."""
    executions = []
    for command in commands(event):
        sid = command.execution_sid or new_sid("FN", f"{command.flow_sid} {command.contact}")
        try:
            execution = studio.executions.get(command.flow_sid, sid)
        except NotFoundError:
            execution = studio.seed(
                command.flow_sid,
                sid,
                contact=command.contact or "+15005550006",
                date_created=(command.occurred_at or datetime.now(UTC)) - timedelta(hours=1),
            )
        if execution not in executions:
            executions.append(execution)
    return executions


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
