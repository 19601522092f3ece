"""Functions that break a promise, for fuzzing and soaking to notice."""

import json
from typing import Any

from end_conversation import app


def talkative(event: Any, context: Any) -> Any:
    """Logs what it is given."""
    print(json.dumps({"message": "received", "event": event}))
    return app.handler(event, context)


def losing(event: Any, context: Any) -> Any:
    """Reports the first message of a batch as done without having looked at it."""
    others = event["Records"][1:]
    return app.handler({"Records": others}, context) if others else {"batchItemFailures": []}
