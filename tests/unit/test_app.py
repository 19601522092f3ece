"""The handler: EventBridge, direct invocation, and what holds for every trigger."""

import contextlib
import gc
import json
import os
import re
from time import monotonic
from typing import Any

import pytest
from conftest import FLOW_SID, SECRET_ID, Context, Function, SecretsManager, sample
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from end_conversation.errors import (
    ConfigurationError,
    CredentialsUnavailable,
    EndConversationError,
    ExecutionNotFound,
    InternalError,
    InvalidRequest,
    TwilioThrottled,
    TwilioTimeout,
)
from end_conversation.twilio import account as account_module
from local.studio import API_KEY, Studio

CONTACT = "+15005550006"
VALID_PATH = re.compile(r"/v2/Flows/FW[0-9a-fA-F]{32}/Executions(/FN[0-9a-fA-F]{32})?", re.ASCII)


@pytest.fixture
def command(studio: Studio) -> dict[str, str]:
    execution = studio.seed(FLOW_SID, contact=CONTACT)
    return {"flow_sid": FLOW_SID, "execution_sid": execution.sid}


def by_every_trigger(command: Any) -> dict[str, Any]:
    text = json.dumps(command)
    return {
        "http": sample("http") | {"body": text},
        "eventbridge": sample("eventbridge") | {"detail": command},
        "sqs": {"Records": [sample("sqs")["Records"][0] | {"body": text}]},
        "direct": command,
    }


TRIGGERS = list(by_every_trigger(None))


@pytest.mark.parametrize("trigger", ["eventbridge", "direct"])
def test_the_result_is_returned(function: Function, command: dict[str, str], trigger: str) -> None:
    """Who invokes the function for itself gets the result as it is."""
    result = function(by_every_trigger(command)[trigger])
    assert result["flow_sid"] == FLOW_SID
    assert [execution["sid"] for execution in result["executions"]] == [command["execution_sid"]]


@pytest.mark.parametrize("trigger", ["eventbridge", "direct"])
def test_a_failure_is_raised(function: Function, studio: Studio, trigger: str) -> None:
    """Lambda's retries and failure destination go by that, and callers by the class's name."""
    events = by_every_trigger({"flow_sid": FLOW_SID, "execution_sid": "FN" + "9" * 32})
    with pytest.raises(ExecutionNotFound):
        function(events[trigger])
    with pytest.raises(InvalidRequest):
        function(by_every_trigger({"flow_sid": "x"})[trigger])
    studio.fail(status=429, headers={"Retry-After": "3600"}, times=None)
    with pytest.raises(TwilioThrottled):
        function(events[trigger])


def test_a_wrong_setting_is_raised(
    function: Function, command: dict[str, str], environment: pytest.MonkeyPatch
) -> None:
    """At the request, under its own name, and not at import."""
    environment.setenv("TWILIO_STUDIO_BASE_URL", "http://studio.twilio.com")
    with pytest.raises(ConfigurationError):
        function(command)


def test_a_missing_region_is_a_wrong_setting(
    function: Function, command: dict[str, str], environment: pytest.MonkeyPatch
) -> None:
    """What botocore cannot do without is told as a setting."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        environment.delenv(name)
    with pytest.raises(ConfigurationError, match="NoRegionError"):
        function(command)


def test_a_defect_does_not_raise_its_text(
    function: Function, command: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda prints what is raised: nothing of an exception that nobody foresaw is in it."""
    monkeypatch.setattr(account_module, "_json_object", lambda _: {}[CONTACT])
    with pytest.raises(InternalError) as error:
        function(command)
    assert CONTACT not in str(error.value) + function.output
    assert error.value.__suppress_context__


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "text",
        7,
        {},
        {"Records": []},
        {"Records": [{"eventSource": "aws:s3", "s3": {}}]},
        {"Records": [{"EventSource": "aws:sns", "Sns": {}}]},
        {"Records": "aws:sqs"},
        {"detail-type": "EndConversation"},
        {"detail-type": "EndConversation", "detail": "{}"},
        sample("direct-invalid"),
    ],
)
def test_what_is_no_command_is_invalid(function: Function, studio: Studio, event: Any) -> None:
    """Events of other services, and things that are no events."""
    with pytest.raises(InvalidRequest):
        function(event)
    assert not studio.requests


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_metrics_have_service_and_trigger(
    function: Function, command: dict[str, str], trigger: str, environment: pytest.MonkeyPatch
) -> None:
    """Those two dimensions and no others; SIDs would be a metric each."""
    function(by_every_trigger(command)[trigger])
    (metrics,) = [line for line in function.lines if "_aws" in line]
    (directive,) = metrics["_aws"]["CloudWatchMetrics"]
    assert [sorted(dimensions) for dimensions in directive["Dimensions"]] == [["service", "trigger"]]
    assert metrics["trigger"] == trigger
    assert function.metrics == {"ExecutionsEnded": 1}
    assert {"Name": "TwilioLatency", "Unit": "Milliseconds"} in directive["Metrics"]


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_success_is_one_line(function: Function, command: dict[str, str], trigger: str) -> None:
    """INFO, with what the caller gave for the logs."""
    given_for_logs = {"conversation_id": "c-17", "reason": "resolved"}
    function(by_every_trigger(command | given_for_logs)[trigger])
    (line,) = function.logs
    assert (line["level"], line["message"]) == ("INFO", "conversation_ended")
    told = {"trigger": trigger, "ended": 1, "already_ended": 0}
    assert line.items() >= (command | given_for_logs | told).items()
    assert line["function_request_id"] == Context(0).aws_request_id
    assert "execution_sids" not in line


def test_what_was_over_before_is_counted_apart(function: Function, command: dict[str, str]) -> None:
    """In the log line and in a metric of its own."""
    function(command)
    function(command)
    (line,) = function.logs
    assert (line["ended"], line["already_ended"]) == (0, 1)
    assert function.metrics == {"ExecutionsAlreadyEnded": 1}


@pytest.mark.parametrize("trigger", ["http", "eventbridge"])
def test_half_a_character_does_not_cost_a_line(
    function: Function, command: dict[str, str], trigger: str
) -> None:
    """JSON can spell half of a surrogate pair, which UTF-8 cannot."""
    event = by_every_trigger(command)[trigger] | {"id": "\ud800"}
    if trigger == "http":
        event["requestContext"]["requestId"] = "\ud800"
    function(event)
    (line,) = function.logs
    assert line["message"] == "conversation_ended"


def test_a_refusal_without_a_secret_to_read_again_has_twilios_facts(
    function: Function, studio: Studio, secrets_manager: SecretsManager, command: dict[str, str]
) -> None:
    """Twilio's request id is with every failure that Twilio has a part in."""
    function(command)
    studio.credentials = set()
    secrets_manager.fail(code="InternalServiceError")
    function(by_every_trigger(command)["http"])
    (line,) = function.logs
    assert line["code"] == "credentials_unavailable"
    assert [(retry["status"], retry["twilio_code"]) for retry in line["retries"]] == [(401, 20003)]


def test_a_failure_is_one_line(function: Function, studio: Studio, command: dict[str, str]) -> None:
    """ERROR, with the code, Twilio's code and Twilio's request id."""
    studio.fail(status=429, headers={"Retry-After": "3600"})
    function(by_every_trigger(command)["http"])
    (line,) = function.logs
    assert (line["level"], line["message"], line["code"]) == (
        "ERROR",
        "conversation_not_ended",
        "twilio_throttled",
    )
    assert (line["http_status"], line["twilio_code"], line["retry_after"]) == (429, 20429, 3600)
    assert line["twilio_request_id"].startswith("RQ")


def test_log_keys_do_not_leak_into_the_next_invocation(function: Function, command: dict[str, str]) -> None:
    """A warm process remembers nothing of the one before."""
    function(command | {"conversation_id": "c-17"})
    function(command)
    assert "conversation_id" not in function.logs[0]


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize("fault", [{}, {"status": 400}, {"status": 500}, {"status": 401}, {"body": CONTACT}])
def test_nothing_secret_or_personal_comes_out(
    function: Function,
    studio: Studio,
    command: dict[str, str],
    trigger: str,
    fault: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither in logs and metrics, nor in the answer or the exception."""
    monkeypatch.setattr(account_module, "BACKOFF", 0.001)
    monkeypatch.setenv("POWERTOOLS_LOG_LEVEL", "DEBUG")
    if fault:
        studio.fail(times=None, **fault)
    try:
        told = repr(function(by_every_trigger(command)[trigger]))
    except EndConversationError as error:
        told = "".join(map(repr, (error, error.args, error.__cause__)))
    everything = told + function.output
    assert function.output
    for canary in (CONTACT, API_KEY[0], API_KEY[1]):
        assert canary not in everything


def test_stale_credentials_are_used_logged_and_counted(
    function: Function,
    secrets_manager: SecretsManager,
    command: dict[str, str],
    environment: pytest.MonkeyPatch,
) -> None:
    """Secrets Manager is down; customers do not notice, the operator does."""
    environment.setenv("TWILIO_SECRET_MAX_AGE_SECONDS", "0")
    function(command)
    secrets_manager.fail(code="InternalServiceError")
    assert function(command)["executions"]
    assert function.metrics["StaleCredentialsUsed"] == 1
    (line,) = [line for line in function.logs if line["message"] == "stale_credentials_used"]
    assert line["detail"] == "Secrets Manager refuses the secret: InternalServiceError"


def test_a_hundred_warm_invocations_share_everything(
    function: Function, studio: Studio, secrets_manager: SecretsManager
) -> None:
    """One connection to Twilio, one call to Secrets Manager, one request for each Execution."""
    for _ in range(100):
        function({"flow_sid": FLOW_SID, "execution_sid": studio.seed(FLOW_SID).sid})
    assert (len(studio.requests), studio.connections, len(secrets_manager.reads)) == (100, 1, 1)


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize("fault", ["twilio", "secrets manager"])
def test_every_trigger_is_done_before_lambda_is(
    function: Function,
    studio: Studio,
    secrets_manager: SecretsManager,
    command: dict[str, str],
    trigger: str,
    fault: str,
) -> None:
    """Whoever hangs, the answer comes before the function's timeout."""
    if fault == "twilio":
        studio.fail(broken="hang", times=None)
    else:
        secrets_manager.fail(delay=20)
    began = monotonic()
    with contextlib.suppress(TwilioTimeout, CredentialsUnavailable):
        function(by_every_trigger(command)[trigger], seconds=1.6)
    assert monotonic() - began < 1.6


sids = st.just(FLOW_SID) | st.from_regex("FN[0-9a-f]{32}") | st.text()


@given(st.dictionaries(st.sampled_from(["flow_sid", "execution_sid", "contact", "reason"]), sids))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_valid_sids_reach_a_url(function: Function, studio: Studio, command: dict[str, str]) -> None:
    """Whatever a command holds, Twilio is asked for two SIDs or not at all."""
    studio.clear_requests()
    with contextlib.suppress(InvalidRequest, ExecutionNotFound):
        function(command)
    for request in studio.requests:
        assert VALID_PATH.fullmatch(request.path)


def test_a_retired_secret_id_is_told_without_its_value(
    function: Function, secrets_manager: SecretsManager, command: dict[str, str]
) -> None:
    """Of the secret, only what AWS says of it comes out."""
    secrets_manager.aws.put_secret(SECRET_ID, '{"accountSid": "canary-of-the-secret"}')
    answer = function(by_every_trigger(command)["http"])
    assert answer["statusCode"] == 503
    assert "canary-of-the-secret" not in function.output + answer["body"]


def test_the_latency_of_twilio_is_in_milliseconds(
    function: Function, studio: Studio, command: dict[str, str]
) -> None:
    """One value for each call: the time from asking to the whole answer."""
    studio.fail(delay=0.2)
    function(command)
    (latencies,) = [line["TwilioLatency"] for line in function.lines if "TwilioLatency" in line]
    assert len(latencies) == 1
    assert 200 <= latencies[0] < 5000


def failure_record(payload: Any) -> dict[str, Any]:
    """What Lambda puts into the failure destination.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    """
    return {
        "version": "1.0",
        "timestamp": "2026-03-02T09:47:12.000Z",
        "requestContext": {
            "requestId": "e4b46cbf-b738-xmpl-8880-a18cdf61200e",
            "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:end-conversation:live",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": payload,
        "responseContext": {"statusCode": 200, "executedVersion": "1", "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "Twilio did not respond in time", "errorType": "TwilioTimeout"},
    }


@pytest.mark.parametrize("trigger", ["direct", "eventbridge"])
def test_a_failure_record_is_its_command(
    function: Function, studio: Studio, command: dict[str, str], trigger: str
) -> None:
    """An operator may invoke the function with the record as it is, and then delete the message."""
    payload = command if trigger == "direct" else sample("eventbridge") | {"detail": command}
    function(failure_record(payload))
    assert studio.executions.get(FLOW_SID, command["execution_sid"]).status == "ended"


def test_a_failure_record_ends_nothing_that_began_since(function: Function, studio: Studio) -> None:
    """Its own time bounds the command's: the contact may be in another conversation by now."""
    newer = studio.seed(FLOW_SID, contact=CONTACT)
    function(failure_record({"flow_sid": FLOW_SID, "contact": CONTACT}))
    assert studio.executions.get(FLOW_SID, newer.sid).status == "active"


def test_a_failure_record_without_its_payload_raises(function: Function) -> None:
    """Nothing is lost by an answer that looks like a success."""
    with pytest.raises(InvalidRequest):
        function(failure_record(None))


def test_failed_tries_are_in_the_outcomes_line(
    function: Function, studio: Studio, command: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twilio's support asks for the request id of the answer that was wrong."""
    monkeypatch.setattr(account_module, "BACKOFF", 0.001)
    studio.fail(status=503)
    studio.fail(broken="reset")
    function(command)
    (line,) = function.logs
    assert line["message"] == "conversation_ended"
    first, second = line["retries"]
    assert first["status"] == 503
    assert first["twilio_request_id"] == studio.requests[0].request_id
    assert second["error"] == "ConnectionResetError"
    assert all(isinstance(entry["milliseconds"], int) for entry in line["retries"])


def test_failed_tries_leave_no_socket_open(
    function: Function, studio: Studio, command: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure must not keep its connection until the garbage collector comes."""
    monkeypatch.setattr(account_module, "MAX_ATTEMPTS", 1)
    monkeypatch.setattr(account_module, "TRY_TIMEOUT", 0.1)
    function(command)
    before = sockets()
    gc.disable()
    try:
        for number in range(60):
            studio.fail(**[{"broken": "reset"}, {"status": 501}, {"broken": "drip"}][number % 3])
            with contextlib.suppress(EndConversationError):
                function(command)
        after = sockets()
    finally:
        gc.enable()
    # The stand-in in this process has the other end of the one connection that is kept.
    assert after <= before + 2


def sockets() -> int:
    """How many sockets this process has open."""
    links = [f"/dev/fd/{name}" for name in os.listdir("/dev/fd")]  # noqa: PTH208 - names of what may be gone
    return sum(os.path.exists(link) and os.readlink(link).startswith("socket:") for link in links)  # noqa: PTH110, PTH115 - not for paths
