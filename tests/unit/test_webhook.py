"""The webhook route: commands are accepted only from holders of a signing key."""

import base64
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import FLOW_SID, Function, SecretsManager, sample, status_and_body, status_and_code
from standardwebhooks import Webhook

from end_conversation.webhooks.verifier import FAILURE_PAUSE, RENEWAL_INTERVAL
from local.signing import ROUTE, signed
from local.studio import Studio

SECRET_ID = "end-conversation/webhook-keys"
KEY, OLD_KEY, FOREIGN_KEY = ("whsec_" + base64.b64encode(bytes([n]) * 24).decode() for n in (1, 2, 3))
BODY = json.dumps({"flow_sid": FLOW_SID, "execution_sid": "FN" + "4" * 32}).encode()
NOW = 1772444469


def keys_text(*keys: Any) -> str:
    return json.dumps({"keys": keys})


def headers_of(body: bytes, *keys: str, at: float = NOW) -> dict[str, str]:
    """The headers that the reference library makes, with one signature for each key."""
    timestamp = datetime.fromtimestamp(int(at), UTC)
    return {
        "content-type": "application/json",
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at)),
        "webhook-signature": " ".join(
            Webhook(key).sign("msg_1", timestamp, body.decode()) for key in keys or (KEY,)
        ),
    }


def http(body: bytes, headers: dict[str, str], /, **changes: Any) -> dict[str, Any]:
    """A request through an HTTP API."""
    return sample("webhook") | {"headers": headers, "body": body.decode()} | changes


def rest(body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """A request through a REST API."""
    multiple = {name.title(): [value] for name, value in headers.items()}
    single = {name: values[0] for name, values in multiple.items()}
    event = sample("http-rest") | {"resource": ROUTE, "headers": single, "multiValueHeaders": multiple}
    return event | {"body": body.decode(), "isBase64Encoded": False}


@pytest.fixture(autouse=True)
def signing_keys(
    environment: pytest.MonkeyPatch, secrets_manager: SecretsManager, clock: SimpleNamespace
) -> None:
    """Two keys, as in the middle of a rotation; it is NOW."""
    environment.setenv("WEBHOOK_SECRET_ID", SECRET_ID)
    secrets_manager.aws.put_secret(SECRET_ID, keys_text(OLD_KEY, KEY))
    clock.now = NOW


@pytest.fixture
def body(studio: Studio) -> bytes:
    """A command for an active Execution."""
    return json.dumps({"flow_sid": FLOW_SID, "execution_sid": studio.seed(FLOW_SID).sid}).encode()


@pytest.mark.parametrize("api", [http, rest])
@pytest.mark.parametrize("signers", [(KEY,), (OLD_KEY,), (FOREIGN_KEY, KEY)])
def test_a_signed_command_is_carried_out(
    function: Function, body: bytes, api: Any, signers: tuple[str, ...]
) -> None:
    """Through both kinds of API, with any of our keys, and next to a signature by an unknown key."""
    status, result = status_and_body(function(api(body, headers_of(body, *signers))))
    assert (status, [execution["status"] for execution in result["executions"]]) == (200, ["ended"])
    assert function.metrics == {"ExecutionsEnded": 1}
    assert {line["trigger"] for line in function.lines} == {"webhook"}


@pytest.mark.parametrize(("prefix", "status"), [(b"", 200), (b"\xef\xbb\xbf \n", 400)])
def test_the_body_is_verified_byte_for_byte(
    function: Function, body: bytes, prefix: bytes, status: int
) -> None:
    """Base64 is decoded, nothing else; a byte order mark is signed, but not JSON."""
    body = prefix + body
    encoded = {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    assert function(http(body, headers_of(body), **encoded))["statusCode"] == status
    assert function(http(body, headers_of(body)))["statusCode"] == status


SIGNATURE = headers_of(BODY)["webhook-signature"]
UNKNOWN = "v1," + "A" * 43 + "="
REJECTED: list[tuple[dict[str, Any], str]] = [
    (dict.fromkeys(headers_of(BODY)), "id_missing"),
    *(
        ({f"webhook-{name}": value}, f"{name}_missing")
        for name in ("id", "timestamp", "signature")
        for value in (None, "")
    ),
    *(({"webhook-id": value}, "id_malformed") for value in ("msg.1", "msg 1", "\ud800", "m" * 257)),
    *(({"webhook-id": value}, "signature_unknown") for value in ("msg_2", "msg_1,msg_1")),
    *(
        (signed(BODY, key=KEY, message_id="msg_1", timestamp=value), "timestamp_malformed")
        for value in (f"{NOW},{NOW}", f"{NOW}.0", "1e9", f"+{NOW}", f"{NOW}\n", "1_700_000_000", f"{NOW}000")
    ),
    (signed(BODY, key=KEY, timestamp="9" * 12), "timestamp_too_new"),
    (signed(BODY, key=KEY, timestamp="0"), "timestamp_too_old"),
    ({"webhook-timestamp": str(NOW - 7)}, "signature_unknown"),
    (headers_of(BODY, FOREIGN_KEY), "signature_unknown"),
    (headers_of(BODY + b" "), "signature_unknown"),
    *(({"webhook-signature": value}, "signature_unknown") for value in (UNKNOWN, " ".join([UNKNOWN] * 170))),
    *(
        ({"webhook-signature": value}, "signature_malformed")
        for value in (
            SIGNATURE[3:],
            SIGNATURE.replace("v1", "v2"),
            SIGNATURE.replace("v1", "v1a"),
            SIGNATURE.replace("v1", "V1"),
            f"v1,x\t{SIGNATURE}",
            f"{SIGNATURE},{SIGNATURE}",
            SIGNATURE[:-2] + "=",
            SIGNATURE.rstrip("="),
            SIGNATURE + "=",
            SIGNATURE[:9] + "\n" + SIGNATURE[9:],
            *("v1,", "v1", ",,,", "   ", "v1," + "-_" * 21 + "A=", "v1,\u00e9", "v1,\ud800"),
        )
    ),
]


def test_a_request_without_a_valid_signature_is_rejected(
    function: Function, studio: Studio, secrets_manager: SecretsManager
) -> None:
    """The 401 is always the same, the log line has the cause; neither Twilio nor its secret is asked."""
    for changes, cause in REJECTED:
        headers = {name: value for name, value in (headers_of(BODY) | changes).items() if value is not None}
        answer = function(http(BODY, headers))
        assert status_and_code(answer) == (401, "invalid_signature"), changes
        assert answer["headers"]["www-authenticate"] == 'Basic realm="end-conversation"'
        assert json.loads(answer["body"])["detail"] == "the request has no valid signature"
        (line,) = (line for line in function.logs if line["message"] == "conversation_not_ended")
        assert (line["code"], line["cause"]) == ("invalid_signature", cause), changes
        assert function.metrics == {"RequestsRejected": 1}
        assert "msg_1" not in function.output
        assert "v1," not in function.output
    assert not studio.requests
    assert secrets_manager.reads == [SECRET_ID]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        *(({"body": body}, "signature_unknown") for body in (None, "", "{")),
        ({"body": base64.b64encode(BODY).decode() + "!", "isBase64Encoded": True}, "body_unreadable"),
    ],
)
def test_the_signature_comes_before_the_body(function: Function, changes: dict[str, Any], cause: str) -> None:
    """Strangers do not learn what is wrong with a media type or a body."""
    headers = headers_of(BODY) | {"content-type": "text/plain"}
    assert function(http(BODY, headers, **changes))["statusCode"] == 401
    assert function.logs[0]["cause"] == cause


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [(b"", "application/json", 400), (b"{", "application/json", 400), (b"{}", "text/plain", 415)],
)
def test_a_signed_request_may_be_invalid(
    function: Function, body: bytes, media_type: str, status: int
) -> None:
    """Holders of a key learn what is wrong."""
    assert function(http(body, headers_of(body) | {"content-type": media_type}))["statusCode"] == status


def test_iam_does_not_replace_a_signature(function: Function, body: bytes) -> None:
    """Each route accepts its own authentication only."""
    context = sample("http")["requestContext"]
    assert context["authorizer"]["iam"]["userArn"]
    assert function(http(body, sample("http")["headers"], requestContext=context))["statusCode"] == 401


@pytest.mark.parametrize("variable", ["", " "])
def test_without_a_secret_every_webhook_is_rejected(
    function: Function, environment: pytest.MonkeyPatch, secrets_manager: SecretsManager, variable: str
) -> None:
    """No keys, no webhooks, and no read."""
    environment.setenv("WEBHOOK_SECRET_ID", variable)
    assert function(http(BODY, headers_of(BODY)))["statusCode"] == 401
    assert function.logs[0]["cause"] == "no_keys_configured"
    assert not secrets_manager.reads


@pytest.mark.parametrize("text", [keys_text(), keys_text("whsec_" + "A" * 28), "[" * 100_000])
def test_a_secret_without_a_key_is_unavailable(
    function: Function, secrets_manager: SecretsManager, text: str
) -> None:
    """503: the operator has to repair it; nothing of it is logged."""
    secrets_manager.aws.put_secret(SECRET_ID, text)
    assert status_and_code(function(http(BODY, headers_of(BODY)))) == (503, "credentials_unavailable")
    assert function.metrics == {"CredentialsUnavailable": 1}
    assert "AAAA" not in function.output


def test_an_unreadable_key_does_not_disable_the_others(
    function: Function, secrets_manager: SecretsManager, body: bytes
) -> None:
    """Its position is logged."""
    secrets_manager.aws.put_secret(SECRET_ID, keys_text("whsec_short", KEY, None))
    assert function(http(body, headers_of(body)))["statusCode"] == 200
    assert function.logs[0]["message"] == "signing_keys_unreadable"
    assert function.logs[0]["positions"] == [0, 2]


def test_without_a_readable_key_the_route_is_unavailable_until_repaired(
    function: Function, secrets_manager: SecretsManager, clock: SimpleNamespace, body: bytes
) -> None:
    """503, so that senders retry, although the secret has sources; it is read again within a minute."""
    secrets_manager.aws.put_secret(SECRET_ID, {"keys": ["whsec_short"], "sources": {"crm": {}}})
    answer = function(http(body, headers_of(body)))
    assert status_and_code(answer) == (503, "credentials_unavailable")
    assert answer["headers"]["retry-after"] == str(int(FAILURE_PAUSE))
    secrets_manager.aws.put_secret(SECRET_ID, keys_text(KEY))
    clock.now = NOW + RENEWAL_INTERVAL
    assert function(http(body, headers_of(body, at=clock.now)))["statusCode"] == 200


def test_a_rotated_key_works_at_once(
    function: Function, secrets_manager: SecretsManager, body: bytes
) -> None:
    """The keys are read again before a signature is rejected."""
    assert function(http(body, headers_of(body)))["statusCode"] == 200
    secrets_manager.aws.put_secret(SECRET_ID, keys_text(FOREIGN_KEY))
    assert function(http(body, headers_of(body, FOREIGN_KEY)))["statusCode"] == 200
    assert function(http(body, headers_of(body)))["statusCode"] == 401
    assert secrets_manager.reads.count(SECRET_ID) == 2


@pytest.mark.parametrize("error", [None, "InternalServiceError"])
def test_forged_requests_cause_one_read_a_minute(
    function: Function,
    secrets_manager: SecretsManager,
    clock: SimpleNamespace,
    body: bytes,
    error: str | None,
) -> None:
    """Whether it succeeds or not; the cached keys stay in use."""
    assert function(http(body, headers_of(body)))["statusCode"] == 200
    if error:
        secrets_manager.fail(code=error)
    for minute in range(3):
        clock.now = NOW + minute * RENEWAL_INTERVAL
        for _ in range(5):
            assert function(http(body, headers_of(body, FOREIGN_KEY, at=clock.now)))["statusCode"] == 401
        assert secrets_manager.reads.count(SECRET_ID) == 2 + minute
    assert function(http(body, headers_of(body, at=clock.now)))["statusCode"] == 200


@pytest.mark.parametrize(
    ("error", "status", "messages"),
    [
        ("InternalServiceError", 401, ["signing_keys_not_renewed", "conversation_not_ended"]),
        ("AccessDeniedException", 503, ["conversation_not_ended"]),
    ],
)
def test_a_failed_read_before_a_rejection_is_logged(
    function: Function,
    secrets_manager: SecretsManager,
    body: bytes,
    error: str,
    status: int,
    messages: list[str],
) -> None:
    """If the cached keys stay in use, the response is about the signature."""
    assert function(http(body, headers_of(body)))["statusCode"] == 200
    secrets_manager.fail(code=error)
    assert function(http(body, headers_of(body, FOREIGN_KEY)))["statusCode"] == status
    assert [line["message"] for line in function.logs] == messages
    assert error in function.logs[0]["detail"]


@pytest.mark.parametrize(
    "secret", ['{"keys": []}', '{"keys": ["whsec_c2hvcnQ="]}', "{}", "not json", None], ids=str
)
def test_a_revoked_key_is_not_accepted_again(
    function: Function,
    secrets_manager: SecretsManager,
    clock: SimpleNamespace,
    body: bytes,
    secret: str | None,
) -> None:
    """A secret without a usable key, or no secret, ends their use at once and for good."""
    assert function(http(body, headers_of(body)))["statusCode"] == 200
    if secret is None:
        secrets_manager.aws.delete_secret(SECRET_ID)
    else:
        secrets_manager.aws.put_secret(SECRET_ID, secret)
    for seconds in (301, 30, 7 * 3600, 24 * 3600):
        clock.now += seconds
        answer = function(http(body, headers_of(body, at=clock.now)))
        assert status_and_code(answer) == (503, "credentials_unavailable")


@pytest.mark.parametrize("error", ["InternalServiceError", "ThrottlingException"])
def test_an_outage_is_bridged_for_an_hour(
    function: Function, secrets_manager: SecretsManager, clock: SimpleNamespace, body: bytes, error: str
) -> None:
    """Not longer: only we enforce that a key is revoked."""
    assert function(http(body, headers_of(body)))["statusCode"] == 200
    secrets_manager.fail(code=error)
    for after, status in ((301, 200), (3599, 200), (3600, 503)):
        clock.now = NOW + after
        assert function(http(body, headers_of(body, at=clock.now)))["statusCode"] == status


def test_keys_are_cached_for_at_least_a_minute(
    function: Function, environment: pytest.MonkeyPatch, secrets_manager: SecretsManager
) -> None:
    """Even if credentials are not cached at all: strangers must not cause a read with each request."""
    environment.setenv("TWILIO_SECRET_MAX_AGE_SECONDS", "0")
    for _ in range(5):
        assert function(http(BODY, headers_of(BODY, FOREIGN_KEY)))["statusCode"] == 401
    assert secrets_manager.reads == [SECRET_ID]


def test_after_a_failed_read_the_next_one_waits(
    function: Function, clock: SimpleNamespace, secrets_manager: SecretsManager
) -> None:
    """Forged requests must not cause a read each."""
    secrets_manager.aws.put_secret(SECRET_ID, "{}")
    failed = "the webhook secret has neither keys nor sources"
    waits = "the webhook secret could not be read a moment ago"
    for after, reads, detail in (
        (0.0, 1, failed),
        (0.0, 1, waits),
        (FAILURE_PAUSE - 0.1, 1, waits),
        (FAILURE_PAUSE, 2, failed),
    ):
        clock.now = NOW + after
        assert function(http(BODY, headers_of(BODY)))["statusCode"] == 503
        assert (function.logs[0]["detail"], len(secrets_manager.reads)) == (detail, reads)
