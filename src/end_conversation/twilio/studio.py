"""Executions in Twilio's Studio API: end one, or look it up.

https://www.twilio.com/docs/studio/rest-api/v2/execution
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from end_conversation.errors import EndConversationError, ExecutionNotFound, TwilioError
from end_conversation.twilio.account import MAX_ATTEMPTS, back_off

if TYPE_CHECKING:
    from end_conversation.deadline import Deadline
    from end_conversation.twilio.account import Account, Answer, Retries


@dataclass(frozen=True, slots=True)
class Execution:
    """An Execution as Twilio returned it.

    Attributes:
        sid: `FN` and 32 hexadecimal digits.
        status: as Twilio has it.
        date_created: if Twilio returned it: ISO 8601 in GMT.
        date_updated: the same.
        already_ended: whether it had ended before the request.
    """

    sid: str
    status: Literal["active", "ended"]
    date_created: str | None = None
    date_updated: str | None = None
    already_ended: bool = False


def look_up(
    account: Account, flow_sid: str, execution_sid: str, deadline: Deadline, retries: Retries
) -> Execution:
    """Get an Execution.

    Raises:
        ExecutionNotFound: the Execution or the Flow does not exist.
        EndConversationError: any other failure.
    """
    answer = account.call("GET", _path(flow_sid, execution_sid), deadline, retries)
    if execution := _execution(answer, execution_sid):
        return replace(execution, already_ended=execution.status == "ended")
    raise answer.failure(TwilioError, f"Twilio returned {answer.status} without the Execution")


def end(
    account: Account, flow_sid: str, execution_sid: str, deadline: Deadline, retries: Retries
) -> Execution:
    """End an Execution; one that has already ended is a success.

    Twilio returns 409 for an Execution that has ended, and for other conflicts, too. After it, and after any
    other unexpected 4xx, the Execution is looked up.

    Raises:
        ExecutionNotFound: the Execution or the Flow does not exist.
        EndConversationError: any other failure.
    """
    tried = 0
    while True:
        tried += 1
        answer = account.call("POST", _path(flow_sid, execution_sid), deadline, retries, "Status=ended")
        execution = _execution(answer, execution_sid)
        if execution and execution.status == "ended":
            return execution
        refusal = answer.failure(TwilioError, f"Twilio returned {answer.status} without an ended Execution")
        if not HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise refusal
        retries.append(answer.as_attempt())
        try:
            execution = look_up(account, flow_sid, execution_sid, deadline, retries)
        except ExecutionNotFound:
            raise
        except EndConversationError as error:
            raise refusal from error
        if execution.already_ended:
            return execution
        if answer.status != HTTPStatus.CONFLICT or tried == MAX_ATTEMPTS:
            raise refusal
        back_off(tried, refusal, deadline)


def _path(flow_sid: str, execution_sid: str) -> str:
    return f"/v2/Flows/{flow_sid}/Executions/{execution_sid}"


def _execution(answer: Answer, sid: str) -> Execution | None:
    """The Execution in a response, if it is there."""
    content = answer.content
    returned_sid, status = content.get("sid", sid), content.get("status")
    if answer.status != HTTPStatus.OK or status not in ("active", "ended"):
        return None
    if not isinstance(returned_sid, str) or returned_sid.casefold() != sid.casefold():
        return None
    created, updated = content.get("date_created"), content.get("date_updated")
    return Execution(
        sid,
        status,
        date_created=created if isinstance(created, str) else None,
        date_updated=updated if isinstance(updated, str) else None,
    )
