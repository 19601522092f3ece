"""Executions in Twilio's Studio API: end one.

https://www.twilio.com/docs/studio/rest-api/v2/execution
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from end_conversation.errors import EndConversationError, ExecutionNotFound, TwilioError

if TYPE_CHECKING:
    from end_conversation.deadline import Deadline
    from end_conversation.twilio.account import Account, Answer, Retries

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
