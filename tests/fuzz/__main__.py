"""``make fuzz``: every target under both engines."""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from local.terminal import interruptible, styled
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / ".fuzz"
"""Logs, findings, and atheris's corpus, which the next run starts from."""

GRACE = 60.0
"""Seconds on top of the given ones before a worker counts as hanging."""

ENGINES = ["hypothesis", *(["atheris"] if importlib.util.find_spec("atheris") else [])]


def fuzz(target: str, engine: str, seconds: float) -> bool:
    """Run one worker, print its result, and return whether it found nothing."""
    DIRECTORY.mkdir(exist_ok=True)
    log = DIRECTORY / f"{target}-{engine}.log"
    command = [sys.executable, "-m", "tests.fuzz.worker", target, engine, "--seconds", str(seconds)]
    with log.open("w") as output:
        try:
            process = subprocess.run(
                [*command, "--directory", str(DIRECTORY)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=seconds + GRACE,
                check=False,
            )
            code = process.returncode
        except subprocess.TimeoutExpired:
            code = -1
    figures = re.findall(r"^figures: (.*)$", log.read_text(errors="replace"), re.MULTILINE)
    told: dict[str, Any] = json.loads(figures[-1]) if figures else {"inputs": 0, "outcomes": {}}
    is_good = code == 0 and told["inputs"] > 0
    outcomes = ", ".join(f"{number:,} {outcome}" for outcome, number in told["outcomes"].items())
    result = styled("nothing found", "green") if is_good else styled(f"FAILED, see {log}", "red")
    print(f"{target} ({engine}): {told['inputs']:,} inputs, {result}; {outcomes}", flush=True)
    return is_good


def main() -> None:
    """Fuzz as the command line says; the exit status is 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="for each target and engine (default: %(default)s)"
    )
    seconds = parser.parse_args().seconds
    if "atheris" not in ENGINES:
        print("Left out: coverage-guided fuzzing; atheris has wheels for Linux on x86_64 only.")
    jobs = [(target, engine, seconds) for target in TARGETS for engine in ENGINES]
    with interruptible():
        # A worker keeps one processor busy.
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            results = list(threads.map(lambda job: fuzz(*job), jobs))
        sys.exit(0 if all(results) else 1)
    sys.exit("interrupted")


if __name__ == "__main__":
    main()
