"""The commands that an event carries, and the Executions that they are about."""

import base64
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks.sources import parse_webhook_secret
from local import samples, signing
from local.studio import OTHER_ACCOUNT_SID, Studio

FLOW, EXECUTION = "FW" + "1" * 32, "FN" + "2" * 32
COMMAND = {"flow_sid": FLOW, "execution_sid": EXECUTION}
BODY = json.dumps(COMMAND)
SECRET = parse_webhook_secret(json.dumps(signing.SECRET))
EVENTS = sorted(samples.EVENTS.glob("*.json"))


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


@pytest.mark.parametrize("name", SECRET.sources)
def test_found_in_a_source(name: str) -> None:
    """Each source has a sample, which is about what the declaration makes of it."""
    event = samples.load(samples.EVENTS / f"source-{name}.json")
    source = SECRET.sources[name]
    mapped = filter(None, map(source.payload, source.events(to_http_request(event))))
    assert [(it.flow_sid, it.execution_sid, it.contact) for it in samples.commands(event)] == [
        (it["flow_sid"], it.get("execution_sid"), it.get("contact")) for it in mapped
    ]


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
    """For an SID there is one active Execution, an hour older than the event, in its account."""
    command = COMMAND | {"occurred_at": "2026-03-02T10:41:07+01:00", "account_sid": OTHER_ACCOUNT_SID}
    with Studio() as studio:
        ((execution,), others) = samples.seed(studio, command)
        assert (execution.sid, execution.status, others) == (EXECUTION, "active", [])
        assert execution.date_created == datetime(2026, 3, 2, 8, 41, 7, tzinfo=UTC)
        assert execution.account_sid == studio.executions.account_of(FLOW) == OTHER_ACCOUNT_SID


@pytest.mark.parametrize(("dry_run", "counts"), [(False, (1, 1)), (True, (0, 2))])
def test_seed_contact(*, dry_run: bool, counts: tuple[int, int]) -> None:
    """For a contact there is one to end, unless it is a dry run, and one of somebody else."""
    command = {"flow_sid": FLOW, "contact": "client:ann", "dry_run": dry_run}
    with Studio() as studio:
        to_end, to_stay = samples.seed(studio, command)
        assert (len(to_end), len(to_stay)) == counts
        assert [one.contact for one in (*to_end, *to_stay)].count("client:ann") == 1


@pytest.mark.parametrize("dry_run", [False, True])
def test_seed_sweep(*, dry_run: bool) -> None:
    """For a sweep there are Executions past its limit, which a dry run leaves alone, and a younger one."""
    event = {"flow_sids": [FLOW], "older_than_minutes": 60, "dry_run": dry_run}
    with Studio() as studio:
        to_end, to_stay = samples.seed(studio, event)
        assert samples.is_sweep(event)
        assert (len(to_end), len(to_stay)) == ((0, 4) if dry_run else (3, 1))
        limit = datetime.now(UTC) - timedelta(minutes=60)
        assert [each.date_created < limit for each in (*to_end, *to_stay)] == [True, True, True, False]


def test_one_active_execution_for_each_contact() -> None:
    """All samples together keep what Twilio promises of messages; seeding again changes nothing."""
    with Studio() as studio:
        for _ in range(2):
            for path in EVENTS:
                samples.seed(studio, samples.load(path))
            active = Counter((one.flow_sid, one.contact) for one in studio.executions.all("active"))
            assert set(active.values()) == {1}
            assert active["FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b", "+15005550006"] == 1
