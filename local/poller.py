"""Lambda's poller: it passes batches from a queue to a function, and deletes what is done.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from local.aws import REGION
from local.rie import Emulated, InProcess, Outcome
from local.stand_ins import QUEUE, StandIns

_BATCH = 10
_IDLE = 0.25
"""Seconds between two looks at an empty queue."""


def poll(ready: StandIns, function: Emulated | InProcess) -> Outcome | None:
    """Pass a batch from the queue to the function.

    Returns:
        What came of it; ``None`` if the queue is empty.
    """
    sqs = ready.aws.client("sqs")
    messages = sqs.receive_message(
        QueueUrl=ready.queue_url,
        MaxNumberOfMessages=_BATCH,
        MessageSystemAttributeNames=["All"],
        MessageAttributeNames=["All"],
    ).get("Messages")
    if not messages:
        return None
    outcome = function.invoke(batch(messages))
    # Without a result, all of them come again.
    if outcome.error is None:
        failed = {item["itemIdentifier"] for item in outcome.answer["batchItemFailures"]}
        for message in messages:
            if message["MessageId"] not in failed:
                sqs.delete_message(QueueUrl=ready.queue_url, ReceiptHandle=message["ReceiptHandle"])
    return outcome


@contextlib.contextmanager
def polling(
    ready: StandIns, function: Emulated | InProcess, on_batch: Callable[[Outcome], None]
) -> Iterator[None]:
    """Pass the queue's messages to the function, from entering to leaving.

    Args:
        ready: Whose queue.
        function: What consumes it.
        on_batch: Called with the outcome of each batch.
    """
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            if outcome := poll(ready, function):
                on_batch(outcome)
            else:
                stopped.wait(_IDLE)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


_ARN = f"arn:aws:sqs:{REGION}:123456789012:{QUEUE}"


def batch(messages: Iterable[Any], queue_arn: str = _ARN) -> dict[str, Any]:
    """The event that Lambda makes of these messages."""
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "messageAttributes": {
                    name: {"dataType": each["DataType"], "stringValue": each["StringValue"]}
                    for name, each in message.get("MessageAttributes", {}).items()
                },
                "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs",
                "eventSourceARN": queue_arn,
                "awsRegion": REGION,
            }
            for message in messages
        ]
    }
