"""The examples of docs/webhook.md and the README work as printed."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import ROOT, Api, serving

from local.signing import KEY, ROUTE

SECTION = (ROOT / "docs/webhook.md").read_text().partition("## Examples")[2].partition("\n## ")[0]
README = (ROOT / "README.md").read_text().partition("**A signed webhook,**")[2]
COMMANDS = {
    "javascript": ["node", "--input-type=module", "-"],
    "sh": ["sh", "-eu"],
}
EXAMPLES = dict(re.findall(r"^```(javascript|sh)\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving() as running:
        yield running


def test_every_language_has_its_example() -> None:
    """Each language has one."""
    assert EXAMPLES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("language", COMMANDS)
def test_an_example_ends_its_execution(api: Api, language: str) -> None:
    """Copied from the page and run, it gets 200, and the Execution ends."""
    program, *arguments = COMMANDS[language]
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    flow_sid, sid = re.findall(r"F[WN][0-9a-f]{32}", EXAMPLES[language])
    executions = api.stand_ins.studio.executions
    executions.delete(flow_sid, sid)
    executions.add(flow_sid, sid)
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "WEBHOOK_URL": api.url + ROUTE, "WEBHOOK_KEY": KEY}
    done = subprocess.run(
        [program, *arguments],
        input=EXAMPLES[language],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "200" in done.stdout
    assert executions.get(flow_sid, sid).status == "ended"


def test_the_example_of_the_readme_ends_its_execution(api: Api, tmp_path: Path) -> None:
    """With a command in command.json, it prints the result."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    execution = api.stand_ins.studio.seed("FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b")
    command = {"flow_sid": execution.flow_sid, "execution_sid": execution.sid}
    (tmp_path / "command.json").write_text(json.dumps(command))
    done = subprocess.run(
        [sys.executable, "-"],
        input=example,
        env={"WEBHOOK_URL": api.url + ROUTE, "WEBHOOK_KEY": KEY},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["executions"][0]["status"] == "ended"
