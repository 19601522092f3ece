"""The handlers that are compared: the function and two references, each built as it is deployed."""

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from src.build_artifact import find_interpreter

HERE = Path(__file__).parent
ROOT = HERE.parent
TOOLS = Path(sys.executable).parent
HANDLER = "end_conversation.app.handler"


@dataclass(frozen=True)
class Tree:
    """What Lambda would have in /var/task.

    Attributes:
        name: what the table calls it.
        path: its folder.
        handler: as Lambda's setting.
    """

    name: str
    path: Path
    handler: str

    @property
    def unzipped_bytes(self) -> int:
        """The size of its files."""
        return sum(file.stat().st_size for file in self._files)

    def zipped_bytes(self, scratch: Path) -> int:
        """The size of the archive that `sam deploy` would upload."""
        archive_path = scratch / f"{self.name}.zip"
        with zipfile.ZipFile(archive_path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in self._files:
                archive.write(file, file.relative_to(self.path))
        return archive_path.stat().st_size

    @property
    def _files(self) -> list[Path]:
        return sorted(path for path in self.path.rglob("*") if path.is_file())


def python313() -> Path:
    """The interpreter of Lambda's runtime; exits with a message if there is none."""
    if found := find_interpreter():
        return Path(found)
    sys.exit("Benchmarks need CPython 3.13, Lambda's runtime: install it, or set PYTHON313 to its path.")


def ours(scratch: Path, python: Path) -> Tree:
    """What `sam build` makes of src/, now."""
    build = scratch / "sam-build"
    environ = os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}", "SAM_CLI_TELEMETRY": "0"}
    command = [
        str(TOOLS / "sam"),
        "build",
        "--no-cached",
        "--build-dir",
        str(build),
        "EndConversationFunction",
    ]
    subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True)
    return Tree("ours", build / "EndConversationFunction", HANDLER)


def reference(name: str, scratch: Path, python: Path, *, bytecode: bool) -> Tree:
    """A reference with its locked dependencies; plain source, as `sam build` ships it, unless compiled."""
    source, path = HERE / f"reference_{name}", scratch / name
    subprocess.run(
        [
            *(str(TOOLS / "uv"), "pip", "install", "--quiet", "--system-certs", "--no-compile-bytecode"),
            *("--python", str(python), "--target", str(path)),
            *("--require-hashes", "-r", str(ROOT / f"requirements/reference_{name}.txt")),
        ],
        check=True,
    )
    shutil.rmtree(path / "bin", ignore_errors=True)
    (path / ".lock").unlink(missing_ok=True)
    for module in source.glob("*.py"):
        shutil.copy(module, path)
    if bytecode:
        compiling = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(path))
        subprocess.run([str(python), *compiling], check=True)
    return Tree(name, path, "handler.handler")
