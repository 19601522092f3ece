"""One soak, from the first command to the report; ``make soak`` runs this."""

import os
import random
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from local import signing
from local.aws import Aws
from local.poller import polling
from local.rie import HANDLER
from local.stand_ins import WEBHOOK_SECRET_ID, StandIns, received
from local.studio import Studio
from local.terminal import interruptible
from tests.soak.callers import WEBHOOK_SECRET, Callers
from tests.soak.faults import PHASES, Schedule
from tests.soak.report import Record, Report, tags
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
    seed: int = 1,
    pace: Pace | None = None,
    names: tuple[str, ...] | None = None,
    handler: str = HANDLER,
    environment: Mapping[str, str] | None = None,
) -> Report:
    """Run one, and print how far it is.

    Args:
        commands: how many there are.
        processes: how many of them work on the queue at once.
        seed: of all random numbers.
        pace: how fast time runs.
        names: of the phases; by default all of them.
        handler: of the processes that work on the queue.
        environment: more environment variables of the function.
    """
    began, draw, record, pace = time.monotonic(), random.Random(seed), Record(), pace or Pace()  # noqa: S311 -- repeatable, not secret
    phases = [one for one in PHASES if names is None or one.name in names]
    with ExitStack() as resources:
        studio = resources.enter_context(Studio(credentials=(), seed=seed, paging="offset"))
        ready = deploy(studio, resources.enter_context(Aws()), pace)
        workload = Workload(studio, commands, draw)
        sandboxes: list[Sandbox] = []
        schedule = Schedule(ready, sandboxes, record, pace, draw)
        ready.aws.put_secret(WEBHOOK_SECRET_ID, WEBHOOK_SECRET)
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
        callers = Callers(ready, api, invocations, record, draw)

        def say(what: str) -> None:
            print(
                f"{time.monotonic() - began:4.0f} s  {len(record.sent_at):6,} of {commands:,} sent"
                f"  {len(record.done_at):6,} done  {_waiting(ready):5,} in the queue   {what}",
                flush=True,
            )

        with ExitStack() as work:
            work.enter_context(schedule.rotations())
            for worker in workers:
                worker.record, worker.draw = record, draw
                work.enter_context(polling(ready, worker, lambda _: None))
            for number, phase in enumerate(phases):
                with schedule.trouble(phase):
                    seconds = pace.outage if phase.is_outage else pace.phase
                    over = time.monotonic() + seconds
                    first, last = (commands * each // len(phases) for each in (number, number + 1))
                    callers.send(workload.cases[first:last], seconds)
                    time.sleep(max(0.0, over - time.monotonic()))
                    # On a slow machine it may take a while until something goes wrong.
                    while not record.happened[phase.evidence] and time.monotonic() < over + EFFECT:
                        time.sleep(POLL)
                say(phase.name)
                _collect(ready, record)
                while _waiting(ready) > BACKLOG:
                    time.sleep(POLL)
            callers.finish(pace.patience)
            invocations.finish(pace.patience)
            give_up = time.monotonic() + pace.patience
            while (left := _waiting(ready)) and time.monotonic() < give_up:
                time.sleep(POLL)
            say("done")
        for sandbox in sandboxes:
            record.search("the emulator's log", sandbox.emulator_log())
        _collect(ready, record)
        _close(ready, record)
        record.left, record.seconds = left, time.monotonic() - began
    return Report(workload, record, {phase.name: phase.evidence for phase in phases})


def _waiting(ready: StandIns) -> int:
    """How many messages are in the queue."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    sqs: Any = ready.aws.client("sqs")
    found = sqs.get_queue_attributes(QueueUrl=ready.queue_url, AttributeNames=names)
    return sum(int(found["Attributes"][name]) for name in names)


def _collect(ready: StandIns, record: Record) -> None:
    for event in ready.new_outcomes():
        record.published(event)


def _close(ready: StandIns, record: Record) -> None:
    """Add what the stand-ins know at the end."""
    letters = received(ready.aws, ready.dead_letter_queue_url)
    record.dead_letters = [next(iter(tags(text)), text[:200]) for text in letters]
    for call in ready.aws.calls:
        if call.operation == "PutEvents" and call.answer is None:
            record.unpublished.update(tags(str(call.request)))
    record.requests = len(ready.studio.requests)
    record.foreign = [
        f"{one.method} {one.path} as {one.account_sid}" for one in ready.studio.foreign_requests
    ]


if __name__ == "__main__":
    with interruptible():
        commands, seed = (int(os.environ.get(name) or 0) for name in ("COMMANDS", "SEED"))
        report = soak(commands or 1500, default("MaximumConcurrency"), seed=seed or 1)
        print(f"\n{report}")
        sys.exit(1 if report.broken else 0)
    sys.exit("interrupted")
