"""The handler: direct invocation and EventBridge, and what holds for every trigger."""

import contextlib
import gc
import os
from typing import Any

import pytest
from conftest import (
    FLOW_SID,
    IN_TRIGGER,
    Context,
    Function,
    in_http,
    sample,
)

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
from local.studio import Studio

CONTACT = "+15005550006"
THROTTLED = {"status": 429, "headers": {"Retry-After": "3600"}}


@pytest.fixture
def command(studio: Studio) -> dict[str, str]:
    execution = studio.seed(FLOW_SID, contact=CONTACT)
    return {"flow_sid": FLOW_SID, "execution_sid": execution.sid}


@pytest.mark.parametrize("trigger", ["eventbridge", "direct"])
def test_the_result_is_returned_and_a_failure_raised(
    function: Function, studio: Studio, command: dict[str, str], trigger: str
) -> None:
    """Lambda's retries and failure destination go by that, and callers by the class's name."""
    result = function(IN_TRIGGER[trigger](command))
    assert result["flow_sid"] == FLOW_SID
    assert [execution["sid"] for execution in result["executions"]] == [command["execution_sid"]]
    unknown = IN_TRIGGER[trigger](command | {"execution_sid": "FN" + "9" * 32})
    with pytest.raises(ExecutionNotFound):
        function(unknown)
    with pytest.raises(InvalidRequest):
        function(IN_TRIGGER[trigger]({"flow_sid": "x"}))
    studio.fail(times=None, **THROTTLED)
    with pytest.raises(TwilioThrottled):
        function(unknown)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("TWILIO_STUDIO_BASE_URL", "http://studio.twilio.com", "must be https://"),
        ("AWS_REGION", None, "NoRegionError"),
    ],
)
def test_a_wrong_setting_is_raised_at_the_request(
    function: Function, command: dict[str, str], setting: str, value: str | None, message: str
) -> None:
    """Under its own name, ours or boto3's, and not as a crash at import."""
    function.delenv("AWS_DEFAULT_REGION")
    function.delenv(setting) if value is None else function.setenv(setting, value)
    with pytest.raises(ConfigurationError, match=message):
        function(command)


def test_a_defect_does_not_raise_its_text(function: Function, command: dict[str, str]) -> None:
    """Lambda prints what is raised. The log has the kind of the exception and where it came from."""
    function.patch(account_module, "_json_object", lambda _: {}[CONTACT])
    with pytest.raises(InternalError) as error:
        function(command)
    assert CONTACT not in str(error.value)
    assert error.value.__suppress_context__
    (line,) = function.logs
    assert (line["code"], line["detail"], line["level"]) == ("internal_error", "unexpected KeyError", "ERROR")
    assert any("account.py:" in frame for frame in line["frames"])


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
        sample("direct-invalid"),
    ],
)
def test_what_is_no_command_is_invalid(function: Function, studio: Studio, event: Any) -> None:
    """Events of other services, and things that are no events."""
    with pytest.raises(InvalidRequest):
        function(event)
    assert not studio.requests


@pytest.mark.parametrize("trigger", IN_TRIGGER)
def test_a_success_is_one_line_and_one_count(
    function: Function, studio: Studio, command: dict[str, str], trigger: str
) -> None:
    """At INFO, with what the caller gave for the logs; dimensions are service and trigger alone."""
    given_for_logs = {"conversation_id": "c-17", "reason": "resolved"}
    studio.fail(delay=0.2)
    function(IN_TRIGGER[trigger](command | given_for_logs))
    (line,) = function.logs
    assert (line["level"], line["message"]) == ("INFO", "conversation_ended")
    told = {"trigger": trigger, "ended": 1, "already_ended": 0}
    assert line.items() >= (command | given_for_logs | told).items()
    assert line["function_request_id"] == Context(0).aws_request_id
    assert not {"execution_sids", "retries", "dry_run"} & line.keys()
    assert function.metrics == {"ExecutionsEnded": 1}
    (metrics,) = [line for line in function.lines if "_aws" in line]
    (directive,) = metrics["_aws"]["CloudWatchMetrics"]
    assert [sorted(dimensions) for dimensions in directive["Dimensions"]] == [["service", "trigger"]]
    assert metrics["trigger"] == trigger
    assert {"Name": "TwilioLatency", "Unit": "Milliseconds"} in directive["Metrics"]
    # From asking to the whole answer.
    (latency,) = metrics["TwilioLatency"]
    assert 200 <= latency < 5000


def test_what_had_ended_before_is_counted_apart_and_nothing_leaks(
    function: Function, command: dict[str, str]
) -> None:
    """In the log line and in a metric of its own; a warm process remembers no keys of the line before."""
    function(command | {"conversation_id": "c-17"})
    function(command)
    (line,) = function.logs
    assert (line["ended"], line["already_ended"]) == (0, 1)
    assert "conversation_id" not in line
    assert function.metrics == {"ExecutionsAlreadyEnded": 1}


@pytest.mark.parametrize("trigger", ["http", "eventbridge"])
def test_half_a_character_does_not_cost_a_line(
    function: Function, command: dict[str, str], trigger: str
) -> None:
    """JSON can spell half of a surrogate pair, which UTF-8 cannot."""
    event = IN_TRIGGER[trigger](command) | {"id": "\ud800"}
    if trigger == "http":
        event["requestContext"]["requestId"] = "\ud800"
    function(event)
    assert [line["message"] for line in function.logs] == ["conversation_ended"]


def test_a_failure_is_one_line_with_twilios_facts(
    function: Function, studio: Studio, command: dict[str, str]
) -> None:
    """Its code, and what Twilio's support asks for."""
    studio.fail(**THROTTLED)
    function(in_http(command))
    (line,) = function.logs
    facts = {"http_status": 429, "twilio_code": 20429, "retry_after": 3600, "code": "twilio_throttled"}
    assert line.items() >= ({"level": "ERROR", "message": "conversation_not_ended"} | facts).items()
    assert line["twilio_request_id"].startswith("RQ")
    assert function.metrics == {"TwilioThrottled": 1}


def test_failed_tries_are_in_the_outcomes_line(
    function: Function, studio: Studio, command: dict[str, str]
) -> None:
    """Of a success as of a failure; at most ten, however often Twilio throttled."""
    function.patch(account_module, "TRY_TIMEOUT", 1.0)
    studio.fail(status=503)
    studio.fail(broken="reset")
    studio.fail(broken="hang")
    function(command)
    (line,) = function.logs
    first, second, third = line["retries"]
    assert (first["status"], first["twilio_request_id"]) == (503, studio.requests[0].request_id)
    assert (second["error"], third["error"]) == ("ConnectionResetError", "timeout")
    assert all(isinstance(entry["milliseconds"], int) for entry in line["retries"])
    studio.fail(status=429, times=12)
    function(command)
    assert len(function.logs[0]["retries"]) == 10


def test_a_refusal_without_a_secret_to_read_again_has_twilios_facts(
    function: Function, studio: Studio, command: dict[str, str]
) -> None:
    """Twilio's request id is with every failure that Twilio has a part in."""
    function(command)
    studio.credentials = set()
    function.secrets_manager.fail(code="InternalServiceError")
    function(in_http(command))
    (line,) = function.logs
    assert line["code"] == "credentials_unavailable"
    assert [(retry["status"], retry["twilio_code"]) for retry in line["retries"]] == [(401, 20003)]


@pytest.mark.parametrize("trigger", IN_TRIGGER)
@pytest.mark.parametrize("fault", [{}, {"status": 400}, {"status": 500}, {"status": 401}, {"body": CONTACT}])
def test_nothing_secret_or_personal_comes_out(
    function: Function, studio: Studio, command: dict[str, str], trigger: str, fault: dict[str, Any]
) -> None:
    """The fixture looks for it in logs, metrics, answers and exceptions, here also at DEBUG."""
    function.setenv("POWERTOOLS_LOG_LEVEL", "DEBUG")
    if fault:
        studio.fail(times=None, **fault)
    for body in (command, {"flow_sid": FLOW_SID, "contact": [CONTACT, "whatsapp:" + CONTACT]}):
        with contextlib.suppress(EndConversationError):
            function(IN_TRIGGER[trigger](body))
        assert function.output


def test_a_hundred_warm_invocations_share_everything(function: Function, studio: Studio) -> None:
    """One connection to Twilio, one call to Secrets Manager, one request for each Execution."""
    for _ in range(100):
        function({"flow_sid": FLOW_SID, "execution_sid": studio.seed(FLOW_SID).sid})
    assert (len(studio.requests), studio.connections, len(function.secrets_manager.reads)) == (100, 1, 1)


@pytest.mark.parametrize("trigger", IN_TRIGGER)
@pytest.mark.parametrize("fault", ["twilio hangs", "twilio throttles", "secrets manager hangs"])
def test_every_trigger_is_done_before_lambda_is(
    function: Function, studio: Studio, command: dict[str, str], trigger: str, fault: str
) -> None:
    """Whatever hangs or refuses: `function` checks the time."""
    if fault == "twilio hangs":
        studio.fail(broken="hang", times=None)
    elif fault == "twilio throttles":
        studio.fail(status=429, times=None)
    else:
        function.secrets_manager.fail(delay=20)
    with contextlib.suppress(TwilioTimeout, TwilioThrottled, CredentialsUnavailable):
        function(IN_TRIGGER[trigger](command), seconds=1.6)
    assert {line["message"] for line in function.logs} == {"conversation_not_ended"}


@pytest.mark.usefixtures("one_try")
def test_failed_tries_leave_no_socket_open(
    function: Function, studio: Studio, command: dict[str, str]
) -> None:
    """A failure must not keep its connection until the garbage collector comes."""
    function.patch(account_module, "TRY_TIMEOUT", 0.1)
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
    # One connection is kept, whose other end the stand-in has; each kind of failure came 20 times.
    assert after < before + 10


def sockets() -> int:
    """How many sockets this process has open."""
    links = [f"/dev/fd/{name}" for name in os.listdir("/dev/fd")]  # noqa: PTH208 - names of what may be gone
    return sum(os.path.exists(link) and os.readlink(link).startswith("socket:") for link in links)  # noqa: PTH110, PTH115 - not for paths
