"""The Lambda handler of the sweep: ends Executions that nobody ended, on a schedule or on demand."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from end_conversation.invocation import Invocation
from end_conversation.observability import metrics_of, without_metrics
from end_conversation.service import Service
from end_conversation.stuck import CONCURRENCY, Sweep, Sweeper, event_detail

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handler(event: Any, context: LambdaContext) -> dict[str, Any]:  # noqa: ANN401 - a caller may send anything
    """End the stuck Executions of some Flows, oldest first.

    Returns:
        What was found and ended in each Flow; docs/sweep.md describes it.

    Raises:
        InvalidRequest, FlowNotAllowed, AccountNotAllowed: before anything is done.
        EndConversationError: no Flow could be listed.
    """
    with metrics_of("sweep"):
        invocation = Invocation("sweep", context, _service)
        with invocation.reporting({}, "sweep_failed"):
            sweep = Sweep.parse(event)
        with without_metrics() if sweep.dry_run else nullcontext():
            with invocation.reporting({}, "sweep_failed"):
                result = Sweeper(sweep, invocation).run()
            invocation.publish_event_later("SweepFinished", event_detail(result))
            invocation.publish()
        return result


@cache
def _service() -> Service:
    return Service.from_environment(CONCURRENCY)
