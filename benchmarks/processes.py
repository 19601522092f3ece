"""Handlers in fresh processes: timed, or with their user-space instructions counted."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.stand_in import SECRET_ID, StandIn
from benchmarks.trees import HERE, Tree

_CALLGRIND_SLOWDOWN = 200


@dataclass(frozen=True)
class Plan:
    """The work of a process.

    Attributes:
        events: invoke the handler with each, in turn.
        warm: so many more times, timed.
        seconds: that an invocation has, as far as the handler knows.
    """

    events: list[Any]
    warm: int = 0
    seconds: float = 30


@dataclass(frozen=True)
class Report:
    """The report of a process; times are in seconds, sizes in bytes.

    Attributes:
        imported: from the start of the process until the handler was imported.
        answered: from the start of the process until its first answer.
        finished: from the start of the process until its last answer, without warm invocations.
        peak_rss: the memory that it had at most until then.
        answers: one for each event.
        warm: for each event the wall and CPU time of each warm invocation.
    """

    imported: float
    answered: float
    finished: float
    peak_rss: int
    answers: list[Any]
    warm: list[list[tuple[float, float]]] = field(repr=False)


def environment(stand_in: StandIn, *, slow: bool = False) -> dict[str, str]:
    """What Lambda and the template would set, with the stand-in for Twilio and AWS."""
    return {
        "PATH": os.environ["PATH"],
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        # Lambda's /var/task is read-only: what ships as plain source is compiled again by every process.
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_LAMBDA_FUNCTION_NAME": "end-conversation",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": stand_in.aws_url,
        "AWS_ENDPOINT_URL_EVENTBRIDGE": stand_in.aws_url,
        # Each in its own way, the clients of the three load the bundle.
        "AWS_CA_BUNDLE": stand_in.ca_bundle,
        "REQUESTS_CA_BUNDLE": stand_in.ca_bundle,
        "SSL_CERT_FILE": stand_in.ca_bundle,
        "TWILIO_SECRET_ID": SECRET_ID,
        "TWILIO_STUDIO_BASE_URL": stand_in.slow_twilio_url if slow else stand_in.twilio_url,
        "POWERTOOLS_SERVICE_NAME": "end-conversation",
        "POWERTOOLS_METRICS_NAMESPACE": "EndConversation",
    }


def run(  # noqa: PLR0913 - two to say what runs, two to say where, two to count it
    python: Path,
    tree: Tree,
    plan: Plan,
    environ: dict[str, str],
    *,
    under: tuple[str, ...] = (),
    slowdown: int | None = None,
) -> Report:
    """Follow a plan in a fresh process.

    Args:
        python: the interpreter.
        tree: what holds the handler.
        plan: what to do.
        environ: all of the process's environment.
        under: a command to run it under.
        slowdown: how many times slower that makes it, at most.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [
            *(*under, str(python), str(HERE / "driver.py")),
            *(str(tree.path), tree.handler, json.dumps(asdict(plan)), str(report)),
            *([str(slowdown)] if slowdown else []),
        ]
        with Path(folder, "stderr").open("w+") as stderr:
            started = time.monotonic()
            process = subprocess.run(
                command,
                cwd=tree.path,
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                check=False,
            )
            if process.returncode:
                stderr.seek(0)
                raise RuntimeError(f"{tree.name} failed:\n{stderr.read()}")
        reported = json.loads(report.read_text())
    return Report(
        imported=reported["imported"] - started,
        answered=reported["answered"] - started,
        finished=reported["finished"] - started,
        peak_rss=reported["peak_rss"],
        answers=reported["answers"],
        warm=reported["warm"],
    )


def instructions(python: Path, tree: Tree, plan: Plan, environ: dict[str, str]) -> int:
    """How many instructions it takes in user space, by valgrind's callgrind."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        under = ("valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={output}")
        run(python, tree, plan, environ | {"PYTHONHASHSEED": "0"}, under=under, slowdown=_CALLGRIND_SLOWDOWN)
        counts = re.findall(r"^(?:summary|totals): (\d+)", output.read_text(), re.MULTILINE)
        return int(counts[0])


def can_count() -> bool:
    """Whether this machine can count instructions."""
    return shutil.which("valgrind") is not None
