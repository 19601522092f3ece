"""The webhook route: only what a holder of a signing key sent is looked into."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import FLOW_SID, Function, SecretsManager, sample
from standardwebhooks import Webhook

from end_conversation import app
from end_conversation.aws import secret
from end_conversation.config import Config
from end_conversation.deadline import Deadline
from end_conversation.errors import CredentialsUnavailable
from end_conversation.http_request import HttpRequest
from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks import verifier
from end_conversation.webhooks.verifier import (
    FAILURE_PAUSE,
    RENEWAL_INTERVAL,
    authenticate,
)
from local.studio import Studio

SECRET_ID = "end-conversation/webhook-keys"
KEY, OLD_KEY, FOREIGN_KEY = ("whsec_" + base64.b64encode(bytes([n]) * 24).decode() for n in (1, 2, 3))
ROUTE = "/webhooks/conversation-ended"

Change = Callable[[dict[str, str]], dict[str, str]]


def keys_text(*keys: str) -> str:
    return json.dumps({"keys": keys})


def headers_of(body: bytes, *keys: str, message_id: str = "msg_1", at: float | None = None) -> dict[str, str]:
    """The headers that the reference library makes, with one signature for each key."""
    timestamp = datetime.fromtimestamp(int(time.time() if at is None else at), UTC)
    signatures = [Webhook(key).sign(message_id, timestamp, body.decode()) for key in keys or (KEY,)]
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(timestamp.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def webhook_event(
    body: bytes, headers: dict[str, str], /, *, name: str = "http", **changes: Any
) -> dict[str, Any]:
    """A request to the webhook route, through an HTTP API or a REST API."""
    event = sample(name) | {"body": body.decode(), "isBase64Encoded": False} | changes
    if name == "http":
        event["routeKey"] = event["requestContext"]["routeKey"] = f"POST {ROUTE}"
        return event | {"headers": headers}
    multiple = {key.title(): [value] for key, value in headers.items()}
    single = {key.title(): value for key, value in headers.items()}
    return event | {"resource": ROUTE, "headers": single, "multiValueHeaders": multiple}


def ask(function: Function, event: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    answer = function(event)
    return answer["statusCode"], json.loads(answer["body"])


def cause_of_refusal(function: Function) -> str:
    """What the one log line says about a refusal."""
    (line,) = (line for line in function.logs if line["message"] == "conversation_not_ended")
    assert line["code"] == "invalid_signature"
    cause: str = line["cause"]
    return cause


@pytest.fixture
def body(studio: Studio) -> bytes:
    """A command about an active Execution."""
    return json.dumps({"flow_sid": FLOW_SID, "execution_sid": studio.seed(FLOW_SID).sid}).encode()


@pytest.fixture(autouse=True)
def keys(environment: pytest.MonkeyPatch, secrets_manager: SecretsManager) -> None:
    """Two signing keys, as in the middle of a rotation."""
    environment.setenv("WEBHOOK_SECRET_ID", SECRET_ID)
    secrets_manager.aws.put_secret(SECRET_ID, keys_text(OLD_KEY, KEY))
    verifier._verifier_of.cache_clear()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time of day for signatures; `now` may be set."""
    told = SimpleNamespace(now=time.time())
    for module in (verifier, secret):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: told.now))
    return told


@pytest.mark.parametrize("name", ["http", "http-rest"])
@pytest.mark.parametrize("signers", [(KEY,), (OLD_KEY,), (FOREIGN_KEY, KEY)])
def test_a_signed_request_is_carried_out(
    function: Function, body: bytes, name: str, signers: tuple[str, ...]
) -> None:
    """Through both kinds of API, by any of our keys, and beside a signature that we do not know."""
    status, result = ask(function, webhook_event(body, headers_of(body, *signers), name=name))
    assert (status, [execution["status"] for execution in result["executions"]]) == (200, ["ended"])
    assert function.metrics == {"ExecutionsEnded": 1}
    assert {line["trigger"] for line in function.lines} == {"webhook"}


def test_an_answer_comes_before_the_gateway_gives_up(
    function: Function, studio: Studio, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the function itself may take."""
    monkeypatch.setattr(app, "HTTP_BUDGET", 0.3)
    studio.fail(broken="hang", times=None)
    began = time.monotonic()
    assert ask(function, webhook_event(body, headers_of(body)))[0] == 504
    assert time.monotonic() - began < 3


def test_the_real_bytes_are_verified(function: Function, body: bytes) -> None:
    """A body that the gateway took for binary is decoded, and nothing else is done to any body."""
    for sent, status in ((body, 200), (b"\xef\xbb\xbf \n" + body, 400)):
        # Both are signed rightly; a byte order mark is none of JSON's.
        event = webhook_event(
            sent, headers_of(sent), body=base64.b64encode(sent).decode(), isBase64Encoded=True
        )
        assert ask(function, event)[0] == status
        assert ask(function, webhook_event(sent, headers_of(sent)))[0] == status


def without(name: str) -> Change:
    return lambda headers: {key: value for key, value in headers.items() if key != name}


def with_(name: str, value: str) -> Change:
    return lambda headers: headers | {name: value}


def signature(rewrite: Callable[[str], str]) -> Change:
    return lambda headers: headers | {"webhook-signature": rewrite(headers["webhook-signature"])}


def signed_at(timestamp: str) -> Change:
    """A signature that is right for a timestamp as it is written."""
    key = base64.b64decode(KEY.removeprefix("whsec_"))

    def change(headers: dict[str, str]) -> dict[str, str]:
        content = f"{headers['webhook-id']}.{timestamp}.".encode(errors="surrogatepass") + BODY
        made = base64.b64encode(hmac.digest(key, content, "sha256")).decode()
        return headers | {"webhook-timestamp": timestamp, "webhook-signature": f"v1,{made}"}

    return change


BODY = json.dumps({"flow_sid": FLOW_SID, "execution_sid": "FN" + "4" * 32}).encode()
NOW = int(time.time())
SIGNATURE = "v1," + "A" * 43 + "="
MALFORMED: list[tuple[Change, str]] = [
    (lambda _: {}, "id_missing"),
    *((without(f"webhook-{name}"), f"{name}_missing") for name in ("id", "timestamp", "signature")),
    *((with_(f"webhook-{name}", ""), f"{name}_missing") for name in ("id", "timestamp", "signature")),
    *((with_("webhook-id", value), "id_malformed") for value in ("msg.1", "msg 1", "\ud800", "m" * 257)),
    *((with_("webhook-id", value), "signature_unknown") for value in ("msg_2", "msg_1,msg_1")),
    *(
        (signed_at(value), "timestamp_malformed")
        for value in (f"{NOW},{NOW}", f"{NOW}.0", "1e9", f"+{NOW}", f"{NOW}\n", "1_700_000_000", f"{NOW}000")
    ),
    (signed_at("9" * 12), "timestamp_too_new"),
    (signed_at("0"), "timestamp_too_old"),
    (with_("webhook-timestamp", str(NOW - 7)), "signature_unknown"),
    (lambda _: headers_of(BODY, FOREIGN_KEY), "signature_unknown"),
    (lambda _: headers_of(BODY + b" "), "signature_unknown"),
    (with_("webhook-signature", SIGNATURE), "signature_unknown"),
    (with_("webhook-signature", " ".join([SIGNATURE] * 170)), "signature_unknown"),
    *(
        (signature(rewrite), "signature_malformed")
        for rewrite in (
            lambda it: it[3:],
            lambda it: it.replace("v1", "v2"),
            lambda it: it.replace("v1", "v1a"),
            lambda it: it.replace("v1", "V1"),
            lambda it: f"v1,x\t{it}",
            lambda it: f"{it},{it}",
            lambda it: it[:-2] + "=",
            lambda it: it.rstrip("="),
            lambda it: it + "=",
            lambda it: it[:9] + "\n" + it[9:],
        )
    ),
    *(
        (with_("webhook-signature", value), "signature_malformed")
        for value in ("v1,", "v1", ",,,", "   ", "v1," + "-_" * 21 + "A=", "v1,\u00e9", "v1,\ud800")
    ),
]


@pytest.mark.parametrize("name", ["http", "http-rest"])
def test_malformed_headers_are_refused(
    function: Function, studio: Studio, secrets_manager: SecretsManager, name: str
) -> None:
    """401 that says nothing, a log line that says what; Twilio is not asked, nor its secret read."""
    for change, cause in MALFORMED:
        headers = change(headers_of(BODY))
        answer = function(webhook_event(BODY, headers, name=name))
        assert answer["statusCode"] == 401, cause
        assert answer["headers"]["www-authenticate"] == 'Basic realm="end-conversation"'
        assert json.loads(answer["body"])["detail"] == "the request has no valid signature"
        assert cause_of_refusal(function) == cause
        assert function.metrics == {"RequestsRejected": 1}
        assert "msg_1" not in function.output
        assert "v1," not in function.output
    assert not studio.requests
    assert secrets_manager.reads.count(SECRET_ID) == len(secrets_manager.reads) == 1


@pytest.mark.parametrize("changes", [{"body": None}, {"body": ""}, {"body": "{"}, {"body": "[" * 100_000}])
def test_nothing_is_looked_into_before_the_signature(function: Function, changes: dict[str, Any]) -> None:
    """Media type and body of a stranger get the same answer as everything else."""
    headers = headers_of(BODY) | {"content-type": "text/plain"}
    assert ask(function, webhook_event(BODY, headers, **changes))[0] == 401


@pytest.mark.parametrize(
    ("sent", "content_type", "status"),
    [(b"", "application/json", 400), (b"{", "application/json", 400), (b"{}", "text/plain", 415)],
)
def test_signed_requests_may_be_wrong_too(
    function: Function, sent: bytes, content_type: str, status: int
) -> None:
    """Who holds a key is told what is wrong."""
    headers = headers_of(sent) | {"content-type": content_type}
    assert ask(function, webhook_event(sent, headers))[0] == status


def test_the_route_comes_before_the_signature(function: Function) -> None:
    """Another method is refused as such."""
    event = webhook_event(BODY, {})
    event["requestContext"]["http"]["method"] = "GET"
    answer = function(event)
    assert (answer["statusCode"], answer["headers"]["allow"]) == (405, "HEAD, POST")


def test_each_route_takes_its_own_authentication_only(function: Function, body: bytes) -> None:
    """The gateway's word does not replace a signature."""
    event = webhook_event(body, sample("http")["headers"])
    assert event["requestContext"]["authorizer"]["iam"]["userArn"]
    assert ask(function, event)[0] == 401


@pytest.mark.parametrize("variable", ["", " "])
def test_without_a_secret_everything_is_refused(
    function: Function, environment: pytest.MonkeyPatch, secrets_manager: SecretsManager, variable: str
) -> None:
    """No keys, no webhooks: the best signature is as good as none."""
    environment.setenv("WEBHOOK_SECRET_ID", variable)
    assert ask(function, webhook_event(BODY, headers_of(BODY)))[0] == 401
    assert cause_of_refusal(function) == "no_keys_configured"
    assert not secrets_manager.reads


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "keys",
        "[]",
        "{}",
        '{"keys": null}',
        '{"keys": {}}',
        '{"keys": "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}',
        '{"keys": []}',
        "[" * 100_000,
        keys_text(""),
        keys_text("whsec_"),
        keys_text("whsec_" + "A" * 28),
        keys_text("whsec_" + "!" * 32),
        keys_text("whsec_" + "\u00e9" * 32),
        keys_text("whsk_" + "A" * 32),
        json.dumps({"keys": [None, 1, ["A" * 32]]}),
    ],
)
def test_a_secret_without_a_key_is_unavailable(
    function: Function, secrets_manager: SecretsManager, text: str
) -> None:
    """503: the operator has something to repair, and nothing of the secret is logged."""
    secrets_manager.aws.put_secret(SECRET_ID, text)
    status, problem = ask(function, webhook_event(BODY, headers_of(BODY)))
    assert (status, problem["code"]) == (503, "credentials_unavailable")
    assert function.metrics == {"CredentialsUnavailable": 1}
    assert "AAAA" not in function.output


@pytest.mark.parametrize("broken", ["", "whsec_short", "whsec_" + "!" * 32, None, 7])
def test_a_broken_key_does_not_disable_the_others(
    function: Function, secrets_manager: SecretsManager, body: bytes, broken: Any
) -> None:
    """It is logged by its position, authenticates nobody, and the key beside it goes on working."""
    secrets_manager.aws.put_secret(SECRET_ID, json.dumps({"keys": [broken, KEY]}))
    assert ask(function, webhook_event(body, headers_of(body)))[0] == 200
    assert function.logs[0]["message"] == "signing_keys_unreadable"
    assert function.logs[0]["positions"] == [0]


def test_a_rotated_key_works_at_once(
    function: Function, secrets_manager: SecretsManager, body: bytes
) -> None:
    """The keys are read again before a signature is refused."""
    assert ask(function, webhook_event(body, headers_of(body)))[0] == 200
    secrets_manager.aws.put_secret(SECRET_ID, keys_text(FOREIGN_KEY))
    assert ask(function, webhook_event(body, headers_of(body, FOREIGN_KEY)))[0] == 200
    assert ask(function, webhook_event(body, headers_of(body)))[0] == 401
    assert secrets_manager.reads.count(SECRET_ID) == 2


@pytest.mark.parametrize("error", [None, "InternalServiceError"])
def test_forgers_do_not_make_us_read_the_keys(
    function: Function,
    secrets_manager: SecretsManager,
    clock: SimpleNamespace,
    body: bytes,
    error: str | None,
) -> None:
    """Once a minute at most, whatever comes of it; and the keys at hand go on working."""
    assert ask(function, webhook_event(body, headers_of(body)))[0] == 200
    if error:
        secrets_manager.fail(code=error)
    for minute in range(3):
        clock.now += minute and RENEWAL_INTERVAL
        for _ in range(5):
            assert ask(function, webhook_event(body, headers_of(body, FOREIGN_KEY, at=clock.now)))[0] == 401
        assert secrets_manager.reads.count(SECRET_ID) == 2 + minute
    secrets_manager.recover()
    assert ask(function, webhook_event(body, headers_of(body, at=clock.now)))[0] == 200


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
    """An answer without a usable key ends the use of the keys at once, and for good."""
    assert ask(function, webhook_event(body, headers_of(body)))[0] == 200
    if secret is None:
        secrets_manager.aws.delete_secret(SECRET_ID)
    else:
        secrets_manager.aws.put_secret(SECRET_ID, secret)
    for seconds in (301, 30, 7 * 3600, 24 * 3600):
        clock.now += seconds
        status, answer = ask(function, webhook_event(body, headers_of(body, at=clock.now)))
        assert (status, answer["code"]) == (503, "credentials_unavailable")


@pytest.mark.parametrize("error", ["InternalServiceError", "ThrottlingException"])
def test_a_failing_service_is_bridged_for_an_hour(
    function: Function, secrets_manager: SecretsManager, clock: SimpleNamespace, body: bytes, error: str
) -> None:
    """Nobody but us enforces that a key is revoked, so not knowing must come to an end."""
    assert ask(function, webhook_event(body, headers_of(body)))[0] == 200
    secrets_manager.fail(code=error)
    read_at = clock.now
    for after in (301, 1800, 3599):
        clock.now = read_at + after
        assert ask(function, webhook_event(body, headers_of(body, at=clock.now)))[0] == 200
    clock.now = read_at + 3600
    assert ask(function, webhook_event(body, headers_of(body, at=clock.now)))[0] == 503


def test_keys_are_cached_for_a_minute_at_least(
    function: Function, environment: pytest.MonkeyPatch, secrets_manager: SecretsManager
) -> None:
    """Credentials that are not cached at all do not let a stranger call Secrets Manager at will."""
    environment.setenv("TWILIO_SECRET_MAX_AGE_SECONDS", "0")
    for _ in range(5):
        assert ask(function, webhook_event(BODY, headers_of(BODY, FOREIGN_KEY)))[0] == 401
    assert secrets_manager.reads == [SECRET_ID]


def test_a_failing_renewal_is_logged(
    function: Function, secrets_manager: SecretsManager, body: bytes
) -> None:
    """The caller hears of its signature only."""
    assert ask(function, webhook_event(body, headers_of(body)))[0] == 200
    secrets_manager.fail(code="InternalServiceError")
    assert ask(function, webhook_event(body, headers_of(body, FOREIGN_KEY)))[0] == 401
    assert [line["message"] for line in function.logs] == [
        "signing_keys_not_renewed",
        "conversation_not_ended",
    ]
    assert "InternalServiceError" in function.logs[0]["detail"]


def signed_now(clock: SimpleNamespace) -> HttpRequest:
    """A request that any key may have signed."""
    return to_http_request(webhook_event(BODY, headers_of(BODY, at=clock.now)))


def test_after_a_failure_the_keys_are_left_alone_for_a_while(
    clock: SimpleNamespace, secrets_manager: SecretsManager
) -> None:
    """Anybody can send forged requests, and must not make us ask with each of them."""
    clock.now = float(int(clock.now))
    secrets_manager.aws.put_secret(SECRET_ID, "{}")
    config = Config.from_environment()
    signed = signed_now(clock)
    began = clock.now
    for after, reads, cause in [
        (0.0, 1, "the webhook secret has neither keys nor sources"),
        (0.0, 1, "the webhook secret could not be read a moment ago"),
        (FAILURE_PAUSE - 0.1, 1, "the webhook secret could not be read a moment ago"),
        (FAILURE_PAUSE, 2, "the webhook secret has neither keys nor sources"),
    ]:
        clock.now = began + after
        with pytest.raises(CredentialsUnavailable, match=f"^{cause}$"):
            authenticate(config, signed, Deadline(5))
        assert len(secrets_manager.reads) == reads
