"""The callers of the stack, by every way in; some send a command twice, and all of them until it is taken."""

import http.client
import json
import random
import time
from typing import Any

from local import signing
from local.gateway import event_of
from tests.soak.cloud import Cloud, Stack
from tests.soak.ledger import Ledger
from tests.soak.orders import Order
from tests.soak.sandbox import Sandbox

CHUNK = 10
"""Entries that EventBridge and SQS take in one request."""

REPEATED = 0.05
"""The share of commands that their sender sends again, some time later."""

_FIELDS = ("flow_sid", "execution_sid", "contact", "occurred_at", "account_sid", "conversation_id", "reason")

SECRET = {
    "sources": {
        "soak": {
            "keys": [signing.KEY],
            "when": "event == 'closed'",
            "command": {field: f"conversation.{field}" for field in _FIELDS},
        }
    }
}
"""The secret of the webhooks: a source of the proof `standard`."""


class Sender:
    """Sends orders.

    Args:
        cloud: where EventBridge and SQS are.
        stack: what to send to.
        door: the function behind the HTTP API.
        ledger: is told what is sent, and what callers are answered.
        draw: random numbers.
    """

    def __init__(
        self, cloud: Cloud, stack: Stack, door: Sandbox, ledger: Ledger, draw: random.Random
    ) -> None:
        self._events = cloud.client("events")
        self._sqs = cloud.client("sqs")
        self._stack = stack
        self._door = door
        self._ledger = ledger
        self._draw = draw
        self._again: list[Order] = []
        self._refused: list[Order] = []

    def send(self, orders: list[Order], seconds: float) -> None:
        """Send these, evenly over the time, and some of before again."""
        repeated = self._again
        self._again = [order for order in orders if order.repeatable and self._draw.random() < REPEATED]
        orders = [*orders, *repeated, *self._refused]
        self._refused = []
        self._draw.shuffle(orders)
        began = time.monotonic()
        for first in range(0, len(orders), CHUNK):
            due = began + seconds * first / len(orders)
            time.sleep(max(0.0, due - time.monotonic()))
            chunk = orders[first : first + CHUNK]
            for order in chunk:
                self._ledger.sent(order)
            self._put_events([order for order in chunk if order.way == "rule"])
            self._send_messages([order for order in chunk if order.way == "queue"])
            for order in chunk:
                if order.way in ("async", "source"):
                    self._call(order)

    def finish(self, seconds: float) -> None:
        """Send what was refused until it is taken."""
        give_up = time.monotonic() + seconds
        while self._refused and time.monotonic() < give_up:
            self.send([], 1.0)

    def _put_events(self, orders: list[Order]) -> None:
        entries = [
            {
                "EventBusName": self._stack.event_bus,
                "Source": "somebody.else" if order.fate == "ignored" else self._stack.source,
                "DetailType": "EndConversation",
                "Detail": order.text,
            }
            for order in orders
        ]
        if entries and self._events.put_events(Entries=entries)["FailedEntryCount"]:
            raise RuntimeError("EventBridge refuses an event")

    def _send_messages(self, orders: list[Order]) -> None:
        entries = [{"Id": order.tag, "MessageBody": order.text} for order in orders]
        if entries and self._sqs.send_message_batch(QueueUrl=self._stack.queue_url, Entries=entries).get(
            "Failed"
        ):
            raise RuntimeError("SQS refuses a message")

    def _call(self, order: Order) -> None:
        status, code = 502, None
        try:
            outcome = self._door.invoke(_request(order))
        except (OSError, http.client.HTTPException):
            pass
        else:
            self._ledger.watch(outcome)
            if outcome.error is None:
                status, code = outcome.answer["statusCode"], json.loads(outcome.answer["body"]).get("code")
        self._ledger.count(f"HTTP {status} {code or ''}".rstrip())
        if status != http.client.ACCEPTED:
            self._refused.append(order)


def _request(order: Order) -> dict[str, Any] | None:
    """What API Gateway makes of the caller's request."""
    if order.way == "source":
        body = json.dumps({"event": "closed", "conversation": order.body}).encode()
        path, headers = "/webhooks/soak", signing.signed(body)
    else:
        body = order.text.encode()
        path, headers = "/conversations/end", {"prefer": "respond-async"}
    headers["content-type"] = "application/json"
    return event_of("POST", path, headers.items(), body, "192.0.2.1")
