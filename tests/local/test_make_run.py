"""``make run``: one event through the function, and whether that went as one would expect."""

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
        ({"statusCode": 200}, True, True),
        ({"statusCode": 200}, False, False),
        ({"statusCode": 404}, False, True),
        ({"statusCode": 404}, True, False),
        ({"statusCode": 502}, False, False),
        ({"executions": []}, True, True),
        ({"errorType": "InvalidRequest", "errorMessage": ""}, False, True),
        ({"errorType": "TwilioError", "errorMessage": ""}, False, False),
        ({"errorType": "Sandbox.Timedout", "errorMessage": ""}, True, False),
        ({"batchItemFailures": []}, True, True),
        ({"batchItemFailures": [{"itemIdentifier": "1"}]}, False, False),
        (None, False, False),
    ],
)
def test_judge(answer: Any, *, ended: bool, expected: bool) -> None:
    """It went well if all that is named is ended, or if the event is refused and nothing is."""
    executions = Executions()
    execution = executions.add("FW" + "1" * 32, status="ended" if ended else "active")
    assert run.judge(Outcome(answer, []), Seeded([execution], []))[0] is expected


@pytest.mark.parametrize("answer", [{"executions": []}, {"complete": True}, {"statusCode": 200}])
def test_judge_of_bystanders(answer: Any) -> None:
    """Ending an Execution that is none of the event's is no success."""
    executions = Executions()
    execution = executions.add("FW" + "1" * 32, status="ended")
    assert not run.judge(Outcome(answer, []), Seeded([], [execution]))[0]


def sections_of(event: str) -> dict[str, str]:
    """What the command prints for an event, by title."""
    done = subprocess.run(
        [sys.executable, "-m", "local.run", event], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\033" not in done.stdout
    return dict(part.split("\n", 1) for part in done.stdout.split("\n\n") if "\n" in part)


def test_run() -> None:
    """The command shows the event, the Execution before and after, the answer, and what came of it."""
    sections = sections_of("events/http.json")
    assert '"routeKey": "POST /conversations/end"' in sections["Event: events/http.json"]
    assert "  active  " in sections["Executions before"]
    assert "  ended  " in sections["Executions after"]
    assert '"statusCode": 200' in next(text for title, text in sections.items() if title.startswith("Answer"))
    (asked,) = sections["What Twilio was asked"].splitlines()
    assert asked.endswith("Status=ended  200")
    assert '"detail-type": "ConversationEnded"' in sections["Outcome events"]
    assert '"conversation_ended"' in sections["Logs"]
    assert "ExecutionsEnded  1 Count" in sections["Metrics"]


def test_run_of_what_is_queued() -> None:
    """A command that is accepted for later is carried out before the Executions are shown again."""
    sections = sections_of("events/http-async.json")
    assert '"statusCode": 202' in next(
        text for title, text in sections.items() if title.startswith("Answer,")
    )
    assert '"batchItemFailures": []' in sections["Answer to the batch from the queue"]
    assert "  ended  " in sections["Executions after"]
    assert "CommandsQueued  1 Count" in sections["Metrics"]


def test_no_such_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that is not there is told in one line."""
    monkeypatch.setattr(sys, "argv", ["run", "events/none.json"])
    with pytest.raises(SystemExit, match=r"events/none\.json: .*No such file"):
        run.main()
