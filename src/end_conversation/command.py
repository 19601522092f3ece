"""The command to end a conversation: from JSON to a value that everything after can trust."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import fastjsonschema

from end_conversation.errors import FieldError, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("command.schema.json").read_bytes())
"""JSON Schema of the command, the same for every trigger."""

FLOW_SID = re.compile(SCHEMA["properties"]["flow_sid"]["pattern"].strip("^$"))
"""A Flow's SID, for `fullmatch`."""

_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d)((?:\.\d+)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d))", re.ASCII
)
_LEAP_SECOND = "60"


@dataclass(frozen=True, slots=True)
class Command:
    """A valid command.

    Attributes:
        flow_sid: `FW` and 32 hexadecimal digits.
        execution_sid: `FN` and 32 hexadecimal digits.
        occurred_at: when the conversation ended, with its zone.
        conversation_id: the caller's own id, for logs.
        reason: for logs.
    """

    flow_sid: str
    execution_sid: str
    occurred_at: datetime | None = None
    conversation_id: str | None = None
    reason: str | None = None

    @classmethod
    def parse(cls, payload: object) -> Command:
        """Check a decoded payload against the schema.

        Raises:
            InvalidRequest: names every field that is wrong, and never its value.
        """
        if not isinstance(payload, dict):
            raise InvalidRequest("the command is not a JSON object")
        given: dict[str, Any] = {name: payload.get(name) for name in SCHEMA["properties"]}
        try:
            _validate(given)
        except fastjsonschema.JsonSchemaValuesException as refusal:
            raise InvalidRequest.of_fields(*_field_errors(refusal)) from None
        if errors := [FieldError(name, "is not Unicode") for name in given if not _is_unicode(given[name])]:
            raise InvalidRequest.of_fields(*errors)
        if given["contact"] is not None:
            raise InvalidRequest.of_fields(FieldError("contact", "is not supported yet: give execution_sid"))
        return cls(
            flow_sid=given["flow_sid"],
            execution_sid=given["execution_sid"],
            occurred_at=given["occurred_at"] and parse_date_time(given["occurred_at"]),
            conversation_id=given["conversation_id"],
            reason=given["reason"],
        )


def parse_json(text: str | bytes) -> object:
    """The value that a JSON text holds; bytes are UTF-8.

    Raises:
        InvalidRequest: says what is wrong, and quotes nothing of it.
    """
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not UTF-8") from None
    except ValueError:
        raise InvalidRequest("the body is not JSON") from None


def parse_date_time(value: str) -> datetime:
    """The instant that an RFC 3339 date-time names; a leap second is the second after it.

    Raises:
        ValueError: it is none, or outside the years that Python counts.
    """
    match = _DATE_TIME.fullmatch(value.upper())
    if not match:
        raise ValueError("not an RFC 3339 date-time")
    to_the_minute, second, rest = match.groups()
    leap = second == _LEAP_SECOND
    instant = datetime.fromisoformat(f"{to_the_minute}{'59' if leap else second}{rest}")
    try:
        return (instant + timedelta(seconds=leap)).astimezone(UTC)
    except OverflowError:
        raise ValueError("outside the calendar") from None


def _is_date_time(value: str) -> bool:
    try:
        parse_date_time(value)
    except ValueError:
        return False
    return True


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _is_unicode(value: object) -> bool:
    """Whether a string can be written as UTF-8: JSON's escapes can spell half of a surrogate pair."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def _field_errors(refusal: fastjsonschema.JsonSchemaValuesException) -> Iterator[FieldError]:
    for error in refusal.errors:
        match error.rule:
            case "oneOf":
                yield FieldError("execution_sid", "or contact must be given, and not both")
            case "type":
                yield FieldError(error.path[-1], "is required" if error.value is None else "must be a string")
            case "format":
                yield FieldError(error.path[-1], "must be an RFC 3339 date-time with its zone")
            case _:
                yield FieldError(error.path[-1], error.message.removeprefix(f"{error.name} "))


_validate = fastjsonschema.compile(SCHEMA, formats={"date-time": _is_date_time}, fast_fail=False)
