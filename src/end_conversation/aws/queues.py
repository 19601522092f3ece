"""Sends messages to SQS, within the time available."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from end_conversation.aws.clients import CALL_LIMIT, client
from end_conversation.deadline import call_within
from end_conversation.errors import QueueUnavailable

if TYPE_CHECKING:
    from end_conversation.deadline import Deadline


def send(queue_url: str, body: str, deadline: Deadline, **attributes: str) -> str:
    """Send a message; botocore retries a transient failure once.

    Returns:
        SQS's id of the message.

    Raises:
        QueueUnavailable: SQS did not accept it, or did not confirm it in time: it may be in the queue then.
        ConfigurationError: there is no SQS client.
    """
    sqs = client("sqs")
    try:
        answer = call_within(
            min(CALL_LIMIT, deadline.remaining()),
            lambda: sqs.send_message(
                QueueUrl=queue_url,
                MessageBody=body,
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                },
            ),
        )
        return answer["MessageId"]
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "no error code")
        raise QueueUnavailable(f"SQS rejected the message: {code}") from error
    except Exception as error:  # botocore raises anything for a response that it cannot read
        raise QueueUnavailable(
            f"SQS did not confirm the message, but may have it: {type(error).__name__}"
        ) from error
