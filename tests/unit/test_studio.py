"""Ending an Execution at Twilio, against a stand-in that fails in every way."""

import json
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
    TwilioThrottled,
    TwilioTimeout,
)
from end_conversation.twilio import account as account_module
from end_conversation.twilio import studio as studio_module
from end_conversation.twilio.account import BACKOFF, CONCURRENCY, MAX_ATTEMPTS, MAX_BACKOFF, Account, back_off
from end_conversation.twilio.credentials import parse_credentials
from end_conversation.twilio.studio import Execution
from end_conversation.twilio.transport import Connections
from local.studio import API_KEY, Studio

End = Callable[..., Execution]
UNKNOWN = "FN" + "9" * 32
ROTATED = ("SK" + "2" * 32, "not-a-real-rotated-secret")


@pytest.fixture
def account(environment: pytest.MonkeyPatch) -> Account:
    """What the environment names, with connections of its own; its credentials are in memory."""
    config = Config.from_environment()
    credentials = Secret(aws.client("secretsmanager"), config.twilio_secret_id, parse_credentials, 300)
    credentials.get(Deadline(10))
    return Account(credentials, Connections(config.studio_base_url, CONCURRENCY))


@pytest.fixture
def end(account: Account) -> End:
    """Ends an Execution within so many seconds."""

    def end(sid: str = UNKNOWN, seconds: float = 10.0) -> Execution:
        return studio_module.end(account, FLOW_SID, sid, Deadline(seconds), [])

    return end


def failure(end: End, sid: str = UNKNOWN, seconds: float = 10.0) -> Any:
    with pytest.raises(EndConversationError) as raised:
        end(sid, seconds)
    return raised.value


def methods(studio: Studio) -> list[str]:
    return [request.method for request in studio.requests]


def test_the_request_is_what_twilio_documents(end: End, studio: Studio) -> None:
    """One POST of Status=ended: https://www.twilio.com/docs/studio/rest-api/v2/execution."""
    execution = studio.seed(FLOW_SID)
    ended = end(execution.sid)
    assert (ended.sid, ended.status, ended.already_ended) == (execution.sid, "ended", False)
    assert ended.date_created is not None
    (request,) = studio.requests
    assert (request.method, dict(request.form)) == ("POST", {"Status": "ended"})
    assert request.path == f"/v2/Flows/{FLOW_SID}/Executions/{execution.sid}"
    assert request.user == API_KEY[0]
    assert request.headers == {
        "host": studio.url.removeprefix("http://"),
        "accept-encoding": "identity",
        "content-length": "12",
        "accept": "application/json",
        "user-agent": "end-conversation",
        "content-type": "application/x-www-form-urlencoded",
    }


@pytest.mark.parametrize(
    ("body", "dates"),
    [
        ({}, (None, None)),
        ({"sid": UNKNOWN.lower(), "date_created": "c", "date_updated": "u"}, ("c", "u")),
        ({"date_created": 1, "date_updated": {}}, (None, None)),
    ],
)
def test_twilios_dates_are_handed_on(
    end: End, studio: Studio, body: dict[str, Any], dates: tuple[str | None, str | None]
) -> None:
    """If they are texts. The SID may be missing, or in another case."""
    studio.fail(status=200, body=json.dumps({"status": "ended"} | body))
    ended = end()
    assert (ended.sid, ended.date_created, ended.date_updated) == (UNKNOWN, *dates)


@pytest.mark.parametrize(
    "fault",
    [
        *({"status": status} for status in (429, 500, 502, 503, 504)),
        {"broken": "reset"},
        {"broken": "hang"},
    ],
)
def test_a_passing_failure_is_tried_again(
    end: End, studio: Studio, fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ending is idempotent, so every request may be repeated."""
    monkeypatch.setattr(account_module, "TRY_TIMEOUT", 1.0)
    execution = studio.seed(FLOW_SID)
    studio.fail(times=MAX_ATTEMPTS - 1, **fault)
    assert end(execution.sid).sid == execution.sid


def test_a_lost_answer_is_made_up_for(end: End, studio: Studio) -> None:
    """The Execution was ended, the answer lost: the retry meets 409, which one look confirms."""
    execution = studio.seed(FLOW_SID)
    studio.fail(broken="reset", carried_out=True)
    assert end(execution.sid).already_ended


@pytest.mark.parametrize(
    ("fault", "requests", "kind", "message"),
    [
        ({"status": 500}, MAX_ATTEMPTS, TwilioError, "Twilio returned 500 (try 4)"),
        ({"status": 503, "body": "<html>"}, MAX_ATTEMPTS, TwilioError, "Twilio returned 503 (try 4)"),
        (
            {"broken": "reset"},
            MAX_ATTEMPTS,
            TwilioError,
            "the connection to Twilio failed: ConnectionResetError",
        ),
        ({"status": 403}, 1, CredentialsRejected, "Twilio returned 403"),
        ({"status": 404}, 1, ExecutionNotFound, "Twilio does not know the Execution or the Flow"),
        *(
            ({"status": 200, "body": body}, 1, TwilioError, "Twilio returned 200 without an ended Execution")
            for body in (
                "",
                "no json",
                "[" * 100_000,
                "[]",
                '{"status": "active"}',
                '{"sid": "FN' + "8" * 32 + '", "status": "ended"}',
            )
        ),
        *(
            (fault, 1, TwilioError, f"Twilio returned {fault['status']} without an ended Execution")
            for fault in (
                {"status": 202, "body": '{"status": "ended"}'},
                {"status": 301, "headers": {"Location": "https://evil.example.com/"}},
                {"status": 307, "headers": {"Location": "/v2/elsewhere"}},
                {"status": 501},
                {"status": 520, "body": "cloud"},
            )
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_lasting_failure_is_an_error(
    end: End, studio: Studio, fault: dict[str, Any], requests: int, kind: type, message: str
) -> None:
    """It says what happened. A senseless response is neither followed nor believed, nor tried again."""
    studio.fail(times=None, **fault)
    error = failure(end)
    assert (type(error), str(error)) == (kind, message)
    assert error.http_status == fault.get("status")
    assert len(studio.requests) == requests


@pytest.mark.parametrize("status", [400, 409, 410, 422])
def test_an_unexpected_refusal_is_looked_into(end: End, studio: Studio, status: int) -> None:
    """Whatever the reason: if the Execution has ended, that is a success, counted apart."""
    execution = studio.seed(FLOW_SID, status="ended")
    studio.fail(status=status, code=20001, method="POST")
    ended = end(execution.sid)
    assert ended.already_ended
    assert ended.date_created is not None
    assert methods(studio) == ["POST", "GET"]


@pytest.mark.parametrize("code", [20409, 20001])
def test_a_conflict_of_an_active_execution_is_tried_again(end: End, studio: Studio, code: int) -> None:
    """409 has other reasons than an Execution that has ended: no success while it is active."""
    execution = studio.seed(FLOW_SID)
    studio.fail(status=409, code=code, method="POST", times=2)
    assert not end(execution.sid).already_ended
    assert methods(studio) == ["POST", "GET", "POST", "GET", "POST"]


@pytest.mark.parametrize(("status", "tries"), [(409, MAX_ATTEMPTS), (400, 1)])
def test_a_refusal_that_stays_is_an_error(end: End, studio: Studio, status: int, tries: int) -> None:
    """With Twilio's own code. A conflict may pass, and is tried as often as a 5xx; others once."""
    execution = studio.seed(FLOW_SID)
    studio.fail(status=status, code=20001, method="POST", times=None)
    error = failure(end, execution.sid)
    assert (type(error), error.http_status, error.twilio_code) == (TwilioError, status, 20001)
    assert methods(studio) == ["POST", "GET"] * tries
    assert execution.status == "active"


@pytest.mark.parametrize(
    ("look_up", "kind"),
    [
        ({}, ExecutionNotFound),
        ({"status": 500}, TwilioError),
        ({"status": 403}, TwilioError),
        ({"status": 200, "body": '{"status": "paused"}'}, TwilioError),
    ],
)
@pytest.mark.parametrize("status", [400, 409])
def test_a_refusal_stands_if_the_look_up_fails(
    end: End, studio: Studio, look_up: dict[str, Any], kind: type, status: int
) -> None:
    """The first response is the one that is reported, unless the Execution is gone."""
    studio.fail(status=status, code=20001, method="POST", times=None)
    if look_up:
        studio.fail(method="GET", times=None, **look_up)
    error = failure(end)
    assert type(error) is kind
    assert error.http_status == (404 if kind is ExecutionNotFound else status)


def test_a_throttled_request_is_no_failed_try(end: End, studio: Studio) -> None:
    """Twilio did not process it, so only time limits how often it is sent."""
    execution = studio.seed(FLOW_SID)
    studio.fail(status=429, times=5 * MAX_ATTEMPTS)
    assert end(execution.sid).sid == execution.sid
    studio.fail(status=429, times=None)
    assert type(failure(end, seconds=1)) is TwilioThrottled


def test_retry_after_is_waited_for(end: End, studio: Studio) -> None:
    """Twilio decides when to try again."""
    execution = studio.seed(FLOW_SID)
    studio.fail(status=429, headers={"Retry-After": "1"})
    began = monotonic()
    end(execution.sid)
    assert 1 <= monotonic() - began < 5


@pytest.mark.parametrize(
    ("value", "handed_on"),
    [
        ("3600", 3600),
        ("86400", 86400),
        # What is no sensible number of seconds is ignored.
        *((value, None) for value in ("0", "-1", "1.5", "86401", "9" * 50, "soon", "\xb2")),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_a_retry_after_beyond_the_deadline_is_handed_on(
    end: End, studio: Studio, value: str, handed_on: int | None
) -> None:
    """Without waiting: there is no time for another try."""
    studio.fail(status=429, headers={"Retry-After": value.encode().decode("latin-1")}, times=None)
    began = monotonic()
    error = failure(end, seconds=1)
    assert (type(error), error.retry_after) == (TwilioThrottled, handed_on)
    assert monotonic() - began < 5
    assert (len(studio.requests) == 1) == (handed_on is not None)


@pytest.mark.parametrize(
    ("first", "kind"),
    [(None, TwilioTimeout), ({"status": 503}, TwilioError), ({"status": 429}, TwilioThrottled)],
)
@pytest.mark.parametrize("broken", ["hang", "drip"])
def test_a_twilio_that_hangs_is_given_up_in_time(
    end: End, studio: Studio, first: dict[str, Any] | None, kind: type, broken: str
) -> None:
    """The last answer before the time ran out gives the code: a try without time says less."""
    if first:
        studio.fail(**first)
    studio.fail(broken=broken, times=None)
    began = monotonic()
    assert type(failure(end, seconds=1)) is kind
    assert monotonic() - began < 5


def test_without_time_or_place_nothing_is_sent(end: End, account: Account, studio: Studio) -> None:
    """The deadline is over before the first request, or before there is a place."""
    end(studio.seed(FLOW_SID).sid)
    studio.clear_requests()
    errors = [failure(end, seconds=0)]
    while account._limiter.acquire(0):
        pass
    errors.append(failure(end, seconds=0.05))
    for error in errors:
        assert (type(error), str(error)) == (TwilioTimeout, "no time is left for a request to Twilio")
    assert not studio.requests


def test_a_429_takes_places_away(end: End, account: Account, studio: Studio) -> None:
    """Of ten concurrent requests five are left, for all commands of the account."""
    studio.fail(status=429, headers={"Retry-After": "3600"})
    failure(end)
    assert sum(account._limiter.acquire(0) for _ in range(CONCURRENCY)) == CONCURRENCY // 2


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The longest that each wait may be: a random part of it is waited for."""
    longest: list[float] = []
    monkeypatch.setattr(account_module, "MAX_BACKOFF", MAX_BACKOFF)
    fixed = SimpleNamespace(uniform=lambda start, end: longest.append(end) or start)
    monkeypatch.setattr(account_module, "_RANDOM", fixed)
    return longest


@pytest.mark.parametrize("status", [500, 409])
def test_the_waits_between_tries_double(end: End, studio: Studio, waits: list[float], status: int) -> None:
    """Up to a second; after a conflict, too, although each has a look-up of its own."""
    execution = studio.seed(FLOW_SID)
    studio.fail(method="POST", status=status, times=None)
    assert type(failure(end, execution.sid)) is TwilioError
    assert waits == [BACKOFF * 2, BACKOFF * 4, MAX_BACKOFF]


def test_a_thousand_throttled_tries(waits: list[float]) -> None:
    """Only time limits them: a sweep has a quarter of an hour."""
    back_off(2000, TwilioThrottled("Twilio returned 429"), Deadline(10))
    assert waits == [MAX_BACKOFF]


@pytest.mark.parametrize(
    ("valid", "secret", "kind", "requests"),
    [
        # Rotated: one more call to Secrets Manager, and the same Execution is ended.
        (ROTATED, {"apiKeySid": ROTATED[0], "apiKeySecret": ROTATED[1]}, None, 2),
        # Revoked, and read again: it had not changed, so there is no second request.
        (None, {}, CredentialsRejected, 1),
        # New ones that are wrong too: a second refusal is final.
        (None, {"apiKeySecret": "also wrong"}, CredentialsRejected, 2),
        # Another account's by now: its 404 would look like an Execution that is gone.
        (ROTATED, {"accountSid": "AC" + "7" * 32, "apiKeySid": ROTATED[0]}, CredentialsUnavailable, 1),
    ],
)
def test_a_401_reads_the_secret_again_once(
    end: End,
    studio: Studio,
    secrets_manager: SecretsManager,
    valid: Any,
    secret: Any,
    kind: Any,
    requests: int,
) -> None:
    """The request is repeated only with new credentials of the same account."""
    end(studio.seed(FLOW_SID).sid)
    execution = studio.seed(FLOW_SID)
    studio.clear_requests()
    studio.credentials = {valid} if valid else set()
    secrets_manager.aws.put_secret(SECRET_ID, secret_text(**secret))
    if kind is None:
        assert end(execution.sid).sid == execution.sid
    else:
        assert type(failure(end, execution.sid)) is kind
    assert (len(studio.requests), len(secrets_manager.reads)) == (requests, 2)


def test_a_403_reads_no_secret_and_a_failing_read_is_reported(
    end: End, studio: Studio, secrets_manager: SecretsManager
) -> None:
    """403 means that the key has no permission: a newer one would not help."""
    end(studio.seed(FLOW_SID).sid)
    studio.fail(status=403, code=20003)
    assert type(failure(end)) is CredentialsRejected
    assert len(secrets_manager.reads) == 1
    studio.credentials -= {API_KEY}
    secrets_manager.fail(code="AccessDeniedException")
    error = failure(end)
    assert (type(error), str(error)) == (
        CredentialsUnavailable,
        "Secrets Manager rejected the request: AccessDeniedException",
    )


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
    """In Twilio's own JSON and in RFC 9457's; anything else has none. A senseless request id is dropped."""
    studio.fail(status=400, body=body, headers={"Twilio-Request-Id": "x" * 500}, times=None)
    error = failure(end)
    assert (error.twilio_code, error.twilio_request_id) == (code, None)
    assert "+15005550006" not in str(error)
