"""Sources through the handler: who is let in, what becomes of an event, and what nobody gets to see."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import FLOW_SID, Function, SecretsManager, Sqs, sample

from end_conversation.aws import secret as secret_module
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
}
BROKEN: dict[str, Any] = {
    "misspelt": TOKEN | {"kyes": [KEY]},
    "unparsable": TOKEN | {"when": "event ="},
    "unheard-of": TOKEN | {"preset": "pager"},
    "short": TOKEN | {"keys": ["short"]},
    "keyless": TOKEN | {"keys": []},
    "nothing": None,
}
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
    answered, problem = told(function(event))
    assert answered == status, problem
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


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_sources_are_posted_to(function: Function, method: str) -> None:
    """405 with Allow, as on our own route."""
    event = sent("crm")
    event["requestContext"]["http"]["method"] = method
    answer = function(event)
    assert (answer["statusCode"], answer["headers"]["allow"]) == (405, "POST")


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


@pytest.mark.parametrize("declarations", [[], "crm", 7, {"Not A Name": TOKEN}])
def test_sources_that_are_none_leave_our_own_route_alone(
    function: Function, secrets_manager: SecretsManager, declarations: Any
) -> None:
    """They are logged, unless there is nothing at all."""
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"keys": [OWN_KEY], "sources": declarations}))
    assert function(own({"flow_sid": FLOW_SID, "contact": CONTACT}))["statusCode"] == 200
    assert function.metrics == {"NothingToEnd": 1} | ({"SourcesInvalid": 1} if declarations else {})
    assert "Not A Name" not in function.output
    assert refused(function, sent("crm")) == UNAUTHORIZED


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


def test_a_rotated_key_works_at_once(function: Function, secrets_manager: SecretsManager) -> None:
    """Beside the old one, as long as the declaration has both."""
    assert function(sent("crm"))["statusCode"] == 200
    newer = "not-a-real-newer-key"
    rotated = SOURCES | {"crm": TOKEN | {"keys": [KEY, newer]}}
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"sources": rotated}))
    for key in (newer, KEY):
        assert function(sent("crm", headers={"authorization": f"Bearer {key}"}))["statusCode"] == 200


def test_a_removed_source_is_refused_once_the_secret_is_read(
    function: Function, secrets_manager: SecretsManager, clock: SimpleNamespace
) -> None:
    """At the latest when the secret is as old as it may be."""
    assert function(sent("crm"))["statusCode"] == 200
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"keys": [OWN_KEY]}))
    clock.now += 301
    assert refused(function, sent("crm")) == UNAUTHORIZED


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


def test_a_secret_may_hold_sources_without_keys(function: Function, secrets_manager: SecretsManager) -> None:
    """Our own route takes nobody then."""
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"sources": SOURCES}))
    assert function(sent("crm"))["statusCode"] == 200
    assert refused(function, own({"flow_sid": FLOW_SID, "contact": CONTACT})) == UNAUTHORIZED


def test_without_a_secret_no_source_is_known(
    function: Function, environment: pytest.MonkeyPatch, secrets_manager: SecretsManager
) -> None:
    """401, and nothing is read."""
    environment.setenv("WEBHOOK_SECRET_ID", "")
    assert refused(function, sent("crm")) == UNAUTHORIZED
    assert not secrets_manager.reads


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


@pytest.mark.parametrize(
    ("when", "is_ignored"),
    [("`false`", True), ("null", True), ("''", True), ("`[]`", True), ("`{}`", True), ("`0`", False)],
)
def test_when_is_nothing(
    function: Function, secrets_manager: SecretsManager, when: str, *, is_ignored: bool
) -> None:
    """False, null and what is empty; zero is something."""
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"sources": {"crm": TOKEN | {"when": when}}}))
    status, answer = told(function(sent("crm")))
    assert (status, answer.get("status") == "ignored") == (200, is_ignored)


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


def test_the_one_event_of_a_list_has_one_id(function: Function, sqs: Sqs) -> None:
    """As if it had come by itself."""
    assert told(function(sent("many", {"events": [EVENT]})))[1] == {
        "status": "accepted",
        "message_id": sqs.ids[0],
    }


@pytest.mark.parametrize("at", [0, 1, 2])
def test_none_is_queued_if_one_is_invalid(function: Function, sqs: Sqs, at: int) -> None:
    """400 with the field, wherever it stands among the others."""
    events = [EVENT, EVENT, EVENT]
    events[at] = EVENT | {"phone": ""}
    problem = refused(function, sent("many", {"events": events}), 400)
    assert [error["field"] for error in problem["errors"]] == ["contact"]
    assert not sqs.calls
    assert function.metrics == {"RequestsRejected": 1}


def test_none_is_acknowledged_if_one_is_not_queued(function: Function, sqs: Sqs) -> None:
    """503: the sender comes again. What is queued by then has its line and its count."""
    events = [EVENT | {"case": f"case-{n}"} for n in range(5)]
    sqs.fail(code="InvalidParameterValue", about="case-3")
    problem = refused(function, sent("many", {"events": events}), 503)
    assert (problem["code"], "message_ids" in problem) == ("queue_unavailable", False)
    assert function.metrics == {"CommandsQueued": 4}
    lines = {line["conversation_id"]: line for line in function.logs}
    assert lines["case-3"]["code"] == "queue_unavailable"
    assert {line["message_id"] for line in function.logs if line["message"] == "command_queued"} == set(
        sqs.ids
    )


@pytest.mark.parametrize("number", [100, 101])
def test_a_hundred_events_are_the_most(function: Function, sqs: Sqs, number: int) -> None:
    """One more is 400, and nothing is queued."""
    event = sent("many", {"events": [EVENT] * number})
    if number == 100:
        assert len(told(function(event))[1]["message_ids"]) == 100
        assert len(sqs.messages) == 100
        assert function.metrics == {"CommandsQueued": 100}
    else:
        assert [error["field"] for error in refused(function, event, 400)["errors"]] == ["each"]
        assert not sqs.calls


@pytest.mark.parametrize("events", [None, "closed", 7, {"event": "closed"}, True])
def test_each_has_to_be_a_list(function: Function, events: Any) -> None:
    """400 that names the field of the declaration."""
    problem = refused(function, sent("many", {"events": events}), 400)
    assert [error["field"] for error in problem["errors"]] == ["each"]


def test_no_events_are_ignored(function: Function) -> None:
    """An empty list is nothing to do, and no failure."""
    assert told(function(sent("many", {"events": []}))) == (200, {"status": "ignored"})


def test_several_events_are_carried_out(function: Function, studio: Studio, sqs: Sqs) -> None:
    """Synchronously, where the declaration says so: a result for each."""
    executions = [active(studio, f"+1500555{n:04}") for n in range(12)]
    events = [EVENT | {"phone": execution.contact} for execution in executions]
    status, body = told(function(sent("many-sync", {"events": events})))
    assert status == 200
    assert [result["executions"][0]["sid"] for result in body["results"]] == [one.sid for one in executions]
    assert {execution.status for execution in executions} == {"ended"}
    assert not sqs.calls


def test_the_worst_of_several_speaks_for_all(function: Function, studio: Studio) -> None:
    """The others are done all the same, so that asking again is cheap."""
    execution = active(studio)
    events = [EVENT, EVENT | {"phone": ""}]
    assert refused(function, sent("many-sync", {"events": events}), 400)["code"] == "invalid_request"
    assert execution.status == "ended"


def test_a_form_is_an_object_of_its_fields(function: Function, sqs: Sqs) -> None:
    """As Twilio and others send it."""
    body = urlencode({"event": "closed", "phone": CONTACT, "case": "", "why": "sol ved & \u00fc"})
    event = sent("crm", body, media_type="application/x-www-form-urlencoded; charset=utf-8")
    problem = refused(function, event, 400)
    assert [error["field"] for error in problem["errors"]] == ["conversation_id"]
    event["body"] = body.replace("case=&", "case=7&")
    assert function(event)["statusCode"] == 202
    assert (sqs.bodies[0]["reason"], sqs.bodies[0]["conversation_id"]) == ("sol ved & \u00fc", "7")


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        ("", "application/json", 400),
        ("{", "application/json", 400),
        ("NaN", "application/json", 400),
        ("[" * 100_000, "application/json", 400),
        ('{"event": "closed"', None, 400),
        ("%zz", "application/x-www-form-urlencoded", 400),
        ("event=%ff", "application/x-www-form-urlencoded", 400),
        ("&".join(["a=b"] * 1001), "application/x-www-form-urlencoded", 400),
        ("", "application/x-www-form-urlencoded", 400),
        ("{}", "text/plain", 415),
        ("{}", "multipart/form-data; boundary=x", 415),
    ],
)
def test_a_verified_body_may_be_wrong_too(
    function: Function, sqs: Sqs, body: str, media_type: str | None, status: int
) -> None:
    """Who holds a key is told; it is one RequestsRejected."""
    refused(function, sent("crm", body, media_type=media_type), status)
    assert function.metrics == {"RequestsRejected": 1}
    assert not sqs.calls


@pytest.mark.parametrize("body", ["null", "7", '"closed"', "[]", "true"])
def test_json_that_is_no_object_is_no_event(function: Function, body: str) -> None:
    """It has no field that `when` would find."""
    assert told(function(sent("crm", body))) == (200, {"status": "ignored"})


def test_null_is_ignored_by_sources_only(function: Function) -> None:
    """On our own routes it is no command."""
    for event in (own(None), sample("http") | {"body": "null"}):
        assert refused(function, event, 400)["code"] == "invalid_request"
    assert function.metrics == {"RequestsRejected": 1}


def test_no_key_is_compared_before_the_body_is_known_to_be_one(function: Function) -> None:
    """What the event says is base64, and is not, is refused as a stranger's."""
    assert refused(function, sent("crm", "!!!", isBase64Encoded=True)) == UNAUTHORIZED


def test_a_base64_body_is_decoded(function: Function, sqs: Sqs) -> None:
    """As the gateway hands on what it takes for binary, a form's say."""
    body = base64.b64encode(json.dumps(EVENT).encode()).decode()
    assert function(sent("crm", body, isBase64Encoded=True))["statusCode"] == 202
    assert sqs.bodies[0]["contact"] == CONTACT


INVALID: dict[str, Any] = {
    "phone": ["", "x" * 257, None, 7, [], [CANARY, 7], {"a": CANARY}, "\ud800" + CANARY],
    "at": [CANARY, "2026-03-02", 7, [CANARY]],
    "case": ["", CANARY * 9, 7, {"a": CANARY}],
    "why": ["", CANARY * 20, [CANARY]],
}
FIELDS = {
    "phone": {"contact", "execution_sid"},
    "at": {"occurred_at"},
    "case": {"conversation_id"},
    "why": {"reason"},
}


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


@pytest.mark.parametrize(
    ("declaration", "body"),
    [
        ({"when": "starts_with(event, 'c')"}, {"event": [CANARY]}),
        ({"each": "sort_by(@, &n)"}, [{"n": CANARY}, {"n": 7}]),
        ({"when": "powertools_json(event)"}, {"event": "{" + CANARY}),
        ({"when": "powertools_base64(event)"}, {"event": CANARY}),
        ({"command": TOKEN["command"] | {"contact": "e164(phone)"}, "when": None}, {"phone": CANARY}),
        ({"command": TOKEN["command"] | {"contact": "abs(phone)"}, "when": None}, {"phone": CANARY}),
    ],
)
def test_what_an_expression_cannot_do_is_a_clear_answer(
    function: Function, secrets_manager: SecretsManager, declaration: dict[str, Any], body: Any
) -> None:
    """400 with the declaration's field: JMESPath's own errors would quote the payload."""
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"sources": {"crm": TOKEN | declaration}}))
    problem = refused(function, sent("crm", body), 400)
    (error,) = problem["errors"]
    assert error["field"] in ("when", "each", "contact")
    assert "canary" not in json.dumps(problem) + function.output


def test_headers_that_come_twice_prove_nothing(function: Function) -> None:
    """A REST API hands on both, and there is no telling which one was meant."""
    event = sample("http-rest") | {"resource": "/webhooks/{source}", "pathParameters": {"source": "crm"}}
    event |= {"body": json.dumps(EVENT), "headers": {}}
    event["multiValueHeaders"] = {"Authorization": [f"Bearer {KEY}"]}
    assert function(event)["statusCode"] == 200
    event["multiValueHeaders"] = {"Authorization": [f"Bearer {KEY}"] * 2}
    assert refused(function, event) == UNAUTHORIZED


def test_a_flow_that_is_not_allowed_is_refused(
    function: Function, environment: pytest.MonkeyPatch, sqs: Sqs
) -> None:
    """A source is no way around the allow-list."""
    environment.setenv("ALLOWED_FLOW_SIDS", "FW" + "8" * 32)
    assert refused(function, sent("crm"), 403)["code"] == "flow_not_allowed"
    assert not sqs.calls


def test_an_own_field_that_is_null_is_absent(function: Function, sqs: Sqs) -> None:
    """An expression that finds nothing leaves its field out."""
    assert function(sent("crm", EVENT | {"case": None, "at": None}))["statusCode"] == 202
    assert "conversation_id" not in sqs.bodies[0]
    assert sqs.bodies[0]["occurred_at"].startswith("2026-03-02T09:41:09.512")
