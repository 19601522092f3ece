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
    more = {"requestPayload": draw(_eventbridge() | commands), "timestamp": draw(date_times)}
    return sample("direct-failure-record") | more


@st.composite
def batches(draw: st.DrawFn) -> list[Json]:
    """Records of a batch from the queue."""
    records = []
    for number in range(draw(st.integers(1, 3))):
        record = sample("sqs")["Records"][0] | {"messageId": f"message-{number}"}
        text = draw(json_texts(_eventbridge() | _failure_records() | commands))
        # Lone surrogates get neither into a queue nor out of it.
        record["body"] = text.encode(errors="replace").decode()
        record["attributes"]["SentTimestamp"] = draw(milliseconds)
        records.append(draw(st.just(record) | damaged(st.just(record))) | {"messageId": f"message-{number}"})
    return records


requests = _http() | damaged(_http())
"""Requests to the IAM route, through either kind of API."""

_events = _eventbridge() | _failure_records() | commands
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
    """The command in a payload: bare, in an event, or in the record of a failed invocation."""
    match payload:
        case {"requestContext": {"functionArn": str()}}:
            time, inner = instant(payload.get("timestamp")), payload.get("requestPayload")
            return command_of(inner, (time,)) if time else (INVALID, ())
        case {"detail-type": _}:
            time = instant(payload.get("time"))
            is_valid = time is not None or payload.get("time") is None
            return (payload.get("detail"), (time,) if time else times) if is_valid else (INVALID, ())
    return payload, times


def is_request(event: Any) -> bool:
    """Whether the function takes an event for a request to an API."""
    return isinstance(event, dict) and "requestContext" in event and not _is_record(event)


def _is_record(event: Any) -> bool:
    match event:
        case {"requestContext": {"functionArn": str()}}:
            return True
    return False
