"""The outcome of a command: one complete value for responses, log lines and events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from end_conversation.command import format_date_time
from end_conversation.errors import severity

if TYPE_CHECKING:
    from end_conversation.command import Command
    from end_conversation.errors import EndConversationError
    from end_conversation.twilio.account import Retries
    from end_conversation.twilio.studio import Execution

MAX_IN_EVENT = 1000
"""Executions of each kind in an outcome event: 62 bytes each, half of an entry's 256 KB together."""


class NothingFound(NamedTuple):
    """The contact has no active Execution: the conversation may be over, or Studio may have another address.

    Attributes:
        active: how many active Executions of the Flow were looked at.
        near: how they are close to the contact: `channel`, `digits`, `later`; docs/calling.md.
    """

    active: int
    near: tuple[str, ...]

    @property
    def is_near_miss(self) -> bool:
        """Whether the sender's mapping may be wrong."""
        return bool({"channel", "digits"}.intersection(self.near))


class FailedExecution(NamedTuple):
    """An Execution that may still be active.

    Attributes:
        sid: `FN` and 32 hexadecimal digits.
        error: why.
        retries: the failed attempts before the last one.
    """

    sid: str
    error: EndConversationError
    retries: Retries


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one command.

    Attributes:
        command: the command; None if it was invalid.
        executions: the Executions that have ended; in a dry run, those that would end.
        failed: those that may still be active.
        nothing_found: set if the contact has nothing to end.
        error: why the command failed, if it did; the most serious of several failures.
    """

    command: Command | None
    executions: tuple[Execution, ...] = ()
    failed: tuple[FailedExecution, ...] = ()
    nothing_found: NothingFound | None = None
    error: EndConversationError | None = None

    @classmethod
    def of(cls, command: Command, each: list[Execution | FailedExecution]) -> Outcome:
        """The outcome of a command, from that of each Execution."""
        failed = tuple(one for one in each if isinstance(one, FailedExecution))
        return cls(
            command,
            tuple(one for one in each if not isinstance(one, FailedExecution)),
            failed,
            error=max((one.error for one in failed), key=severity, default=None),
        )

    @property
    def is_dry_run(self) -> bool:
        """Whether nothing was to be ended."""
        return self.command is not None and self.command.dry_run

    @property
    def near(self) -> list[str]:
        """How active Executions are close to a contact with nothing to end."""
        return list(self.nothing_found.near) if self.nothing_found else []

    @property
    def already_ended(self) -> int:
        """How many of the Executions had ended before the request."""
        return sum(execution.already_ended for execution in self.executions)

    def result(self) -> dict[str, Any]:
        """The result for callers, if the command succeeded.

        Raises:
            EndConversationError: it did not.
        """
        if self.error is not None:
            raise self.error
        return self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """The Executions, as in the result; docs/calling.md describes it."""
        if self.command is None:
            return {}
        result = {
            "flow_sid": self.command.flow_sid,
            "account_sid": self.command.account_sid,
            "dry_run": self.command.dry_run or None,
            "executions": [
                {
                    "sid": execution.sid,
                    "status": execution.status,
                    "date_created": execution.date_created,
                    "date_updated": execution.date_updated,
                }
                for execution in self.executions
            ],
            "near": self.near or None,
        }
        return {name: value for name, value in result.items() if value is not None}

    def failures(self) -> list[dict[str, str]]:
        """The Executions that were not ended, with the code of each."""
        return [{"sid": one.sid, "code": one.error.code} for one in self.failed]

    def event(self) -> tuple[str, dict[str, Any]]:
        """The outcome as an EventBridge event: detail type and detail; docs/outcome-events.schema.json."""
        detail: dict[str, Any] = {}
        if (command := self.command) is not None:
            detail = {
                "flow_sid": command.flow_sid,
                "account_sid": command.account_sid,
                "conversation_id": command.conversation_id,
                "occurred_at": format_date_time(command.occurred_at),
                "executions": [{"sid": one.sid, "status": "ended"} for one in self.executions[:MAX_IN_EVENT]],
                "already_ended": self.already_ended,
                "failed": self.failures()[:MAX_IN_EVENT] or None,
                "near": self.near or None,
            }
            if self.error is not None and command.execution_sid is not None:
                detail["failed"] = [{"sid": command.execution_sid, "code": self.error.code}]
        if self.error is None:
            return "ConversationEnded", detail
        return "ConversationNotEnded", detail | {"code": self.error.code}
