"""Events of every AWS trigger that carry a command."""

import base64
from typing import Any

from conftest import sample
from hypothesis import strategies as st

from fuzz.inputs import CANARY, Json, anything, commands, damaged, date_times, harmless, json_texts
from fuzz.model import INVALID, Times, decoded, from_milliseconds, instant

_FAR = 4_102_444_800_000
"""2100-01-01 in milliseconds: a time that bounds nothing."""

milliseconds = st.integers(0, _FAR) | st.sampled_from([_FAR, str(_FAR), -1, 10**20]) | harmless
"""When a trigger received something, or anything else."""


@st.composite
def _http(draw: st.DrawFn) -> Json:
    event = sample(draw(st.sampled_from(["http", "http-rest"])))
    sent = draw(json_texts(commands))
    event["isBase64Encoded"] = draw(st.booleans())
    if event["isBase64Encoded"]:
        sent = base64.b64encode(sent.encode(errors="surrogatepass")).decode()
    event["body"] = sent
    event["headers"] |= draw(st.sampled_from([{}, {}, {"Prefer": "wait=5, respond-async"}]))
    event["headers"]["x-note"] = CANARY
    event["requestContext"]["requestTimeEpoch" if "resource" in event else "timeEpoch"] = draw(milliseconds)
    return event


@st.composite
def _eventbridge(draw: st.DrawFn) -> Json:
    event = sample("eventbridge") | {"detail": draw(commands), "note": CANARY}
    return event | draw(st.fixed_dictionaries({}, optional={"time": date_times}))


@st.composite
def _failure_records(draw: st.DrawFn) -> Json:
    """Lambda's records of failed invocations."""
    record = sample("direct-failure-record")
    record |= {"requestPayload": draw(_eventbridge() | commands), "timestamp": draw(date_times)}
    record["requestContext"]["condition"] = draw(st.sampled_from(["RetriesExhausted"] * 3 + ["Success"]))
    return record


@st.composite
def _notifications(draw: st.DrawFn) -> Json:
    """SNS notifications that are not delivered raw."""
    message = draw(json_texts(_eventbridge() | commands)).encode(errors="replace").decode()
    topic = {"Type": "Notification", "TopicArn": "arn:aws:sns:us-east-1:123456789012:topic"}
    return topic | {"Message": message, "Timestamp": draw(date_times)}


_events = _eventbridge() | _failure_records() | _notifications() | commands


@st.composite
def batches(draw: st.DrawFn) -> list[Json]:
    """Records of a batch from the queue."""
    records = []
    for number in range(draw(st.integers(1, 3))):
        record = sample("sqs")["Records"][0] | {"messageId": f"message-{number}"}
        text = draw(json_texts(_events))
        # Lone surrogates get neither into a queue nor out of it.
        record["body"] = text.encode(errors="replace").decode()
        record["attributes"]["SentTimestamp"] = draw(milliseconds)
        records.append(draw(st.just(record) | damaged(st.just(record))) | {"messageId": f"message-{number}"})
    return records


requests = _http() | damaged(_http())
"""Requests to the IAM route, through either kind of API."""

payloads = _events | damaged(_events) | anything
"""Everything else that the function may be invoked with."""


def command_of_request(event: Any) -> tuple[Json, Times]:
    """The command in the body of a request, and the gateway's time."""
    context = event["requestContext"] if isinstance(event["requestContext"], dict) else {}
    times = (from_milliseconds(context.get("timeEpoch", context.get("requestTimeEpoch"))),)
    body = event.get("body")
    if not isinstance(body, str):
        return INVALID, times
    sent = body.encode(errors="surrogatepass")
    if event.get("isBase64Encoded") is True:
        try:
            sent = base64.b64decode(body, validate=True)
        except ValueError:
            return INVALID, times
    return decoded(sent), times


def command_of_record(record: Any) -> tuple[Json, Times]:
    """The command in a message, and all times that are known of it."""
    body, attributes = record.get("body"), record.get("attributes")
    if not isinstance(body, str):
        return INVALID, ()
    sent = attributes.get("SentTimestamp") if isinstance(attributes, dict) else None
    return command_of(decoded(body.encode(errors="surrogatepass")), (from_milliseconds(sent),))


def command_of(payload: Any, times: Times = ()) -> tuple[Json, Times]:
    """The command in a payload, whatever it is wrapped in."""
    match payload:
        case {"requestContext": {"functionArn": str(), **context}}:
            if context.get("condition") not in {"RetriesExhausted", "EventAgeExceeded"}:
                return INVALID, ()
            time, inner = payload.get("timestamp", 0), payload.get("requestPayload")
        case {"detail-type": _}:
            time, inner = payload.get("time"), payload.get("detail")
        case {"Type": "Notification", "TopicArn": str(), "Message": str(message)}:
            time, inner = payload.get("Timestamp", 0), decoded(message.encode(errors="surrogatepass"))
        case _:
            return payload, times
    if (bound := instant(time)) is None and (time is not None or "detail-type" not in payload):
        return INVALID, ()
    return command_of(inner, (*times, bound))


def is_request(event: Any) -> bool:
    """Whether the function takes an event for a request to an API."""
    match event:
        case {"requestContext": {"functionArn": str()}}:
            return False
    return isinstance(event, dict) and "requestContext" in event
