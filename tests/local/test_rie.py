"""A function under the Runtime Interface Emulator, and in process where that does not run."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually, needs_emulator

from local import rie
from local.rie import Emulated, InProcess

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
def code(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Code of its own for every test, since a process imports a module once."""
    name = f"app_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(HANDLER)
    return {"path": tmp_path, "handler": f"{name}.handler"}


@pytest.fixture(params=[pytest.param(Emulated, marks=needs_emulator), InProcess])
def function(request: pytest.FixtureRequest, code: dict[str, Any]) -> Iterator[Emulated | InProcess]:
    with request.param({"COLOUR": "blue"}, **code, timeout=20) as function:
        yield function


def test_invocations(function: Emulated | InProcess) -> None:
    """The process stays; each invocation has its answer and its own lines, logs and metrics apart."""
    outcomes = [function.invoke({"a": ["ü", None]}) for _ in range(2)]
    for number, outcome in enumerate(outcomes, 1):
        assert outcome.answer == {
            "event": {"a": ["ü", None]},
            "invocations": number,
            "name": "EndConversationFunction",
        }
        (log,) = outcome.logs
        assert 10 < json.loads(log)["seconds"] <= 20
        assert [document["Invocations"] for document in outcome.metrics] == [number]
        assert outcome.error is None


def test_error(function: Emulated | InProcess) -> None:
    """What the handler raises is an error of that type, and the next invocation works."""
    outcome = function.invoke({"raise": "boom"})
    assert (outcome.error, outcome.answer["errorMessage"]) == ("ValueError", "boom")
    assert function.invoke({}).answer["invocations"] == 2


def test_environment(function: Emulated | InProcess) -> None:
    """The function has the given variables, and Lambda's."""
    names = ["COLOUR", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_CONFIG_FILE"]
    answers = [function.invoke({"environment": name}).answer for name in names]
    assert answers == ["blue", "256", os.devnull]


def test_too_large(function: Emulated | InProcess) -> None:
    """An event that is too large for Lambda is refused."""
    with pytest.raises(ValueError, match="6291456 bytes"):
        function.invoke("x" * 6_291_455)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@needs_emulator
class TestEmulated:
    """What only the emulator does."""

    def test_isolation(self, code: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """The caller's environment does not reach the function, and leaving ends every process."""
        monkeypatch.setenv("AWS_PROFILE", "production")
        with Emulated({}, **code) as function:
            assert function.invoke({"environment": "AWS_PROFILE"}).answer is None
            processes = [function._process.pid, function.invoke({"process": "id"}).answer]
        assert eventually(lambda: not any(map(is_running, processes)), seconds=30)

    @pytest.mark.parametrize(
        ("event", "timeout", "error"),
        [({"sleep": 60}, 4, "Sandbox.Timedout"), ({"exit": 3}, 30, "Runtime.ExitError")],
    )
    def test_restart(self, code: dict[str, Any], event: Any, timeout: int, error: str) -> None:
        """A process that takes too long, or exits, is an error; the next invocation starts another."""
        with Emulated({}, **code, timeout=timeout) as function:
            assert function.invoke(event).error == error
            # On a busy machine, the start of the other may take too long, too.
            outcomes = (function.invoke({}) for _ in range(10))
            assert next(each for each in outcomes if not each.error).answer["invocations"] == 1

    def test_no_such_handler(self, tmp_path: Path) -> None:
        """A handler that cannot be imported is Lambda's own error, with the traceback among the lines."""
        with Emulated({}, path=tmp_path, handler="nowhere.handler") as function:
            outcome = function.invoke({})
        assert outcome.error == "Runtime.ImportModuleError"
        assert any("No module named 'nowhere'" in line for line in outcome.lines)

    def test_does_not_start(self, code: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """An emulator that exits at once is an error with its output."""
        monkeypatch.setattr(rie, "_executable", lambda _: "/bin/false")
        with pytest.raises(RuntimeError, match="did not start"), Emulated({}, **code):
            pass


def test_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the emulator, the handler runs in this process, and a note says so."""
    monkeypatch.setattr(rie.sys, "platform", "darwin")
    monkeypatch.setattr(rie.platform, "system", lambda: "Darwin")
    with rie.function({}) as function:
        assert isinstance(function, InProcess)
        assert "does not run on Darwin" in function.note
