"""The cache of a secret: when it reads, when it does not, and what it does when reading fails."""

import json
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import SecretsManager, eventually

from end_conversation.aws import clients as aws
from end_conversation.aws.secret import STALE_USE, Secret
from end_conversation.deadline import Deadline
from end_conversation.errors import CredentialsUnavailable

ID = "some/secret"
MAX_AGE = 300


@pytest.fixture
def secret(environment: pytest.MonkeyPatch, secrets_manager: SecretsManager, clock: Any) -> Secret[str]:
    secrets_manager.aws.put_secret(ID, "first")
    return Secret(aws.client("secretsmanager"), ID, parse, MAX_AGE)


def parse(text: str) -> str:
    if not text:
        raise ValueError("it is empty")
    return text


def get(secret: Secret[str], seconds: float = 5.0) -> str:
    """The value, or the error's text."""
    try:
        return secret.get(Deadline(seconds))
    except CredentialsUnavailable as error:
        return str(error)


@pytest.mark.parametrize(
    ("passed", "value", "reads"),
    [(MAX_AGE - 1, "first", 1), (MAX_AGE, "second", 2), (-10, "second", 2)],
)
def test_a_value_is_read_again_when_it_is_old(
    secret: Secret[str], secrets_manager: SecretsManager, clock: Any, passed: float, value: str, reads: int
) -> None:
    """Also if the clock was set back: a value from the future has no age to go by."""
    get(secret)
    secrets_manager.aws.put_secret(ID, "second")
    clock.now += passed
    assert get(secret) == value
    assert len(secrets_manager.reads) == reads


def test_an_expired_value_stays_in_use_while_secrets_manager_fails(
    secret: Secret[str], secrets_manager: SecretsManager, clock: Any
) -> None:
    """For half a minute before Secrets Manager is asked again; then the new value is read."""
    get(secret)
    secrets_manager.fail(code="InternalServiceError")
    clock.now += MAX_AGE
    assert get(secret) == "first"
    reads = len(secrets_manager.reads)
    clock.now += STALE_USE - 1
    assert get(secret) == "first"
    assert len(secrets_manager.reads) == reads
    clock.now += 1
    assert get(secret) == "first"
    assert len(secrets_manager.reads) > reads
    secrets_manager.recover()
    secrets_manager.aws.put_secret(ID, "second")
    clock.now += STALE_USE
    assert get(secret) == "second"


def test_a_clock_that_was_set_back_prolongs_no_stale_use(
    secret: Secret[str], secrets_manager: SecretsManager, clock: Any
) -> None:
    """Otherwise an hour back would be an hour without asking Secrets Manager."""
    get(secret)
    secrets_manager.fail(code="InternalServiceError")
    clock.now += MAX_AGE
    get(secret)
    secrets_manager.recover()
    secrets_manager.aws.put_secret(ID, "second")
    clock.now -= 3600
    assert get(secret) == "second"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        *(
            ({"code": code}, f"Secrets Manager rejected the request: {code}")
            for code in ("ResourceNotFoundException", "AccessDeniedException", "DecryptionFailure")
        ),
        ({"status": 200, "body": '{"SecretString": ""}'}, "it is empty"),
        ({"status": 200, "body": '["not", "an", "object"]'}, "Secrets Manager failed: AttributeError"),
        ({"delay": 20.0}, "Secrets Manager did not respond in time"),
        ({"broken": "drip", "interval": 0.3}, "Secrets Manager did not respond in time"),
    ],
    ids=str,
)
def test_without_a_value_a_failure_is_an_error(
    secret: Secret[str], secrets_manager: SecretsManager, fault: dict[str, Any], message: str
) -> None:
    """The message of AWS or of the parser. Half of the time that is left is all that a read gets."""
    secrets_manager.fail(**fault)
    began = monotonic()
    assert get(secret, 4.0) == message
    assert monotonic() - began < 3.8


def test_an_unreadable_answer_is_a_failing_service(
    secret: Secret[str], secrets_manager: SecretsManager, clock: Any
) -> None:
    """It is no answer of Secrets Manager, so it is bridged even where its answers are not."""
    bridged = Secret(aws.client("secretsmanager"), ID, parse, MAX_AGE, 3600)
    get(bridged)
    secrets_manager.fail(status=200, body=json.dumps(["not", "an", "object"]))
    clock.now += MAX_AGE
    assert get(bridged) == "first"


def refused_with(answer: Any) -> Any:
    def refuse(**_: str) -> None:
        raise ClientError(answer, "GetSecretValue")

    return refuse


@pytest.mark.parametrize(
    ("get_secret_value", "value"),
    [
        (lambda **_: {"SecretString": "\ufeff text \r\n"}, "text"),
        (lambda **_: {"SecretBinary": b"\xef\xbb\xbftext\n"}, "text"),
        (lambda **_: {"SecretBinary": b"\xff"}, "the secret is binary, and not UTF-8"),
        *(
            (lambda text=text, **_: {"SecretString": text}, "it is empty")
            for text in (5, {"a": 1}, None, " ")
        ),
        (lambda **_: {}, "it is empty"),
        (refused_with({}), "Secrets Manager rejected the request: no error code"),
        (refused_with({"Error": {}}), "Secrets Manager rejected the request: no error code"),
    ],
)
def test_what_a_secret_may_be(clock: Any, get_secret_value: Any, value: str) -> None:
    """Text or binary; white space and a byte order mark around it are forgiven."""
    client: Any = SimpleNamespace(get_secret_value=get_secret_value)
    assert get(Secret(client, ID, parse, MAX_AGE)) == value


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [({"delay": 0.5}, "first"), ({"delay": 20.0}, "Secrets Manager did not respond in time")],
)
def test_concurrent_callers_share_one_read(
    secret: Secret[str], secrets_manager: SecretsManager, fault: dict[str, Any], outcome: str
) -> None:
    """Ten records at a cold start cost one call; they do not wait for ten failures, one after the other."""
    secrets_manager.fail(**fault)
    with ThreadPoolExecutor(10) as threads:
        assert set(threads.map(lambda _: get(secret, 4.0), range(10))) == {outcome}
    assert len(secrets_manager.reads) == 1


def test_a_reader_that_hangs_does_not_hold_up_others(
    secret: Secret[str], secrets_manager: SecretsManager
) -> None:
    """Waiting for another thread's read keeps to one's own deadline."""
    secrets_manager.fail(delay=20.0)
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(get, secret, 20.0)
        assert eventually(lambda: secrets_manager.calls)
        assert get(secret, 0.1) == "Secrets Manager did not respond in time"
        assert not other.done()
        secrets_manager.recover()


def renewed(secret: Secret[str], refused: str, sent_at: float) -> str | None:
    return secret.renew(refused, sent_at, Deadline(5))


def test_a_refused_value_is_read_again_once(secret: Secret[str], secrets_manager: SecretsManager) -> None:
    """However fresh the cache is, ten refused records cost one more call, and all get the new value."""
    refused, sent_at = get(secret), monotonic()
    secrets_manager.aws.put_secret(ID, "second")
    secrets_manager.fail(delay=0.05)
    with ThreadPoolExecutor(10) as threads:
        assert set(threads.map(lambda _: renewed(secret, refused, sent_at), range(10))) == {"second"}
    # A request that was refused late, with the old value, gets the new one from the cache.
    assert renewed(secret, refused, monotonic()) == "second"
    assert len(secrets_manager.reads) == 2


def test_an_unchanged_value_is_not_worth_a_retry(
    secret: Secret[str], secrets_manager: SecretsManager
) -> None:
    """Nor another read, if the refused request was sent before the last one."""
    refused, sent_at = get(secret), monotonic()
    assert renewed(secret, refused, sent_at) is None
    assert renewed(secret, refused, sent_at) is None
    assert len(secrets_manager.reads) == 2
