"""Ending later: a command is in the queue when its caller is answered with 202."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import FLOW_SID, SECRET_ID, Function, SecretsManager, Sqs, in_http, in_sqs, status_and_code

from end_conversation.aws.clients import CALL_LIMIT, READ_TIMEOUT
from end_conversation.command import SCHEMA
from end_conversation.triggers import http_api
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
    event = in_http(command, rest=way == "http-rest", at=at or datetime.now(UTC))
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


@pytest.mark.parametrize("way", WAYS)
def test_a_command_is_accepted(function: Function, studio: Studio, sqs: Sqs, way: str) -> None:
    """By every route: 202 with the message's id and the preference; one message, one count, one line.

    The message is a bare command with the schema's own fields; a source's name goes along as an attribute.
    """
    given = command(conversation_id="case-1", reason="solved", unheard_of={"phone": CONTACT}, dry_run=None)
    answer = function(asked_for(way, given))
    assert answer["statusCode"] == 202
    assert json.loads(answer["body"]) == {"status": "accepted", "message_id": sqs.ids[0]}
    assert answer["headers"]["preference-applied"] == "respond-async"
    assert function.metrics == {"CommandsQueued": 1}
    source = "crm" if way == "source" else None
    (line,) = function.logs
    assert (line["message"], line["level"], line["message_id"]) == ("command_queued", "INFO", sqs.ids[0])
    assert (line["conversation_id"], line.get("source")) == ("case-1", source)
    (body,) = sqs.bodies
    assert set(body) <= set(SCHEMA["properties"])
    assert {"flow_sid": FLOW_SID, "contact": CONTACT}.items() <= body.items()
    assert body.get("reason") == (None if source else "solved")
    attributes = sqs.messages[0].get("MessageAttributes") or {}
    assert {name: each["StringValue"] for name, each in attributes.items()} == (
        {"source": source} if source else {}
    )
    assert not studio.requests


@pytest.mark.parametrize("way", WAYS)
def test_occurred_at_is_what_it_means_at_acceptance(
    function: Function, studio: Studio, sqs: Sqs, way: str
) -> None:
    """What was active then is ended from the message alone; what began until it is consumed goes on."""
    accepted_at = datetime.now(UTC).replace(microsecond=512_000) - timedelta(minutes=10)
    old, new = (
        studio.seed(FLOW_SID, contact=CONTACT, date_created=accepted_at + timedelta(minutes=minutes))
        for minutes in (-5, 5)
    )
    assert function(asked_for(way, command(), at=accepted_at))["statusCode"] == 202
    (body,) = sqs.bodies
    assert datetime.fromisoformat(body["occurred_at"]) == accepted_at
    assert function(in_sqs(body, at=datetime.now(UTC))) == {"batchItemFailures": []}
    assert (old.status, new.status) == ("ended", "active")


def test_the_largest_command_fits_into_a_message(function: Function, studio: Studio, sqs: Sqs) -> None:
    """Every field as long as it may be, of characters that JSON has to escape."""
    given = {
        "contact": ["\U0001f4de" * 255 + str(n) for n in range(10)],
        "conversation_id": "\u0001" * 128,
        "reason": "\U0001f4de" * 256,
    }
    assert function(asked_for("http", command(**given)))["statusCode"] == 202
    assert given.items() <= sqs.bodies[0].items()
    assert len(sqs.messages[0]["MessageBody"]) < 256 * 1024


PREFERENCES = {
    "respond-async": 202,
    "Respond-Async": 202,
    " respond-async ": 202,
    "respond-async, wait=10": 202,
    "wait=10,respond-async": 202,
    "wait=10 ,, respond-async ,": 202,
    "respond-async; x=1": 202,
    "respond-async;x": 202,
    'respond-async=""': 202,
    "respond-async =": 202,
    'foo="a, b", respond-async': 202,
    r'foo="a\"", respond-async': 202,
    'foo="respond-async"; bar, respond-async': 202,
    None: 200,
    "": 200,
    "wait=10": 200,
    "return=minimal": 200,
    "no-respond-async": 200,
    "respond-asynchronously": 200,
    "respond async": 200,
    'foo="respond-async"': 200,
    'foo="a, respond-async"': 200,
    r'foo="a\", respond-async, "': 200,
    'foo="a, respond-async': 200,
    'foo="a, respond-async\\': 200,
    '"' + '\\"' * 20_000 + ", respond-async": 200,
    "wait=10; respond-async": 200,
    "foo=respond-async": 200,
}


@pytest.mark.parametrize(("prefer", "status"), PREFERENCES.items())
def test_the_preference_as_rfc_7240_spells_it(function: Function, prefer: str | None, status: int) -> None:
    """In any case, among others, with parameters; quotes take linear time."""
    began = time.process_time()
    assert function(asked_for("http", command(), prefer=prefer))["statusCode"] == status
    assert time.process_time() - began < 5


def synchronous(function: Function, answer: dict[str, Any], sqs: Sqs) -> None:
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"]) == {"flow_sid": FLOW_SID, "executions": []}
    assert "preference-applied" not in answer["headers"]
    assert function.metrics == {"NothingToEnd": 1}
    assert not sqs.calls


@pytest.mark.parametrize("queue_url", ["", " "])
@pytest.mark.parametrize("way", WAYS)
def test_without_a_queue_the_preference_is_ignored(
    function: Function, sqs: Sqs, way: str, queue_url: str
) -> None:
    """As RFC 7240 allows; the response does not claim otherwise."""
    function.setenv("QUEUE_URL", queue_url)
    synchronous(function, function(asked_for(way, command())), sqs)


def test_a_source_may_respond_synchronously(function: Function, sqs: Sqs) -> None:
    """Where its declaration says so, whatever the request prefers."""
    synchronous(function, function(asked_for("desk", command())), sqs)


def test_several_headers_are_one_list(function: Function) -> None:
    """A REST API hands on each of them."""
    event = asked_for("http-rest", command())
    event["multiValueHeaders"] |= {"Prefer": ["wait=10", "respond-async"]}
    del event["multiValueHeaders"]["prefer"], event["headers"]["prefer"]
    assert function(event)["statusCode"] == 202


@pytest.mark.parametrize(
    "trouble",
    [
        lambda secrets: secrets.fail(code="AccessDeniedException", about=f'"{SECRET_ID}"'),
        lambda secrets: secrets.fail(delay=20, about=f'"{SECRET_ID}"'),
        lambda secrets: secrets.aws.delete_secret(SECRET_ID),
    ],
    ids=["denied", "hanging", "missing"],
)
@pytest.mark.parametrize("account_sid", [None, "AC" + "7" * 32])
@pytest.mark.parametrize("prefix", ["", "end-conversation/twilio/"])
def test_the_twilio_secret_is_not_needed(
    function: Function, trouble: Callable[[SecretsManager], None], account_sid: str | None, prefix: str
) -> None:
    """A command is accepted while Twilio's credentials are unavailable, and does not wait for them long."""
    function.patch(http_api, "DEFAULT_SID_LIMIT", 0.2)
    function.setenv("TWILIO_ACCOUNT_SECRET_PREFIX", prefix)
    trouble(function.secrets_manager)
    function(asked_for("webhook", command()))
    began = time.monotonic()
    assert function(asked_for("webhook", command(account_sid=account_sid)), seconds=30)["statusCode"] == 202
    assert time.monotonic() - began < 2 * READ_TIMEOUT
    assert function.metrics == {"CommandsQueued": 1}
    if account_sid is None:
        assert SECRET_ID not in function.secrets_manager.reads


def test_many_commands_do_not_each_wait_for_the_twilio_secret(function: Function, sqs: Sqs) -> None:
    """All together wait DEFAULT_SID_LIMIT: their sender does not wait for each."""
    many = SOURCE | {"each": "[*]", "command": SOURCE["command"] | {"account_sid": "account"}}
    function.secrets_manager.aws.put_secret(WEBHOOK_SECRET_ID, json.dumps({"sources": {"crm": many}}))
    function.secrets_manager.fail(delay=20, about=f'"{SECRET_ID}"')
    event = asked_for("source", command())
    event["body"] = json.dumps([{"phone": CONTACT, "id": "7", "account": "AC" + "7" * 32}] * 10)
    began = time.monotonic()
    assert function(event, seconds=30)["statusCode"] == 202
    assert time.monotonic() - began < 5 * http_api.DEFAULT_SID_LIMIT
    assert len(sqs.messages) == 10


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"flow_sid": "FW"}, 400, "invalid_request"),
        ({"contact": None}, 400, "invalid_request"),
        ({"occurred_at": "yesterday"}, 400, "invalid_request"),
        ({"dry_run": "true"}, 400, "invalid_request"),
        ({"flow_sid": "FW" + "9" * 32}, 403, "flow_not_allowed"),
        ({"account_sid": "AC" + "7" * 32}, 403, "account_not_allowed"),
    ],
)
@pytest.mark.parametrize("way", ["http", "webhook"])
def test_what_can_never_succeed_is_refused_at_once(
    function: Function, sqs: Sqs, way: str, change: dict[str, Any], status: int, code: str
) -> None:
    """The schema, the allow-list and the account come before the queue, and it is one RequestsRejected."""
    function.setenv("ALLOWED_FLOW_SIDS", FLOW_SID)
    given = command(conversation_id="case-1") | change
    assert status_and_code(function(asked_for(way, given))) == (status, code)
    assert function.metrics == {"RequestsRejected": 1}
    (line,) = function.logs
    assert line.get("conversation_id") == (None if status == 400 else "case-1")
    if status == 403:
        function(asked_for(way, given | {"dry_run": True}))
        assert [line["message"] for line in function.lines] == ["dry_run"]
    assert not sqs.calls


@pytest.mark.parametrize(
    ("fault", "seconds", "may_have_it"),
    [
        ({"code": "AWS.SimpleQueueService.NonExistentQueue"}, 10, False),
        ({"code": "AccessDeniedException"}, 10, False),
        ({"code": "InternalFailure", "status": 500}, 10, False),
        ({"code": "ServiceUnavailable", "status": 503}, 10, False),
        ({"code": "RequestThrottled", "status": 403}, 10, False),
        ({"status": 200, "body": "{}"}, 10, True),
        ({"status": 200, "body": '["not", "an", "object"]'}, 10, True),
        ({"delay": 20.0}, 1.5, True),
        ({"delay": 20.0, "carried_out": True}, 1.5, True),
        ({"broken": "drip", "interval": 0.5}, 1.5, True),
        ({"broken": "drip", "interval": 0.5}, 30, True),
    ],
    ids=str,
)
def test_a_queue_that_does_not_confirm(
    function: Function, sqs: Sqs, fault: dict[str, Any], seconds: float, *, may_have_it: bool
) -> None:
    """503 with Retry-After: the caller still has its command. The log says whose it is, and why.

    It comes in time, also for a sender that waits 5 seconds, and says if SQS may have the command.
    """
    function(asked_for("http", command()))
    sqs.fail(**fault)
    began = time.monotonic()
    answer = function(asked_for("source", command(conversation_id="case-1")), seconds=seconds)
    assert http_api.QUEUEING_LIMIT < 5
    assert time.monotonic() - began < CALL_LIMIT
    assert status_and_code(answer) == (503, "queue_unavailable")
    assert answer["headers"]["retry-after"] == "1"
    assert "preference-applied" not in answer["headers"]
    assert not function.metrics
    (line,) = function.logs
    assert (line["level"], line["code"], line["conversation_id"]) == ("ERROR", "queue_unavailable", "case-1")
    assert ("may have it" in line["detail"]) == may_have_it


@pytest.mark.parametrize(
    ("fault", "calls"),
    [({"delay": 0.5}, 1), ({"delay": 3.0}, 2), ({"code": "InternalFailure", "status": 500}, 2)],
    ids=str,
)
def test_a_queue_that_is_slow_or_fails_once(
    function: Function, sqs: Sqs, fault: dict[str, Any], calls: int
) -> None:
    """One retry hides it from the caller, and it counts as one command."""
    function.patch(http_api, "QUEUEING_LIMIT", CALL_LIMIT)
    sqs.fail(**fault, times=1)
    assert function(asked_for("http", command()))["statusCode"] == 202
    assert len(sqs.calls) == calls
    assert function.metrics == {"CommandsQueued": 1}
