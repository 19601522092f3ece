"""Twilio credentials, in the two formats that AWS Secrets Manager creates and rotates by itself."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import dataclass, field

from end_conversation.aws.secret import INVISIBLE
from end_conversation.command import SCHEMA

_ACCOUNT_SID = re.compile(SCHEMA["properties"]["account_sid"]["pattern"].strip("^$"))


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials of one account.

    Attributes:
        account_sid: the account.
        authorization: value of the Authorization header.
    """

    account_sid: str
    authorization: str = field(repr=False)


def parse_credentials(text: str) -> Credentials:
    """The credentials in a secret of the type `TwilioApiKey` (preferred) or `TwilioAuthToken`.

    https://docs.aws.amazon.com/secretsmanager/latest/userguide/mes-partner-TwilioApiKey.html
    https://docs.aws.amazon.com/secretsmanager/latest/userguide/mes-partner-TwilioAuthToken.html

    Raises:
        ValueError: names the field that is missing or wrong; the message never quotes the text.
    """
    try:
        secret = json.loads(text)
    except (ValueError, RecursionError):
        # Without its cause, which contains the whole text.
        raise ValueError("the Twilio secret is not JSON") from None
    if not isinstance(secret, dict):
        raise ValueError("the Twilio secret is not a JSON object")  # noqa: TRY004 - as the others
    stripped = {
        name: value.strip(INVISIBLE) if isinstance(value, str) else value for name, value in secret.items()
    }
    given = {name: value for name, value in stripped.items() if value not in (None, "")}
    is_token = "authToken" in given and not {"apiKeySid", "apiKeySecret"} <= given.keys()
    user, password = ("accountSid", "authToken") if is_token else ("apiKeySid", "apiKeySecret")
    for name in ("accountSid", user, password):
        if name not in given:
            raise ValueError(f"the Twilio secret lacks {name}")
        if not isinstance(given[name], str) or not given[name].isascii() or not given[name].isprintable():
            raise ValueError(f"{name} in the Twilio secret is not printable ASCII text")
    if not _ACCOUNT_SID.fullmatch(given["accountSid"]):
        raise ValueError("accountSid in the Twilio secret is not AC and 32 hexadecimal digits")
    pair = f"{given[user]}:{given[password]}"
    return Credentials(given["accountSid"], "Basic " + b64encode(pair.encode()).decode())
