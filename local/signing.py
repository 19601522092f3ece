"""Webhooks, signed as their senders sign them: https://www.standardwebhooks.com.

``python -m local.signing events/webhook.json`` prints the event with a signature of this minute, which a file
cannot have::

    python -m local.signing events/webhook.json | sam local invoke --config-file … --event -
"""

import base64
import hmac
import json
import secrets
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from local import samples

SECRET: dict[str, Any] = json.loads(Path(__file__).with_name("webhook-secret.json").read_bytes())
"""The webhook secret of the stand-in for AWS: a signing key, and a source of each kind."""

KEY: str = SECRET["keys"][0]

ROUTE = "/webhooks/conversation-ended"


def signed(
    body: bytes, *, key: str = KEY, message_id: str | None = None, timestamp: str | None = None
) -> dict[str, str]:
    """The headers of a webhook with this body.

    Args:
        body: What will be sent, byte for byte.
        key: The signing key, as both sides write it down.
        message_id: The same for every attempt to deliver the message; by default a new one.
        timestamp: Seconds since 1970; by default now.
    """
    message_id = message_id or f"msg_{secrets.token_hex(12)}"
    timestamp = timestamp or str(int(time.time()))
    content = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.digest(base64.b64decode(key.removeprefix("whsec_")), content, "sha256")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


class _Scheme(NamedTuple):
    """How a sample source signs the time, too: the base64 of HMAC-SHA256 over `prefix` and body."""

    signature_header: str
    timestamp_header: str
    prefix: str
    now: Callable[[], str]


_SCHEMES = {
    "zendesk": _Scheme(
        "x-zendesk-webhook-signature",
        "x-zendesk-webhook-signature-timestamp",
        "{}",
        lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    ),
    "front": _Scheme(
        "x-front-signature", "x-front-request-timestamp", "{}:", lambda: str(time.time_ns() // 10**6)
    ),
}


def signed_by(source: str, body: bytes, timestamp: str | None = None) -> dict[str, str]:
    """The headers of a webhook of a sample source that signs the time.

    Args:
        source: `zendesk` or `front`.
        body: what will be sent, byte for byte.
        timestamp: as the source writes it; by default now.
    """
    scheme = _SCHEMES[source]
    timestamp = timestamp or scheme.now()
    key = SECRET["sources"][source]["keys"][0].encode()
    digest = hmac.digest(key, scheme.prefix.format(timestamp).encode() + body, "sha256")
    return {
        scheme.signature_header: base64.b64encode(digest).decode(),
        scheme.timestamp_header: timestamp,
    }


signed_by_zendesk = partial(signed_by, "zendesk")
"""``signed_by`` for Zendesk, under the name that checks of the whole stack import."""


def renewed(event: Any) -> Any:  # noqa: ANN401 -- an event is any JSON
    """The event; a webhook with a valid signature gets one of this minute."""
    match event:
        case {
            "rawPath": str(path),
            "headers": {"webhook-id": str(message_id), "webhook-timestamp": str(timestamp), **headers},
            "body": str(_),
        }:
            key = _key_for(path)
            sent = samples.body_of(event)
            before = signed(sent, key=key, message_id=message_id, timestamp=timestamp)
            if headers.get("webhook-signature") == before["webhook-signature"]:
                return event | {"headers": event["headers"] | signed(sent, key=key, message_id=message_id)}
        case {"pathParameters": {"source": str(source)}, "headers": given} if source in _SCHEMES:
            sent, timestamp = samples.body_of(event), given.get(_SCHEMES[source].timestamp_header)
            if signed_by(source, sent, timestamp).items() <= given.items():
                return event | {"headers": given | signed_by(source, sent)}
    return event


def _key_for(path: str) -> str:
    """The key of the source that a webhook is for, or our own."""
    source = SECRET["sources"].get(path.rpartition("/")[2], {"keys": [KEY]})
    key: str = source["keys"][0]
    return key


def main() -> None:
    """Print the event that is named on the command line."""
    json.dump(renewed(samples.load(Path(sys.argv[1]))), sys.stdout)


if __name__ == "__main__":
    main()
