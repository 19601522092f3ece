"""Webhooks, signed on this machine."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from local import signing
from local.samples import EVENTS, load


def verify(event: dict[str, Any]) -> None:
    """By the specification's own library, which raises if it does not hold now."""
    Webhook(signing.KEY).verify(event["body"], event["headers"])


def test_signed() -> None:
    """The specification's own library takes what is signed here."""
    Webhook(signing.KEY).verify('{"a": "ü"}', signing.signed('{"a": "ü"}'.encode()))


def test_the_sample_was_right_in_its_time() -> None:
    """The signature in the file is of its body, its id and its timestamp."""
    headers, body = load(EVENTS / "webhook.json")["headers"], load(EVENTS / "webhook.json")["body"]
    made = signing.signed(
        body.encode(), message_id=headers["webhook-id"], timestamp=headers["webhook-timestamp"]
    )
    assert made["webhook-signature"] == headers["webhook-signature"]


@pytest.mark.parametrize("encoded", [False, True])
def test_renewed(*, encoded: bool) -> None:
    """A sample's signature holds now, and nothing else of it has changed."""
    sample = load(EVENTS / "webhook.json")
    if encoded:
        sample |= {"body": base64.b64encode(sample["body"].encode()).decode(), "isBase64Encoded": True}
    renewed = signing.renewed(sample)
    assert abs(int(renewed["headers"].pop("webhook-timestamp")) - time.time()) < 60
    assert renewed["headers"].pop("webhook-signature").startswith("v1,")
    assert renewed["headers"].items() <= sample["headers"].items()
    assert renewed | {"headers": None} == sample | {"headers": None}


def test_renewed_for_a_source() -> None:
    """A source that signs by Standard Webhooks does so with a key of its own."""
    renewed = signing.renewed(load(EVENTS / "source-agent-desktop.json"))
    (key,) = signing.SECRET["sources"]["agent-desktop"]["keys"]
    Webhook(key).verify(renewed["body"], renewed["headers"])


@pytest.mark.parametrize(
    ("name", "header", "instant"),
    [
        (
            "zendesk",
            "x-zendesk-webhook-signature-timestamp",
            lambda at: datetime.fromisoformat(at).timestamp(),
        ),
        ("front", "x-front-request-timestamp", lambda at: int(at) / 1000),
    ],
)
def test_renewed_for_a_source_with_a_timestamp(
    name: str, header: str, instant: Callable[[str], float]
) -> None:
    """It gets one of this minute."""
    sample = load(EVENTS / f"source-{name}.json")
    renewed = signing.renewed(sample)
    timestamp = renewed["headers"][header]
    assert abs(instant(timestamp) - time.time()) < 60
    assert renewed["headers"] == sample["headers"] | signing.signed_by(
        name, sample["body"].encode(), timestamp
    )


@pytest.mark.parametrize(
    "name", ["webhook-forged", "source-zendesk-forged", "source-intercom", "http", "eventbridge", "direct"]
)
def test_left_alone(name: str) -> None:
    """What was wrong stays wrong, and what is no webhook stays as it is."""
    sample = load(EVENTS / f"{name}.json")
    assert signing.renewed(sample) == sample


def test_command() -> None:
    """The command prints the event as it can be sent now."""
    done = subprocess.run(
        [sys.executable, "-m", "local.signing", EVENTS / "webhook.json"], capture_output=True, check=True
    )
    verify(json.loads(done.stdout))
