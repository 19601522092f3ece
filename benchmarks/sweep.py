"""``make bench-sweep``: what lists of many Executions cost, beside loops with Twilio's SDK."""

import argparse
import contextlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import missed, processes, stand_in, trees
from benchmarks.processes import Plan, Report
from benchmarks.tables import table
from local.studio import Latency, Studio

FLOW_SID = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
LATENCY = Latency()
SECONDS = 29.5
"""Of an invocation."""


@dataclass(frozen=True)
class Case:
    """What is done in a Flow with one Execution for each contact, begun over three days.

    Attributes:
        active: Executions in the Flow.
        contacts: whose Executions are to be ended; none: a sweep ends at least the 1,000 oldest.
        processes: share the contacts; more than one contact come in batches of ten.
        with_sdk: whether the loop with Twilio's SDK does the same, which may take too long.
        context: bytes of each Execution's context.
        latency: Twilio's.
        max_concurrency: requests at once, beyond which Twilio answers 429.
        seconds: limit, of the wall, from the handler's import to its last answer.
        pages: limit, of list requests.
        memory: limit, in MB, of each process.
    """

    active: int
    contacts: int = 1
    processes: int = 1
    with_sdk: bool = False
    context: int = 0
    latency: Latency | None = LATENCY
    max_concurrency: int | None = None
    seconds: float = float("inf")
    pages: float = float("inf")
    memory: float = float("inf")

    def plans(self) -> list[Plan]:
        """For each process."""
        if not self.contacts:
            return [Plan([{"flow_sids": [FLOW_SID], "older_than_minutes": 1}], seconds=200)]
        commands = [{"flow_sid": FLOW_SID, "contact": contact} for contact in self.names()]
        if self.contacts == 1:
            return [Plan(commands, seconds=SECONDS)]
        events = [_batch(commands[begin : begin + 10]) for begin in range(0, len(commands), 10)]
        return [Plan(events[first :: self.processes], seconds=SECONDS) for first in range(self.processes)]

    def names(self) -> list[str]:
        """The contacts, from all over the list."""
        if not self.contacts:
            return [contact(number) for number in range(max(0, self.active - 1000), self.active)]
        step = self.active // (self.contacts + 1)
        return [contact(step * (number + 1)) for number in range(self.contacts)]


@dataclass(frozen=True)
class Measured:
    """The measurements of a `Case`, and how many of its contacts still have an Execution."""

    seconds: float
    pages: int
    memory: float
    failed: int

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.pages} list requests, {self.memory:.0f} MB, {self.failed} failed"

    def is_within(self, case: Case) -> bool:
        """Whether the limits are kept."""
        limits = ((self.seconds, case.seconds), (self.pages, case.pages), (self.memory, case.memory))
        return not self.failed and all(measured <= limit for measured, limit in limits)


CASES = {
    "one contact, 1,000 active": Case(1_000, with_sdk=True, seconds=1.4, pages=1),
    "one contact, 10,000 active": Case(10_000, with_sdk=True, seconds=2.6, pages=15),
    "one contact, 50,000 active": Case(50_000, with_sdk=True, seconds=8, pages=75),
    "one contact, 100,000 active": Case(100_000, with_sdk=True, seconds=15, pages=150),
    "batch of ten contacts, 10,000 active": Case(10_000, 10, with_sdk=True, seconds=2.8, pages=14),
    "batch of ten contacts, 30,000 active": Case(30_000, 10),
    "1,000 commands, 10,000 active, 5 processes": Case(10_000, 1_000, 5, seconds=10, pages=150),
    "100 commands, 10,000 active, 10 processes, 10 requests at once": Case(
        10_000, 100, 10, max_concurrency=10
    ),
    "sweep of 1,000 stuck": Case(1_000, 0, with_sdk=True, seconds=12),
    "sweep of 300,000 stuck, no latency": Case(300_000, 0, latency=None, memory=200),
    "batch of ten contacts, contexts of 20 kB": Case(3_000, 10, with_sdk=True, context=20_000, memory=250),
}


def contact(number: int) -> str:
    """Of one Execution."""
    return f"whatsapp:+1500{number:07}"


class Bench:
    """Measures cases, each with a fresh stand-in.

    Attributes:
        stand_in_share: of a processor, that the stand-in took at most.
    """

    def __init__(self, python: Path, ours: trees.Tree, sdk: trees.Tree, environ: dict[str, str]) -> None:
        self._python = python
        self._ours = ours
        self._sdk = replace(sdk, handler="lists.handler")
        self._environ = environ
        self.stand_in_share = 0.0

    def measure(self, case: Case, *, sdk: bool = False) -> Measured:
        """The function, or the loop with Twilio's SDK."""
        sweep = replace(self._ours, handler="end_conversation.sweep.handler")
        tree = self._sdk if sdk else self._ours if case.contacts else sweep
        plans = case.plans()
        with _studio(case) as (url, ask), ThreadPoolExecutor(len(plans)) as threads:
            environ = self._environ | {"TWILIO_STUDIO_BASE_URL": url}
            _, _, before = ask()

            def run(plan: Plan) -> Report:
                return processes.run(self._python, tree, plan, environ)

            reports = list(threads.map(run, plans))
            pages, active, after = ask()
        seconds = max(report.finished for report in reports) - min(report.imported for report in reports)
        self.stand_in_share = max(self.stand_in_share, (after - before) / seconds)
        return Measured(
            seconds, pages, max(report.peak_rss for report in reports) / 1e6, len(active & set(case.names()))
        )


@contextlib.contextmanager
def _studio(case: Case) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The stand-in in a process of its own: its URL, and a function that asks for its state."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, case), daemon=True)
    process.start()
    url = ours.recv()

    def ask() -> Any:  # noqa: ANN401 - list requests, contacts with an active Execution, CPU time
        ours.send("?")
        return ours.recv()

    try:
        yield url, ask
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, case: Case) -> None:
    with Studio(latency=case.latency, max_concurrency=case.max_concurrency) as serving:
        now = datetime.now(UTC) - timedelta(minutes=2)
        context = {"flow": {"variables": {f"v{n}": "x" * 90 for n in range(case.context // 100)}}}
        for number in range(case.active):
            age = timedelta(days=3) * number / case.active
            serving.seed(FLOW_SID, contact=contact(number), date_created=now - age, context=context)
        pipe.send(serving.url)
        while pipe.recv():
            pages = sum(request.method == "GET" and "status" in request.query for request in serving.requests)
            pipe.send((pages, {one.contact for one in serving.executions.all("active")}, time.process_time()))


def _batch(commands: list[dict[str, str]]) -> dict[str, Any]:
    """An SQS event of commands that are all sent now."""
    sent = str(int(time.time() * 1000))
    return {
        "Records": [
            {
                "messageId": f"00000000-0000-0000-0000-{number:012}",
                "body": json.dumps(command),
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": sent},
                "eventSource": "aws:sqs",
            }
            for number, command in enumerate(commands)
        ]
    }


def _limits(case: Case) -> str:
    limits = ((case.seconds, "s"), (case.pages, "list requests"), (case.memory, "MB"), (0, "failed"))
    return ", ".join(f"{limit:g} {unit}" for limit, unit in limits if limit != float("inf"))


def _missed(seeds: int) -> tuple[str, ...]:
    """The row about missed Executions."""
    kinds = [(paging, rate) for paging in ("offset", "cursor") for rate in (5, 20, 50)]
    cases = [missed.Case(seed, *kind, is_sdk=False) for seed in range(seeds) for kind in kinds]
    cases += [missed.Case(0, *kind, is_sdk=True) for kind in kinds]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        shares = list(zip(cases, pool.map(missed.share, cases), strict=True))
    sdk, ours = (max(share for case, share in shares if case.is_sdk is is_sdk) for is_sdk in (True, False))
    what = f"missed by {seeds * len(kinds)} lists of {missed.ACTIVE:,}, 5 to 50 ends a second"
    return what, f"up to {sdk:.1%}", f"{ours:.1%}", "", "0", "missed" if ours else "met"


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(prog="make bench-sweep", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="of what is missed (default: %(default)s)")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch, python = Path(folder), trees.python313()
        print("Building the function and the reference …", flush=True)
        ours = trees.ours(scratch, python)
        sdk = trees.reference("sdk", scratch, python, bytecode=False)
        with stand_in.running(scratch) as at:
            bench = Bench(python, ours, sdk, processes.environment(at))
            print("Measuring; this takes about a quarter of an hour …\n", flush=True)
            for what, case in CASES.items():
                # What else runs on the machine disturbs seconds, not counts and megabytes.
                times_measured = 3 if case.seconds < float("inf") else 1
                runs = sorted((bench.measure(case) for _ in range(times_measured)), key=lambda it: it.seconds)
                measured = runs[len(runs) // 2]
                sdk_loop = bench.measure(case, sdk=True) if case.with_sdk else None
                beside = str(sdk_loop) if sdk_loop else "not measured"
                times = f"{sdk_loop.seconds / measured.seconds:.1f}" if sdk_loop else ""
                verdict = "met" if measured.is_within(case) else "missed"
                rows.append((what, beside, str(measured), times, _limits(case), verdict))
                print(": ".join(rows[-1]), flush=True)
    rows.append(_missed(arguments.seeds))
    print("\n" + table(("", "loop with Twilio's SDK", "ours", "times as fast", "limits", ""), rows))
    print(
        f"\nTwilio takes {LATENCY.page} s for a page and {LATENCY.item * 1e3} ms for each Execution in it,"
        f" and {LATENCY.other} s to end one.\nThe stand-in for Twilio took up to {bench.stand_in_share:.0%}"
        " of a processor."
    )


if __name__ == "__main__":
    main()
