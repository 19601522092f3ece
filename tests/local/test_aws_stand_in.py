"""AWS on this machine."""

import time
from collections.abc import Iterator

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.aws import Aws


@pytest.fixture
def aws() -> Iterator[Aws]:
    with Aws() as aws:
        yield aws


def test_secret(aws: Aws) -> None:
    """A secret is there for whoever uses the environment's variables, and can be replaced."""
    environment = aws.environment
    client = boto3.client(
        "secretsmanager",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    for number in (1, 2):
        aws.put_secret("some/secret", {"number": number})
        assert client.get_secret_value(SecretId="some/secret")["SecretString"] == f'{{"number": {number}}}'


def test_calls(aws: Aws) -> None:
    """The operations that were called are told."""
    aws.put_secret("some/secret", {})
    aws.secrets().get_secret_value(SecretId="some/secret")
    aws.sqs().create_queue(QueueName="queue")
    assert aws.calls == [
        "secretsmanager.CreateSecret",
        "secretsmanager.GetSecretValue",
        "AmazonSQS.CreateQueue",
    ]


def test_down_and_slow(aws: Aws) -> None:
    """It is down while it is told to be, and slow by as much as it is told."""
    once = Config(retries={"total_max_attempts": 1})
    client = boto3.client("secretsmanager", config=once, **aws._here)
    aws.down = True
    with pytest.raises(ClientError) as raised:
        client.list_secrets()
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    aws.down, aws.delay = False, 0.05
    begin = time.perf_counter()
    assert client.list_secrets()["SecretList"] == []
    assert time.perf_counter() - begin >= 0.05


def test_empty_at_first(aws: Aws) -> None:
    """Nothing is left of the one before."""
    aws.put_secret("some/secret", {})
    aws.__exit__(None, None, None)
    with Aws() as another:
        assert another.secrets().list_secrets()["SecretList"] == []
