"""What a command may be wrapped in, and the bound of `occurred_at` that comes of it."""

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import FLOW_SID, Function, in_eventbridge, in_http, in_sqs

from end_conversation.command import Command
from end_conversation.errors import InvalidRequest
from end_conversation.triggers.envelope import unwrap
from local.studio import Studio

COMMAND = {"flow_sid": FLOW_SID, "contact": "+15005550006"}
EARLY, LATE = "2026-03-02T09:41:07Z", "2026-03-02T13:00:00Z"


def eventbridge(payload: Any, time: Any = EARLY) -> dict[str, Any]:
    return in_eventbridge(payload, time=time)


def record(
    payload: Any, timestamp: Any = EARLY, condition: str | None = "RetriesExhausted"
) -> dict[str, Any]:
    """What Lambda sends to a destination.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    """
    return {
        "version": "1.0",
        "timestamp": timestamp,
        "requestContext": {
            "requestId": "e4b46cbf-b738-xmpl-8880-a18cdf61200e",
            "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:end-conversation:live",
            "condition": condition,
            "approximateInvokeCount": 3,
        },
        "requestPayload": payload,
        "responsePayload": COMMAND | {"contact": "+15005550001"},
    }


def notification(payload: Any, timestamp: Any = EARLY) -> dict[str, Any]:
    """What SNS delivers, unless delivery is raw.

    https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
    """
    return {
        "Type": "Notification",
        "MessageId": "d88d4479-6ec0-54fe-b63f-1cf9df4bb16e",
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:conversations",
        "Message": payload if isinstance(payload, str) else json.dumps(payload),
        "Timestamp": timestamp,
        "SignatureVersion": "1",
    }


def message(body: Any, sent_at: str = LATE) -> dict[str, Any]:
    return in_sqs(body, at=datetime.fromisoformat(sent_at))


def http(received_at: str, **more: Any) -> dict[str, Any]:
    return in_http(COMMAND, at=datetime.fromisoformat(received_at), **more)


@pytest.mark.parametrize(
    "event",
    [
        eventbridge(COMMAND),
        http(EARLY),
        http(EARLY, rest=True),
        message(COMMAND, EARLY),
        record(COMMAND),
        record(COMMAND, condition="EventAgeExceeded"),
        notification(COMMAND),
        # The earliest counts, wherever it is.
        message(eventbridge(COMMAND)),
        message(eventbridge(COMMAND, LATE), EARLY),
        message(notification(COMMAND)),
        message(notification(COMMAND, LATE), EARLY),
        message(notification(eventbridge(COMMAND), LATE)),
        message(record(eventbridge(COMMAND, LATE))),
        message(record(eventbridge(COMMAND), LATE)),
        record(eventbridge(COMMAND, "2999-01-01T00:00:00Z")),
        record(record(COMMAND), LATE),
        eventbridge(record(COMMAND, LATE)),
        message(notification(record(notification(COMMAND, LATE), LATE), LATE), EARLY),
        # A time before 2020 is no time.
        message(eventbridge(COMMAND, "1970-01-01T00:00:00Z"), EARLY),
        message(eventbridge(COMMAND), "1970-01-01T00:00:00Z"),
        eventbridge(record(COMMAND), "2019-12-31T23:59:59Z"),
    ],
)
def test_only_what_began_before_the_earliest_time_is_ended(
    function: Function, studio: Studio, event: Any
) -> None:
    """A sender can choose some of the times; none may move the bound later than another."""
    bound = datetime.fromisoformat(EARLY)
    old = studio.seed(FLOW_SID, contact=COMMAND["contact"], date_created=bound)
    new = studio.seed(FLOW_SID, contact=COMMAND["contact"], date_created=bound + timedelta(seconds=1))
    function(event)
    assert (old.status, new.status) == ("ended", "active")


@pytest.mark.parametrize(
    "event",
    [
        COMMAND,
        {"detail-type": "EndConversation", "detail": COMMAND},
        eventbridge(COMMAND, None),
        eventbridge(COMMAND, "1970-01-01T00:00:00Z"),
        message(COMMAND, "1970-01-01T00:00:00Z"),
        # Seconds where API Gateway has milliseconds, from `sam local start-api`:
        # https://github.com/aws/aws-sam-cli/issues/9279.
        http("1970-01-21T12:20:44Z"),
    ],
)
def test_without_a_time_it_is_now(function: Function, studio: Studio, event: Any) -> None:
    """Everything that is active has begun by then."""
    before = datetime.now(UTC) - timedelta(seconds=5)
    execution = studio.seed(FLOW_SID, contact=COMMAND["contact"], date_created=before)
    function(event)
    assert execution.status == "ended"


@pytest.mark.parametrize("condition", ["Success", None, "Unheard"])
@pytest.mark.parametrize("wrap", [lambda payload: payload, message, eventbridge, notification])
def test_only_the_record_of_a_failure_is_carried_out(
    function: Function, studio: Studio, wrap: Any, condition: str | None
) -> None:
    """Whatever it contains: what succeeded must not be repeated."""
    execution = studio.seed(FLOW_SID, contact=COMMAND["contact"])
    with contextlib.suppress(InvalidRequest):
        assert function(wrap(record(COMMAND, condition=condition)))["batchItemFailures"]
    assert execution.status == "active"
    (line,) = function.logs
    assert line["detail"] == "requestContext.condition must be that of a failed invocation"


def nested(depth: int, **more: Any) -> Any:
    """More levels than Python has stack frames; newer versions decode them from JSON."""
    value: Any = []
    for _ in range(depth):
        value = more | {"requestPayload": value} if more else [value]
    return value


RECORD = {key: value for key, value in record(None).items() if key != "requestPayload"}
TIME = "must be an RFC 3339 date-time"
NO_OBJECT = "the payload is not a JSON object"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (record(None), NO_OBJECT),
        (record(COMMAND, timestamp=None), f"timestamp {TIME}"),
        (record(COMMAND, timestamp="yesterday"), f"timestamp {TIME}"),
        (eventbridge(COMMAND, "yesterday"), f"time {TIME}"),
        (eventbridge("{}"), NO_OBJECT),
        (notification(COMMAND, timestamp=None), f"Timestamp {TIME}"),
        (notification("not json"), "the body is not JSON"),
        (notification("{}"), "flow_sid is required"),
        (nested(5000, **RECORD), NO_OBJECT),
        (RECORD | {"timestamp": nested(5000)}, f"timestamp {TIME}"),
        (eventbridge(COMMAND, nested(5000)), f"time {TIME}"),
        (eventbridge(None), NO_OBJECT),
    ],
    # Showing them would recurse too deeply.
    ids=range(12),
)
def test_an_envelope_without_a_valid_command_or_time_is_invalid(payload: Any, message: str) -> None:
    """And no defect of ours, for which the message would come again until its receives are used up."""
    with pytest.raises(InvalidRequest, match=f"^{message}$"):
        Command.parse(*unwrap(payload))
