"""Commands by every AWS trigger have the outcome that the model predicts; everything else is refused."""

from typing import Any

import pytest

from end_conversation import app
from fuzz import deliveries
from fuzz.conftest import World, fuzz
from fuzz.inputs import CLIENT, FLOWS


@fuzz(deliveries.requests)
def test_requests(world: World, event: Any) -> None:
    """HTTP, whatever the body and the rest of the event; also with `Prefer: respond-async`."""
    world.renew()
    if not deliveries.is_request(event):
        assert world.invoke(event).code == "invalid_request"
        return
    payload, times = deliveries.command_of_request(event)
    want = world.expected(payload, times)
    result = world.invoke(event)
    if result.body.get("code") not in {"not_found", "method_not_allowed", "unsupported_media_type"}:
        world.check(result, want)


@fuzz(deliveries.payloads)
def test_payloads(world: World, event: Any) -> None:
    """Direct invocations, EventBridge events and failure records."""
    world.renew()
    payload, times = deliveries.command_of(event)
    want = world.expected(payload, times)
    if not deliveries.is_request(event):
        world.check(world.invoke(event), want)


@fuzz(deliveries.batches())
def test_batches(world: World, records: list[Any]) -> None:
    """SQS: each message for itself; what can never succeed is in the dead-letter queue, and nothing else."""
    world.renew()
    wants = [world.expected(payload, times) for payload, times in map(deliveries.command_of_record, records)]
    result = world.invoke({"Records": records})
    if any(record.get("eventSource") != "aws:sqs" for record in records):
        assert result.code == "invalid_request"
        return
    assert result.answer == {"batchItemFailures": []}
    bodies = [record["body"] if isinstance(record.get("body"), str) else "" for record in records]
    letters = [(body, want.code) for body, want in zip(bodies, wants, strict=True) if want.code]
    assert sorted(world.dead_letters) == sorted(letters)
    assert world.ended == world.active & {sid for want in wants if not want.dry_run for sid in want.sids}


def test_a_leak_is_found(world: World) -> None:
    """A function that logs what it is given fails."""

    def talkative(event: Any, context: Any) -> Any:
        print(event)
        return app.handler(event, context)

    world.handler = talkative
    world.renew()
    with pytest.raises(AssertionError):
        world.invoke({"flow_sid": FLOWS[0], "contact": CLIENT})
