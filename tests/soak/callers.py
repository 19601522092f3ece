"""The callers of the stack, by every way in; some send a command twice, all of them until it is accepted."""

import json
import random
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from local import signing
from local.gateway import event_of
from local.stand_ins import StandIns
from tests.soak.report import Record
from tests.soak.stack import AsyncInvocations, Sandbox, default
from tests.soak.workload import Case

MAX_ENTRIES = 10
"""Entries that EventBridge and SQS take in one request."""

REPEATED = 0.05
"""The share of commands that their caller sends again, some time later."""

_FIELDS = ("flow_sid", "execution_sid", "contact", "occurred_at", "account_sid", "conversation_id", "reason")
WEBHOOK_SECRET = {
    "sources": {
        "soak": {
            "keys": [signing.KEY],
            "when": "event == 'closed'",
            "command": {field: f"conversation.{field}" for field in _FIELDS},
        }
    }
}


class Callers:
    """They send cases to EventBridge, to SQS, to the HTTP API (the sandbox `api`), and to Lambda."""

    def __init__(
        self,
        ready: StandIns,
        api: Sandbox,
        invocations: AsyncInvocations,
        record: Record,
        draw: random.Random,
    ) -> None:
        self._ready, self._api, self._invocations = ready, api, invocations
        self._record, self._draw = record, draw
        self._again: list[Case] = []
        self._refused: list[Case] = []

    def send(self, cases: Sequence[Case], seconds: float) -> None:
        """Send these, evenly over the time, and some of the earlier ones again."""
        sending = [*cases, *self._again, *self._refused]
        self._again = [case for case in cases if case.repeatable and self._draw.random() < REPEATED]
        self._refused = []
        self._draw.shuffle(sending)
        began = time.monotonic()
        for first in range(0, len(sending), MAX_ENTRIES):
            time.sleep(max(0.0, began + seconds * first / len(sending) - time.monotonic()))
            if time.monotonic() > began + 2 * seconds:
                # On a slow machine the rest waits, or the phase would last too long.
                self._refused += sending[first:]
                break
            chunk = sending[first : first + MAX_ENTRIES]
            for case in chunk:
                self._record.sent(case.tag)
                if case.way == "invoke":
                    self._invocations.send(case)
                elif case.way in {"http", "source"}:
                    self._call(case)
            self._put_events([case for case in chunk if case.way == "rule"])
            self._send_messages([case for case in chunk if case.way == "queue"])

    def finish(self, seconds: float) -> None:
        """Send what was refused until it is accepted."""
        give_up = time.monotonic() + seconds
        while self._refused and time.monotonic() < give_up:
            time.sleep(1)
            self.send([], 1.0)

    def _put_events(self, cases: list[Case]) -> None:
        entries = [
            {
                "EventBusName": default("EventBusName"),
                "Source": "somebody.else" if case.outcome == "ignored" else default("EventSource"),
                "DetailType": "EndConversation",
                "Detail": case.text,
            }
            for case in cases
        ]
        if entries and self._ready.aws.client("events").put_events(Entries=entries)["FailedEntryCount"]:
            raise RuntimeError("EventBridge refuses an event")

    def _send_messages(self, cases: list[Case]) -> None:
        # By number: what waited on a slow machine may be in a chunk twice.
        entries = [{"Id": str(number), "MessageBody": case.text} for number, case in enumerate(cases)]
        batch = {"QueueUrl": self._ready.queue_url, "Entries": entries}
        if entries and self._ready.aws.client("sqs").send_message_batch(**batch).get("Failed"):
            raise RuntimeError("SQS refuses a message")

    def _call(self, case: Case) -> None:
        outcome = self._api.invoke(_request(case))
        self._record.watch(outcome)
        status, code = HTTPStatus.BAD_GATEWAY, None
        if outcome.error is None:
            status, code = outcome.answer["statusCode"], json.loads(outcome.answer["body"]).get("code")
        self._record.count(f"HTTP {int(status)} {code or ''}".rstrip())
        if status != HTTPStatus.ACCEPTED:
            self._refused.append(case)


def _request(case: Case) -> dict[str, Any] | None:
    """What API Gateway makes of the caller's request."""
    path, body, headers = "/conversations/end", case.text.encode(), {"prefer": "respond-async"}
    if case.way == "source":
        body = json.dumps({"event": "closed", "conversation": case.body}).encode()
        path, headers = "/webhooks/soak", signing.signed(body)
    headers["content-type"] = "application/json"
    return event_of("POST", path, headers.items(), body, "192.0.2.1")
