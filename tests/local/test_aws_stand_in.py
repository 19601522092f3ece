"""AWS on this machine."""

import concurrent.futures
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.aws import Aws


@pytest.fixture
def aws() -> Iterator[Aws]:
    with Aws() as aws:
        yield aws


@pytest.fixture
def secrets(aws: Aws) -> Any:
    """A client as the function has it."""
    environment = aws.environment
    return boto3.client(
        "secretsmanager",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_secret(aws: Aws, secrets: Any) -> None:
    """A secret is there for whoever uses the environment's variables, and can be replaced."""
    for number in (1, 2):
        aws.put_secret("some/secret", {"number": number})
        assert secrets.get_secret_value(SecretId="some/secret")["SecretString"] == f'{{"number": {number}}}'


def test_calls(aws: Aws, secrets: Any) -> None:
    """Calls are recorded with their answers, but for those of the stand-in's own clients."""
    aws.put_secret("some/secret", "text")
    secrets.get_secret_value(SecretId="some/secret")
    with pytest.raises(ClientError):
        secrets.get_secret_value(SecretId="another")
    found, missing = aws.calls
    assert (found.target, found.operation) == ("secretsmanager.GetSecretValue", "GetSecretValue")
    assert (found.answer["SecretString"], missing.answer) == ("text", None)
    assert missing.request == {"SecretId": "another"}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 503}, "ServiceFailure"),
        ({"code": "AccessDeniedException"}, "AccessDeniedException"),
        ({"code": "Oops", "status": 500, "about": "some/secret"}, "Oops"),
    ],
)
def test_refusals(aws: Aws, secrets: Any, fault: dict[str, Any], code: str) -> None:
    """The calls of an operation, or those about one thing, fail as they are told to, and then no more."""
    aws.put_secret("some/secret", "text")
    aws.fail("GetSecretValue", **fault)
    assert secrets.list_secrets()["SecretList"]
    with pytest.raises(ClientError) as raised:
        secrets.get_secret_value(SecretId="some/secret")
    assert raised.value.response["Error"]["Code"] == code
    assert secrets.get_secret_value(SecretId="some/secret")["SecretString"] == "text"


@pytest.mark.parametrize("fault", [{"delay": 0.1}, {"broken": "drip", "interval": 0.005}])
def test_slow(aws: Aws, secrets: Any, fault: dict[str, Any]) -> None:
    """An answer is late, or comes byte by byte."""
    aws.fail(**fault)
    begin = time.perf_counter()
    assert secrets.list_secrets()["SecretList"] == []
    assert time.perf_counter() - begin >= 0.1


def test_lost_answer(aws: Aws, secrets: Any) -> None:
    """A call can be carried out although its answer is an error."""
    aws.fail(status=500, carried_out=True)
    with pytest.raises(ClientError):
        secrets.create_secret(Name="some/secret", SecretString="text")
    assert secrets.get_secret_value(SecretId="some/secret")["SecretString"] == "text"


def test_recovery(aws: Aws, secrets: Any) -> None:
    """To recover is to give up the calls that hang."""
    aws.fail(broken="hang")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(secrets.list_secrets)
        while not aws.calls:
            time.sleep(0.001)
        aws.recover()
        with pytest.raises(ClientError):
            waiting.result()


def test_empty_at_first(aws: Aws) -> None:
    """Nothing is left of the one before."""
    aws.put_secret("some/secret", {})
    aws.__exit__(None, None, None)
    with Aws() as another:
        assert another.client("secretsmanager").list_secrets()["SecretList"] == []
