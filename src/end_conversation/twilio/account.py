"""Requests for one Twilio account: credentials, concurrency limit, retries."""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any

from end_conversation.errors import (
    CredentialsRejected,
    CredentialsUnavailable,
    ExecutionNotFound,
    TwilioError,
    TwilioFailure,
    TwilioThrottled,
    TwilioTimeout,
)
from end_conversation.observability import observe_milliseconds
from end_conversation.twilio.limiter import Limiter
from end_conversation.twilio.transport import ConnectionFailed, TooLarge

if TYPE_CHECKING:
    from end_conversation.aws.secret import Secret
    from end_conversation.deadline import Deadline
    from end_conversation.twilio.credentials import Credentials
    from end_conversation.twilio.transport import Connections

CONCURRENCY = 10
"""Concurrent requests of one account; as many as an SQS batch has messages."""

MAX_ATTEMPTS = 4
TRY_TIMEOUT = 8.0
"""Seconds for one try, to the last byte of the response; three that hang fit into HTTP_BUDGET."""

BACKOFF = 0.2
MAX_BACKOFF = 1.0
"""Seconds; the wait before retry n is a random part of min(BACKOFF * 2**n, MAX_BACKOFF), plus Twilio's
Retry-After."""

RETRIED = frozenset((429, 500, 502, 503, 504))

# Copies of a SnapStart snapshot would share the state of any other generator.
_RANDOM = random.SystemRandom()

_MAX_CODE = 999_999
_MAX_RETRY_AFTER = 24 * 60 * 60
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)
_ERROR_PAGE = re.compile(r"/errors/(\d{5,6})$", re.ASCII)
_REQUEST_ID = re.compile(r"[\w-]{1,64}", re.ASCII)

Retries = list[dict[str, Any]]
"""Failed attempts before another one, for the log: the response's `status`, `twilio_code` and
`twilio_request_id`, or `error` if there was no response; and `milliseconds`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response from Twilio.

    Attributes:
        status: HTTP status.
        content: the body's JSON object; empty if there is none.
        size: bytes of the body.
        request_id: Twilio's support asks for it.
        retry_after: seconds.
        milliseconds: how long it took.
    """

    status: int
    content: dict[str, Any]
    size: int
    request_id: str | None
    retry_after: int | None
    milliseconds: int

    @property
    def error_code(self) -> int | None:
        """Twilio's error code, from its own error format or from the page that an RFC 9457 problem names."""
        match self.content:
            case {"code": int(code)} if 0 < code <= _MAX_CODE and code is not True:
                return code
            case {"type": str(page)} if found := _ERROR_PAGE.search(page):
                return int(found[1])
        return None

    def failure(self, kind: type[TwilioFailure], message: str) -> TwilioFailure:
        """The response as an error."""
        return kind(
            message,
            http_status=self.status,
            twilio_code=self.error_code,
            twilio_request_id=self.request_id,
            retry_after=self.retry_after,
        )

    def as_attempt(self) -> dict[str, Any]:
        """The response as an entry of `retries` in a log line."""
        entry = {
            "status": self.status,
            "twilio_code": self.error_code,
            "twilio_request_id": self.request_id,
            "milliseconds": self.milliseconds,
        }
        return {key: value for key, value in entry.items() if value is not None}


class _NoAnswer(Exception):
    """One try got no response.

    Attributes:
        failure: the error for the caller.
        milliseconds: how long it took.
        cut_short: whether the deadline ended it, and not its own limit.
    """

    def __init__(
        self, failure: TwilioFailure, error: str, milliseconds: int, *, cut_short: bool = False
    ) -> None:
        super().__init__(error)
        self.failure = failure
        self.milliseconds = milliseconds
        self.cut_short = cut_short

    @classmethod
    def no_time_left(cls) -> _NoAnswer:
        """There was no time for the try."""
        failure = TwilioTimeout("no time is left for a request to Twilio")
        return cls(failure, "no time left", 0, cut_short=True)

    def as_attempt(self) -> dict[str, Any]:
        """The same as an entry of `retries` in a log line."""
        return {"error": str(self), "milliseconds": self.milliseconds}


class Account:
    """Sends requests to Twilio until the response is final or the time is up. Thread-safe.

    Every request may be retried: ending is idempotent, and the others only read.

    Args:
        credentials: the account's secret.
        connections: to Twilio, shared by all accounts.
        concurrency: how many requests may be in flight, unless Twilio throttles.
    """

    def __init__(
        self, credentials: Secret[Credentials], connections: Connections, concurrency: int = CONCURRENCY
    ) -> None:
        self.credentials = credentials
        self._connections = connections
        self._limiter = Limiter(concurrency)

    def call(  # noqa: PLR0913 - what a request consists of, and how it is sent
        self,
        method: str,
        path: str,
        deadline: Deadline,
        retries: Retries,
        body: str | None = None,
        *,
        repeat_slow: bool = True,
    ) -> Answer:
        """A response that retrying would not change.

        Args:
            method: GET or POST.
            path: including the query.
            deadline: when the answer is due.
            retries: receives the failed attempts before another one.
            body: form-encoded.
            repeat_slow: whether to send the request again if its response does not arrive in time.

        Raises:
            ExecutionNotFound: Twilio returns 404.
            TwilioError: also for a response that is too large, which is not retried.
            EndConversationError: any other failure.
        """
        failure: TwilioFailure | None = None
        tried = failed = 0
        while True:
            tried += 1
            try:
                answer = self._ask(method, path, deadline, retries, body)
            except _NoAnswer as none:
                failed += 1
                entry = none.as_attempt()
                # A try cut short by the deadline says nothing about Twilio; report the one before.
                if failure is None or not none.cut_short:
                    failure = none.failure
                is_slow = isinstance(none.failure, TwilioTimeout)
                if getattr(none.failure, "too_large", False) or (is_slow and not repeat_slow):
                    retries.append(entry)
                    raise failure from None
            else:
                if answer.status not in RETRIED:
                    return _accepted(answer)
                entry = answer.as_attempt()
                throttled = answer.status == HTTPStatus.TOO_MANY_REQUESTS
                # Twilio did not process a throttled request, so only the deadline limits its attempts.
                failed += not throttled
                failure = answer.failure(
                    TwilioThrottled if throttled else TwilioError,
                    f"Twilio returned {answer.status} (try {tried})",
                )
            if failed == MAX_ATTEMPTS:
                raise failure
            back_off(tried, failure, deadline)
            retries.append(entry)

    def _ask(self, method: str, path: str, deadline: Deadline, retries: Retries, body: str | None) -> Answer:
        """One try with the current credentials; if Twilio rejects them, another with newer ones."""
        credentials = self.credentials.get(deadline)
        sent_at = monotonic()
        answer = self._send(method, path, deadline, body, credentials)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            try:
                newer = self.credentials.renew(credentials, sent_at, deadline)
            except CredentialsUnavailable:
                retries.append(answer.as_attempt())
                raise
            if newer is not None:
                retries.append(answer.as_attempt())
                if newer.account_sid.casefold() != credentials.account_sid.casefold():
                    # The other account's 404 would look like an Execution that no longer exists.
                    raise CredentialsUnavailable("the secret now has another account's credentials")
                answer = self._send(method, path, deadline, body, newer)
        return answer

    def _send(
        self, method: str, path: str, deadline: Deadline, body: str | None, credentials: Credentials
    ) -> Answer:
        """One request, whatever the response."""
        if not self._limiter.acquire(deadline.remaining()):
            raise _NoAnswer.no_time_left()
        throttled: bool | None = None
        try:
            answer = self._exchange(method, path, deadline, body, credentials)
            throttled = answer.status == HTTPStatus.TOO_MANY_REQUESTS
        finally:
            self._limiter.release(throttled=throttled)
        return answer

    def _exchange(
        self, method: str, path: str, deadline: Deadline, body: str | None, credentials: Credentials
    ) -> Answer:
        seconds = min(TRY_TIMEOUT, deadline.remaining())
        if not seconds:
            raise _NoAnswer.no_time_left()
        headers = {
            "Authorization": credentials.authorization,
            "Accept": "application/json",
            "User-Agent": "end-conversation",
        }
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        began = monotonic()
        try:
            answer = self._connections.exchange(method, path, headers, body, seconds)
        except TimeoutError:
            failure: TwilioFailure = TwilioTimeout("Twilio did not respond in time")
            raise _NoAnswer(
                failure, "timeout", _milliseconds_since(began), cut_short=seconds < TRY_TIMEOUT
            ) from None
        except TooLarge as error:
            failure = TwilioError("Twilio's response is too large")
            failure.too_large = True
            raise _NoAnswer(failure, str(error), _milliseconds_since(began)) from None
        except ConnectionFailed as error:
            failure = TwilioError(f"the connection to Twilio failed: {error}")
            raise _NoAnswer(failure, str(error), _milliseconds_since(began)) from None
        finally:
            observe_milliseconds("TwilioLatency", (monotonic() - began) * 1000)
        return Answer(
            status=answer.status,
            content=_json_object(answer.data),
            size=len(answer.data),
            request_id=_matching(_REQUEST_ID, answer.headers.get("Twilio-Request-Id")),
            retry_after=_retry_after(answer.headers.get("Retry-After")),
            milliseconds=_milliseconds_since(began),
        )


def back_off(tried: int, failure: TwilioFailure, deadline: Deadline) -> None:
    """Wait before the next try.

    Args:
        tried: how many tries there were.
        failure: of the last one.
        deadline: when the answer is due.

    Raises:
        TwilioFailure: the failure, if no time would be left after the wait.
    """
    # A sweep that is throttled for minutes makes over a thousand tries: 2**tried would outgrow a float.
    longest = min(BACKOFF * 2 ** min(tried, MAX_ATTEMPTS), MAX_BACKOFF)
    wait = _RANDOM.uniform(0, longest) + (failure.retry_after or 0)
    if wait >= deadline.remaining():
        raise failure
    time.sleep(wait)


def _accepted(answer: Answer) -> Answer:
    """The response, unless it rejects the credentials or does not know the resource."""
    match answer.status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            raise answer.failure(CredentialsRejected, f"Twilio returned {answer.status}")
        case HTTPStatus.NOT_FOUND:
            raise answer.failure(ExecutionNotFound, "Twilio does not know the Execution or the Flow")
    return answer


def _milliseconds_since(began: float) -> int:
    return round((monotonic() - began) * 1000)


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content, object_hook=_without_context)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _without_context(parsed: dict[str, Any]) -> dict[str, Any]:
    """An Execution's context is never used, and may be very large."""
    parsed.pop("context", None)
    return parsed


def _matching(pattern: re.Pattern[str], value: str | None) -> str | None:
    return value if value is not None and pattern.fullmatch(value) else None


def _retry_after(value: str | None) -> int | None:
    """Seconds, within reason. Twilio sends no dates here."""
    seconds = int(_matching(_DIGITS, value) or 0)
    return seconds if 0 < seconds <= _MAX_RETRY_AFTER else None
