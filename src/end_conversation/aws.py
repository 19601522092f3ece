"""Clients of AWS, made once for each service, with timeouts that fit into a request.

They are botocore's: what boto3 adds to it would be a tenth of the time to start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from end_conversation.errors import ConfigurationError
from end_conversation.once import Once

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

CONNECT_TIMEOUT = 1.0
READ_TIMEOUT = 2.0
TRIES = 2

CALL_LIMIT = TRIES * (CONNECT_TIMEOUT + READ_TIMEOUT)
"""Seconds that a call may take, with all tries; botocore's own 60 and 5 tries outlast every budget."""

_CONFIG = Config(
    connect_timeout=CONNECT_TIMEOUT,
    read_timeout=READ_TIMEOUT,
    retries={"total_max_attempts": TRIES, "mode": "standard"},
)


@overload
def client(service: Literal["secretsmanager"]) -> SecretsManagerClient: ...
@overload
def client(service: Literal["sqs"]) -> SQSClient: ...
def client(service: str) -> Any:
    """The client of a service, as the environment says (region, endpoint, credentials); safe for threads.

    Raises:
        ConfigurationError: botocore lacks a setting, or refuses one.
    """
    return clients(service)


# What it loads serves the next client too.
_session = Once(botocore.session.get_session)


@Once
def clients(service: str) -> object:
    """The same without its type."""
    try:
        return _session().create_client(service, config=_CONFIG)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"no client of AWS can be made: {type(error).__name__}") from error
