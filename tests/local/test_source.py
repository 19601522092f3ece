"""``make source``: what a declaration makes of an event."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks.sources import parse_webhook_secret
from local import signing, source
from local.samples import EVENTS, load

ROOT = EVENTS.parent
BASE_URL = "https://api.example.com/eoc"
NO_COUNTRY_CODE = "has no known country code (national numbers need a region)"
SECRET = parse_webhook_secret(json.dumps(signing.SECRET))


def explained(event: dict[str, Any]) -> list[str]:
    return [line if is_right else f"WRONG {line}" for is_right, line in source.explain(SECRET, event, None)]


@pytest.mark.parametrize("path", sorted(EVENTS.glob("source-*.json")), ids=lambda path: path.stem)
def test_a_sample_is_explained(path: Path) -> None:
    """Its source, its proof and its command; nothing is wrong with it, unless it is forged."""
    lines = explained(load(path))
    assert lines[0].startswith("source   ")
    assert lines[1] == ("WRONG proof    signature_unknown" if "forged" in path.stem else "proof    holds")
    assert "event 1  makes the command" in lines
    assert json.loads(lines[-1])["flow_sid"].startswith("FW")


@pytest.mark.parametrize("name", ["source-zendesk", "source-intercom", "source-twilio-taskrouter"])
def test_the_signature_to_expect_is_right(name: str) -> None:
    """It is the one that the sample has."""
    event = load(EVENTS / f"{name}.json")
    expected = {line.removeprefix("expected ") for line in explained(event) if line.startswith("expected x-")}
    assert expected <= {f"{header}: {value}" for header, value in event["headers"].items()}
    assert expected


@pytest.mark.parametrize("name", ["zendesk", "intercom", "twilio-taskrouter", "agent-desktop"])
@pytest.mark.parametrize("base_url", [None, BASE_URL])
def test_a_body_alone_gets_a_signature(name: str, base_url: str | None) -> None:
    """Which proves it, whatever its type, and for the URL that the sender is given."""
    data = b"EventType=task.completed" if name == "twilio-taskrouter" else b'{"a": 1}'
    event = source.event_of(data, name, SECRET, base_url or "https://x.example")
    asked = to_http_request(event)
    made = SECRET.sources[name]
    lines = [line for line in source.expected(made, asked, base_url) if ": " in line and "  " not in line]
    event["headers"] |= dict(line.split(": ", 1) for line in lines)
    made.verify(to_http_request(event), asked.sent_at.timestamp() if asked.sent_at else 0, base_url)


@pytest.mark.parametrize("name", ["salesforce", "ticketing"])
def test_a_key_that_is_sent_as_it_is_is_not_shown(name: str) -> None:
    """A terminal may be looked at by others."""
    lines = "".join(explained(source.event_of(b"{}", name, SECRET, BASE_URL)))
    assert "one of the keys" in lines
    assert not any(key in lines for key in signing.SECRET["sources"][name]["keys"])


def test_what_is_wrong_is_told_by_field() -> None:
    """For each event of several."""
    body = {
        "tickets": [
            {"state": "open"},
            {"state": "closed", "number": 7},
            {"state": "closed", "caller": "+15005550107"},
        ]
    }
    lines = explained(source.event_of(json.dumps(body).encode(), "ticketing", SECRET, BASE_URL))
    assert [line for line in lines if "event" in line] == [
        "event 1  is ignored, by `when`",
        "WRONG event 2  makes no valid command: execution_sid or contact must be given, and not both",
        "event 3  makes the command",
    ]


@pytest.mark.parametrize(
    ("name", "body", "complaint"),
    [
        ("ticketing", b"{}", "body     each must be a list of at most 100 events"),
        (
            "zendesk",
            b'{"status": "solved", "phone": "555"}',
            f"body     contact cannot be evaluated: the phone number {NO_COUNTRY_CODE}",
        ),
        ("other", b"{}", "source   other is not declared"),
    ],
)
def test_what_does_not_fit_is_told(name: str, body: bytes, complaint: str) -> None:
    """As the caller would be told."""
    assert explained(source.event_of(body, name, SECRET, BASE_URL))[-1] == f"WRONG {complaint}"


def test_a_declaration_that_cannot_be_used_is_told() -> None:
    """With its reason, whichever source the event is for."""
    secret = parse_webhook_secret('{"sources": {"crm": {"keys": ["short"]}}}')
    lines = list(source.explain(secret, source.event_of(b"{}", None, secret, BASE_URL), None))
    reason = "keys.0 must be longer than or equal to 16 characters; command is required"
    assert lines == [(False, f"source   crm cannot be used: {reason}")]


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["local/webhook-secret.json", "events/source-zendesk.json"], 0, "proof    holds"),
        (["local/webhook-secret.json", "events/source-zendesk-forged.json"], 1, "signature_unknown"),
        (["local/webhook-secret.json", "events/direct.json"], 1, "say which source it is for"),
        (["local/webhook-secret.json", "events/none.json"], 1, "No such file"),
        (["events/direct.json", "events/source-zendesk.json"], 1, "has neither keys nor sources"),
    ],
)
def test_command(arguments: list[str], status: int, told: str) -> None:
    """What make calls."""
    done = subprocess.run(
        [sys.executable, "-m", "local.source", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
