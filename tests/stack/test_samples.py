"""The sample events are what AWS sends, and sam local knows all of them."""

import hashlib
import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from stack import ROOT, of_type, template

from local import samples
from local.studio import ACCOUNT_SID, OTHER_ACCOUNT_SID, Studio

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


def test_environments_differ_in_event_and_function_only() -> None:
    """Whatever sample is run, it is run in the same way."""
    own = ("event", "function_logical_id", "warm_containers")
    commons = [
        {name: value for name, value in parameters.items() if name not in own}
        for parameters in [*INVOKE.values(), START_API]
    ]

    assert all(common == commons[0] for common in commons)


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_environments_name_the_function(path: Path) -> None:
    """Each sample goes to the function that it is for."""
    handlers = {"end_conversation.app.handler": False, "end_conversation.sweep.handler": True}
    function = template()["Resources"][INVOKE[path.stem]["function_logical_id"]]

    assert handlers[function["Properties"]["Handler"]] == samples.is_sweep(samples.load(path))


def test_function_variables_are_in_the_template() -> None:
    """Each variable of local/env.json is one that the template names; `sam local` ignores others."""
    variables = json.loads((ROOT / START_API["env_vars"]).read_text())

    for function, values in variables.items():
        assert set(values) <= set(of_type("AWS::Lambda::Function")[function]["Environment"]["Variables"])


def test_samples_keep_out_of_each_others_way() -> None:
    """Commands are about one Flow of an account, sweeps about others, no two about the same Execution."""
    with Studio() as studio:
        seeded = [samples.seed(studio, samples.load(path)) for path in EVENTS]
        sids = [execution.sid for to_end, to_stay in seeded for execution in (*to_end, *to_stay)]
        ended = [sample for sample in map(samples.load, EVENTS) if not samples.is_sweep(sample)]

    assert len(sids) == len(set(sids)) == len(studio.executions)
    flows = {
        (command.account_sid, command.flow_sid) for sample in ended for command in samples.commands(sample)
    }
    assert flows == {
        (ACCOUNT_SID, "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"),
        (OTHER_ACCOUNT_SID, "FW2d8b6f0e4c1a49375b7d9f1e3a5c7b60"),
    }


def test_contacts_are_nobody_elses() -> None:
    """What a sample does to a contact touches the Executions of no other sample."""
    with Studio() as studio:
        for path in EVENTS:
            samples.seed(studio, samples.load(path))
        contacts = {
            command.contact
            for path in EVENTS
            for command in samples.commands(samples.load(path))
            if command.contact
        }
        counts = Counter(each.contact for each in studio.executions.all() if each.contact in contacts)

    assert set(counts.values()) == {3}


@pytest.mark.parametrize("name", ["sqs", "sqs-poison-message"])
def test_message_digests(name: str) -> None:
    """SQS gives each message's body with its MD5 digest."""
    records: list[dict[str, Any]] = json.loads((ROOT / f"events/{name}.json").read_text())["Records"]

    for record in records:
        assert hashlib.md5(record["body"].encode(), usedforsecurity=False).hexdigest() == record["md5OfBody"]
