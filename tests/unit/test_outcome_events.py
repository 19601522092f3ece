"""Outcome events: the sender of a command learns what became of it, once that is final."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import (
    FLOW_SID,
    IN_TRIGGER,
    OUTCOME_BUS,
    EventBridge,
    Function,
    SecretsManager,
    Sqs,
    in_eventbridge,
    in_http,
    in_sqs,
    sample,
)
from jsonschema import Draft4Validator

from end_conversation import app, invocation
from end_conversation.aws import clients as aws
from end_conversation.aws import events
from end_conversation.errors import EndConversationError
from end_conversation.triggers import http_api
from end_conversation.triggers.responses import STATUS
from end_conversation.webhooks import verifier
from local.aws import Aws
from local.studio import Studio

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/outcome-events.schema.json").read_text())
CONTACT = "whatsapp:+15005550077"
REASON = "not-for-anybody-else"
GONE = "FN" + "9" * 32
OTHER_FLOW = "FW" + "8" * 32
WEBHOOK_SECRET_ID = "end-conversation/webhooks"
TOKEN = "not-a-real-token-of-the-crm"
CRM = {
    "verify": {"type": "token"},
    "keys": [TOKEN],
    "each": "events",
    "command": {"flow_sid": f"'{FLOW_SID}'", "contact": "phone", "conversation_id": "id"},
}
POISON = "not json"


@pytest.fixture(autouse=True)
def bus(outcome_bus: EventBridge, studio: Studio) -> Iterator[EventBridge]:
    """Every event matches the schema, and has nothing personal in it."""
    studio.executions.add_flow(FLOW_SID)
    yield outcome_bus
    for event in outcome_bus.events:
        assert [error.message for error in Draft4Validator(SCHEMA).iter_errors(event)] == []
        text = json.dumps(event)
        assert CONTACT not in text
        assert REASON not in text


@pytest.fixture
def crm(environment: pytest.MonkeyPatch, secrets_manager: SecretsManager) -> None:
    """A source whose webhook carries several events."""
    environment.setenv("WEBHOOK_SECRET_ID", WEBHOOK_SECRET_ID)
    secrets_manager.aws.put_secret(WEBHOOK_SECRET_ID, json.dumps({"sources": {"crm": CRM}}))
    verifier._verifier_of.cache_clear()


def by_crm(*contacts: str, token: str = TOKEN) -> dict[str, Any]:
    """The source's webhook about these contacts."""
    event: dict[str, Any] = sample("source-salesforce") | {"pathParameters": {"source": "crm"}}
    told = [{"phone": contact, "id": f"case-{n}"} for n, contact in enumerate(contacts)]
    event["headers"] = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    return event | {"body": json.dumps({"events": told})}


def of(studio: Studio, **more: Any) -> dict[str, Any]:
    """A command about an active Execution, with everything that it may have."""
    execution = studio.seed(FLOW_SID, contact=CONTACT)
    given = {"flow_sid": FLOW_SID, "execution_sid": execution.sid, "reason": REASON}
    return given | {"conversation_id": "case-1", "occurred_at": "2026-03-02T09:41:07Z"} | more


def published(bus: EventBridge) -> list[tuple[str, dict[str, Any]]]:
    """Detail type and detail of each event."""
    return [(event["detail-type"], event["detail"]) for event in bus.events]


def invoke(function: Function, event: Any) -> Any:
    """What the function answers, or the code of the error that it raises."""
    try:
        return function(event)
    except EndConversationError as error:
        return error.code


@pytest.mark.parametrize("trigger", IN_TRIGGER)
def test_a_success_is_an_event(function: Function, studio: Studio, bus: EventBridge, trigger: str) -> None:
    """By every trigger: one ConversationEnded, with what the sender needs to recognise it.

    What had ended before the request is counted in `already_ended`.
    """
    command = of(studio)
    for already_ended in (0, 1):
        function(IN_TRIGGER[trigger](command))
        assert published(bus)[already_ended:] == [
            (
                "ConversationEnded",
                {
                    "flow_sid": FLOW_SID,
                    "conversation_id": "case-1",
                    "trigger": trigger,
                    "occurred_at": "2026-03-02T09:41:07Z",
                    "executions": [{"sid": command["execution_sid"], "status": "ended"}],
                    "already_ended": already_ended,
                },
            )
        ]
    assert {(entry["Source"], entry["EventBusName"]) for entry in bus.entries} == {
        ("end-conversation", OUTCOME_BUS)
    }


def test_a_contacts_failures_are_listed(function: Function, studio: Studio, bus: EventBridge) -> None:
    """What was ended and what was not, each with its code."""
    sids = {studio.seed(FLOW_SID, contact=CONTACT).sid for _ in range(3)}
    studio.fail(method="POST", status=400, times=2)
    event = in_http({"flow_sid": FLOW_SID, "contact": CONTACT}, at=datetime.now(UTC))
    assert function(event)["statusCode"] == 502
    ((kind, detail),) = published(bus)
    assert (kind, detail["code"]) == ("ConversationNotEnded", "twilio_error")
    assert [one["code"] for one in detail["failed"]] == ["twilio_error"] * 2
    assert {one["sid"] for one in (*detail["failed"], *detail["executions"])} == sids


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 503}, "twilio_error"),
        ({"status": 429, "headers": {"Retry-After": "3600"}}, "twilio_throttled"),
        ({"status": 403}, "credentials_rejected"),
        ({"status": 404}, "execution_not_found"),
    ],
)
@pytest.mark.parametrize("trigger", IN_TRIGGER)
def test_a_failure_is_an_event_where_it_is_final(
    function: Function,
    studio: Studio,
    bus: EventBridge,
    dead_letters: Sqs,
    trigger: str,
    fault: Any,
    code: str,
) -> None:
    """HTTP: always, since only the caller may try again. EventBridge and SQS: if it can never succeed.

    A direct caller has the answer, so no event is published.
    """
    command = of(studio)
    studio.fail(**fault, times=None)
    invoke(function, IN_TRIGGER[trigger](command))
    is_permanent = code == "execution_not_found"
    is_final = {"http": True, "direct": False}.get(trigger, is_permanent)
    told = [(kind, detail["code"], detail["failed"]) for kind, detail in published(bus)]
    event = ("ConversationNotEnded", code, [{"sid": command["execution_sid"], "code": code}])
    assert told == [event] * is_final
    assert len(dead_letters.messages) == (trigger == "sqs" and is_permanent)


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "{}", "7", POISON + CONTACT, '{"contact": ["+15005550077"]}']
)
@pytest.mark.parametrize("trigger", ["http", "sqs"])
def test_of_an_invalid_command_only_the_code_is_published(
    function: Function, bus: EventBridge, dead_letters: Sqs, trigger: str, body: str
) -> None:
    """And nothing of its content."""
    function(IN_TRIGGER[trigger](body))
    assert published(bus) == [("ConversationNotEnded", {"trigger": trigger, "code": "invalid_request"})]


def test_an_accounts_outcome_names_it(function: Function, bus: EventBridge) -> None:
    """Where the command did, and also where its secret is missing."""
    function.setenv("TWILIO_ACCOUNT_SECRET_PREFIX", "end-conversation/twilio/")
    sid = "AC" + "7" * 32
    function(in_http({"flow_sid": FLOW_SID, "contact": CONTACT, "account_sid": sid}))
    ((_, detail),) = published(bus)
    assert (detail["account_sid"], detail["code"]) == (sid, "credentials_unavailable")


def test_the_schema_knows_every_code() -> None:
    """All but those that unauthenticated senders get, and that of a command that is not queued."""
    unpublished = {"invalid_signature", "not_found", "method_not_allowed", "queue_unavailable"}
    assert set(SCHEMA["definitions"]["code"]["enum"]) == {kind.code for kind in STATUS} - unpublished


def test_unauthenticated_requests_publish_nothing(function: Function, bus: EventBridge, crm: None) -> None:
    """No such route, another method, unsigned, an unknown source."""
    wrong_method = in_http("{}")
    wrong_method["requestContext"]["http"]["method"] = "GET"
    unsigned = in_http("{}") | {"routeKey": "POST /webhooks/conversation-ended"}
    unknown = by_crm(CONTACT) | {"pathParameters": {"source": "nobody"}}
    statuses = [
        function(event)["statusCode"]
        for event in (in_http("{}") | {"routeKey": "$default"}, wrong_method, unsigned, unknown)
    ]
    assert statuses == [404, 405, 401, 401]
    assert not bus.calls


def test_a_sources_outcomes_name_it(function: Function, bus: EventBridge, crm: None) -> None:
    """Each of its events has an outcome of its own, all in one call."""
    function(by_crm("+15005550001", "", "+15005550003"))
    told = [(kind, detail.get("conversation_id"), detail.get("code")) for kind, detail in published(bus)]
    assert sorted(told, key=str) == [
        ("ConversationEnded", "case-0", None),
        ("ConversationEnded", "case-2", None),
        ("ConversationNotEnded", None, "invalid_request"),
    ]
    assert {(detail["trigger"], detail["source"]) for _, detail in published(bus)} == {("webhook", "crm")}
    assert len(bus.puts) == 1


def test_an_ignored_event_has_no_outcome(function: Function, bus: EventBridge, crm: None) -> None:
    """It is not a command."""
    ignoring = {"sources": {"crm": CRM | {"when": "closed"}}}
    function.secrets_manager.aws.put_secret(WEBHOOK_SECRET_ID, json.dumps(ignoring))
    assert json.loads(function(by_crm(CONTACT))["body"]) == {"status": "ignored"}
    assert not bus.calls


@pytest.fixture
def commands(environment: pytest.MonkeyPatch, dead_letters: Sqs, moto: Aws) -> Sqs:
    """The queue for commands that are carried out later."""
    queue = Sqs(moto, "commands")
    environment.setenv("QUEUE_URL", queue.url)
    return queue


def test_an_accepted_command_has_its_outcome_later(
    function: Function, studio: Studio, bus: EventBridge, commands: Sqs
) -> None:
    """The queue's message has it; acceptance has none."""
    headers = {"content-type": "application/json", "prefer": "respond-async"}
    assert function(in_http(of(studio), headers=headers))["statusCode"] == 202
    assert not bus.calls
    function(in_sqs(commands.bodies[0]))
    ((kind, detail),) = published(bus)
    assert (kind, detail["trigger"], detail["conversation_id"]) == ("ConversationEnded", "sqs", "case-1")


@pytest.mark.parametrize("fault", [{"code": "AccessDeniedException"}, {"delay": 20, "carried_out": True}])
def test_a_queueing_that_is_not_confirmed_publishes_nothing(
    function: Function, bus: EventBridge, commands: Sqs, crm: None, fault: dict[str, Any]
) -> None:
    """The sender has the error, and the command may be in the queue, which will have the outcome."""
    function.patch(http_api, "QUEUEING_LIMIT", 0.5)
    commands.fail(**fault)
    assert function(by_crm("+15005550001", "+15005550002"))["statusCode"] == 503
    assert not bus.calls


@pytest.mark.parametrize("is_queue", [True, False])
def test_a_message_that_is_not_moved_is_not_final(
    function: Function, bus: EventBridge, dead_letters: Sqs, *, is_queue: bool
) -> None:
    """The move fails, or there is no dead-letter queue: the message comes again, until SQS moves it."""
    dead_letters.fail(code="AccessDeniedException")
    function.setenv("DEAD_LETTER_QUEUE_URL", dead_letters.url if is_queue else "")
    assert function(in_sqs(POISON))["batchItemFailures"]
    assert not bus.calls


@pytest.mark.parametrize(("events", "calls"), [(10, [10]), (25, [10, 10, 5])])
def test_as_few_calls_as_possible(
    function: Function, bus: EventBridge, crm: None, events: int, calls: list[int]
) -> None:
    """Ten entries fit into one PutEvents."""
    assert function(by_crm(*["+15005550001"] * events))["statusCode"] == 200
    assert [len(entries) for entries in bus.puts] == calls


def test_a_call_is_no_larger_than_eventbridge_takes(function: Function, bus: EventBridge, crm: None) -> None:
    """256 KB for all entries together; here it is less, so that a test can fill it."""
    function.patch(events, "MAX_BYTES", 1000)
    assert function(by_crm(*["+15005550001"] * 10))["statusCode"] == 200
    sizes = [
        sum(len(entry[key].encode()) for entry in entries for key in ("Source", "DetailType", "Detail"))
        for entries in bus.puts
    ]
    assert len(bus.entries) == 10
    assert max(sizes) <= 1000
    assert len(sizes) < 10


def test_the_largest_outcome_fits(function: Function, studio: Studio, bus: EventBridge) -> None:
    """A contact with thousands of Executions: the list is cut, the event is published."""
    for _ in range(1100):
        studio.seed(FLOW_SID, contact=CONTACT)
    function({"flow_sid": FLOW_SID, "contact": CONTACT, "conversation_id": "\U0001f4de" * 128}, seconds=50)
    ((kind, detail),) = published(bus)
    assert (kind, len(detail["executions"])) == ("ConversationEnded", 1000)
    assert len(bus.entries[0]["Detail"]) < 256 * 1024


def not_published(function: Function, number: int = 1) -> str:
    """The reason of the line about outcomes that were not published, which are counted."""
    assert function.metrics["OutcomesNotPublished"] == number
    (line,) = [line for line in function.logs if line["message"] == "outcome_not_published"]
    assert (line["level"], line["outcomes"]) == ("ERROR", number)
    assert line["function_request_id"]
    return str(line["detail"])


@pytest.mark.parametrize(
    ("fault", "detail", "calls"),
    [
        ({"code": "AccessDeniedException"}, "AccessDeniedException", 2),
        ({"code": "InternalFailure", "status": 500}, "InternalFailure", 2),
        ({"code": "ThrottlingException"}, "ThrottlingException", 2),
        ({"status": 200, "body": "{}"}, "KeyError", 2),
        ({"status": 200, "body": '{"Entries": []}'}, "ValueError", 2),
        ({"status": 200, "body": '{"Entries": null}'}, "KeyError", 2),
        ({"delay": 20.0}, "TimeoutError", 1),
        ({"delay": 20.0, "carried_out": True}, "TimeoutError", 1),
        ({"broken": "drip", "interval": 0.4}, "TimeoutError", 1),
    ],
    ids=str,
)
def test_an_eventbridge_in_trouble_changes_nothing(
    function: Function, studio: Studio, bus: EventBridge, fault: dict[str, Any], detail: str, calls: int
) -> None:
    """It is tried once more if there is time, then logged and counted; the command's answer is the same."""
    function.patch(invocation, "PUBLISHING_LIMIT", 60)
    function(of(studio))
    bus.fail(**fault)
    command = of(studio)
    assert function(command, seconds=2.5)["executions"][0]["sid"] == command["execution_sid"]
    assert not_published(function) == detail
    assert len(bus.calls) - 1 == calls
    assert function.metrics["ExecutionsEnded"] == 1


def test_a_slow_eventbridge_delays_an_answer_by_a_few_seconds_at_most(
    function: Function, studio: Studio, bus: EventBridge
) -> None:
    """However much time there is: HTTP callers wait for it."""
    bus.fail(broken="drip", interval=0.4)
    began = time.monotonic()
    assert function(of(studio), seconds=30)["executions"]
    assert time.monotonic() - began < aws.CALL_LIMIT
    not_published(function)


def test_a_failure_stays_a_failure(function: Function, studio: Studio) -> None:
    """An error of publishing does not hide it; here nothing listens on the port."""
    function.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", "http://127.0.0.1:9")
    command = of(studio)
    studio.fail(status=404)
    assert invoke(function, in_eventbridge(command)) == "execution_not_found"
    assert not_published(function) == "EndpointConnectionError"


def outcomes(taken: str) -> dict[str, Any]:
    """EventBridge's answer: which of the entries it has taken (y), and which not (n)."""
    refusal = {"ErrorCode": "InternalFailure", "ErrorMessage": "for now"}
    entries = [{"EventId": str(n)} if each == "y" else refusal for n, each in enumerate(taken)]
    return {"status": 200, "body": json.dumps({"FailedEntryCount": taken.count("n"), "Entries": entries})}


@pytest.mark.parametrize(
    ("answers", "again", "lost"),
    [
        (["yyynyyynyy"], [3, 7], 0),
        (["nyyyyyyyyn", "nn"], [0, 9], 2),
    ],
)
def test_entries_that_fail_are_tried_once_more(
    function: Function, studio: Studio, bus: EventBridge, answers: list[str], again: list[int], lost: int
) -> None:
    """Only these, so none is published twice; what fails again is one log line and counted."""
    for taken in answers:
        bus.fail(times=1, **outcomes(taken))
    commands = [of(studio, execution_sid=studio.seed(FLOW_SID).sid) for _ in range(10)]
    assert not function(in_sqs(*commands))["batchItemFailures"]
    first, second = bus.puts
    assert second == [first[n] for n in again]
    assert len(published(bus)) == 10 - lost
    assert function.metrics.get("OutcomesNotPublished", 0) == lost
    if lost:
        assert not_published(function, lost) == "InternalFailure"


@pytest.fixture
def clients(environment: pytest.MonkeyPatch) -> list[str]:
    """The services that clients are made for."""
    made: list[str] = []
    make = boto3.client
    environment.setattr(
        aws.boto3, "client", lambda service, **more: made.append(service) or make(service, **more)
    )
    return made


@pytest.mark.parametrize(
    ("setting", "wrap"),
    [("", in_http), (" ", in_sqs), ("", IN_TRIGGER["direct"]), (OUTCOME_BUS, lambda _: in_sqs(POISON))],
)
def test_without_an_event_to_publish_there_is_no_client(
    function: Function, studio: Studio, clients: list[str], setting: str, wrap: Any
) -> None:
    """Without a bus, or for a message that comes again, no client of EventBridge is made."""
    function.setenv("OUTCOME_EVENT_BUS", setting)
    function(wrap(of(studio)))
    assert "events" not in clients


@pytest.mark.parametrize("setting", ["", OUTCOME_BUS])
def test_the_client_is_made_at_start(
    environment: pytest.MonkeyPatch, clients: list[str], setting: str
) -> None:
    """Where there is a bus: not in the second that is kept for publishing."""
    environment.setenv("OUTCOME_EVENT_BUS", setting)
    app._start("on-demand")
    assert clients.count("events") == bool(setting)


def test_a_second_is_kept_for_publishing(function: Function, studio: Studio, bus: EventBridge) -> None:
    """A Twilio that hangs until the work's time is over leaves enough to publish the outcome."""
    function(of(studio))
    studio.fail(broken="hang", times=None)
    assert function(in_http(of(studio)), seconds=3.0)["statusCode"] == 504
    assert [detail.get("code") for _, detail in published(bus)] == [None, "twilio_timeout"]


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_sweep_publishes_its_result(
    sweep: Function, studio: Studio, bus: EventBridge, *, dry_run: bool
) -> None:
    """One SweepFinished, and no event for each Execution."""
    for _ in range(3):
        studio.seed(FLOW_SID)
    result = sweep({"flow_sids": [FLOW_SID, OTHER_FLOW], "older_than_minutes": 0, "dry_run": dry_run})
    assert published(bus) == [("SweepFinished", result)]
    assert result["flows"][1]["error"] == "execution_not_found"


def test_the_largest_sweep_fits(sweep: Function, studio: Studio, bus: EventBridge) -> None:
    """A dry run of a thousand Flows: the event lists fewer of the oldest than the result."""
    flows = [f"FW{n:032x}" for n in range(1000)]
    for flow_sid in flows * 2:
        studio.seed(flow_sid)
    result = sweep({"flow_sids": flows, "older_than_minutes": 0, "dry_run": True}, seconds=50)
    assert {len(flow["oldest"]) for flow in result["flows"]} == {2}
    ((_, detail),) = published(bus)
    assert {len(flow["oldest"]) for flow in detail["flows"]} == {1}
    assert len(bus.entries[0]["Detail"]) < 256 * 1024


def test_a_sweep_that_raises_publishes_nothing(sweep: Function, bus: EventBridge) -> None:
    """There is no result."""
    assert invoke(sweep, {"flow_sids": ["FW"]}) == "invalid_request"
    assert not bus.calls


def test_a_sweep_with_a_bus_that_refuses(sweep: Function, bus: EventBridge) -> None:
    """Its result is returned."""
    bus.fail(code="AccessDeniedException")
    assert sweep({"flow_sids": [FLOW_SID]})["complete"]
    not_published(sweep)
