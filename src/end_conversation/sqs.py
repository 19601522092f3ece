"""The SQS trigger: a batch of messages, worked on side by side; only those that failed come again.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from end_conversation.command import parse_json
from end_conversation.deadline import call_within
from end_conversation.errors import EndConversationError, InvalidRequest
from end_conversation.observability import logger
from end_conversation.secret import CLIENT_CONFIG
from end_conversation.studio import CONCURRENCY

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from end_conversation.invocation import Invocation


def handle(invocation: Invocation, event: dict[str, Any]) -> dict[str, Any]:
    """Work on every message; the answer names those that SQS has to deliver again."""
    records: list[dict[str, Any]] = event["Records"]
    done = _threads().map(lambda record: _is_done(invocation, record), records)
    failed = [record["messageId"] for record, is_done in zip(records, done, strict=True) if not is_done]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _is_done(invocation: Invocation, record: dict[str, Any]) -> bool:
    try:
        invocation.carry_out(lambda: _payload(record), message_id=record["messageId"])
    except EndConversationError as error:
        return error.permanent and _is_dead_lettered(invocation, record, error.code)
    return True


def _payload(record: dict[str, Any]) -> object:
    """The command in a message's body, which is a bare command or an EventBridge event."""
    body = record.get("body")
    if not isinstance(body, str):
        raise InvalidRequest("the body is no text")
    payload = parse_json(body)
    if isinstance(payload, dict) and "detail-type" in payload:
        return payload.get("detail")
    return payload


def _is_dead_lettered(invocation: Invocation, record: dict[str, Any], code: str) -> bool:
    """Move a message that can never succeed; where that fails it counts as failed, and comes again."""
    message_id = record["messageId"]
    keys = {"message_id": message_id, "code": code, "function_request_id": invocation.request_id}
    try:
        queue_url = invocation.service().config.dead_letter_queue_url
        if queue_url is None:
            return False
        call_within(
            invocation.deadline.remaining(),
            lambda: _sqs().send_message(
                QueueUrl=queue_url,
                MessageBody=record["body"],
                MessageAttributes={
                    "code": {"DataType": "String", "StringValue": code},
                    "message_id": {"DataType": "String", "StringValue": message_id},
                },
            ),
        )
    except (EndConversationError, ClientError, BotoCoreError, TimeoutError) as error:
        logger.error("message_not_dead_lettered", extra=keys | {"detail": type(error).__name__})
        return False
    logger.warning("message_dead_lettered", extra=keys)
    return True


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(CONCURRENCY)


@cache
def _sqs() -> SQSClient:
    return boto3.client("sqs", config=CLIENT_CONFIG)
