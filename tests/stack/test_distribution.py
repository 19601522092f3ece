"""The version and what the Serverless Application Repository is told, in all the places that name them."""

import re
import tomllib
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse
from stack import ROOT, template

APPLICATION: dict[str, Any] = template()["Metadata"]["AWS::ServerlessRepo::Application"]


def test_one_version() -> None:
    """The template and the description of the API have the version of pyproject.toml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    described = yaml_parse((ROOT / "docs" / "openapi.yaml").read_text())["info"]["version"]

    assert APPLICATION["SemanticVersion"] == version
    assert described == version


# https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-template-publishing-applications-metadata-properties.html
@pytest.mark.parametrize(
    ("name", "pattern", "longest"),
    [
        ("Name", r"[a-zA-Z0-9\-]+", 140),
        ("Description", r".+", 256),
        ("Author", r"[a-z0-9](([a-z0-9]|-(?!-))*[a-z0-9])?", 127),
        ("SemanticVersion", r"\d+\.\d+\.\d+", 20),
    ],
)
def test_metadata_is_taken(name: str, pattern: str, longest: int) -> None:
    """What the repository limits is within its limits."""
    assert re.fullmatch(pattern, APPLICATION[name])
    assert len(APPLICATION[name]) <= longest


def test_labels_are_taken() -> None:
    """There are ten labels at most, each of the characters that a label may have."""
    assert 1 <= len(APPLICATION["Labels"]) <= 10
    assert all(re.fullmatch(r"[a-zA-Z0-9+\-_:/@]{1,127}", label) for label in APPLICATION["Labels"])


@pytest.mark.parametrize("name", ["LicenseUrl", "ReadmeUrl"])
def test_metadata_names_files(name: str) -> None:
    """The licence and the introduction are files here, within the 5 MB that the repository takes."""
    assert 0 < (ROOT / APPLICATION[name]).stat().st_size <= 5_000_000
