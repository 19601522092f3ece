"""The command to end a conversation: JSON, validated once."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from end_conversation.errors import FieldError, InvalidRequest
from end_conversation.schema import compiled

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("command.schema.json").read_bytes())
"""JSON Schema of the command, the same for every trigger."""

FLOW_SID = re.compile(SCHEMA["properties"]["flow_sid"]["pattern"].strip("^$"))
EXECUTION_SID = re.compile(SCHEMA["properties"]["execution_sid"]["pattern"].strip("^$"))
"""SIDs, for `fullmatch`."""

_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d)((?:\.\d+)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d))", re.ASCII
)
_LEAP_SECOND = "60"
_OLDEST_TIME = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Command:
    """A valid command: it names either an Execution or a contact's addresses.

    Attributes:
        flow_sid: `FW` and 32 hexadecimal digits.
        execution_sid: `FN` and 32 hexadecimal digits; None if a contact is named.
        contacts: channel addresses, each once; never log them. Empty if an Execution is named.
        occurred_at: when the conversation ended, in UTC; with a contact, later Executions are not ended.
        account_sid: the Twilio account of the Flow; None: the default one.
        conversation_id: the caller's own id, for logs and outcome events.
        reason: for logs.
        dry_run: end nothing, and report what would end.
    """

    flow_sid: str
    execution_sid: str | None
    contacts: tuple[str, ...] = field(repr=False)
    occurred_at: datetime
    account_sid: str | None = None
    conversation_id: str | None = None
    reason: str | None = None
    dry_run: bool = False

    @classmethod
    def parse(cls, payload: object, sent_at: datetime | None = None) -> Command:
        """Check a decoded payload against the schema.

        Args:
            payload: the decoded JSON.
            sent_at: the earliest of the trigger's own times, if it has any; `occurred_at` is never later.

        Raises:
            InvalidRequest: names each invalid field, never its value.
        """
        given = _check(payload)
        if (given["execution_sid"] is None) == (given["contact"] is None):
            error = FieldError("execution_sid", "or contact must be given, and not both")
            raise InvalidRequest.of_fields(error)
        now = datetime.now(UTC)
        latest = earliest(sent_at, now) or now
        occurred_at, contact = given.pop("occurred_at"), given.pop("contact")
        contacts = [contact] if isinstance(contact, str) else contact or ()
        given |= {
            "contacts": tuple(dict.fromkeys(contacts)),
            "occurred_at": min(parse_date_time(occurred_at), latest) if occurred_at else latest,
            "dry_run": bool(given["dry_run"]),
        }
        return cls(**given)

    def log_fields(self) -> dict[str, Any]:
        """Its fields in log lines: never a contact."""
        return {
            "flow_sid": self.flow_sid,
            "execution_sid": self.execution_sid,
            "account_sid": self.account_sid,
            "conversation_id": self.conversation_id,
            "reason": self.reason,
            "dry_run": self.dry_run or None,
        }

    def to_json(self) -> dict[str, Any]:
        """The command as JSON, with `occurred_at` resolved."""
        given = self.log_fields() | {
            "contact": self.contacts[0] if len(self.contacts) == 1 else list(self.contacts) or None,
            "occurred_at": format_date_time(self.occurred_at),
        }
        return {name: value for name, value in given.items() if value is not None}


def parse_json(text: str | bytes) -> object:
    """Decode JSON; bytes are UTF-8.

    Raises:
        InvalidRequest: the message never quotes the text.
    """
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not UTF-8") from None
    except ValueError:
        raise InvalidRequest("the body is not JSON") from None


def parse_date_time(value: object) -> datetime:
    """Parse an RFC 3339 date-time; a leap second becomes the second after it.

    Raises:
        ValueError: it is not one, or is outside Python's range of years.
    """
    match = _DATE_TIME.fullmatch(value.upper()) if isinstance(value, str) else None
    if not match:
        raise ValueError("not an RFC 3339 date-time")
    to_the_minute, second, rest = match.groups()
    leap = second == _LEAP_SECOND
    instant = datetime.fromisoformat(f"{to_the_minute}{'59' if leap else second}{rest}")
    try:
        return instant.astimezone(UTC) + timedelta(seconds=leap)
    except OverflowError:
        raise ValueError("outside the calendar") from None


def format_date_time(instant: datetime) -> str:
    """A UTC time as an RFC 3339 date-time."""
    return instant.isoformat().replace("+00:00", "Z")


def earliest(*times: datetime | None) -> datetime | None:
    """The earliest of a trigger's own times, None if there is none.

    A time before 2020 is ignored: `sam local` has seconds where API Gateway has milliseconds
    (https://github.com/aws/aws-sam-cli/issues/9279), and default payloads have 1970.
    """
    return min((time for time in times if time is not None and time >= _OLDEST_TIME), default=None)


def from_milliseconds(value: object) -> datetime | None:
    """The time that AWS gives in milliseconds since 1970, as a number or digits; None for anything else."""
    if not isinstance(value, (int, str)):
        return None
    try:
        return datetime.fromtimestamp(int(value) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _is_date_time(value: str) -> bool:
    try:
        parse_date_time(value)
    except ValueError:
        return False
    return True


def _refuse_constant(_name: str) -> NoReturn:
    """NaN and Infinity are not JSON."""
    raise ValueError


# Without oneOf, which `parse` checks itself: its failing branch costs more than all other rules.
_check = compiled({key: rule for key, rule in SCHEMA.items() if key != "oneOf"}, {"date-time": _is_date_time})
