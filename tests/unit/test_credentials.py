"""The two formats of the Twilio secret, what is forgiven in them, and which error names what is wrong."""

import base64
import json
from typing import Any

import pytest
from conftest import ACCOUNT_SID

from end_conversation.twilio.credentials import parse_credentials

KEY_SID, KEY_SECRET, AUTH_TOKEN = "SK" + "1" * 32, "s3cret-of-the-key", "s3cret-token"
API_KEY = {"accountSid": ACCOUNT_SID, "apiKeySid": KEY_SID, "apiKeySecret": KEY_SECRET}
TOKEN = {"accountSid": ACCOUNT_SID, "authToken": AUTH_TOKEN}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("secret", "authorization"),
    [
        (API_KEY, basic(KEY_SID, KEY_SECRET)),
        (TOKEN, basic(ACCOUNT_SID, AUTH_TOKEN)),
        (TOKEN | API_KEY, basic(KEY_SID, KEY_SECRET)),
        (TOKEN | {"apiKeySid": KEY_SID}, basic(ACCOUNT_SID, AUTH_TOKEN)),
        (TOKEN | {"apiKeySid": "", "apiKeySecret": None}, basic(ACCOUNT_SID, AUTH_TOKEN)),
        (API_KEY | {"validationUrl": "https://api.twilio.com/"}, basic(KEY_SID, KEY_SECRET)),
        ({name: f"\ufeff {value}\r\n" for name, value in API_KEY.items()}, basic(KEY_SID, KEY_SECRET)),
        (
            {name: f"\v\u3000{value}\u200b\u2028" for name, value in API_KEY.items()},
            basic(KEY_SID, KEY_SECRET),
        ),
    ],
)
def test_a_secret_in_one_of_the_formats_is_understood(secret: dict[str, Any], authorization: str) -> None:
    """An API key is preferred to the auth token; other fields and white space are ignored."""
    credentials = parse_credentials(json.dumps(secret))
    assert (credentials.account_sid, credentials.authorization) == (ACCOUNT_SID, authorization)
    assert KEY_SECRET not in repr(credentials)
    assert authorization not in repr(credentials)


def without(secret: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in secret.items() if key != name}


UNPRINTABLE = "apiKeySecret in the Twilio secret is not printable ASCII text"


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("", "the Twilio secret is not JSON"),
        ("not json " + KEY_SECRET, "the Twilio secret is not JSON"),
        ("[" * 100_000, "the Twilio secret is not JSON"),
        ([API_KEY], "the Twilio secret is not a JSON object"),
        *((without(API_KEY, name), f"the Twilio secret lacks {name}") for name in API_KEY),
        (without(TOKEN, "accountSid"), "the Twilio secret lacks accountSid"),
        (without(TOKEN, "authToken"), "the Twilio secret lacks apiKeySid"),
        *(
            (API_KEY | {"apiKeySecret": blank}, "the Twilio secret lacks apiKeySecret")
            for blank in ("", " ", None)
        ),
        *((API_KEY | {"apiKeySecret": wrong}, UNPRINTABLE) for wrong in (1, [KEY_SECRET], "x\ny", "\u00e9")),
        *(
            (
                TOKEN | {"accountSid": wrong},
                "accountSid in the Twilio secret is not AC and 32 hexadecimal digits",
            )
            for wrong in (KEY_SID, ACCOUNT_SID + "0", "my account")
        ),
    ],
)
def test_an_error_names_the_field_and_nothing_of_its_value(secret: object, message: str) -> None:
    """Not even through its cause: JSON's own errors contain the whole text."""
    with pytest.raises(ValueError, match=f"^{message}$") as refusal:
        parse_credentials(secret if isinstance(secret, str) else json.dumps(secret))
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
