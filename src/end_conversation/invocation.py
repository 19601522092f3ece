"""One command, from its payload to its outcome: done, logged in one line, counted."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from end_conversation.command import Command
from end_conversation.errors import EndConversationError, InternalError
from end_conversation.observability import count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from end_conversation.deadline import Deadline
    from end_conversation.service import Result, Service


NOT_ENDED = "conversation_not_ended"


class Request(NamedTuple):
    """What a trigger brings.

    Attributes:
        payload: what the JSON held.
        sent_at: the trigger's own time, if it has one.
    """

    payload: object
    sent_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Invocation:
    """What one invocation of a function has to go by.

    Attributes:
        trigger: what invoked it, as the dimension of its metrics.
        request_id: Lambda's id of it.
        deadline: when the answer is due.
        service: makes the service, or gives the one there is; raises ConfigurationError.
    """

    trigger: str
    request_id: str
    deadline: Deadline
    service: Callable[[], Service]

    def carry_out(self, load: Callable[[], Request], **keys: Any) -> Result:  # noqa: ANN401 - any JSON
        """Do what a command says.

        Args:
            load: gives what the trigger brought, or raises RequestRejected.
            keys: more keys for the log lines.

        Raises:
            EndConversationError: already logged and counted.
        """
        with self.reporting(keys):
            command = Command.parse(*load())
            keys |= {
                "flow_sid": command.flow_sid,
                "execution_sid": command.execution_sid,
                "conversation_id": command.conversation_id,
                "reason": command.reason,
            }
            result = self.service().end_conversation(command, self.deadline)
        already_ended = sum(execution.already_ended for execution in result.executions)
        keys |= {"ended": len(result.executions) - already_ended, "already_ended": already_ended}
        for metric, key in (("ExecutionsEnded", "ended"), ("ExecutionsAlreadyEnded", "already_ended")):
            if keys[key]:
                count(metric, keys[key])
        if command.execution_sid is None:
            keys["execution_sids"] = [execution.sid for execution in result.executions]
        for sid, error in result.failed:
            self.report(error, keys | {"execution_sid": sid})
        if not result.failed:
            logger.info("conversation_ended", extra=self.named(keys))
        return result

    @contextmanager
    def reporting(self, keys: dict[str, Any], message: str = NOT_ENDED) -> Iterator[None]:
        """Log and count the failure that comes out; one that nobody foresaw comes out as InternalError.

        Args:
            keys: what to log with it; may grow meanwhile.
            message: of the log line.
        """
        try:
            yield
        except EndConversationError as error:
            self.report(error, keys, message)
            raise
        except Exception as defect:  # noqa: BLE001 - becomes an answer; one record never takes others along
            # The text of an exception that nobody foresaw may hold anything: where it happened says enough.
            frames = [f"{at.filename}:{at.lineno}" for at in traceback.extract_tb(defect.__traceback__)]
            unforeseen = InternalError(f"unforeseen {type(defect).__name__}")
            self.report(unforeseen, keys | {"frames": frames}, message)
            raise InternalError("a defect of the function; its log has the details") from None

    def report(self, error: EndConversationError, keys: dict[str, Any], message: str = NOT_ENDED) -> None:
        """Log and count a failure."""
        if error.metric:
            count(error.metric)
        log = logger.warning if error.permanent else logger.error
        told = {"code": error.code, "detail": str(error)}
        log(message, extra=self.named(keys | told | error.facts))

    def named(self, keys: dict[str, Any]) -> dict[str, Any]:
        """Those of the keys that have a value, and the invocation's own."""
        named = {"trigger": self.trigger, "function_request_id": self.request_id} | keys
        return {key: value for key, value in named.items() if value is not None}
