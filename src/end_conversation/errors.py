"""What can go wrong: one class for each cause, with the code that callers, logs and metrics know it by."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple


class FieldError(NamedTuple):
    """What is wrong with one field of a command; never holds the field's value."""

    field: str
    message: str


class EndConversationError(Exception):
    """Base of every failure that a caller can be told about.

    The text of an error is safe to show: it never holds a credential, a contact's address or a payload.
    """

    code: ClassVar[str]
    """Stable name of the cause, in answers and logs."""
    metric: ClassVar[str | None] = None
    """CloudWatch metric that counts it."""
    permanent: ClassVar[bool] = False
    """Whether the same command must fail again, however often it is tried."""

    @property
    def facts(self) -> dict[str, Any]:
        """What else a log line says about it."""
        return {}


class InternalError(EndConversationError):
    """A defect of ours; the log has the details."""

    code = "internal_error"


class ConfigurationError(InternalError):
    """An environment variable is missing or invalid."""


class RequestRejected(EndConversationError):
    """Base of our own refusals: nothing was asked of Twilio."""

    metric = "RequestsRejected"
    permanent = True


class InvalidRequest(RequestRejected):
    """The command is not a JSON object, or does not match its schema."""

    code = "invalid_request"

    def __init__(self, message: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors

    @classmethod
    def of_fields(cls, *errors: FieldError) -> InvalidRequest:
        """The command has these errors; the text names every field."""
        return cls("; ".join(f"{error.field} {error.message}" for error in errors), errors)


class FlowNotAllowed(RequestRejected):
    """`ALLOWED_FLOW_SIDS` is set and lacks the command's Flow."""

    code = "flow_not_allowed"


class AccountNotAllowed(RequestRejected):
    """The command's `account_sid` is not one that this deployment works for."""

    code = "account_not_allowed"


class QueueUnavailable(EndConversationError):
    """The queue did not take a command that was to be carried out later; the caller still has it."""

    code = "queue_unavailable"


class TwilioFailure(EndConversationError):
    """Base of the failures that may come with an answer of Twilio's.

    Attributes:
        http_status: status of Twilio's last answer, if there was one.
        twilio_code: Twilio's own error code (https://www.twilio.com/docs/api/errors), if it gave one.
        twilio_request_id: what Twilio's support asks for.
        retry_after: whole seconds that Twilio asked us to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        twilio_code: int | None = None,
        twilio_request_id: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.twilio_code = twilio_code
        self.twilio_request_id = twilio_request_id
        self.retry_after = retry_after

    @property
    def facts(self) -> dict[str, Any]:
        """What Twilio answered."""
        return {
            "http_status": self.http_status,
            "twilio_code": self.twilio_code,
            "twilio_request_id": self.twilio_request_id,
            "retry_after": self.retry_after,
        }


class ExecutionNotFound(TwilioFailure):
    """Twilio knows no such Execution, or no such Flow."""

    code = "execution_not_found"
    metric = "ExecutionsNotFound"
    permanent = True


class CredentialsUnavailable(TwilioFailure):
    """A secret cannot be read from Secrets Manager, or lacks what it needs."""

    code = "credentials_unavailable"
    metric = "CredentialsUnavailable"


class CredentialsRejected(TwilioFailure):
    """Twilio answers 403, or 401 to credentials that were just read again."""

    code = "credentials_rejected"
    metric = "CredentialsRejected"


class TwilioError(TwilioFailure):
    """Twilio cannot be reached, fails, or answers something that is not an ended Execution."""

    code = "twilio_error"
    metric = "TwilioErrors"


class TwilioTimeout(TwilioFailure):
    """Twilio did not answer within the time there was."""

    code = "twilio_timeout"
    metric = "TwilioTimeouts"


class TwilioThrottled(TwilioFailure):
    """Twilio still answers 429 after retries, or asks for a longer wait than there is time for."""

    code = "twilio_throttled"
    metric = "TwilioThrottled"


WORST_FIRST = (CredentialsRejected, CredentialsUnavailable, TwilioError, TwilioTimeout, TwilioThrottled)
"""Which failure speaks for several: the one that says most about what will happen to the next command."""


def badness(error: EndConversationError) -> tuple[int, int]:
    """Where a failure comes in the order of WORST_FIRST; one that is not in it comes before all of them.

    Of several of a kind, the one with the longest Retry-After comes first.
    """
    place = next((n for n, kind in enumerate(WORST_FIRST) if isinstance(error, kind)), -1)
    return place, -(getattr(error, "retry_after", None) or 0)
