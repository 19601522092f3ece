"""The SQS trigger: a batch of messages, worked on side by side; only those that failed come again.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from end_conversation.aws import CALL_LIMIT, client
from end_conversation.command import from_milliseconds, parse_json
from end_conversation.deadline import call_within
from end_conversation.errors import EndConversationError, InvalidRequest
from end_conversation.invocation import Request
from end_conversation.observability import logger
from end_conversation.triggers import eventbridge
from end_conversation.twilio.studio import CONCURRENCY

if TYPE_CHECKING:
    from end_conversation.invocation import Invocation


def is_batch(records: list[object]) -> bool:
    """Whether these are messages of SQS, each with the id by which it can be reported."""
    return bool(records) and all(
        isinstance(record, dict)
        and record.get("eventSource") == "aws:sqs"
        and isinstance(record.get("messageId"), str)
        for record in records
    )


def handle(invocation: Invocation, event: dict[str, Any]) -> dict[str, Any]:
    """Work on every message; the answer names those that SQS has to deliver again."""
    records: list[dict[str, Any]] = event["Records"]
    done = _threads().map(lambda record: _is_done(invocation, record), records)
    failed = [record["messageId"] for record, is_done in zip(records, done, strict=True) if not is_done]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _is_done(invocation: Invocation, record: dict[str, Any]) -> bool:
    try:
        invocation.carry_out(lambda: _request(record), message_id=record["messageId"]).complete()
    except EndConversationError as error:
        return error.permanent and _is_dead_lettered(invocation, record, error.code)
    return True


def _request(record: dict[str, Any]) -> Request:
    """What a message's body holds, which is a bare command or an EventBridge event."""
    body = record.get("body")
    if not isinstance(body, str):
        raise InvalidRequest("the body is no text")
    payload = parse_json(body)
    attributes = record.get("attributes")
    sent_at = from_milliseconds(attributes.get("SentTimestamp") if isinstance(attributes, dict) else None)
    if not eventbridge.is_event(payload):
        return Request(payload, sent_at)
    request = eventbridge.request_of(payload)
    return request._replace(sent_at=request.sent_at or sent_at)


def _is_dead_lettered(invocation: Invocation, record: dict[str, Any], code: str) -> bool:
    """Move a message that can never succeed; where that fails it counts as failed, and comes again."""
    message_id = record["messageId"]
    keys = {"message_id": message_id, "code": code, "function_request_id": invocation.request_id}
    try:
        queue_url = invocation.service().config.dead_letter_queue_url
        if queue_url is None:
            return False
        call_within(
            min(CALL_LIMIT, invocation.deadline.remaining()),
            lambda: client("sqs").send_message(
                QueueUrl=queue_url,
                MessageBody=record["body"],
                MessageAttributes={
                    "code": {"DataType": "String", "StringValue": code},
                    "message_id": {"DataType": "String", "StringValue": message_id},
                },
            ),
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, it costs this message only
        logger.error("message_not_dead_lettered", extra=keys | {"detail": type(error).__name__})
        return False
    logger.info("message_dead_lettered", extra=keys)
    return True


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(CONCURRENCY)
