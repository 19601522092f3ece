"""Ending later: a command is in the queue when its caller is answered with 202."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import FLOW_SID, SECRET_ID, Function, SecretsManager, Sqs, sample, secret_text

from end_conversation.command import SCHEMA
from end_conversation.webhooks import verifier
from local.aws import Aws
from local.signing import ROUTE, signed
from local.studio import Studio

CONTACT = "whatsapp:+15005550077"
WEBHOOK_SECRET_ID = "end-conversation/webhooks"
KEY = "whsec_" + "QUFB" * 8
TOKEN = "not-a-real-token-of-the-crm"
SOURCE: dict[str, Any] = {
    "verify": {"type": "token"},
    "keys": [TOKEN],
    "command": {"flow_sid": f"'{FLOW_SID}'", "contact": "phone", "conversation_id": "id"},
}
WAYS = ["http", "http-rest", "webhook", "source"]


@pytest.fixture(autouse=True)
def sqs(environment: pytest.MonkeyPatch, secrets_manager: SecretsManager, studio: Studio, moto: Aws) -> Sqs:
    """The queue, the secret with a key and two sources, and a Flow where nothing is active."""
    studio.executions.add_flow(FLOW_SID)
    environment.setenv("WEBHOOK_SECRET_ID", WEBHOOK_SECRET_ID)
    secrets_manager.aws.put_secret(
        WEBHOOK_SECRET_ID,
        json.dumps({"keys": [KEY], "sources": {"crm": SOURCE, "desk": SOURCE | {"respond": "sync"}}}),
    )
    verifier._verifier_of.cache_clear()
    queue = Sqs(moto, "commands")
    environment.setenv("AWS_ENDPOINT_URL_SQS", moto.url)
    environment.setenv("QUEUE_URL", queue.url)
    return queue


def asked_for(
    way: str, command: Any, *, at: datetime | None = None, prefer: str | None = "respond-async"
) -> Any:
    """A request for a command, by one of the ways in, that the gateway received at an instant."""
    event: dict[str, Any] = sample("http-rest" if way == "http-rest" else "http")
    event["body"] = json.dumps(command)
    milliseconds = int((at or datetime.now(UTC)).timestamp() * 1000)
    context = event["requestContext"]
    context["requestTimeEpoch" if way == "http-rest" else "timeEpoch"] = milliseconds
    headers = {"content-type": "application/json"} | ({} if prefer is None else {"prefer": prefer})
    if way == "webhook":
        event["routeKey"] = f"POST {ROUTE}"
        headers |= signed(event["body"].encode(), key=KEY)
    elif way in ("source", "desk"):
        event["routeKey"] = "POST /webhooks/{source}"
        event["pathParameters"] = {"source": {"source": "crm"}.get(way, way)}
        event["body"] = json.dumps({"phone": command["contact"], "id": command.get("conversation_id")})
        headers |= {"authorization": f"Bearer {TOKEN}"}
    event["headers"] = headers
    if way == "http-rest":
        event["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
    return event


def command(**more: Any) -> dict[str, Any]:
    return {"flow_sid": FLOW_SID, "contact": CONTACT} | more


def by_sqs(body: Any, sent_at: datetime | None = None) -> dict[str, Any]:
    """The queue's message as Lambda gets it."""
    record = sample("sqs")["Records"][0]
    milliseconds = int((sent_at or datetime.now(UTC)).timestamp() * 1000)
    attributes = record["attributes"] | {"SentTimestamp": str(milliseconds)}
    return {"Records": [record | {"body": json.dumps(body), "attributes": attributes}]}


def told(answer: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return answer["statusCode"], json.loads(answer["body"])


@pytest.mark.parametrize("way", WAYS)
def test_a_command_is_accepted(function: Function, studio: Studio, sqs: Sqs, way: str) -> None:
    """By every route: 202 with the message's id and the preference; one message, one count, one line."""
    answer = function(asked_for(way, command(conversation_id="case-1")))
    assert told(answer) == (202, {"status": "accepted", "message_id": sqs.ids[0]})
    assert answer["headers"]["preference-applied"] == "respond-async"
    assert len(sqs.messages) == 1
    assert function.metrics == {"CommandsQueued": 1}
    (line,) = function.logs
    assert (line["message"], line["level"], line["message_id"], line["conversation_id"]) == (
        "command_queued",
        "INFO",
        sqs.ids[0],
        "case-1",
    )
    assert line.get("source") == ("crm" if way == "source" else None)
    assert not studio.requests


@pytest.mark.parametrize("way", WAYS)
def test_the_message_is_a_bare_command(function: Function, sqs: Sqs, way: str) -> None:
    """With the schema's own fields only, and nothing beside it but the source's name."""
    given = command(reason="solved", unheard_of={"phone": CONTACT}, conversation_id=None)
    function(asked_for(way, given))
    (body,) = sqs.bodies
    assert set(body) <= set(SCHEMA["properties"])
    assert {"flow_sid": FLOW_SID, "contact": CONTACT}.items() <= body.items()
    assert body.get("reason") == (None if way == "source" else "solved")
    source = {"source": {"DataType": "String", "StringValue": "crm"}} if way == "source" else {}
    assert (sqs.messages[0].get("MessageAttributes") or {}) == source


@pytest.mark.parametrize("way", WAYS)
def test_occurred_at_is_what_it_means_at_acceptance(
    function: Function, studio: Studio, sqs: Sqs, way: str
) -> None:
    """A contact's new Execution, begun between acceptance and consumption, survives; the old one does not."""
    accepted_at = datetime.now(UTC) - timedelta(minutes=10)
    old = studio.seed(FLOW_SID, contact=CONTACT, date_created=accepted_at - timedelta(minutes=5))
    assert function(asked_for(way, command(), at=accepted_at))["statusCode"] == 202
    (body,) = sqs.bodies
    assert datetime.fromisoformat(body["occurred_at"]) == accepted_at.replace(
        microsecond=accepted_at.microsecond // 1000 * 1000
    )
    studio.executions.end(FLOW_SID, old.sid)
    new = studio.seed(FLOW_SID, contact=CONTACT, date_created=accepted_at + timedelta(minutes=5))
    again = studio.seed(FLOW_SID, contact="+15005550088", date_created=accepted_at)
    assert function(by_sqs(body)) == {"batchItemFailures": []}
    assert (new.status, again.status) == ("active", "active")


def test_what_was_active_at_acceptance_is_ended_later(function: Function, studio: Studio, sqs: Sqs) -> None:
    """From the queue's message alone."""
    execution = studio.seed(FLOW_SID, contact=CONTACT, date_created=datetime.now(UTC) - timedelta(hours=1))
    function(asked_for("http", command()))
    assert execution.status == "active"
    assert function(by_sqs(sqs.bodies[0])) == {"batchItemFailures": []}
    assert execution.status == "ended"


@pytest.mark.parametrize(
    ("given", "queued"),
    [
        ("2026-03-02T10:41:07+01:00", "2026-03-02T09:41:07Z"),
        ("2999-01-01T00:00:00Z", "2026-03-02T09:41:09.512000Z"),
        (None, "2026-03-02T09:41:09.512000Z"),
    ],
)
def test_occurred_at_of_the_command(function: Function, sqs: Sqs, given: str | None, queued: str) -> None:
    """The caller's own, but no later than the request."""
    at = datetime(2026, 3, 2, 9, 41, 9, 512_000, UTC)
    function(asked_for("http", command(occurred_at=given), at=at))
    assert sqs.bodies[0]["occurred_at"] == queued


@pytest.mark.parametrize(
    "prefer",
    [
        "respond-async",
        "Respond-Async",
        "RESPOND-ASYNC",
        " respond-async ",
        "respond-async, wait=10",
        "wait=10,respond-async",
        "wait=10 ,, respond-async ,",
        "respond-async; x=1",
        "respond-async;x",
        'respond-async=""',
        "respond-async =",
        'foo="a, b", respond-async',
        r'foo="a\"", respond-async',
        'foo="respond-async"; bar, respond-async',
    ],
)
def test_the_preference_as_rfc_7240_spells_it(function: Function, prefer: str) -> None:
    """In any case, among others, with parameters."""
    assert function(asked_for("http", command(), prefer=prefer))["statusCode"] == 202


@pytest.mark.parametrize(
    "prefer",
    [
        None,
        "",
        "wait=10",
        "return=minimal",
        "no-respond-async",
        "respond-asynchronously",
        "respond async",
        'foo="respond-async"',
        'foo="a, respond-async"',
        r'foo="a\", respond-async, "',
        'foo="a, respond-async',
        'foo="a, respond-async\\',
        '"' + '\\"' * 5000 + ", respond-async",
        "wait=10; respond-async",
        "foo=respond-async",
    ],
)
def test_what_is_not_the_preference(function: Function, sqs: Sqs, prefer: str | None) -> None:
    """The answer is the synchronous one, and claims no preference."""
    began = time.process_time()
    answer = function(asked_for("http", command(), prefer=prefer))
    assert time.process_time() - began < 1
    assert told(answer) == (200, {"flow_sid": FLOW_SID, "executions": []})
    assert "preference-applied" not in answer["headers"]
    assert not sqs.calls


def test_several_headers_are_one_list(function: Function) -> None:
    """A REST API hands on each of them."""
    event = asked_for("http-rest", command())
    event["multiValueHeaders"] |= {"Prefer": ["wait=10", "respond-async"]}
    del event["multiValueHeaders"]["prefer"], event["headers"]["prefer"]
    assert function(event)["statusCode"] == 202


@pytest.mark.parametrize("queue_url", ["", " "])
@pytest.mark.parametrize("way", WAYS)
def test_without_a_queue_the_preference_is_ignored(
    function: Function, environment: pytest.MonkeyPatch, sqs: Sqs, way: str, queue_url: str
) -> None:
    """As RFC 7240 allows; the answer does not claim otherwise."""
    environment.setenv("QUEUE_URL", queue_url)
    answer = function(asked_for(way, command()))
    assert told(answer) == (200, {"flow_sid": FLOW_SID, "executions": []})
    assert "preference-applied" not in answer["headers"]
    assert not sqs.calls


@pytest.mark.parametrize("name", ["QUEUE_URL", "DEAD_LETTER_QUEUE_URL"])
@pytest.mark.parametrize(
    "value", ["commands", "arn:aws:sqs:us-east-1:123456789012:commands", "https://", "a b"]
)
def test_a_queue_that_is_none_is_a_configuration_error(
    function: Function, environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Found at the request: 500, and the log names the variable."""
    environment.setenv(name, value)
    assert function(asked_for("http", command()))["statusCode"] == 500
    assert [line["detail"] for line in function.logs] == [f"{name} is not the URL of a queue"]


def test_a_source_may_answer_synchronously(function: Function, sqs: Sqs) -> None:
    """Where its declaration says so, whatever the request prefers."""
    assert told(function(asked_for("desk", command()))) == (200, {"flow_sid": FLOW_SID, "executions": []})
    assert not sqs.calls


@pytest.mark.parametrize("trouble", ["is denied", "hangs", "is missing"])
@pytest.mark.parametrize("account_sid", [None, "AC" + "7" * 32])
@pytest.mark.parametrize("prefix", ["", "end-conversation/twilio/"])
def test_the_twilio_secret_is_not_needed(
    function: Function,
    environment: pytest.MonkeyPatch,
    secrets_manager: SecretsManager,
    trouble: str,
    account_sid: str | None,
    prefix: str,
) -> None:
    """A command is accepted while Twilio's credentials are not to be had, and does not wait for them long."""
    environment.setenv("TWILIO_ACCOUNT_SECRET_PREFIX", prefix)
    if trouble == "hangs":
        secrets_manager.fail(delay=20, about=SECRET_ID)
    elif trouble == "is denied":
        secrets_manager.fail(code="AccessDeniedException", about=SECRET_ID)
    else:
        secrets_manager.aws.delete_secret(SECRET_ID)
    began = time.monotonic()
    assert function(asked_for("webhook", command(account_sid=account_sid)), seconds=30)["statusCode"] == 202
    assert time.monotonic() - began < 2
    assert function.metrics == {"CommandsQueued": 1}


def test_many_commands_do_not_each_wait_for_the_twilio_secret(
    function: Function, secrets_manager: SecretsManager, sqs: Sqs
) -> None:
    """Their sender would have given up."""
    many = SOURCE | {"each": "[*]", "command": SOURCE["command"] | {"account_sid": "account"}}
    secrets_manager.aws.put_secret(WEBHOOK_SECRET_ID, json.dumps({"sources": {"crm": many}}))
    secrets_manager.fail(delay=20, about=SECRET_ID)
    event = asked_for("source", command())
    event["body"] = json.dumps([{"phone": CONTACT, "id": "7", "account": "AC" + "7" * 32}] * 10)
    began = time.monotonic()
    assert function(event, seconds=30)["statusCode"] == 202
    assert time.monotonic() - began < 3.5
    assert len(sqs.messages) == 10


def test_no_secret_is_read_to_accept_a_command_without_an_account(
    function: Function, secrets_manager: SecretsManager
) -> None:
    """Neither Twilio nor its credentials are asked for."""
    function(asked_for("http", command()))
    assert not secrets_manager.reads


def test_another_account_is_refused_at_acceptance(
    function: Function, secrets_manager: SecretsManager, sqs: Sqs
) -> None:
    """Where the deployment works for the default account only: 403, and nothing is queued."""
    secrets_manager.aws.put_secret(SECRET_ID, secret_text())
    status, problem = told(function(asked_for("http", command(account_sid="AC" + "7" * 32))))
    assert (status, problem["code"]) == (403, "account_not_allowed")
    assert not sqs.calls


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"flow_sid": "FW"}, 400, "invalid_request"),
        ({"contact": None}, 400, "invalid_request"),
        ({"occurred_at": "yesterday"}, 400, "invalid_request"),
        ({"flow_sid": "FW" + "9" * 32}, 403, "flow_not_allowed"),
    ],
)
@pytest.mark.parametrize("way", ["http", "webhook"])
def test_what_can_never_succeed_is_refused_at_once(
    function: Function,
    environment: pytest.MonkeyPatch,
    sqs: Sqs,
    way: str,
    change: dict[str, Any],
    status: int,
    code: str,
) -> None:
    """The schema and the allow-list come before the queue, and it is one RequestsRejected."""
    environment.setenv("ALLOWED_FLOW_SIDS", FLOW_SID)
    answer = told(function(asked_for(way, command() | change)))
    assert (answer[0], answer[1]["code"]) == (status, code)
    assert function.metrics == {"RequestsRejected": 1}
    assert not sqs.calls


def test_a_stranger_queues_nothing(function: Function, sqs: Sqs) -> None:
    """Authentication comes first."""
    event = asked_for("webhook", command())
    event["headers"]["webhook-signature"] = "v1," + "A" * 43 + "="
    assert function(event)["statusCode"] == 401
    assert not sqs.calls


def unavailable(function: Function, answer: dict[str, Any]) -> dict[str, Any]:
    """The one log line of a command that the queue did not take, whose caller is told so."""
    status, problem = told(answer)
    assert (status, problem["code"]) == (503, "queue_unavailable")
    assert answer["headers"]["retry-after"] == "1"
    assert "preference-applied" not in answer["headers"]
    assert not function.metrics
    (line,) = function.logs
    assert (line["level"], line["code"]) == ("ERROR", "queue_unavailable")
    return line


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("AWS.SimpleQueueService.NonExistentQueue", 400),
        ("AccessDeniedException", 400),
        ("InternalFailure", 500),
        ("ServiceUnavailable", 503),
        ("RequestThrottled", 403),
    ],
)
def test_a_queue_that_refuses(function: Function, sqs: Sqs, error: str, status: int) -> None:
    """503 with Retry-After: the caller still has its command; the line says whose it is, and why."""
    sqs.fail(code=error, status=status)
    line = unavailable(function, function(asked_for("source", command(conversation_id="case-1"))))
    assert line["conversation_id"] == "case-1"
    assert not sqs.messages


@pytest.mark.parametrize("answer", [{}, ["not", "an", "object"]])
def test_a_queue_that_confirms_nothing(
    function: Function, sqs: Sqs, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    """200 without an id, or nothing that botocore can read: no defect of ours, and the caller asks again."""
    sqs.fail(status=200, body=json.dumps(answer))
    assert "may have it" in unavailable(function, function(asked_for("http", command())))["detail"]


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        ({"delay": 20.0}, 1.5),
        ({"broken": "drip", "interval": 0.5}, 1.5),
        ({"delay": 20.0, "carried_out": True}, 1.5),
        ({"broken": "drip", "interval": 0.5}, 30.0),
    ],
)
def test_a_queue_that_hangs(function: Function, sqs: Sqs, fault: dict[str, Any], seconds: float) -> None:
    """The answer comes in time, also for a sender that waits 5 seconds; the log says what SQS may have."""
    function(asked_for("http", command()))
    sqs.fail(**fault)
    began = time.monotonic()
    line = unavailable(function, function(asked_for("http", command()), seconds=seconds))
    assert time.monotonic() - began < min(seconds, 4.8)
    assert "may have it" in line["detail"]


def test_a_queue_that_is_slow(function: Function, sqs: Sqs) -> None:
    """It is waited for, as long as the sender waits."""
    sqs.fail(delay=1.0)
    assert function(asked_for("http", command()))["statusCode"] == 202
    assert len(sqs.messages) == 1


@pytest.mark.parametrize("fault", [{"code": "InternalFailure", "status": 500}, {"delay": 3.0}])
def test_one_passing_failure_is_tried_again(function: Function, sqs: Sqs, fault: dict[str, Any]) -> None:
    """The caller does not notice, and it counts as one command."""
    sqs.fail(**fault, times=1)
    assert function(asked_for("http", command()))["statusCode"] == 202
    assert len(sqs.calls) == 2
    assert function.metrics == {"CommandsQueued": 1}


def test_no_one_listens(function: Function, environment: pytest.MonkeyPatch) -> None:
    """A refused connection is an unavailable queue."""
    environment.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")
    unavailable(function, function(asked_for("http", command())))


def test_an_execution_can_be_ended_later_too(function: Function, studio: Studio, sqs: Sqs) -> None:
    """The command in the queue names it, and is carried out once it comes."""
    execution = studio.seed(FLOW_SID)
    given = {"flow_sid": FLOW_SID, "execution_sid": execution.sid}
    function(asked_for("http", given))
    assert given.items() <= sqs.bodies[0].items()
    assert function(by_sqs(sqs.bodies[0])) == {"batchItemFailures": []}
    assert execution.status == "ended"


def test_the_largest_command_fits_into_a_message(function: Function, sqs: Sqs) -> None:
    """Every field as long as it may be, of characters that JSON has to escape."""
    longest = {
        "flow_sid": FLOW_SID,
        "contact": "\U0001f4de" * 256,
        "conversation_id": "\u0001" * 128,
        "reason": "\U0001f4de" * 256,
        "account_sid": None,
    }
    assert function(asked_for("http", longest))["statusCode"] == 202
    assert len(sqs.messages[0]["MessageBody"]) < 256 * 1024
    assert longest.items() - {("account_sid", None)} <= sqs.bodies[0].items()
