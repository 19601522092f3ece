"""Publishes outcome events on EventBridge, in as few calls as possible; failures never affect commands.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from end_conversation.aws.clients import CALL_LIMIT, client
from end_conversation.deadline import call_within
from end_conversation.observability import count, logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

    from end_conversation.deadline import Deadline

SOURCE = "end-conversation"

MAX_ENTRIES = 10
MAX_BYTES = 256 * 1024
"""Limits of one PutEvents call."""

PUBLISH_ATTEMPTS = 2

_ENTRY_OVERHEAD = 64
"""Bytes of an entry besides its detail: source and detail type, rounded up."""


class Event(NamedTuple):
    """An event to publish.

    Attributes:
        detail_type: ConversationEnded, for example.
        detail: any JSON object without personal data.
    """

    detail_type: str
    detail: dict[str, Any]


def publish(bus: str, events: list[Event], deadline: Deadline, fields: dict[str, Any]) -> None:
    """Publish events; those that cannot be published in time are logged and counted.

    Args:
        bus: name or ARN.
        events: what to publish.
        deadline: for everything together.
        fields: for the log lines.
    """
    entries: list[PutEventsRequestEntryTypeDef] = [
        {
            "EventBusName": bus,
            "Source": SOURCE,
            "DetailType": event.detail_type,
            "Detail": json.dumps(event.detail, separators=(",", ":")),
        }
        for event in events
    ]
    for batch in _batches(entries):
        cause = ""
        for _ in range(PUBLISH_ATTEMPTS):
            batch, cause = _put(batch, deadline)  # noqa: PLW2901 - what is left of it
            if not batch:
                break
        if batch:
            count("OutcomesNotPublished", len(batch))
            logger.error("outcome_not_published", extra=fields | {"outcomes": len(batch), "detail": cause})


def _put(
    entries: list[PutEventsRequestEntryTypeDef], deadline: Deadline
) -> tuple[list[PutEventsRequestEntryTypeDef], str]:
    """The entries that were not accepted, and why."""
    try:
        answer = call_within(
            min(CALL_LIMIT, deadline.remaining()), lambda: client("events").put_events(Entries=entries)
        )
        outcomes = list(zip(entries, answer["Entries"], strict=True))
        failed = [
            (entry, outcome.get("ErrorCode")) for entry, outcome in outcomes if "EventId" not in outcome
        ]
    except ClientError as error:
        return entries, str(error.response.get("Error", {}).get("Code", "no error code"))
    except Exception as error:  # noqa: BLE001 - no failure may affect the commands
        return entries, type(error).__name__
    return [entry for entry, _ in failed], next((code for _, code in failed if code), "no error code")


def _batches(
    entries: list[PutEventsRequestEntryTypeDef],
) -> Iterator[list[PutEventsRequestEntryTypeDef]]:
    batch: list[PutEventsRequestEntryTypeDef] = []
    size = 0
    for entry in entries:
        own = len(entry["Detail"].encode()) + _ENTRY_OVERHEAD
        if batch and (len(batch) == MAX_ENTRIES or size + own > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += own
    if batch:
        yield batch
