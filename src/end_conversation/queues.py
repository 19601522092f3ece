"""Messages into SQS queues, within the time there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from end_conversation.aws import CALL_LIMIT, client
from end_conversation.deadline import call_within
from end_conversation.errors import QueueUnavailable

if TYPE_CHECKING:
    from end_conversation.deadline import Deadline


def send(queue_url: str, body: str, deadline: Deadline, **attributes: str) -> str:
    """Put a message into a queue; botocore tries a passing failure once more.

    Returns:
        SQS's id of the message.

    Raises:
        QueueUnavailable: SQS did not take it, or did not say so in time: then it may be in the queue.
        ConfigurationError: there is no client of SQS.
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
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "no error code")
        raise QueueUnavailable(f"SQS refuses the message: {code}") from error
    except (BotoCoreError, TimeoutError) as error:
        raise QueueUnavailable(
            f"SQS does not confirm the message, and may have it: {type(error).__name__}"
        ) from error
    return answer["MessageId"]
