"""Fuzzing in small, the same on every run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]


def fuzz(target: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A hundred inputs to a target."""
    command = [sys.executable, "-m", "tests.fuzz.worker", target, "hypothesis", "--inputs", "100"]
    return subprocess.run(
        [*command, "--seed", "1", *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found(target: str) -> None:
    """The function keeps what is promised of it, whatever it is sent."""
    done = fuzz(target)

    assert done.returncode == 0, done.stderr


def test_leak_is_found(tmp_path: Path) -> None:
    """A function that logs what it is given is found out."""
    done = fuzz("events", "--handler", "functions.talkative", "--directory", str(tmp_path))

    assert "Finding: a canary is in the output" in done.stderr
    assert done.returncode == 1
