"""Ends the Executions that a command names."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING

from end_conversation.aws.clients import client
from end_conversation.config import Config
from end_conversation.errors import (
    EndConversationError,
    ExecutionNotFound,
    FlowNotAllowed,
)
from end_conversation.outcome import FailedExecution, NothingFound, Outcome
from end_conversation.twilio.account import CONCURRENCY
from end_conversation.twilio.accounts import Accounts
from end_conversation.twilio.active import Flow
from end_conversation.twilio.listing import Listings
from end_conversation.twilio.studio import Execution, end, look_up
from end_conversation.twilio.transport import Connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from end_conversation.command import Command
    from end_conversation.deadline import Deadline
    from end_conversation.twilio.account import Account, Retries


class Service:
    """What the triggers call. One per process. Thread-safe.

    Attributes:
        config: the settings.
        accounts: the Twilio accounts that this deployment serves.
    """

    def __init__(self, config: Config, concurrency: int = CONCURRENCY) -> None:
        self.config = config
        self._connections = Connections(config.studio_base_url, concurrency, config.proxy_url)
        self.accounts = Accounts(config, client("secretsmanager"), self._connections, concurrency)
        self._listings = Listings()

    @classmethod
    def from_environment(cls, concurrency: int = CONCURRENCY) -> Service:
        """Create it from the environment.

        Raises:
            ConfigurationError: a setting is missing or invalid, of ours or of AWS's.
        """
        return cls(Config.from_environment(), concurrency)

    def warm_up(self, deadline: Deadline) -> None:
        """Read the credentials and connect to Twilio, concurrently, so that the first request need not.

        Raises:
            CredentialsUnavailable: the first request has to retry.
        """
        with ThreadPoolExecutor(2) as threads:
            threads.submit(self._connections.open, deadline.remaining())
            if self.config.outcome_event_bus is not None:
                # Creating it later would use up the second that is reserved for publishing.
                threads.submit(client, "events")
            self.accounts.default.credentials.get(deadline)

    def check_allowed(self, flow_sid: str) -> None:
        """Reject a Flow that this deployment does not serve.

        Raises:
            FlowNotAllowed: it is not in ALLOWED_FLOW_SIDS.
        """
        if not self.config.allows(flow_sid):
            raise FlowNotAllowed("this deployment does not serve the Flow")

    def check_acceptable(self, command: Command, deadline: Deadline) -> None:
        """Reject a command for a Flow or account that this deployment does not serve.

        Raises:
            RequestRejected: it can never succeed.
        """
        self.check_allowed(command.flow_sid)
        self.accounts.check_allowed(command.account_sid, deadline)

    def end_conversation(self, command: Command, deadline: Deadline, retries: Retries) -> Outcome:
        """End the command's Execution, or its contact's active ones that began before `occurred_at`.

        Args:
            command: what to end; a dry run only looks it up.
            deadline: when the answer is due.
            retries: receives the failed attempts before another one.

        Raises:
            RequestRejected: before any request to Twilio.
            EndConversationError: nothing was ended; if a contact has several Executions, the outcome says
                which failed.
        """
        self.check_allowed(command.flow_sid)
        account = self.accounts.get(command.account_sid, deadline)
        act = look_up if command.dry_run else end
        if command.execution_sid is not None:
            return Outcome(
                command, (act(account, command.flow_sid, command.execution_sid, deadline, retries),)
            )
        flow = Flow(account, command.flow_sid)
        found = self._listings.find(flow, command.contacts, command.occurred_at, deadline, retries)
        each = _each(act, flow, [one.sid for one in found.executions], deadline, retries)
        still_active = [one for one in each if isinstance(one, FailedExecution) or one.status == "active"]
        self._listings.remove(flow, {one.sid for one in found.executions} - {one.sid for one in still_active})
        is_over = all(not isinstance(one, FailedExecution) and one.already_ended for one in each)
        if found.is_kept and found.executions and is_over and not _was_lost(retries):
            # The contact has nothing active, and there may be near misses.
            return self.end_conversation(command, deadline, retries)
        if command.dry_run:
            # Leave out what has ended since the listing.
            each = still_active
        if not each:
            return Outcome(command, nothing_found=NothingFound(found.active, found.near))
        return Outcome.of(command, each)


def _was_lost(retries: Retries) -> bool:
    """Whether Twilio may have ended an Execution by a request whose response was lost."""
    return any("error" in one or one["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR for one in retries)


def _each(
    act: Callable[[Account, str, str, Deadline, Retries], Execution],
    flow: Flow,
    sids: Iterable[str],
    deadline: Deadline,
    retries: Retries,
) -> list[Execution | FailedExecution]:
    """End or look up Executions concurrently; those that no longer exist (404) are left out."""

    def one(sid: str) -> Execution | FailedExecution | None:
        own: Retries = []
        try:
            execution = act(flow.account, flow.sid, sid, deadline, own)
        except ExecutionNotFound:
            return None
        except EndConversationError as error:
            return FailedExecution(sid, error, own)
        retries.extend(own)
        return execution

    with ThreadPoolExecutor(CONCURRENCY) as threads:
        return [outcome for outcome in threads.map(one, sids) if outcome is not None]
