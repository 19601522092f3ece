"""Twilio credentials, in the two formats that AWS Secrets Manager creates and rotates by itself."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass, field


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
        ValueError: neither format; the message never quotes the text.
    """
    try:
        secret = json.loads(text)
    except (ValueError, RecursionError):
        # Without its cause, which contains the whole text.
        raise ValueError("the Twilio secret is not JSON") from None
    if isinstance(secret, dict) and _is_text(secret.get("accountSid")):
        for user, password in (("apiKeySid", "apiKeySecret"), ("accountSid", "authToken")):
            if _is_text(secret.get(user)) and _is_text(secret.get(password)):
                pair = f"{secret[user]}:{secret[password]}"
                return Credentials(secret["accountSid"], "Basic " + b64encode(pair.encode()).decode())
    raise ValueError("the Twilio secret lacks accountSid, or both apiKeySid with apiKeySecret and authToken")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable() and value.strip() != ""
