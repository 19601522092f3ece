"""The commands that an event carries, and the Executions that they are about."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from local import samples
from local.studio import Studio

FLOW, EXECUTION = "FW" + "1" * 32, "FN" + "2" * 32
COMMAND = {"flow_sid": FLOW, "execution_sid": EXECUTION}
BODY = json.dumps(COMMAND)


@pytest.mark.parametrize(
    "event",
    [
        COMMAND,
        {"version": "2.0", "body": BODY, "isBase64Encoded": False},
        {"body": base64.b64encode(BODY.encode()).decode(), "isBase64Encoded": True},
        {"detail-type": "EndConversation", "detail": COMMAND},
        {"Records": [{"body": BODY}]},
        {"Records": [{"body": json.dumps({"detail": COMMAND})}]},
    ],
)
def test_found(event: Any) -> None:
    """A command is found in every trigger's shape."""
    (command,) = samples.commands(event)
    assert (command.flow_sid, command.execution_sid) == (FLOW, EXECUTION)


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "{",
        {"flow_sid": FLOW},
        {"flow_sid": FLOW, "execution_sid": EXECUTION + "\n"},
        {"flow_sid": 1, "execution_sid": EXECUTION},
        {"body": "[" * 100_000},
        {"body": '{"a":' * 100_000},
        {"body": "/", "isBase64Encoded": True},
        {"body": "/w==", "isBase64Encoded": True},
    ],
)
def test_nothing_to_find(event: Any) -> None:
    """An event without any, however broken, is no error."""
    assert list(samples.commands(event)) == []


def test_seed() -> None:
    """What is seeded is active, and older than the event."""
    with Studio() as studio:
        (execution,) = samples.seed(studio, COMMAND | {"occurred_at": "2026-03-02T10:41:07+01:00"})
        assert (execution.sid, execution.status) == (EXECUTION, "active")
        assert execution.date_created == datetime(2026, 3, 2, 8, 41, 7, tzinfo=UTC)


def test_seed_twice() -> None:
    """Two commands about the same Execution, or two events, share it."""
    event = [COMMAND, COMMAND, {"flow_sid": FLOW, "contact": "client:ann"}]
    with Studio() as studio:
        first = samples.seed(studio, event)
        assert samples.seed(studio, event) == first
        assert [execution.contact for execution in first] == ["+15005550006", "client:ann"]
        assert len(studio.executions) == 2
