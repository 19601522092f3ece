"""EventBridge events that a rule sends straight to the function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from end_conversation.triggers.envelope import unwrap

if TYPE_CHECKING:
    from end_conversation.invocation import Invocation


def handle(invocation: Invocation, event: dict[str, Any]) -> dict[str, Any]:
    """The result of the event's command.

    Raises:
        EndConversationError: Lambda retries twice, then sends the event to the failure destination.
    """
    outcome = invocation.carry_out(lambda: unwrap(event))
    if outcome.error is None or outcome.error.permanent:
        # Other failures are not final: Lambda retries.
        invocation.publish_later(outcome)
    return outcome.result()
