"""The SQS trigger: which messages come again, and which never do."""

import threading
from typing import Any

import pytest
from conftest import FLOW_SID, Context, Function, Sqs, failed, in_sqs

from end_conversation.errors import InvalidRequest
from local.studio import Studio

POISON = "not json"


def commands(studio: Studio, number: int) -> list[dict[str, str]]:
    return [{"flow_sid": FLOW_SID, "execution_sid": studio.seed(FLOW_SID).sid} for _ in range(number)]


def is_ended(studio: Studio, command: dict[str, str]) -> bool:
    return studio.executions.get(FLOW_SID, command["execution_sid"]).status == "ended"


def logged(function: Function, message: str) -> dict[str, Any]:
    """The message's own keys of the one line with this text, which is in the invocation's name."""
    (line,) = [line for line in function.logs if line["message"] == message]
    assert line["function_request_id"] == Context(0).aws_request_id
    return {key: line[key] for key in ("message_id", "code", "detail") if key in line}


def test_only_the_failed_are_reported(function: Function, studio: Studio) -> None:
    """One message that fails does not take its neighbours along."""
    good = commands(studio, 4)
    bad = {"flow_sid": FLOW_SID, "execution_sid": "FN" + "9" * 32}
    assert failed(function(in_sqs(*good[:2], bad, POISON, *good[2:]))) == {"m2", "m3"}
    assert all(is_ended(studio, command) for command in good)


def test_a_wrong_setting_loses_nothing(function: Function, studio: Studio) -> None:
    """A function that cannot work keeps every message in the queue, also an invalid one."""
    function.setenv("TWILIO_SECRET_ID", "")
    assert failed(function(in_sqs(*commands(studio, 1), POISON))) == {"m0", "m1"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (POISON, "invalid_request"),
        ("[]", "invalid_request"),
        ("[" * 200_000, "invalid_request"),
        ({"detail-type": "EndConversation"}, "invalid_request"),
        ({"flow_sid": "FW" + "3" * 32, "execution_sid": "FN" + "9" * 32}, "flow_not_allowed"),
        ({"flow_sid": FLOW_SID, "execution_sid": "FN" + "9" * 32}, "execution_not_found"),
    ],
)
def test_what_can_never_succeed_is_dead_lettered_at_once(
    function: Function, dead_letters: Sqs, body: Any, code: str
) -> None:
    """The message moves with its code, and does not come again."""
    function.setenv("ALLOWED_FLOW_SIDS", FLOW_SID)
    event = in_sqs(body)
    assert function(event) == {"batchItemFailures": []}
    (letter,) = dead_letters.messages
    assert letter["MessageBody"] == event["Records"][0]["body"]
    attributes = {name: each["StringValue"] for name, each in letter["MessageAttributes"].items()}
    assert attributes == {"code": code, "message_id": "m0"}
    assert logged(function, "message_dead_lettered") == {"message_id": "m0", "code": code}


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 403}, {"status": 429, "headers": {"Retry-After": "3600"}}]
)
def test_what_may_still_succeed_comes_again(
    function: Function, studio: Studio, dead_letters: Sqs, fault: dict[str, Any]
) -> None:
    """Every message of the batch: an outage of Twilio moves nothing to the dead-letter queue."""
    studio.fail(times=None, **fault)
    assert failed(function(in_sqs(*commands(studio, 3)))) == {"m0", "m1", "m2"}
    assert not dead_letters.calls


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ({"code": "AccessDenied"}, "SQS rejected the message: AccessDenied"),
        ({"delay": 20.0}, "SQS did not confirm the message, but may have it: TimeoutError"),
    ],
)
def test_a_message_that_cannot_be_moved_is_reported(
    function: Function, dead_letters: Sqs, fault: dict[str, Any], detail: str
) -> None:
    """Nothing is lost between the queues, and a hanging queue leaves time to report."""
    dead_letters.fail(**fault)
    assert failed(function(in_sqs(POISON), seconds=2.5)) == {"m0"}
    told = {"message_id": "m0", "code": "invalid_request", "detail": detail}
    assert logged(function, "message_not_dead_lettered") == told


@pytest.mark.parametrize(
    ("record", "detail"),
    [
        ({}, "the body must be a string"),
        ({"body": None}, "the body must be a string"),
        ({"body": 7}, "the body must be a string"),
        ({"body": "{}", "attributes": None}, "flow_sid is required"),
    ],
)
def test_a_malformed_record_does_not_fail_the_others(
    function: Function, studio: Studio, dead_letters: Sqs, record: dict[str, Any], detail: str
) -> None:
    """It is rejected for what it is, reported or moved, and its neighbour is done."""
    (good,) = commands(studio, 1)
    records = [*in_sqs(good)["Records"], {"eventSource": "aws:sqs", "messageId": "odd"} | record]
    assert failed(function({"Records": records})) <= {"odd"}
    assert is_ended(studio, good)
    assert {line["code"] for line in function.logs if "code" in line} == {"invalid_request"}
    assert [line["detail"] for line in function.logs if "detail" in line][:1] == [detail]


@pytest.mark.parametrize("records", [[None], [{"eventSource": "aws:sqs"}], [{"messageId": "a"}]])
def test_records_without_ids_are_no_batch(function: Function, studio: Studio, records: list[Any]) -> None:
    """What could not be reported is refused as a whole, before anything is done."""
    good = in_sqs(*commands(studio, 1))["Records"]
    with pytest.raises(InvalidRequest):
        function({"Records": good + records})
    assert not studio.requests


def test_ten_records_are_worked_on_at_once(function: Function, studio: Studio) -> None:
    """They take as long as the slowest of them."""
    ten = commands(studio, 10)
    together = threading.Barrier(10)
    studio.before = lambda _: together.wait(8)
    assert function(in_sqs(*ten)) == {"batchItemFailures": []}
    assert all(is_ended(studio, command) for command in ten)


def test_counts_are_of_the_whole_batch(function: Function, studio: Studio) -> None:
    """Each message is one outcome, and one log line with its id."""
    (once,) = commands(studio, 1)
    function(in_sqs(once))
    function(in_sqs(once, *commands(studio, 2), POISON))
    assert function.metrics == {"ExecutionsEnded": 2, "ExecutionsAlreadyEnded": 1, "RequestsRejected": 1}
    assert sorted(line["message_id"] for line in function.logs) == ["m0", "m1", "m2", "m3"]
