"""Twilio's Studio API, as far as it is needed here: list the active Executions of a Flow, and end one.

https://www.twilio.com/docs/studio/rest-api/v2/execution
"""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

from end_conversation.command import EXECUTION_SID, parse_date_time
from end_conversation.errors import (
    CredentialsRejected,
    CredentialsUnavailable,
    EndConversationError,
    ExecutionNotFound,
    TwilioError,
    TwilioFailure,
    TwilioThrottled,
    TwilioTimeout,
)
from end_conversation.observability import observe_milliseconds
from end_conversation.twilio.gate import Gate
from end_conversation.twilio.transport import ConnectionFailed, Connections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from end_conversation.deadline import Deadline
    from end_conversation.secret import Secret
    from end_conversation.twilio.credentials import Credentials

CONCURRENCY = 10
"""Requests at once, each over a connection of its own that is kept; a batch from SQS is as large."""

PAGE_SIZE = 1000
"""Executions in a page of a list: Twilio's maximum."""

TRIES = 4
TRY_TIMEOUT = 8.0
"""Seconds for one try, to the last byte of its answer: three that hang fit into HTTP_BUDGET."""

BACKOFF = 0.2
"""Seconds; before retry n the wait is a random part of BACKOFF * 2**n, and Twilio's Retry-After besides."""

RETRIED = frozenset((429, 500, 502, 503, 504))

# A snapshot of the process (SnapStart) would give every copy of it the same state of any other generator.
_RANDOM = random.SystemRandom()

_ALREADY_ENDED = 20409
_LARGEST_CODE = 999_999
_LONGEST_RETRY_AFTER = 24 * 60 * 60
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
class ActiveExecution:
    """An Execution that is under way.

    Attributes:
        sid: `FN` and 32 hexadecimal digits.
        contact: channel address of whom it is with; never to be logged.
    """

    sid: str
    contact: str | None = field(repr=False)


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
            case {"code": int(code)} if 0 < code <= _LARGEST_CODE and code is not True:
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
        if self.content.get("sid", sid) != sid:
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
        concurrency: how many requests may be under way at once, while Twilio throttles none of them.
    """

    def __init__(
        self, base_url: str, credentials: Secret[Credentials], concurrency: int = CONCURRENCY
    ) -> None:
        self._credentials = credentials
        self._gate = Gate(concurrency)
        self._connections = Connections(base_url, concurrency)

    def connect(self, deadline: Deadline) -> None:
        """Open a connection for the first request; if that fails, the request will tell."""
        self._connections.open(deadline.remaining())

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

    def active(self, flow_sid: str, until: datetime, deadline: Deadline) -> Iterator[ActiveExecution]:
        """The active Executions of a Flow, newest first, that were created up to an instant, to the second.

        Ending one while the list is still being read would shift its pages: read it to its end first. What
        others begin and end meanwhile shifts them too, so that one may come twice.

        Raises:
            ExecutionNotFound: there is no such Flow.
            EndConversationError: any other failure to reach, convince or understand Twilio.
        """
        until = until.replace(microsecond=0)
        before = (until + timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
        query: dict[str, str | int] = {"status": "active", "DateCreatedTo": before, "PageSize": PAGE_SIZE}
        seen: set[object] = {None}
        while True:
            answer = self._call("GET", f"/v2/Flows/{flow_sid}/Executions?{urlencode(query)}", deadline)
            match answer.content:
                case {
                    "executions": list(items),
                    "meta": {"next_page_url": None | str() as next_page_url},
                } if answer.status == HTTPStatus.OK:
                    yield from filter(None, (_active_execution(item, flow_sid, until) for item in items))
                case _:
                    raise answer.failure(TwilioError, f"Twilio answered {answer.status} and no list")
            if not next_page_url:
                return
            query |= _page_position(next_page_url)
            token = query.get("PageToken")
            if token in seen:
                raise answer.failure(TwilioError, "Twilio's list does not go on")
            seen.add(token)

    def _call(self, method: str, path: str, deadline: Deadline, body: str = "") -> _Answer:
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
            wait = _RANDOM.uniform(0, BACKOFF * 2**tried) + (failure.retry_after or 0)
            if tried == TRIES or wait >= deadline.remaining():
                raise failure
            time.sleep(wait)

    def _ask(self, method: str, path: str, deadline: Deadline, body: str) -> _Answer:
        """One try with the credentials there are, or, if Twilio refuses those, with newer ones."""
        credentials = self._credentials.get(deadline)
        sent_at = monotonic()
        answer = self._send(method, path, deadline, body, credentials)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            try:
                newer = self._credentials.renew(credentials, sent_at, deadline)
            except CredentialsUnavailable as error:
                raise answer.failure(CredentialsUnavailable, str(error)) from error
            if newer is not None:
                answer = self._send(method, path, deadline, body, newer)
        match answer.status:
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                raise answer.failure(CredentialsRejected, f"Twilio answered {answer.status}")
            case HTTPStatus.NOT_FOUND:
                raise answer.failure(ExecutionNotFound, "Twilio knows no such Execution or Flow")
        return answer

    def _send(
        self, method: str, path: str, deadline: Deadline, body: str, credentials: Credentials
    ) -> _Answer:
        """One request, whatever the answer.

        Raises:
            TwilioTimeout: no whole answer within the time of a try.
            TwilioError: no answer, or none that is HTTP.
        """
        if not self._gate.enter(deadline.remaining()):
            raise TwilioTimeout("there is no time left to ask Twilio")
        throttled: bool | None = None
        try:
            answer = self._exchange(method, path, min(TRY_TIMEOUT, deadline.remaining()), body, credentials)
            throttled = answer.status == HTTPStatus.TOO_MANY_REQUESTS
        finally:
            self._gate.leave(throttled=throttled)
        return answer

    def _exchange(
        self, method: str, path: str, seconds: float, body: str, credentials: Credentials
    ) -> _Answer:
        if not seconds:
            raise TwilioTimeout("there is no time left to ask Twilio")
        headers = {"Authorization": credentials.authorization, "Accept": "application/json"}
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        began = monotonic()
        try:
            answer = self._connections.exchange(method, path, headers, body, seconds)
        except TimeoutError as error:
            raise TwilioTimeout("Twilio did not answer in time") from error
        except ConnectionFailed as error:
            raise TwilioError(f"the connection to Twilio failed: {error}") from error
        finally:
            observe_milliseconds("TwilioLatency", (monotonic() - began) * 1000)
        return _Answer(
            status=answer.status,
            content=_json_object(answer.content),
            request_id=_matching(_REQUEST_ID, answer.headers.get("Twilio-Request-Id")),
            retry_after=_retry_after(answer.headers.get("Retry-After")),
        )


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _active_execution(item: object, flow_sid: str, until: datetime) -> ActiveExecution | None:
    """An item of a list, if it is what the list was asked for: that is checked, not believed."""
    if not isinstance(item, dict):
        return None
    sid, contact, created = (item.get(name) for name in ("sid", "contact_channel_address", "date_created"))
    if not isinstance(sid, str) or not EXECUTION_SID.fullmatch(sid):
        return None
    if item.get("flow_sid", flow_sid) != flow_sid or item.get("status") != "active":
        return None
    try:
        if parse_date_time(str(created)).replace(microsecond=0) > until:
            return None
    except ValueError:
        return None
    return ActiveExecution(sid, contact if isinstance(contact, str) else None)


def _page_position(next_page_url: str) -> dict[str, str | int]:
    """Where the next page begins; of its URL nothing else is used, so that credentials go nowhere else."""
    try:
        given = parse_qs(urlsplit(next_page_url).query)
    except ValueError:
        return {}
    # No token of Twilio's is anything but ASCII; half of a surrogate pair could not even be sent.
    return {
        name: given[name][0] for name in ("Page", "PageToken") if name in given and given[name][0].isascii()
    }


def _matching(pattern: re.Pattern[str], value: str | None) -> str | None:
    return value if value is not None and pattern.fullmatch(value) else None


def _retry_after(value: str | None) -> int | None:
    """Whole seconds; not a date, which Twilio does not send, nor anything that nobody would wait for."""
    seconds = int(_matching(_DIGITS, value) or 0)
    return seconds if 0 < seconds <= _LONGEST_RETRY_AFTER else None
