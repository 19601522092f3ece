"""AWS clients, one per service, with timeouts that fit into a request."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, overload

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from end_conversation.errors import ConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

CONNECT_TIMEOUT = 1.0
READ_TIMEOUT = 2.0
MAX_ATTEMPTS = 2

CALL_LIMIT = MAX_ATTEMPTS * (CONNECT_TIMEOUT + READ_TIMEOUT)
"""Seconds that a call may take, with all retries; botocore's defaults (60 s, 5 tries) exceed every budget."""

_ATTEMPTS = {"events": 1}
"""Services whose requests our own code retries: PutEvents may fail for some entries only."""

# Clients are thread-safe; creating one is not:
# https://docs.aws.amazon.com/boto3/latest/guide/clients.html
_making = Lock()


@overload
def client(service: Literal["events"]) -> EventBridgeClient: ...
@overload
def client(service: Literal["secretsmanager"]) -> SecretsManagerClient: ...
@overload
def client(service: Literal["sqs"]) -> SQSClient: ...
def client(service: Any) -> Any:
    """The client of a service, configured by the environment (region, endpoint). Thread-safe.

    Raises:
        ConfigurationError: one of boto3's settings is missing or invalid.
    """
    with _making:
        return _clients(service)


@cache
def _clients(service: Literal["sqs"]) -> object:
    config = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"total_max_attempts": _ATTEMPTS.get(service, MAX_ATTEMPTS), "mode": "standard"},
    )
    try:
        return boto3.client(service, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"boto3 cannot create a client: {type(error).__name__}") from error
