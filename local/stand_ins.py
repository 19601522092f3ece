"""Both stand-ins, started and seeded so that they fit together.

``make stand-ins`` keeps them up where ``sam local`` looks for them, and opens the way for its containers.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from local import samples, signing
from local.aws import Aws
from local.executions import ACCOUNT_SID
from local.relay import HOST, NETWORK, relay
from local.studio import API_KEY, Studio
from local.terminal import interruptible

STUDIO_PORT, AWS_PORT = 8801, 8802
SECRET_ID = "end-conversation/twilio"  # noqa: S105 -- its name
WEBHOOK_SECRET_ID = "end-conversation/webhook-keys"  # noqa: S105 -- its name
DEAD_LETTER_QUEUE = "end-conversation-dead-letters"


@dataclass(frozen=True)
class StandIns:
    """Twilio and AWS, and what the function needs to know to use them."""

    studio: Studio
    aws: Aws
    dead_letter_queue_url: str

    @property
    def environment(self) -> dict[str, str]:
        """The function's environment variables."""
        return {
            "TWILIO_SECRET_ID": SECRET_ID,
            "WEBHOOK_SECRET_ID": WEBHOOK_SECRET_ID,
            "TWILIO_STUDIO_BASE_URL": self.studio.url,
            "DEAD_LETTER_QUEUE_URL": self.dead_letter_queue_url,
            "POWERTOOLS_SERVICE_NAME": "end-conversation",
            "POWERTOOLS_METRICS_NAMESPACE": "EndConversation",
            **self.aws.environment,
        }


@contextlib.contextmanager
def stand_ins(studio_port: int = 0, aws_port: int = 0) -> Iterator[StandIns]:
    """Twilio without any Execution, and AWS with the secrets whose credentials and key are right there."""
    with Studio(studio_port) as studio, Aws(aws_port) as aws:
        sid, secret = API_KEY
        aws.put_secret(SECRET_ID, {"accountSid": ACCOUNT_SID, "apiKeySid": sid, "apiKeySecret": secret})
        aws.put_secret(WEBHOOK_SECRET_ID, signing.SECRET)
        queue = aws.sqs().create_queue(QueueName=DEAD_LETTER_QUEUE)
        aws.calls.clear()
        yield StandIns(studio, aws, queue["QueueUrl"])


@contextlib.contextmanager
def at_fixed_ports() -> Iterator[StandIns]:
    """The same where `sam local` looks for them, with the Executions of every sample event."""
    with stand_ins(STUDIO_PORT, AWS_PORT) as ready:
        for path in sorted(samples.EVENTS.glob("*.json")):
            samples.seed(ready.studio, samples.load(path))
        yield ready


def main() -> None:
    """Serve until interrupted."""
    try:
        with interruptible(), at_fixed_ports() as ready, contextlib.ExitStack() as stack:
            print(f"Twilio Studio: {ready.studio.url}, with {len(ready.studio.executions)} Executions")
            print(f"AWS:           {ready.aws.url}, with the secret {SECRET_ID}", flush=True)
            try:
                stack.enter_context(relay())
                print(f"sam local:     both as {HOST}, after export SAM_DOCKER_NETWORK={NETWORK}")
            except RuntimeError as error:
                print(f"sam local:     its containers cannot reach them: {error}")
            print("Ctrl-C ends it.", flush=True)
            threading.Event().wait()
    except OSError as error:
        sys.exit(f"cannot listen at 127.0.0.1, ports {STUDIO_PORT} and {AWS_PORT}: {error}")


if __name__ == "__main__":
    main()
