"""``make bench``: cold start, warm invocation, batch and size, against two references, in one run.

Every figure is a median over processes that take turns: what slows down the machine slows down all three.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import costs, processes, stand_in, trees
from benchmarks.processes import Plan, Report
from benchmarks.tables import table

LATENCY = 0.1
"""Seconds that Twilio takes over each request of the batch."""

BATCH_TARGET = 1.3
"""Times that a batch of ten may take longer than one record, at most."""

ZIP_TARGET = 3.0
"""MB."""

OUTCOME_EVENTS = {"OUTCOME_EVENT_BUS": "default"}

WARM = 200
COUNTED_WARM = 100
COUNTED_TWICE = 2

COMMAND = {
    "flow_sid": "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b",
    "execution_sid": "FN0123456789abcdef0123456789abcdef",
}


@dataclass
class Measured:
    """The measurements of one tree, with its own environment variables."""

    tree: trees.Tree
    environ: dict[str, str] = field(default_factory=dict)
    starts: list[Report] = field(default_factory=list)
    batches: list[Report] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)
    zipped: int = 0

    def start(self, figure: Callable[[Report], float]) -> float:
        """A figure of a start, the median."""
        return statistics.median(figure(report) for report in self.starts)

    def warm(self, which: int, share: float = 0.5) -> float:
        """The wall (0) or CPU (1) time that a share of the warm invocations stays below."""
        taken: list[float] = sorted(one[which] for report in self.starts for one in report.warm[0])
        return taken[int(share * len(taken))]

    def batch(self, which: int) -> float:
        """Wall time of one record (0) or ten (1), the median."""
        walls: list[float] = [wall for report in self.batches for wall, _ in report.warm[which]]
        return statistics.median(walls)

    @property
    def work(self) -> costs.Work:
        """The work that Lambda bills."""
        first = self.start(lambda run: run.answered - run.imported)
        return costs.Work(self.start(lambda run: run.imported), first, self.warm(1))

    @property
    def start_instructions(self) -> float:
        """Until the first answer."""
        return statistics.median(start for start, _ in self.counts)

    @property
    def warm_instructions(self) -> float:
        """Of one warm invocation."""
        return statistics.median((both - start) / COUNTED_WARM for start, both in self.counts)

    @property
    def spread(self) -> float:
        """By how much the counts of the same differ, as a share, at most."""
        kinds: list[tuple[int, ...]] = list(zip(*self.counts, strict=True))
        return max(max(counts) / min(counts) for counts in kinds) - 1


def batch_of(records: int) -> dict[str, Any]:
    """An SQS event with so many commands, each about another Execution."""
    return {
        "Records": [
            {
                "messageId": f"00000000-0000-0000-0000-{number:012}",
                "receiptHandle": "made-up",
                "body": json.dumps(COMMAND | {"execution_sid": f"FN{number:032x}"}),
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1767225600000"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:end-conversation",
                "awsRegion": "us-east-1",
            }
            for number in range(records)
        ]
    }


def measure(
    all_measured: list[Measured], at: stand_in.StandIn, python: Path, runs: int, counted: int
) -> None:
    """Run everything, the trees taking turns."""
    environ, slow = processes.environment(at), processes.environment(at, slow=True)
    for _ in range(runs):
        for one in all_measured:
            one.starts.append(
                processes.run(python, one.tree, Plan([COMMAND], warm=WARM), environ | one.environ)
            )
    for _ in range(max(1, runs // 5)):
        for one in all_measured:
            plan = Plan([batch_of(1), batch_of(10)], warm=5)
            one.batches.append(processes.run(python, one.tree, plan, slow | one.environ))
    # Counting is slow, but nothing that goes on besides changes a count.
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        plans = [Plan([COMMAND]), Plan([COMMAND], warm=COUNTED_WARM)]
        pending = [
            (
                one,
                [
                    pool.submit(processes.instructions, python, one.tree, plan, environ | one.environ)
                    for plan in plans
                ],
            )
            for _ in range(counted)
            for one in all_measured
        ]
        for one, (start, both) in pending:
            one.counts.append((start.result(), both.result()))


def check(all_measured: list[Measured]) -> None:
    """Raise an error unless all handlers did the same work."""
    for one in all_measured:
        for report in one.starts:
            (ended,) = report.answers[0]["executions"]
            if (ended["sid"], ended["status"]) != (COMMAND["execution_sid"], "ended"):
                raise RuntimeError(f"{one.tree.name} answered {report.answers[0]}")
        for report in one.batches:
            if report.answers != [{"batchItemFailures": []}] * 2:
                raise RuntimeError(f"{one.tree.name} answered {report.answers}")


@dataclass(frozen=True)
class Row:
    """A line of the table: a figure of each handler, and the limits of ours relative to the references."""

    name: str
    figure: Callable[[Measured], float]
    shown: str
    targets: tuple[float | None, float | None] = (None, None)


def rows(*, counted: bool) -> Iterator[Row]:
    """The table's lines."""
    start, warm = (0.35, 1.10), (0.75, None)
    ms, mb = "{:,.0f} ms", "{:.1f} MB"
    yield Row("import", lambda it: it.start(lambda run: run.imported) * 1e3, ms)
    yield Row("first invocation", lambda it: it.start(lambda run: run.answered - run.imported) * 1e3, ms)
    yield Row("start to first answer", lambda it: it.start(lambda run: run.answered) * 1e3, ms, start)
    if counted:
        yield Row("… million instructions", lambda it: it.start_instructions / 1e6, "{:,.0f}", start)
    yield Row("… peak memory", lambda it: it.start(lambda run: run.peak_rss) / 1e6, mb)
    yield Row("warm invocation, p50", lambda it: it.warm(0) * 1e3, "{:.2f} ms")
    yield Row("… p99", lambda it: it.warm(0, 0.99) * 1e3, "{:.2f} ms")
    yield Row("… CPU time, p50", lambda it: it.warm(1) * 1e3, "{:.2f} ms")
    if counted:
        yield Row("… million instructions", lambda it: it.warm_instructions / 1e6, "{:.2f}", warm)
    yield Row("batch of one, 100 ms latency", lambda it: it.batch(0) * 1e3, ms)
    yield Row("batch of ten", lambda it: it.batch(1) * 1e3, ms)
    yield Row("zip", lambda it: it.zipped / 1e6, mb)
    yield Row("unzipped", lambda it: it.tree.unzipped_bytes / 1e6, mb)


def report(all_measured: list[Measured]) -> tuple[str, list[str]]:
    """The table, and the targets that were missed."""
    sdk, least, ours, _ = all_measured
    lines, missed = [], []
    for row in rows(counted=bool(ours.counts)):
        values = [row.figure(one) for one in all_measured]
        ratios = [values[2] / value for value in values[:2]]
        cells = [f"{ratio:.2f}" for ratio in ratios]
        for number, (ratio, target, other) in enumerate(zip(ratios, row.targets, (sdk, least), strict=True)):
            if target is not None:
                cells[number] += f" (≤ {target:.2f})"
                if ratio > target:
                    missed.append(f"{row.name}: {ratio:.2f} of {other.tree.name}'s, at most {target}")
        lines.append([row.name, *(row.shown.format(value) for value in values), *cells])
    batch, zipped = ours.batch(1) / ours.batch(0), ours.zipped / 1e6
    if batch > BATCH_TARGET:
        missed.append(f"batch of ten: {batch:.2f} of a batch of one, at most {BATCH_TARGET}")
    if zipped > ZIP_TARGET:
        missed.append(f"zip: {zipped:.1f} MB, at most {ZIP_TARGET} MB")
    head = [
        "",
        "(a) Twilio's SDK",
        "(b) least code",
        "ours",
        "with outcome events",
        "ours / (a)",
        "ours / (b)",
    ]
    runs = len(ours.starts)
    notes = f"""
Batch of ten: {batch:.2f} of a batch of one (≤ {BATCH_TARGET}). Zip: {zipped:.1f} MB (≤ {ZIP_TARGET} MB).
Medians of {runs} processes of each with {WARM} warm invocations; {platform.machine()}, Python 3.13.
"""
    if ours.counts:
        spread = max(one.spread for one in all_measured)
        notes += f"""\
Instructions in user space, by callgrind; counts of the same differ by {spread:.2%} at most.
"""
    return f"{table(head, lines)}\n{notes}\n{costs.report([one.work for one in all_measured[:3]])}", missed


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="processes of each (default: %(default)s)")
    parser.add_argument(
        "--counted", type=int, default=COUNTED_TWICE, help="of those, counted (default: %(default)s)"
    )
    arguments = parser.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        python = trees.python313()
        print("Building the function and the references …", flush=True)
        reference = partial(trees.reference, scratch=scratch, python=python)
        all_measured = [
            Measured(reference("sdk", bytecode=False)),
            Measured(reference("least", bytecode=True)),
            Measured(ours := trees.ours(scratch, python)),
            Measured(ours, OUTCOME_EVENTS),
        ]
        for one in all_measured:
            one.zipped = one.tree.zipped_bytes(scratch)
        at = stack.enter_context(stand_in.running(scratch, LATENCY))
        print("Measuring; this takes about ten minutes …", flush=True)
        counted = arguments.counted if processes.can_count() else 0
        measure(all_measured, at, python, arguments.runs, counted)
        check(all_measured)
        text, missed = report(all_measured)
    print(f"\n{text}")
    if not counted:
        print("Instructions were not counted, which takes valgrind; their limits are not checked.")
    print("\n".join(["Targets missed:", *missed]) if missed else "Every target is met.")


if __name__ == "__main__":
    main()
