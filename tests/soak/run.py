"""One soak, from the first command to the report."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from local import signing
from local.aws import Aws
from local.poller import polling
from local.rie import HANDLER
from local.stand_ins import WEBHOOK_SECRET_ID, StandIns
from local.studio import Studio
from tests.soak.faults import Schedule
from tests.soak.record import Record, tags
from tests.soak.report import End, Report
from tests.soak.senders import SECRET, Senders
from tests.soak.stack import AsyncInvocations, Pace, Sandbox, Worker, default, deploy
from tests.soak.workload import Workload

BACKLOG = 250
"""Messages that may wait before no more are sent: moto's queues get slow when they are long."""

EFFECT = 30.0
"""Seconds that a phase goes on if nothing went wrong in it."""

POLL = 0.2
"""Seconds between two looks at the queue."""


def soak(
    commands: int,
    processes: int,
    *,
    tell: Callable[[str], None],
    seed: int = 1,
    pace: Pace | None = None,
    names: tuple[str, ...] | None = None,
    handler: str = HANDLER,
    environment: Mapping[str, str] | None = None,
) -> Report:
    """Run one.

    Args:
        commands: how many there are.
        processes: how many of them work on the queue at once.
        tell: learns how far it is.
        seed: of all random numbers.
        pace: how fast time runs.
        names: of the phases; by default all of them.
        handler: of the processes that work on the queue.
        environment: more environment variables of the function.
    """
    began, draw, record, pace = time.monotonic(), random.Random(seed), Record(), pace or Pace()  # noqa: S311 -- repeatable, not secret
    with ExitStack() as resources:
        studio = resources.enter_context(Studio(credentials=(), seed=seed, paging="offset"))
        ready = deploy(studio, resources.enter_context(Aws()), pace)
        workload = Workload(studio, commands, draw)
        sandboxes: list[Sandbox] = []
        schedule = Schedule(ready, sandboxes, record, pace, draw)
        phases = [one for one in schedule.phases() if names is None or one.name in names]
        ready.aws.put_secret(WEBHOOK_SECRET_ID, SECRET)
        record.canaries.plant_key(signing.KEY)
        of_function = {
            **ready.environment,
            "TWILIO_SECRET_MAX_AGE_SECONDS": "2",
            "ALLOWED_FLOW_SIDS": ",".join(workload.allowed),
            "OUTCOME_EVENT_BUS": default("EventBusName"),
            **(environment or {}),
        }
        workers = [Worker(of_function, handler=handler, timeout=pace.timeout) for _ in range(processes)]
        # One answers callers, and one is invoked asynchronously.
        api, invoked = (Sandbox(of_function, timeout=pace.timeout) for _ in range(2))
        sandboxes += [resources.enter_context(one) for one in (*workers, api, invoked)]
        with ThreadPoolExecutor() as threads:
            list(threads.map(Sandbox.start, sandboxes))
        invocations = AsyncInvocations(invoked, record, pace)
        senders = Senders(ready, api, invocations, record, draw)

        def say(what: str) -> None:
            tell(
                f"{time.monotonic() - began:4.0f} s  {len(record.sent_at):6,} of {commands:,} sent"
                f"  {len(record.done_at):6,} done  {_waiting(ready):5,} in the queue   {what}"
            )

        with ExitStack() as work:
            work.enter_context(schedule.rotations())
            for worker in workers:
                worker.record, worker.draw = record, draw
                work.enter_context(polling(ready, worker, lambda _: None))
            with invocations.running():
                for number, phase in enumerate(phases):
                    with phase.trouble():
                        over = time.monotonic() + phase.seconds
                        first, last = (commands * each // len(phases) for each in (number, number + 1))
                        senders.send(workload.cases[first:last], phase.seconds)
                        time.sleep(max(0.0, over - time.monotonic()))
                        # On a slow machine it may take a while until something goes wrong.
                        while not record.happened[phase.evidence] and time.monotonic() < over + EFFECT:
                            time.sleep(POLL)
                    say(phase.name)
                    _collect(ready, record)
                    while _waiting(ready) > BACKLOG:
                        time.sleep(POLL)
                senders.finish(pace.patience)
            invocations.redrive(pace.patience)
            give_up = time.monotonic() + pace.patience
            while (left := _waiting(ready)) and time.monotonic() < give_up:
                time.sleep(POLL)
            say("done")
        for sandbox in sandboxes:
            record.search("the emulator's log", sandbox.emulator_log())
        _collect(ready, record)
        calls = [call for call in ready.aws.calls if call.operation == "PutEvents" and call.answer is None]
        end = End(
            dead_letters=[next(tags(text), text[:200]) for text in _take(ready, ready.dead_letter_queue_url)],
            unpublished=[str(call.request) for call in calls],
            left=left,
            requests=len(studio.requests),
            foreign=[f"{one.method} {one.path} as {one.account_sid}" for one in studio.foreign_requests],
            seconds=time.monotonic() - began,
        )
    return Report(workload, record, phases, end)


def _waiting(ready: StandIns) -> int:
    """How many messages are in the queue."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    sqs: Any = ready.aws.client("sqs")
    found = sqs.get_queue_attributes(QueueUrl=ready.queue_url, AttributeNames=names)
    return sum(int(found["Attributes"][name]) for name in names)


def _collect(ready: StandIns, record: Record) -> None:
    for event in ready.new_outcomes():
        record.published(event)


def _take(ready: StandIns, url: str) -> Iterator[str]:
    """The bodies of all messages in a queue, which is empty then."""
    sqs = ready.aws.client("sqs")
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            yield message["Body"]
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
