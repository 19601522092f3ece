"""A function that breaks a promise, for the soak to notice."""

from typing import Any

from end_conversation import app


def lying(event: Any, context: Any) -> Any:
    """Reports the first message of a batch as done without looking at it."""
    others = event["Records"][1:]
    return app.handler({"Records": others}, context) if others else {"batchItemFailures": []}
