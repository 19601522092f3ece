"""``make run``: one event through the function, and whether the outcome is the expected one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local import run
from local.rie import Outcome
from local.samples import Seeded
from local.studio import Executions

ROOT = Path(run.__file__).parent.parent


@pytest.mark.parametrize(
    ("answer", "ended", "expected"),
    [
        ({"statusCode": 200}, True, "OK: 1 ended."),
        ({"statusCode": 200}, False, "Wrong: FN"),
        ({"statusCode": 404}, False, "OK: the event was rejected"),
        ({"statusCode": 404}, True, "Wrong: ended FN"),
        ({"statusCode": 502}, False, "Wrong: the function failed."),
        ({"errorType": "InvalidRequest", "errorMessage": ""}, False, "OK: the event was rejected"),
        ({"errorType": "TwilioError", "errorMessage": ""}, False, "Wrong: the function failed."),
        ({"batchItemFailures": []}, True, "OK: 1 ended."),
        ({"batchItemFailures": [{"itemIdentifier": "1"}]}, False, "Wrong: FN"),
        (None, False, "Wrong: FN"),
    ],
)
def test_judge(answer: Any, *, ended: bool, expected: str) -> None:
    """It went well if everything named has ended and nothing else, or if the event is refused."""
    execution = Executions().add("FW" + "1" * 32, status="ended" if ended else "active")
    is_expected, verdict = run.judge(Outcome(answer, []), Seeded([execution], []))
    assert verdict.startswith(expected)
    assert is_expected == expected.startswith("OK")
    if ended:
        assert not run.judge(Outcome(answer, []), Seeded([], [execution]))[0]


SYNCHRONOUS = (
    *("active -> ended", '"statusCode": 200', "Status=ended  200", '"detail-type": "ConversationEnded"'),
    *('"conversation_ended"', "ExecutionsEnded  1 Count"),
)
# The source is that of the outcome event.
BY_THE_QUEUE = (
    '"statusCode": 202',
    "Answer to the batch",
    "CommandsQueued  1 Count",
    '"source": "salesforce"',
)


@pytest.mark.parametrize(
    ("event", "printed"), [("http", SYNCHRONOUS), ("source-salesforce", BY_THE_QUEUE)], ids=["http", "source"]
)
def test_run(event: str, printed: tuple[str, ...]) -> None:
    """The verdict comes first, then what led to it; the event comes last, and only if asked for."""
    command = [sys.executable, "-m", "local.run", f"events/{event}.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK: 1 ended.\n")
    assert [text for text in printed if text not in done.stdout] == []
    assert '"routeKey"' not in done.stdout
    assert "\033" not in done.stdout


def test_verbose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The event is there when it is asked for."""
    monkeypatch.setenv("VERBOSE", "1")
    monkeypatch.setattr(sys, "argv", ["run", str(ROOT / "events/direct-invalid.json")])
    with pytest.raises(SystemExit) as left:
        run.main()
    assert left.value.code == 0
    assert "OK: the event was rejected" in (output := capsys.readouterr().out)
    assert output.partition("direct-invalid.json")[2].lstrip().startswith("{")


def test_no_such_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file is one line."""
    monkeypatch.setattr(sys, "argv", ["run", "events/none.json"])
    with pytest.raises(SystemExit, match=r"events/none\.json: .*No such file"):
        run.main()
