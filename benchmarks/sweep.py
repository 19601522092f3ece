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
"""That the function has for a batch."""


@dataclass(frozen=True)
class Flow:
    """A Flow of a Twilio of its own.

    Attributes:
        active: Executions, one for each contact, over three days.
        context: bytes of each one's context.
        latency: Twilio's.
        max_concurrency: requests at once, beyond which Twilio answers 429.
    """

    active: int
    context: int = 0
    latency: Latency | None = LATENCY
    max_concurrency: int | None = None


@dataclass(frozen=True)
class Measured:
    """What one of both did.

    Attributes:
        seconds: wall time of the invocations, without starts.
        pages: list requests.
        failed: of those contacts whose Execution was to be ended, how many still have it.
        memory: the most that a process needed, in MB.
    """

    seconds: float
    pages: int
    failed: int
    memory: float


def contact(number: int) -> str:
    """Of one Execution."""
    return f"whatsapp:+1500{number:07}"


@contextlib.contextmanager
def studio(flow: Flow) -> Iterator[tuple[str, Callable[[], tuple[int, set[str], float]]]]:
    """The stand-in in a process of its own.

    Yields:
        Its URL, and what tells the list requests, the contacts with an active Execution, and the CPU time.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, flow), daemon=True)
    process.start()
    url = ours.recv()

    def ask() -> Any:  # noqa: ANN401 - as above
        ours.send("?")
        return ours.recv()

    try:
        yield url, ask
    finally:
        process.terminate()
        process.join()


def _serve(told: Connection, flow: Flow) -> None:
    with Studio(latency=flow.latency, max_concurrency=flow.max_concurrency) as serving:
        now = datetime.now(UTC) - timedelta(minutes=2)
        context = {"flow": {"variables": {f"v{n}": "x" * 90 for n in range(flow.context // 100)}}}
        for number in range(flow.active):
            age = timedelta(days=3) * number / flow.active
            serving.seed(FLOW_SID, contact=contact(number), date_created=now - age, context=context)
        told.send(serving.url)
        while told.recv():
            pages = sum(request.method == "GET" and "status" in request.query for request in serving.requests)
            told.send((pages, {one.contact for one in serving.executions.all("active")}, time.process_time()))


def command(number: int) -> dict[str, Any]:
    """To end one contact's Execution."""
    return {"flow_sid": FLOW_SID, "contact": contact(number)}


def batch(numbers: range) -> dict[str, Any]:
    """An SQS event with a command for each contact, all sent now."""
    sent = str(int(time.time() * 1000))
    return {
        "Records": [
            {
                "messageId": f"00000000-0000-0000-0000-{number:012}",
                "body": json.dumps(command(number)),
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": sent},
                "eventSource": "aws:sqs",
            }
            for number in numbers
        ]
    }


class Bench:
    """Runs both, each against a fresh stand-in.

    Attributes:
        stand_in_share: of a processor, that the stand-in took at most.
    """

    def __init__(self, python: Path, ours: trees.Tree, sdk: trees.Tree, environ: dict[str, str]) -> None:
        self._python = python
        self._ours = ours
        self._sdk = replace(sdk, handler="lists.handler")
        self._environ = environ
        self.stand_in_share = 0.0

    def ours(self, flow: Flow, *plans: Plan, contacts: range = range(0)) -> Measured:
        """The function, in a process for each plan, all at once."""
        return self._measure(self._ours, flow, plans, contacts)

    def sweep(self, flow: Flow, plan: Plan, contacts: range = range(0)) -> Measured:
        """The sweep."""
        tree = replace(self._ours, handler="end_conversation.sweep.handler")
        return self._measure(tree, flow, (plan,), contacts)

    def sdk(self, flow: Flow, plan: Plan, contacts: range = range(0)) -> Measured:
        """The loop with Twilio's SDK."""
        return self._measure(self._sdk, flow, (plan,), contacts)

    def _measure(self, tree: trees.Tree, flow: Flow, plans: tuple[Plan, ...], contacts: range) -> Measured:
        with studio(flow) as (url, ask), ThreadPoolExecutor(len(plans)) as threads:
            environ = self._environ | {"TWILIO_STUDIO_BASE_URL": url}
            _, _, before = ask()

            def run(plan: Plan) -> Report:
                return processes.run(self._python, tree, plan, environ)

            reports = list(threads.map(run, plans))
            pages, active, after = ask()
        seconds = max(report.finished for report in reports) - min(report.imported for report in reports)
        self.stand_in_share = max(self.stand_in_share, (after - before) / seconds)
        return Measured(
            seconds=seconds,
            pages=pages,
            failed=sum(contact(number) in active for number in contacts),
            memory=max(report.peak_rss for report in reports) / 1e6,
        )


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: was done.
        sdk: of the loop with Twilio's SDK; None: it would take hours.
        ours: of the function.
        target: what ours has to be.
        is_met: whether it is.
    """

    what: str
    sdk: str
    ours: str
    target: str
    is_met: bool


def one_contact(bench: Bench, active: int, most_seconds: float, most_pages: int) -> Row:
    """To end one contact's Execution."""
    flow, plan, it = (
        Flow(active),
        Plan([command(active // 2)], seconds=300),
        range(active // 2, active // 2 + 1),
    )
    sdk, ours = bench.sdk(flow, plan, it), bench.ours(flow, plan, contacts=it)
    return Row(
        f"one contact, {active:,} active",
        f"{sdk.seconds:.1f} s, {sdk.pages} list requests",
        f"{ours.seconds:.1f} s, {ours.pages} list requests, {sdk.seconds / ours.seconds:.1f} times as fast",
        f"{most_seconds} s, {most_pages}",
        ours.seconds <= most_seconds and ours.pages <= most_pages and not ours.failed,
    )


def batch_of_ten(bench: Bench, active: int, most_seconds: float, most_pages: int, *, with_sdk: bool) -> Row:
    """To end ten contacts' Executions in one batch."""
    flow, it = Flow(active), range(0, active, active // 10)
    ours = bench.ours(flow, Plan([batch(it)], seconds=SECONDS), contacts=it)
    told = "not measured"
    if with_sdk:
        sdk = bench.sdk(flow, Plan([batch(it)]), it)
        told = f"{sdk.seconds:.1f} s, {sdk.pages} list requests"
    return Row(
        f"batch of ten contacts, {active:,} active",
        told,
        f"{ours.seconds:.1f} s, {ours.pages} list requests, {10 - ours.failed} ended",
        f"{most_seconds} s, {most_pages}, 10 ended",
        ours.seconds <= most_seconds and ours.pages <= most_pages and not ours.failed,
    )


def many_commands(bench: Bench) -> Row:
    """A queue's batches in five processes."""
    plans = [
        Plan([batch(range(begin, begin + 10)) for begin in range(first, first + 200, 10)], seconds=SECONDS)
        for first in range(0, 1000, 200)
    ]
    ours = bench.ours(Flow(10_000), *plans, contacts=range(1000))
    return Row(
        "1,000 commands by contact, 10,000 active, 5 processes",
        "not measured",
        f"{ours.seconds:.1f} s, {ours.pages} list requests, {ours.failed} failed",
        "10 s, 150, 0 failed",
        ours.seconds <= 10 and ours.pages <= 150 and not ours.failed,  # noqa: PLR2004 - as it says
    )


def at_the_limit(bench: Bench) -> Row:
    """Ten processes, and room for the requests of one."""
    plans = [Plan([batch(range(first, first + 10))], seconds=SECONDS) for first in range(0, 100, 10)]
    ours = bench.ours(Flow(10_000, max_concurrency=10), *plans, contacts=range(100))
    return Row(
        "100 commands, 10,000 active, 10 processes, 10 requests at once allowed",
        "not measured",
        f"{ours.seconds:.1f} s, {ours.failed} failed",
        "0 failed",
        not ours.failed,
    )


def what_is_missed(seeds: int) -> Row:
    """Lists while Executions end."""
    cases = [
        missed.Case(seed, paging, rate, is_sdk)
        for seed in range(seeds)
        for paging in ("offset", "cursor")
        for rate in (5, 20, 50)
        for is_sdk in (False, True)
        if not is_sdk or seed == 0
    ]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        shares: dict[bool, list[float]] = {False: [], True: []}
        for case, (number, of) in zip(cases, pool.map(missed.missed, cases), strict=True):
            shares[case.is_sdk].append(number / of)
    ours, sdk = max(shares[False]), max(shares[True])
    return Row(
        f"missed, {len(shares[False])} lists of {missed.ACTIVE:,}, 5 to 50 ends a second",
        f"up to {sdk:.1%}",
        f"{ours:.1%}",
        "0",
        ours == 0,
    )


def memory(bench: Bench) -> Iterator[Row]:
    """Of a sweep, and of large contexts."""
    event = {"flow_sids": [FLOW_SID], "older_than_minutes": 1}
    stuck = Flow(300_000, latency=None)
    sdk, ours = (
        bench.sdk(Flow(30_000, latency=None), Plan([event])),
        bench.sweep(stuck, Plan([event], seconds=200)),
    )
    yield Row(
        "sweep of 300,000 stuck, peak memory",
        f"{sdk.memory:.0f} MB for 30,000",
        f"{ours.memory:.0f} MB",
        "200 MB",
        ours.memory <= 200,  # noqa: PLR2004 - as it says
    )
    it = range(0, 3000, 300)
    plan = Plan([batch(it)], seconds=SECONDS)
    large = Flow(3000, context=20_000)
    sdk, ours = bench.sdk(large, plan, it), bench.ours(large, plan, contacts=it)
    yield Row(
        "batch of ten, contexts of 20 kB, peak memory",
        f"{sdk.memory:.0f} MB",
        f"{ours.memory:.0f} MB, {10 - ours.failed} ended",
        "250 MB",
        ours.memory <= 250 and not ours.failed,  # noqa: PLR2004 - as it says
    )


def measure(bench: Bench, seeds: int) -> Iterator[Row]:
    """All rows."""
    yield one_contact(bench, 1_000, 1.4, 1)
    yield one_contact(bench, 10_000, 2.6, 15)
    yield one_contact(bench, 50_000, 8, 75)
    yield one_contact(bench, 100_000, 15, 150)
    yield batch_of_ten(bench, 10_000, 2.8, 14, with_sdk=True)
    yield batch_of_ten(bench, 30_000, SECONDS, 45, with_sdk=False)
    yield many_commands(bench)
    yield at_the_limit(bench)
    yield from memory(bench)
    yield what_is_missed(seeds)


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(prog="make bench-sweep", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="of what is missed (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch, python = Path(folder), trees.python313()
        print("Building the function and the reference …", flush=True)
        ours = trees.ours(scratch, python)
        sdk = trees.reference("sdk", scratch, python, bytecode=False)
        with stand_in.running(scratch) as at:
            bench = Bench(python, ours, sdk, processes.environment(at))
            print("Measuring; this takes about a quarter of an hour …\n", flush=True)
            rows = []
            for row in measure(bench, arguments.seeds):
                verdict = "met" if row.is_met else "missed"
                rows.append((row.what, row.sdk, row.ours, row.target, verdict))
                print(": ".join(rows[-1]), flush=True)
    print("\n" + table(("", "loop with Twilio's SDK", "ours", "target", ""), rows))
    print(
        f"\nTwilio takes {LATENCY.page} s for a page and {LATENCY.item * 1e3} ms for each Execution in it,"
        f" and {LATENCY.other} s to end one.\nSeconds are of the wall, from the handler's import to its last"
        f" answer.\nThe stand-in for Twilio took up to {bench.stand_in_share:.0%} of a processor."
    )


if __name__ == "__main__":
    main()
