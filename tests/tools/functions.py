"""Functions that break a promise, for fuzzing and soaking to notice."""

import json
from typing import Any

from end_conversation import app
from end_conversation.twilio.accounts import Accounts


def talkative(event: Any, context: Any) -> Any:
    """Logs what it is given."""
    print(json.dumps({"message": "received", "event": event}))
    return app.handler(event, context)


def losing(event: Any, context: Any) -> Any:
    """Reports the first message of a batch as done without having looked at it."""
    others = event["Records"][1:]
    return app.handler({"Records": others}, context) if others else {"batchItemFailures": []}


def confused(event: Any, context: Any) -> Any:
    """Works for every account with the default account's credentials."""
    Accounts.get = lambda accounts, *_: accounts.default  # type: ignore[method-assign]
    return app.handler(event, context)
