"""template.yaml as data, and as the CloudFormation that SAM makes of it."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import boto3
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
    """What CloudFormation gets to see, by logical id."""
    source = deepcopy(template())
    source["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name="us-east-1"))
    translated: dict[str, dict[str, Any]] = translator.translate(source, {})["Resources"]
    return translated


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
