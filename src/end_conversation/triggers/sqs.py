"""The SQS trigger: messages of a batch run concurrently; only failed ones are delivered again.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from end_conversation.aws.queues import send
from end_conversation.command import from_milliseconds, parse_json
from end_conversation.errors import EndConversationError, InvalidRequest
from end_conversation.http_request import SOURCE_NAME
from end_conversation.observability import logger
from end_conversation.triggers.envelope import unwrap

if TYPE_CHECKING:
    from end_conversation.invocation import Invocation, Request

BATCH_SIZE = 10
"""Messages in a batch, as in template.yaml: one thread each."""


def is_batch(records: list[object]) -> bool:
    """Whether these are SQS messages, each with an id to report."""
    return bool(records) and all(
        isinstance(record, dict)
        and record.get("eventSource") == "aws:sqs"
        and isinstance(record.get("messageId"), str)
        for record in records
    )


def handle(invocation: Invocation, event: dict[str, Any]) -> dict[str, Any]:
    """Process a batch; the result names the messages that SQS has to deliver again."""
    records: list[dict[str, Any]] = event["Records"]
    with ThreadPoolExecutor(BATCH_SIZE) as threads:
        done = threads.map(lambda record: _is_done(invocation, record), records)
        failed = [record["messageId"] for record, is_done in zip(records, done, strict=True) if not is_done]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _is_done(invocation: Invocation, record: dict[str, Any]) -> bool:
    source = _source(record)
    outcome = invocation.carry_out(lambda: _request(record), message_id=record["messageId"], source=source)
    error = outcome.error
    if error is not None and not (error.permanent and _is_dead_lettered(invocation, record, error.code)):
        return False
    invocation.publish_later(outcome, source)
    return True


def _request(record: dict[str, Any]) -> Request:
    """The command in a message's body."""
    body = record.get("body")
    if not isinstance(body, str):
        raise InvalidRequest("the body must be a string")
    payload = parse_json(body)
    attributes = record.get("attributes")
    sent_at = from_milliseconds(attributes.get("SentTimestamp") if isinstance(attributes, dict) else None)
    return unwrap(payload, sent_at)


def _source(record: dict[str, Any]) -> str | None:
    """The webhook source that queued the command, from the message attribute `source`."""
    match record:
        case {"messageAttributes": {"source": {"stringValue": str(name)}}} if SOURCE_NAME.fullmatch(name):
            return name
    return None


def _is_dead_lettered(invocation: Invocation, record: dict[str, Any], code: str) -> bool:
    """Move a message that can never succeed; if this fails, it is delivered again."""
    message_id = record["messageId"]
    fields = invocation.log_fields({"message_id": message_id, "code": code})
    try:
        queue_url = invocation.service.config.dead_letter_queue_url
        if queue_url is None:
            return False
        body = record["body"] if isinstance(record.get("body"), str) else ""
        attributes = {"code": code, "message_id": message_id}
        if source := _source(record):
            attributes["source"] = source
        send(queue_url, body, invocation.deadline, **attributes)
    except Exception as error:  # noqa: BLE001 - must not affect other messages
        told = str(error) if isinstance(error, EndConversationError) else type(error).__name__
        logger.error("message_not_dead_lettered", extra=fields | {"detail": told})
        return False
    logger.info("message_dead_lettered", extra=fields)
    return True
