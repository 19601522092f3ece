"""The Lambda handler: recognizes the trigger and delegates to it."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from end_conversation.deadline import HTTP_BUDGET, WARM_UP_LIMIT, Deadline
from end_conversation.errors import EndConversationError
from end_conversation.invocation import Invocation
from end_conversation.observability import metrics_of
from end_conversation.service import Service
from end_conversation.triggers import direct, envelope, eventbridge, http_api, sqs

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handler(event: Any, context: LambdaContext) -> dict[str, Any]:  # noqa: ANN401 - a caller may send anything
    """End the conversations that an event names.

    Returns:
        An API Gateway response, the failures of an SQS batch, or the result of the one command.

    Raises:
        EndConversationError: the one command of an EventBridge event or a direct invocation failed.
    """
    trigger = _trigger(event)
    is_http = trigger in ("http", "webhook")
    with metrics_of(trigger):
        invocation = Invocation(trigger, context, _service, HTTP_BUDGET if is_http else float("inf"))
        try:
            if is_http:
                return http_api.handle(invocation, event)
            if trigger == "sqs":
                return sqs.handle(invocation, event)
            if trigger == "eventbridge":
                return eventbridge.handle(invocation, event)
            return direct.handle(invocation, event)
        finally:
            invocation.publish()


def _trigger(event: Any) -> str:  # noqa: ANN401 - as above
    if envelope.is_invocation_record(event):
        return "direct"
    match event:
        case {"requestContext": _}:
            return http_api.trigger_of(event)
        case {"Records": [*records]} if sqs.is_batch(records):
            return "sqs"
    return "eventbridge" if envelope.is_eventbridge_event(event) else "direct"


@cache
def _service() -> Service:
    """One per process. A failure is not cached, so the next request tries again."""
    return Service.from_environment()


def _warm_up() -> None:
    with suppress(EndConversationError):
        # The first request gets the same error and reports it.
        _service().warm_up(Deadline(WARM_UP_LIMIT))


def _start(initialization_type: str | None) -> None:
    """Warm up during the start, which has a full processor, so that the first request need not wait.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
    """
    if initialization_type == "snap-start":
        from snapshot_restore_py import register_after_restore  # noqa: PLC0415 - only Lambda's runtime has it

        # The snapshot includes clients and certificates; credentials and connections would be stale.
        with suppress(EndConversationError):
            _service()
        register_after_restore(_warm_up)
    elif initialization_type is not None:
        _warm_up()


_start(os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE"))
