"""A queue's messages on their way to the function, and what comes of them."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local import poller, rie, samples
from local.rie import Outcome
from local.stand_ins import StandIns, stand_ins

COMMAND = {"flow_sid": "FW" + "1" * 32, "execution_sid": "FN" + "2" * 32}


class Function:
    """In place of a function: answers as told, and remembers the events."""

    def __init__(self, answer: Callable[[list[str]], Any]) -> None:
        self.events: list[dict[str, Any]] = []
        self.answer = answer

    def invoke(self, event: dict[str, Any]) -> Outcome:
        self.events.append(event)
        return Outcome(self.answer([record["messageId"] for record in event["Records"]]), [])


@pytest.fixture
def ready() -> Iterator[StandIns]:
    with stand_ins() as running:
        yield running


def send(ready: StandIns, *bodies: str) -> list[str]:
    """Put messages into the queue; their ids."""
    sqs = ready.aws.client("sqs")
    return [sqs.send_message(QueueUrl=ready.queue_url, MessageBody=body)["MessageId"] for body in bodies]


def waiting(ready: StandIns) -> int:
    """How many messages are in the queue, be they visible or not."""
    names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = ready.aws.client("sqs").get_queue_attributes(QueueUrl=ready.queue_url, AttributeNames=names)
    return sum(map(int, answer["Attributes"].values()))


def test_shape(ready: StandIns) -> None:
    """The event has the fields of a real one."""
    function = Function(lambda _: {"batchItemFailures": []})
    send(ready, "a")
    poller.poll(ready, function)
    ((record,),) = (event["Records"] for event in function.events)
    (real, *_) = samples.load(samples.EVENTS / "sqs.json")["Records"]
    assert record.keys() == real.keys()
    assert record["attributes"].keys() >= {"SentTimestamp", "ApproximateReceiveCount"}


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (lambda _: {"batchItemFailures": []}, 0),
        (lambda ids: {"batchItemFailures": [{"itemIdentifier": ids[0]}]}, 1),
        (lambda _: {"errorType": "Sandbox.Timedout", "errorMessage": ""}, 2),
    ],
)
def test_what_failed_stays(ready: StandIns, answer: Callable[[list[str]], Any], left: int) -> None:
    """What the function has not done stays in the queue: all of it, where there is no answer."""
    send(ready, "a", "b")
    poller.poll(ready, Function(answer))
    assert waiting(ready) == left


def test_nothing_in_the_queue(ready: StandIns) -> None:
    """Nothing is invoked for an empty queue."""
    function = Function(lambda _: None)
    assert poller.poll(ready, function) is None
    assert function.events == []


def test_polling(ready: StandIns) -> None:
    """What comes into the queue is told of, until it is over."""
    told = threading.Event()
    with poller.polling(ready, Function(lambda _: {"batchItemFailures": []}), lambda _: told.set()):
        send(ready, "a")
        assert told.wait(5)
    assert waiting(ready) == 0


def test_from_a_request_to_its_outcome_event(ready: StandIns) -> None:
    """A command that is accepted for later is carried out, and EventBridge delivers what became of it."""
    event = samples.load(samples.EVENTS / "http-async.json")
    (execution,), _ = samples.seed(ready.studio, event)
    with rie.function(ready.environment) as function:
        assert function.invoke(event).answer["statusCode"] == 202
        assert execution.status == "active"
        assert ready.new_outcomes() == []
        poller.poll(ready, function)
    assert execution.status == "ended"
    (outcome,) = ready.new_outcomes()
    assert (outcome["source"], outcome["detail-type"]) == ("end-conversation", "ConversationEnded")
    assert outcome["detail"]["executions"] == [{"sid": execution.sid, "status": "ended"}]


def test_each_account_has_its_own_credentials(ready: StandIns) -> None:
    """A command for another account is carried out with that account's credentials and no others."""
    own, other = (samples.load(samples.EVENTS / f"{name}.json") for name in ("http", "http-account"))
    to_end = [samples.seed(ready.studio, event).to_end for event in (own, other)]
    with rie.function(ready.environment) as function:
        answers = [function.invoke(event).answer for event in (own, other)]
    assert [answer["statusCode"] for answer in answers] == [200, 200]
    assert {execution.status for each in to_end for execution in each} == {"ended"}
    assert {request.account_sid for request in ready.studio.requests} - {None} == {
        execution.account_sid for each in to_end for execution in each
    }
    assert ready.studio.foreign_requests == []
    assert json.loads(answers[1]["body"])["account_sid"] == to_end[1][0].account_sid
