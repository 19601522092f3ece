"""Webhooks of sources, through the handler: who is accepted, and what becomes of their events."""

import base64
import hmac
import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from conftest import FLOW_SID, Function, SecretsManager, Sqs, in_sqs, sample, status_and_body, status_and_code
from twilio.request_validator import RequestValidator

from end_conversation.http_request import FORM
from end_conversation.webhooks import sources as sources_module
from end_conversation.webhooks.verifier import RENEWAL_INTERVAL
from local.signing import signed
from local.studio import Execution, Studio

SECRET_ID = "end-conversation/webhooks"
OWN_KEY = "whsec_" + "QUFB" * 8
KEY = "not-a-real-key-of-a-source"
BEARER = {"authorization": f"Bearer {KEY}"}
CONTACT = "whatsapp:+15005550077"
CANARY = "canary-7e57c0de-in-the-payload"
OTHER_FLOW = "FW" + "8" * 32

CRM: dict[str, Any] = {
    "verify": {"type": "token"},
    "keys": [KEY],
    "when": "event == 'closed'",
    "command": {
        "flow_sid": f"flow || '{FLOW_SID}'",
        "account_sid": "account",
        "contact": "phone",
        "occurred_at": "at",
        "conversation_id": "case",
    },
}
SOURCES: dict[str, Any] = {
    "crm": CRM,
    "desk": CRM | {"respond": "sync"},
    "many": CRM | {"each": "events"},
    "many-sync": CRM | {"each": "events", "respond": "sync"},
    "standard": CRM | {"verify": None, "keys": [OWN_KEY]},
    "url": CRM | {"verify": {"type": "hmac", "header": "x-s", "signed": "{url}{body}"}},
    "twilio": CRM | {"verify": {"type": "twilio"}},
    "front": CRM | {"challenge": {"header": "x-front-challenge"}},
    "slack": CRM | {"challenge": {"body": "challenge"}},
    "shadow": CRM | {"dry_run": True},
}
EVENT = {"event": "closed", "phone": CONTACT, "case": "case-1"}
CONTENT = json.dumps(EVENT).encode()
UNAUTHORIZED = {
    "type": "about:blank",
    "title": "Unauthorized",
    "status": 401,
    "detail": "the request has no valid signature",
    "code": "invalid_signature",
}


@pytest.fixture(autouse=True)
def sources(
    environment: pytest.MonkeyPatch, secrets_manager: SecretsManager, studio: Studio
) -> SecretsManager:
    """The sources of this file next to our own key, and a Flow where nothing is active."""
    environment.setenv("WEBHOOK_SECRET_ID", SECRET_ID)
    declare(secrets_manager, SOURCES)
    studio.executions.add_flow(FLOW_SID)
    return secrets_manager


def declare(secrets_manager: SecretsManager, sources: dict[str, Any]) -> None:
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"keys": [OWN_KEY], "sources": sources}))


def sent(
    source: Any,
    body: Any = EVENT,
    headers: dict[str, str] = BEARER,
    media_type: str = "application/json",
    **changes: Any,
) -> dict[str, Any]:
    """A source's webhook."""
    return sample("source-salesforce") | {
        "rawPath": f"/webhooks/{source}",
        "pathParameters": {"source": source},
        "headers": headers | {"content-type": media_type},
        "body": body if isinstance(body, str) else json.dumps(body),
        **changes,
    }


def refused(function: Function, event: dict[str, Any], status: int = 401, seconds: float = 10.0) -> Any:
    """The problem of a refused request, without the request's id."""
    answer = function(event, seconds)
    answered, problem = status_and_body(answer)
    assert answered == status, problem
    challenge = 'Basic realm="end-conversation"' if status == 401 else None
    assert answer["headers"].get("www-authenticate") == challenge
    assert ("retry-after" in answer["headers"]) == (status == 503)
    return {key: value for key, value in problem.items() if key != "request_id"}


def active(studio: Studio, contact: str = CONTACT) -> Execution:
    """An Execution that began before the webhooks of this file were sent."""
    return studio.seed(FLOW_SID, contact=contact, date_created=datetime(2026, 3, 1, tzinfo=UTC))


NOW = 1772444469


@pytest.mark.parametrize(
    ("source", "headers"),
    [("crm", BEARER), ("standard", signed(CONTENT, key=OWN_KEY, timestamp=str(NOW)))],
)
def test_an_event_ends_its_conversation(
    function: Function, studio: Studio, clock: SimpleNamespace, source: str, headers: dict[str, str]
) -> None:
    """The metrics' trigger is `webhook`; the log line has the source."""
    clock.now = NOW
    execution = active(studio)
    assert function(sent(source, headers=headers))["statusCode"] == 200
    assert execution.status == "ended"
    assert function.metrics == {"ExecutionsEnded": 1}
    assert {line["trigger"] for line in function.lines} == {"webhook"}
    assert [line["source"] for line in function.logs] == [source]


URL = "https://api.example.com/eoc/webhooks/{}?a=%20b"
BY_TWILIO = RequestValidator(KEY).compute_signature(URL.format("twilio"), {})
BY_HMAC = hmac.digest(KEY.encode(), URL.format("url").encode(), "sha256").hex()


@pytest.mark.parametrize(
    ("source", "headers", "media_type"),
    [("twilio", {"x-twilio-signature": BY_TWILIO}, FORM), ("url", {"x-s": BY_HMAC}, "application/json")],
)
def test_senders_sign_the_url_of_a_custom_domain(
    function: Function, environment: pytest.MonkeyPatch, source: str, headers: Any, media_type: str
) -> None:
    """`WEBHOOK_BASE_URL` replaces what the gateway says; it is the empty body that is rejected."""
    environment.setenv("WEBHOOK_BASE_URL", "https://api.example.com/eoc")
    refused(function, sent(source, "", headers, media_type, rawQueryString="a=%20b"), 400)


@pytest.mark.parametrize(
    ("parameters", "headers"),
    [
        ({"source": "crm"}, {}),
        ({"source": "crm"}, {"authorization": ""}),
        ({"source": "crm"}, {"authorization": f"Bearer {KEY[:-1]}x"}),
        ({"source": "crm"}, {"authorization": f"Basic {KEY}"}),
        # Our own route's key.
        ({"source": "crm"}, signed(CONTENT, key=OWN_KEY)),
        *(({"source": name}, BEARER) for name in ("nobody", "conversation-ended", "CRM", "../crm", "crm\n")),
        *(({"source": name}, BEARER) for name in ("", "7crm", "cr\u00f6m", "c" * 33, "\ud800", None, 7)),
        *((parameters, BEARER) for parameters in (None, [], "crm", {"proxy": "crm"}, {"source": ["crm"]})),
    ],
)
def test_every_rejection_is_the_same_401(
    function: Function, studio: Studio, parameters: Any, headers: dict[str, str]
) -> None:
    """Whether the proof or the source is wrong; invalid names are not logged; Twilio is not asked."""
    assert refused(function, sent("crm", headers=headers, pathParameters=parameters)) == UNAUTHORIZED
    assert function.metrics == {"RequestsRejected": 1}
    assert function.logs[0].get("source") in (None, "crm", "nobody", "conversation-ended")
    assert not studio.requests


@pytest.mark.parametrize("route", ["/webhooks/{source}", "/webhooks/conversation-ended"])
@pytest.mark.parametrize(
    ("method", "status", "allow"),
    [("HEAD", 200, None), ("GET", 405, "HEAD, POST"), ("PUT", 405, "HEAD, POST")],
)
def test_vendors_may_try_a_url(
    function: Function, secrets_manager: SecretsManager, route: str, method: str, status: int, allow: str
) -> None:
    """By HEAD, with any source's name, through both kinds of API; no secret is read."""
    http = sent("nobody", headers={}, routeKey=f"{method} {route}")
    http["requestContext"]["http"]["method"] = method
    for event in (http, {"httpMethod": method, "resource": route, "requestContext": {}, "body": None}):
        answer = function(event)
        assert (answer["statusCode"], answer["headers"].get("allow")) == (status, allow)
        assert (answer["body"] == "") == (method == "HEAD")
    assert not secrets_manager.reads


@pytest.mark.parametrize(
    ("source", "headers", "body"),
    [
        ("front", {"x-front-challenge": "abc"}, {"type": "sync"}),
        ("slack", {}, {"type": "url_verification", "challenge": "abc"}),
    ],
)
def test_a_challenge_is_answered_to_a_verified_sender(
    function: Function, queue: Sqs, source: str, headers: dict[str, str], body: Any
) -> None:
    """With its value; nothing else is done. Other requests of the source are events."""
    assert status_and_body(function(sent(source, body, BEARER | headers))) == (200, {"challenge": "abc"})
    assert [(line["message"], line["source"]) for line in function.logs] == [("webhook_challenge", source)]
    assert refused(function, sent(source, body, headers)) == UNAUTHORIZED
    assert function(sent(source))["statusCode"] == 202
    assert len(queue.messages) == 1


def test_an_invalid_declaration_disables_only_itself(
    function: Function, secrets_manager: SecretsManager, studio: Studio
) -> None:
    """It gets 401, an ERROR line and a count for each read; the other sources and our own route work."""
    declare(
        secrets_manager, SOURCES | {"misspelt": CRM | {"kyes": [KEY]}, "short": CRM | {"keys": ["short"]}}
    )
    execution = active(studio)
    assert function(sent("desk"))["statusCode"] == 200
    assert execution.status == "ended"
    assert [
        (line["level"], line["source"], line["detail"])
        for line in function.logs
        if line["message"] == "source_invalid"
    ] == [
        ("ERROR", "misspelt", "kyes is unknown"),
        ("ERROR", "short", "keys.0 must be longer than or equal to 16 characters"),
    ]
    assert function.metrics == {"SourcesInvalid": 2, "ExecutionsEnded": 1}
    command = json.dumps({"flow_sid": FLOW_SID, "contact": CONTACT})
    headers = signed(command.encode(), key=OWN_KEY)
    assert function(sample("webhook") | {"headers": headers, "body": command})["statusCode"] == 200
    assert refused(function, sent("misspelt")) == UNAUTHORIZED


def test_declarations_are_compiled_once_for_each_read(
    function: Function, environment: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    """Not for each request."""
    compiled: list[str] = []
    parse_source = sources_module.parse_source
    environment.setattr(
        sources_module, "parse_source", lambda name, it: compiled.append(name) or parse_source(name, it)
    )
    for after, reads in ((0, 1), (1, 1), (301, 2)):
        clock.now += after
        assert function(sent("crm"))["statusCode"] == 200
        assert sorted(compiled) == sorted([*SOURCES] * reads)


X_API_KEY = CRM | {"verify": {"type": "token", "header": "x-api-key", "prefix": ""}}


@pytest.mark.parametrize(
    ("source", "declaration", "headers"), [("new", CRM, BEARER), ("crm", X_API_KEY, {"x-api-key": KEY})]
)
def test_a_changed_declaration_works_at_once(
    function: Function,
    secrets_manager: SecretsManager,
    clock: SimpleNamespace,
    source: str,
    declaration: Any,
    headers: dict[str, str],
) -> None:
    """The secret is read again before a request is rejected, but only once a minute."""
    assert function(sent("crm"))["statusCode"] == 200
    declare(secrets_manager, SOURCES | {source: declaration})
    assert function(sent(source, headers=headers))["statusCode"] == 200
    assert secrets_manager.reads.count(SECRET_ID) == 2
    for other in ("nobody", "CRM", "crm"):
        refused(function, sent(other, headers={}))
    assert secrets_manager.reads.count(SECRET_ID) == 2
    clock.now += RENEWAL_INTERVAL
    refused(function, sent("nobody"))
    assert secrets_manager.reads.count(SECRET_ID) == 3


@pytest.mark.parametrize(
    "fault", [{"code": "AccessDeniedException"}, {"code": "InternalServiceError"}, {"delay": 20}], ids=str
)
@pytest.mark.parametrize("source", ["crm", "nobody"])
def test_a_secret_that_cannot_be_read_is_unavailable(
    function: Function, secrets_manager: SecretsManager, fault: dict[str, Any], source: str
) -> None:
    """503 within Lambda's time, whether there is such a source or not."""
    secrets_manager.fail(about=SECRET_ID, **fault)
    began = time.monotonic()
    assert refused(function, sent(source), 503, seconds=4.0)["code"] == "credentials_unavailable"
    assert time.monotonic() - began < 4


def queued(command: Any, source: Any) -> dict[str, Any]:
    """A message that a source's webhook queued."""
    batch = in_sqs(command)
    attribute = {"stringValue": source, "dataType": "String"}
    batch["Records"][0]["messageAttributes"] = {"source": attribute}
    return batch


@pytest.mark.parametrize(
    ("name", "known"), [("crm", "crm"), ("../crm", None), ("CRM", None), ("c" * 99, None), (7, None)]
)
def test_a_dead_letter_keeps_its_source(
    function: Function, dead_letters: Sqs, name: Any, known: str | None
) -> None:
    """In the log line, too; anybody may have sent the message, so only a valid name is repeated."""
    assert function(queued({"flow_sid": FLOW_SID}, name)) == {"batchItemFailures": []}
    assert function.logs[0].get("source") == known
    (message,) = dead_letters.messages
    kept = {"DataType": "String", "StringValue": known} if known else None
    assert message["MessageAttributes"].get("source") == kept


def test_an_event_that_is_not_meant_is_ignored(function: Function, studio: Studio, queue: Sqs) -> None:
    """200, one count, one line; its fields are not checked, nothing is queued, Twilio is not asked."""
    answer = status_and_body(function(sent("crm", {"event": "opened", "phone": 7})))
    assert answer == (200, {"status": "ignored"})
    assert function.metrics == {"WebhooksIgnored": 1}
    assert [(line["level"], line["source"]) for line in function.logs] == [("INFO", "crm")]
    assert not studio.requests
    assert not queue.calls


def test_several_events_are_all_queued(function: Function, queue: Sqs) -> None:
    """202 with a message id for each, in their order; ignored ones are counted."""
    events = [EVENT | {"case": f"case-{n}", "event": "closed" if n != 2 else "opened"} for n in range(5)]
    answer = function(sent("many", {"events": events}))
    by_case = {
        body["conversation_id"]: message_id for body, message_id in zip(queue.bodies, queue.ids, strict=True)
    }
    message_ids = [by_case[f"case-{n}"] for n in (0, 1, 3, 4)]
    assert status_and_body(answer) == (202, {"status": "accepted", "message_ids": message_ids})
    assert answer["headers"]["preference-applied"] == "respond-async"
    assert function.metrics == {"CommandsQueued": 4, "WebhooksIgnored": 1}


def test_nothing_is_accepted_if_one_event_cannot_be_queued(function: Function, queue: Sqs) -> None:
    """503, and the sender tries again; those that were queued are logged and counted."""
    events = [EVENT | {"case": f"case-{n}"} for n in range(5)]
    queue.fail(code="InvalidParameterValue", about="case-3")
    problem = refused(function, sent("many", {"events": events}), 503)
    assert (problem["code"], sorted(problem["message_ids"])) == ("queue_unavailable", sorted(queue.ids))
    assert function.metrics == {"CommandsQueued": 4}
    codes = {line["conversation_id"]: line.get("code") for line in function.logs}
    assert codes == {f"case-{n}": "queue_unavailable" if n == 3 else None for n in range(5)}


MIXED = [
    EVENT | {"phone": "", "case": "case-0"},
    EVENT | {"event": "opened"},
    EVENT | {"case": "case-2"},
    EVENT | {"case": "case-3", "flow": OTHER_FLOW},
    EVENT | {"case": "case-4", "at": CANARY},
    EVENT | {"case": "case-5"},
    EVENT | {"case": "case-6", "account": "AC" + "9" * 32},
]
REJECTED = [
    {"index": index, "errors": [{"field": field, "message": message}]}
    for index, field, message in (
        (0, "contact", "must be longer than or equal to 1 characters"),
        (3, "flow_sid", "this deployment does not serve the Flow"),
        (4, "occurred_at", "must be an RFC 3339 date-time with a time zone"),
        (6, "account_sid", "this deployment does not serve the account"),
    )
]


@pytest.mark.parametrize("source", ["many", "many-sync"])
def test_each_event_is_judged_by_itself(
    function: Function, environment: pytest.MonkeyPatch, studio: Studio, queue: Sqs, source: str
) -> None:
    """Valid ones are queued or carried out; the others are in `rejected`, logged and counted."""
    execution = active(studio)
    environment.setenv("ALLOWED_FLOW_SIDS", FLOW_SID)
    status, body = status_and_body(function(sent(source, {"events": MIXED})))
    assert body["rejected"] == REJECTED
    assert sorted(line["index"] for line in function.logs if "code" in line) == [0, 3, 4, 6]
    assert function.metrics["RequestsRejected"] == 4
    assert function.metrics["WebhooksIgnored"] == 1
    if source == "many":
        assert (status, body["status"], len(body["message_ids"])) == (202, "accepted", 2)
        assert {each["conversation_id"] for each in queue.bodies} == {"case-2", "case-5"}
    else:
        assert (status, len(body["results"])) == (200, 2)
        assert execution.status == "ended"
    assert CANARY not in function.output


@pytest.mark.parametrize("source", ["many", "many-sync"])
def test_a_request_is_rejected_if_all_its_events_are(function: Function, queue: Sqs, source: str) -> None:
    """400 with the place and the fields of each; ignored ones do not count."""
    problem = refused(function, sent(source, {"events": MIXED[:2] + MIXED[4:5]}), 400)
    assert problem["rejected"] == [REJECTED[0], REJECTED[2] | {"index": 2}]
    assert (problem["code"], function.metrics["RequestsRejected"]) == ("invalid_request", 2)
    assert not queue.calls


def test_a_failure_of_twilio_does_not_hide_what_is_rejected(function: Function, studio: Studio) -> None:
    """The sender tries again; a rejected event stays rejected."""
    studio.fail(status=429, headers={"Retry-After": "60"}, times=None)
    answer = function(sent("many-sync", {"events": [EVENT, MIXED[0]]}))
    assert (*status_and_code(answer), answer["headers"]["retry-after"]) == (503, "twilio_throttled", "60")
    assert [each["index"] for each in json.loads(answer["body"])["rejected"]] == [1]


def test_several_events_are_carried_out(function: Function, studio: Studio, queue: Sqs) -> None:
    """With `"respond": "sync"`: a result for each, in their order."""
    executions = [active(studio, f"+1500555{n:04}") for n in range(12)]
    events = [EVENT | {"phone": execution.contact} for execution in executions]
    status, body = status_and_body(function(sent("many-sync", {"events": events})))
    assert status == 200
    assert [result["executions"][0]["sid"] for result in body["results"]] == [one.sid for one in executions]
    assert {execution.status for execution in executions} == {"ended"}
    assert not queue.calls


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (f"event=closed&phone={quote(CONTACT)}&note=&", FORM),
        (f"\ufeffevent=closed&phone={quote(CONTACT)}", f"{FORM}; charset=utf-8"),
        (json.dumps(EVENT), ""),
        ("\ufeff" + json.dumps(EVENT), "Application/CloudEvents+JSON; charset=utf-8"),
    ],
)
@pytest.mark.parametrize("is_base64", [True, False])
def test_a_body_is_json_or_a_form(
    function: Function, queue: Sqs, body: str, media_type: str, *, is_base64: bool
) -> None:
    """As text or base64, with or without a byte order mark."""
    sent_as = base64.b64encode(body.encode()).decode() if is_base64 else body
    event = sent("crm", sent_as, media_type=media_type, isBase64Encoded=is_base64)
    assert function(event)["statusCode"] == 202
    assert [body["contact"] for body in queue.bodies] == [CONTACT]


@pytest.mark.parametrize(("body", "media_type", "status"), [("{", "", 400), ("{}", "text/plain", 415)])
def test_a_verified_sender_learns_what_is_wrong_with_a_body(
    function: Function, queue: Sqs, body: str, media_type: str, status: int
) -> None:
    """It counts as one rejected request."""
    refused(function, sent("crm", body, media_type=media_type), status)
    assert function.metrics == {"RequestsRejected": 1}
    assert not queue.calls


@pytest.mark.parametrize("source", ["crm", "desk"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("phone", value) for value in ("", "x" * 257, None, 7, [], [CANARY, 7], {"a": CANARY})),
        ("phone", "\ud800" + CANARY),
        *(("at", value) for value in (CANARY, "2026-03-02", 7, [CANARY])),
    ],
)
def test_an_invalid_value_is_not_repeated(
    function: Function, queue: Sqs, source: str, field: str, value: Any
) -> None:
    """400 and a log line with the command's field and the source, but nothing of the payload."""
    fields = {"phone": {"contact", "execution_sid"}, "at": {"occurred_at"}}[field]
    problem = refused(function, sent(source, EVENT | {"secret": CANARY, field: value}), 400)
    assert {error["field"].partition(".")[0] for error in problem["errors"]} <= fields
    (line,) = function.logs
    assert (line["source"], line["code"], line["level"]) == (source, "invalid_request", "WARNING")
    assert line["detail"].split()[0].partition(".")[0] in fields
    for text in (json.dumps(problem), function.output):
        assert not [secret for secret in ("canary", CONTACT[-10:], "xxxx") if secret in text]
    assert function.metrics == {"RequestsRejected": 1}
    assert not queue.calls


def test_shadow_mode_ends_nothing(function: Function, studio: Studio, queue: Sqs) -> None:
    """The command is queued as a dry run; the log says what it would have ended, and for which source."""
    execution = active(studio)
    assert function(sent("shadow"))["statusCode"] == 202
    (message,) = queue.messages
    source = message["MessageAttributes"]["source"]["StringValue"]
    assert function(queued(message["MessageBody"], source)) == {"batchItemFailures": []}
    (line,) = function.logs
    assert (line["message"], line["source"], line["execution_sids"]) == ("dry_run", "shadow", [execution.sid])
    assert execution.status == "active"
