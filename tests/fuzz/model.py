"""The right outcome of a command, by other means than the function's own: docs/calling.md as code."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
from conftest import ACCOUNT_SID
from rfc3339_validator import validate_rfc3339

from fuzz.inputs import CLIENT, FLOWS, NEAR, PHONE, STRANGER, UNKNOWN_FLOW
from local.studio import Execution

_SCHEMA_FILE = Path(__file__).parents[2] / "src" / "end_conversation" / "command.schema.json"
SCHEMA = json.loads(_SCHEMA_FILE.read_text())

REJECTED = {"invalid_request", "flow_not_allowed", "account_not_allowed"}
"""Codes of commands that are rejected before any request to Twilio."""


class Expected(NamedTuple):
    """The outcome of a command.

    Attributes:
        code: why it fails; None if it succeeds.
        sids: the Executions in its result.
        dry_run: whether none of them is ended.
        near: the near misses, if nothing was found; None if the model does not know.
    """

    code: str | None
    sids: frozenset[str] = frozenset()
    dry_run: bool = False
    near: frozenset[str] | None = frozenset()


INVALID = Expected("invalid_request")
Times = tuple[datetime | None, ...]


def expected(  # noqa: PLR0911 -- one for each outcome
    payload: Any, executions: Iterable[Execution], times: Times
) -> Expected:
    """The outcome of a payload.

    Args:
        payload: the decoded JSON.
        executions: all Executions in Twilio.
        times: those that the trigger has for it.
    """
    if not _is_valid(payload):
        return INVALID
    flow_sid, dry_run = payload["flow_sid"], bool(payload.get("dry_run"))
    if flow_sid not in {*FLOWS, UNKNOWN_FLOW}:
        return Expected("flow_not_allowed")
    if (payload.get("account_sid") or ACCOUNT_SID) != ACCOUNT_SID:
        return Expected("account_not_allowed")
    here = [one for one in executions if one.flow_sid == flow_sid]
    if sid := payload.get("execution_sid"):
        found = any(one.sid == sid for one in here)
        return Expected(None, frozenset([sid]), dry_run) if found else Expected("execution_not_found")
    if flow_sid == UNKNOWN_FLOW:
        return Expected("execution_not_found")
    now, contact = datetime.now(UTC), payload["contact"]
    contacts = {contact} if isinstance(contact, str) else set(contact)
    given = instant(payload.get("occurred_at"))
    # Earlier ones are no time: `sam local` gives seconds for milliseconds.
    until = min([now, *filter(None, [given]), *(time for time in times if time and time.year >= 2020)])
    active = [one for one in here if one.status == "active" and one.date_created <= now]
    wanted = [one for one in active if one.contact in contacts]
    if sids := frozenset(one.sid for one in wanted if one.date_created <= until):
        return Expected(None, sids, dry_run)
    near = {"later"} if wanted else set()
    if PHONE not in contacts and any(one.contact == PHONE for one in active):
        near |= {NEAR[each] for each in contacts & NEAR.keys()}
    is_known = contacts <= {*NEAR, CLIENT, PHONE, STRANGER}
    return Expected(None, sids, dry_run, frozenset(near) if is_known else None)


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
