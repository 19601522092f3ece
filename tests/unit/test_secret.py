"""The cache of a secret: when it reads, when it does not, and what it does when it cannot."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import SecretsManager, eventually

from end_conversation.aws import clients as aws
from end_conversation.aws import secret as secret_module
from end_conversation.aws.secret import STALE_USE, Secret
from end_conversation.deadline import Deadline
from end_conversation.errors import CredentialsUnavailable

ID = "some/secret"


class Clock:
    """The wall clock that the cache goes by."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(secret_module, "time", clock)
    return clock


@pytest.fixture
def secret(environment: pytest.MonkeyPatch, secrets_manager: SecretsManager, clock: Clock) -> Secret[str]:
    secrets_manager.aws.put_secret(ID, "first")
    return Secret(aws.client("secretsmanager"), ID, parse, 300)


def parse(text: str) -> str:
    if not text:
        raise ValueError("it is empty")
    return text


def of_client(get_secret_value: Any, parse: Callable[[str], str] = parse) -> Secret[str]:
    """A secret of a client that answers like this."""
    client: Any = SimpleNamespace(get_secret_value=get_secret_value)
    return Secret(client, ID, parse, 300)


def get(secret: Secret[str], seconds: float = 5.0) -> str:
    return secret.get(Deadline(seconds))


def test_a_fresh_value_is_not_read_again(
    secret: Secret[str], secrets_manager: SecretsManager, clock: Clock
) -> None:
    """Within its age a value costs one call to Secrets Manager."""
    assert get(secret) == "first"
    clock.now += 299
    assert get(secret) == "first"
    assert len(secrets_manager.reads) == 1


def test_an_old_value_is_read_again(
    secret: Secret[str], secrets_manager: SecretsManager, clock: Clock
) -> None:
    """After its age a changed value is noticed without any refusal."""
    get(secret)
    secrets_manager.aws.put_secret(ID, "second")
    clock.now += 300
    assert get(secret) == "second"


def test_a_clock_that_was_set_back_makes_a_value_old(
    secret: Secret[str], secrets_manager: SecretsManager, clock: Clock
) -> None:
    """A value from the future has no age to go by."""
    get(secret)
    clock.now -= 10
    get(secret)
    assert len(secrets_manager.reads) == 2


@pytest.mark.parametrize("error", ["ResourceNotFoundException", "AccessDeniedException", "DecryptionFailure"])
def test_without_a_value_a_failure_is_told(
    secret: Secret[str], secrets_manager: SecretsManager, error: str
) -> None:
    """The error names what AWS said."""
    secrets_manager.fail(code=error)
    with pytest.raises(CredentialsUnavailable, match=rf"^Secrets Manager refuses the secret: {error}$"):
        get(secret)


@pytest.mark.parametrize("answer", [{}, {"Error": {}}])
def test_a_failure_without_a_code_is_told(answer: Any) -> None:
    """Something between us and AWS may answer in its place."""

    def refuse(**_: str) -> None:
        raise ClientError(answer, "GetSecretValue")

    with pytest.raises(CredentialsUnavailable, match=r"^Secrets Manager refuses the secret: no error code$"):
        get(of_client(refuse))


@pytest.mark.parametrize("text", [5, {"a": 1}, None])
def test_a_text_that_is_none_is_like_an_empty_one(text: Any) -> None:
    """Whatever answers in Secrets Manager's place."""
    with pytest.raises(CredentialsUnavailable, match=r"^it is empty$"):
        get(of_client(lambda **_: {"SecretString": text}))


def test_an_answer_that_nobody_can_read_is_a_failing_service(
    secret: Secret[str], secrets_manager: SecretsManager, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON of another shape, at which botocore breaks: no answer of Secrets Manager, so it is bridged."""
    bridged = Secret(aws.client("secretsmanager"), ID, parse, 300, 3600)
    get(bridged)
    secrets_manager.fail(status=200, body=json.dumps(["not", "an", "object"]))
    clock.now += 301
    assert get(bridged) == "first"
    with pytest.raises(CredentialsUnavailable, match=r"^Secrets Manager fails: AttributeError$"):
        get(secret)


def test_a_value_that_does_not_parse_is_a_failure(
    secret: Secret[str], secrets_manager: SecretsManager
) -> None:
    """What the secret lacks is told in the parser's words."""
    secrets_manager.fail(status=200, body='{"SecretString": ""}')
    with pytest.raises(CredentialsUnavailable, match=r"^it is empty$"):
        get(secret)


def test_an_expired_value_serves_on_while_secrets_manager_fails(
    secret: Secret[str], secrets_manager: SecretsManager, clock: Clock
) -> None:
    """It is used for half a minute before Secrets Manager is asked again."""
    get(secret)
    secrets_manager.fail(code="InternalServiceError")
    clock.now += 301
    assert get(secret) == "first"
    reads = len(secrets_manager.reads)
    clock.now += STALE_USE - 1
    assert get(secret) == "first"
    assert len(secrets_manager.reads) == reads
    clock.now += 1
    assert get(secret) == "first"
    assert len(secrets_manager.reads) > reads


def test_a_clock_that_was_set_back_prolongs_no_stale_use(
    secret: Secret[str], secrets_manager: SecretsManager, clock: Clock
) -> None:
    """An hour back would have been an hour without asking Secrets Manager."""
    get(secret)
    secrets_manager.fail(code="InternalServiceError")
    clock.now += 301
    get(secret)
    secrets_manager.recover()
    secrets_manager.aws.put_secret(ID, "second")
    clock.now -= 3600
    assert get(secret) == "second"


def test_a_recovered_secrets_manager_is_noticed(
    secret: Secret[str], secrets_manager: SecretsManager, clock: Clock
) -> None:
    """After the half minute the new value is read."""
    get(secret)
    secrets_manager.fail(code="InternalServiceError")
    clock.now += 301
    get(secret)
    secrets_manager.recover()
    secrets_manager.aws.put_secret(ID, "second")
    clock.now += STALE_USE
    assert get(secret) == "second"


@pytest.mark.parametrize("fault", [{"delay": 20.0}, {"broken": "drip", "interval": 0.3}], ids=str)
def test_a_secrets_manager_that_hangs_is_given_up(
    secret: Secret[str], secrets_manager: SecretsManager, fault: dict[str, Any]
) -> None:
    """Half of the time that is left is all it gets, whether it says nothing or a byte now and then."""
    secrets_manager.fail(**fault)
    began = monotonic()
    with pytest.raises(CredentialsUnavailable, match=r"^Secrets Manager does not answer in time$"):
        get(secret, 2.0)
    assert monotonic() - began < 1.8


def test_an_unreachable_secrets_manager_is_a_failure(environment: pytest.MonkeyPatch) -> None:
    """A refused connection is told by its kind."""
    environment.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:9")
    with pytest.raises(CredentialsUnavailable, match=r"^Secrets Manager fails: EndpointConnectionError$"):
        get(Secret(aws.client("secretsmanager"), ID, parse, 300))


def test_concurrent_callers_read_once(secret: Secret[str], secrets_manager: SecretsManager) -> None:
    """Ten records at a cold start cost one call."""
    secrets_manager.fail(delay=0.1)
    with ThreadPoolExecutor(10) as threads:
        assert set(threads.map(lambda _: get(secret), range(10))) == {"first"}
    assert len(secrets_manager.reads) == 1


def test_concurrent_callers_share_a_failure(secret: Secret[str], secrets_manager: SecretsManager) -> None:
    """Ten records do not wait for ten failures, one after the other."""
    secrets_manager.fail(delay=20.0)
    began = monotonic()
    with ThreadPoolExecutor(10) as threads:
        outcomes = list(threads.map(lambda _: failure(secret, 2.0), range(10)))
    assert all(outcomes)
    assert monotonic() - began < 1.9
    assert len(secrets_manager.reads) == 1


def failure(secret: Secret[str], seconds: float) -> CredentialsUnavailable | None:
    try:
        get(secret, seconds)
    except CredentialsUnavailable as error:
        return error
    return None


def test_a_refused_value_is_read_again(secret: Secret[str], secrets_manager: SecretsManager) -> None:
    """A rotated secret is there at once, however fresh the cache is."""
    refused, sent_at = get(secret), monotonic()
    secrets_manager.aws.put_secret(ID, "second")
    assert secret.renew(refused, sent_at, Deadline(5)) == "second"


def test_an_unchanged_value_is_not_worth_a_retry(secret: Secret[str]) -> None:
    """What was refused would be refused again."""
    refused, sent_at = get(secret), monotonic()
    assert secret.renew(refused, sent_at, Deadline(5)) is None


def test_concurrent_refusals_read_once(secret: Secret[str], secrets_manager: SecretsManager) -> None:
    """Ten refused records cost one more call, and all get the new value."""
    refused, sent_at = get(secret), monotonic()
    secrets_manager.aws.put_secret(ID, "second")
    secrets_manager.fail(delay=0.05)
    with ThreadPoolExecutor(10) as threads:
        renewed = threads.map(lambda _: secret.renew(refused, sent_at, Deadline(5)), range(10))
        assert set(renewed) == {"second"}
    assert len(secrets_manager.reads) == 2


def test_a_value_read_since_the_refused_request_is_not_read_again(
    secret: Secret[str], secrets_manager: SecretsManager
) -> None:
    """A second refusal of a request that was sent before the last read costs nothing."""
    refused, sent_at = get(secret), monotonic()
    secret.renew(refused, sent_at, Deadline(5))
    assert secret.renew(refused, sent_at, Deadline(5)) is None
    assert len(secrets_manager.reads) == 2


def test_a_value_that_someone_else_renewed_needs_no_read(
    secret: Secret[str], secrets_manager: SecretsManager
) -> None:
    """Who was refused late, with the old value, gets the new one from the cache."""
    refused, sent_at = get(secret), monotonic()
    secrets_manager.aws.put_secret(ID, "second")
    secret.renew(refused, sent_at, Deadline(5))
    assert secret.renew(refused, monotonic(), Deadline(5)) == "second"
    assert len(secrets_manager.reads) == 2


def test_a_failing_renewal_is_told(secret: Secret[str], secrets_manager: SecretsManager) -> None:
    """Refused, and nothing else to be had."""
    refused, sent_at = get(secret), monotonic()
    secrets_manager.fail(code="InternalServiceError")
    with pytest.raises(
        CredentialsUnavailable, match=r"^Secrets Manager refuses the secret: InternalServiceError$"
    ):
        secret.renew(refused, sent_at, Deadline(5))


def test_a_reader_that_hangs_does_not_hold_up_others(
    secret: Secret[str], secrets_manager: SecretsManager
) -> None:
    """Waiting for another thread's read keeps to one's own deadline."""
    secrets_manager.fail(delay=20.0)
    other = threading.Thread(target=failure, args=(secret, 2.0))
    other.start()
    assert eventually(lambda: secrets_manager.calls)
    began = monotonic()
    assert failure(secret, 0.1)
    assert monotonic() - began < 0.9
    other.join()
