"""Functions that do what no function may do, for the fuzzer to find."""

import json
import os
import socket
import time
import urllib.request
from contextlib import suppress
from typing import Any

from end_conversation import app, sweep
from end_conversation.errors import InvalidRequest
from fuzz.inputs import CONTACTS, EXECUTIONS, FLOWS
from fuzz.worker import MEMORY
from fuzz.world import PATIENCE

_gathered: list[bytes] = []


def crashing(event: Any, context: Any) -> Any:
    """Takes it for granted that an event is an object."""
    event.get("source")
    return app.handler(event, context)


def talkative(event: Any, context: Any) -> Any:
    """Logs what it is given."""
    print(json.dumps({"message": "received", "event": event}))
    return app.handler(event, context)


def indiscreet(event: Any, context: Any) -> Any:
    """Says in its error what it was given."""
    try:
        return app.handler(event, context)
    except InvalidRequest as refusal:
        raise InvalidRequest(json.dumps(event)) from refusal


def outspoken(event: Any, context: Any) -> Any:
    """Has its secrets in the cause of an error."""
    try:
        return app.handler(event, context)
    except InvalidRequest as refusal:
        raise refusal from ValueError(app._service()._credentials.get(app.Deadline(1)).authorization)


def untidy(event: Any, context: Any) -> Any:
    """Writes what is no JSON."""
    print("here I am")
    return app.handler(event, context)


def trusting(event: Any, context: Any) -> Any:
    """Asks Twilio for whatever it was given."""
    if isinstance(event, dict) and "flow_sid" in event:
        with suppress(Exception):
            base = os.environ["TWILIO_STUDIO_BASE_URL"]
            urllib.request.urlopen(f"{base}/v2/Flows/{event['flow_sid']}/Executions").close()
    return app.handler(event, context)


def mistaken(event: Any, context: Any) -> Any:
    """Ends what somebody else has begun."""
    if isinstance(event, dict) and event.get("flow_sid") == FLOWS[0]:
        event = event | {"execution_sid": None, "contact": CONTACTS[1]}
    return app.handler(event, context)


def hasty(event: Any, context: Any) -> Any:
    """Ends what began after the conversation was over."""
    if isinstance(event, dict):
        event = {key: value for key, value in event.items() if key != "occurred_at"}
    return app.handler(event, context)


def uncounted(event: Any, context: Any) -> Any:
    """Ends without a metric."""
    if isinstance(event, dict) and event.get("execution_sid") == EXECUTIONS[0]:
        app._service().studio.end(FLOWS[0], EXECUTIONS[0], app.Deadline(1))
    return app.handler(event, context)


def forgetful(event: Any, context: Any) -> Any:
    """Loses the last message of a batch."""
    if isinstance(event, dict) and isinstance(event.get("Records"), list):
        event = {"Records": event["Records"][:-1] or event["Records"]}
    return app.handler(event, context)


def failing(event: Any, context: Any) -> Any:
    """Has a 500 for what its callers did wrong."""
    answer = app.handler(event, context)
    return answer | {"statusCode": 500} if answer.get("statusCode") == 400 else answer


def gullible(event: Any, context: Any) -> Any:
    """Does not look at signatures."""
    return app.handler(event | {"routeKey": "POST /conversations/end"}, context)


def deaf(event: Any, context: Any) -> Any:
    """Refuses whatever is signed."""
    return app.handler(event | {"headers": {}}, context)


def eager(event: Any, context: Any) -> Any:
    """Sweeps what it should only count."""
    return sweep.handler(event | {"dry_run": False} if isinstance(event, dict) else event, context)


def impatient(event: Any, context: Any) -> Any:
    """Takes for stuck what is not."""
    return sweep.handler(event | {"older_than_minutes": 0} if isinstance(event, dict) else event, context)


def slow(event: Any, context: Any) -> Any:
    """Is not done when Lambda ends it."""
    time.sleep(context.get_remaining_time_in_millis() / 1000 + PATIENCE)
    return app.handler(event, context)


def unfaithful(event: Any, context: Any) -> Any:
    """Talks to somebody else."""
    with suppress(OSError):
        socket.create_connection(("127.0.0.2", 9)).close()
    return app.handler(event, context)


def confiding(event: Any, context: Any) -> Any:
    """Logs a secret in the place of what a caller chose."""
    print(json.dumps({"reason": app._service()._credentials.get(app.Deadline(1)).authorization}))
    return app.handler(event, context)


def greedy(event: Any, context: Any) -> Any:
    """Never gives memory back."""
    if not _gathered:
        _gathered.append(b"x" * MEMORY)
    return app.handler(event, context)
