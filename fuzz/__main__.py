"""``make fuzz``: every entry of the function under both engines, and what came of it."""

import argparse
import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.tables import table
from fuzz.targets import TARGETS
from local.terminal import interruptible, styled

ROOT = Path(__file__).parent.parent
DIRECTORY = ROOT / ".fuzz"
"""The corpus of each target, which the next run goes on from, and what was found."""

GRACE = 60.0
"""Seconds that a worker may need besides, before it counts as hanging."""

SAID_EVERY = 15.0
"""Seconds between two lines about the same worker."""

MOST_SHOWN = 2000
"""Characters of each line about what was found."""

_COVERAGE = re.compile(r"cov: (\d+)")
_FOUND = [
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"Finding: .*",
        r"^\w*Error: .*",
        r"^==\d+== ERROR: .*",
        r"Test unit written to .*",
        r"^found with: .*",
    )
]


@dataclass(frozen=True)
class Job:
    """A target under an engine."""

    target: str
    engine: str
    seconds: float
    directory: Path
    handler: str | None = None

    @property
    def name(self) -> str:
        """For people, and for the names of files."""
        return f"{self.target}-{self.engine}"

    @property
    def report(self) -> Path:
        """Where the worker writes its figures."""
        return self.directory / f"{self.name}.json"

    @property
    def log(self) -> Path:
        """Where the engine writes to."""
        return self.directory / f"{self.name}.log"

    @property
    def command(self) -> list[str]:
        """The worker."""
        return [
            *(sys.executable, "-m", "fuzz.worker", self.target, self.engine),
            *(
                "--seconds",
                str(self.seconds),
                "--directory",
                str(self.directory),
                "--report",
                str(self.report),
            ),
            *(("--handler", self.handler) if self.handler else ()),
        ]


@dataclass(frozen=True)
class Done:
    """What came of a job.

    Attributes:
        job: which.
        figures: what the worker counted, see ``fuzz.worker``.
        coverage: places of the code that were reached, where the engine counts them.
        found: what was found, in the engine's words; empty if nothing was.
    """

    job: Job
    figures: dict[str, Any]
    coverage: str
    found: str


def run(job: Job, running: set[subprocess.Popen[bytes]]) -> Done:
    """Run one, among others that run, and tell how far it is."""
    job.directory.mkdir(parents=True, exist_ok=True)
    job.report.unlink(missing_ok=True)
    with (
        job.log.open("w") as log,
        subprocess.Popen(
            job.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment()
        ) as worker,
    ):
        running.add(worker)
        began = time.monotonic()
        while worker.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(SAID_EVERY)
            seconds, inputs = time.monotonic() - began, _figures(job).get("inputs", 0)
            print(f"{job.name:20} {seconds:5.0f} s  {inputs:10,} inputs", flush=True)
            if seconds > job.seconds + GRACE:
                worker.kill()
        running.discard(worker)
    text = job.log.read_text(errors="replace")
    found = ""
    if worker.returncode:
        # The last of each kind: hypothesis goes on until it has the simplest input.
        lines = [lines[-1] for pattern in _FOUND if (lines := pattern.findall(text))]
        found = "\n".join(line[:MOST_SHOWN] for line in lines) or text[-MOST_SHOWN:]
    if not found and not _figures(job).get("inputs"):
        found = "not one input was tried"
    coverage = _COVERAGE.findall(text)
    return Done(job, _figures(job), coverage[-1] if coverage else "", found)


def engines() -> list[str]:
    """Those that there are on this machine."""
    return ["hypothesis", *(["atheris"] if importlib.util.find_spec("atheris") else [])]


def tables(done: list[Done]) -> str:
    """Everything counted and measured."""
    rows = [
        [
            one.job.target,
            one.job.engine,
            f"{one.figures.get('inputs', 0):,}",
            f"{one.figures.get('inputs', 0) / max(1, one.figures.get('seconds', 0)):,.0f}",
            one.coverage,
            f"{one.figures.get('longest', 0):.2f}",
            f"{one.figures.get('memory', 0) / 1e6:.0f}",
            f"{one.figures.get('searched', 0) / 1e6:.1f}",
            "1" if one.found else "0",
        ]
        for one in done
    ]
    inputs = sum(one.figures.get("inputs", 0) for one in done)
    searched = sum(one.figures.get("searched", 0) for one in done)
    rows.append(
        [
            "all",
            "",
            f"{inputs:,}",
            "",
            "",
            "",
            "",
            f"{searched / 1e6:.1f}",
            str(sum(bool(one.found) for one in done)),
        ]
    )
    head = ["target", "engine", "inputs", "a second", "coverage", "longest s", "MB", "searched MB", "finds"]
    return f"{table(head, rows)}\n\n{table(['what came of it', 'times'], list(_outcomes(done)))}"


def main() -> None:
    """Fuzz as the command line says; the exit status tells whether anything was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="for each target and engine (default: %(default)s)"
    )
    parser.add_argument("--target", choices=TARGETS, action="append", help="only this one; may be repeated")
    parser.add_argument("--engine", choices=("hypothesis", "atheris"), help="only this one")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help=argparse.SUPPRESS)
    parser.add_argument("--handler", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.seconds < 1:
        parser.error("a target takes one second at least")
    if arguments.engine and arguments.engine not in engines():
        parser.error(f"{arguments.engine} is not installed: it has wheels for Linux on x86_64 only")
    jobs = [
        Job(target, engine, arguments.seconds, arguments.directory.resolve(), arguments.handler)
        for target in arguments.target or TARGETS
        for engine in ([arguments.engine] if arguments.engine else engines())
    ]
    with interruptible():
        running: set[subprocess.Popen[bytes]] = set()
        # One for each processor: a worker keeps one busy.
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            try:
                done = list(threads.map(lambda job: run(job, running), jobs))
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                for worker in list(running):
                    worker.terminate()
                raise
        print(f"\n{tables(done)}\n")
        for one in done:
            if one.found:
                print(styled(f"{one.job.name}: {one.found}\n          all of it: {one.job.log}", "red"))
        if "atheris" not in engines():
            print(
                "Left out: the engine that is guided by coverage, which has wheels for Linux on x86_64 only."
            )
        if not any(one.found for one in done):
            print(styled("nothing found", "green"))
        sys.exit(any(one.found for one in done))
    sys.exit("interrupted")


def _environment() -> dict[str, str]:
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _figures(job: Job) -> dict[str, Any]:
    try:
        figures: dict[str, Any] = json.loads(job.report.read_text())
    except OSError:
        return {}
    return figures


def _outcomes(done: list[Done]) -> Iterator[list[str]]:
    for target in dict.fromkeys(one.job.target for one in done):
        counts: Counter[str] = Counter()
        for one in done:
            if one.job.target == target:
                counts.update(one.figures.get("outcomes", {}))
        for outcome, number in counts.most_common():
            yield [f"{target}: {outcome}", f"{number:,}"]


if __name__ == "__main__":
    main()
