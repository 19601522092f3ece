"""The two shapes of the Twilio secret, and what is none."""

import base64
import json

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
        (API_KEY | {"validationUrl": "https://api.twilio.com/"}, basic(KEY_SID, KEY_SECRET)),
    ],
)
def test_shapes(secret: dict[str, str], authorization: str) -> None:
    """An API key is preferred to the auth token; fields beside them are ignored."""
    assert parse_credentials(json.dumps(secret)).authorization == authorization


@pytest.mark.parametrize("text", ["", "not json " + KEY_SECRET, "[" * 100_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    """The error tells nothing of what the secret holds, not even through its cause."""
    with pytest.raises(ValueError, match=r"^the Twilio secret is not JSON$") as refusal:
        parse_credentials(text)
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([API_KEY]),
        *(json.dumps({k: v for k, v in API_KEY.items() if k != missing}) for missing in API_KEY),
        *(json.dumps({k: v for k, v in TOKEN.items() if k != missing}) for missing in TOKEN),
        *(
            json.dumps(API_KEY | {"apiKeySecret": wrong})
            for wrong in ("", " ", None, 1, [KEY_SECRET], "x\n", "\u00e9")
        ),
    ],
)
def test_what_lacks_something_is_refused(text: str) -> None:
    """The error names all that is needed, and nothing of what is there."""
    lacks = r"^the Twilio secret lacks accountSid, or both apiKeySid with apiKeySecret and authToken$"
    with pytest.raises(ValueError, match=lacks) as refusal:
        parse_credentials(text)
    assert refusal.value.__context__ is None


def test_credentials_do_not_print() -> None:
    """Whoever logs the object logs no secret."""
    assert KEY_SECRET not in repr(parse_credentials(json.dumps(API_KEY)))
    assert basic(KEY_SID, KEY_SECRET) not in repr(parse_credentials(json.dumps(API_KEY)))
