"""Starts the stand-ins for Twilio and AWS together.

``make stand-ins`` serves them at the ports that ``sam local`` uses, and connects its containers.
"""

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from local import samples, signing
from local.aws import Aws
from local.relay import HOST, NETWORK, relay
from local.studio import ACCOUNT_SID, API_KEY, OTHER_ACCOUNT_SID, OTHER_AUTH_TOKEN, Studio
from local.terminal import interruptible

STUDIO_PORT, AWS_PORT = 8801, 8802
SECRET_ID = "end-conversation/twilio"  # noqa: S105 -- its name
ACCOUNT_SECRET_PREFIX = "end-conversation/twilio/"  # noqa: S105 -- the beginning of its name
WEBHOOK_SECRET_ID = "end-conversation/webhook-keys"  # noqa: S105 -- its name
QUEUE = "end-conversation"
DEAD_LETTER_QUEUE = "end-conversation-dead-letters"
OUTCOMES = "end-conversation-outcomes"
"""The event bus for outcome events, and the queue that a rule copies them to."""

_VISIBILITY, _MAX_RECEIVES = 5, 5
"""A queued command that fails is tried 5 times, 5 seconds apart; in AWS for hours."""


@dataclass(frozen=True)
class StandIns:
    """Twilio and AWS, and the function's settings for them."""

    studio: Studio
    aws: Aws
    queue_url: str
    dead_letter_queue_url: str
    outcomes_queue_url: str
    webhook_secret: dict[str, Any] = field(default_factory=lambda: signing.SECRET)

    @property
    def environment(self) -> dict[str, str]:
        """The function's environment variables."""
        return {
            "TWILIO_SECRET_ID": SECRET_ID,
            "TWILIO_ACCOUNT_SECRET_PREFIX": ACCOUNT_SECRET_PREFIX,
            "WEBHOOK_SECRET_ID": WEBHOOK_SECRET_ID,
            "TWILIO_STUDIO_BASE_URL": self.studio.url,
            "QUEUE_URL": self.queue_url,
            "OUTCOME_EVENT_BUS": OUTCOMES,
            "DEAD_LETTER_QUEUE_URL": self.dead_letter_queue_url,
            "POWERTOOLS_SERVICE_NAME": "end-conversation",
            "POWERTOOLS_METRICS_NAMESPACE": "EndConversation",
            **self.aws.environment,
        }

    def new_outcomes(self) -> list[dict[str, Any]]:
        """The outcome events since the last call, as EventBridge delivers them."""
        return [json.loads(body) for body in received(self.aws, self.outcomes_queue_url)]


def received(aws: Aws, queue_url: str) -> Iterator[str]:
    """The bodies of all messages in a queue, which is empty then."""
    sqs = aws.client("sqs")
    while messages := sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            yield message["Body"]
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])


@contextlib.contextmanager
def stand_ins(
    studio_port: int = 0, aws_port: int = 0, webhook_secret: dict[str, Any] = signing.SECRET
) -> Iterator[StandIns]:
    """Twilio without Executions, and AWS with secrets, queues and an event bus as in the stack."""
    with Studio(studio_port) as studio, Aws(aws_port) as aws:
        sid, secret = API_KEY
        aws.put_secret(SECRET_ID, {"accountSid": ACCOUNT_SID, "apiKeySid": sid, "apiKeySecret": secret})
        _, auth_token = OTHER_AUTH_TOKEN
        aws.put_secret(
            ACCOUNT_SECRET_PREFIX + OTHER_ACCOUNT_SID,
            {"accountSid": OTHER_ACCOUNT_SID, "authToken": auth_token},
        )
        aws.put_secret(WEBHOOK_SECRET_ID, webhook_secret)
        sqs, events = aws.client("sqs"), aws.client("events")
        dead_letters = sqs.create_queue(QueueName=DEAD_LETTER_QUEUE)["QueueUrl"]
        redrive = {"deadLetterTargetArn": _arn(aws, dead_letters), "maxReceiveCount": _MAX_RECEIVES}
        queue = sqs.create_queue(
            QueueName=QUEUE,
            Attributes={"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": str(_VISIBILITY)},
        )["QueueUrl"]
        outcomes = sqs.create_queue(QueueName=OUTCOMES)["QueueUrl"]
        events.create_event_bus(Name=OUTCOMES)
        events.put_rule(Name=OUTCOMES, EventBusName=OUTCOMES, EventPattern='{"source": ["end-conversation"]}')
        events.put_targets(
            Rule=OUTCOMES, EventBusName=OUTCOMES, Targets=[{"Id": "queue", "Arn": _arn(aws, outcomes)}]
        )
        aws.calls.clear()
        yield StandIns(studio, aws, queue, dead_letters, outcomes, webhook_secret)


def _arn(aws: Aws, queue_url: str) -> str:
    answer = aws.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
    return str(answer["Attributes"]["QueueArn"])


@contextlib.contextmanager
def at_fixed_ports() -> Iterator[StandIns]:
    """The same at the ports that `sam local` uses, with the Executions of every sample event."""
    with stand_ins(STUDIO_PORT, AWS_PORT) as ready:
        samples.seed_all(ready.studio)
        yield ready


def main() -> None:
    """Serve until interrupted."""
    try:
        with interruptible(), at_fixed_ports() as ready, contextlib.ExitStack() as stack:
            print(f"Twilio Studio: {ready.studio.url}, with the Executions of all sample events")
            print(f"AWS:           {ready.aws.url}, with the secret {SECRET_ID}", flush=True)
            try:
                stack.enter_context(relay())
                print(f"sam local:     both as {HOST}, after export SAM_DOCKER_NETWORK={NETWORK}")
            except RuntimeError as error:
                print(f"sam local:     containers cannot reach them: {error}")
            print("Press Ctrl-C to stop.", flush=True)
            threading.Event().wait()
    except OSError as error:
        sys.exit(f"{error}: make stand-ins needs ports {STUDIO_PORT} and {AWS_PORT} of 127.0.0.1")


if __name__ == "__main__":
    main()
