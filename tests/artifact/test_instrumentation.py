"""Instrumentation that wraps the libraries in use breaks nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("kind", "lock"),
    [("opentelemetry", "opentelemetry-0.60"), ("opentelemetry", "opentelemetry"), ("xray", None)],
    ids=["opentelemetry 0.60", "opentelemetry", "xray"],
)
def test_instrumentation(kind: str, lock: str | None, tmp_path: Path) -> None:
    """A batch, webhooks, retries and a sweep work under OpenTelemetry and the X-Ray SDK."""
    if lock:
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--system-certs"]
        install += ["--python", sys.executable, "--target", tmp_path, "--require-hashes"]
        subprocess.run([*install, "--requirement", ROOT / f"requirements/{lock}.txt"], check=True)
    environment = os.environ | {"INSTRUMENTATION": kind, "PYTHONPATH": str(tmp_path)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:schemathesis",
        "tests/artifact/instrumented.py",
    ]

    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
