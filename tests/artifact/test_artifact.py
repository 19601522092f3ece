"""What `sam build` makes: what is in it, and that it runs. `make release` builds it twice and compares."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import boto3
import pytest
from conftest import needs_emulator
from samcli.lib.package.utils import make_zip
from samcli.yamlhelper import yaml_parse

import build_artifact
from local import poller, rie, run, samples
from local.rie import Emulated
from local.signing import renewed
from local.stand_ins import StandIns, stand_ins

ROOT = Path(__file__).parent.parent.parent
EVENTS = sorted((ROOT / "events").glob("*.json"))
TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())


@pytest.fixture(scope="module")
def interpreter() -> str:
    """Python of Lambda's version, or where it is missing, the running one."""
    return build_artifact.find_interpreter() or sys.executable


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact as built where Lambda's Python is missing, with what was printed beside it."""
    directory = tmp_path_factory.mktemp("plain") / "artifact"
    command = [sys.executable, build_artifact.__file__, directory]
    environment = os.environ | {"PATH": "", "PYENV_ROOT": "/nowhere"}
    environment.pop("PYTHON313", None)
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    directory.with_name("printed").write_text(printed)
    return directory


@pytest.fixture(scope="module")
def built(plain: Path, interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact as built: the same, compiled."""
    directory = tmp_path_factory.mktemp("built") / "artifact"
    shutil.copytree(plain, directory)
    build_artifact._compile(directory, interpreter)
    return directory


@pytest.fixture(scope="module")
def artifact(built: Path) -> Path:
    """The artifact as in Lambda: read-only."""
    for path in (*built.rglob("*"), built):
        path.chmod(path.stat().st_mode & ~0o222)
    return built


def content(directory: Path) -> dict[str, bytes]:
    """The files."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def python(interpreter: str, path: Path, code: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run code with nothing but the standard library and the artifact."""
    command = [interpreter, "-S", "-c", code]
    environment = {"PYTHONPATH": str(path), "AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=False)


def test_contents(built: Path, tmp_path: Path) -> None:
    """Well below 3 MB: bytecode, data, versions and licences; no sources, scripts or compiled extensions."""
    assert {Path(name).suffix for name in content(built)} == {".pyc", ".json", ".gz", ".pem", ".txt", ""}
    assert not list(built.rglob("__pycache__"))
    assert Path(make_zip(str(tmp_path / "artifact"), str(built))).stat().st_size < 2_900_000


def test_metadata(artifact: Path, interpreter: str) -> None:
    """The licences are there, and every package's version, without which OpenTelemetry does nothing."""
    code = "import sys, importlib.metadata as m; print(*map(m.version, sys.stdin.read().split()))"
    lock = (ROOT / "src/requirements.txt").read_text()
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+)", lock, re.MULTILINE))

    done = python(interpreter, artifact, code, " ".join(locked))

    assert locked
    assert (artifact / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert done.stdout.split() == list(locked.values()), done.stderr
    for name, version in locked.items():
        assert list(artifact.glob(f"{name.replace('-', '_')}-{version}.dist-info/**/LICENSE*"))


def test_services(built: Path) -> None:
    """Every service that the code or a layer makes a client for has its model, and no other has."""
    sources = [path.read_text() for path in (ROOT / "src/end_conversation").rglob("*.py")]
    used = {name for text in sources for name in re.findall(r'\bclient\(\s*"([\w-]+)"', text)}
    models = {path.parent.parent.name for path in built.glob("botocore/data/*/*/service-2.json*")}

    assert used == set(build_artifact.SERVICES)
    assert models == used | {"kms", "ssm"}


def test_bytecode_is_never_checked(built: Path, interpreter: str) -> None:
    """All bytecode is the interpreter's own, with a hash that Python does not check."""
    ask = "import importlib.util; print(importlib.util.MAGIC_NUMBER.hex())"
    magic = python(interpreter, built, ask).stdout
    headers = {code[:8] for name, code in content(built).items() if name.endswith(".pyc")}

    # https://peps.python.org/pep-0552/: bit 0 is "hash-based", bit 1 is "check the source".
    assert headers == {bytes.fromhex(magic) + (0b01).to_bytes(4, "little")}


def test_late_imports(artifact: Path, interpreter: str) -> None:
    """What the code imports on first use has its data: every country's phone numbers."""
    code = """
from aws_lambda_powertools.utilities.jmespath_utils import PowertoolsFunctions, query
print(query({"body": '{"id": 1}'}, "powertools_json(body).id"))
import phonenumbers
examples = [phonenumbers.example_number(region) for region in phonenumbers.SUPPORTED_REGIONS]
print(len(examples) > 240 and all(phonenumbers.is_possible_number(number) for number in examples))
"""
    done = python(interpreter, artifact, code)

    assert done.stdout == "1\nTrue\n", done.stderr


def test_tracebacks(artifact: Path, interpreter: str) -> None:
    """A traceback shows files as in Lambda, and lines as in the sources."""
    code = "from end_conversation.command import Command; Command.parse('{')"
    failed = python(interpreter, artifact, code)
    lines = re.findall(r'File "/var/task/end_conversation/(\w+\.py)", line (\d+), in (\w+)', failed.stderr)

    assert lines
    for name, line, function in lines:
        source = (ROOT / "src/end_conversation" / name).read_text().splitlines()
        begins = next(number for number, text in enumerate(source, 1) if f"def {function}(" in text)
        assert begins < int(line) <= len(source)


def test_endpoints(artifact: Path, interpreter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3's clients have their usual endpoints, in every region of every partition."""
    code = """
import json, sys, boto3
session = boto3.Session()
print(json.dumps([session.client(*pair).meta.endpoint_url for pair in json.load(sys.stdin)]))
"""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    session = boto3.Session()
    pairs = [(service, "us-gov-west-1") for service in build_artifact.LAYER_SERVICES]
    pairs += [
        (service, region)
        for service in build_artifact.SERVICES
        for partition in session.get_available_partitions()
        for region in session.get_available_regions(service, partition)
    ]

    done = python(interpreter, artifact, code, json.dumps(pairs))

    assert len(pairs) > 50
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [session.client(*pair).meta.endpoint_url for pair in pairs]


@pytest.fixture(scope="module")
def around() -> Iterator[StandIns]:
    with stand_ins() as running:
        yield running


@pytest.fixture(scope="module")
def runtime(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Python with Lambda's runtime client, and nothing else that the artifact could use."""
    venv = tmp_path_factory.mktemp("runtime")
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", interpreter, venv], check=True)
    executable = str(venv / "bin/python")
    options = ["--quiet", "--system-certs", "--python", executable, "-c", ROOT / "requirements/dev.txt"]
    subprocess.run([*uv, "pip", "install", *options, "awslambdaric"], check=True)
    return executable


@pytest.fixture(scope="module")
def functions(artifact: Path, runtime: str, around: StandIns) -> Iterator[Callable[..., Emulated]]:
    """Both functions under the Runtime Interface Emulator; the argument chooses the one that sweeps."""
    with (
        Emulated(around.environment, path=artifact, python=runtime) as function,
        Emulated(
            around.environment, path=artifact, python=runtime, handler=rie.SWEEP_HANDLER, timeout=900
        ) as sweep,
    ):
        yield lambda is_sweep=False: sweep if is_sweep else function


@needs_emulator
@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_samples(path: Path, artifact: Path, functions: Callable[..., Emulated], around: StandIns) -> None:
    """Every sample does what it should with nothing but the artifact, which stays as it was."""
    before = content(artifact)
    event = renewed(samples.load(path))
    seeded = samples.seed(around.studio, event)

    outcome = functions(samples.is_sweep(event)).invoke(event)
    poller.poll(around, functions())

    expected, verdict = run.judge(outcome, seeded)
    assert expected, f"{verdict} {outcome}"
    assert content(artifact) == before


def test_plain_sources(plain: Path) -> None:
    """Where Lambda's Python is missing, plain sources ship, with a warning, and run as well."""
    assert "WARNING: CPython 3.13 is missing" in plain.with_name("printed").read_text()
    code = "import end_conversation.app; print(end_conversation.app.__file__)"
    done = python(sys.executable, plain, code)
    assert done.stdout.strip() == str(plain / "end_conversation/app.py"), done.stderr


def test_directory_with_leftovers(tmp_path: Path) -> None:
    """A directory that is not empty is refused: its files would ship, too."""
    (tmp_path / "left.py").touch()

    with pytest.raises(SystemExit, match="is not empty"):
        build_artifact.build(tmp_path, None)


@pytest.mark.parametrize(
    ("wheel", "added", "ships"),
    [
        ("module-1-py3-none-any.whl", b"", True),
        ("module-1-py3-none-any.whl", b"since it was locked", False),
        ("module-1-cp313-cp313-linux_x86_64.whl", b"", False),
    ],
    ids=["good", "wrong hash", "not pure Python"],
)
def test_dependencies(
    wheel: str, added: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ships: bool
) -> None:
    """A dependency ships only if it is what the lock names, and pure Python."""
    path = tmp_path / wheel
    with ZipFile(path, "w") as archive:
        archive.writestr("module.py", "")
        archive.writestr("module-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: module\nVersion: 1\n")
        archive.writestr("module-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        archive.writestr("module-1.dist-info/RECORD", "")
    lock = f"module==1 --hash=sha256:{sha256(path.read_bytes()).hexdigest()}\n"
    (tmp_path / "requirements.txt").write_text(lock)
    path.write_bytes(added + path.read_bytes())
    monkeypatch.setattr(build_artifact, "HERE", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

    with suppress(subprocess.CalledProcessError):
        build_artifact._install(tmp_path / "artifact")

    assert (tmp_path / "artifact/module.py").exists() is ships


def test_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytecode is for the Python of the template; another one that is named is an error."""
    assert TEMPLATE["Globals"]["Function"]["Runtime"] == f"python{build_artifact.RUNTIME}"
    monkeypatch.setenv("PYTHON313", "/bin/false")

    with pytest.raises(SystemExit, match=r"PYTHON313=/bin/false is not CPython 3\.13"):
        build_artifact.find_interpreter()
