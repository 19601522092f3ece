"""The sample events are what AWS sends, and sam local knows all of them."""

import hashlib
import json
import tomllib

import pytest
from stack import ROOT, at, template

from local import samples
from local.studio import ACCOUNT_SID, OTHER_ACCOUNT_SID, Studio

EVENTS = {path.stem: samples.load(path) for path in sorted((ROOT / "events").glob("*.json"))}
CONFIGURATION = tomllib.loads((ROOT / "samplesconfig.toml").read_text())
START_API = CONFIGURATION["default"]["local_start_api"]["parameters"]


def test_environments() -> None:
    """Each sample has its config environment, which differs from others in event and function only."""
    handlers = {True: "end_conversation.sweep.handler", False: "end_conversation.app.handler"}
    environments = {
        name: each["local_invoke"]["parameters"]
        for name, each in CONFIGURATION.items()
        if name not in ("version", "default")
    }
    common = {name: value for name, value in START_API.items() if name != "warm_containers"}

    assert environments.keys() == EVENTS.keys()
    for name, parameters in environments.items():
        function = parameters["function_logical_id"]
        assert parameters == common | {"event": f"events/{name}.json", "function_logical_id": function}
        handler = template()["Resources"][function]["Properties"]["Handler"]
        assert handler == handlers[samples.is_sweep(EVENTS[name])]


def test_function_variables_are_in_the_template() -> None:
    """Each variable of local/env.json is one that the template names; `sam local` ignores others."""
    for function, values in json.loads((ROOT / START_API["env_vars"]).read_text()).items():
        assert set(values) <= set(at(f"{function}.Environment.Variables"))


def test_samples_keep_out_of_each_others_way() -> None:
    """Commands are about one Flow of an account, sweeps about others, no two about the same Execution."""
    commands = [
        command
        for sample in EVENTS.values()
        if not samples.is_sweep(sample)
        for command in samples.commands(sample)
    ]
    with Studio() as studio:
        seeded = [samples.seed(studio, sample) for sample in EVENTS.values()]
        sids = [execution.sid for to_end, to_stay in seeded for execution in (*to_end, *to_stay)]
        contacts = [each.contact for each in studio.executions.all()]

    assert len(sids) == len(set(sids)) == len(studio.executions)
    assert {contacts.count(each.contact) for each in commands if each.contact} == {1}
    assert {(each.account_sid, each.flow_sid) for each in commands} == {
        (ACCOUNT_SID, "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"),
        (OTHER_ACCOUNT_SID, "FW2d8b6f0e4c1a49375b7d9f1e3a5c7b60"),
    }


@pytest.mark.parametrize("name", ["sqs", "sqs-notification", "sqs-poison-message"])
def test_message_digests(name: str) -> None:
    """SQS gives each message's body with its MD5 digest."""
    for record in EVENTS[name]["Records"]:
        assert hashlib.md5(record["body"].encode(), usedforsecurity=False).hexdigest() == record["md5OfBody"]
