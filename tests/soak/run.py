"""One soak, from the first command to the report."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise

from local import signing
from local.aws import Aws
from local.poller import polling
from local.rie import HANDLER
from local.stand_ins import WEBHOOK_SECRET_ID, StandIns
from local.studio import Studio
from tests.soak.faults import PUT_EVENTS, Schedule
from tests.soak.record import Record, tags
from tests.soak.report import End, Report
from tests.soak.senders import SECRET, Senders
from tests.soak.stack import AsyncInvocations, Pace, Sandbox, Worker, default, deploy, running
from tests.soak.workload import Case, Workload

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
        phases: the names of the phases; by default all of them.
        handler: the function's handler.
        environment: more environment variables of the function.
    """

    commands: int
    processes: int
    seed: int = 1
    pace: Pace = field(default_factory=Pace)
    phases: tuple[str, ...] | None = None
    handler: str = HANDLER
    environment: Mapping[str, str] = field(default_factory=dict)


def soak(plan: Plan, tell: Callable[[str], None]) -> Report:
    """Run one.

    Args:
        plan: how large.
        tell: learns how far it is.
    """
    began = time.monotonic()
    draw = random.Random(plan.seed)  # noqa: S311 -- repeatable, not secret
    record = Record()
    with ExitStack() as resources:
        studio = resources.enter_context(Studio(credentials=(), seed=plan.seed, paging="offset"))
        ready = deploy(studio, resources.enter_context(Aws()), plan.pace)
        workload = Workload(studio, plan.commands, draw)
        sandboxes: list[Sandbox] = []
        schedule = Schedule(ready, sandboxes, record, plan.pace, draw)
        ready.aws.put_secret(WEBHOOK_SECRET_ID, SECRET)
        record.canaries.plant_key(signing.KEY)
        environment = {
            **ready.environment,
            "TWILIO_SECRET_MAX_AGE_SECONDS": "2",
            "ALLOWED_FLOW_SIDS": ",".join(workload.allowed),
            "OUTCOME_EVENT_BUS": default("EventBusName"),
            **plan.environment,
        }
        # Those that work on the queue, one that answers callers, and one that is invoked asynchronously.
        workers = [
            Worker(environment, handler=plan.handler, timeout=plan.pace.timeout)
            for _ in range(plan.processes)
        ]
        api, invoked = (Sandbox(environment, timeout=plan.pace.timeout) for _ in range(2))
        sandboxes += [resources.enter_context(one) for one in (*workers, api, invoked)]
        invocations = AsyncInvocations(invoked, record, plan.pace)
        senders = Senders(ready, api, invocations, record, draw)
        phases = [one for one in schedule.phases() if plan.phases is None or one.name in plan.phases]

        def say(what: str) -> None:
            tell(
                f"{time.monotonic() - began:4.0f} s  {len(record.sent_at):6,} of {plan.commands:,} sent"
                f"  {len(record.done_at):6,} done  {_waiting(ready):5,} in the queue   {what}"
            )

        with ExitStack() as work:
            work.enter_context(schedule.rotations())
            for worker in workers:
                worker.record, worker.draw = record, draw
                work.enter_context(polling(ready, worker, lambda _: None))
            with running(invocations):
                for phase, cases in zip(phases, _portions(workload.cases, len(phases)), strict=True):
                    with phase.trouble():
                        over = time.monotonic() + phase.seconds
                        senders.send(cases, phase.seconds)
                        time.sleep(max(0.0, over - time.monotonic()))
                    say(phase.name)
                    _collect(ready, record)
                    while _waiting(ready) > BACKLOG:
                        time.sleep(POLL)
                senders.finish(plan.pace.patience)
            invocations.redrive()
            give_up = time.monotonic() + plan.pace.patience
            while (left := _waiting(ready)) and time.monotonic() < give_up:
                time.sleep(POLL)
            say("done")
        for sandbox in sandboxes:
            record.search("the emulator's log", sandbox.emulator_log())
        _collect(ready, record)
        for request in studio.requests:
            record.count("Twilio: 401", request.status == 401)
        calls = [call for call in ready.aws.calls if call.operation == PUT_EVENTS and call.answer is None]
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
    sqs = ready.aws.client("sqs")
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


def _portions(cases: list[Case], number: int) -> list[list[Case]]:
    size, rest = divmod(len(cases), number)
    bounds = [size * each + min(each, rest) for each in range(number + 1)]
    return [cases[first:last] for first, last in pairwise(bounds)]
