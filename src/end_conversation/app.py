"""The Lambda handler: recognises the trigger, and leaves the rest to it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError

from end_conversation import http_api, sqs
from end_conversation.config import Config
from end_conversation.deadline import ANSWER_MARGIN, HTTP_BUDGET, Deadline
from end_conversation.errors import ConfigurationError
from end_conversation.invocation import Invocation
from end_conversation.observability import metrics_of
from end_conversation.service import Service

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handler(event: Any, context: LambdaContext) -> dict[str, Any]:  # noqa: ANN401 - a caller may send anything
    """End the conversations that an event of any trigger names.

    Returns:
        An API Gateway answer, the failures of an SQS batch, or the result of the one command.

    Raises:
        EndConversationError: the one command of an EventBridge event or a direct invocation failed.
    """
    seconds = context.get_remaining_time_in_millis() / 1000 - ANSWER_MARGIN
    with metrics_of(trigger := _trigger(event)):
        if trigger == "http":
            seconds = min(seconds, HTTP_BUDGET)
        invocation = Invocation(trigger, context.aws_request_id, Deadline(seconds), _service)
        match trigger:
            case "http":
                return http_api.handle(invocation, event)
            case "sqs":
                return sqs.handle(invocation, event)
            case "eventbridge":
                return invocation.carry_out(lambda: event.get("detail"), event_id=event.get("id")).to_json()
        return invocation.carry_out(lambda: event).to_json()


def _trigger(event: object) -> str:
    match event:
        case {"requestContext": _}:
            return "http"
        case {"detail-type": _}:
            return "eventbridge"
        case {"Records": [{"eventSource": "aws:sqs"}, *_]}:
            return "sqs"
    return "direct"


@cache
def _service() -> Service:
    """The service for the life of the process; a failure is not kept, so the next request tries again."""
    try:
        return Service(Config.from_environment())
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"no client of AWS can be made: {type(error).__name__}") from error
