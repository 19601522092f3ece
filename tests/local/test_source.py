"""``make source``: what a declaration makes of an event."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from end_conversation.webhooks.sources import parse_webhook_secret
from local import signing, source
from local.samples import EVENTS, load

ROOT = EVENTS.parent
BASE_URL = "https://api.example.com/eoc"
NO_COUNTRY_CODE = "has no known country code (national numbers need a region)"
PHONE = '"(415) 555\u20110106"'
NO_NUMBER = "contact cannot be evaluated: the phone number"
SECRET = parse_webhook_secret(json.dumps(signing.SECRET))


def explained(event: dict[str, Any]) -> list[str]:
    return [line if is_right else f"WRONG {line}" for is_right, line in source.explain(SECRET, event, None)]


@pytest.mark.parametrize("path", sorted(EVENTS.glob("source-*.json")), ids=lambda path: path.stem)
def test_a_sample_is_explained(path: Path) -> None:
    """Its source, its proof and its command; all is well unless it is forged."""
    lines = explained(load(path))
    assert lines[0].startswith("source   ")
    assert lines[1] == ("WRONG proof    signature_unknown" if "forged" in path.stem else "proof    valid")
    if "challenge" in path.stem:
        assert lines[-1].startswith('answer   {"challenge": ')
    else:
        assert "event 1  makes the command" in lines
        assert json.loads(lines[-1])["flow_sid"].startswith("FW")


@pytest.mark.parametrize("name", ["source-zendesk", "source-intercom", "source-twilio-event-streams"])
def test_the_expected_signature_is_right(name: str) -> None:
    """The sample has it."""
    event = load(EVENTS / f"{name}.json")
    expected = {line.removeprefix("expected ") for line in explained(event) if line.startswith("expected x-")}
    assert expected <= {f"{header}: {value}" for header, value in event["headers"].items()}
    assert expected


@pytest.mark.parametrize("name", ["salesforce", "ticketing"])
def test_a_key_that_is_sent_itself_is_not_shown(name: str) -> None:
    """Others may look at a terminal."""
    lines = "".join(explained(source.event_of(b"{}", name, SECRET, BASE_URL)))
    assert "one of the keys" in lines
    assert not any(key in lines for key in signing.SECRET["sources"][name]["keys"])


def test_errors_are_shown_with_their_values() -> None:
    """By event and field: it is the operator's own file."""
    tickets = [
        {"state": "open", "caller": "+15005550107"},
        {"state": "closed", "caller": PHONE[1:-1]},
        {"state": "closed", "caller": "\u202a+1\u202c"},
        {"state": "closed", "caller": "+15005550107", "closed_at": "yesterday"},
        {"state": "closed", "caller": "+15005550107"},
    ]
    body = json.dumps({"tickets": tickets}).encode()
    lines = explained(source.event_of(body, "ticketing", SECRET, BASE_URL))
    assert "proof    none in this file" in lines
    assert [line for line in lines if "event" in line or "it is" in line] == [
        "event 1  is ignored, because of `when`",
        "WRONG event 2  makes no valid command",
        f"WRONG   {NO_NUMBER} {NO_COUNTRY_CODE}; it is {PHONE}",
        "WRONG event 3  makes no valid command",
        rf'WRONG   {NO_NUMBER} is not valid; it is "\u202a+1\u202c"',
        "WRONG event 4  makes no valid command",
        'WRONG   occurred_at must be an RFC 3339 date-time with a time zone; it is "yesterday"',
        "event 5  makes the command",
    ]


@pytest.mark.parametrize(
    ("name", "body", "complaint"),
    [
        ("ticketing", b"{}", "body     each must be a list of at most 100 events"),
        ("zendesk", b"[", "body     the body is not JSON"),
        ("other", b"{}", "source   other is not declared"),
    ],
)
def test_a_body_that_does_not_fit_is_explained(name: str, body: bytes, complaint: str) -> None:
    """In the words of the response."""
    event = source.event_of(body, name, SECRET, BASE_URL)
    assert explained(event)[-1] == f"WRONG {complaint}"


def test_an_invalid_declaration_is_explained() -> None:
    """With its reason, whichever source the event is for."""
    secret = parse_webhook_secret('{"sources": {"crm": {"keys": ["short"]}}}')
    reason = "keys.0 must be longer than or equal to 16 characters; command is required"
    lines = source.explain(secret, source.event_of(b"{}", None, secret, BASE_URL), None)
    assert list(lines) == [(False, f"source   crm is invalid: {reason}")]


@pytest.mark.parametrize(
    ("arguments", "status", "output"),
    [
        ("local/webhook-secret.json events/source-zendesk.json", 0, "proof    valid"),
        ("local/webhook-secret.json events/source-zendesk-forged.json", 1, "signature_unknown"),
        ("local/webhook-secret.json events/direct.json", 1, "say which source it is for"),
        ("local/webhook-secret.json", 2, "Try: make source EVENT=events/source-zendesk.json"),
        ("local/webhook-secret.json events/none.json", 1, "No such file"),
        ("events/direct.json events/source-zendesk.json", 1, "has neither keys nor sources"),
    ],
)
def test_command(arguments: str, status: int, output: str, tmp_path: Path) -> None:
    """The exit status is 0 if all is well; errors have no traceback. A file may have a byte order mark."""
    marked = tmp_path / "secret.json"
    marked.write_text((ROOT / "local/webhook-secret.json").read_text(), encoding="utf-8-sig")
    arguments = arguments.replace("local/webhook-secret.json", str(marked))
    command = [sys.executable, "-m", "local.source", *arguments.split()]
    environment = os.environ | {"PYTHONPATH": "src"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert output in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
