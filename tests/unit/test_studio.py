"""The client of Twilio's Studio API, against a stand-in that fails in every way."""

import json
import socket
import threading
from collections.abc import Callable
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import FLOW_SID, SECRET_ID, SecretsManager, secret_text

from end_conversation.aws import clients as aws
from end_conversation.aws.secret import Secret
from end_conversation.config import Config
from end_conversation.deadline import Deadline
from end_conversation.errors import (
    CredentialsRejected,
    CredentialsUnavailable,
    EndConversationError,
    ExecutionNotFound,
    TwilioError,
    TwilioFailure,
    TwilioThrottled,
    TwilioTimeout,
)
from end_conversation.twilio import account as account_module
from end_conversation.twilio import studio as executions
from end_conversation.twilio.account import BACKOFF, CONCURRENCY, MAX_ATTEMPTS, MAX_BACKOFF, Account
from end_conversation.twilio.credentials import parse_credentials
from end_conversation.twilio.studio import Execution
from end_conversation.twilio.transport import Connections
from local.studio import Studio

End = Callable[..., Execution]


class Client:
    """What the environment names: an account, and connections of its own."""

    def __init__(self) -> None:
        config = Config.from_environment()
        secrets_manager = aws.client("secretsmanager")
        self.credentials = Secret(secrets_manager, config.twilio_secret_id, parse_credentials, 300)
        self.connections = Connections(config.studio_base_url, CONCURRENCY)
        self.account = Account(self.credentials, self.connections)
        self.limiter = self.account._limiter

    def end(self, flow_sid: str, sid: str, deadline: Deadline) -> Execution:
        return executions.end(self.account, flow_sid, sid, deadline, [])


def client() -> Client:
    return Client()


@pytest.fixture
def end(environment: pytest.MonkeyPatch) -> End:
    """Ends an Execution within so many seconds, with waits between tries that tests have time for."""
    environment.setattr(account_module, "BACKOFF", 0.001)
    studio_client = client()

    def end(sid: str = "FN" + "9" * 32, seconds: float = 10.0) -> Execution:
        return studio_client.end(FLOW_SID, sid, Deadline(seconds))

    return end


def failure(end: End, seconds: float = 10.0) -> TwilioFailure:
    with pytest.raises(EndConversationError) as raised:
        end(seconds=seconds)
    assert isinstance(raised.value, TwilioFailure)
    return raised.value


def test_an_active_execution_is_ended(end: End, studio: Studio) -> None:
    """One POST of Status=ended, and the dates that Twilio gives."""
    execution = studio.seed(FLOW_SID)
    ended = end(execution.sid)
    assert ended.sid == execution.sid
    assert ended.date_created is not None
    assert not ended.already_ended
    (request,) = studio.requests
    assert (request.method, dict(request.form)) == ("POST", {"Status": "ended"})
    assert request.path == f"/v2/Flows/{FLOW_SID}/Executions/{execution.sid}"


@pytest.mark.parametrize(
    ("dates", "told"),
    [
        ({}, (None, None)),
        ({"date_created": "c", "date_updated": "u"}, ("c", "u")),
        ({"date_created": 1, "date_updated": {}}, (None, None)),
    ],
)
def test_twilios_dates_are_handed_on(
    end: End, studio: Studio, dates: dict[str, Any], told: tuple[str | None, str | None]
) -> None:
    """If they are texts; and an answer that leaves its SID out is about the Execution that was named."""
    studio.fail(status=200, body=json.dumps({"status": "ended"} | dates))
    ended = end()
    assert (ended.date_created, ended.date_updated) == told


def test_an_execution_that_is_over_is_a_success(end: End, studio: Studio) -> None:
    """409 is Twilio's answer for it; one look confirms it."""
    execution = studio.seed(FLOW_SID, status="ended")
    ended = end(execution.sid)
    assert (ended.status, ended.already_ended) == ("ended", True)
    assert ended.date_updated is not None
    assert [request.method for request in studio.requests] == ["POST", "GET"]


def test_a_conflict_of_an_active_execution_is_tried_again(end: End, studio: Studio) -> None:
    """409 has other reasons too: no success while the Execution is still active."""
    execution = studio.seed(FLOW_SID)
    studio.fail(status=409, method="POST", times=2)
    assert not end(execution.sid).already_ended
    assert [request.method for request in studio.requests] == ["POST", "GET"] * 2 + ["POST"]


def test_a_conflict_that_stays_is_an_error(end: End, studio: Studio) -> None:
    """As many tries as after a 5xx, each confirmed by one look."""
    execution = studio.seed(FLOW_SID)
    studio.fail(status=409, method="POST", times=None)
    with pytest.raises(TwilioError) as error:
        end(execution.sid)
    assert (error.value.http_status, error.value.twilio_code) == (409, 20409)
    assert [request.method for request in studio.requests] == ["POST", "GET"] * MAX_ATTEMPTS


def test_a_lost_answer_is_made_up_for(end: End, studio: Studio) -> None:
    """The Execution was ended, the answer lost: the retry meets 409, which is success."""
    execution = studio.seed(FLOW_SID)
    studio.fail(broken="reset", carried_out=True)
    assert end(execution.sid).already_ended


def test_an_unknown_execution_is_not_found(end: End) -> None:
    """404, with what Twilio's support asks for."""
    error = failure(end)
    assert isinstance(error, ExecutionNotFound)
    assert (error.http_status, error.twilio_code) == (404, 20404)
    assert str(error.twilio_request_id).startswith("RQ")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_is_tried_again(end: End, studio: Studio, status: int) -> None:
    """A few failures are not the caller's business."""
    execution = studio.seed(FLOW_SID)
    studio.fail(status=status, times=MAX_ATTEMPTS - 1)
    assert end(execution.sid).sid == execution.sid


@pytest.mark.parametrize("broken", ["reset", "hang"])
def test_a_broken_connection_is_tried_again(
    end: End, studio: Studio, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ending is idempotent, so any try may be repeated."""
    monkeypatch.setattr(account_module, "TRY_TIMEOUT", 0.2)
    execution = studio.seed(FLOW_SID)
    studio.fail(broken=broken)
    assert end(execution.sid).sid == execution.sid


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"status": 500}, TwilioError),
        ({"status": 503, "body": "<html>"}, TwilioError),
        ({"broken": "reset"}, TwilioError),
    ],
)
def test_what_does_not_pass_is_told(end: End, studio: Studio, fault: dict[str, Any], kind: type) -> None:
    """After the last try, and no later, the failure has its kind."""
    studio.fail(times=None, **fault)
    assert type(failure(end)) is kind
    assert len(studio.requests) == MAX_ATTEMPTS


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 503}, f"Twilio returned 503 (try {MAX_ATTEMPTS})"),
        ({"status": 501}, "Twilio returned 501 without an ended Execution"),
        ({"status": 403}, "Twilio returned 403"),
        ({"status": 404}, "Twilio does not know the Execution or the Flow"),
        ({"broken": "hang"}, "Twilio did not respond in time"),
        ({"broken": "reset"}, "the connection to Twilio failed: ConnectionResetError"),
    ],
)
def test_a_failure_says_what_happened(end: End, studio: Studio, fault: dict[str, Any], message: str) -> None:
    """In the log it is what there is to go by."""
    studio.fail(times=None, **fault)
    assert str(failure(end, seconds=0.5)) == message


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 301, "headers": {"Location": "https://evil.example.com/"}},
        {"status": 307, "headers": {"Location": "/v2/elsewhere"}},
        {"status": 200, "body": "no json"},
        {"status": 200, "body": "[" * 100_000},
        {"status": 200, "body": "[]"},
        {"status": 200, "body": '{"status": "active"}'},
        {"status": 200, "body": ""},
        {"status": 202, "body": '{"status": "ended"}'},
        {"status": 501},
        {"status": 520, "body": "cloud"},
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(end: End, studio: Studio, fault: dict[str, Any]) -> None:
    """Neither followed nor repeated nor believed."""
    studio.fail(times=None, **fault)
    error = failure(end)
    assert type(error) is TwilioError
    assert error.http_status == fault["status"]
    assert len(studio.requests) == 1


@pytest.mark.parametrize("status", [400, 409, 410, 422])
def test_an_unexpected_refusal_is_looked_into(end: End, studio: Studio, status: int) -> None:
    """Whatever Twilio has against it: if the Execution is over, that is success."""
    execution = studio.seed(FLOW_SID, status="ended")
    studio.fail(status=status, code=20001, method="POST")
    ended = end(execution.sid)
    assert ended.already_ended
    assert ended.date_created is not None


def test_an_unexpected_refusal_of_an_active_execution_is_an_error(end: End, studio: Studio) -> None:
    """It was looked up, is still active, and Twilio's own code of the refusal is told."""
    execution = studio.seed(FLOW_SID)
    studio.fail(status=400, code=20001, method="POST")
    with pytest.raises(TwilioError) as error:
        end(execution.sid)
    assert (error.value.http_status, error.value.twilio_code) == (400, 20001)


def test_an_unexpected_refusal_of_what_is_gone_is_not_found(end: End, studio: Studio) -> None:
    """The look-up tells more than the refusal."""
    studio.fail(status=400, code=20001, method="POST")
    assert type(failure(end)) is ExecutionNotFound


def test_an_unexpected_refusal_stands_when_the_look_up_fails(end: End, studio: Studio) -> None:
    """What Twilio said first is what there is to say."""
    studio.fail(status=400, code=20001, method="POST")
    studio.fail(status=500, method="GET", times=None)
    error = failure(end)
    assert (type(error), error.http_status) == (TwilioError, 400)


def test_a_throttled_request_is_no_failed_try(end: End, studio: Studio) -> None:
    """Twilio did nothing with it: only time limits how often it is sent, and the code tells so."""
    execution = studio.seed(FLOW_SID)
    studio.fail(status=429, times=5 * MAX_ATTEMPTS)
    assert end(execution.sid).sid == execution.sid
    studio.fail(status=429, times=None)
    assert type(failure(end, seconds=0.5)) is TwilioThrottled


def test_retry_after_is_waited_for(end: End, studio: Studio) -> None:
    """Twilio says when to come again."""
    execution = studio.seed(FLOW_SID)
    studio.fail(status=429, headers={"Retry-After": "1"})
    began = monotonic()
    end(execution.sid)
    assert 1 <= monotonic() - began < 5


def test_a_retry_after_beyond_the_deadline_is_handed_on(end: End, studio: Studio) -> None:
    """Nobody waits for what cannot come in time."""
    studio.fail(status=429, headers={"Retry-After": "3600"}, times=None)
    began = monotonic()
    error = failure(end)
    assert isinstance(error, TwilioThrottled)
    assert error.retry_after == 3600
    assert monotonic() - began < 5
    assert len(studio.requests) == 1


@pytest.mark.parametrize(
    "value", ["soon", "-1", "0", "1.5", "9" * 50, "Wed, 21 Oct 2026 07:28:00 GMT", "\xb2"]
)
def test_a_senseless_retry_after_is_ignored(end: End, studio: Studio, value: str) -> None:
    """What is no sensible number of seconds changes nothing."""
    execution = studio.seed(FLOW_SID)
    end(studio.seed(FLOW_SID).sid)
    studio.fail(status=429, headers={"Retry-After": value.encode().decode("latin-1")})
    began = monotonic()
    assert end(execution.sid).sid == execution.sid
    assert monotonic() - began < 0.9


@pytest.mark.parametrize(("value", "handed_on"), [("0", None), ("1", 1), ("86400", 86400), ("86401", None)])
def test_a_retry_after_of_up_to_a_day_makes_sense(
    end: End, studio: Studio, value: str, handed_on: int | None
) -> None:
    """Nobody who reads more than that in an answer would wait for it."""
    studio.fail(status=429, headers={"Retry-After": value}, times=None)
    assert failure(end, seconds=0.5).retry_after == handed_on


def test_an_answer_before_the_time_ran_out_gives_the_code(end: End, studio: Studio) -> None:
    """A last try that got no time to speak of says less than the answer before it."""
    studio.fail(status=503)
    studio.fail(broken="hang", times=None)
    error = failure(end, seconds=0.5)
    assert type(error) is TwilioError
    assert error.http_status == 503


def test_without_time_nothing_is_sent(end: End, studio: Studio) -> None:
    """The deadline is over before the first request."""
    end(studio.seed(FLOW_SID).sid)
    studio.clear_requests()
    error = failure(end, seconds=0)
    assert (type(error), str(error)) == (TwilioTimeout, "no time is left for a request to Twilio")
    assert not studio.requests


def test_a_full_house_is_waited_for_until_the_deadline(
    environment: pytest.MonkeyPatch, studio: Studio
) -> None:
    """Who finds no place in time has asked nothing of Twilio."""
    studio_client = client()
    while studio_client.limiter.acquire(0):
        pass
    with pytest.raises(TwilioTimeout, match=r"^no time is left for a request to Twilio$"):
        studio_client.end(FLOW_SID, "FN" + "9" * 32, Deadline(0.05))
    assert not studio.requests


def test_a_refusal_takes_places_away(environment: pytest.MonkeyPatch, studio: Studio) -> None:
    """Of ten at once five are left after one 429, for everybody who uses the client."""
    studio.fail(status=429, headers={"Retry-After": "3600"})
    studio_client = client()
    with pytest.raises(TwilioThrottled):
        studio_client.end(FLOW_SID, "FN" + "9" * 32, Deadline(5))
    places = 0
    while studio_client.limiter.acquire(0):
        places += 1
    assert places == 5


def test_what_gets_no_answer_adds_no_place(environment: pytest.MonkeyPatch, studio: Studio) -> None:
    """A Twilio that hangs up does not ask for more."""
    environment.setattr(account_module, "MAX_ATTEMPTS", 1)
    studio_client = client()
    studio.fail(status=429, headers={"Retry-After": "3600"})
    studio.fail(broken="reset", times=None)
    for _ in range(7):
        with pytest.raises(TwilioFailure):
            studio_client.end(FLOW_SID, "FN" + "9" * 32, Deadline(5))
    places = 0
    while studio_client.limiter.acquire(0):
        places += 1
    assert places == 5


def test_the_request_is_what_twilio_documents(
    environment: pytest.MonkeyPatch, secrets_manager: SecretsManager
) -> None:
    """To the byte: whoever compares it with Twilio's page finds the same."""
    sid = "FN" + "9" * 32
    request = b""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            nonlocal request
            with server.accept()[0] as connection:
                while not request.endswith(b"Status=ended"):
                    request += connection.recv(65536)
                body = json.dumps({"sid": sid, "status": "ended"}).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        thread = threading.Thread(target=serve)
        thread.start()
        host = f"127.0.0.1:{server.getsockname()[1]}"
        environment.setenv("TWILIO_STUDIO_BASE_URL", f"http://{host}")
        client().end(FLOW_SID, sid, Deadline(5))
        thread.join()
    assert request.decode().split("\r\n") == [
        f"POST /v2/Flows/{FLOW_SID}/Executions/{sid} HTTP/1.1",
        f"Host: {host}",
        "Accept-Encoding: identity",
        "Content-Length: 12",
        f"Authorization: {parse_credentials(secret_text()).authorization}",
        "Accept: application/json",
        "User-Agent: end-conversation",
        "Content-Type: application/x-www-form-urlencoded",
        "",
        "Status=ended",
    ]


def test_upper_case_digits_name_the_same_execution(end: End, studio: Studio) -> None:
    """The schema takes them, and Twilio may answer in lower case."""
    studio.fail(status=200, body='{"sid": "FN' + "a" * 32 + '", "status": "ended"}')
    assert end("FN" + "A" * 32) == Execution("FN" + "A" * 32, "ended")


def test_an_answer_about_another_execution_is_none(end: End, studio: Studio) -> None:
    """That one is ended says nothing about the one that was asked for."""
    studio.fail(status=200, body='{"sid": "FN' + "8" * 32 + '", "status": "ended"}', times=None)
    assert type(failure(end)) is TwilioError


def test_the_waits_between_tries_double(
    environment: pytest.MonkeyPatch, secrets_manager: SecretsManager, studio: Studio
) -> None:
    """Each is a random part of twice as much as the one before, up to a second."""
    drawn: list[tuple[float, float]] = []
    environment.setattr(
        account_module, "_RANDOM", SimpleNamespace(uniform=lambda *ends: drawn.append(ends) or 0.0)
    )
    studio.fail(status=500, times=None)
    with pytest.raises(TwilioError):
        client().end(FLOW_SID, "FN" + "9" * 32, Deadline(5))
    assert drawn == [(0, min(BACKOFF * factor, MAX_BACKOFF)) for factor in (2, 4, 8)]


def test_a_secret_that_cannot_be_read_again_is_told(
    end: End, studio: Studio, secrets_manager: SecretsManager
) -> None:
    """With what Secrets Manager has against it."""
    end(studio.seed(FLOW_SID).sid)
    studio.credentials = set()
    secrets_manager.fail(code="AccessDeniedException")
    with pytest.raises(CredentialsUnavailable, match="refuses the secret: AccessDeniedException"):
        end()


def test_a_rotated_secret_is_read_again(end: End, studio: Studio, secrets_manager: SecretsManager) -> None:
    """401, one more call to Secrets Manager, and the same Execution is ended."""
    end(studio.seed(FLOW_SID).sid)
    studio.credentials = {("SK" + "2" * 32, "rotated")}
    secrets_manager.aws.put_secret(SECRET_ID, secret_text(apiKeySid="SK" + "2" * 32, apiKeySecret="rotated"))
    execution = studio.seed(FLOW_SID)
    assert end(execution.sid).sid == execution.sid
    assert len(secrets_manager.reads) == 2


def test_credentials_that_stay_wrong_are_rejected(
    end: End, studio: Studio, secrets_manager: SecretsManager
) -> None:
    """They were read again, and had not changed: no second request."""
    studio.credentials = set()
    assert type(failure(end)) is CredentialsRejected
    assert (len(studio.requests), len(secrets_manager.reads)) == (1, 2)


def test_new_credentials_that_are_wrong_too_are_rejected(
    end: End, studio: Studio, secrets_manager: SecretsManager
) -> None:
    """A second refusal is final."""
    end(studio.seed(FLOW_SID).sid)
    studio.credentials = set()
    studio.clear_requests()
    secrets_manager.aws.put_secret(SECRET_ID, secret_text(apiKeySecret="also wrong"))
    assert type(failure(end)) is CredentialsRejected
    assert (len(studio.requests), len(secrets_manager.reads)) == (2, 2)


def test_forbidden_is_final(end: End, studio: Studio, secrets_manager: SecretsManager) -> None:
    """403 says that the key may not, which a newer one could not help."""
    studio.fail(status=403, code=20003, times=None)
    assert type(failure(end)) is CredentialsRejected
    assert (len(studio.requests), len(secrets_manager.reads)) == (1, 1)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('{"code": 20001, "message": "+15005550006", "more_info": "x", "status": 400}', 20001),
        ('{"type": "https://www.twilio.com/docs/api/errors/20001", "title": "x", "status": 400}', 20001),
        ('{"type": "https://www.twilio.com/docs/api/errors/20001", "code": 20002}', 20002),
        ('{"code": "20001"}', None),
        ('{"code": true}', None),
        ('{"code": null, "type": 7}', None),
        ("<html>no</html>", None),
        ("", None),
    ],
)
def test_twilios_error_code_is_found(end: End, studio: Studio, body: str, code: int | None) -> None:
    """In Twilio's own JSON and in RFC 9457's; anything else has none, and breaks nothing."""
    studio.fail(status=400, body=body, times=None)
    error = failure(end)
    assert error.twilio_code == code
    assert "+15005550006" not in str(error)


def test_a_request_id_that_is_none_is_dropped(end: End, studio: Studio) -> None:
    """A header is not trusted to be what it should."""
    studio.fail(status=400, headers={"Twilio-Request-Id": "x" * 500}, times=None)
    assert failure(end).twilio_request_id is None
