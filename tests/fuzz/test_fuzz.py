"""The fuzzer in small: it finds nothing in the function as it is, and finds what there is to be found."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase

from end_conversation.command import Command
from end_conversation.config import Config
from end_conversation.twilio.credentials import Credentials
from fuzz import targets
from fuzz.__main__ import ROOT, engines
from fuzz.inputs import FLOWS
from fuzz.model import is_valid
from fuzz.targets import TARGETS
from fuzz.world import Finding

# Nobody can install it elsewhere; on Linux on x86_64, and so in CI, nothing is left out.
needs_atheris = pytest.mark.skipif(
    "atheris" not in engines(), reason="atheris has wheels for Linux on x86_64 only"
)


def send(name: str, inputs: int, handler: str | None = None) -> None:
    """So many inputs to a target, always the same."""
    with TARGETS[name](handler) as target:

        @hypothesis.settings(
            max_examples=inputs,
            derandomize=True,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(target.inputs)
        def test(value: Any) -> None:
            target.check(value)

        test()


def fuzz(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run it as people do, with the bad functions at hand."""
    return subprocess.run(
        [sys.executable, "-m", "fuzz", "--directory", directory, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(Path(__file__).parent)])},
    )


def change_command(monkeypatch: pytest.MonkeyPatch, *, valid: bool, **changes: str | None) -> None:
    """Let the parser look at something else than it is given, where that is valid, or is not."""
    parse = Command.parse

    def changed(payload: Any) -> Command:
        is_meant = isinstance(payload, dict) and is_valid(payload) is valid
        return parse(payload | changes if is_meant else payload)

    monkeypatch.setattr(Command, "parse", changed)


@pytest.fixture
def _bad_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found(target: str) -> None:
    """The function keeps what is promised of it, whatever it is sent."""
    send(target, 100)


FOUND = {
    ("events", "crashing"): "an error that nobody foresaw",
    ("events", "talkative"): "a canary is in",
    ("events", "indiscreet"): "a canary is in",
    ("events", "outspoken"): "a canary is in",
    ("events", "confiding"): "a secret is in what a caller may choose",
    ("events", "unfaithful"): "it went where nobody sent it",
    ("events", "untidy"): "a line of output that is no JSON",
    ("events", "trusting"): "Twilio was asked for what nobody may ask for",
    ("events", "mistaken"): "what no command is about was ended",
    ("events", "hasty"): "what no command is about was ended",
    ("events", "uncounted"): "the metric is not what was ended",
    ("events", "forgetful"): "is not what has to come of a message",
    ("events", "failing"): "500 while nothing around the function fails",
    ("webhooks", "gullible"): "what nobody signed is taken",
    ("webhooks", "deaf"): "what was rightly signed is refused",
    ("sweeps", "eager"): "what was only to be counted was ended",
    ("sweeps", "impatient"): "what is not stuck was ended",
    ("answers", "slow"): "it took",
}


@pytest.mark.usefixtures("_bad_functions")
@pytest.mark.parametrize(("target", "function"), FOUND)
def test_what_may_not_be_is_found(target: str, function: str) -> None:
    """A function that does what it may not do is found out, for what it does."""
    with pytest.raises(Finding, match=FOUND[target, function]):
        send(target, 2000, f"functions.{function}")


def test_command_that_is_invalid_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another implementation of JSON Schema has its say about every command that is taken."""
    change_command(monkeypatch, valid=False, flow_sid=FLOWS[0])

    with pytest.raises(Finding, match="an invalid command is taken"):
        send("commands", 2000)


def test_command_that_is_valid_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """… and about every one that is refused."""
    change_command(monkeypatch, valid=True, occurred_at="today")

    with pytest.raises(Finding, match="a valid command is refused"):
        send("commands", 2000)


def test_command_that_becomes_another_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """… and nothing in it may change."""
    change_command(monkeypatch, valid=True, flow_sid=FLOWS[1])

    with pytest.raises(Finding, match="flow_sid is another one"):
        send("commands", 2000)


def test_credentials_that_are_none_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no value of a header does not become one."""
    monkeypatch.setattr(targets, "parse_credentials", Credentials)

    with pytest.raises(Finding, match="no value of a header"):
        send("secrets", 2000)


def test_settings_that_give_the_credentials_away_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the clear they only go where nobody else listens."""
    read = Config.from_environment
    monkeypatch.setattr(
        Config, "from_environment", lambda environ: read({**environ, "AWS_SAM_LOCAL": "true"})
    )

    with pytest.raises(Finding, match="the credentials may travel in the clear"):
        send("settings", 2000)


def test_command_line_tells_what_was_found(tmp_path: Path) -> None:
    """A finding comes with its input, and fails the run."""
    done = fuzz(
        tmp_path,
        *("--target", "events", "--engine", "hypothesis", "--seconds", "2"),
        *("--handler", "functions.greedy"),
    )

    assert "are too much" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    assert "found with: " in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize("engine", ["hypothesis", pytest.param("atheris", marks=needs_atheris)])
def test_command_line_tells_that_nothing_was_found(tmp_path: Path, engine: str) -> None:
    """With figures."""
    done = fuzz(tmp_path, "--target", "settings", "--engine", engine, "--seconds", "1")

    assert done.stdout.rstrip().endswith("nothing found"), done.stdout[-2000:] + done.stderr[-2000:]
    assert "| settings: taken" in done.stdout
    assert done.returncode == 0


@needs_atheris
def test_coverage_finds_it_too(tmp_path: Path) -> None:
    """What the other engine made up is kept, to be tried again."""
    done = fuzz(
        tmp_path,
        *("--target", "sweeps", "--engine", "atheris", "--seconds", "20"),
        *("--handler", "functions.eager"),
    )

    assert "what was only to be counted was ended" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    assert list(tmp_path.glob("sweeps-crash-*"))
