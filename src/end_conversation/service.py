"""Ends the Executions that a command names, if this deployment may."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from end_conversation.aws import client
from end_conversation.config import Config
from end_conversation.errors import (
    CredentialsRejected,
    CredentialsUnavailable,
    EndConversationError,
    ExecutionNotFound,
    FlowNotAllowed,
    TwilioError,
    TwilioThrottled,
    TwilioTimeout,
)
from end_conversation.secret import Secret
from end_conversation.twilio.credentials import parse_credentials
from end_conversation.twilio.studio import CONCURRENCY, EndedExecution, Studio

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from end_conversation.command import Command
    from end_conversation.deadline import Deadline

WORST_FIRST = (CredentialsRejected, CredentialsUnavailable, TwilioError, TwilioTimeout, TwilioThrottled)
"""Which failure speaks for several: the one that says most about what will happen to the next command."""


class FailedExecution(NamedTuple):
    """An Execution that may still be active, and why."""

    sid: str
    error: EndConversationError


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a command.

    Attributes:
        flow_sid: the Flow that the Executions ran through.
        executions: those that are over now.
        failed: those that are not.
    """

    flow_sid: str
    executions: tuple[EndedExecution, ...]
    failed: tuple[FailedExecution, ...] = ()

    @property
    def worst(self) -> EndConversationError | None:
        """The failure that speaks for all of them."""
        return min((one.error for one in self.failed), key=badness, default=None)

    def complete(self) -> Result:
        """The same, if nothing failed.

        Raises:
            EndConversationError: the worst failure.
        """
        if self.worst is not None:
            raise self.worst
        return self

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
    """What the triggers call; made once for all invocations of a process. Safe for threads.

    Attributes:
        config: the settings it was made with.
        studio: the client of Twilio.
    """

    def __init__(self, config: Config, concurrency: int = CONCURRENCY) -> None:
        self.config = config
        self._credentials = Secret(
            client("secretsmanager"), config.twilio_secret_id, parse_credentials, config.secret_max_age
        )
        self.studio = Studio(config.studio_base_url, self._credentials, concurrency)
        self._threads = ThreadPoolExecutor(concurrency)

    @classmethod
    def from_environment(cls, concurrency: int = CONCURRENCY) -> Service:
        """Make it as the environment says.

        Raises:
            ConfigurationError: a variable is missing or wrong, of ours or of AWS's.
        """
        return cls(Config.from_environment(), concurrency)

    def warm_up(self, deadline: Deadline) -> None:
        """Read the credentials and connect to Twilio, side by side, so that the first request need not.

        Raises:
            CredentialsUnavailable: the first request has to try again.
        """
        connecting = self._threads.submit(self.studio.connect, deadline)
        self._credentials.get(deadline)
        connecting.result()

    def check_allowed(self, flow_sid: str) -> None:
        """Refuse a Flow that is none of this deployment's.

        Raises:
            FlowNotAllowed: nothing was asked of Twilio.
        """
        allowed = self.config.allowed_flow_sids
        if allowed is not None and flow_sid not in allowed:
            raise FlowNotAllowed("this deployment may not work on the Flow")

    def end_conversation(self, command: Command, deadline: Deadline) -> Result:
        """End the Execution of a command, or every active one of its contact that began before it.

        Raises:
            FlowNotAllowed: before Twilio is asked.
            EndConversationError: nothing was ended; where a contact has several Executions, the result tells
                which failed.
        """
        self.check_allowed(command.flow_sid)
        if command.execution_sid is not None:
            ended = self.studio.end(command.flow_sid, command.execution_sid, deadline)
            return Result(command.flow_sid, (ended,))
        active = self.studio.active(command.flow_sid, command.occurred_at, deadline)
        sids = dict.fromkeys(execution.sid for execution in active if execution.contact == command.contact)
        outcomes = list(self.end_each(command.flow_sid, sids, deadline))
        return Result(
            command.flow_sid,
            tuple(outcome for outcome in outcomes if isinstance(outcome, EndedExecution)),
            tuple(outcome for outcome in outcomes if isinstance(outcome, FailedExecution)),
        )

    def end_each(
        self, flow_sid: str, sids: Iterable[str], deadline: Deadline
    ) -> Iterator[EndedExecution | FailedExecution]:
        """End Executions side by side; those that are gone when their turn comes are left out."""

        def end(sid: str) -> EndedExecution | FailedExecution | None:
            try:
                return self.studio.end(flow_sid, sid, deadline)
            except ExecutionNotFound:
                return None
            except EndConversationError as error:
                return FailedExecution(sid, error)

        return filter(None, self._threads.map(end, sids))


def badness(error: EndConversationError) -> int:
    """Where a failure comes in the order of WORST_FIRST; one that is not in it comes before all of them."""
    return next((n for n, kind in enumerate(WORST_FIRST) if isinstance(error, kind)), -1)
