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


def run(command: list[str], source: str, api: Api, folder: Path) -> str:
    """The output of a program that gets the URL and the key as the pages say."""
    done = subprocess.run(
        command,
        input=source,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "WEBHOOK_URL": api.url + ROUTE, "WEBHOOK_KEY": KEY},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_language_has_its_example() -> None:
    """The page has one for each."""
    assert EXAMPLES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("language", COMMANDS)
def test_an_example_ends_its_execution(api: Api, tmp_path: Path, language: str) -> None:
    """Copied from the page and run, it gets 200."""
    if not shutil.which(COMMANDS[language][0]):
        pytest.skip(f"{COMMANDS[language][0]} is not installed")
    flow_sid, sid = re.findall(r"F[WN][0-9a-f]{32}", EXAMPLES[language])
    executions = api.stand_ins.studio.executions
    executions.delete(flow_sid, sid)
    executions.add(flow_sid, sid)
    assert "200" in run(COMMANDS[language], EXAMPLES[language], api, tmp_path)
    assert executions.get(flow_sid, sid).status == "ended"


def test_the_example_of_the_readme_ends_its_execution(api: Api, tmp_path: Path) -> None:
    """With a command in command.json, it prints the result."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    execution = api.stand_ins.studio.seed("FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b")
    command = {"flow_sid": execution.flow_sid, "execution_sid": execution.sid}
    (tmp_path / "command.json").write_text(json.dumps(command))
    result = json.loads(run([sys.executable, "-"], example, api, tmp_path))
    assert result["executions"][0]["status"] == "ended"
