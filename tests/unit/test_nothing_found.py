"""A command by contact that finds nothing is reported as such: the customer may still be stuck."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import FLOW_SID, IN_TRIGGER, EventBridge, Function, in_http, status_and_code

from local.studio import Studio

CONTACT = "+15005550006"


@pytest.fixture(autouse=True)
def bus(outcome_bus: EventBridge, studio: Studio) -> EventBridge:
    studio.executions.add_flow(FLOW_SID)
    return outcome_bus


def command(**more: Any) -> dict[str, Any]:
    return {"flow_sid": FLOW_SID, "contact": CONTACT} | more


@pytest.mark.parametrize(
    ("others", "near", "metrics"),
    [
        ([], None, {"NothingToEnd": 1}),
        (["+15005550999"], None, {"NothingToEnd": 1}),
        (["whatsapp:" + CONTACT, "messenger:" + CONTACT], ["channel"], {"NothingToEnd": 1, "NearMisses": 1}),
        (["+1 (500) 555-0006", "005005550006"], ["digits"], {"NothingToEnd": 1, "NearMisses": 1}),
        (["whatsapp:" + CONTACT, "5005550006"], ["channel", "digits"], {"NothingToEnd": 1, "NearMisses": 1}),
    ],
)
def test_near_misses_are_reported_everywhere(
    function: Function,
    studio: Studio,
    bus: EventBridge,
    others: list[str],
    near: Any,
    metrics: dict[str, int],
) -> None:
    """Log line, metrics, result and outcome event: kinds once each, and never an address."""
    executions = [studio.seed(FLOW_SID, contact=other) for other in others]
    result = function(command())
    told = {} if near is None else {"near": near}
    assert result == {"flow_sid": FLOW_SID, "executions": []} | told
    assert function.metrics == metrics
    (line,) = function.logs
    assert (line["message"], line["level"], line["active"]) == ("nothing_to_end", "INFO", len(others))
    assert line.get("near") == near
    (entry,) = bus.entries
    detail = json.loads(entry["Detail"])
    assert entry["DetailType"] == "ConversationEnded"
    assert (detail["executions"], detail["already_ended"]) == ([], 0)
    assert detail.get("near") == near
    assert {one.status for one in executions} <= {"active"}
    for address in (CONTACT, "5550006", *others):
        assert address not in function.output + json.dumps(result) + json.dumps(bus.puts)


def test_what_began_later_is_no_near_miss(function: Function, studio: Studio) -> None:
    """The sender's mapping is right, and the conversation is a new one."""
    execution = studio.seed(FLOW_SID, contact=CONTACT)
    long_ago = (datetime.now(UTC) - timedelta(days=9)).isoformat()
    assert function(command(occurred_at=long_ago))["near"] == ["later"]
    assert function.metrics == {"NothingToEnd": 1}
    assert execution.status == "active"


def test_beside_a_hit_nothing_is_near(function: Function, studio: Studio) -> None:
    """One address of the person was right."""
    hit, miss = (studio.seed(FLOW_SID, contact=address) for address in (CONTACT, "whatsapp:" + CONTACT))
    result = function(command())
    assert "near" not in result
    assert (hit.status, miss.status) == ("ended", "active")
    assert function.metrics == {"ExecutionsEnded": 1}
    assert function.logs[0]["message"] == "conversation_ended"


def test_what_was_deleted_before_its_turn_leaves_nothing_to_end(function: Function, studio: Studio) -> None:
    """A success without an Execution is never reported as `conversation_ended`."""
    studio.seed(FLOW_SID, contact=CONTACT)
    studio.fail(method="POST", status=404)
    assert function(command()) == {"flow_sid": FLOW_SID, "executions": []}
    assert function.metrics == {"NothingToEnd": 1}
    assert function.logs[0]["message"] == "nothing_to_end"


def test_several_addresses_of_a_person(function: Function, studio: Studio) -> None:
    """Every Execution of any of them, oldest first; the list is read once."""
    addresses = [CONTACT, "whatsapp:" + CONTACT, CONTACT, "client:jane"]
    now = datetime.now(UTC).replace(microsecond=0)
    dates = [now - timedelta(minutes=n) for n in range(1, 5)]
    newest_first = [
        studio.seed(FLOW_SID, contact=address, date_created=date)
        for address, date in zip(addresses, dates, strict=True)
    ]
    other = studio.seed(FLOW_SID, contact="+15005550001")
    result = function(command(contact=addresses))
    assert [one["sid"] for one in result["executions"]] == [one.sid for one in reversed(newest_first)]
    assert other.status == "active"
    assert [request.method for request in studio.requests].count("GET") == 1


@pytest.mark.parametrize("trigger", IN_TRIGGER)
@pytest.mark.parametrize("contact", [CONTACT, ["+15005550001", CONTACT]])
def test_a_dry_run_ends_nothing_and_says_what_it_would(
    function: Function, studio: Studio, bus: EventBridge, trigger: str, contact: Any
) -> None:
    """In the result and the log line; no metric of an outcome, no outcome event."""
    execution = studio.seed(FLOW_SID, contact=CONTACT, date_created=datetime(2026, 3, 1, tzinfo=UTC))
    body = command(contact=contact, dry_run=True)
    result = function(IN_TRIGGER[trigger](body))
    if trigger == "sqs":
        assert result == {"batchItemFailures": []}
    else:
        result = json.loads(result["body"]) if trigger == "http" else result
        (one,) = result.pop("executions")
        assert result == {"flow_sid": FLOW_SID, "dry_run": True}
        dates = {"date_created": "2026-03-01T00:00:00Z", "date_updated": one["date_updated"]}
        assert one == {"sid": execution.sid, "status": "active"} | dates
    assert execution.status == "active"
    assert {request.method for request in studio.requests} == {"GET"}
    (line,) = function.logs
    assert (line["message"], line["level"], line["would_end"]) == ("dry_run", "INFO", 1)
    assert (line["execution_sids"], line["dry_run"]) == ([execution.sid], True)
    assert not function.metrics
    assert not bus.calls


def test_a_dry_run_that_finds_nothing_says_what_is_near(function: Function, studio: Studio) -> None:
    """Support asks whether a customer is stuck: under another address, perhaps."""
    studio.seed(FLOW_SID, contact="whatsapp:" + CONTACT)
    result = function(command(dry_run=True))
    assert result == {"flow_sid": FLOW_SID, "dry_run": True, "executions": [], "near": ["channel"]}
    (line,) = function.logs
    told = {"message": "dry_run", "active": 1, "would_end": 0, "near": ["channel"]}
    assert line.items() >= told.items()
    assert not function.metrics


@pytest.mark.parametrize("status", ["active", "ended"])
def test_a_dry_run_of_an_execution_asks_for_it(function: Function, studio: Studio, status: str) -> None:
    """One request; its own status and dates."""
    execution = studio.seed(FLOW_SID, status=status)
    result = function({"flow_sid": FLOW_SID, "execution_sid": execution.sid, "dry_run": True})
    (one,) = result["executions"]
    assert (one["sid"], one["status"], result["dry_run"]) == (execution.sid, status, True)
    assert [request.method for request in studio.requests] == ["GET"]
    assert execution.status == status
    assert function.logs[0]["would_end"] == (status == "active")


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ({}, "execution_not_found", 404),
        ({"status": 403}, "credentials_rejected", 502),
        ({"status": 200, "body": "{}"}, "twilio_error", 502),
    ],
)
def test_a_failed_dry_run_is_answered_and_not_counted(
    function: Function, studio: Studio, bus: EventBridge, fault: dict[str, Any], code: str, status: int
) -> None:
    """With the same codes as a real run; no outcome event."""
    if fault:
        studio.fail(times=None, **fault)
    body = {"flow_sid": FLOW_SID, "execution_sid": "FN" + "9" * 32, "dry_run": True}
    assert status_and_code(function(in_http(body))) == (status, code)
    (line,) = function.logs
    assert (line["message"], line["code"]) == ("dry_run", code)
    assert not function.metrics
    assert not bus.calls


def test_what_ended_since_the_list_would_not_be_ended(function: Function, studio: Studio) -> None:
    """A dry run looks at each Execution that it lists."""
    execution = studio.seed(FLOW_SID, contact=CONTACT)
    studio.before = lambda request: (
        execution.sid in request.path and studio.executions.end(FLOW_SID, execution.sid)
    )
    assert function(command(dry_run=True))["executions"] == []
