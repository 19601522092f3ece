"""What has to come of a command, as docs/calling.md has it, by other means than the function's own."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import jsonschema
from rfc3339_validator import validate_rfc3339

from local.rie import SOURCE
from local.studio import ACCOUNT_SID, Execution

(_SCHEMA_PATH,) = SOURCE.rglob("command.schema.json")
SCHEMA = json.loads(_SCHEMA_PATH.read_text())

CODES: dict[int, set[str | None]] = {
    200: {None},
    202: {None},
    400: {"invalid_request"},
    401: {"invalid_signature"},
    403: {"flow_not_allowed", "account_not_allowed"},
    404: {"execution_not_found", "not_found"},
    405: {"method_not_allowed"},
    415: {"unsupported_media_type"},
}
"""The statuses of answers while nothing around the function fails, each with the codes that it may have."""

ERRORS = {
    "InvalidRequest": "invalid_request",
    "FlowNotAllowed": "flow_not_allowed",
    "AccountNotAllowed": "account_not_allowed",
    "ExecutionNotFound": "execution_not_found",
    "TwilioError": "twilio_error",
    "TwilioTimeout": "twilio_timeout",
    "TwilioThrottled": "twilio_throttled",
    "CredentialsRejected": "credentials_rejected",
    "CredentialsUnavailable": "credentials_unavailable",
}
"""The errors that the function may raise, by class, each with its code."""

AT_ONCE = {"invalid_request", "flow_not_allowed", "account_not_allowed"}
"""Why a command can never succeed, as far as is known before Twilio is asked."""

PERMANENT = AT_ONCE | {"execution_not_found"}
"""Why a command can never succeed."""


class Outcome(NamedTuple):
    """What comes of a command: a code if it fails, and the Executions that are over then."""

    code: str | None
    ended: frozenset[str] = frozenset()


class Model:
    """Knows what there is in Twilio.

    Args:
        allowed: the Flows that the function may work on.
        flows: those that Twilio knows.
        executions: all that there are, active when the command comes.
    """

    def __init__(self, allowed: Iterable[str], flows: Iterable[str], executions: Iterable[Execution]) -> None:
        self._allowed = set(allowed)
        self._flows = set(flows)
        self._executions = list(executions)

    def outcome(self, payload: Any, latest: datetime | None) -> Outcome:
        """What has to come of a command that a trigger of this time brings."""
        if not is_valid(payload):
            return Outcome("invalid_request")
        flow_sid, sid, contact = (payload.get(name) for name in ("flow_sid", "execution_sid", "contact"))
        if flow_sid not in self._allowed:
            return Outcome("flow_not_allowed")
        account_sid = payload.get("account_sid")
        if account_sid is not None and account_sid.lower() != ACCOUNT_SID.lower():
            return Outcome("account_not_allowed")
        here = [one for one in self._executions if one.flow_sid == flow_sid]
        if sid is not None:
            found = [one for one in here if one.sid == sid]
            return Outcome(None, frozenset([sid])) if found else Outcome("execution_not_found")
        if flow_sid not in self._flows:
            return Outcome("execution_not_found")
        given = payload.get("occurred_at")
        times = [datetime.now(UTC), latest, instant(given) if given is not None else None]
        until = min(time for time in times if time is not None)
        due = [one.sid for one in here if one.contact == contact and one.date_created <= until]
        return Outcome(None, frozenset(due))


def is_valid(payload: Any) -> bool:
    """Whether it is a command, by the published schema."""
    if not isinstance(payload, dict):
        return False
    present = {name: value for name, value in payload.items() if value is not None}
    texts = [present[name] for name in SCHEMA["properties"] if isinstance(present.get(name), str)]
    return _validator.is_valid(present) and is_unicode(*texts)


def is_unicode(*texts: str) -> bool:
    """Whether they can be written as UTF-8."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def instant(value: object) -> datetime | None:
    """The instant that an RFC 3339 date-time names, if it is one."""
    if not isinstance(value, str):
        return None
    text = value.upper()
    # The other implementation knows no leap seconds.
    leap = text[17:19] == "60"
    if leap:
        text = f"{text[:17]}59{text[19:]}"
    if not validate_rfc3339(text) or text.endswith("\n"):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC) + timedelta(seconds=leap)
    except (ValueError, OverflowError):
        return None


def from_milliseconds(value: object) -> datetime | None:
    """The instant that AWS gives in milliseconds since 1970, as a number or in digits; else None."""
    try:
        return datetime.fromtimestamp(int(str(value)) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def parsed(text: str | bytes) -> tuple[bool, Any]:
    """Whether it is JSON, and what it holds."""
    constants: list[str] = []
    try:
        text = text.decode() if isinstance(text, bytes) else text
        value = json.loads(text, parse_constant=constants.append)
    except (ValueError, RecursionError):
        return False, None
    return not constants, value


def by_sid(executions: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The SIDs in a result, each of whose Executions has what docs/calling.md says."""
    for one in executions:
        if one.keys() != {"sid", "status", "date_created", "date_updated"} or one["status"] != "ended":
            raise AssertionError("an Execution in a result lacks something")
    return frozenset(one["sid"] for one in executions)


def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or instant(value) is not None


def _made_validator() -> jsonschema.Draft202012Validator:
    checker = jsonschema.FormatChecker(formats=())
    checker.checks("date-time")(_is_date_time)
    # In Python's re, which jsonschema uses as it is, `$` also matches before a last newline.
    schema = json.loads(json.dumps(SCHEMA).replace('$"', '\\\\Z"'))
    return jsonschema.Draft202012Validator(schema, format_checker=checker)


_validator = _made_validator()
