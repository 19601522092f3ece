"""Functions that break one promise each, for a soak to notice."""

import json
import os
from datetime import timedelta
from typing import Any

from end_conversation import app
from end_conversation.aws import client
from end_conversation.twilio.studio import Studio

_active = Studio.active


def losing(event: Any, context: Any) -> Any:
    """Says that it has done what it has not even looked at."""
    others = event["Records"][1:]
    return app.handler({"Records": others}, context) if others else {"batchItemFailures": []}


def careless(event: Any, context: Any) -> Any:
    """Ends also what began after the conversation was over."""
    Studio.active = lambda self, flow_sid, until, deadline: _active(
        self, flow_sid, until + timedelta(days=1), deadline
    )
    return app.handler(event, context)


def idle(event: Any, _context: Any) -> Any:
    """Does nothing, and says so."""
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in event["Records"]]}


def overcautious(event: Any, context: Any) -> Any:
    """Puts aside what it has done."""
    for record in event["Records"]:
        client("sqs").send_message(QueueUrl=os.environ["DEAD_LETTER_QUEUE_URL"], MessageBody=record["body"])
    return app.handler(event, context)


def talkative(event: Any, context: Any) -> Any:
    """Logs what it is given."""
    print(json.dumps({"message": event["Records"][0]["body"]}))
    return app.handler(event, context)


def indiscreet(event: Any, context: Any) -> Any:
    """Tells the credentials to whom it answers."""
    answer = app.handler(event, context)
    return answer | {"with": app._service()._credentials._value.authorization}
