"""Ends the Executions that a command names, if this deployment may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from end_conversation.credentials import parse_credentials
from end_conversation.errors import FlowNotAllowed
from end_conversation.secret import CLIENT_CONFIG, Secret
from end_conversation.studio import EndedExecution, Studio

if TYPE_CHECKING:
    from end_conversation.command import Command
    from end_conversation.config import Config
    from end_conversation.deadline import Deadline


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a command.

    Attributes:
        flow_sid: the Flow that the Executions ran through.
        executions: those that are over now.
    """

    flow_sid: str
    executions: tuple[EndedExecution, ...]

    def to_json(self) -> dict[str, Any]:
        """The result as callers get it; README.md has its table."""
        return {
            "flow_sid": self.flow_sid,
            "executions": [
                {
                    "sid": execution.sid,
                    "status": "ended",
                    "date_created": execution.date_created,
                    "date_updated": execution.date_updated,
                }
                for execution in self.executions
            ],
        }


class Service:
    """What the triggers call; made once for all invocations of a process. Safe for threads."""

    def __init__(self, config: Config) -> None:
        self.config = config
        secrets_manager = boto3.client("secretsmanager", config=CLIENT_CONFIG)
        credentials = Secret(
            secrets_manager, config.twilio_secret_id, parse_credentials, config.secret_max_age
        )
        self._studio = Studio(config.studio_base_url, credentials)

    def end_conversation(self, command: Command, deadline: Deadline) -> Result:
        """End what the command names.

        Raises:
            FlowNotAllowed: before Twilio is asked.
            EndConversationError: what Studio.end raises.
        """
        allowed = self.config.allowed_flow_sids
        if allowed is not None and command.flow_sid not in allowed:
            raise FlowNotAllowed("this deployment may not work on the Flow")
        ended = self._studio.end(command.flow_sid, command.execution_sid, deadline)
        return Result(command.flow_sid, (ended,))
