"""``make bench-sweep``: many stuck Executions, against Twilio's SDK, and what long lists cost."""

import contextlib
import multiprocessing
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import processes, stand_in, trees
from benchmarks.processes import Plan
from benchmarks.tables import table
from local.studio import Studio

FLOW_SID = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
CONTACT = "+15005550006"  # has no Execution, so that asking for its changes nothing
STUCK = 1000
LATENCY = 0.05
TARGET = 10.0
LENGTHS = (1_000, 5_000, 10_000, 25_000, 50_000)


@contextlib.contextmanager
def studio(active: int, latency: float = 0.0) -> Iterator[tuple[str, Connection]]:
    """The project's Studio stand-in in a process of its own, with so many Executions, days old.

    Yields:
        Its URL, and a connection that answers anything with the number of Executions that are active still.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, active, latency), daemon=True)
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        process.terminate()
        process.join()


def _serve(told: Connection, active: int, latency: float) -> None:
    with Studio() as serving:
        begin = datetime.now(UTC) - timedelta(days=3)
        executions = [
            serving.seed(
                FLOW_SID,
                contact=f"+1500{number:07}",
                date_created=begin + timedelta(seconds=number),
            )
            for number in range(active)
        ]
        if latency:
            serving.fail(delay=latency, times=None)
        told.send(serving.url)
        while told.recv():
            told.send(sum(execution.status == "active" for execution in executions))


def against_the_sdk(python: Path, ours: trees.Tree, sdk: trees.Tree, environ: dict[str, str]) -> str:
    """How long both take to end the same number of stuck Executions, and the ratio.

    Raises:
        RuntimeError: one of them left some behind.
    """
    event = {"flow_sids": [FLOW_SID], "older_than_minutes": 60}
    sdk, ours = replace(sdk, handler="sweep.handler"), replace(ours, handler="end_conversation.sweep.handler")
    rows, seconds = [], {}
    for tree in (sdk, ours):
        with studio(STUCK, LATENCY) as (url, asked):
            plan = Plan([event], seconds=900)
            done = processes.run(python, tree, plan, environ | {"TWILIO_STUDIO_BASE_URL": url})
            asked.send("?")
            if asked.recv():
                raise RuntimeError(f"{tree.name} left Executions behind: {done.answers[0]}")
        seconds[tree] = done.answered
        rows.append(
            (
                "ours" if tree is ours else "loop with Twilio's SDK",
                f"{done.answered:.2f} s",
                f"{seconds[sdk] / done.answered:.1f}",
                f"{done.peak_rss / 1e6:.0f} MB",
            )
        )
    missed = seconds[sdk] / seconds[ours] < TARGET
    return "\n".join(
        [
            table(
                (f"{STUCK:,} stuck, {LATENCY * 1e3:.0f} ms latency", "took", "times faster", "peak memory"),
                rows,
            ),
            "",
            f"From the start of the process. Target: {TARGET:.0f} times, {'missed' if missed else 'met'}.",
        ]
    )


def growth(python: Path, ours: trees.Tree, environ: dict[str, str]) -> str:
    """What it costs to list ever more Executions: to find one contact's, and to count what is stuck."""
    contact: dict[str, Any] = {"flow_sid": FLOW_SID, "contact": CONTACT}
    dry_run = {"flow_sids": [FLOW_SID], "older_than_minutes": 60, "dry_run": True}
    rows = []
    for active in LENGTHS:
        row = [f"{active:,} active"]
        with studio(active) as (url, _):
            for handler, event in (("sweep", dry_run), ("app", contact)):
                tree = replace(ours, handler=f"end_conversation.{handler}.handler")
                plan = Plan([event], seconds=300)
                done = processes.run(python, tree, plan, environ | {"TWILIO_STUDIO_BASE_URL": url})
                row += [f"{done.answered - done.imported:.2f} s", f"{done.peak_rss / 1e6:.0f} MB"]
        rows.append(row)
    head = ("one Flow", "sweep, dry run", "peak memory", "by contact", "peak memory")
    return f"{table(head, rows)}\n\nThe stand-in's own time is in it."


def main() -> None:
    """Build, measure, print."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch, python = Path(folder), trees.python313()
        print("Building the function and the reference …", flush=True)
        ours = trees.ours(scratch, python)
        sdk = trees.reference("sdk", scratch, python, bytecode=False)
        with stand_in.running(scratch) as at:
            environ = processes.environment(at)
            print(f"Sweeping (about {2 * STUCK * LATENCY:.0f} s) …\n", flush=True)
            print(against_the_sdk(python, ours, sdk, environ))
            print(f"\n{growth(python, ours, environ)}")


if __name__ == "__main__":
    main()
