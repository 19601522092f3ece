"""Executions in Twilio's Studio API: list the active ones of a Flow, and end them.

https://www.twilio.com/docs/studio/rest-api/v2/execution
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from end_conversation.command import EXECUTION_SID, parse_date_time
from end_conversation.errors import EndConversationError, ExecutionNotFound, TwilioError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from end_conversation.deadline import Deadline
    from end_conversation.twilio.account import Account, Answer, Retries

PAGE_SIZE = 1000
"""Executions in a page of a list: Twilio's maximum."""

_ALREADY_ENDED = 20409


@dataclass(frozen=True, slots=True)
class EndedExecution:
    """An Execution that has ended.

    Attributes:
        sid: `FN` and 32 hexadecimal digits.
        date_created: as Twilio returned it, if it did: ISO 8601 in GMT.
        date_updated: the same.
        already_ended: whether it had ended before the request.
    """

    sid: str
    date_created: str | None = None
    date_updated: str | None = None
    already_ended: bool = False


@dataclass(frozen=True, slots=True)
class ActiveExecution:
    """An active Execution.

    Attributes:
        sid: `FN` and 32 hexadecimal digits.
        contact: its contact's channel address; never log it.
    """

    sid: str
    contact: str | None = field(repr=False)


def end(
    account: Account, flow_sid: str, execution_sid: str, deadline: Deadline, retries: Retries
) -> EndedExecution:
    """End an Execution; one that has already ended is a success.

    Raises:
        ExecutionNotFound: the Execution or the Flow does not exist.
        EndConversationError: any other failure.
    """
    path = f"/v2/Flows/{flow_sid}/Executions/{execution_sid}"
    answer = account.call("POST", path, deadline, retries, "Status=ended")
    if ended := _ended_execution(answer, execution_sid):
        return ended
    if answer.status == HTTPStatus.CONFLICT and answer.error_code == _ALREADY_ENDED:
        return EndedExecution(execution_sid, already_ended=True)
    refusal = answer.failure(TwilioError, f"Twilio returned {answer.status} without an ended Execution")
    if not HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise refusal
    # Whatever the reason: if the Execution has ended, the caller has what it wants.
    retries.append(answer.as_attempt())
    try:
        answer = account.call("GET", path, deadline, retries)
    except ExecutionNotFound:
        raise
    except EndConversationError as error:
        raise refusal from error
    if ended := _ended_execution(answer, execution_sid):
        return replace(ended, already_ended=True)
    raise refusal


def active(
    account: Account, flow_sid: str, until: datetime, deadline: Deadline, retries: Retries
) -> Iterator[ActiveExecution]:
    """The active Executions of a Flow created up to a time, to the second, newest first.

    Read the whole list before you end any: this would shift the pages. Executions that others begin and end
    in the meantime shift them too, so one may come twice.

    Raises:
        ExecutionNotFound: the Flow does not exist.
        EndConversationError: any other failure.
    """
    until = until.replace(microsecond=0)
    before = (until + timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    query: dict[str, str | int] = {"status": "active", "DateCreatedTo": before, "PageSize": PAGE_SIZE}
    seen: set[object] = {None}
    while True:
        answer = account.call("GET", f"/v2/Flows/{flow_sid}/Executions?{urlencode(query)}", deadline, retries)
        match answer.content:
            case {
                "executions": list(items),
                "meta": {"next_page_url": None | str() as next_page_url},
            } if answer.status == HTTPStatus.OK:
                yield from filter(None, (_active_execution(item, flow_sid, until) for item in items))
            case _:
                raise answer.failure(TwilioError, f"Twilio returned {answer.status} without a list")
        if not next_page_url:
            return
        query |= _page_position(next_page_url)
        token = query.get("PageToken")
        if token in seen:
            raise answer.failure(TwilioError, "Twilio repeats a page of the list")
        seen.add(token)


def is_same_sid(one: object, other: str) -> bool:
    """Whether two SIDs are the same, regardless of case."""
    return isinstance(one, str) and one.casefold() == other.casefold()


def _ended_execution(answer: Answer, sid: str) -> EndedExecution | None:
    """The Execution in a response, if it has ended."""
    content = answer.content
    if answer.status != HTTPStatus.OK or content.get("status") != "ended":
        return None
    if not is_same_sid(content.get("sid", sid), sid):
        return None
    created, updated = content.get("date_created"), content.get("date_updated")
    return EndedExecution(
        sid,
        date_created=created if isinstance(created, str) else None,
        date_updated=updated if isinstance(updated, str) else None,
    )


def _active_execution(item: object, flow_sid: str, until: datetime) -> ActiveExecution | None:
    """An item of a list, if it matches what was asked for: don't trust the server's filter."""
    if not isinstance(item, dict):
        return None
    sid, contact, created = (item.get(name) for name in ("sid", "contact_channel_address", "date_created"))
    if not isinstance(sid, str) or not EXECUTION_SID.fullmatch(sid):
        return None
    if not is_same_sid(item.get("flow_sid", flow_sid), flow_sid) or item.get("status") != "active":
        return None
    try:
        if parse_date_time(created).replace(microsecond=0) > until:
            return None
    except ValueError:
        return None
    return ActiveExecution(sid, contact if isinstance(contact, str) else None)


def _page_position(next_page_url: str) -> dict[str, str | int]:
    """Where the next page begins. Nothing else of the URL is used, so credentials go nowhere else."""
    try:
        given = parse_qs(urlsplit(next_page_url).query)
    except ValueError:
        return {}
    # Twilio's tokens are ASCII; a lone surrogate could not even be sent.
    return {
        name: given[name][0] for name in ("Page", "PageToken") if name in given and given[name][0].isascii()
    }
