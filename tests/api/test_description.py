"""docs/openapi.yaml and docs/eventbridge.schema.json say what the function does."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from jsonschema import Draft4Validator, Draft202012Validator
from openapi_spec_validator import validate_url
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from served import ROOT, Api, serving

from end_conversation.command import SCHEMA
from end_conversation.http_request import SOURCE_NAME
from end_conversation.triggers.http_api import ROUTE, SOURCE_ROUTE, WEBHOOK_ROUTE
from end_conversation.triggers.responses import STATUS
from local import gateway, signing
from local.samples import EVENTS, load

OPENAPI = ROOT / "docs/openapi.yaml"
DESCRIPTION: dict[str, Any] = yaml.safe_load(OPENAPI.read_text())
EVENTBRIDGE: dict[str, Any] = json.loads((ROOT / "docs/eventbridge.schema.json").read_text())
RESPONSES: dict[str, Any] = DESCRIPTION["components"]["responses"]
PARAMETERS: dict[str, Any] = DESCRIPTION["components"]["parameters"]


def responses(route: str) -> dict[str, Any]:
    """The answers of a route by status."""
    described = DESCRIPTION["paths"][route]["post"]["responses"]
    return {status: RESPONSES[one["$ref"].rpartition("/")[2]] for status, one in described.items()}


def problems(route: str) -> set[tuple[str, int]]:
    """Code and status of every problem that there is an example of."""
    contents = [
        one["content"].get("application/problem+json", {"examples": {}}) for one in responses(route).values()
    ]
    examples = [example["value"] for content in contents for example in content["examples"].values()]
    return {(example["code"], example["status"]) for example in examples}


def test_it_is_openapi() -> None:
    """The description, with the file that it refers to, is valid OpenAPI 3.1."""
    validate_url(OPENAPI.as_uri())


def test_the_command_has_one_source() -> None:
    """OpenAPI refers to the schema that the function validates with, and repeats nothing."""
    reference = DESCRIPTION["components"]["schemas"]["Command"]
    assert list(reference) == ["$ref"]
    assert json.loads((OPENAPI.parent / reference["$ref"]).read_text()) == SCHEMA


def test_the_eventbridge_schema_has_the_command() -> None:
    """A schema registry accepts one document only: it contains a copy of the function's schema."""
    assert EVENTBRIDGE["properties"]["detail"] == {key: SCHEMA[key] for key in SCHEMA if key != "$schema"}


def test_the_eventbridge_schema_is_draft_4() -> None:
    """EventBridge's registry accepts this kind of JSON Schema only, and the sample event conforms to it."""
    Draft4Validator.check_schema(EVENTBRIDGE)
    Draft4Validator(EVENTBRIDGE).validate(load(EVENTS / "eventbridge.json"))


@pytest.mark.parametrize("name", ["direct", "direct-contact"])
def test_the_command_schema_is_json_schema(name: str) -> None:
    """Other validators accept it, and the samples."""
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(load(EVENTS / f"{name}.json"))


@pytest.mark.parametrize(
    ("schema", "field"),
    [("FlowSid", "flow_sid"), ("ExecutionSid", "execution_sid"), ("AccountSid", "account_sid")],
)
def test_sids_are_the_commands(schema: str, field: str) -> None:
    """Responses have the same patterns as commands."""
    described = DESCRIPTION["components"]["schemas"][schema]
    assert described["pattern"] == SCHEMA["properties"][field]["pattern"]


def test_routes() -> None:
    """The function, the local gateway and the description have the same routes."""
    assert set(DESCRIPTION["paths"]) == {ROUTE, WEBHOOK_ROUTE, SOURCE_ROUTE}
    described = {(method.upper(), path) for path, route in DESCRIPTION["paths"].items() for method in route}
    assert set(gateway.ROUTES) == described
    assert signing.ROUTE == WEBHOOK_ROUTE


@pytest.mark.parametrize("route", [ROUTE, WEBHOOK_ROUTE, SOURCE_ROUTE])
def test_every_problem_has_its_example(route: str) -> None:
    """None is missing, none is invented, and each has its status."""
    known = {(kind.code, int(status)) for kind, status in STATUS.items()}
    unsigned = {("invalid_signature", 401)} if route == ROUTE else set()
    assert problems(route) == known - unsigned
    codes = DESCRIPTION["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert set(codes) == {code for code, _ in known}


def test_source_names_are_the_functions() -> None:
    """The description has the function's pattern."""
    parameter = PARAMETERS["Source"]
    assert parameter["schema"]["pattern"] == f"^{SOURCE_NAME.pattern}$"
    assert parameter["example"] in signing.SECRET["sources"]


@pytest.mark.parametrize("route", [ROUTE, WEBHOOK_ROUTE])
def test_a_command_may_be_accepted(api: Api, route: str) -> None:
    """The served function honours the parameter's example, as the description says."""
    parameters = DESCRIPTION["paths"][route]["post"]["parameters"]
    assert {"$ref": "#/components/parameters/Prefer"} in parameters
    body = json.dumps(load(EVENTS / "direct.json")).encode()
    headers = {"content-type": "application/json", "prefer": PARAMETERS["Prefer"]["schema"]["examples"][0]}
    answer = requests.post(api.url + route, body, headers=headers | signing.signed(body), timeout=10)
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
    assert answer.json().keys() == {"status", "message_id"}


@pytest.mark.parametrize("name", RESPONSES)
def test_examples_are_valid(name: str) -> None:
    """Each conforms to its schema, and has the title of its status and the key of its code."""
    registry = Registry().with_resource(
        OPENAPI.as_uri(), Resource.from_contents(DESCRIPTION, default_specification=DRAFT202012)
    )
    for media_type, content in RESPONSES[name]["content"].items():
        schema = {"$ref": OPENAPI.as_uri() + content["schema"]["$ref"]}
        for key, example in content["examples"].items():
            Draft202012Validator(schema, registry=registry).validate(example["value"])
            if media_type == "application/problem+json":
                assert example["value"]["title"] == HTTPStatus(example["value"]["status"]).phrase
                assert key in (example["value"]["code"], "partly")


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving() as running:
        yield running


@pytest.mark.timeout(180)
def test_the_api_keeps_to_its_description(api: Api, tmp_path: Path) -> None:
    """Schemathesis finds no undescribed response, no server error, and nothing invalid that is accepted."""
    command = [Path(sys.executable).with_name("schemathesis"), "run", OPENAPI, "--url", api.url, "--no-color"]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "100"]
    # No change may fail by chance.
    command += ["--generation-deterministic"]
    # API Gateway itself responds to methods without a route: with 404, not 405.
    command += ["--exclude-checks", "unsupported_method"]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(Path(__file__).parent))),
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
    }
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Tested: 5\b", done.stdout), done.stdout
