"""template.yaml as data, and as the CloudFormation that SAM makes of it."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from samcli.lib.cfn_language_extensions import expand_language_extensions
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parent.parent.parent


@cache
def template() -> dict[str, Any]:
    """What is written, to be looked at only; `!Ref x` is {"Ref": "x"}, and so on."""
    parsed: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
    return parsed


@cache
def resources() -> dict[str, dict[str, Any]]:
    """What SAM makes of the template with its parameters left open, by logical id."""
    return _translated(_with_code())


def deployed(**parameters: str) -> dict[str, dict[str, Any]]:
    """What CloudFormation deploys with these parameters, by logical id: AWS::LanguageExtensions, then SAM.

    The first transform is SAM CLI's implementation of it.
    """
    given = {
        name: parameters.get(name, str(each["Default"])) for name, each in template()["Parameters"].items()
    }
    pseudo = {
        "AWS::AccountId": "123456789012",
        "AWS::Partition": "aws",
        "AWS::Region": "us-east-1",
        "AWS::StackName": "end-conversation",
        "AWS::URLSuffix": "amazonaws.com",
    }
    expanded = expand_language_extensions(_with_code(), given | pseudo, enabled=True)
    assert expanded.had_language_extensions
    return _translated(expanded.expanded_template)


def _with_code() -> dict[str, Any]:
    """The template as `sam package` leaves it."""
    source = deepcopy(template())
    source["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    return source


def _translated(source: dict[str, Any]) -> dict[str, dict[str, Any]]:
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name="us-east-1"))
    made: dict[str, dict[str, Any]] = translator.translate(source, {})["Resources"]
    return made


def function(name: str = "EndConversationFunction") -> dict[str, Any]:
    """What is written about a function, for itself and for all of them."""
    own, common = template()["Resources"][name]["Properties"], template()["Globals"]["Function"]
    variables = common["Environment"]["Variables"] | own["Environment"]["Variables"]
    return common | own | {"Environment": {"Variables": variables}}


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    """The properties of all resources of this type, by logical id."""
    return {name: each["Properties"] for name, each in resources().items() if each["Type"] == kind}


def values(node: Any, key: str) -> Iterator[Any]:
    """What stands under this key, anywhere below the node."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(node, list):
        for item in node:
            yield from values(item, key)
