"""One soak, from the first command to the verdict."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from local.rie import HANDLER
from local.stand_ins import SECRET_ID
from local.studio import Studio
from tests.soak.cloud import Cloud, Stack, deploy
from tests.soak.ledger import Ledger
from tests.soak.orders import Book, Order, tags
from tests.soak.pace import Pace
from tests.soak.poller import Poller
from tests.soak.sandbox import Sandbox
from tests.soak.spells import Spell, Weather
from tests.soak.verdict import End, Verdict

CHUNK = 10
"""Entries that EventBridge and SQS take in one request."""

BACKLOG = 250
"""Messages that may wait before no more are sent: moto's queues get slow when they are long."""

POLL = 0.2
"""Seconds between two looks at the queue."""

REPEATED = 0.05
"""The share of commands that their sender sends again, some time later."""


@dataclass(frozen=True)
class Plan:
    """How large a soak is.

    Attributes:
        commands: how many there are.
        processes: how many of them work on the queue at once.
        seed: of all random numbers.
        pace: how fast time runs.
        spells: the names of the spells to cast; by default all of them.
        handler: the function's handler.
        environment: more environment variables of the function.
    """

    commands: int
    processes: int
    seed: int = 1
    pace: Pace = field(default_factory=Pace)
    spells: tuple[str, ...] | None = None
    handler: str = HANDLER
    environment: Mapping[str, str] = field(default_factory=dict)


def soak(plan: Plan, tell: Callable[[str], None]) -> Verdict:
    """Run one.

    Args:
        plan: how large.
        tell: is told how far it is.
    """
    began = time.monotonic()
    draw = random.Random(plan.seed)  # noqa: S311 -- repeatable, not secret
    ledger = Ledger()
    with ExitStack() as resources:
        studio = resources.enter_context(Studio(credentials=(), seed=plan.seed))
        cloud = resources.enter_context(Cloud())
        stack = deploy(cloud, plan.pace)
        book = Book(studio, plan.commands, draw)
        book.write()
        sandboxes: list[Sandbox] = []
        weather = Weather(studio, cloud, sandboxes, ledger, plan.pace, draw)
        weather.rotate()
        # What goes before is no part of it.
        ledger.happened.clear()
        environment = {
            "TWILIO_SECRET_ID": SECRET_ID,
            "TWILIO_SECRET_MAX_AGE_SECONDS": "2",
            "TWILIO_STUDIO_BASE_URL": studio.url,
            "ALLOWED_FLOW_SIDS": ",".join(book.flows),
            "DEAD_LETTER_QUEUE_URL": stack.dead_letter_queue_url,
            **cloud.environment,
            **plan.environment,
        }
        for _ in range(plan.processes):
            sandbox = Sandbox(environment, handler=plan.handler, timeout=plan.pace.timeout)
            sandboxes.append(resources.enter_context(sandbox))
        spells = [spell for spell in weather.spells() if plan.spells is None or spell.name in plan.spells]
        sender = _Sender(cloud, stack, ledger, random.Random(plan.seed))  # noqa: S311 -- as above
        with _polling(cloud, stack, sandboxes, ledger, plan.seed) as pollers:
            waiting = partial(_waiting, cloud.client("sqs"), stack, pollers)

            def say(what: str) -> None:
                tell(
                    f"{time.monotonic() - began:4.0f} s  {len(ledger.sent_at):6,} of {plan.commands:,} sent"
                    f"  {len(ledger.done_at):6,} done  {waiting():5,} in the queue   {what}"
                )

            for spell, orders in zip(spells, _portions(book.orders, len(spells)), strict=True):
                with spell.cast():
                    over = time.monotonic() + spell.seconds
                    sender.send(orders, spell)
                    time.sleep(max(0.0, over - time.monotonic()))
                say(spell.name)
                while waiting() > BACKLOG:
                    time.sleep(POLL)
            give_up = time.monotonic() + plan.pace.patience
            while (left := waiting()) and time.monotonic() < give_up:
                time.sleep(POLL)
            say("done")
        for sandbox in sandboxes:
            ledger.search("the emulator's log", sandbox.emulator_log())
        for what, number in cloud.happened.items():
            ledger.count(what, number)
        ledger.count(
            "Twilio: credentials refused",
            sum(request.status == 401 for request in studio.requests),
        )
        end = End(
            dead_letters=list(_dead_letters(cloud, stack)),
            left=left,
            asked=len(studio.requests),
            seconds=time.monotonic() - began,
        )
    return Verdict(book, ledger, spells, end)


class _Sender:
    """A caller of the stack: through EventBridge, or with messages of its own; some it sends twice."""

    def __init__(self, cloud: Cloud, stack: Stack, ledger: Ledger, draw: random.Random) -> None:
        self._events = cloud.client("events")
        self._sqs = cloud.client("sqs")
        self._stack = stack
        self._ledger = ledger
        self._draw = draw
        self._again: list[Order] = []

    def send(self, orders: list[Order], spell: Spell) -> None:
        """Send these, evenly over the time that a spell lasts, and some of before again."""
        repeated = self._again
        self._again = [order for order in orders if order.repeatable and self._draw.random() < REPEATED]
        orders = [*orders, *repeated]
        self._draw.shuffle(orders)
        began = time.monotonic()
        for first in range(0, len(orders), CHUNK):
            due = began + spell.seconds * first / len(orders)
            time.sleep(max(0.0, due - time.monotonic()))
            chunk = orders[first : first + CHUNK]
            for order in chunk:
                self._ledger.sent(order)
            self._put_events([order for order in chunk if order.by_rule])
            self._send_messages([order for order in chunk if not order.by_rule])

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


def _waiting(sqs: Any, stack: Stack, pollers: list[Future[None]]) -> int:
    """The messages in the queue; raises what a poller raised."""
    for poller in pollers:
        if poller.done():
            poller.result()
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    found = sqs.get_queue_attributes(QueueUrl=stack.queue_url, AttributeNames=list(names))
    return sum(int(found["Attributes"][name]) for name in names)


@contextmanager
def _polling(
    cloud: Cloud, stack: Stack, sandboxes: list[Sandbox], ledger: Ledger, seed: int
) -> Iterator[list[Future[None]]]:
    stopped = threading.Event()
    with ThreadPoolExecutor(len(sandboxes)) as threads:
        try:
            yield [
                threads.submit(
                    Poller(cloud, stack, sandbox, ledger, random.Random(f"{seed} {number}"), stopped).run  # noqa: S311 -- as above
                )
                for number, sandbox in enumerate(sandboxes)
            ]
        finally:
            stopped.set()


def _portions(orders: list[Order], number: int) -> list[list[Order]]:
    size, rest = divmod(len(orders), number)
    bounds = [size * each + min(each, rest) for each in range(number + 1)]
    return [orders[first:last] for first, last in pairwise(bounds)]


def _dead_letters(cloud: Cloud, stack: Stack) -> Iterator[str]:
    sqs, url = cloud.client("sqs"), stack.dead_letter_queue_url
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=CHUNK).get("Messages"):
        for message in messages:
            yield next(tags(message["Body"]), message["Body"][:200])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
