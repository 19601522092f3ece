"""The sample events are what AWS sends, and sam local knows all of them."""

import hashlib
import json
import re
import tomllib
from typing import Any

import pytest
from stack import ROOT, template

EVENTS = sorted((ROOT / "events").glob("*.json"))
CONFIGURATION = tomllib.loads((ROOT / "samplesconfig.toml").read_text())
INVOKE = {
    name: CONFIGURATION[name]["local_invoke"]["parameters"]
    for name in CONFIGURATION
    if name not in ("version", "default")
}
START_API = CONFIGURATION["default"]["local_start_api"]["parameters"]


def test_every_event_has_its_environment() -> None:
    """Each file in events/ has the config environment of its name, and the other way round."""
    assert {name: parameters["event"] for name, parameters in INVOKE.items()} == {
        path.stem: f"events/{path.name}" for path in EVENTS
    }


def test_environments_differ_in_the_event_only() -> None:
    """Whatever sample is run, it is run in the same way."""
    commons = [
        {name: value for name, value in parameters.items() if name not in ("event", "warm_containers")}
        for parameters in [*INVOKE.values(), START_API]
    ]

    assert all(common == commons[0] for common in commons)


def test_function_variables_are_in_the_template() -> None:
    """Each variable of local/env.json is one that the template names; `sam local` ignores others."""
    variables = json.loads((ROOT / START_API["env_vars"]).read_text())

    for function, values in variables.items():
        assert set(values) <= set(template()["Resources"][function]["Properties"]["Environment"]["Variables"])


def test_sids_are_one_flow_and_many_executions() -> None:
    """All samples are about one Flow; no two of them end the same Execution."""
    texts = [path.read_text() for path in EVENTS]
    executions = [sid for text in texts for sid in set(re.findall(r"FN[0-9a-f]{32}", text))]

    assert {sid for text in texts for sid in re.findall(r"FW[0-9a-f]{32}", text)} == {
        "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
    }
    assert len(executions) == len(set(executions))


@pytest.mark.parametrize("name", ["sqs", "sqs-poison-message"])
def test_message_digests(name: str) -> None:
    """SQS gives each message's body with its MD5 digest."""
    records: list[dict[str, Any]] = json.loads((ROOT / f"events/{name}.json").read_text())["Records"]

    for record in records:
        assert hashlib.md5(record["body"].encode(), usedforsecurity=False).hexdigest() == record["md5OfBody"]
