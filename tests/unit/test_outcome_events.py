"""Outcome events: whoever sent a command learns what became of it, once that is final."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import FLOW_SID, SECRET_ID, EventBridge, Function, SecretsManager, Sqs, sample
from jsonschema import Draft4Validator

from end_conversation import app, sweep
from end_conversation.aws import clients as aws
from end_conversation.aws import events
from end_conversation.errors import EndConversationError
from end_conversation.triggers.http_api import STATUS
from end_conversation.twilio import account as account_module
from end_conversation.webhooks import verifier
from local.aws import Aws
from local.studio import Studio

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/outcome-events.schema.json").read_text())
BUS = "end-conversation-outcomes"
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
def bus(environment: pytest.MonkeyPatch, studio: Studio, moto: Aws) -> Iterator[EventBridge]:
    """The bus of OUTCOME_EVENT_BUS; no try waits long for the next."""
    environment.setattr(account_module, "BACKOFF", 0.001)
    studio.executions.add_flow(FLOW_SID)
    bus = EventBridge(moto, BUS)
    environment.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", moto.url)
    environment.setenv("OUTCOME_EVENT_BUS", BUS)
    yield bus
    for event in bus.events:
        assert [error.message for error in Draft4Validator(SCHEMA).iter_errors(event)] == []
        text = json.dumps(event)
        assert CONTACT not in text
        assert REASON not in text


@pytest.fixture
def sqs(environment: pytest.MonkeyPatch, moto: Aws) -> Sqs:
    dead_letters = Sqs(moto, "dead-letters")
    Sqs(moto, "commands")
    environment.setenv("AWS_ENDPOINT_URL_SQS", moto.url)
    environment.setenv("DEAD_LETTER_QUEUE_URL", dead_letters.url)
    return dead_letters


@pytest.fixture
def crm(environment: pytest.MonkeyPatch, secrets_manager: SecretsManager) -> None:
    """A source whose webhook carries several events."""
    environment.setenv("WEBHOOK_SECRET_ID", WEBHOOK_SECRET_ID)
    secrets_manager.aws.put_secret(WEBHOOK_SECRET_ID, json.dumps({"sources": {"crm": CRM}}))
    verifier._verifier_of.cache_clear()


def by_http(command: Any) -> dict[str, Any]:
    return sample("http") | {"body": command if isinstance(command, str) else json.dumps(command)}


def by_crm(*contacts: str, token: str = TOKEN) -> dict[str, Any]:
    """The source's webhook about these contacts."""
    event: dict[str, Any] = sample("source-salesforce") | {"pathParameters": {"source": "crm"}}
    told = [{"phone": contact, "id": f"case-{n}"} for n, contact in enumerate(contacts)]
    event["headers"] = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    return event | {"body": json.dumps({"events": told})}


def by_eventbridge(command: Any) -> dict[str, Any]:
    event: dict[str, Any] = sample("eventbridge")
    return event | {"detail": command}


def by_sqs(*bodies: Any) -> dict[str, Any]:
    record = sample("sqs")["Records"][0]
    texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
    return {"Records": [record | {"messageId": f"m{n}", "body": text} for n, text in enumerate(texts)]}


def of(studio: Studio, **more: Any) -> dict[str, Any]:
    """A command about an active Execution, with everything that it may have."""
    execution = studio.seed(FLOW_SID, contact=CONTACT)
    given = {"flow_sid": FLOW_SID, "execution_sid": execution.sid, "reason": REASON}
    return given | {"conversation_id": "case-1", "occurred_at": "2026-03-02T09:41:07Z"} | more


def published(bus: EventBridge) -> list[tuple[str, dict[str, Any]]]:
    """Detail type and detail of each event."""
    return [(event["detail-type"], event["detail"]) for event in bus.events]


def invoke(function: Function, event: Any, seconds: float = 10.0) -> Any:
    """What the function answers, or the code of the error that it raises."""
    try:
        return function(event, seconds)
    except EndConversationError as error:
        return error.code


@pytest.mark.parametrize(
    ("trigger", "wrap"),
    [
        ("http", by_http),
        ("eventbridge", by_eventbridge),
        ("sqs", by_sqs),
        ("direct", lambda command: command),
    ],
)
def test_a_success_is_an_event(
    function: Function, studio: Studio, bus: EventBridge, trigger: str, wrap: Any
) -> None:
    """By every trigger: one ConversationEnded, with what the sender needs to recognise it."""
    command = of(studio)
    invoke(function, wrap(command))
    assert published(bus) == [
        (
            "ConversationEnded",
            {
                "flow_sid": FLOW_SID,
                "conversation_id": "case-1",
                "trigger": trigger,
                "occurred_at": "2026-03-02T09:41:07Z",
                "executions": [{"sid": command["execution_sid"], "status": "ended"}],
                "already_ended": 0,
            },
        )
    ]
    (entry,) = bus.entries
    assert (entry["Source"], entry["EventBusName"]) == ("end-conversation", BUS)


@pytest.mark.parametrize(
    "bus_name", ["default", "arn:aws:events:eu-central-1:123456789012:event-bus/partner/brand.one"]
)
def test_the_bus_is_a_name_or_an_arn(
    function: Function, environment: pytest.MonkeyPatch, studio: Studio, bus: EventBridge, bus_name: str
) -> None:
    """As the setting has it."""
    environment.setenv("OUTCOME_EVENT_BUS", bus_name)
    function(of(studio))
    assert bus.puts[0][0]["EventBusName"] == bus_name


def test_what_had_ended_before_is_told_apart(function: Function, studio: Studio, bus: EventBridge) -> None:
    """A success, counted in already_ended."""
    command = of(studio)
    studio.executions.end(FLOW_SID, command["execution_sid"])
    function(command)
    ((kind, detail),) = published(bus)
    assert (kind, detail["already_ended"], len(detail["executions"])) == ("ConversationEnded", 1, 1)


def test_a_contact_with_nothing_active_is_a_success(function: Function, bus: EventBridge) -> None:
    """Without an Execution, and without the contact."""
    function({"flow_sid": FLOW_SID, "contact": CONTACT})
    ((kind, detail),) = published(bus)
    assert (kind, detail["executions"]) == ("ConversationEnded", [])


def test_a_contacts_failures_are_listed(function: Function, studio: Studio, bus: EventBridge) -> None:
    """What was ended and what was not, each with its code."""
    sids = {studio.seed(FLOW_SID, contact=CONTACT).sid for _ in range(3)}
    studio.fail(method="POST", status=400)
    studio.fail(method="POST", status=400)
    studio.fail(method="GET")
    studio.fail(method="GET", status=400, times=None)
    answer = function(by_http({"flow_sid": FLOW_SID, "contact": CONTACT}) | {"requestContext": recent()})
    assert answer["statusCode"] == 502
    ((kind, detail),) = published(bus)
    assert (kind, detail["code"]) == ("ConversationNotEnded", "twilio_error")
    assert {one["code"] for one in detail["failed"]} == {"twilio_error"}
    assert len(detail["failed"]) == 2
    assert {one["sid"] for one in (*detail["failed"], *detail["executions"])} == sids


def recent() -> dict[str, Any]:
    """A request that came just now."""
    context: dict[str, Any] = sample("http")["requestContext"]
    return context | {"timeEpoch": int(time.time() * 1000)}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 503}, "twilio_error"),
        ({"status": 429}, "twilio_throttled"),
        ({"status": 403}, "credentials_rejected"),
        ({"status": 404}, "execution_not_found"),
    ],
)
def test_an_http_caller_is_told_and_an_event_is_published(
    function: Function, studio: Studio, bus: EventBridge, fault: dict[str, Any], code: str
) -> None:
    """Whatever the failure: nobody but the caller will try again."""
    command = of(studio)
    studio.fail(**fault, times=None)
    assert json.loads(function(by_http(command))["body"])["code"] == code
    ((kind, detail),) = published(bus)
    assert (kind, detail["code"], detail["trigger"]) == ("ConversationNotEnded", code, "http")
    assert detail["failed"] == [{"sid": command["execution_sid"], "code": code}]


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"flow_sid": 7}'])
def test_a_request_of_somebody_known_that_is_no_command(
    function: Function, bus: EventBridge, body: str
) -> None:
    """Its code, and nothing of its content."""
    function(by_http(body))
    assert published(bus) == [("ConversationNotEnded", {"trigger": "http", "code": "invalid_request"})]


def test_another_media_type_is_told(function: Function, bus: EventBridge) -> None:
    """Like any other request that the caller was told about."""
    function(by_http("{}") | {"headers": {"content-type": "text/plain"}})
    assert published(bus) == [("ConversationNotEnded", {"trigger": "http", "code": "unsupported_media_type"})]


def test_a_flow_that_is_not_allowed_is_told(
    function: Function, environment: pytest.MonkeyPatch, studio: Studio, bus: EventBridge
) -> None:
    """With the command's own fields, since it is one."""
    environment.setenv("ALLOWED_FLOW_SIDS", OTHER_FLOW)
    function(by_http(of(studio)))
    ((kind, detail),) = published(bus)
    assert (kind, detail["code"], detail["conversation_id"]) == (
        "ConversationNotEnded",
        "flow_not_allowed",
        "case-1",
    )


def test_the_schema_knows_every_code() -> None:
    """All but those that nobody known gets."""
    unpublished = {"invalid_signature", "not_found", "method_not_allowed", "queue_unavailable"}
    assert set(SCHEMA["definitions"]["code"]["enum"]) == {kind.code for kind in STATUS} - unpublished


def test_nobody_known_publishes_nothing(function: Function, bus: EventBridge, crm: None) -> None:
    """No such route, another method, unsigned, an unknown source."""
    wrong_method = by_http("{}")
    wrong_method["requestContext"]["http"]["method"] = "GET"
    unsigned = by_http("{}") | {"routeKey": "POST /webhooks/conversation-ended"}
    unknown = by_crm(CONTACT) | {"pathParameters": {"source": "nobody"}}
    statuses = [
        function(event)["statusCode"]
        for event in (by_http("{}") | {"routeKey": "$default"}, wrong_method, unsigned, unknown)
    ]
    assert statuses == [404, 405, 401, 401]
    assert not bus.calls


def test_a_sources_outcomes_name_it(function: Function, studio: Studio, bus: EventBridge, crm: None) -> None:
    """Each of its events has an outcome of its own, all in one call."""
    contacts = ["+15005550001", "", "+15005550003"]
    function(by_crm(*contacts))
    told = [(kind, detail.get("conversation_id"), detail.get("code")) for kind, detail in published(bus)]
    assert sorted(told, key=str) == [
        ("ConversationEnded", "case-0", None),
        ("ConversationEnded", "case-2", None),
        ("ConversationNotEnded", None, "invalid_request"),
    ]
    assert {(detail["trigger"], detail["source"]) for _, detail in published(bus)} == {("webhook", "crm")}
    assert len(bus.puts) == 1


def test_an_ignored_event_has_no_outcome(
    function: Function, secrets_manager: SecretsManager, bus: EventBridge, crm: None
) -> None:
    """It was no command."""
    secrets_manager.aws.put_secret(
        WEBHOOK_SECRET_ID, json.dumps({"sources": {"crm": CRM | {"when": "closed"}}})
    )
    assert json.loads(function(by_crm(CONTACT))["body"]) == {"status": "ignored"}
    assert not bus.calls


def test_an_accepted_command_has_its_outcome_later(
    function: Function, environment: pytest.MonkeyPatch, studio: Studio, bus: EventBridge, sqs: Sqs
) -> None:
    """None at acceptance; then that of the queue's message."""
    environment.setenv("QUEUE_URL", sqs.url.replace("dead-letters", "commands"))
    event = by_http(of(studio))
    event["headers"] |= {"prefer": "respond-async"}
    assert function(event)["statusCode"] == 202
    assert not bus.calls
    function(by_sqs(sqs.bodies[0]))
    ((kind, detail),) = published(bus)
    assert (kind, detail["trigger"], detail["conversation_id"]) == ("ConversationEnded", "sqs", "case-1")


@pytest.mark.parametrize(
    "fault",
    [{"code": "AccessDeniedException"}, {"code": "InternalFailure", "status": 500, "carried_out": True}],
)
def test_a_queueing_that_is_not_confirmed_publishes_nothing(
    function: Function,
    environment: pytest.MonkeyPatch,
    bus: EventBridge,
    sqs: Sqs,
    crm: None,
    fault: dict[str, Any],
) -> None:
    """The sender was told, and the command may be in the queue: its outcome would contradict this one."""
    environment.setenv("QUEUE_URL", sqs.url.replace("dead-letters", "commands"))
    sqs.fail(**fault)
    assert function(by_crm("+15005550001", "+15005550002"))["statusCode"] == 503
    assert not bus.calls


def test_an_invalid_event_does_not_speak_in_anothers_name(
    function: Function, environment: pytest.MonkeyPatch, bus: EventBridge, sqs: Sqs, crm: None
) -> None:
    """The outcome of the one that is no command says nothing of the valid one before it."""
    environment.setenv("QUEUE_URL", sqs.url.replace("dead-letters", "commands"))
    assert function(by_crm("+15005550001", ""))["statusCode"] == 400
    assert published(bus) == [
        ("ConversationNotEnded", {"trigger": "webhook", "source": "crm", "code": "invalid_request"})
    ]


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 404}])
def test_a_direct_caller_is_told_and_no_event_is_published(
    function: Function, studio: Studio, bus: EventBridge, fault: dict[str, Any]
) -> None:
    """A failure is for the caller alone."""
    command = of(studio)
    studio.fail(**fault, times=None)
    assert isinstance(invoke(function, command), str)
    assert not bus.calls


@pytest.mark.parametrize(
    ("fault", "is_final"),
    [({"status": 404}, True), ({"status": 503}, False), ({"status": 403}, False), ({"status": 429}, False)],
)
def test_an_eventbridge_events_failure_is_final_if_it_can_never_succeed(
    function: Function, studio: Studio, bus: EventBridge, fault: dict[str, Any], *, is_final: bool
) -> None:
    """Otherwise Lambda tries again."""
    command = of(studio)
    studio.fail(**fault, times=None)
    assert isinstance(invoke(function, by_eventbridge(command)), str)
    assert [kind for kind, _ in published(bus)] == ["ConversationNotEnded"] * is_final


def test_a_record_that_fails_twice_and_then_succeeds(
    function: Function, studio: Studio, bus: EventBridge, sqs: Sqs
) -> None:
    """One event, at the end."""
    event = by_sqs(of(studio))
    for fault in ({"status": 503}, {"status": 429, "headers": {"Retry-After": "3600"}}):
        studio.fail(**fault, times=4)
        assert function(event)["batchItemFailures"]
        assert not bus.calls
        studio.faults.clear()
    assert not function(event)["batchItemFailures"]
    assert [kind for kind, _ in published(bus)] == ["ConversationEnded"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"flow_sid": FLOW_SID, "execution_sid": GONE, "conversation_id": "c"}, "execution_not_found"),
        ({"flow_sid": OTHER_FLOW, "execution_sid": GONE, "conversation_id": "c"}, "flow_not_allowed"),
    ],
)
def test_a_record_that_is_dead_lettered_at_once(
    function: Function,
    environment: pytest.MonkeyPatch,
    bus: EventBridge,
    sqs: Sqs,
    body: dict[str, str],
    code: str,
) -> None:
    """One event with its code, by which its sender recognises it."""
    environment.setenv("ALLOWED_FLOW_SIDS", FLOW_SID)
    assert not function(by_sqs(body))["batchItemFailures"]
    ((kind, detail),) = published(bus)
    assert (kind, detail["code"], detail["conversation_id"]) == ("ConversationNotEnded", code, "c")
    assert detail["failed"] == [{"sid": GONE, "code": code}]
    assert len(sqs.messages) == 1


def test_a_dead_letter_that_is_no_command(function: Function, bus: EventBridge, sqs: Sqs) -> None:
    """Its code, and nothing of its content."""
    function(by_sqs(POISON + CONTACT))
    assert published(bus) == [("ConversationNotEnded", {"trigger": "sqs", "code": "invalid_request"})]


def test_a_record_that_cannot_be_dead_lettered_is_not_final(
    function: Function, bus: EventBridge, sqs: Sqs
) -> None:
    """The move fails, the message comes again: no event."""
    sqs.fail(code="AccessDeniedException")
    assert function(by_sqs(POISON))["batchItemFailures"]
    assert not bus.calls


def test_without_a_dead_letter_queue_nothing_is_final(function: Function, bus: EventBridge) -> None:
    """What can never succeed comes again, too, until SQS moves it."""
    assert function(by_sqs(POISON))["batchItemFailures"]
    assert not bus.calls


def test_a_batch_is_published_in_one_call(
    function: Function, studio: Studio, bus: EventBridge, sqs: Sqs
) -> None:
    """Ten entries fit into one PutEvents."""
    function(by_sqs(*(of(studio, execution_sid=studio.seed(FLOW_SID).sid) for _ in range(9)), POISON))
    assert [len(entries) for entries in bus.puts] == [10]


def test_more_than_ten_take_more_calls(function: Function, bus: EventBridge, crm: None) -> None:
    """As few as possible."""
    assert function(by_crm(*["+15005550001"] * 25))["statusCode"] == 200
    assert [len(entries) for entries in bus.puts] == [10, 10, 5]


def test_a_call_is_no_larger_than_eventbridge_takes(
    function: Function, bus: EventBridge, monkeypatch: pytest.MonkeyPatch, crm: None
) -> None:
    """256 KB for all entries together; here it is less, so that a test can fill it."""
    monkeypatch.setattr(events, "MAX_BYTES", 1000)
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


def not_published(function: Function, number: int = 1) -> dict[str, Any]:
    """The line about outcomes that were not published, which are counted."""
    assert function.metrics["OutcomesNotPublished"] == number
    (line,) = [line for line in function.logs if line["message"] == "outcome_not_published"]
    assert (line["level"], line["outcomes"]) == ("ERROR", number)
    assert line["function_request_id"]
    return line


@pytest.mark.parametrize(
    ("error", "status"),
    [("AccessDeniedException", 400), ("InternalFailure", 500), ("ThrottlingException", 400)],
)
def test_an_eventbridge_that_refuses_changes_nothing(
    function: Function, studio: Studio, bus: EventBridge, error: str, status: int
) -> None:
    """Tried once more, then logged and counted; the command's answer is as ever."""
    bus.fail(code=error, status=status)
    command = of(studio)
    assert function(command)["executions"][0]["sid"] == command["execution_sid"]
    assert not_published(function)["detail"] == error
    assert len(bus.calls) == 2
    assert function.metrics["ExecutionsEnded"] == 1


def test_a_failure_stays_a_failure(function: Function, studio: Studio, bus: EventBridge) -> None:
    """Publishing does not hide an error behind its own."""
    bus.fail(code="AccessDeniedException")
    command = of(studio)
    studio.fail(status=404)
    assert invoke(function, by_eventbridge(command)) == "execution_not_found"
    not_published(function)


def test_one_passing_refusal_is_survived(function: Function, studio: Studio, bus: EventBridge) -> None:
    """No line, no count."""
    bus.fail(code="InternalFailure", status=500, times=1)
    function(of(studio))
    assert len(published(bus)) == 1
    assert "OutcomesNotPublished" not in function.metrics


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        ({"delay": 20.0}, 2.5),
        ({"broken": "drip", "interval": 0.4}, 2.5),
        ({"delay": 20.0, "carried_out": True}, 2.5),
        ({"broken": "drip", "interval": 0.4}, 10.0),
    ],
)
def test_an_eventbridge_that_hangs_is_given_up_in_time(
    function: Function, studio: Studio, bus: EventBridge, fault: dict[str, Any], seconds: float
) -> None:
    """The answer comes within the deadline, and without more than a few seconds' delay."""
    function(of(studio))
    bus.fail(**fault)
    command = of(studio)
    began = time.monotonic()
    assert function(command, seconds)["executions"][0]["sid"] == command["execution_sid"]
    assert time.monotonic() - began < min(seconds, 4.0)
    not_published(function)


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"Entries": []},
        {"Entries": None},
        {"FailedEntryCount": 0, "Entries": [{}] * 3},
        {"Entries": [None]},
    ],
)
def test_a_senseless_answer_changes_nothing(
    function: Function, studio: Studio, bus: EventBridge, answers: dict[str, Any]
) -> None:
    """Not even that of an EventBridge that is none."""
    bus.fail(status=200, body=json.dumps(answers))
    command = of(studio)
    assert function(command)["executions"][0]["sid"] == command["execution_sid"]


def test_no_one_listens(function: Function, environment: pytest.MonkeyPatch, studio: Studio) -> None:
    """A refused connection is a line and a count."""
    environment.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", "http://127.0.0.1:9")
    assert function(of(studio))["executions"]
    not_published(function)


def outcomes(taken: str) -> dict[str, Any]:
    """EventBridge's answer: which of the entries it has taken (y), and which not (n)."""
    refusal = {"ErrorCode": "InternalFailure", "ErrorMessage": "for now"}
    entries = [{"EventId": str(n)} if each == "y" else refusal for n, each in enumerate(taken)]
    return {
        "status": 200,
        "body": json.dumps({"FailedEntryCount": taken.count("n"), "Entries": entries}),
    }


def test_entries_that_fail_are_tried_once_more(
    function: Function, studio: Studio, bus: EventBridge, sqs: Sqs
) -> None:
    """They alone; what got through is not published twice."""
    bus.fail(times=1, **outcomes("yyynyyynyy"))
    commands = [
        of(studio, execution_sid=studio.seed(FLOW_SID).sid, conversation_id=f"case-{n}") for n in range(10)
    ]
    assert not function(by_sqs(*commands))["batchItemFailures"]
    first, second = bus.puts
    assert second == [first[3], first[7]]
    assert sorted(detail["conversation_id"] for _, detail in published(bus)) == [
        f"case-{n}" for n in range(10)
    ]
    assert "OutcomesNotPublished" not in function.metrics


def test_entries_that_fail_again_are_counted(
    function: Function, studio: Studio, bus: EventBridge, sqs: Sqs
) -> None:
    """One line for them together, with EventBridge's code; the batch is done."""
    for taken in ("nynn", "nnn"):
        bus.fail(times=1, **outcomes(taken))
    commands = [
        of(studio, execution_sid=studio.seed(FLOW_SID).sid, conversation_id=f"case-{n}") for n in range(4)
    ]
    assert not function(by_sqs(*commands))["batchItemFailures"]
    assert not_published(function, 3)["detail"] == "InternalFailure"
    assert [len(entries) for entries in bus.puts] == [4, 3]
    assert len(published(bus)) == 1


@pytest.mark.parametrize("setting", ["", " "])
@pytest.mark.parametrize("wrap", [by_http, by_sqs, lambda command: command])
def test_without_a_bus_there_is_no_client(
    function: Function,
    environment: pytest.MonkeyPatch,
    studio: Studio,
    bus: EventBridge,
    setting: str,
    wrap: Any,
) -> None:
    """Nothing is published, and no client of EventBridge is made."""
    environment.setenv("OUTCOME_EVENT_BUS", setting)
    made: list[str] = []
    make = boto3.client

    def counted(service: str, **kwargs: Any) -> Any:
        made.append(service)
        return make(service, **kwargs)

    environment.setattr(aws.boto3, "client", counted)
    invoke(function, wrap(of(studio)))
    assert "events" not in made
    assert not bus.calls


@pytest.mark.parametrize("setting", ["", BUS])
def test_the_client_is_made_at_start(environment: pytest.MonkeyPatch, setting: str) -> None:
    """Where there is a bus: not in the second that is kept for publishing."""
    environment.setenv("OUTCOME_EVENT_BUS", setting)
    made: list[str] = []
    make = boto3.client
    environment.setattr(
        aws.boto3, "client", lambda service, **more: made.append(service) or make(service, **more)
    )
    app._start("on-demand")
    assert made.count("events") == bool(setting)


def test_no_client_is_made_before_there_is_something_to_publish(
    function: Function, environment: pytest.MonkeyPatch, bus: EventBridge
) -> None:
    """A failed record publishes nothing, and pays nothing for it."""
    made: list[str] = []
    make = boto3.client
    environment.setattr(
        aws.boto3, "client", lambda service, **more: made.append(service) or make(service, **more)
    )
    function(by_sqs(POISON))
    assert "events" not in made


@pytest.mark.parametrize(
    "setting", ["has space", "arn:aws:sns:us-east-1:123456789012:topic", "x" * 300, "a:b"]
)
def test_a_bus_that_is_none_is_a_configuration_error(
    function: Function, environment: pytest.MonkeyPatch, studio: Studio, setting: str
) -> None:
    """Found at the request: 500, and not a crash."""
    environment.setenv("OUTCOME_EVENT_BUS", setting)
    assert invoke(function, of(studio)) == "internal_error"
    assert function(by_http(of(studio)))["statusCode"] == 500


def test_a_second_is_kept_for_publishing(function: Function, studio: Studio, bus: EventBridge) -> None:
    """A Twilio that hangs until the work's time is over leaves enough to tell about it."""
    function(of(studio))
    command = of(studio)
    studio.fail(broken="hang", times=None)
    began = time.monotonic()
    assert function(by_http(command), seconds=3.0)["statusCode"] == 504
    assert time.monotonic() - began < 3.0
    assert [detail.get("code") for _, detail in published(bus)] == [None, "twilio_timeout"]


@pytest.fixture
def swept(function: Function) -> Function:
    sweep._service.cache_clear()
    function.handler = sweep.handler
    return function


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_sweep_publishes_its_result(
    swept: Function, studio: Studio, bus: EventBridge, *, dry_run: bool
) -> None:
    """One SweepFinished, and no event for each Execution."""
    for _ in range(3):
        studio.seed(FLOW_SID)
    result = swept({"flow_sids": [FLOW_SID, OTHER_FLOW], "older_than_minutes": 0, "dry_run": dry_run})
    assert published(bus) == [("SweepFinished", result)]
    assert result["flows"][1]["error"] == "execution_not_found"


def test_a_sweep_of_a_thousand_flows_fits(swept: Function, studio: Studio, bus: EventBridge) -> None:
    """The largest input there is."""
    flows = [f"FW{n:032x}" for n in range(1000)]
    for flow_sid in flows:
        studio.executions.add_flow(flow_sid)
    swept({"flow_sids": flows, "dry_run": True}, seconds=50)
    assert len(published(bus)) == 1
    assert len(bus.entries[0]["Detail"]) < 256 * 1024


def test_a_sweep_that_raises_publishes_nothing(swept: Function, bus: EventBridge) -> None:
    """There is no result."""
    assert invoke(swept, {"flow_sids": ["FW"]}) == "invalid_request"
    assert not bus.calls


def test_a_sweep_with_a_bus_that_refuses(swept: Function, studio: Studio, bus: EventBridge) -> None:
    """Its result is returned all the same."""
    bus.fail(code="AccessDeniedException")
    assert swept({"flow_sids": [FLOW_SID]})["complete"]
    not_published(swept)


def test_an_accounts_outcome_names_it(
    function: Function, environment: pytest.MonkeyPatch, bus: EventBridge, secrets_manager: SecretsManager
) -> None:
    """Where the command did, and also where its secret is missing."""
    environment.setenv("TWILIO_ACCOUNT_SECRET_PREFIX", "end-conversation/twilio/")
    sid = "AC" + "7" * 32
    function(by_http({"flow_sid": FLOW_SID, "contact": CONTACT, "account_sid": sid}))
    ((_, detail),) = published(bus)
    assert (detail["account_sid"], detail["code"]) == (sid, "credentials_unavailable")
    assert SECRET_ID in secrets_manager.reads


def test_from_event_in_to_outcome_out(
    function: Function, environment: pytest.MonkeyPatch, studio: Studio, bus: EventBridge
) -> None:
    """One rule brings the event to the queue, the function takes it there, another brings the outcome."""
    environment.setenv("AWS_ENDPOINT_URL_SQS", bus.url)
    eventbridge, sqs = bus.aws.client("events"), boto3.resource("sqs")
    queues = {}
    for name, pattern in {
        "commands": {"source": ["crm"], "detail-type": ["EndConversation"]},
        "outcomes": {"source": ["end-conversation"]},
    }.items():
        queue = queues[name] = sqs.create_queue(QueueName=f"outcomes-test-{name}")
        eventbridge.put_rule(Name=name, EventBusName=BUS, EventPattern=json.dumps(pattern))
        target = {"Id": name, "Arn": queue.attributes["QueueArn"]}
        eventbridge.put_targets(Rule=name, EventBusName=BUS, Targets=[target])
    command = of(studio)
    eventbridge.put_events(
        Entries=[
            {
                "EventBusName": BUS,
                "Source": "crm",
                "DetailType": "EndConversation",
                "Detail": json.dumps(command),
            }
        ]
    )
    (message,) = queues["commands"].receive_messages(MaxNumberOfMessages=10)
    assert function(by_sqs(message.body)) == {"batchItemFailures": []}
    (outcome,) = queues["outcomes"].receive_messages(MaxNumberOfMessages=10)
    event = json.loads(outcome.body)
    Draft4Validator(SCHEMA).validate(event)
    assert (event["detail-type"], event["detail"]["conversation_id"]) == ("ConversationEnded", "case-1")
    # An outcome is no command: the rule of the commands does not take it.
    assert not queues["commands"].receive_messages(MaxNumberOfMessages=10)
