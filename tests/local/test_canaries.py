"""What is planted is found, wherever it comes out, and in whatever form."""

import base64
import json
from typing import Any, NoReturn

import pytest
from conftest import FLOW_SID, Function

from local import signing
from local.canaries import TOLD, Canaries, without_told
from local.studio import API_KEY, Studio

CONTACT = "whatsapp:+15551230000"


@pytest.mark.parametrize(
    "text",
    [*API_KEY, base64.b64encode(":".join(API_KEY).encode()).decode()],
    ids=["user", "password", "header"],
)
def test_credentials_are_found(text: str) -> None:
    """As they are kept, and as they travel."""
    canaries = Canaries()
    canaries.plant_credentials(*API_KEY)

    assert canaries.find(f"before {text} after") == text


@pytest.mark.parametrize(
    "text",
    [
        signing.KEY,
        signing.KEY.removeprefix("whsec_"),
        base64.b64decode(signing.KEY.removeprefix("whsec_")).decode(),
    ],
    ids=["prefixed", "encoded", "decoded"],
)
def test_signing_key_is_found(text: str) -> None:
    """In each of its forms."""
    canaries = Canaries()
    canaries.plant_key(signing.KEY)

    assert canaries.find(f"before {text} after")


def test_an_empty_text_is_no_canary() -> None:
    """It would be everywhere."""
    assert Canaries("", "bird").find("cat") is None


@pytest.mark.parametrize("key", TOLD)
def test_what_a_caller_chose_may_be_told(key: str) -> None:
    """But in its own key only."""
    assert "bird" not in without_told(json.dumps({key: "bird"}))
    assert "bird" in without_told(json.dumps({"detail": "bird"}))


@pytest.mark.parametrize("line", ["bird", '["bird"]', '{"reason": "bird'])
def test_what_is_no_log_line_is_searched_as_it_is(line: str) -> None:
    """Nobody may hide anything in it."""
    assert without_told(line) == line


def _printing(event: Any, _context: Any) -> None:
    print(json.dumps({"message": event["contact"]}))


def _answering(event: Any, _context: Any) -> Any:
    return {"body": event["contact"]}


def _raising(event: Any, _context: Any) -> NoReturn:
    raise ValueError(event["contact"])


def _raising_from(event: Any, _context: Any) -> NoReturn:
    raise ValueError("no") from KeyError(event["contact"])


def _telling(_event: Any, _context: Any) -> Any:
    return {"body": API_KEY[1]}


@pytest.mark.parametrize("handler", [_printing, _answering, _raising, _raising_from, _telling])
def test_every_unit_test_searches(function: Function, studio: Studio, handler: Any) -> None:
    """Whatever a test invokes the function for, what comes out is searched."""
    studio.seed(FLOW_SID, contact=CONTACT)
    function.handler = handler

    with pytest.raises(AssertionError):
        function({"contact": CONTACT})
