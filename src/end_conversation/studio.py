"""Twilio's Studio API, as far as it is needed here: end an Execution, and make sure that it did.

https://www.twilio.com/docs/studio/rest-api/v2/execution
"""

from __future__ import annotations

import json
import random
import re
import ssl
import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as HTTPTimeoutError

from end_conversation.connection import BoundedHTTPConnection, BoundedHTTPSConnection
from end_conversation.errors import (
    CredentialsRejected,
    EndConversationError,
    ExecutionNotFound,
    TwilioError,
    TwilioFailure,
    TwilioThrottled,
    TwilioTimeout,
)
from end_conversation.observability import observe_milliseconds

if TYPE_CHECKING:
    from end_conversation.credentials import Credentials
    from end_conversation.deadline import Deadline
    from end_conversation.secret import Secret

CONCURRENCY = 10
"""Requests at once, each over a connection of its own that is kept; a batch from SQS is as large."""

TRIES = 4
CONNECT_TIMEOUT = 3.0
TRY_TIMEOUT = 8.0
"""Seconds for one try, to the last byte of its answer: three that hang fit into HTTP_BUDGET."""

BACKOFF = 0.2
"""Seconds; before retry n the wait is a random part of BACKOFF * 2**n, and Twilio's Retry-After besides."""

RETRIED = frozenset((429, 500, 502, 503, 504))

_ALREADY_ENDED = 20409
_LONGEST_RETRY_AFTER = 24 * 60 * 60
_LARGEST_ANSWER = 32 * 1024 * 1024
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)
_ERROR_PAGE = re.compile(r"/errors/(\d{5,6})$", re.ASCII)
_REQUEST_ID = re.compile(r"[\w-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class EndedExecution:
    """An Execution that is over.

    Attributes:
        sid: `FN` and 32 hexadecimal digits.
        date_created: ISO 8601 in GMT as Twilio gave it, if it did.
        date_updated: the same.
        already_ended: whether it was over before we asked.
    """

    sid: str
    date_created: str | None = None
    date_updated: str | None = None
    already_ended: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content: dict[str, Any]
    request_id: str | None
    retry_after: int | None

    @property
    def error_code(self) -> int | None:
        """Twilio's code of the error: in a body of its own kind, or the page that an RFC 9457 one names."""
        match self.content:
            case {"code": int(code)} if not isinstance(code, bool):
                return code
            case {"type": str(page)} if found := _ERROR_PAGE.search(page):
                return int(found[1])
        return None

    def failure(self, kind: type[TwilioFailure], message: str) -> TwilioFailure:
        return kind(
            message,
            http_status=self.status,
            twilio_code=self.error_code,
            twilio_request_id=self.request_id,
            retry_after=self.retry_after,
        )

    def ended_execution(self, sid: str) -> EndedExecution | None:
        """The Execution that the answer describes, if it is over."""
        if self.status != HTTPStatus.OK or self.content.get("status") != "ended":
            return None
        created, updated = self.content.get("date_created"), self.content.get("date_updated")
        return EndedExecution(
            sid,
            date_created=created if isinstance(created, str) else None,
            date_updated=updated if isinstance(updated, str) else None,
        )


class Studio:
    """A client that keeps its connections, follows no redirect, and is done by the deadline it is given.

    Every request may be repeated, since ending is idempotent. Safe for threads.

    Args:
        base_url: scheme, host and port.
        credentials: the Twilio secret.
    """

    def __init__(self, base_url: str, credentials: Secret[Credentials]) -> None:
        self._credentials = credentials
        url = urlsplit(base_url)
        host = url.hostname or ""
        self._pool: HTTPConnectionPool
        if url.scheme == "https":
            # Loading the certificates takes tens of milliseconds: once, not for each connection.
            context = ssl.create_default_context()
            self._pool = HTTPSConnectionPool(host, url.port, maxsize=CONCURRENCY, ssl_context=context)
            self._pool.ConnectionCls = BoundedHTTPSConnection
        else:
            self._pool = HTTPConnectionPool(host, url.port, maxsize=CONCURRENCY)
            self._pool.ConnectionCls = BoundedHTTPConnection

    def end(self, flow_sid: str, execution_sid: str, deadline: Deadline) -> EndedExecution:
        """End an Execution; one that is over already is a success.

        Raises:
            ExecutionNotFound: there is no such Execution, or no such Flow.
            EndConversationError: any other failure to reach, convince or understand Twilio.
        """
        path = f"/v2/Flows/{flow_sid}/Executions/{execution_sid}"
        answer = self._call("POST", path, deadline, body="Status=ended")
        if ended := answer.ended_execution(execution_sid):
            return ended
        if answer.status == HTTPStatus.CONFLICT and answer.error_code == _ALREADY_ENDED:
            return EndedExecution(execution_sid, already_ended=True)
        refusal = answer.failure(TwilioError, f"Twilio answered {answer.status} and no ended Execution")
        if not HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise refusal
        # Whatever Twilio has against ending it: if it is over, the caller has what it wants.
        try:
            answer = self._call("GET", path, deadline)
        except ExecutionNotFound:
            raise
        except EndConversationError as error:
            raise refusal from error
        if ended := answer.ended_execution(execution_sid):
            return replace(ended, already_ended=True)
        raise refusal

    def _call(self, method: str, path: str, deadline: Deadline, body: str | None = None) -> _Answer:
        """An answer that trying again would not change."""
        failure: TwilioFailure | None = None
        tried = 0
        while True:
            tried += 1
            try:
                answer = self._ask(method, path, deadline, body)
            except TwilioTimeout as timeout:
                # Cut short by the deadline, it says nothing about Twilio; what came before it does.
                if failure is None or deadline.remaining():
                    failure = timeout
            except TwilioError as error:
                failure = error
            else:
                if answer.status not in RETRIED:
                    return answer
                throttled = answer.status == HTTPStatus.TOO_MANY_REQUESTS
                failure = answer.failure(
                    TwilioThrottled if throttled else TwilioError,
                    f"Twilio answered {answer.status} to try {tried}",
                )
            wait = random.uniform(0, BACKOFF * 2**tried) + (failure.retry_after or 0)  # noqa: S311 - no secret
            if tried == TRIES or wait >= deadline.remaining():
                raise failure
            time.sleep(wait)

    def _ask(self, method: str, path: str, deadline: Deadline, body: str | None) -> _Answer:
        """One try with the credentials there are, or, if Twilio refuses those, with newer ones."""
        credentials = self._credentials.get(deadline)
        sent_at = monotonic()
        answer = self._send(method, path, deadline, body, credentials)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            newer = self._credentials.renew(credentials, sent_at, deadline)
            if newer is not None:
                answer = self._send(method, path, deadline, body, newer)
        match answer.status:
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                raise answer.failure(CredentialsRejected, f"Twilio answered {answer.status}")
            case HTTPStatus.NOT_FOUND:
                raise answer.failure(ExecutionNotFound, "Twilio knows no such Execution in this Flow")
        return answer

    def _send(
        self, method: str, path: str, deadline: Deadline, body: str | None, credentials: Credentials
    ) -> _Answer:
        """One request, whatever the answer.

        Raises:
            TwilioTimeout: no whole answer within the time of a try.
            TwilioError: no answer, or none that is HTTP.
        """
        seconds = min(TRY_TIMEOUT, deadline.remaining())
        if not seconds:
            raise TwilioTimeout("there is no time left to ask Twilio")
        headers = {"Authorization": credentials.authorization, "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        began = monotonic()
        try:
            response = self._pool.urlopen(
                method,
                path,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=Timeout(connect=min(CONNECT_TIMEOUT, seconds), total=seconds),
                preload_content=False,
                decode_content=False,
            )
            content = response.read(_LARGEST_ANSWER)
            response.close()
        except HTTPError as error:
            # To urllib3 a refused connection is one that timed out, too.
            if isinstance(error, HTTPTimeoutError) and not isinstance(error, NewConnectionError):
                raise TwilioTimeout("Twilio did not answer in time") from error
            raise TwilioError(f"the connection to Twilio failed: {type(error).__name__}") from error
        finally:
            observe_milliseconds("TwilioLatency", (monotonic() - began) * 1000)
        return _Answer(
            status=response.status,
            content=_json_object(content),
            request_id=_matching(_REQUEST_ID, response.headers.get("Twilio-Request-Id")),
            retry_after=_retry_after(response.headers.get("Retry-After")),
        )


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _matching(pattern: re.Pattern[str], value: str | None) -> str | None:
    return value if value is not None and pattern.fullmatch(value) else None


def _retry_after(value: str | None) -> int | None:
    """Whole seconds; not a date, which Twilio does not send, nor anything that nobody would wait for."""
    seconds = int(_matching(_DIGITS, value) or 0)
    return seconds if 0 < seconds <= _LONGEST_RETRY_AFTER else None
