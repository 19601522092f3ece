"""Direct invocation: the payload is a command, or Lambda's record of a failed asynchronous invocation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from end_conversation.triggers.envelope import unwrap

if TYPE_CHECKING:
    from end_conversation.invocation import Invocation


def handle(invocation: Invocation, event: object) -> dict[str, Any]:
    """The result of the command.

    Raises:
        EndConversationError: its class is the caller's `errorType`.
    """
    outcome = invocation.carry_out(lambda: unwrap(event))
    if outcome.error is None:
        invocation.publish_later(outcome)
    return outcome.result()
