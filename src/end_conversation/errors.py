"""The errors: one class per cause, with its code for callers, logs and metrics."""

from __future__ import annotations

import traceback
from typing import Any, ClassVar, NamedTuple


class FieldError(NamedTuple):
    """What is wrong with one field of a command; never contains the field's value."""

    field: str
    message: str


class EndConversationError(Exception):
    """Base of all failures that callers see.

    The message is safe to show: it never contains a credential, a contact's address or a payload.
    """

    code: ClassVar[str]
    """Stable name of the cause, in responses and logs."""
    metric: ClassVar[str | None] = None
    """CloudWatch metric that counts it."""
    permanent: ClassVar[bool] = False
    """Whether retrying the same command can never succeed."""

    shared_listing: bool = False
    """Whether a listing that this command shared with another one failed."""

    @property
    def facts(self) -> dict[str, Any]:
        """Further keys for the log line."""
        return {"shared_listing": True} if self.shared_listing else {}


class InternalError(EndConversationError):
    """A defect; the log has the details.

    Attributes:
        frames: files and lines that an unexpected exception passed.
    """

    code = "internal_error"
    frames: list[str] | None = None

    @classmethod
    def of(cls, defect: Exception) -> InternalError:
        """An unexpected exception, without its message, which may contain anything."""
        error = cls(f"unexpected {type(defect).__name__}")
        error.frames = [f"{at.filename}:{at.lineno}" for at in traceback.extract_tb(defect.__traceback__)]
        return error

    @property
    def facts(self) -> dict[str, Any]:
        """Where the exception came from."""
        return {"frames": self.frames}


class ConfigurationError(InternalError):
    """An environment variable is missing or invalid."""


class RequestRejected(EndConversationError):
    """Base of rejections before any request to Twilio."""

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
        """An error about these fields, all named in the message."""
        return cls("; ".join(f"{error.field} {error.message}" for error in errors), errors)


class FlowNotAllowed(RequestRejected):
    """`ALLOWED_FLOW_SIDS` is set and lacks the command's Flow."""

    code = "flow_not_allowed"


class AccountNotAllowed(RequestRejected):
    """This deployment does not serve the command's `account_sid`."""

    code = "account_not_allowed"


class UnsupportedMediaType(RequestRejected):
    """The route does not accept the body's content type."""

    code = "unsupported_media_type"


class InvalidSignature(RequestRejected):
    """The sender of a webhook cannot be verified; only the log says why.

    Attributes:
        cause: a fixed name; it contains nothing that the sender chose.
    """

    code = "invalid_signature"

    def __init__(self, cause: str) -> None:
        super().__init__("the request has no valid signature")
        self.cause = cause

    @property
    def facts(self) -> dict[str, Any]:
        """The cause."""
        return {"cause": self.cause}


class QueueUnavailable(EndConversationError):
    """SQS did not accept a command for later; the caller has to retry."""

    code = "queue_unavailable"


class CredentialsUnavailable(EndConversationError):
    """A secret cannot be read, or is incomplete."""

    code = "credentials_unavailable"
    metric = "CredentialsUnavailable"


class TwilioFailure(EndConversationError):
    """Base of failures that may include a response from Twilio.

    Attributes:
        http_status: status of Twilio's last response, if there was one.
        twilio_code: Twilio's own error code (https://www.twilio.com/docs/api/errors), if it gave one.
        twilio_request_id: what Twilio's support asks for.
        retry_after: seconds that Twilio asks us to wait.
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
        """What Twilio returned."""
        return super().facts | {
            "http_status": self.http_status,
            "twilio_code": self.twilio_code,
            "twilio_request_id": self.twilio_request_id,
            "retry_after": self.retry_after,
        }


class ExecutionNotFound(TwilioFailure):
    """Twilio does not know the Execution or the Flow."""

    code = "execution_not_found"
    metric = "ExecutionsNotFound"
    permanent = True


class CredentialsRejected(TwilioFailure):
    """Twilio returns 403, or 401 even after the secret was read again."""

    code = "credentials_rejected"
    metric = "CredentialsRejected"


class TwilioError(TwilioFailure):
    """Twilio cannot be reached, fails, or returns something unexpected."""

    code = "twilio_error"
    metric = "TwilioErrors"

    too_large: bool = False
    """Whether the response exceeds the limit."""


class TwilioTimeout(TwilioFailure):
    """Twilio did not respond in the time available."""

    code = "twilio_timeout"
    metric = "TwilioTimeouts"


class TwilioThrottled(TwilioFailure):
    """Twilio returns 429 after retries, or asks for a wait that is longer than the time available."""

    code = "twilio_throttled"
    metric = "TwilioThrottled"


BY_SEVERITY = (TwilioThrottled, TwilioTimeout, TwilioError, CredentialsUnavailable, CredentialsRejected)
"""The most serious last: those most likely to affect the next command, too."""


def severity(error: EndConversationError) -> tuple[int, int]:
    """A sort key: the more serious of two failures has the higher one.

    A failure that is not in BY_SEVERITY is the most serious. Of several of a kind, the one with the longest
    Retry-After is.
    """
    rank = next((n for n, kind in enumerate(BY_SEVERITY) if isinstance(error, kind)), len(BY_SEVERITY))
    return rank, getattr(error, "retry_after", None) or 0
