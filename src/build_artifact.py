"""Builds the artifact of both functions; `sam build` runs this through the Makefile here.

The artifact is pure Python, so one build runs on arm64 and x86_64, and holds bytecode in place of sources:
Lambda's /var/task is read-only, so Python would compile sources again at every cold start. The same sources,
lock and compiler give the same files, wherever they are built.

Needs Python 3.9 or newer with pip to run, and CPython of the runtime's version to compile.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

RUNTIME = "3.13"
"""The Runtime in template.yaml."""

SERVICES = ("events", "secretsmanager", "sqs")
"""The AWS services that the functions have clients for."""

LAYER_SERVICES = ("kms", "ssm")
"""Those where layers keep secrets, Datadog's its key; they read them with our boto3, which hides Lambda's.

https://github.com/DataDog/datadog-lambda-python/blob/main/datadog_lambda/api.py
"""

HERE = Path(__file__).resolve().parent
PACKAGE = "end_conversation"

_KINDS = (".py", ".json", ".json.gz", ".pem")
_METADATA = ("METADATA", "AUTHORS", "COPYING", "LICENCE", "LICENSE", "NOTICE")
"""Prefixes of the files with a package's version and licence.

Without versions, instrumentation does nothing and scanners for vulnerabilities find nothing; most licences
ask for a copy in every distribution.
"""

_UNUSED = (
    "bin",
    "boto3/data",
    "botocore/data/*/*/examples-1.json",
    "aws_lambda_powertools/event_handler",
    "phonenumbers/shortdata/region_*",  # short numbers are those of emergency calls, for example
)
_USED_ONLY = {
    "botocore/data": SERVICES + LAYER_SERVICES,
    "aws_lambda_powertools/utilities": ("jmespath_utils", "typing"),
}
"""Folders of which only these subfolders ship."""


def build(directory: Path, interpreter: str | None) -> None:
    """Build the artifact.

    Args:
        directory: Where; must be empty or missing.
        interpreter: The Python to compile for; None ships plain sources.
    """
    if directory.exists() and any(directory.iterdir()):
        sys.exit(f"{directory} is not empty")
    _install(directory)
    shutil.copytree(HERE / PACKAGE, directory / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "LICENSE", directory)
    _prune(directory)
    _trim_endpoints(directory / "botocore/data/endpoints.json")
    if interpreter:
        _compile(directory, interpreter)


def find_interpreter() -> str | None:
    """A CPython of the runtime's version: $PYTHON313, or one on the PATH or in pyenv."""
    named = os.environ.get("PYTHON313")
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    installed = [
        shutil.which(f"python{RUNTIME}"),
        *map(str, sorted(pyenv.glob(f"versions/{RUNTIME}.*/bin/python"))),
    ]
    found = next(filter(_is_runtime, filter(None, [named] if named else installed)), None)
    if named and not found:
        sys.exit(f"PYTHON313={named} is not CPython {RUNTIME}")
    return found


def _is_runtime(command: str) -> bool:
    ask = "import sys; print(sys.implementation.cache_tag)"
    try:
        # pyenv's shims are on the PATH even for versions that are not active, and fail when called.
        answer = subprocess.run([command, "-c", ask], capture_output=True, text=True, check=False).stdout
    except OSError:
        return False
    return answer.strip() == f"cpython-{RUNTIME.replace('.', '')}"


def _install(directory: Path) -> None:
    """Install the locked dependencies; pip rejects wrong hashes and anything that is not pure Python."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile"]
    command += ["--platform", "any", "--abi", "none", "--implementation", "py", "--python-version", RUNTIME]
    command += ["--target", str(directory), "--requirement", str(HERE / "requirements.txt")]
    subprocess.run(command, check=True)


def _prune(directory: Path) -> None:
    """Remove what the functions cannot reach, nine tenths of the files' size."""
    for pattern in _UNUSED:
        for path in directory.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for folder, used in _USED_ONLY.items():
        for path in (directory / folder).iterdir():
            if path.is_dir() and path.name not in used:
                shutil.rmtree(path)
    for path in directory.rglob("*"):
        if path.is_file() and not (path.name.endswith(_KINDS) or path.name.startswith(_METADATA)):
            path.unlink()


def _trim_endpoints(path: Path) -> None:
    """Leave out other services' endpoints: parsing all 1.2 MB is a tenth of the time to start boto3."""
    document = json.loads(path.read_bytes())
    kept = SERVICES + LAYER_SERVICES
    for partition in document["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in kept if name in services}
    path.write_text(json.dumps(document))


def _compile(directory: Path, interpreter: str) -> None:
    """Put bytecode in place of the sources, with the paths that tracebacks have in Lambda."""
    command = [interpreter, "-I", "-m", "compileall", "-q", "-b", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*command, "-s", str(directory), "-p", "/var/task", str(directory)], check=True)
    for source in directory.rglob("*.py"):
        source.unlink()


def main() -> None:
    """Build as the command line says."""
    parser = argparse.ArgumentParser(description="Build the artifact of both functions.")
    parser.add_argument("directory", type=Path, help="where; must be empty or missing")
    parser.add_argument("--interpreter", help=f"the Python to compile for (default: any CPython {RUNTIME})")
    arguments = parser.parse_args()
    interpreter = arguments.interpreter or find_interpreter()
    if interpreter is None:
        print(
            f"WARNING: CPython {RUNTIME} is missing, so plain sources ship, which start about a second"
            " slower. Install it, or name it: PYTHON313=/path/to/python sam build",
            flush=True,
        )
    build(arguments.directory, interpreter)


if __name__ == "__main__":
    main()
