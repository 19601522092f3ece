"""The SQS trigger: which messages come again, and which never do."""

import json
import socket
from time import monotonic
from typing import Any

import boto3
import pytest
from conftest import FLOW_SID, Context, Function, sample

from end_conversation.errors import InvalidRequest
from end_conversation.twilio import account as account_module
from local.aws import Aws
from local.studio import Studio

POISON = "not json"


def batch(*bodies: Any) -> dict[str, Any]:
    """events/sqs.json with these messages, with the ids m0, m1 and so on."""
    record = sample("sqs")["Records"][0]
    texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
    return {"Records": [record | {"messageId": f"m{n}", "body": text} for n, text in enumerate(texts)]}


def commands(studio: Studio, number: int) -> list[dict[str, str]]:
    return [{"flow_sid": FLOW_SID, "execution_sid": studio.seed(FLOW_SID).sid} for _ in range(number)]


def failed(answer: dict[str, Any]) -> set[str]:
    return {item["itemIdentifier"] for item in answer["batchItemFailures"]}


def is_ended(studio: Studio, command: dict[str, str]) -> bool:
    return studio.executions.get(FLOW_SID, command["execution_sid"]).status == "ended"


@pytest.fixture
def dead_letter_queue(environment: pytest.MonkeyPatch, moto: Aws) -> Any:
    """A queue of moto's, with its URL in the function's environment."""
    environment.setenv("AWS_ENDPOINT_URL_SQS", moto.url)
    queue = boto3.resource("sqs").create_queue(QueueName="dead-letters")
    environment.setenv("DEAD_LETTER_QUEUE_URL", queue.url)
    return queue


def logged(function: Function, message: str) -> dict[str, Any]:
    """What the one line with this message says about its message, in the invocation's name."""
    (line,) = [line for line in function.logs if line["message"] == message]
    assert line["function_request_id"] == Context(0).aws_request_id
    return {key: line[key] for key in ("message_id", "code", "detail") if key in line}


def dead_letters(queue: Any) -> list[Any]:
    return list(queue.receive_messages(MaxNumberOfMessages=10, MessageAttributeNames=["All"]))


def test_only_the_failed_are_reported(
    function: Function, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message that fails does not take its neighbours along."""
    monkeypatch.setattr(account_module, "BACKOFF", 0.001)
    good = commands(studio, 4)
    bad = {"flow_sid": FLOW_SID, "execution_sid": "FN" + "9" * 32}
    assert failed(function(batch(*good[:2], bad, POISON, *good[2:]))) == {"m2", "m3"}
    assert all(is_ended(studio, command) for command in good)


def test_a_wrong_setting_loses_nothing(
    function: Function, studio: Studio, environment: pytest.MonkeyPatch
) -> None:
    """A function that cannot work keeps every message in the queue, the poisonous too."""
    environment.setenv("TWILIO_SECRET_ID", "")
    assert failed(function(batch(*commands(studio, 1), POISON))) == {"m0", "m1"}


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
    function: Function, environment: pytest.MonkeyPatch, dead_letter_queue: Any, body: Any, code: str
) -> None:
    """The message moves with its code, and does not come again."""
    environment.setenv("ALLOWED_FLOW_SIDS", FLOW_SID)
    event = batch(body)
    assert function(event) == {"batchItemFailures": []}
    (letter,) = dead_letters(dead_letter_queue)
    assert letter.body == event["Records"][0]["body"]
    assert letter.message_attributes["code"]["StringValue"] == code
    assert letter.message_attributes["message_id"]["StringValue"] == "m0"
    assert logged(function, "message_dead_lettered") == {"message_id": "m0", "code": code}


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 403}, {"status": 429, "headers": {"Retry-After": "3600"}}]
)
def test_what_may_still_succeed_comes_again(
    function: Function,
    studio: Studio,
    dead_letter_queue: Any,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any],
) -> None:
    """Every message of the batch; an outage of Twilio fills no dead-letter queue by our doing."""
    monkeypatch.setattr(account_module, "BACKOFF", 0.001)
    studio.fail(times=None, **fault)
    assert failed(function(batch(*commands(studio, 3)))) == {"m0", "m1", "m2"}
    assert not dead_letters(dead_letter_queue)


def test_a_message_that_cannot_be_moved_is_reported(
    function: Function, environment: pytest.MonkeyPatch, dead_letter_queue: Any
) -> None:
    """Nothing is lost between the queues."""
    environment.setenv("DEAD_LETTER_QUEUE_URL", dead_letter_queue.url + "-gone")
    assert failed(function(batch(POISON))) == {"m0"}
    assert logged(function, "message_not_dead_lettered") == {
        "message_id": "m0",
        "code": "invalid_request",
        "detail": "SQS refuses the message: AWS.SimpleQueueService.NonExistentQueue",
    }


def test_a_queue_that_hangs_is_given_up_in_time(function: Function, environment: pytest.MonkeyPatch) -> None:
    """The message counts as failed before Lambda would end the function, and its whole batch with it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        environment.setenv("AWS_ENDPOINT_URL_SQS", url)
        environment.setenv("DEAD_LETTER_QUEUE_URL", f"{url}/dead-letters")
        began = monotonic()
        assert failed(function(batch(POISON), seconds=1.0)) == {"m0"}
        assert monotonic() - began < 1


@pytest.mark.parametrize(
    ("record", "detail"),
    [
        ({}, "the body must be a string"),
        ({"body": None}, "the body must be a string"),
        ({"body": 7}, "the body must be a string"),
        ({"body": "{}", "attributes": None}, "flow_sid is required"),
    ],
)
def test_a_malformed_record_takes_nobody_along(
    function: Function, studio: Studio, dead_letter_queue: Any, record: dict[str, Any], detail: str
) -> None:
    """It is refused as what it is, reported or moved, and its neighbour is done."""
    (good,) = commands(studio, 1)
    records = [*batch(good)["Records"], {"eventSource": "aws:sqs", "messageId": "odd"} | record]
    assert failed(function({"Records": records})) <= {"odd"}
    assert is_ended(studio, good)
    assert {line["code"] for line in function.logs if "code" in line} == {"invalid_request"}
    assert [line["detail"] for line in function.logs if "detail" in line][:1] == [detail]


@pytest.mark.parametrize("records", [[None], [{"eventSource": "aws:sqs"}], [{"messageId": "a"}]])
def test_records_without_ids_are_no_batch(function: Function, studio: Studio, records: list[Any]) -> None:
    """What could not be reported is refused as a whole, before anything is done."""
    good = batch(*commands(studio, 1))["Records"]
    with pytest.raises(InvalidRequest):
        function({"Records": good + records})
    assert not studio.requests


def test_ten_records_take_as_long_as_one(function: Function, studio: Studio) -> None:
    """With 200 ms of latency, ten at once stay far below ten times that."""
    function(batch(*commands(studio, 1)))
    studio.fail(delay=0.2, times=None)
    ten = commands(studio, 10)
    began = monotonic()
    assert function(batch(*ten)) == {"batchItemFailures": []}
    assert monotonic() - began < 1.2
    assert all(is_ended(studio, command) for command in ten)
    assert studio.max_in_flight == 10


def test_counts_are_of_the_whole_batch(function: Function, studio: Studio) -> None:
    """Each message is one outcome, and one log line with its id."""
    (once,) = commands(studio, 1)
    function(batch(once))
    function(batch(once, *commands(studio, 2), POISON))
    assert function.metrics == {"ExecutionsEnded": 2, "ExecutionsAlreadyEnded": 1, "RequestsRejected": 1}
    assert sorted(line["message_id"] for line in function.logs) == ["m0", "m1", "m2", "m3"]
