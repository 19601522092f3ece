"""The right outcome of a command, by other means than the function's own: docs/calling.md as code."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
from conftest import ACCOUNT_SID
from rfc3339_validator import validate_rfc3339

from fuzz.inputs import FLOWS, UNKNOWN_FLOW
from local.studio import Execution

_SCHEMA_FILE = Path(__file__).parents[2] / "src" / "end_conversation" / "command.schema.json"
SCHEMA = json.loads(_SCHEMA_FILE.read_text())

REJECTED = {"invalid_request", "flow_not_allowed", "account_not_allowed"}
"""Codes of commands that are rejected before any request to Twilio."""


class Expected(NamedTuple):
    """What a command comes to: the code of its failure, or the Executions that it ends."""

    code: str | None
    sids: frozenset[str] = frozenset()


INVALID = Expected("invalid_request")
Times = tuple[datetime | None, ...]


def expected(payload: Any, executions: Iterable[Execution], *trigger_times: datetime | None) -> Expected:
    """The outcome of a payload.

    Args:
        payload: the decoded JSON.
        executions: all Executions in Twilio.
        trigger_times: the times that the trigger has for it.
    """
    if not _is_valid(payload):
        return INVALID
    if payload["flow_sid"] not in {*FLOWS, UNKNOWN_FLOW}:
        return Expected("flow_not_allowed")
    if (payload.get("account_sid") or ACCOUNT_SID).upper() != ACCOUNT_SID:
        return Expected("account_not_allowed")
    here = [one for one in executions if one.flow_sid == payload["flow_sid"]]
    if sid := payload.get("execution_sid"):
        found = any(one.sid == sid for one in here)
        return Expected(None, frozenset([sid])) if found else Expected("execution_not_found")
    if payload["flow_sid"] == UNKNOWN_FLOW:
        return Expected("execution_not_found")
    times = [instant(payload.get("occurred_at")), datetime.now(UTC), *trigger_times]
    until = min(time for time in times if time is not None)
    active = [one for one in here if one.status == "active" and one.contact == payload["contact"]]
    return Expected(None, frozenset(one.sid for one in active if one.date_created <= until))


def instant(value: object) -> datetime | None:
    """The instant of an RFC 3339 date-time; None for anything else."""
    if not isinstance(value, str) or value.endswith("\n"):
        return None
    # The validator knows no leap seconds.
    leap = value[17:19] == "60"
    text = f"{value[:17]}59{value[19:]}" if leap else value
    try:
        if validate_rfc3339(text.upper()):
            return datetime.fromisoformat(text.upper()).astimezone(UTC) + timedelta(seconds=leap)
    except (ValueError, OverflowError):
        pass
    return None


def from_milliseconds(value: object) -> datetime | None:
    """The instant that AWS gives in milliseconds since 1970, as a number or in digits; else None."""
    try:
        return datetime.fromtimestamp(int(str(value)) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def decoded(text: bytes) -> Any:
    """What a JSON text holds; INVALID, which is no command, if it is not one."""
    constants: list[str] = []
    try:
        value = json.loads(text.decode(), parse_constant=constants.append)
    except (ValueError, RecursionError):
        return INVALID
    return INVALID if constants else value


def _is_valid(payload: Any) -> bool:
    """Whether the published schema accepts it; null counts as absent, and lone surrogates are no text."""
    if not isinstance(payload, dict):
        return False
    present = {name: payload[name] for name in SCHEMA["properties"] if payload.get(name) is not None}
    try:
        json.dumps(present, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return _validator.is_valid(present)


_formats = jsonschema.FormatChecker(formats=())
_formats.checks("date-time")(lambda value: not isinstance(value, str) or instant(value) is not None)
# In Python's re, which jsonschema uses as it is, `$` also matches before a last newline.
_validator = jsonschema.Draft202012Validator(
    json.loads(json.dumps(SCHEMA).replace('$"', '\\\\Z"')), format_checker=_formats
)
