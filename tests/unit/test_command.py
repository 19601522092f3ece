"""What a valid command is, and what the error says about an invalid one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import FLOW_SID

from end_conversation.command import SCHEMA, Command, parse_date_time, parse_json
from end_conversation.errors import InvalidRequest

EXECUTION_SID = "FN" + "a" * 32
CONTACT = "+15005550006"
SENT_AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
VALID: dict[str, Any] = {"flow_sid": FLOW_SID, "execution_sid": EXECUTION_SID}


def errors_of(payload: object) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refusal:
        Command.parse(payload)
    return dict(refusal.value.errors)


def test_a_command_holds_what_was_given() -> None:
    """Every optional field arrives, the date-time in UTC."""
    given = VALID | {
        "occurred_at": "2026-03-02T10:00:00+02:00",
        "account_sid": "AC" + "5" * 32,
        "conversation_id": "c-1",
        "reason": "resolved",
    }
    assert Command.parse(given) == Command(
        flow_sid=FLOW_SID,
        execution_sid=EXECUTION_SID,
        contacts=(),
        occurred_at=datetime(2026, 3, 2, 8, tzinfo=UTC),
        account_sid="AC" + "5" * 32,
        conversation_id="c-1",
        reason="resolved",
    )


@pytest.mark.parametrize(
    "given",
    [
        VALID | {"conversation_id": "c-1", "dry_run": True},
        {"flow_sid": FLOW_SID, "contact": CONTACT},
        {"flow_sid": FLOW_SID, "contact": [CONTACT, "whatsapp:" + CONTACT, CONTACT]},
    ],
)
def test_a_command_is_the_same_after_a_way_through_json(given: dict[str, Any]) -> None:
    """A queued command keeps its meaning; each address counts once."""
    command = Command.parse(given, SENT_AT)
    assert len(command.contacts) == len(set(command.contacts))
    assert Command.parse(command.to_json()) == command


def test_null_counts_as_absent_and_unknown_fields_are_ignored() -> None:
    """Serializers write null for what they lack, and callers may send more than we know."""
    nulls = dict.fromkeys(set(SCHEMA["properties"]) - set(VALID))
    assert Command.parse(VALID | nulls | {"ticket": {"id": 1}}, SENT_AT) == Command.parse(VALID, SENT_AT)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flow_sid", " " + FLOW_SID),
        ("flow_sid", FLOW_SID + "\n"),
        ("flow_sid", "FW" + "\u0661" * 32),
        ("flow_sid", "FW/../../" + "a" * 25),
        ("execution_sid", "FW" + "a" * 32),
        ("execution_sid", EXECUTION_SID + "\n"),
        ("execution_sid", ["x"]),
        *(
            ("occurred_at", wrong)
            for wrong in (
                "2026-11-23T18:00:00",
                "2026-13-23T18:00:00Z",
                "2026-11-23T18:00:00+24:00",
                "0001-01-01T00:00:00+00:01",
                "9999-12-31T23:59:60Z",
                "\u0662026-11-23T18:00:00Z",
                1763920800,
            )
        ),
        ("conversation_id", "c" * 129),
        ("conversation_id", {}),
        ("reason", "r" * 257),
        ("dry_run", 1),
        *(("contact", wrong) for wrong in ("", "+" * 257, [], [""], [CONTACT] * 11, [CONTACT, 7], {})),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    """The error names the field that is wrong, and only that."""
    valid = {"flow_sid": FLOW_SID} if field == "contact" else VALID
    assert {name.partition(".")[0] for name in errors_of(valid | {field: value})} == {field}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("flow_sid", None, "is required"),
        ("flow_sid", 1, "must be a string"),
        ("flow_sid", FLOW_SID[:-1], "must match pattern ^FW[0-9a-fA-F]{32}$"),
        ("execution_sid", 1, "must be a string"),
        ("contact", 1, "must be a string or an array"),
        ("dry_run", "true", "must be a boolean"),
        ("occurred_at", "2026-11-23", "must be an RFC 3339 date-time with a time zone"),
        ("conversation_id", "", "must be longer than or equal to 1 characters"),
        ("reason", "half a pair \ud83d", "is not Unicode"),
        ("contact", [CONTACT, "\ud83d"], "is not Unicode"),
    ],
)
def test_the_error_says_what_is_wrong_with_a_field(field: str, value: object, message: str) -> None:
    """A caller can repair the command without reading the schema."""
    valid = {"flow_sid": FLOW_SID} if field == "contact" else VALID
    assert errors_of(valid | {field: value}) == {field: message}


def test_every_wrong_field_is_named_at_once() -> None:
    """Also where there is only a text, in a log or from Lambda."""
    with pytest.raises(InvalidRequest) as refusal:
        Command.parse({"flow_sid": None, "reason": 1, "contact": [7]})
    assert str(refusal.value) == "flow_sid is required; contact.0 must be a string; reason must be a string"
    assert [error.field for error in refusal.value.errors] == ["flow_sid", "contact.0", "reason"]


def test_exactly_one_of_execution_and_contact() -> None:
    """Neither and both are refused, and the message says which two are meant."""
    for payload in ({"flow_sid": FLOW_SID}, VALID | {"contact": CONTACT}):
        with pytest.raises(InvalidRequest, match=r"^execution_sid or contact must be given, and not both$"):
            Command.parse(payload)


def test_a_contact_does_not_print() -> None:
    """Logging a command logs no address."""
    assert CONTACT not in repr(Command.parse({"flow_sid": FLOW_SID, "contact": [CONTACT]}))


@pytest.mark.parametrize(
    ("occurred_at", "taken"),
    [
        (None, SENT_AT),
        ("2026-03-02T08:59:59Z", SENT_AT - timedelta(seconds=1)),
        ("2026-03-02T09:00:01Z", SENT_AT),
        ("9999-12-31T23:59:59Z", SENT_AT),
    ],
)
def test_nothing_occurred_after_the_trigger(occurred_at: str | None, taken: datetime) -> None:
    """The trigger's own time is the default of `occurred_at`, and its upper bound."""
    assert Command.parse(VALID | {"occurred_at": occurred_at}, SENT_AT).occurred_at == taken


@pytest.mark.parametrize(
    "sent_at",
    [
        None,
        datetime.max.replace(tzinfo=UTC),
        datetime(2019, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime.fromtimestamp(1_772_444_469, UTC) - timedelta(days=20000),
    ],
)
def test_nothing_occurred_after_now(sent_at: datetime | None) -> None:
    """Without a trigger's time, or with an impossible one, it is now."""
    before = datetime.now(UTC)
    assert before <= Command.parse(VALID, sent_at).occurred_at <= datetime.now(UTC)


@pytest.mark.parametrize("secret", ["do-not-repeat-me", "do-not-repeat-me" * 99])
@pytest.mark.parametrize("wrap", [str, lambda text: [text], lambda text: {text: text}])
def test_errors_never_repeat_a_value(secret: str, wrap: Any) -> None:
    """What was sent stays out of the error's text."""
    with pytest.raises(InvalidRequest) as refusal:
        Command.parse(dict.fromkeys(SCHEMA["properties"], wrap(secret)) | {"flow_sid": secret})
    assert "do-not-repeat-me" not in str(refusal.value) + repr(refusal.value.errors)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[Infinity]", "not JSON"),
        ("\ufeff{}", "not JSON"),
        ("1" * 5000, "not JSON"),
        ("[" * 200_000 + "]" * 200_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_refused(text: str | bytes, complaint: str) -> None:
    """Also what Python's parser accepts, or fails on; test_http_api has other examples."""
    with pytest.raises(InvalidRequest, match=rf"^the body is {complaint}$"):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        # It is in the calendar where the zone says so: an hour before, in UTC.
        ("9999-12-31T23:59:60+01:00", datetime(9999, 12, 31, 23, tzinfo=UTC)),
        ("2026-03-02T10:00:00+02:00", datetime(2026, 3, 2, 8, tzinfo=UTC)),
        ("2026-03-02t08:00:00.5z", datetime(2026, 3, 2, 8, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_an_instant_is_in_utc(text: str, instant: datetime) -> None:
    """Whatever zone it was given in; RFC 3339 allows :60, which Python does not count."""
    parsed = parse_date_time(text)
    assert (parsed, parsed.tzinfo) == (instant, UTC)
