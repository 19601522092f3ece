"""A function under the Runtime Interface Emulator, and in process where that does not run."""

import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import rie
from local.rie import Emulated, InProcess

# On macOS and Windows Lambda's runtime client does not install; on Linux, and so in CI, nothing is left out.
needs_emulator = pytest.mark.skipif(bool(rie.missing()), reason=f"no emulator: {rie.missing()}")

HANDLER = """
import json, os, sys, time

invocations = 0

def handler(event, context):
    global invocations
    invocations += 1
    print(json.dumps({"message": "invoked", "seconds": context.get_remaining_time_in_millis() / 1000}))
    print(json.dumps({"_aws": {"CloudWatchMetrics": []}, "Invocations": invocations}))
    match event:
        case {"raise": text}:
            raise ValueError(text)
        case {"exit": status}:
            os._exit(status)
        case {"sleep": seconds}:
            time.sleep(seconds)
        case {"process": "id"}:
            return os.getpid()
        case {"environment": name}:
            return os.environ.get(name)
    return {"event": event, "invocations": invocations, "name": context.function_name}
"""


@pytest.fixture
def path(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """Code of its own for every test, since a process imports a module once."""
    name = f"app_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(HANDLER))
    return tmp_path, f"{name}.handler"


@pytest.fixture(params=[pytest.param(Emulated, marks=needs_emulator), InProcess])
def function(request: pytest.FixtureRequest, path: tuple[Path, str]) -> Iterator[Emulated | InProcess]:
    code, handler = path
    with request.param({"COLOUR": "blue"}, path=code, handler=handler, timeout=20) as function:
        yield function


def test_answer_and_lines(function: Emulated | InProcess) -> None:
    """An invocation gives the answer, and what it wrote: logs and metrics apart."""
    outcome = function.invoke({"a": ["ü", None]})
    answer, lines = outcome
    assert answer == {"event": {"a": ["ü", None]}, "invocations": 1, "name": "EndConversationFunction"}
    assert len(lines) == 2
    assert '"message": "invoked"' in outcome.logs[0]
    assert [document["Invocations"] for document in outcome.metrics] == [1]
    assert outcome.error is None


def test_warm(function: Emulated | InProcess) -> None:
    """The process stays, and each invocation gets only its own lines."""
    outcomes = [function.invoke({}) for _ in range(3)]
    assert [outcome.answer["invocations"] for outcome in outcomes] == [1, 2, 3]
    assert [outcome.metrics[0]["Invocations"] for outcome in outcomes] == [1, 2, 3]


def test_error(function: Emulated | InProcess) -> None:
    """What the handler raises is an error of that type, and the next invocation is as any other."""
    outcome = function.invoke({"raise": "boom"})
    assert (outcome.error, outcome.answer["errorMessage"]) == ("ValueError", "boom")
    assert function.invoke({}).answer["invocations"] == 2


def test_time_left(function: Emulated | InProcess) -> None:
    """The function is told how much time it has."""
    (log,) = function.invoke({}).logs
    assert 10 < float(log.rpartition(":")[2].rstrip("}")) <= 20


def test_environment(function: Emulated | InProcess) -> None:
    """The function has the given variables, and Lambda's."""
    names = ["COLOUR", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_CONFIG_FILE"]
    answers = [function.invoke({"environment": name}).answer for name in names]
    assert answers == ["blue", "256", os.devnull]


def test_too_large(function: Emulated | InProcess) -> None:
    """An event that Lambda does not take is refused."""
    with pytest.raises(ValueError, match="6291456 bytes"):
        function.invoke("x" * 6_291_455)


@needs_emulator
class TestEmulated:
    """What only the emulator does."""

    def test_nothing_of_the_caller(self, path: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
        """The caller's own environment does not reach the function."""
        monkeypatch.setenv("AWS_PROFILE", "production")
        code, handler = path
        with Emulated({}, path=code, handler=handler) as function:
            assert function.invoke({"environment": "AWS_PROFILE"}).answer is None

    def test_timeout(self, path: tuple[Path, str]) -> None:
        """Who takes too long is stopped, and the next invocation starts anew."""
        code, handler = path
        with Emulated({}, path=code, handler=handler, timeout=2) as function:
            assert function.invoke({"sleep": 5}).error == "Sandbox.Timedout"
            assert function.invoke({}).answer["invocations"] == 1

    def test_exit(self, path: tuple[Path, str]) -> None:
        """A process that ends by itself is an error, and the next invocation starts anew."""
        code, handler = path
        with Emulated({}, path=code, handler=handler) as function:
            assert function.invoke({"exit": 3}).error == "Runtime.ExitError"
            assert function.invoke({}).answer["invocations"] == 1

    def test_no_such_handler(self, tmp_path: Path) -> None:
        """A handler that cannot be imported is Lambda's own error, with the traceback among the lines."""
        with Emulated({}, path=tmp_path, handler="nowhere.handler") as function:
            outcome = function.invoke({})
        assert outcome.error == "Runtime.ImportModuleError"
        assert any("No module named 'nowhere'" in line for line in outcome.lines)

    def test_another_interpreter(self, path: tuple[Path, str], tmp_path: Path) -> None:
        """The interpreter is the given one."""
        code, handler = path
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nINTERPRETER=mine exec {sys.executable} "$@"\n')
        python.chmod(0o700)
        with Emulated({}, path=code, handler=handler, python=python) as function:
            assert function.invoke({"environment": "INTERPRETER"}).answer == "mine"

    def test_no_executable_bit(
        self, path: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An installer that loses the executable bit does no harm."""
        binary = tmp_path / "emulator"
        binary.write_bytes(rie._emulator().read_bytes())
        binary.chmod(0o400)
        monkeypatch.setattr(rie, "_emulator", lambda: binary)
        monkeypatch.setattr(rie.os, "access", lambda path, _: path != binary)
        code, handler = path
        with Emulated({}, path=code, handler=handler) as function:
            assert function.invoke({}).answer["invocations"] == 1

    def test_nothing_is_left(self, path: tuple[Path, str]) -> None:
        """Leaving ends the emulator, and with it the function's process."""
        code, handler = path
        with Emulated({}, path=code, handler=handler) as function:
            processes = [function._process.pid, function.invoke({"process": "id"}).answer]
        for process in processes:
            with pytest.raises(ProcessLookupError):
                os.kill(process, 0)

    def test_does_not_start(self, path: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
        """An emulator that ends at once is told with its own words."""
        monkeypatch.setattr(rie, "_executable", lambda _: "/bin/false")
        code, handler = path
        with pytest.raises(RuntimeError, match="did not start"), Emulated({}, path=code, handler=handler):
            pass


def test_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the emulator does not run the handler is called in process, and that is said."""
    monkeypatch.setattr(rie.sys, "platform", "darwin")
    monkeypatch.setattr(rie.platform, "system", lambda: "Darwin")
    with rie.function({}) as function:
        assert isinstance(function, InProcess)
        assert "does not run on Darwin" in function.note
