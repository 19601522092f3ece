"""One command, from its payload to its outcome: done, logged in one line, counted."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from end_conversation.command import Command
from end_conversation.errors import EndConversationError, InternalError
from end_conversation.observability import count, logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from end_conversation.deadline import Deadline
    from end_conversation.service import Result, Service


@dataclass(frozen=True, slots=True)
class Invocation:
    """What one invocation of the function has to go by.

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

    def carry_out(self, load: Callable[[], object], **keys: str | None) -> Result:
        """Do what a command says.

        Args:
            load: gives the command's payload, or raises RequestRejected.
            keys: more keys for the log line.

        Raises:
            EndConversationError: already logged and counted.
        """
        command: Command | None = None
        try:
            command = Command.parse(load())
            result = self.service().end_conversation(command, self.deadline)
        except EndConversationError as error:
            self._report(error, command, keys)
            raise
        except Exception as defect:  # noqa: BLE001 - becomes an answer; one record never takes others along
            # The text of an exception that nobody foresaw may hold anything: where it happened says enough.
            frames = [f"{at.filename}:{at.lineno}" for at in traceback.extract_tb(defect.__traceback__)]
            self._report(
                InternalError(f"unforeseen {type(defect).__name__}"), command, keys | {"frames": frames}
            )
            raise InternalError("a defect of the function; its log has the details") from None
        already_ended = sum(execution.already_ended for execution in result.executions)
        ended = len(result.executions) - already_ended
        for metric, value in (("ExecutionsEnded", ended), ("ExecutionsAlreadyEnded", already_ended)):
            if value:
                count(metric, value)
        logger.info(
            "conversation_ended", extra=self._keys(command, keys, ended=ended, already_ended=already_ended)
        )
        return result

    def _report(self, error: EndConversationError, command: Command | None, keys: dict[str, Any]) -> None:
        if error.metric:
            count(error.metric)
        log = logger.warning if error.permanent else logger.error
        log(
            "conversation_not_ended",
            extra=self._keys(command, keys, code=error.code, detail=str(error), **error.facts),
        )

    def _keys(self, command: Command | None, keys: dict[str, Any], **more: object) -> dict[str, Any]:
        named: dict[str, object] = {"trigger": self.trigger, "function_request_id": self.request_id}
        if command is not None:
            named |= {
                "flow_sid": command.flow_sid,
                "execution_sid": command.execution_sid,
                "conversation_id": command.conversation_id,
                "reason": command.reason,
            }
        return {key: value for key, value in (named | keys | more).items() if value is not None}
