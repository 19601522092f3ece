"""What Lambda does between a queue and a function: batches from one to the other until they are done.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

import contextlib
import http.client
import random
import threading
from dataclasses import dataclass
from typing import Any

from local.poller import batch
from local.rie import Outcome
from tests.soak.cloud import Cloud, Stack
from tests.soak.ledger import Ledger
from tests.soak.sandbox import Sandbox

IDLE = 0.2
"""Seconds until an empty queue is asked again."""

FORGETFUL = 0.01
"""The share of messages that are delivered again although they are done: SQS delivers at least once."""


@dataclass
class Poller:
    """Feeds one process of the function until it is told to stop."""

    cloud: Cloud
    stack: Stack
    sandbox: Sandbox
    ledger: Ledger
    draw: random.Random
    stopped: threading.Event

    def run(self) -> None:
        """Poll."""
        sqs = self.cloud.client("sqs")
        while not self.stopped.is_set():
            messages = sqs.receive_message(
                QueueUrl=self.stack.queue_url,
                MaxNumberOfMessages=self.stack.batch_size,
                MessageSystemAttributeNames=["All"],
            ).get("Messages", [])
            if not messages:
                self.stopped.wait(IDLE)
                continue
            self.ledger.delivered(messages)
            done = self._work(messages)
            forgotten = [message for message in done if self.draw.random() < FORGETFUL]
            self.ledger.count("done, and left in the queue", len(forgotten))
            if entries := [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(done)
                if message not in forgotten
            ]:
                sqs.delete_message_batch(QueueUrl=self.stack.queue_url, Entries=entries)
            self.ledger.done(done)

    def _work(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those messages that the function has done; of a batch whose answer makes no sense, none."""
        try:
            outcome = self.sandbox.invoke(batch(messages, self.stack.queue_arn))
        except (OSError, http.client.HTTPException):
            outcome = Outcome({"errorType": "Sandbox.Lost", "errorMessage": ""}, [])
        self.ledger.watch(outcome)
        failed = _failed(outcome)
        ids = {message["MessageId"] for message in messages}
        if failed is None or not failed <= ids:
            self.ledger.count("batches without an answer")
            return []
        return [message for message in messages if message["MessageId"] not in failed]


def _failed(outcome: Outcome) -> set[str] | None:
    """The ids of the messages that failed; None if all of them did."""
    if outcome.error is None:
        with contextlib.suppress(KeyError, TypeError):
            return {item["itemIdentifier"] for item in outcome.answer["batchItemFailures"]}
    return None
