"""The stand-in for AWS: what it keeps, what it records, and how it fails."""

import time
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.aws import ACCESS_KEY, REGION, SECRET_KEY, Aws


@pytest.fixture
def secrets(moto: Aws) -> Any:
    """A client of which each call is one request."""
    return boto3.client(
        "secretsmanager",
        REGION,
        endpoint_url=moto.url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(retries={"total_max_attempts": 1}),
    )


def read(secrets: Any) -> str:
    """The secret's text, or the code of the error."""
    try:
        return str(secrets.get_secret_value(SecretId="some/secret")["SecretString"])
    except ClientError as error:
        return str(error.response["Error"]["Code"])


def test_calls(moto: Aws, secrets: Any) -> None:
    """A secret can be replaced. Calls are recorded with their answers, but for the stand-in's own."""
    assert read(secrets) == "ResourceNotFoundException"
    for number in (1, 2):
        moto.put_secret("some/secret", {"number": number})
        assert read(secrets) == f'{{"number": {number}}}'
    missing, found, _ = moto.calls
    assert (found.target, found.operation) == ("secretsmanager.GetSecretValue", "GetSecretValue")
    assert found.request == {"SecretId": "some/secret"}
    assert (found.answer["SecretString"], missing.answer) == ('{"number": 1}', None)


@pytest.mark.parametrize(
    ("fault", "answer", "seconds"),
    [
        ({"status": 503}, "ServiceFailure", 0),
        ({"code": "AccessDeniedException"}, "AccessDeniedException", 0),
        ({"code": "Oops", "status": 500, "about": "some/secret"}, "Oops", 0),
        ({"delay": 0.1}, "text", 0.1),
        ({"broken": "drip", "interval": 0.001}, "text", 0.1),
    ],
)
def test_faults(moto: Aws, secrets: Any, fault: dict[str, Any], answer: str, seconds: float) -> None:
    """The next call of an operation, or about one thing, fails or is late; other calls do not."""
    moto.put_secret("some/secret", "text")
    moto.fail("GetSecretValue", **fault)
    assert secrets.list_secrets()["SecretList"]
    began = time.monotonic()
    assert read(secrets) == answer
    assert time.monotonic() - began >= seconds
    assert read(secrets) == "text"


def test_lost_answer(moto: Aws, secrets: Any) -> None:
    """A call can be carried out although its answer is an error."""
    moto.fail(status=500, carried_out=True)
    with pytest.raises(ClientError):
        secrets.create_secret(Name="some/secret", SecretString="text")
    assert read(secrets) == "text"


def test_empty_at_first(moto: Aws) -> None:
    """Nothing is left of the one before."""
    moto.put_secret("some/secret", {})
    with Aws() as another:
        assert another.client("secretsmanager").list_secrets()["SecretList"] == []
