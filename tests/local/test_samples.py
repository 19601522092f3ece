"""The sample events: the commands in them, and the Executions that are created for them."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks.sources import parse_webhook_secret
from local import samples, signing
from local.studio import ACCOUNT_SID, OTHER_ACCOUNT_SID, Studio

FLOW, EXECUTION = "FW" + "1" * 32, "FN" + "2" * 32
COMMAND = {"flow_sid": FLOW, "execution_sid": EXECUTION}
BODY = json.dumps(COMMAND)
SECRET = parse_webhook_secret(json.dumps(signing.SECRET))
EVENTS = {path.stem: samples.load(path) for path in sorted(samples.EVENTS.glob("*.json"))}


@pytest.mark.parametrize(
    ("event", "count"),
    [
        (COMMAND, 1),
        ({"version": "2.0", "body": BODY, "isBase64Encoded": False}, 1),
        ({"body": base64.b64encode(BODY.encode()).decode(), "isBase64Encoded": True}, 1),
        ({"detail-type": "EndConversation", "detail": COMMAND}, 1),
        ({"Records": [{"body": BODY}, {"body": json.dumps({"detail": COMMAND})}]}, 2),
        (None, 0),
        ({"flow_sid": FLOW}, 0),
        ({"flow_sid": FLOW, "execution_sid": EXECUTION + "\n"}, 0),
        ({"flow_sid": 1, "execution_sid": EXECUTION}, 0),
        ({"body": '{"a":' * 100_000}, 0),
        ({"body": "/", "isBase64Encoded": True}, 0),
        ({"body": "/w==", "isBase64Encoded": True}, 0),
    ],
)
def test_commands(event: Any, count: int) -> None:
    """Commands are found in every trigger's shape; an event without any, however broken, is no error."""
    found = [(each.flow_sid, each.execution_sid) for each in samples.commands(event)]
    assert found == [(FLOW, EXECUTION)] * count


@pytest.mark.parametrize("name", SECRET.sources)
def test_commands_of_a_source(name: str) -> None:
    """Each source has a sample, which is about what the declaration makes of it."""
    event, source = EVENTS[f"source-{name}"], SECRET.sources[name]
    mapped = filter(None, map(source.payload, source.events(to_http_request(event))))
    assert [(it.flow_sid, it.execution_sid, it.contact) for it in samples.commands(event)] == [
        (it["flow_sid"], it.get("execution_sid"), it.get("contact")) for it in mapped
    ]


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


def test_samples_keep_out_of_each_others_way() -> None:
    """No two are about the same Execution; an account has a Flow for commands; a contact is active once."""
    commands = [each for event in EVENTS.values() for each in samples.commands(event)]
    with Studio() as studio:
        seeded = [samples.seed(studio, event) for event in EVENTS.values()]
        sids = [execution.sid for to_end, to_stay in seeded for execution in (*to_end, *to_stay)]
        contacts = [(each.flow_sid, each.contact) for each in studio.executions.all("active")]
        samples.seed_all(studio)

    assert len(sids) == len(set(sids)) == len(studio.executions)
    assert len(contacts) == len(set(contacts)) == len(sids)
    assert {(each.account_sid, each.flow_sid) for each in commands} == {
        (ACCOUNT_SID, samples.FLOW_OF_SOURCES),
        (OTHER_ACCOUNT_SID, "FW2d8b6f0e4c1a49375b7d9f1e3a5c7b60"),
    }


@pytest.mark.parametrize("name", ["sqs", "sqs-notification", "sqs-poison-message"])
def test_message_digests(name: str) -> None:
    """SQS gives each message's body with its MD5 digest."""
    for record in EVENTS[name]["Records"]:
        assert hashlib.md5(record["body"].encode(), usedforsecurity=False).hexdigest() == record["md5OfBody"]
