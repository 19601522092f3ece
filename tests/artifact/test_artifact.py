"""What `sam build` makes: what is in it, that it is always the same, and that it runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import botocore.session
import pytest
from samcli.lib.package.utils import make_zip
from samcli.yamlhelper import yaml_parse

import build_artifact
from local import rie, run, samples
from local.rie import Emulated
from local.signing import renewed
from local.stand_ins import StandIns, stand_ins

ROOT = Path(__file__).parent.parent.parent
EVENTS = sorted((ROOT / "events").glob("*.json"))
TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
FUNCTIONS = [
    name for name, each in TEMPLATE["Resources"].items() if each["Type"] == "AWS::Serverless::Function"
]

# On macOS and Windows Lambda's runtime client does not install; on Linux, and so in CI, nothing is left out.
needs_emulator = pytest.mark.skipif(bool(rie._missing()), reason=f"no emulator: {rie._missing()}")


@pytest.fixture(scope="module")
def interpreter() -> str:
    """Python of Lambda's version, or where there is none, the running one in its place."""
    return build_artifact.find_interpreter() or sys.executable


@pytest.fixture(scope="module")
def runtime(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same Python with Lambda's runtime client, and with nothing else that an artifact could lean on."""
    venv = tmp_path_factory.mktemp("runtime")
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", interpreter, venv], check=True)
    python = str(venv / "bin/python")
    install = [
        *uv,
        "pip",
        "install",
        "--quiet",
        "--system-certs",
        "--python",
        python,
        "-c",
        ROOT / "requirements/dev.txt",
    ]
    subprocess.run([*install, "awslambdaric"], check=True)
    return python


@pytest.fixture(scope="module")
def built(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact as it is built, with the zip file beside it that `sam deploy` uploads."""
    directory = tmp_path_factory.mktemp("built") / "artifact"
    build_artifact.build(directory, interpreter)
    make_zip(str(directory), str(directory))
    return directory


@pytest.fixture(scope="module")
def artifact(built: Path) -> Path:
    """The artifact as it is in Lambda, where nobody may write to it."""
    for path in (*built.rglob("*"), built):
        path.chmod(path.stat().st_mode & ~0o222)
    return built


def content(directory: Path) -> dict[str, bytes]:
    """The files."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def test_two_builds(built: Path, interpreter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two builds give the same zip, whatever the builder's umask, time zone and hash seed are."""
    monkeypatch.setenv("PYTHONHASHSEED", "42")
    monkeypatch.setenv("TZ", "Pacific/Honolulu")
    before = os.umask(0o077)
    try:
        build_artifact.build(tmp_path / "artifact", interpreter)
    finally:
        os.umask(before)
    make_zip(str(tmp_path / "artifact"), str(tmp_path / "artifact"))

    assert (tmp_path / "artifact.zip").read_bytes() == built.with_suffix(".zip").read_bytes()


def test_size(built: Path) -> None:
    """The zip is far below the 6 MB that were the aim, so that it stays so."""
    assert built.with_suffix(".zip").stat().st_size < 2_000_000


def test_kinds_of_files(artifact: Path) -> None:
    """There is bytecode, and what it reads; no sources, stubs, metadata, or compiled extensions."""
    suffixes = {Path(name).suffix for name in content(artifact)}

    assert suffixes == {".pyc", ".json", ".pem"}
    assert not list(artifact.rglob("*.dist-info"))
    assert not list(artifact.rglob("__pycache__"))


def test_services(artifact: Path) -> None:
    """Of botocore's services there are those that the code has clients for."""
    sources = [path.read_text() for path in (ROOT / "src/end_conversation").glob("*.py")]
    used = {name for text in sources for name in re.findall(r'\bclient\(\s*"(\w+)"', text)}

    assert set(build_artifact.SERVICES) == used
    assert {path.name for path in (artifact / "botocore/data").iterdir() if path.is_dir()} == used


def test_bytecode_is_never_checked(artifact: Path, interpreter: str) -> None:
    """All bytecode is the interpreter's own, and based on a hash that Python is told not to check."""
    ask = "import importlib.util; print(importlib.util.MAGIC_NUMBER.hex())"
    magic = subprocess.run([interpreter, "-c", ask], capture_output=True, text=True, check=True).stdout
    headers = {code[:8] for name, code in content(artifact).items() if name.endswith(".pyc")}

    assert headers == {bytes.fromhex(magic) + (0b01).to_bytes(4, "little")}


def test_tracebacks(artifact: Path, runtime: str) -> None:
    """A traceback tells files as they are in Lambda, and lines as they are in the sources."""
    code = "from end_conversation.command import Command; Command.parse('{')"
    environment = {"PYTHONPATH": str(artifact)}
    failed = subprocess.run(
        [runtime, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    lines = re.findall(r'File "/var/task/end_conversation/(\w+\.py)", line (\d+), in (\w+)', failed.stderr)

    assert lines
    for name, line, function in lines:
        source = (ROOT / "src/end_conversation" / name).read_text().splitlines()
        begins = next(number for number, text in enumerate(source, 1) if f"def {function}(" in text)
        assert begins < int(line) <= len(source)


def test_endpoints(artifact: Path, runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving out the other services changes no endpoint, in any region of any partition."""
    code = """
import json, sys, botocore.session
session = botocore.session.get_session()
print(json.dumps([session.create_client(*pair).meta.endpoint_url for pair in json.load(sys.stdin)]))
"""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    session = botocore.session.get_session()
    pairs = [
        (service, region)
        for service in build_artifact.SERVICES
        for partition in session.get_available_partitions()
        for region in session.get_available_regions(service, partition)
    ]
    environment = os.environ | {"PYTHONPATH": str(artifact)}
    asked = subprocess.run(
        [runtime, "-c", code],
        env=environment,
        input=json.dumps(pairs),
        capture_output=True,
        text=True,
        check=True,
    )

    assert len(pairs) > 50
    assert json.loads(asked.stdout) == [session.create_client(*pair).meta.endpoint_url for pair in pairs]


@pytest.fixture(scope="module")
def around() -> Iterator[StandIns]:
    with stand_ins() as running:
        yield running


@pytest.fixture(scope="module")
def functions(artifact: Path, runtime: str, around: StandIns) -> Iterator[Callable[[bool], Emulated]]:
    """Both functions under the Runtime Interface Emulator; which, is whether it is the one that sweeps."""
    with (
        Emulated(around.environment, path=artifact, python=runtime) as function,
        Emulated(
            around.environment, path=artifact, python=runtime, handler=rie.SWEEP_HANDLER, timeout=900
        ) as sweep,
    ):
        yield lambda is_sweep: sweep if is_sweep else function


@needs_emulator
@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_samples(path: Path, artifact: Path, functions: Callable[[bool], Emulated], around: StandIns) -> None:
    """Every sample does what it should, with nothing but the artifact, which stays as it was."""
    before = content(artifact)
    event = renewed(samples.load(path))
    seeded = samples.seed(around.studio, event)

    outcome = functions(samples.is_sweep(event)).invoke(event)

    expected, verdict = run.judge(outcome, seeded)
    assert expected, f"{verdict} {outcome}"
    assert content(artifact) == before


@needs_emulator
def test_plain_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], around: StandIns
) -> None:
    """Where Lambda's Python is missing, plain sources ship, with a warning, and run as well."""
    monkeypatch.setattr(build_artifact, "_is_runtime", lambda _: False)
    monkeypatch.delenv("PYTHON313", raising=False)
    monkeypatch.setattr(sys, "argv", ["build_artifact.py", str(tmp_path / "artifact")])

    build_artifact.main()

    event = samples.load(ROOT / "events/direct.json")
    seeded = samples.seed(around.studio, event | {"execution_sid": "FN" + "0" * 32})
    with Emulated(around.environment, path=tmp_path / "artifact") as function:
        outcome = function.invoke(event | {"execution_sid": "FN" + "0" * 32})
    assert "WARNING: there is no CPython 3.13" in capsys.readouterr().out
    assert not list((tmp_path / "artifact").rglob("*.pyc"))
    assert (tmp_path / "artifact/end_conversation/app.py").exists()
    assert run.judge(outcome, seeded)[0], outcome


def test_directory_with_leftovers(tmp_path: Path) -> None:
    """What is in the directory already would ship, too: it is refused."""
    (tmp_path / "left.py").touch()

    with pytest.raises(SystemExit, match="is not empty"):
        build_artifact.build(tmp_path, None)


def wheel(path: Path, names: list[str]) -> str:
    """A wheel with these files, and the line that locks it."""
    with ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return f"wheel==1 --hash=sha256:{sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes sources whose one dependency is a wheel with these files, and maybe not the locked one."""
    (tmp_path / "src/end_conversation").mkdir(parents=True)
    monkeypatch.setattr(build_artifact, "HERE", tmp_path / "src")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(names: list[str], *, locked: bool = True) -> Path:
        lock = wheel(tmp_path / "wheel-1-py3-none-any.whl", names)
        lock = lock if locked else lock[::-1]
        (tmp_path / "src/requirements.txt").write_text(lock)
        cached = tmp_path / "cache/end-conversation" / sha256(lock.encode()).hexdigest()[:16]
        cached.mkdir(parents=True)
        shutil.move(tmp_path / "wheel-1-py3-none-any.whl", cached)
        return tmp_path / "artifact"

    return make


def test_cached_dependency_is_checked(source: Callable[..., Path]) -> None:
    """A dependency that changed in the cache does not ship."""
    directory = source(["module.py"], locked=False)

    with pytest.raises(SystemExit, match=r"is not what requirements\.txt names"):
        build_artifact.build(directory, None)


def test_dependency_that_wants_more_than_unpacking(source: Callable[..., Path]) -> None:
    """A wheel with files for other places is refused, not shipped in part."""
    directory = source(["module.py", "wheel-1.data/purelib/more.py"])

    with pytest.raises(SystemExit, match="installed, not unpacked"):
        build_artifact.build(directory, None)


def test_dependency_is_unpacked(source: Callable[..., Path]) -> None:
    """Of a wheel its code ships, without its scripts and metadata."""
    directory = source(["module.py", "wheel-1.data/scripts/tool", "wheel-1.dist-info/METADATA"])

    build_artifact.build(directory, None)

    assert list(content(directory)) == ["module.py"]


def test_wrong_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that is named, and is not of Lambda's version, is told and not passed over."""
    monkeypatch.setenv("PYTHON313", "/bin/false")

    with pytest.raises(SystemExit, match=r"PYTHON313=/bin/false is no CPython 3\.13"):
        build_artifact.find_interpreter()


def test_version_is_the_template() -> None:
    """The bytecode is for the Python that the template asks for."""
    assert TEMPLATE["Globals"]["Function"]["Runtime"] == f"python{build_artifact.RUNTIME}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_makefile(name: str, tmp_path: Path) -> None:
    """`sam build` finds a target for each function, and all of them build the same."""
    resource: dict[str, Any] = TEMPLATE["Resources"][name]
    command = ["make", "--dry-run", f"ARTIFACTS_DIR={tmp_path}", "PYTHON=python", f"build-{name}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        command, cwd=ROOT / "src", env=environment, capture_output=True, text=True, check=True
    )

    assert resource["Metadata"]["BuildMethod"] == "makefile"
    assert "CodeUri" not in resource["Properties"]
    assert done.stdout.split("\n") == [f'python build_artifact.py "{tmp_path}"', ""]
