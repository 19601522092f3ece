"""The HTTP trigger: what a caller sees."""

import base64
import json
from functools import reduce
from time import monotonic
from typing import Any

import pytest
from conftest import FLOW_SID, SECRET_ID, Function, in_http, sample, status_and_code

from end_conversation import app, errors
from end_conversation.triggers import responses
from end_conversation.twilio import transport
from end_conversation.webhooks import verifier
from local.studio import Studio

UNKNOWN_SID = "FN" + "9" * 32
FLOW_PATTERN = "^FW[0-9a-fA-F]{32}$"


@pytest.fixture
def command(studio: Studio) -> dict[str, str]:
    return {"flow_sid": FLOW_SID, "execution_sid": studio.seed(FLOW_SID).sid}


@pytest.mark.parametrize("rest", [False, True])
def test_both_payload_formats_are_answered(
    function: Function, command: dict[str, str], *, rest: bool
) -> None:
    """HTTP APIs and REST APIs get 200 and the result."""
    answer = function(in_http(command, rest=rest))
    assert answer["statusCode"] == 200
    assert answer["headers"] == {"content-type": "application/json", "cache-control": "no-store"}
    result = json.loads(answer["body"])
    assert result["flow_sid"] == FLOW_SID
    (execution,) = result["executions"]
    assert set(execution) == {"sid", "status", "date_created", "date_updated"}
    assert (execution["sid"], execution["status"]) == (command["execution_sid"], "ended")


@pytest.mark.parametrize(
    ("media_type", "is_json"),
    [
        *((each, True) for each in ("application/json", "Application/JSON; charset=utf-8", "", None)),
        *((each, False) for each in ("text/plain", "application/jsonx", "application/problem+json", "x")),
    ],
)
def test_json_is_taken(
    function: Function, command: dict[str, str], media_type: str | None, *, is_json: bool
) -> None:
    """With parameters, in any case, and when nothing is said; anything else is 415."""
    headers = {"Content-Type": media_type}
    body = base64.b64encode(json.dumps(command).encode()).decode()
    for changes in ({}, {"body": body, "isBase64Encoded": True}):
        answer = function(in_http(command, headers=headers) | changes)
        assert answer["statusCode"] == (200 if is_json else 415)
    assert is_json or json.loads(answer["body"])["detail"] == "the body must be application/json"


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        *(({"body": body}, "the body is empty") for body in (None, "", {"flow_sid": FLOW_SID})),
        *(({"body": body}, "the body is not JSON") for body in ("{", '{"flow_sid": NaN}', "x" * 3_000_000)),
        *(({"body": body}, "the payload is not a JSON object") for body in ("[]", "null", '"text"')),
        *(({"body": each * 300_000}, "the body is nested too deeply") for each in ("[", '{"a":')),
        ({"body": json.dumps({"flow_sid": "F" * 3_000_000})}, f"flow_sid must match pattern {FLOW_PATTERN}"),
        ({"body": "\ud800"}, "the body is not UTF-8"),
        *(
            ({"body": body, "isBase64Encoded": True}, "the body is not valid base64")
            for body in ("!!!", "e30", "\u00e9")
        ),
        *(
            ({"body": base64.b64encode(raw).decode(), "isBase64Encoded": True}, "the body is not UTF-8")
            for raw in (b"\xff\xfe", "{}".encode("utf-16"))
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_bodies_are_bad_requests(
    function: Function, studio: Studio, changes: dict[str, Any], detail: str
) -> None:
    """400 that says what to repair; never a 5xx, never a call to Twilio."""
    answer = function(in_http("") | changes)
    assert status_and_code(answer) == (400, "invalid_request")
    assert json.loads(answer["body"])["detail"] == detail
    assert not studio.requests
    assert function.metrics == {"RequestsRejected": 1}


@pytest.mark.parametrize("command", [{}, {"flow_sid": FLOW_SID, "execution_sid": UNKNOWN_SID}])
def test_the_log_has_the_gateways_request_id(function: Function, command: dict[str, str]) -> None:
    """A caller's report leads to its line."""
    function(in_http(command))
    (line,) = function.logs
    assert line["request_id"] == sample("http")["requestContext"]["requestId"]


def test_the_first_content_type_counts(function: Function, command: dict[str, str]) -> None:
    """A REST API hands on every value of a header that came twice."""
    headers = {"Content-Type": ["application/json", "text/plain"]}
    assert function(in_http(command, rest=True, multiValueHeaders=headers))["statusCode"] == 200


def test_a_problem_is_complete(function: Function) -> None:
    """RFC 9457's members and our own, with each field that is wrong."""
    answer = function(in_http({"flow_sid": 1, "execution_sid": "x"}))
    assert answer["headers"] == {"content-type": "application/problem+json", "cache-control": "no-store"}
    problem = json.loads(answer["body"])
    assert problem == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "flow_sid must be a string; execution_sid must match pattern ^FN[0-9a-fA-F]{32}$",
        "code": "invalid_request",
        "request_id": sample("http")["requestContext"]["requestId"],
        "errors": [
            {"field": "flow_sid", "message": "must be a string"},
            {"field": "execution_sid", "message": "must match pattern ^FN[0-9a-fA-F]{32}$"},
        ],
    }


@pytest.mark.parametrize(
    "event",
    [
        in_http({}, routeKey="$default"),
        in_http({}, routeKey="POST /elsewhere"),
        in_http({}, routeKey="POST /conversations/end/"),
        in_http({}, routeKey="POST /webhooks"),
        in_http({}, routeKey="/conversations/end"),
        in_http({}, routeKey=None),
        in_http({}, rest=True, resource="/{proxy+}"),
        sample("http-function-url"),
        {"requestContext": None},
        {"requestContext": {"elb": {}}, "httpMethod": "POST", "path": "/conversations/end"},
        {"requestContext": {"timeEpoch": reduce(lambda inner, _: [inner], range(5000), 0)}},
        {"requestContext": {"routeKey": "$connect", "eventType": "CONNECT"}},
    ],
)
def test_what_came_by_another_way_is_not_found(function: Function, event: dict[str, Any]) -> None:
    """Only the route of an API has the gateway's authorizer before it."""
    answer = function(event)
    assert status_and_code(answer) == (404, "not_found")
    assert json.loads(answer["body"])["detail"] == "the route does not exist"


GET = {"routeKey": "GET /conversations/end", "requestContext": {"http": {"method": "GET"}}}


@pytest.mark.parametrize(
    "event",
    [
        GET,
        GET | {"routeKey": "ANY /conversations/end"},
        in_http({}, rest=True, httpMethod="PUT"),
    ],
)
def test_other_methods_are_not_allowed(function: Function, event: dict[str, Any]) -> None:
    """405 names the one that is."""
    answer = function(event)
    assert (answer["statusCode"], answer["headers"]["allow"]) == (405, "POST")
    assert json.loads(answer["body"])["detail"] == "the route accepts POST only"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"status": 404}, 404, "execution_not_found"),
        ({"status": 500}, 502, "twilio_error"),
        ({"status": 400}, 502, "twilio_error"),
        ({"status": 302, "headers": {"Location": "/"}}, 502, "twilio_error"),
        ({"body": "no json"}, 502, "twilio_error"),
        ({"broken": "reset"}, 502, "twilio_error"),
        ({"status": 401}, 502, "credentials_rejected"),
        ({"status": 403}, 502, "credentials_rejected"),
        ({"status": 429}, 503, "twilio_throttled"),
        ({"broken": "hang"}, 504, "twilio_timeout"),
        ({"broken": "drip"}, 504, "twilio_timeout"),
    ],
)
def test_twilios_failures_have_their_status(
    function: Function, studio: Studio, command: dict[str, str], fault: dict[str, Any], status: int, code: str
) -> None:
    """Callers can tell Twilio's failures apart, and learn of them in time."""
    function(in_http(command))
    studio.fail(times=None, **fault)
    assert status_and_code(function(in_http(command), seconds=2.5)) == (status, code)


def test_an_answer_comes_before_the_gateway_gives_up(
    function: Function, studio: Studio, command: dict[str, str]
) -> None:
    """However long the function itself may take."""
    function(in_http(command))
    function.patch(app, "HTTP_BUDGET", 0.3)
    studio.fail(broken="hang", times=None)
    began = monotonic()
    assert function(in_http(command))["statusCode"] == 504
    assert monotonic() - began < 5


def test_a_failure_carries_twilios_code(function: Function) -> None:
    """So that a caller can look it up."""
    answer = function(in_http({"flow_sid": FLOW_SID, "execution_sid": UNKNOWN_SID}))
    assert json.loads(answer["body"])["twilio_code"] == 20404


def test_retry_after_of_an_unreadable_secret() -> None:
    """A retry before the verifier's pause is over would fail."""
    assert responses.SECRET_RETRY_AFTER == verifier.FAILURE_PAUSE


@pytest.mark.parametrize(("given_", "told"), [("3600", "3600"), ("0", "1"), ("soon", "1"), (None, "1")])
def test_throttling_says_when_to_come_again(
    function: Function, studio: Studio, command: dict[str, str], given_: str | None, told: str
) -> None:
    """Twilio's number of seconds where it makes sense, else at least one."""
    function(in_http(command))
    studio.fail(status=429, headers={"Retry-After": given_} if given_ else {}, times=None)
    assert function(in_http(command), seconds=2.5)["headers"]["retry-after"] == told


def test_a_flow_that_is_not_allowed_is_forbidden(
    function: Function, studio: Studio, command: dict[str, str]
) -> None:
    """403, and Twilio is not asked."""
    function.setenv("ALLOWED_FLOW_SIDS", "FW" + "2" * 32)
    answer = function(in_http(command))
    assert status_and_code(answer) == (403, "flow_not_allowed")
    assert json.loads(answer["body"])["detail"] == "this deployment does not serve the Flow"
    assert not studio.requests


def test_a_secret_that_cannot_be_read_is_unavailable(function: Function, command: dict[str, str]) -> None:
    """503: it may be there again."""
    function.secrets_manager.aws.delete_secret(SECRET_ID)
    assert status_and_code(function(in_http(command))) == (503, "credentials_unavailable")
    assert function.metrics == {"CredentialsUnavailable": 1}


@pytest.mark.parametrize(
    ("variable", "value"), [("TWILIO_SECRET_ID", ""), ("TWILIO_SECRET_MAX_AGE_SECONDS", "soon")]
)
def test_a_wrong_setting_is_our_error(
    function: Function, command: dict[str, str], variable: str, value: str
) -> None:
    """500 without details for the caller, which the log has."""
    function.setenv(variable, value)
    answer = function(in_http(command))
    assert status_and_code(answer) == (500, "internal_error")
    assert json.loads(answer["body"])["detail"] == "the function's log has the details"
    (line,) = function.logs
    assert variable in line["detail"]
    assert line["level"] == "ERROR"


def test_a_repaired_setting_works_at_the_next_request(function: Function, command: dict[str, str]) -> None:
    """A failure to set up is not kept."""
    function.setenv("TWILIO_SECRET_ID", "")
    assert function(in_http(command))["statusCode"] == 500
    function.setenv("TWILIO_SECRET_ID", SECRET_ID)
    assert function(in_http(command))["statusCode"] == 200


def test_every_error_has_a_status() -> None:
    """A class that is raised and not in the table would be an unhandled error."""

    def concrete(kind: type[errors.EndConversationError]) -> set[type[errors.EndConversationError]]:
        below = set().union(*(concrete(sub) for sub in kind.__subclasses__()))
        return below | ({kind} if hasattr(kind, "code") else set())

    for error in concrete(errors.EndConversationError):
        assert responses.STATUS.keys() & set(error.__mro__), error


def test_a_response_that_is_too_large_is_twilios_failure(function: Function, command: dict[str, str]) -> None:
    """Of an ended Execution and of a list: a problem as for any other response that cannot be read."""
    function.patch(transport, "MAX_RESPONSE", 10)
    by_contact = {"flow_sid": command["flow_sid"], "contact": "+15005550006"}
    for each in (command, by_contact):
        assert status_and_code(function(in_http(each))) == (502, "twilio_error")
