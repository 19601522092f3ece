"""template.yaml as it is written, what CloudFormation deploys of it, and the function in it."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from samcli.lib.cfn_language_extensions import expand_language_extensions
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from end_conversation import app, sweep
from end_conversation.aws import clients as aws
from end_conversation.webhooks import verifier
from local.stand_ins import StandIns

ROOT = Path(__file__).parent.parent.parent


@cache
def template() -> dict[str, Any]:
    """What is written; `!Ref x` is {"Ref": "x"}, and so on. Not to be changed."""
    parsed: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
    return parsed


@cache
def expanded(partition: str = "aws", **parameters: str) -> dict[str, Any]:
    """The packaged template after AWS::LanguageExtensions, by SAM CLI's implementation of it."""
    given = {
        name: parameters.get(name, str(each["Default"])) for name, each in template()["Parameters"].items()
    }
    assert parameters.keys() <= given.keys()
    pseudo = {
        "AWS::AccountId": "123456789012",
        "AWS::Partition": partition,
        "AWS::Region": "us-east-1",
        "AWS::StackName": "end-conversation",
        "AWS::URLSuffix": "amazonaws.com",
    }
    source = deepcopy(template())
    source["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    made: dict[str, Any] = expand_language_extensions(source, given | pseudo, enabled=True).expanded_template
    return made


@cache
def deployed(**parameters: str) -> dict[str, dict[str, Any]]:
    """The resources that CloudFormation deploys with these parameters, by logical id. Not to be changed."""
    source = deepcopy(expanded(**parameters))
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name="us-east-1"))
    made: dict[str, dict[str, Any]] = translator.translate(source, {})["Resources"]
    return {
        name: each
        for name, each in made.items()
        if "Condition" not in each or holds(source, each["Condition"])
    }


def holds(source: dict[str, Any], condition: str) -> bool:
    """Whether a condition of the form "is given" holds, in an expanded template."""
    ((left, right),) = values(source["Conditions"][condition]["Fn::Not"], "Fn::Equals")
    return bool(left != right)


def of_type(kind: str, **parameters: str) -> dict[str, dict[str, Any]]:
    """The properties of the deployed resources of this type, by logical id."""
    return {name: each["Properties"] for name, each in deployed(**parameters).items() if each["Type"] == kind}


def at(path: str, **parameters: str) -> Any:
    """A property of a deployed resource, such as `Queue.VisibilityTimeout`; None if it is absent."""
    name, *keys = path.split(".")
    node: Any = deployed(**parameters)[name]["Properties"]
    for key in keys:
        node = node[int(key)] if isinstance(node, list) else node.get(key)
    return node


def statements(role: str, **parameters: str) -> dict[str, dict[str, Any]]:
    """The statements of a role's policy, by their ids."""
    (policy,) = at(f"{role}.Policies", **parameters)
    return {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}


def lead_to(running: StandIns, environment: pytest.MonkeyPatch) -> None:
    """Point the function at these stand-ins, as a new process."""
    environment.delenv("AWS_ENDPOINT_URL_SECRETS_MANAGER")
    for name, value in running.environment.items():
        environment.setenv(name, value)
    for cached in (app._service, sweep._service, verifier._verifier_of, aws._clients):
        cached.cache_clear()


def values(node: Any, key: str) -> Iterator[Any]:
    """All values under this key, anywhere below the node."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(node, list):
        for item in node:
            yield from values(item, key)
