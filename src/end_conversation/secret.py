"""One secret of AWS Secrets Manager: cached, read again when old or refused, bridged when that fails."""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from end_conversation.aws import CALL_LIMIT
from end_conversation.deadline import Deadline, call_within
from end_conversation.errors import CredentialsUnavailable
from end_conversation.observability import count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_secretsmanager import SecretsManagerClient

T = TypeVar("T")

STALE_USE = 30.0
"""Seconds for which an expired value serves on after Secrets Manager failed, before it is asked again."""

_SERVER_ERROR = 500


class Secret(Generic[T]):
    """A secret's value, as `parse` makes it of the secret's text. Safe for threads: one reads at a time.

    Args:
        client: of Secrets Manager.
        secret_id: name or ARN.
        parse: makes the value; raises ValueError for a text that lacks what it needs, with a safe message.
        max_age: seconds for which a value is used without asking again.
        bridged_for: None for a value that others enforce, as Twilio does its credentials: whatever Secrets
            Manager answers, the value is used on. Seconds for one that nobody else enforces: it is used on
            for as long at most and only while Secrets Manager fails; any answer without a usable value ends
            its use at once.
    """

    def __init__(
        self,
        client: SecretsManagerClient,
        secret_id: str,
        parse: Callable[[str], T],
        max_age: float,
        bridged_for: float | None = None,
    ) -> None:
        self._client = client
        self._secret_id = secret_id
        self._parse = parse
        self._max_age = max_age
        self._bridged_for = bridged_for
        self._lock = Lock()
        self._value: T | None = None
        # Ages are by the wall clock: the monotonic one may stand still while Lambda has the process frozen.
        self._read_at = 0.0
        self._stale_until = 0.0
        # The order of events within an invocation is by the monotonic clock, which is never set.
        self._last_began = self._last_ended = float("-inf")
        self._last_failure: CredentialsUnavailable | None = None

    def get(self, deadline: Deadline) -> T:
        """The value, at most `max_age` old unless Secrets Manager fails.

        Raises:
            CredentialsUnavailable: there is none, not even an expired one.
        """
        value = self._usable()
        if value is not None:
            return value
        asked_at = monotonic()
        with self._locked(deadline):
            value = self._usable()
            if value is not None:
                return value
            # Whoever waited for a read that failed shares its failure: ten records do not wait ten times.
            failure = self._last_failure if self._last_ended > asked_at else self._read(deadline)
            if failure is None:
                value = self._value
            elif self._value is not None:
                value = self._value
                self._stale_until = min(time.time() + STALE_USE, self._bridged_until())
                logger.error("stale_credentials_used", extra={"detail": str(failure)})
                count("StaleCredentialsUsed")
            if value is None:
                raise CredentialsUnavailable(str(failure)) from failure
            return value

    @property
    def known(self) -> T | None:
        """The value as it was last read, however long ago; None if it never was."""
        return self._value

    def renew(self, refused: T, sent_at: float, deadline: Deadline) -> T | None:
        """The value to use instead of one that was refused, or None if the secret still holds that one.

        Reads the secret again, unless that was done since the refused request was sent.

        Args:
            refused: the value that the request was sent with.
            sent_at: when it was sent, by the monotonic clock.
            deadline: when the answer is due.

        Raises:
            CredentialsUnavailable: the secret cannot be read.
        """
        with self._locked(deadline):
            if self._value in (refused, None):
                failure = self._last_failure if self._last_began > sent_at else self._read(deadline)
                if failure is not None:
                    raise CredentialsUnavailable(str(failure)) from failure
            return self._value if self._value != refused else None

    def _usable(self) -> T | None:
        now = time.time()
        fresh = 0 <= now - self._read_at < self._max_age
        return self._value if fresh or now < self._stale_until else None

    def _read(self, deadline: Deadline) -> CredentialsUnavailable | None:
        """Read the secret; the failure is returned, since it may be shared, or matter to nobody."""
        self._last_began, began_at = monotonic(), time.time()
        # Half of the time that is left stays for what the value is needed for.
        seconds = min(CALL_LIMIT, deadline.remaining() / 2)
        failure: CredentialsUnavailable | None = None
        try:
            self._value = self._load(seconds)
            self._read_at = began_at
        except CredentialsUnavailable as error:
            failure = error
            is_answer = self._bridged_for is not None and not _is_service_failure(error.__cause__)
            if is_answer or began_at >= self._bridged_until():
                self._value, self._stale_until = None, 0.0
        self._last_failure = failure
        self._last_ended = monotonic()
        return failure

    def _bridged_until(self) -> float:
        return float("inf") if self._bridged_for is None else self._read_at + self._bridged_for

    def _load(self, seconds: float) -> T:
        try:
            answer = call_within(seconds, lambda: self._client.get_secret_value(SecretId=self._secret_id))
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "no error code")
            raise CredentialsUnavailable(f"Secrets Manager refuses the secret: {code}") from error
        except BotoCoreError as error:
            raise CredentialsUnavailable(f"Secrets Manager fails: {type(error).__name__}") from error
        except TimeoutError as error:
            raise CredentialsUnavailable("Secrets Manager does not answer in time") from error
        try:
            return self._parse(answer.get("SecretString", ""))
        except ValueError as error:
            raise CredentialsUnavailable(str(error)) from None

    @contextmanager
    def _locked(self, deadline: Deadline) -> Iterator[None]:
        if not self._lock.acquire(timeout=deadline.remaining()):
            raise CredentialsUnavailable("Secrets Manager does not answer in time")
        try:
            yield
        finally:
            self._lock.release()


def _is_service_failure(cause: BaseException | None) -> bool:
    """Whether Secrets Manager failed, throttled or was silent, and so did not answer the question.

    https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html
    """
    if not isinstance(cause, ClientError):
        return isinstance(cause, (BotoCoreError, TimeoutError))
    status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = cause.response.get("Error", {}).get("Code", "")
    return status >= _SERVER_ERROR or "Throttl" in code or code in ("InternalServiceError", "InternalFailure")
