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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook

from end_conversation import app
from end_conversation.aws import secret
from end_conversation.config import Config
from end_conversation.deadline import Deadline
from end_conversation.errors import CredentialsUnavailable, InvalidSignature
from end_conversation.http_request import HttpRequest
from end_conversation.triggers.api_gateway import to_http_request
from end_conversation.webhooks import verifier
from end_conversation.webhooks.proofs import Keys, Proof, check, sign_standard
from end_conversation.webhooks.sources import parse_webhook_secret
from end_conversation.webhooks.verifier import (
    FAILURE_PAUSE,
    RENEWAL_INTERVAL,
    authenticate,
)
from local.studio import Studio

SECRET_ID = "end-conversation/webhook-keys"
KEY, OLD_KEY, FOREIGN_KEY = ("whsec_" + base64.b64encode(bytes([n]) * 24).decode() for n in (1, 2, 3))
ROUTE = "/webhooks/conversation-ended"

# From the tests of the specification's own libraries.
VECTOR_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_TIMESTAMP = "1614265330"
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

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


def parse_keys(text: str) -> Keys:
    return parse_webhook_secret(text).keys


def is_by(keys: Keys, body: bytes, headers: dict[str, str], *, now: float | None = None) -> bool:
    """Whether one of the keys made one of the signatures."""
    request = to_http_request(
        webhook_event(b"", headers, body=base64.b64encode(body).decode(), isBase64Encoded=True)
    )
    try:
        check(Proof("standard"), keys, request, time.time() if now is None else now)
    except InvalidSignature:
        return False
    return True


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


def test_the_reference_vector_is_signed() -> None:
    """The specification's libraries agree on this signature."""
    key = base64.b64decode(VECTOR_KEY.removeprefix("whsec_"))
    assert sign_standard(key, VECTOR_ID, VECTOR_TIMESTAMP, VECTOR_BODY) == VECTOR_SIGNATURE


@pytest.mark.parametrize("entry", [VECTOR_KEY, VECTOR_KEY.removeprefix("whsec_")])
def test_the_reference_vector_is_verified(clock: SimpleNamespace, entry: str) -> None:
    """With the key in either form, among signatures that are of another version, wrong or unreadable."""
    clock.now = float(VECTOR_TIMESTAMP)
    wrong = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
    headers = {
        "webhook-id": VECTOR_ID,
        "webhook-timestamp": VECTOR_TIMESTAMP,
        "webhook-signature": f"{wrong} v2,{wrong[3:]} v1 , v1,v1,é {VECTOR_SIGNATURE} {wrong}",
    }
    assert is_by(parse_keys(keys_text(entry)), VECTOR_BODY, headers, now=clock.now)
    assert not is_by(parse_keys(keys_text(KEY)), VECTOR_BODY, headers, now=clock.now)


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
    """A body that the gateway took for binary is decoded first, and nothing else is done to any body."""
    body = b"\xef\xbb\xbf \n" + body
    encoded = webhook_event(
        body, headers_of(body), body=base64.b64encode(body).decode(), isBase64Encoded=True
    )
    for event in (encoded, webhook_event(body, headers_of(body))):
        # The signature is right; a byte order mark is none of JSON's.
        assert ask(function, event)[0] == 400


def test_a_base64_body_is_decoded(function: Function, body: bytes) -> None:
    """The signature is over what the caller sent."""
    event = webhook_event(body, headers_of(body), body=base64.b64encode(body).decode(), isBase64Encoded=True)
    assert ask(function, event)[0] == 200


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
MALFORMED: dict[str, tuple[Change, str]] = {
    "no id": (without("webhook-id"), "id_missing"),
    "no timestamp": (without("webhook-timestamp"), "timestamp_missing"),
    "no signature": (without("webhook-signature"), "signature_missing"),
    "no headers": (lambda _: {}, "id_missing"),
    "empty id": (with_("webhook-id", ""), "id_missing"),
    "empty timestamp": (with_("webhook-timestamp", ""), "timestamp_missing"),
    "empty signature": (with_("webhook-signature", ""), "signature_missing"),
    "id with a full stop": (with_("webhook-id", "msg.1"), "id_malformed"),
    "id with a space": (with_("webhook-id", "msg 1"), "id_malformed"),
    "id with a line break": (with_("webhook-id", "msg_1\n"), "id_malformed"),
    "id with an accent": (with_("webhook-id", "ms\u00e9"), "id_malformed"),
    "id with half a pair": (with_("webhook-id", "\ud800"), "id_malformed"),
    "endless id": (with_("webhook-id", "m" * 257), "id_malformed"),
    "another id": (with_("webhook-id", "msg_2"), "signature_unknown"),
    "id given twice": (with_("webhook-id", "msg_1,msg_1"), "signature_unknown"),
    "timestamp of words": (with_("webhook-timestamp", "yesterday"), "timestamp_malformed"),
    "timestamp nan": (with_("webhook-timestamp", "nan"), "timestamp_malformed"),
    "timestamp inf": (with_("webhook-timestamp", "inf"), "timestamp_malformed"),
    "timestamp given twice": (with_("webhook-timestamp", f"{NOW},{NOW}"), "timestamp_malformed"),
    "timestamp with a fraction": (signed_at(f"{NOW}.0"), "timestamp_malformed"),
    "timestamp with an exponent": (signed_at("1e9"), "timestamp_malformed"),
    "timestamp with a sign": (signed_at(f"+{NOW}"), "timestamp_malformed"),
    "negative timestamp": (signed_at(f"-{NOW}"), "timestamp_malformed"),
    "timestamp with a space": (signed_at(f" {NOW}"), "timestamp_malformed"),
    "timestamp with a line break": (signed_at(f"{NOW}\n"), "timestamp_malformed"),
    "timestamp with underscores": (signed_at("1_700_000_000"), "timestamp_malformed"),
    "timestamp in other digits": (signed_at("\u0661" * 10), "timestamp_malformed"),
    "timestamp in superscript": (signed_at("\u00b9" * 10), "timestamp_malformed"),
    "timestamp of 5000 digits": (signed_at("9" * 5000), "timestamp_malformed"),
    "timestamp in milliseconds": (signed_at(f"{NOW}000"), "timestamp_malformed"),
    "timestamp of 12 digits": (signed_at("9" * 12), "timestamp_too_new"),
    "timestamp zero": (signed_at("0"), "timestamp_too_old"),
    "too old": (signed_at(str(NOW - 4000)), "timestamp_too_old"),
    "too new": (signed_at(str(NOW + 4000)), "timestamp_too_new"),
    "another timestamp": (
        lambda headers: headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 7)},
        "signature_unknown",
    ),
    "signature of a foreign key": (lambda _: headers_of(BODY, FOREIGN_KEY), "signature_unknown"),
    "signature of another body": (lambda _: headers_of(BODY + b" "), "signature_unknown"),
    "signature without version": (signature(lambda it: it[3:]), "signature_malformed"),
    "signature of another version": (signature(lambda it: it.replace("v1", "v2")), "signature_malformed"),
    "asymmetric signature": (signature(lambda it: it.replace("v1", "v1a")), "signature_malformed"),
    "version in capitals": (signature(lambda it: it.replace("v1", "V1")), "signature_malformed"),
    "tab for a space": (signature(lambda it: f"v1,x\t{it}"), "signature_malformed"),
    "version alone": (with_("webhook-signature", "v1,"), "signature_malformed"),
    "version without comma": (with_("webhook-signature", "v1"), "signature_malformed"),
    "commas": (with_("webhook-signature", ",,,"), "signature_malformed"),
    "spaces": (with_("webhook-signature", "   "), "signature_malformed"),
    "three parts": (signature(lambda it: it + ",x"), "signature_malformed"),
    "given twice": (signature(lambda it: f"{it},{it}"), "signature_malformed"),
    "no base64": (with_("webhook-signature", "v1," + "!" * 44), "signature_malformed"),
    "base64 with a letter less": (signature(lambda it: it[:-2] + "="), "signature_malformed"),
    "base64 without padding": (signature(lambda it: it.rstrip("=")), "signature_malformed"),
    "base64 with more padding": (signature(lambda it: it + "="), "signature_malformed"),
    "base64 for URLs": (with_("webhook-signature", "v1," + "-_" * 21 + "A="), "signature_malformed"),
    "base64 with noise": (signature(lambda it: it[:9] + "\n" + it[9:]), "signature_malformed"),
    "accents": (with_("webhook-signature", "v1,\u00e9" * 9), "signature_malformed"),
    "half a pair": (with_("webhook-signature", "v1,\ud800"), "signature_malformed"),
    "hexadecimal": (with_("webhook-signature", "v1," + "0f" * 32), "signature_malformed"),
    "another signature": (with_("webhook-signature", "v1," + "A" * 43 + "="), "signature_unknown"),
    "8 kB of signatures": (
        with_("webhook-signature", " ".join(["v1," + "A" * 43 + "="] * 170)),
        "signature_unknown",
    ),
}


@pytest.mark.parametrize("name", ["http", "http-rest"])
@pytest.mark.parametrize("malformed", MALFORMED)
def test_malformed_headers_are_refused(
    function: Function, studio: Studio, secrets_manager: SecretsManager, malformed: str, name: str
) -> None:
    """401 that says nothing, a log line that says what; Twilio is not asked, nor its secret read."""
    change, cause = MALFORMED[malformed]
    headers = change(headers_of(BODY))
    status, problem = ask(function, webhook_event(BODY, headers, name=name))
    assert (status, problem["code"]) == (401, "invalid_signature")
    assert problem["detail"] == "the request has no valid signature"
    assert cause_of_refusal(function) == cause
    assert function.metrics == {"RequestsRejected": 1}
    assert not studio.requests
    assert set(secrets_manager.reads) <= {SECRET_ID}
    assert "msg_1" not in function.output
    assert "v1," not in function.output


@pytest.mark.parametrize("header", ["Id", "Timestamp", "Signature"])
def test_repeated_headers_are_refused(function: Function, header: str) -> None:
    """A REST API hands on all of them, and there is no telling which one the sender meant."""
    event = webhook_event(BODY, headers_of(BODY), name="http-rest")
    event["multiValueHeaders"][f"Webhook-{header}"] *= 2
    assert ask(function, event)[0] == 401
    assert cause_of_refusal(function) == f"{header.lower()}_repeated"


@pytest.mark.parametrize("position", range(0, len(BODY), 9))
def test_a_body_with_another_byte_is_refused(function: Function, position: int) -> None:
    """Wherever it is, and however little it matters to JSON."""
    altered = BODY[:position] + bytes([BODY[position] ^ 1]) + BODY[position + 1 :]
    assert ask(function, webhook_event(altered, headers_of(BODY)))[0] == 401


@pytest.mark.parametrize("body", ["!!!", "e30", "\u00e9"])
def test_broken_base64_cannot_be_verified(function: Function, body: str) -> None:
    """It is not for a stranger to hear more about."""
    event = webhook_event(BODY, headers_of(BODY), body=body, isBase64Encoded=True)
    assert ask(function, event)[0] == 401
    assert cause_of_refusal(function) == "body_unreadable"


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


@pytest.mark.parametrize("age", [-300, 0, 300])
def test_five_minutes_are_tolerated(
    function: Function, clock: SimpleNamespace, body: bytes, age: int
) -> None:
    """Clocks differ and requests take their time, either way."""
    clock.now = int(clock.now)
    assert ask(function, webhook_event(body, headers_of(body, at=clock.now - age)))[0] == 200


@pytest.mark.parametrize("age", [-301, 301])
def test_more_than_five_minutes_are_not(
    function: Function, clock: SimpleNamespace, body: bytes, age: int
) -> None:
    """A request that was listened to is of no use later."""
    clock.now = int(clock.now)
    assert ask(function, webhook_event(body, headers_of(body, at=clock.now - age)))[0] == 401


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


@pytest.mark.parametrize("size", [24, 25, 26, 64])
def test_a_key_may_lack_its_padding(size: int) -> None:
    """Some senders hand their keys out like that."""
    key = bytes(range(size))
    assert parse_keys(keys_text(base64.b64encode(key).decode().rstrip("="))) == (key,)


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


def test_keys_that_were_just_read_are_not_read_again(
    function: Function, secrets_manager: SecretsManager
) -> None:
    """A forged request to a new process costs one call."""
    assert ask(function, webhook_event(BODY, headers_of(BODY, FOREIGN_KEY)))[0] == 401
    assert secrets_manager.reads == [SECRET_ID]


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


def test_a_secret_manager_that_fails_is_unavailable(
    function: Function, secrets_manager: SecretsManager
) -> None:
    """503: whether the request is genuine cannot be told, so it may come again."""
    secrets_manager.fail(code="InternalServiceError")
    status, problem = ask(function, webhook_event(BODY, headers_of(BODY)))
    assert (status, problem["code"]) == (503, "credentials_unavailable")


header_texts = st.text(max_size=60) | st.from_regex(r"v1,[A-Za-z0-9+/=]{40,46}( v1,\w+)?", fullmatch=True)
header_values = header_texts | st.lists(header_texts, max_size=3) | st.none() | st.integers()
timestamps = st.integers(NOW - 250, NOW + 250).map(str) | header_values
header_sets = st.fixed_dictionaries(
    {},
    optional={
        "webhook-id": header_values,
        "Webhook-Timestamp": timestamps,
        "WEBHOOK-SIGNATURE": header_values,
        "webhook-signature": header_values,
        "content-type": header_values,
    },
)


@given(
    headers=header_sets | st.none() | st.text(),
    multiple=st.none() | header_sets,
    body=st.text() | st.none() | st.just(BODY.decode()),
    encoded=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_forged_requests_are_refused_whatever_they_are(
    function: Function, studio: Studio, headers: Any, multiple: Any, body: str | None, *, encoded: bool
) -> None:
    """401 and nothing else, never an error of ours, never a word to Twilio."""
    event = webhook_event(BODY, {}, body=body, isBase64Encoded=encoded)
    event |= {"headers": headers, "multiValueHeaders": multiple}
    status, problem = ask(function, event)
    assert (status, problem["code"]) == (401, "invalid_signature")
    assert not studio.requests


@given(message_id=st.from_regex(r"[!-\-/-~]{1,256}", fullmatch=True), sent=st.text().map(str.encode))
def test_what_the_reference_signs_is_taken(message_id: str, sent: bytes) -> None:
    """Whatever the body is."""
    headers = headers_of(sent, message_id=message_id)
    assert is_by(parse_keys(keys_text(KEY)), sent, headers)


@given(message_id=st.from_regex(r"[!-\-/-~]{1,50}", fullmatch=True), sent=st.binary(max_size=99))
def test_what_we_sign_the_reference_takes(message_id: str, sent: bytes) -> None:
    """Our examples and tools sign as any other sender."""
    (key,) = parse_keys(keys_text(KEY))
    text, timestamp = sent.decode(errors="replace"), str(int(time.time()))
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": sign_standard(key, message_id, timestamp, text.encode()),
    }
    Webhook(KEY).verify(text, headers, json_parse=False)


def test_a_full_stop_in_the_id_could_move_the_timestamp() -> None:
    """That is why it is refused: the same bytes are signed for two readings of a request."""
    key = base64.b64decode(KEY.removeprefix("whsec_"))
    genuine = sign_standard(key, "msg_1", str(NOW), b"x.1700000000.{}")
    assert genuine == sign_standard(key, f"msg_1.{NOW}.x", "1700000000", b"{}")
    headers = {"webhook-id": f"msg_1.{NOW}.x", "webhook-timestamp": str(NOW), "webhook-signature": genuine}
    assert not is_by((key,), b"{}", headers)


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


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "the webhook secret is not JSON"),
        ("[]", "the webhook secret has neither keys nor sources"),
        ('{"keys": []}', "the webhook secret has neither keys nor sources"),
    ],
)
def test_what_a_secret_lacks_is_told(text: str, complaint: str) -> None:
    """Whoever keeps the secret finds what to mend in the log."""
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        parse_keys(text)
