"""Webhooks, signed on this machine."""

import base64
import json
import subprocess
import sys
import time

import pytest
from standardwebhooks import Webhook

from end_conversation.errors import InvalidSignature
from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks.proofs import Proof, check
from end_conversation.webhooks.sources import parse_webhook_secret
from local import signing
from local.samples import EVENTS, load

SECRET = parse_webhook_secret(json.dumps(signing.SECRET))
WEBHOOKS = sorted(path.stem for path in EVENTS.glob("*.json") if path.stem.startswith(("webhook", "source-")))


def test_signed() -> None:
    """The reference library accepts our signatures."""
    Webhook(signing.KEY).verify('{"a": "ü"}', signing.signed('{"a": "ü"}'.encode()))


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("name", WEBHOOKS)
def test_renewed(name: str, *, encoded: bool) -> None:
    """The function accepts a renewed sample; only its proof has changed. A forged sample stays forged."""
    sample = load(EVENTS / f"{name}.json")
    if encoded and not sample["isBase64Encoded"]:
        sample |= {"body": base64.b64encode(sample["body"].encode()).decode(), "isBase64Encoded": True}
    renewed = signing.renewed(sample)
    assert renewed | {"headers": None} == sample | {"headers": None}
    request = to_http_request(renewed)
    if "forged" in name:
        assert renewed == sample
        with pytest.raises(InvalidSignature):
            SECRET.authenticate(request, time.time(), None)
    elif name == "webhook":
        check(Proof("standard"), SECRET.keys, request, time.time(), None)
    else:
        assert SECRET.authenticate(request, time.time(), None).name == request.source


@pytest.mark.parametrize("name", ["http", "eventbridge", "direct"])
def test_left_alone(name: str) -> None:
    """Other events do not change."""
    sample = load(EVENTS / f"{name}.json")
    assert signing.renewed(sample) == sample


def test_command() -> None:
    """It prints an event with a valid signature."""
    command = [sys.executable, "-m", "local.signing", EVENTS / "webhook.json"]
    event = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    Webhook(signing.KEY).verify(event["body"], event["headers"])
