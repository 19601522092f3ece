"""Several Twilio accounts in one deployment: each has its own credentials, and its own trouble."""

import json
from typing import Any

import pytest
from conftest import (
    FLOW_SID,
    SECRET_ID,
    Function,
    SecretsManager,
    Sqs,
    failed,
    in_http,
    in_sqs,
    secret_text,
    status_and_code,
)

from end_conversation.errors import AccountNotAllowed, CredentialsUnavailable, InvalidRequest
from end_conversation.twilio import accounts
from local.studio import ACCOUNT_SID as DEFAULT_SID
from local.studio import API_KEY, Studio

PREFIX = "end-conversation/twilio/"
MISSING = "AC" + "e" * 32


class Tenant:
    """An account with a secret of its own, and a Flow."""

    def __init__(self, studio: Studio, secrets_manager: SecretsManager, number: int) -> None:
        self.sid = f"AC{0xABC000 + number:032x}"
        self.flow_sid = f"FW{0xABC000 + number:032x}"
        self.user, self.password = f"SK{number:032x}", f"not-a-real-secret-of-{number}"
        self.secret_id = PREFIX + self.sid
        self.secret = {"accountSid": self.sid, "apiKeySid": self.user, "apiKeySecret": self.password}
        self._studio = studio
        studio.other_credentials[self.sid] = {(self.user, self.password)}
        secrets_manager.aws.put_secret(self.secret_id, json.dumps(self.secret))

    def command(self, **more: Any) -> dict[str, Any]:
        """A command about an active Execution of the account."""
        execution = self._studio.seed(self.flow_sid, account_sid=self.sid)
        return {"flow_sid": self.flow_sid, "execution_sid": execution.sid, "account_sid": self.sid} | more

    def is_ended(self, command: dict[str, Any]) -> bool:
        return self._studio.executions.get(self.flow_sid, command["execution_sid"]).status == "ended"


@pytest.fixture(autouse=True)
def prefix(environment: pytest.MonkeyPatch, secrets_manager: SecretsManager) -> None:
    """Other accounts than the default one, whose secret says the SID that the stand-in knows."""
    environment.setenv("TWILIO_ACCOUNT_SECRET_PREFIX", PREFIX)
    secrets_manager.aws.put_secret(SECRET_ID, secret_text(accountSid=DEFAULT_SID))


@pytest.fixture
def tenants(studio: Studio, secrets_manager: SecretsManager) -> list[Tenant]:
    return [Tenant(studio, secrets_manager, number) for number in range(10)]


@pytest.fixture
def tenant(tenants: list[Tenant]) -> Tenant:
    return tenants[0]


@pytest.fixture
def default_command(studio: Studio) -> dict[str, Any]:
    return {"flow_sid": FLOW_SID, "execution_sid": studio.seed(FLOW_SID).sid}


def codes(function: Function) -> dict[str, str]:
    """The code of every failure, by its message."""
    return {line["message_id"]: line["code"] for line in function.logs if "code" in line}


def test_a_command_is_carried_out_for_its_account(function: Function, tenant: Tenant, studio: Studio) -> None:
    """With that account's own credentials; the result and the log line name it."""
    command = tenant.command()
    assert function(command)["account_sid"] == tenant.sid
    assert tenant.is_ended(command)
    assert {request.user for request in studio.requests} == {tenant.user}
    assert [line["account_sid"] for line in function.logs] == [tenant.sid]


def test_a_command_without_an_account_is_for_the_default_one(
    function: Function, studio: Studio, default_command: dict[str, Any]
) -> None:
    """Its result names no account."""
    assert "account_sid" not in function(default_command)
    assert {request.user for request in studio.requests} == {API_KEY[0]}


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize("named", [DEFAULT_SID, "AC" + DEFAULT_SID[2:].upper()])
@pytest.mark.parametrize("prefix_", ["", PREFIX])
def test_the_default_account_may_be_named(
    function: Function, studio: Studio, prefix_: str, named: str, *, is_warm: bool
) -> None:
    """By the SID in its secret, in any case, with other accounts or without, and also first of all."""
    function.setenv("TWILIO_ACCOUNT_SECRET_PREFIX", prefix_)
    command = {"flow_sid": FLOW_SID, "execution_sid": studio.seed(FLOW_SID).sid}
    if is_warm:
        function(command)
    assert function(command | {"account_sid": named})["account_sid"] == named
    assert {request.user for request in studio.requests} == {API_KEY[0]}


def test_sids_are_compared_without_regard_to_case(function: Function, tenant: Tenant) -> None:
    """One account, one secret, one reading of it."""
    function.secrets_manager.aws.put_secret(
        tenant.secret_id, json.dumps(tenant.secret | {"accountSid": "AC" + tenant.sid[2:].upper()})
    )
    for sid in (tenant.sid, "AC" + tenant.sid[2:].upper()):
        command = tenant.command(account_sid=sid)
        assert function(command)["account_sid"] == sid
        assert tenant.is_ended(command)
    assert function.secrets_manager.reads.count(tenant.secret_id) == 1


@pytest.mark.parametrize("prefix_", ["", " "])
def test_without_a_prefix_other_accounts_are_not_allowed(
    function: Function, dead_letters: Sqs, tenant: Tenant, studio: Studio, prefix_: str
) -> None:
    """403, without a request to Twilio; it can never succeed, so a message is dead-lettered at once."""
    function.setenv("TWILIO_ACCOUNT_SECRET_PREFIX", prefix_)
    assert status_and_code(function(in_http(tenant.command()))) == (403, "account_not_allowed")
    assert function.metrics == {"RequestsRejected": 1}
    with pytest.raises(AccountNotAllowed):
        function(tenant.command())
    assert not failed(function(in_sqs(tenant.command())))
    assert dead_letters.messages[0]["MessageAttributes"]["code"]["StringValue"] == "account_not_allowed"
    assert not studio.requests


def test_a_default_secret_with_a_wrong_account_is_not_the_commands_fault(
    function: Function, default_command: dict[str, Any]
) -> None:
    """Messages are kept until the secret is right."""
    function.setenv("TWILIO_ACCOUNT_SECRET_PREFIX", "")
    function.secrets_manager.aws.put_secret(SECRET_ID, secret_text(accountSid="my account"))
    assert failed(function(in_sqs(default_command | {"account_sid": DEFAULT_SID}))) == {"m0"}
    assert codes(function) == {"m0": "credentials_unavailable"}


@pytest.mark.parametrize("text", [None, " ", "{}", secret_text(accountSid=DEFAULT_SID)])
def test_an_account_without_a_usable_secret_is_unavailable(
    function: Function, studio: Studio, text: str | None
) -> None:
    """Messages come again, without a request to Twilio; the next command finds a secret that was created."""
    tenant = Tenant(studio, function.secrets_manager, 77)
    if text is None:
        function.secrets_manager.aws.delete_secret(tenant.secret_id)
    else:
        function.secrets_manager.aws.put_secret(tenant.secret_id, text)
    command = tenant.command()
    with pytest.raises(CredentialsUnavailable):
        function(command)
    assert failed(function(in_sqs(command))) == {"m0"}
    assert not studio.requests
    function.secrets_manager.aws.put_secret(tenant.secret_id, json.dumps(tenant.secret))
    function(command)
    assert tenant.is_ended(command)


def test_ten_accounts_of_which_four_are_in_trouble(
    function: Function, studio: Studio, tenants: list[Tenant]
) -> None:
    """One batch: revoked, throttled, without a secret, with another's secret; six end meanwhile."""
    revoked, throttled, missing, swapped, *healthy = tenants
    # Its credentials are in memory.
    function(revoked.command())
    studio.other_credentials[revoked.sid] = set()
    function.secrets_manager.aws.delete_secret(missing.secret_id)
    function.secrets_manager.aws.put_secret(swapped.secret_id, json.dumps(healthy[0].secret))
    # Only a contact's Executions are listed.
    studio.fail(method="GET", status=429, headers={"Retry-After": "1"}, times=None)
    studio.seed(throttled.flow_sid, account_sid=throttled.sid)
    commands = [one.command() for one in tenants]
    commands[1] = {"flow_sid": throttled.flow_sid, "contact": "+15005550006", "account_sid": throttled.sid}
    assert failed(function(in_sqs(*commands), seconds=5)) == {"m0", "m1", "m2", "m3"}
    assert codes(function) == {
        "m0": "credentials_rejected",
        "m1": "twilio_throttled",
        "m2": "credentials_unavailable",
        "m3": "credentials_unavailable",
    }
    assert all(one.is_ended(command) for one, command in zip(healthy, commands[4:], strict=True))
    # Nobody waited for the one that is throttled, nor was its refused neighbour's secret read more than once.
    assert function.logs[-1]["message_id"] == "m1"
    assert function.secrets_manager.reads.count(revoked.secret_id) == 2
    assert not studio.foreign_requests
    assert function.metrics == {
        "ExecutionsEnded": 6,
        "CredentialsRejected": 1,
        "TwilioThrottled": 1,
        "CredentialsUnavailable": 2,
    }


def test_a_hanging_secret_delays_no_other_account(function: Function, tenants: list[Tenant]) -> None:
    """The nine others are done while the one still waits."""
    function.secrets_manager.fail(delay=20, about=tenants[0].secret_id)
    assert failed(function(in_sqs(*(one.command() for one in tenants)), seconds=4)) == {"m0"}
    assert function.logs[-1]["message_id"] == "m0"


@pytest.mark.parametrize(
    "trouble",
    [
        lambda secrets: secrets.fail(delay=20, about=f'"{SECRET_ID}"'),
        lambda secrets: secrets.fail(code="AccessDeniedException", about=f'"{SECRET_ID}"'),
        lambda secrets: secrets.aws.delete_secret(SECRET_ID),
    ],
    ids=["hanging", "denied", "missing"],
)
def test_the_default_account_fails_and_delays_no_other(
    function: Function, tenants: list[Tenant], default_command: dict[str, Any], trouble: Any
) -> None:
    """In a process that has never read the default account's secret, too. Its own commands do fail."""
    trouble(function.secrets_manager)
    assert not failed(function(in_sqs(*(one.command() for one in tenants))))
    assert SECRET_ID not in function.secrets_manager.reads
    named = default_command | {"account_sid": DEFAULT_SID}
    assert failed(function(in_sqs(default_command, named, tenants[0].command()), seconds=4)) == {"m0", "m1"}
    assert codes(function) == {"m0": "credentials_unavailable", "m1": "credentials_unavailable"}


def test_a_default_secret_of_another_account_by_now_is_noticed(
    function: Function, studio: Studio, tenants: list[Tenant], default_command: dict[str, Any]
) -> None:
    """The account that it was of does not get the new one's credentials, nor the new one the old one's."""
    function.setenv("TWILIO_SECRET_MAX_AGE_SECONDS", "0")
    function(default_command)
    new = tenants[0]
    function.secrets_manager.aws.delete_secret(new.secret_id)
    function.secrets_manager.aws.put_secret(SECRET_ID, new.secret)
    studio.clear_requests()
    with pytest.raises(CredentialsUnavailable):
        function(default_command | {"account_sid": DEFAULT_SID})
    command = new.command()
    function(command)
    assert new.is_ended(command)
    assert not studio.foreign_requests


def test_a_rotated_secret_is_read_once_for_its_account(
    function: Function, studio: Studio, tenants: list[Tenant]
) -> None:
    """Five records of an account get 401 and share one read; no other account's secret is read again."""
    one, other = tenants[:2]
    function(in_sqs(one.command(), other.command()))
    function.secrets_manager.aws.calls.clear()
    studio.other_credentials[one.sid] = {(one.user, "rotated-not-a-real-one")}
    function.secrets_manager.aws.put_secret(
        one.secret_id, json.dumps(one.secret | {"apiKeySecret": "rotated-not-a-real-one"})
    )
    commands = [one.command() for _ in range(5)] + [other.command() for _ in range(5)]
    assert not failed(function(in_sqs(*commands)))
    assert function.secrets_manager.reads == [one.secret_id]


def test_expired_credentials_bridge_a_failure_for_their_account(
    function: Function, tenants: list[Tenant]
) -> None:
    """It is logged and counted; the other account's are fresh."""
    function.setenv("TWILIO_SECRET_MAX_AGE_SECONDS", "0")
    one, other = tenants[:2]
    function(in_sqs(one.command(), other.command()))
    function.secrets_manager.fail(code="InternalServiceError", about=one.secret_id)
    assert not failed(function(in_sqs(one.command(), other.command())))
    assert function.metrics == {"ExecutionsEnded": 2, "StaleCredentialsUsed": 1}
    (line,) = [line for line in function.logs if line["message"] == "stale_credentials_used"]
    assert line["detail"] == "Secrets Manager rejected the request: InternalServiceError"


def test_only_the_most_recently_used_accounts_are_kept(
    function: Function, studio: Studio, tenants: list[Tenant]
) -> None:
    """The least recently used goes, and is read again when it comes; all share their connections."""
    function.patch(accounts, "MAX_ACCOUNTS", 3)
    first, second, third, fourth = tenants[:4]
    for one in (first, second, third, first, fourth, first, second):
        function(one.command())
    read = [one.secret_id for one in (first, second, third, fourth, second)]
    assert function.secrets_manager.reads == read
    assert studio.connections == 1
    assert not studio.foreign_requests


def test_a_sweep_is_for_one_account(
    sweep: Function, studio: Studio, tenant: Tenant, default_command: dict[str, Any]
) -> None:
    """For all its Flows, named in the result and in every log line."""
    stuck = tenant.command()
    result = sweep({"account_sid": tenant.sid, "flow_sids": [tenant.flow_sid], "older_than_minutes": 0})
    assert result["account_sid"] == tenant.sid
    assert [flow["ended"] for flow in result["flows"]] == [1]
    assert tenant.is_ended(stuck)
    assert {line["account_sid"] for line in sweep.logs} == {tenant.sid}
    assert {request.user for request in studio.requests} == {tenant.user}
    assert studio.executions.get(FLOW_SID, default_command["execution_sid"]).status == "active"


@pytest.mark.parametrize(
    ("prefix_", "sid", "error"),
    [
        ("", MISSING, AccountNotAllowed),
        (PREFIX, MISSING, CredentialsUnavailable),
        (PREFIX, "AC7", InvalidRequest),
    ],
)
def test_a_sweep_of_an_account_that_cannot_be_swept(
    sweep: Function, studio: Studio, prefix_: str, sid: str, error: type[Exception]
) -> None:
    """It raises before any request to Twilio."""
    sweep.setenv("TWILIO_ACCOUNT_SECRET_PREFIX", prefix_)
    with pytest.raises(error):
        sweep({"account_sid": sid, "flow_sids": [FLOW_SID]})
    assert not studio.requests


def test_the_flow_of_another_account_is_not_found(
    function: Function, studio: Studio, tenants: list[Tenant]
) -> None:
    """Only the credentials of the account that a command names are used: Twilio knows no such Flow."""
    one, other = tenants[:2]
    command = one.command()
    answer = function(in_http(command | {"account_sid": other.sid}))
    assert status_and_code(answer) == (404, "execution_not_found")
    assert [request.user for request in studio.requests] == [other.user]
    assert not one.is_ended(command)
