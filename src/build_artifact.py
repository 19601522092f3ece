"""Builds the artifact that both functions are deployed with; `sam build` runs this through the Makefile here.

What ships is what the functions can reach, and pure Python, so that one build runs on arm64 and x86_64: of
botocore's data only the models of the services in use, without their documentation, and bytecode in place of
sources. Lambda's /var/task is read-only, so Python would compile sources anew at every cold start. Bytecode
alone cannot be older than its source, and a traceback still tells file and line. The same input and compiler
make the same bytes, whoever builds them, when and where.

Needs pip, any Python from 3.9 to run this, and CPython of the runtime's version to compile.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from gzip import decompress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNTIME = "3.13"
"""The version in template.yaml's Runtime."""

SERVICES = ("secretsmanager", "sqs")
"""What the functions have clients for."""

HERE = Path(__file__).resolve().parent
PACKAGE = "end_conversation"
REQUIREMENTS = "requirements.txt"

_KEPT = re.compile(r".+\.(py|json|json\.gz|pem)")
_LEFT_OUT = re.compile(
    r"[^/]+\.dist-info/"  # nobody asks importlib.metadata
    r"|[^/]+\.data/scripts/"
    r"|aws_lambda_powertools/event_handler/"
    r"|aws_lambda_powertools/utilities/(?!__init__\.py|jmespath_utils/|typing/)"
    r"|(boto3|s3transfer)/"  # botocore does it
    rf"|botocore/data/(?!({'|'.join(SERVICES)})/)[^/]+/"
    r"|botocore/data/.+/examples-1\.json"
)
_TASK_ROOT = "/var/task"
_LONG_AGO = 946684800
"""The time of every file, 2000-01-01: zip files know nothing before 1980, in any zone."""


def build(directory: Path, interpreter: str | None) -> None:
    """Build the artifact.

    Args:
        directory: where; it must be empty, or not be there.
        interpreter: the Python whose bytecode ships; None ships plain sources.
    """
    if directory.exists() and any(directory.iterdir()):
        sys.exit(f"{directory} is not empty")
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary)
        for name, content in _files():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if interpreter:
            _compile(tree, interpreter)
        _publish(tree, directory)


def find_interpreter() -> str | None:
    """A CPython of the runtime's version, from wherever such are kept."""
    if named := os.environ.get("PYTHON313"):
        if not _is_runtime(named):
            sys.exit(f"PYTHON313={named} is no CPython {RUNTIME}")
        return named
    pyenv = os.environ.get("PYENV_ROOT") or "~/.pyenv"
    kept = {f"{pyenv}/versions": f"{RUNTIME}.*", "~/.local/share/uv/python": f"cpython-{RUNTIME}.*"}
    found = [
        str(path / "bin/python")
        for folder, pattern in kept.items()
        for path in sorted(Path(folder).expanduser().glob(pattern))
    ]
    # pyenv also puts commands on the PATH that do nothing but fail.
    return next(filter(_is_runtime, (sys.executable, f"python{RUNTIME}", *found)), None)


def _is_runtime(command: str) -> bool:
    ask = "import sys; print(sys.implementation.cache_tag, sys.version_info.releaselevel)"
    try:
        answer = subprocess.run([command, "-c", ask], capture_output=True, text=True, check=False).stdout
    except OSError:
        return False
    return answer.split() == [f"cpython-{RUNTIME.replace('.', '')}", "final"]


def _files() -> Iterator[tuple[str, bytes]]:
    """Every file that ships, and what is in it."""
    for path in sorted((HERE / PACKAGE).rglob("*")):
        if path.is_file() and _KEPT.fullmatch(path.name):
            yield str(path.relative_to(HERE)), path.read_bytes()
    lock = (HERE / REQUIREMENTS).read_text()
    for path in _wheels(lock):
        # pip checked it when it came, which may be long ago.
        if sha256(path.read_bytes()).hexdigest() not in lock:
            sys.exit(f"{path} is not what {REQUIREMENTS} names")
        with ZipFile(path) as wheel:
            for name in wheel.namelist():
                if _LEFT_OUT.match(name):
                    continue
                if ".data/" in name:
                    sys.exit(f"{path.name} has files that want to be installed, not unpacked: {name}")
                if _KEPT.fullmatch(name):
                    yield _reduced(name, wheel.read(name))


def _wheels(lock: str) -> list[Path]:
    """The dependencies, from the cache if they were there before; pip refuses what is not pure Python."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "end-conversation"
    wheels = cache / sha256(lock.encode()).hexdigest()[:16]
    if not wheels.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            new = Path(temporary, "wheels")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            command += ["--no-input", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
            command += ["--platform", "any", "--abi", "none", "--implementation", "py"]
            command += ["--python-version", RUNTIME, "--dest", str(new), "--requirement", REQUIREMENTS]
            subprocess.run(command, cwd=HERE, check=True)
            try:
                new.rename(wheels)
            except OSError:
                # The other function's build was faster.
                if not wheels.exists():
                    raise
    return list(wheels.glob("*.whl"))


def _reduced(name: str, content: bytes) -> tuple[str, bytes]:
    """The same file, without what costs time to read and is never asked for."""
    if not name.startswith("botocore/data/"):
        return name, content
    if name.endswith(".gz"):
        name, content = name[: -len(".gz")], decompress(content)
    document = _undocumented(json.loads(content))
    if name == "botocore/data/endpoints.json":
        for partition in document["partitions"]:
            services = partition["services"]
            partition["services"] = {name: services[name] for name in SERVICES if name in services}
    return name, json.dumps(document, separators=(",", ":")).encode()


def _undocumented(node: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, dict):
        return {
            key: _undocumented(value)
            for key, value in node.items()
            if not (key == "documentation" and isinstance(value, str))
        }
    return [_undocumented(item) for item in node] if isinstance(node, list) else node


def _compile(tree: Path, interpreter: str) -> None:
    """Put bytecode in place of the sources."""
    command = [interpreter, "-P", "-m", "compileall", "-q", "-b", "--invalidation-mode", "unchecked-hash"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # One process with one hash seed: what strings it shares, and in what order, is part of the bytes.
    subprocess.run(
        [*command, "-s", str(tree), "-p", _TASK_ROOT, str(tree)],
        env=environment | {"PYTHONHASHSEED": "0"},
        check=True,
    )
    for source in tree.rglob("*.py"):
        source.unlink()


def _publish(tree: Path, directory: Path) -> None:
    """Copy the tree so that whoever zips it gets the same zip: order, modes and times are always the same."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in sorted(tree.rglob("*")):
        copy = directory / path.relative_to(tree)
        if path.is_dir():
            copy.mkdir()
        else:
            shutil.copyfile(path, copy)
    for copy in (directory, *directory.rglob("*")):
        copy.chmod(0o755 if copy.is_dir() else 0o644)
        os.utime(copy, (_LONG_AGO, _LONG_AGO))


def main() -> None:
    """Build as the command line says."""
    parser = argparse.ArgumentParser(description="Build the artifact that both functions are deployed with.")
    parser.add_argument("directory", type=Path, help="where")
    parser.add_argument(
        "--interpreter", help=f"compile for this Python; by default for any CPython {RUNTIME}"
    )
    arguments = parser.parse_args()
    interpreter = arguments.interpreter or find_interpreter()
    if interpreter is None:
        print(
            f"WARNING: there is no CPython {RUNTIME} here, so plain sources ship, which start about a second"
            " slower. Install it, or name it: PYTHON313=/path/to/python sam build",
            flush=True,
        )
    build(arguments.directory, interpreter)


if __name__ == "__main__":
    main()
