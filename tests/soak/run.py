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

from local import signing
from local.rie import HANDLER
from local.stand_ins import ACCOUNT_SECRET_PREFIX, SECRET_ID, WEBHOOK_SECRET_ID
from local.studio import Studio, flow_of
from tests.soak.cloud import Cloud, Stack, deploy, take
from tests.soak.ledger import Ledger
from tests.soak.orders import Book, Order, tags
from tests.soak.pace import Pace
from tests.soak.poller import Poller
from tests.soak.sandbox import Sandbox
from tests.soak.sender import SECRET, Sender
from tests.soak.spells import Weather
from tests.soak.verdict import End, Verdict

BACKLOG = 250
"""Messages that may wait before no more are sent: moto's queues get slow when they are long."""

POLL = 0.2
"""Seconds between two looks at the queue."""


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
        cloud.put_secret(WEBHOOK_SECRET_ID, SECRET)
        ledger.canaries.plant_key(signing.KEY)
        environment = {
            "TWILIO_SECRET_ID": SECRET_ID,
            "TWILIO_ACCOUNT_SECRET_PREFIX": ACCOUNT_SECRET_PREFIX,
            "TWILIO_SECRET_MAX_AGE_SECONDS": "2",
            "TWILIO_STUDIO_BASE_URL": studio.url,
            "WEBHOOK_SECRET_ID": WEBHOOK_SECRET_ID,
            "ALLOWED_FLOW_SIDS": ",".join(book.allowed),
            "QUEUE_URL": stack.queue_url,
            "DEAD_LETTER_QUEUE_URL": stack.dead_letter_queue_url,
            "OUTCOME_EVENT_BUS": stack.event_bus,
            **cloud.environment,
            **plan.environment,
        }
        # Those that work on the queue, and one that answers callers.
        for handler in (*[plan.handler] * plan.processes, HANDLER):
            sandbox = Sandbox(environment, handler=handler, timeout=plan.pace.timeout)
            sandboxes.append(resources.enter_context(sandbox))
        spells = [spell for spell in weather.spells() if plan.spells is None or spell.name in plan.spells]
        *workers, door = sandboxes
        sender = Sender(cloud, stack, door, ledger, random.Random(plan.seed))  # noqa: S311 -- as above
        sqs = cloud.client("sqs")
        with weather.rotations(), _polling(cloud, stack, workers, ledger, plan.seed) as pollers:
            waiting = partial(_waiting, sqs, stack, pollers)

            def say(what: str) -> None:
                tell(
                    f"{time.monotonic() - began:4.0f} s  {len(ledger.sent_at):6,} of {plan.commands:,} sent"
                    f"  {len(ledger.done_at):6,} done  {waiting():5,} in the queue   {what}"
                )

            for spell, orders in zip(spells, _portions(book.orders, len(spells)), strict=True):
                with spell.cast():
                    over = time.monotonic() + spell.seconds
                    sender.send(orders, spell.seconds)
                    time.sleep(max(0.0, over - time.monotonic()))
                say(spell.name)
                for text in take(sqs, stack.outcomes_url):
                    ledger.told(text)
                while waiting() > BACKLOG:
                    time.sleep(POLL)
            sender.finish(plan.pace.patience)
            give_up = time.monotonic() + plan.pace.patience
            while (left := waiting()) and time.monotonic() < give_up:
                time.sleep(POLL)
            say("done")
        for sandbox in sandboxes:
            ledger.search("the emulator's log", sandbox.emulator_log())
        for text in take(sqs, stack.outcomes_url):
            ledger.told(text)
        ledger.happened.update(cloud.happened)
        ledger.count(
            "Twilio: credentials refused",
            sum(request.status == 401 for request in studio.requests),
        )
        end = End(
            dead_letters=[next(tags(text), text[:200]) for text in take(sqs, stack.dead_letter_queue_url)],
            unpublished=cloud.unpublished,
            left=left,
            asked=len(studio.requests),
            foreign=list(_foreign(studio, weather.owners)),
            seconds=time.monotonic() - began,
        )
    return Verdict(book, ledger, spells, end)


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


def _foreign(studio: Studio, owners: Mapping[str, str]) -> Iterator[str]:
    """Requests with one account's credentials, right or wrong, about another account's Flow."""
    for request in studio.requests:
        account = studio.executions.account_of(flow_of(request.path) or "")
        if account and request.user and account != (owner := owners[request.user]):
            yield f"{request.method} {request.path} of {account} in the name of {owner}"


def _portions(orders: list[Order], number: int) -> list[list[Order]]:
    size, rest = divmod(len(orders), number)
    bounds = [size * each + min(each, rest) for each in range(number + 1)]
    return [orders[first:last] for first, last in pairwise(bounds)]
