"""Builds a release, dist/end-conversation-VERSION.zip, and shows that its bytes come from the last commit.

`sam build` runs twice: here, and in another folder with nothing but what is committed. Where the results
differ, a file here is not committed, or the build depends on its place. A release is deployed from where it
is unpacked: `sam deploy` finds .aws-sam/build by itself.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
BUILT = Path(".aws-sam/build")
BESIDE = ("CHANGELOG.md", "LICENSE", "README.md", "docs", "samconfig.toml")
"""Files that are released with the artifact."""


def build(root: Path) -> None:
    """Run `sam build` in this folder."""
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "SAM_CLI_TELEMETRY": "0"}
    subprocess.run([BIN / "sam", "build"], cwd=root, env=environment, check=True)


def check_out(root: Path) -> None:
    """Export the last commit into this folder."""
    archive = root.with_suffix(".tar")
    subprocess.run(["git", "archive", "--output", archive, "HEAD"], cwd=ROOT, check=True)  # noqa: S607 - its place differs
    root.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", root], check=True)  # noqa: S607 - the same


def content(root: Path) -> dict[str, bytes]:
    """The files of a release by their names, sorted."""
    paths = (path for each in (BUILT, *BESIDE) for path in [root / each, *(root / each).rglob("*")])
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(paths) if path.is_file()}


def pack(files: dict[str, bytes], target: Path) -> None:
    """Write a zip whose bytes depend on the files only: uncompressed, since zlib versions differ."""
    with ZipFile(target, "w", ZIP_STORED) as archive:
        for name, data in files.items():
            entry = ZipInfo(name)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, data)


def main() -> None:
    """Build, compare, and write the zip and its checksum."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    build(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        check_out(other)
        build(other)
        files, others = content(ROOT), content(other)
    differing = sorted(name for name in files | others if files.get(name) != others.get(name))
    if differing:
        sys.exit("two builds differ: " + ", ".join(differing))

    (ROOT / "dist").mkdir(exist_ok=True)
    target = ROOT / "dist" / f"end-conversation-{version}.zip"
    pack(files, target)
    checksum = f"{hashlib.sha256(target.read_bytes()).hexdigest()}  {target.name}\n"
    (target.parent / "SHA256SUMS").write_text(checksum)
    print(f"Two builds, the same {len(files)} files: {checksum}", end="")


if __name__ == "__main__":
    main()
