"""One invocation of a function: carries out its commands; logs, counts and publishes their outcomes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from end_conversation.aws.events import Event, publish
from end_conversation.command import Command
from end_conversation.deadline import ANSWER_MARGIN, PUBLISHING_LIMIT, PUBLISHING_TIME, Deadline
from end_conversation.errors import EndConversationError, InternalError
from end_conversation.observability import count, logger
from end_conversation.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from end_conversation.service import Service
    from end_conversation.twilio.account import Retries

NOT_ENDED = "conversation_not_ended"

MAX_LOGGED_RETRIES = 10
"""Failed attempts in one log line."""


class Request(NamedTuple):
    """What a trigger delivers.

    Attributes:
        payload: the decoded JSON.
        sent_at: the earliest of the trigger's own times, if it has any.
    """

    payload: object
    sent_at: datetime | None = None


class Invocation:
    """The state of one invocation. Thread-safe.

    Args:
        trigger: value of the metrics' dimension.
        context: Lambda's.
        service: returns the process's service; raises ConfigurationError.
        at_most: seconds that the caller waits.

    Attributes:
        trigger: as given.
        deadline: when the work has to be done.
    """

    def __init__(
        self,
        trigger: str,
        context: LambdaContext,
        service: Callable[[], Service],
        at_most: float = float("inf"),
    ) -> None:
        self.trigger = trigger
        self._request_id = context.aws_request_id
        self._service = service
        self._events: list[Event] = []
        seconds = min(context.get_remaining_time_in_millis() / 1000 - ANSWER_MARGIN, at_most)
        try:
            self._bus = service().config.outcome_event_bus
        except Exception:  # noqa: BLE001 - each command asks for the service again and reports the error
            self._bus = None
        self._publish_by = Deadline(seconds)
        self.deadline = Deadline(seconds - PUBLISHING_TIME) if self._bus else self._publish_by

    @property
    def service(self) -> Service:
        """The service that ends Executions.

        Raises:
            ConfigurationError: a setting is missing or invalid.
        """
        return self._service()

    def carry_out(self, load: Callable[[], Request], **fields: Any) -> Outcome:  # noqa: ANN401 - any JSON
        """Carry out a command; log and count the outcome.

        Args:
            load: returns what the trigger delivered, or raises RequestRejected.
            fields: further fields for the log lines.
        """
        command: Command | None = None
        retries: Retries = []
        try:
            with self.reporting(fields, retries=retries):
                command = Command.parse(*load())
                fields |= command.log_fields()
                outcome = self.service.end_conversation(command, self.deadline, retries)
        except EndConversationError as error:
            return Outcome(command, error=error)
        if not command.dry_run:
            _count(outcome)
        fields |= _facts(command, outcome)
        for one in outcome.failed:
            self.report(one.error, fields | {"execution_sid": one.sid, "retries": one.retries})
        if outcome.error is None:
            self._log_success(outcome, fields | {"retries": retries})
        return outcome

    def _log_success(self, outcome: Outcome, fields: dict[str, Any]) -> None:
        extra = self.log_fields(fields)
        if outcome.is_dry_run:
            logger.info("dry_run", extra=extra)
        elif outcome.nothing_found is not None:
            logger.info("nothing_to_end", extra=extra)
        else:
            logger.info("conversation_ended", extra=extra)

    def publish_later(self, outcome: Outcome, source: str | None = None) -> None:
        """Publish an outcome at the end of the invocation; a dry run has none."""
        if outcome.is_dry_run:
            return
        detail_type, detail = outcome.event()
        detail |= {"trigger": self.trigger, "source": source}
        self.publish_event_later(
            detail_type, {key: value for key, value in detail.items() if value is not None}
        )

    def publish_event_later(self, detail_type: str, detail: dict[str, Any]) -> None:
        """Publish an event at the end of the invocation."""
        self._events.append(Event(detail_type, detail))

    def publish(self) -> None:
        """Publish the events; failures are only logged and counted."""
        if self._bus is not None and self._events:
            publish(self._bus, self._events, self._publish_by.within(PUBLISHING_LIMIT), self.log_fields({}))

    @contextmanager
    def reporting(
        self, fields: dict[str, Any], message: str = NOT_ENDED, retries: Retries | None = None
    ) -> Iterator[None]:
        """Log and count a failure and raise it again; an unexpected exception becomes an InternalError.

        Args:
            fields: further fields for the log line; may grow in the meantime.
            message: of the log line.
            retries: the failed attempts before it; may grow in the meantime.
        """
        try:
            yield
        except EndConversationError as error:
            self.report(error, fields | {"retries": retries or []}, message)
            raise
        except Exception as defect:  # noqa: BLE001 - becomes a response; one record must not fail the others
            self.report(InternalError.of(defect), fields, message)
            raise InternalError("the function has a defect; its log has the details") from None

    def report(self, error: EndConversationError, fields: dict[str, Any], message: str = NOT_ENDED) -> None:
        """Log a failure; count it, except in a dry run."""
        if fields.get("dry_run"):
            message = "dry_run"
        elif error.metric:
            count(error.metric)
        log = logger.warning if error.permanent else logger.error
        log(message, extra=self.log_fields(fields | {"code": error.code, "detail": str(error)} | error.facts))

    def log_fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields that have a value, and the invocation's own."""
        fields = {"trigger": self.trigger, "function_request_id": self._request_id} | fields
        fields["retries"] = fields.get("retries", [])[:MAX_LOGGED_RETRIES] or None
        return {key: value for key, value in fields.items() if value is not None}


def _count(outcome: Outcome) -> None:
    ended = len(outcome.executions) - outcome.already_ended
    if ended:
        count("ExecutionsEnded", ended)
    if outcome.already_ended:
        count("ExecutionsAlreadyEnded", outcome.already_ended)
    if outcome.nothing_found is not None:
        count("NothingToEnd")
        if outcome.nothing_found.is_near_miss:
            count("NearMisses")


def _facts(command: Command, outcome: Outcome) -> dict[str, Any]:
    """The outcome's fields in the log line."""
    facts: dict[str, Any] = {}
    if outcome.nothing_found is not None:
        facts = {"active": outcome.nothing_found.active, "near": outcome.near or None}
    elif command.contacts:
        facts = {"execution_sids": [execution.sid for execution in outcome.executions]}
    if command.dry_run:
        return facts | {"would_end": sum(execution.status == "active" for execution in outcome.executions)}
    ended = len(outcome.executions) - outcome.already_ended
    return facts | {"ended": ended, "already_ended": outcome.already_ended}
