"""A secret from AWS Secrets Manager: cached, read again when expired or rejected, bridged during outages."""

from __future__ import annotations

import string
import time
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from botocore.exceptions import ClientError

from end_conversation.aws.clients import CALL_LIMIT
from end_conversation.deadline import Deadline, call_within
from end_conversation.errors import CredentialsUnavailable
from end_conversation.observability import count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mypy_boto3_secretsmanager import SecretsManagerClient

T = TypeVar("T")

STALE_USE = 30.0
"""Seconds for which an expired value stays in use after a failed read, before the next one."""

INVISIBLE = (
    string.whitespace
    + "\x85\xa0\u3000\ufeff"
    + "".join(map(chr, (*range(0x2000, 0x2010), *range(0x2028, 0x2030), *range(0x205F, 0x2070))))
)
"""White space, editors' byte order mark, and zero-width and direction marks, which web pages have."""

_SERVER_ERROR = 500


class Secret(Generic[T]):
    """A secret's value, which `parse` makes from its text. Thread-safe: one thread reads at a time.

    Args:
        client: Secrets Manager's.
        secret_id: name or ARN.
        parse: makes the value; raises ValueError with a safe message for invalid text.
        max_age: seconds for which a value is cached.
        outage_grace: None for a value whose revocation others enforce, as Twilio does for its credentials: an
            expired value stays in use whatever Secrets Manager answers. Else the seconds for which an expired
            value stays in use, and only while Secrets Manager is down; any answer without a usable value ends
            its use at once.
    """

    def __init__(
        self,
        client: SecretsManagerClient,
        secret_id: str,
        parse: Callable[[str], T],
        max_age: float,
        outage_grace: float | None = None,
    ) -> None:
        self._client = client
        self._secret_id = secret_id
        self._parse = parse
        self._max_age = max_age
        self._bridged_for = outage_grace
        self._lock = Lock()
        self._value: T | None = None
        # Ages use the wall clock: the monotonic clock may stop while Lambda has frozen the process.
        self._read_at = 0.0
        self._stale_until = 0.0
        # The order of events within an invocation uses the monotonic clock, which is never adjusted.
        self._last_began = self._last_ended = float("-inf")
        self._last_failure: CredentialsUnavailable | None = None

    def get(self, deadline: Deadline) -> T:
        """The value, at most `max_age` old unless Secrets Manager is down.

        Raises:
            CredentialsUnavailable: there is no value, not even an expired one.
        """
        value = self._usable()
        if value is not None:
            return value
        asked_at = monotonic()
        with self._locked(deadline):
            value = self._usable()
            if value is not None:
                return value
            # Threads that waited for a failed read share its failure: ten records don't wait ten times.
            failure = self._last_failure if self._last_ended > asked_at else self._read(deadline)
            if failure is None:
                value = self._value
            elif self._value is not None:
                value = self._value
                self._stale_until = min(time.time() + STALE_USE, self._usable_until())
                logger.error("stale_credentials_used", extra={"detail": str(failure)})
                count("StaleCredentialsUsed")
            if value is None:
                raise CredentialsUnavailable(str(failure)) from failure
            return value

    @property
    def last_value(self) -> T | None:
        """The value as last read, however long ago; None if it was never read."""
        return self._value

    def renew(self, refused: T, sent_at: float, deadline: Deadline) -> T | None:
        """The value to use instead of a rejected one, or None if the secret still contains that one.

        Reads the secret again, unless this was done after the rejected request was sent.

        Args:
            refused: the value that was rejected.
            sent_at: when the request was sent, by the monotonic clock.
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
        # Both bounds: a clock that was set back must not prolong the use.
        stale = 0 < self._stale_until - now <= STALE_USE
        return self._value if fresh or stale else None

    def _read(self, deadline: Deadline) -> CredentialsUnavailable | None:
        """Read the secret. The failure is returned, not raised, because other threads may share it."""
        self._last_began, began_at = monotonic(), time.time()
        # Leave half of the time for what needs the value.
        seconds = min(CALL_LIMIT, deadline.remaining() / 2)
        failure: CredentialsUnavailable | None = None
        try:
            self._value = self._load(seconds)
            self._read_at = began_at
        except CredentialsUnavailable as error:
            failure = error
            is_answer = self._bridged_for is not None and not _is_service_failure(error.__cause__)
            if is_answer or began_at >= self._usable_until():
                self._value, self._stale_until = None, 0.0
        self._last_failure = failure
        self._last_ended = monotonic()
        return failure

    def _usable_until(self) -> float:
        return float("inf") if self._bridged_for is None else self._read_at + self._bridged_for

    def _load(self, seconds: float) -> T:
        try:
            answer = call_within(seconds, lambda: self._client.get_secret_value(SecretId=self._secret_id))
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "no error code")
            raise CredentialsUnavailable(f"Secrets Manager rejected the request: {code}") from error
        except TimeoutError as error:
            raise CredentialsUnavailable("Secrets Manager did not respond in time") from error
        except Exception as error:  # botocore raises anything for a response that it cannot read
            raise CredentialsUnavailable(f"Secrets Manager failed: {type(error).__name__}") from error
        try:
            return self._parse(_text(answer))
        except ValueError as error:
            raise CredentialsUnavailable(str(error)) from None

    @contextmanager
    def _locked(self, deadline: Deadline) -> Iterator[None]:
        if not self._lock.acquire(timeout=deadline.remaining()):
            raise CredentialsUnavailable("Secrets Manager did not respond in time")
        try:
            yield
        finally:
            self._lock.release()


def _text(answer: Mapping[str, Any]) -> str:
    """The secret's text, if it has any, without the invisible characters that consoles and editors add.

    Raises:
        ValueError: it is binary, and not text.
    """
    text = answer.get("SecretString")
    if text is None and isinstance(binary := answer.get("SecretBinary"), bytes):
        try:
            text = binary.decode()
        except UnicodeDecodeError:
            raise ValueError("the secret is binary, and not UTF-8") from None
    return text.strip(INVISIBLE) if isinstance(text, str) else ""


def _is_service_failure(cause: BaseException | None) -> bool:
    """Whether Secrets Manager failed, throttled or did not respond, rather than answering.

    https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html
    """
    if not isinstance(cause, ClientError):
        # The parser's errors have no cause.
        return cause is not None
    status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = cause.response.get("Error", {}).get("Code", "")
    return status >= _SERVER_ERROR or "Throttl" in code or code in ("InternalServiceError", "InternalFailure")
