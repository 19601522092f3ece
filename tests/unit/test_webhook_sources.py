"""Sources through the handler: who is let in, what becomes of an event, and what nobody gets to see."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from conftest import FLOW_SID, Function, SecretsManager, Sqs, sample

from end_conversation.aws import secret as secret_module
from end_conversation.http_request import FORM
from end_conversation.twilio import account as account_module
from end_conversation.webhooks import sources as sources_module
from end_conversation.webhooks import verifier
from end_conversation.webhooks.verifier import RENEWAL_INTERVAL
from local import signing
from local.aws import Aws
from local.signing import signed
from local.studio import Execution, Studio

SECRET_ID = "end-conversation/webhooks"
OWN_KEY = "whsec_" + "QUFB" * 8
KEY = "not-a-real-key-of-a-source"
CONTACT = "whatsapp:+15005550077"
CANARY = "canary-7e57c0de-in-the-payload"

TOKEN: dict[str, Any] = {
    "verify": {"type": "token"},
    "keys": [KEY],
    "when": "event == 'closed'",
    "command": {
        "flow_sid": f"'{FLOW_SID}'",
        "contact": "phone",
        "occurred_at": "at",
        "conversation_id": "case",
        "reason": "why",
    },
}
HMAC = {"type": "hmac", "header": "X-Signature", "prefix": "sha256="}
SOURCES: dict[str, Any] = {
    "crm": TOKEN,
    "desk": TOKEN | {"respond": "sync"},
    "many": TOKEN | {"each": "events"},
    "many-sync": TOKEN | {"each": "events", "respond": "sync"},
    "signed": TOKEN | {"verify": HMAC},
    "standard": TOKEN | {"verify": None, "keys": [OWN_KEY]},
    "basic": TOKEN | {"verify": {"type": "basic"}, "keys": [f"user:{KEY}"]},
    "twilio": TOKEN | {"verify": {"type": "twilio"}},
    "front": TOKEN | {"challenge": {"header": "x-front-challenge"}},
    "slack": TOKEN | {"challenge": {"body": "challenge"}},
    "shadow": TOKEN | {"dry_run": True},
}
BROKEN: dict[str, Any] = {
    "misspelt": TOKEN | {"kyes": [KEY]},
    "unparsable": TOKEN | {"when": "event ="},
    "unheard-of": TOKEN | {"preset": "pager"},
    "short": TOKEN | {"keys": ["short"]},
    "keyless": TOKEN | {"keys": []},
    "nothing": None,
}
CHALLENGE = 'Basic realm="end-conversation"'
EVENT = {"event": "closed", "phone": CONTACT, "case": "case-1"}


@pytest.fixture(autouse=True)
def sources(
    environment: pytest.MonkeyPatch, secrets_manager: SecretsManager, studio: Studio
) -> SecretsManager:
    """The sources of this file beside our own key, and a Flow where nothing is active."""
    environment.setenv("WEBHOOK_SECRET_ID", SECRET_ID)
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"keys": [OWN_KEY], "sources": SOURCES}))
    verifier._verifier_of.cache_clear()
    studio.executions.add_flow(FLOW_SID)
    return secrets_manager


@pytest.fixture
def sqs(environment: pytest.MonkeyPatch, moto: Aws) -> Sqs:
    queue = Sqs(moto, "commands")
    environment.setenv("AWS_ENDPOINT_URL_SQS", moto.url)
    environment.setenv("QUEUE_URL", queue.url)
    return queue


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time of day of signatures and secrets; `now` may be set."""
    told = SimpleNamespace(now=time.time())
    for module in (verifier, secret_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: told.now))
    return told


def sent(
    source: Any,
    body: Any = EVENT,
    headers: dict[str, str] | None = None,
    media_type: str | None = "application/json",
    **changes: Any,
) -> dict[str, Any]:
    """A source's webhook, with its token unless other headers are given."""
    event = sample("source-salesforce") | {"pathParameters": {"source": source}}
    event["rawPath"] = f"/webhooks/{source}"
    event["body"] = body if isinstance(body, str) else json.dumps(body)
    proof = {"authorization": f"Bearer {KEY}"} if headers is None else headers
    event["headers"] = proof | ({} if media_type is None else {"content-type": media_type})
    return event | changes


def own(body: Any) -> dict[str, Any]:
    """A request to our own route, rightly signed."""
    text = json.dumps(body)
    headers = signed(text.encode(), key=OWN_KEY) | {"content-type": "application/json"}
    return sample("http") | {"routeKey": f"POST {signing.ROUTE}", "headers": headers, "body": text}


def told(answer: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return answer["statusCode"], json.loads(answer["body"])


def refused(function: Function, event: dict[str, Any], status: int = 401) -> dict[str, Any]:
    """The problem of a refused request, without what is different for each."""
    answer = function(event)
    answered, problem = told(answer)
    assert answered == status, problem
    assert answer["headers"].get("www-authenticate") == ((status == 401 and CHALLENGE) or None)
    assert ("retry-after" in answer["headers"]) == (status == 503)
    return {key: value for key, value in problem.items() if key != "request_id"}


def active(studio: Studio, contact: str = CONTACT) -> Execution:
    """An Execution that began before the webhooks of this file were sent."""
    return studio.seed(FLOW_SID, contact=contact, date_created=datetime(2026, 3, 1, tzinfo=UTC))


UNAUTHORIZED = {
    "type": "about:blank",
    "title": "Unauthorized",
    "status": 401,
    "detail": "the request has no valid signature",
    "code": "invalid_signature",
}


def proofs() -> dict[str, dict[str, str]]:
    """What each source's sender would put into its headers for EVENT."""
    body = json.dumps(EVENT).encode()
    digest = hashlib.sha256(body).hexdigest()
    url = f"https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com/webhooks/twilio?bodySHA256={digest}"
    by_twilio = base64.b64encode(hmac.digest(KEY.encode(), url.encode(), "sha1")).decode()
    return {
        "crm": {"authorization": f"Bearer {KEY}"},
        "signed": {"x-signature": "sha256=" + hmac.digest(KEY.encode(), body, "sha256").hex()},
        "standard": signed(body, key=OWN_KEY),
        "basic": {"authorization": "Basic " + base64.b64encode(f"user:{KEY}".encode()).decode()},
        "twilio": {"x-twilio-signature": by_twilio},
    }


@pytest.mark.parametrize("source", proofs())
def test_a_source_of_each_kind_is_let_in(function: Function, studio: Studio, source: str) -> None:
    """Its event ends the contact's Execution; metrics say webhook, the log line says which source."""
    execution = active(studio)
    query = ""
    if source == "twilio":
        query = "bodySHA256=" + hashlib.sha256(json.dumps(EVENT).encode()).hexdigest()
    answer = function(sent(source, headers=proofs()[source], rawQueryString=query))
    assert answer["statusCode"] == 200
    assert execution.status == "ended"
    assert function.metrics == {"ExecutionsEnded": 1}
    assert {line["trigger"] for line in function.lines} == {"webhook"}
    assert [line["source"] for line in function.logs] == [source]


@pytest.mark.parametrize("source", proofs())
@pytest.mark.parametrize("wrong", ["nothing", "another's", "spoilt", "empty"])
def test_whatever_is_wrong_with_the_proof_is_one_401(
    function: Function, studio: Studio, source: str, wrong: str
) -> None:
    """The answer does not tell what, and nobody asks Twilio."""
    others = {"crm": "basic", "basic": "crm"}.get(source, "crm")
    headers = {
        "nothing": {},
        "another's": proofs()[others],
        "spoilt": {name: f"{value[:-3]}x{value[-2:]}" for name, value in proofs()[source].items()},
        "empty": dict.fromkeys(proofs()[source], ""),
    }[wrong]
    assert refused(function, sent(source, headers=headers)) == UNAUTHORIZED
    assert function.metrics == {"RequestsRejected": 1}
    assert not studio.requests


@pytest.mark.parametrize(
    "source",
    [
        "nobody",
        "CRM",
        "Crm",
        "c.rm",
        "crm.",
        "../crm",
        "crm/x",
        "crm%2f",
        "crm\n",
        " crm",
        "",
        "conversation-ended",
        "c" * 99,
        "7crm",
        "-crm",
        "cr\u00f6m",
        "\ud800",
        None,
        7,
        ["crm"],
    ],
)
def test_an_unknown_source_is_the_same_401(function: Function, studio: Studio, source: Any) -> None:
    """With the best of tokens; what is no name at all is not repeated in the log either."""
    event = sent(source, rawPath="/webhooks/x")
    assert refused(function, event) == UNAUTHORIZED
    (line,) = function.logs
    assert line.get("source") in (None, "nobody", "conversation-ended")
    assert not studio.requests


@pytest.mark.parametrize("parameters", [None, {}, [], "crm", {"proxy": "crm"}])
def test_a_route_without_its_parameter_is_the_same_401(function: Function, parameters: Any) -> None:
    """The path is not looked into instead."""
    assert refused(function, sent("crm", pathParameters=parameters)) == UNAUTHORIZED


@pytest.mark.parametrize("route", ["/webhooks/{source}", "/webhooks/conversation-ended"])
@pytest.mark.parametrize("api", ["http", "rest"])
@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
def test_a_url_may_be_tried_by_head(
    function: Function, secrets_manager: SecretsManager, route: str, api: str, method: str
) -> None:
    """200 without a body for any name, and nothing is read; other methods are 405 with Allow."""
    for source in ("crm", "nobody", "../"):
        event = sent(source, headers={}, routeKey=f"{method} {route}")
        event["requestContext"]["http"]["method"] = method
        if api == "rest":
            event = {"httpMethod": method, "resource": route, "requestContext": {}, "body": None}
        answer = function(event)
        if method == "HEAD":
            assert (answer["statusCode"], answer["body"]) == (200, "")
            assert answer["headers"] == {"cache-control": "no-store"}
        else:
            assert (answer["statusCode"], answer["headers"]["allow"]) == (405, "HEAD, POST")
    assert not secrets_manager.reads


@pytest.mark.parametrize(
    ("source", "headers", "body"),
    [
        ("front", {"x-front-challenge": "abc"}, {"type": "sync"}),
        ("slack", {}, {"type": "url_verification", "challenge": "abc"}),
    ],
)
def test_a_challenge_is_answered_once_the_sender_is_known(
    function: Function, sqs: Sqs, source: str, headers: dict[str, str], body: Any
) -> None:
    """200 with what was sent, and nothing is done; a stranger gets 401."""
    proof = {"authorization": f"Bearer {KEY}"}
    assert told(function(sent(source, body, proof | headers))) == (200, {"challenge": "abc"})
    assert [(line["message"], line["source"]) for line in function.logs] == [("webhook_challenge", source)]
    assert refused(function, sent(source, body, headers)) == UNAUTHORIZED
    assert function(sent(source))["statusCode"] == 202
    assert len(sqs.messages) == 1


def test_a_bad_declaration_disables_itself_alone(
    function: Function, secrets_manager: SecretsManager, studio: Studio
) -> None:
    """It gets 401, one ERROR line and one count for each reading; the others and our own route go on."""
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"keys": [OWN_KEY], "sources": BROKEN | SOURCES}))
    execution = active(studio)
    assert function(sent("desk"))["statusCode"] == 200
    assert execution.status == "ended"
    lines = [line for line in function.logs if line["message"] == "source_invalid"]
    assert {line["source"] for line in lines} == set(BROKEN)
    assert len(lines) == len(BROKEN)
    assert {line["level"] for line in lines} == {"ERROR"}
    assert all(line["detail"] for line in lines)
    assert function.metrics == {"SourcesInvalid": len(BROKEN), "ExecutionsEnded": 1}
    assert function(own({"flow_sid": FLOW_SID, "contact": CONTACT}))["statusCode"] == 200
    for name in BROKEN:
        assert refused(function, sent(name)) == UNAUTHORIZED


def test_declarations_are_compiled_once_for_each_reading(
    function: Function, environment: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    """And not for each request."""
    compiled: list[str] = []
    parse_source = sources_module.parse_source

    def counted(name: str, declaration: object) -> Any:
        compiled.append(name)
        return parse_source(name, declaration)

    environment.setattr(sources_module, "parse_source", counted)
    for _ in range(5):
        assert function(sent("crm"))["statusCode"] == 200
    assert sorted(compiled) == sorted(SOURCES)
    clock.now += 301
    assert function(sent("crm"))["statusCode"] == 200
    assert len(compiled) == 2 * len(SOURCES)


def test_a_new_source_works_at_once(
    function: Function, secrets_manager: SecretsManager, clock: SimpleNamespace
) -> None:
    """The secret is read again for what it does not know: once a minute at most, whoever asks."""
    assert function(sent("crm"))["statusCode"] == 200
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"sources": SOURCES | {"new": TOKEN}}))
    assert function(sent("new"))["statusCode"] == 200
    assert secrets_manager.reads.count(SECRET_ID) == 2
    for source in ("nobody", "CRM", "other"):
        refused(function, sent(source))
    refused(function, sent("crm", headers={"authorization": "Bearer not-the-one-it-has"}))
    assert secrets_manager.reads.count(SECRET_ID) == 2
    clock.now += RENEWAL_INTERVAL
    refused(function, sent("nobody"))
    assert secrets_manager.reads.count(SECRET_ID) == 3


def test_a_changed_verification_works_at_once(
    function: Function, secrets_manager: SecretsManager, clock: SimpleNamespace
) -> None:
    """Whatever the old one finds wrong; but no more than one read a minute for whoever proves nothing."""
    assert function(sent("crm"))["statusCode"] == 200
    changed = SOURCES | {"crm": TOKEN | {"verify": {"type": "token", "header": "x-api-key", "prefix": ""}}}
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"sources": changed}))
    headers = {"x-api-key": KEY}
    assert function(sent("crm", headers=headers))["statusCode"] == 200
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"sources": SOURCES}))
    for _ in range(5):
        refused(function, sent("crm"))
    assert secrets_manager.reads.count(SECRET_ID) == 2
    clock.now += RENEWAL_INTERVAL
    assert function(sent("crm"))["statusCode"] == 200


@pytest.mark.parametrize("error", [None, "AccessDeniedException", "InternalServiceError"])
def test_a_secret_that_cannot_be_read_is_unavailable(
    function: Function, secrets_manager: SecretsManager, error: str | None
) -> None:
    """503, as on our own route, also for a source that there may not be."""
    if error:
        secrets_manager.fail(code=error, about=SECRET_ID)
    else:
        secrets_manager.aws.delete_secret(SECRET_ID)
    for source in ("crm", "nobody"):
        assert refused(function, sent(source), 503)["code"] == "credentials_unavailable"


def test_a_secret_that_hangs_is_unavailable_in_time(
    function: Function, secrets_manager: SecretsManager
) -> None:
    """Before the function's own time is over."""
    secrets_manager.fail(delay=20, about=SECRET_ID)
    began = time.monotonic()
    refused(function, sent("crm"), 503)
    assert time.monotonic() - began < 10


def test_a_key_of_our_own_route_opens_no_source(function: Function) -> None:
    """Each route has its own."""
    headers = signed(json.dumps(EVENT).encode(), key=OWN_KEY)
    assert refused(function, sent("crm", headers=headers)) == UNAUTHORIZED


@pytest.mark.parametrize(
    ("name", "known"), [("crm", "crm"), ("../crm", None), ("CRM", None), ("c" * 99, None), (7, None)]
)
@pytest.mark.parametrize("phone", [CONTACT, None])
def test_a_queued_command_keeps_its_source(
    function: Function, environment: pytest.MonkeyPatch, sqs: Sqs, name: Any, known: str | None, phone: Any
) -> None:
    """In log lines, and where it is dead-lettered; anybody may send messages, so only a name is repeated."""
    environment.setenv("DEAD_LETTER_QUEUE_URL", sqs.url)
    record = sample("sqs")["Records"][0]
    record["body"] = json.dumps({"flow_sid": FLOW_SID, "contact": phone})
    record["messageAttributes"] = {"source": {"stringValue": name, "dataType": "String"}}
    assert function({"Records": [record]}) == {"batchItemFailures": []}
    assert function.logs[0].get("source") == known
    moved = [message["MessageAttributes"].get("source") for message in sqs.messages]
    kept = {"DataType": "String", "StringValue": known} if known else None
    assert moved == ([] if phone else [kept])


@pytest.mark.parametrize("event", ["opened", None, "", [], {}])
def test_what_is_not_meant_is_ignored(function: Function, studio: Studio, sqs: Sqs, event: Any) -> None:
    """200, counted, one line at INFO; nothing is checked of it, queued or asked of Twilio."""
    answer = told(function(sent("crm", {"event": event, "phone": 7})))
    assert answer == (200, {"status": "ignored"})
    assert function.metrics == {"WebhooksIgnored": 1}
    assert [(line["level"], line["source"]) for line in function.logs] == [("INFO", "crm")]
    assert not studio.requests
    assert not sqs.calls


def test_several_events_are_all_queued(function: Function, sqs: Sqs) -> None:
    """202 with an id for each, in their order; those that are not meant are counted apart."""
    events = [EVENT | {"case": f"case-{n}", "event": "closed" if n != 2 else "opened"} for n in range(5)]
    answer = function(sent("many", {"events": events}))
    status, body = told(answer)
    by_case = {
        body["conversation_id"]: message_id for body, message_id in zip(sqs.bodies, sqs.ids, strict=True)
    }
    assert (status, body["status"]) == (202, "accepted")
    assert body["message_ids"] == [by_case[f"case-{n}"] for n in (0, 1, 3, 4)]
    assert "message_id" not in body
    assert answer["headers"]["preference-applied"] == "respond-async"
    assert function.metrics == {"CommandsQueued": 4, "WebhooksIgnored": 1}


def test_none_is_acknowledged_if_one_is_not_queued(function: Function, sqs: Sqs) -> None:
    """503: the sender comes again. What is queued by then has its line and its count."""
    events = [EVENT | {"case": f"case-{n}"} for n in range(5)]
    sqs.fail(code="InvalidParameterValue", about="case-3")
    problem = refused(function, sent("many", {"events": events}), 503)
    assert (problem["code"], len(problem["message_ids"])) == ("queue_unavailable", 4)
    assert function.metrics == {"CommandsQueued": 4}
    lines = {line["conversation_id"]: line for line in function.logs}
    assert lines["case-3"]["code"] == "queue_unavailable"
    assert {line["message_id"] for line in function.logs if line["message"] == "command_queued"} == set(
        sqs.ids
    )


OTHER_FLOW = "FW" + "8" * 32
MIXED = [
    EVENT | {"phone": "", "case": "case-0"},
    EVENT | {"event": "opened"},
    EVENT | {"case": "case-2"},
    EVENT | {"case": "case-3", "flow": OTHER_FLOW},
    EVENT | {"case": "case-4", "at": CANARY},
    EVENT | {"case": "case-5"},
]
REJECTED = [
    {"index": 0, "errors": [{"field": "contact", "message": "must be longer than or equal to 1 characters"}]},
    {"index": 3, "errors": [{"field": "flow_sid", "message": "this deployment does not serve the Flow"}]},
    {
        "index": 4,
        "errors": [{"field": "occurred_at", "message": "must be an RFC 3339 date-time with a time zone"}],
    },
]


@pytest.mark.parametrize("source", ["many", "many-sync"])
def test_each_event_is_judged_by_itself(
    function: Function,
    environment: pytest.MonkeyPatch,
    secrets_manager: SecretsManager,
    studio: Studio,
    sqs: Sqs,
    source: str,
) -> None:
    """Valid ones are queued or carried out; the others are told by place and field, logged and counted."""
    execution = active(studio)
    flow_sid = {"command": TOKEN["command"] | {"flow_sid": f"flow || '{FLOW_SID}'"}}
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"sources": {source: SOURCES[source] | flow_sid}}))
    environment.setenv("ALLOWED_FLOW_SIDS", FLOW_SID)
    status, body = told(function(sent(source, {"events": MIXED})))
    assert body["rejected"] == REJECTED
    assert [line["index"] for line in function.logs if "code" in line] == [0, 3, 4]
    assert function.metrics["RequestsRejected"] == 3
    assert function.metrics["WebhooksIgnored"] == 1
    if source == "many":
        assert (status, body["status"], len(body["message_ids"])) == (202, "accepted", 2)
        assert {each["conversation_id"] for each in sqs.bodies} == {"case-2", "case-5"}
    else:
        assert (status, len(body["results"])) == (200, 2)
        assert execution.status == "ended"
    assert CANARY not in function.output


@pytest.mark.parametrize("source", ["many", "many-sync"])
def test_only_if_all_events_are_rejected_the_request_is(function: Function, sqs: Sqs, source: str) -> None:
    """400 with the place and the fields of each; ignored ones do not count."""
    problem = refused(function, sent(source, {"events": MIXED[:2] + MIXED[4:5]}), 400)
    assert problem["rejected"] == [REJECTED[0], REJECTED[2] | {"index": 2}]
    assert (problem["code"], function.metrics["RequestsRejected"]) == ("invalid_request", 2)
    assert not sqs.calls


@pytest.mark.parametrize("source", ["crm", "desk"])
@pytest.mark.parametrize(
    ("variable", "code"),
    [("ALLOWED_FLOW_SIDS", "flow_not_allowed"), (None, "account_not_allowed")],
)
def test_a_source_is_no_way_around_what_is_allowed(
    function: Function,
    environment: pytest.MonkeyPatch,
    secrets_manager: SecretsManager,
    sqs: Sqs,
    source: str,
    variable: str | None,
    code: str,
) -> None:
    """403, as on our own routes."""
    if variable:
        environment.setenv(variable, OTHER_FLOW)
    else:
        command = TOKEN["command"] | {"account_sid": f"'AC{'9' * 32}'"}
        secrets_manager.aws.put_secret(
            SECRET_ID, json.dumps({"sources": {source: SOURCES[source] | {"command": command}}})
        )
    assert refused(function, sent(source), 403)["code"] == code
    assert not sqs.calls


def test_twilios_failure_of_one_event_is_told_beside_what_is_rejected(
    function: Function, studio: Studio, environment: pytest.MonkeyPatch
) -> None:
    """The sender tries again; what is rejected stays so."""
    environment.setattr(account_module, "BACKOFF", 0.001)
    studio.fail(status=429, headers={"Retry-After": "60"}, times=None)
    answer = function(sent("many-sync", {"events": [EVENT, MIXED[0] | {"case": "x"}]}), 2.0)
    status, problem = told(answer)
    assert (status, problem["code"], answer["headers"]["retry-after"]) == (503, "twilio_throttled", "60")
    assert [each["index"] for each in problem["rejected"]] == [1]


def test_several_events_are_carried_out(function: Function, studio: Studio, sqs: Sqs) -> None:
    """Synchronously, where the declaration says so: a result for each."""
    executions = [active(studio, f"+1500555{n:04}") for n in range(12)]
    events = [EVENT | {"phone": execution.contact} for execution in executions]
    status, body = told(function(sent("many-sync", {"events": events})))
    assert status == 200
    assert [result["executions"][0]["sid"] for result in body["results"]] == [one.sid for one in executions]
    assert {execution.status for execution in executions} == {"ended"}
    assert not sqs.calls


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        ("{", "application/json", 400),
        ('{"event": "closed"', None, 400),
        ("&".join(["a=b"] * 1001), FORM, 400),
        ("{}", "text/plain", 415),
        (f"event=closed&phone={quote(CONTACT)}&note=&", f"{FORM}; charset=utf-8", 202),
        (f"\ufeffevent=closed&phone={quote(CONTACT)}", FORM, 202),
        ("\ufeff" + json.dumps(EVENT), "application/cloudevents+json", 202),
    ],
)
@pytest.mark.parametrize("is_base64", [True, False])
def test_a_verified_body_is_read(
    function: Function, sqs: Sqs, body: str, media_type: str | None, status: int, *, is_base64: bool
) -> None:
    """As the gateway hands it on; who holds a key is told what is wrong, and it is one RequestsRejected."""
    sent_as = base64.b64encode(body.encode()).decode() if is_base64 else body
    answer = function(sent("crm", sent_as, media_type=media_type, isBase64Encoded=is_base64))
    assert answer["statusCode"] == status
    if status == 202:
        assert sqs.bodies[0]["contact"] == CONTACT
    else:
        assert function.metrics == {"RequestsRejected": 1}
        assert not sqs.calls


def test_null_is_ignored_by_sources_only(function: Function) -> None:
    """On our own routes it is no command."""
    for event in (own(None), sample("http") | {"body": "null"}):
        assert refused(function, event, 400)["code"] == "invalid_request"
    assert function.metrics == {"RequestsRejected": 1}


INVALID: dict[str, Any] = {
    "phone": ["", "x" * 257, None, 7, [], [CANARY, 7], {"a": CANARY}, "\ud800" + CANARY],
    "at": [CANARY, "2026-03-02", 7, [CANARY]],
}
FIELDS = {"phone": {"contact", "execution_sid"}, "at": {"occurred_at"}}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in INVALID.items() for v in values])
def test_no_value_of_a_payload_comes_out(function: Function, sqs: Sqs, field: str, value: Any) -> None:
    """400 with the field of the command; answer, logs and metrics name the source, and repeat nothing."""
    # One that is queued, and one that is carried out at once.
    source = "desk" if isinstance(value, str) else "crm"
    body = {"event": "closed", "phone": CONTACT, "secret": CANARY, field: value}
    problem = refused(function, sent(source, body), 400)
    assert {error["field"].partition(".")[0] for error in problem["errors"]} <= FIELDS[field]
    (line,) = function.logs
    assert (line["source"], line["code"], line["level"]) == (source, "invalid_request", "WARNING")
    assert line["detail"].split()[0].partition(".")[0] in FIELDS[field]
    for text in (json.dumps(problem), function.output):
        assert "canary" not in text
        assert "5005550077" not in text
        assert "xxxx" not in text
    assert function.metrics == {"RequestsRejected": 1}
    assert not sqs.calls


def test_a_source_in_shadow_mode_ends_nothing(
    function: Function, studio: Studio, sqs: Sqs, environment: pytest.MonkeyPatch
) -> None:
    """Its command is queued as a dry run, and the log says what it would have ended, and for whom."""
    execution = active(studio)
    assert function(sent("shadow"))["statusCode"] == 202
    (message,) = sqs.messages
    record = sample("sqs")["Records"][0] | {"body": message["MessageBody"]}
    source = message["MessageAttributes"]["source"]["StringValue"]
    record["messageAttributes"] = {"source": {"stringValue": source, "dataType": "String"}}
    assert function({"Records": [record]}) == {"batchItemFailures": []}
    (line,) = function.logs
    assert (line["message"], line["source"], line["execution_sids"]) == ("dry_run", "shadow", [execution.sid])
    assert execution.status == "active"
