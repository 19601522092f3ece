"""Every sample event through the real `sam local`, with the expected outcome.

For pytest. It wants the result of `sam build`, Docker with Lambda's image for Python, and the ports 8801
and 8802.
"""

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local import samples
from local.relay import NETWORK, relay
from local.signing import renewed
from local.stand_ins import StandIns, at_fixed_ports

ROOT = Path(__file__).parent.parent
SAM = Path(sys.executable).with_name("sam")
ENVIRONMENT = os.environ | {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "SAM_CLI_TELEMETRY": "0",
    "SAM_DOCKER_NETWORK": NETWORK,
}
CONFIGURATION = ["--config-file", "samplesconfig.toml"]

# The essence of the answer, and how many Executions of the sample have ended.
EXPECTED: dict[str, tuple[object, int]] = {
    "http": ((200, None), 1),
    "http-rest": ((200, None), 1),
    "http-invalid-body": ((400, "invalid_request"), 0),
    "http-broken-base64": ((400, "invalid_request"), 0),
    "http-wrong-content-type": ((415, "unsupported_media_type"), 0),
    "http-wrong-method": ((405, "method_not_allowed"), 0),
    "http-function-url": ((404, "not_found"), 0),
    # Accepted, and nothing here consumes the queue.
    "http-async": ((202, None), 0),
    "http-account": ((200, None), 1),
    # A file cannot have a signature of this minute.
    "webhook": ((401, "invalid_signature"), 0),
    "webhook-forged": ((401, "invalid_signature"), 0),
    "source-agent-desktop": ((401, "invalid_signature"), 0),
    "source-freshdesk": ((202, None), 0),
    "source-front": ((401, "invalid_signature"), 0),
    "source-front-challenge": ((401, "invalid_signature"), 0),
    "source-intercom": ((202, None), 0),
    "source-salesforce": ((202, None), 0),
    "source-ticketing": ((202, None), 0),
    "source-twilio-conversations": ((202, None), 0),
    "source-twilio-event-streams": ((202, None), 0),
    "source-twilio-taskrouter": ((202, None), 0),
    "source-zendesk": ((401, "invalid_signature"), 0),
    "source-zendesk-forged": ((401, "invalid_signature"), 0),
    "eventbridge": ("ended", 1),
    "sqs": ("no failures", 3),
    "sqs-poison-message": ("no failures", 2),
    "sqs-notification": ("no failures", 1),
    "direct": ("ended", 1),
    "direct-invalid": ("InvalidRequest", 0),
    "direct-contact": ("ended", 1),
    "direct-account": ("ended", 1),
    "direct-dry-run": ("active", 0),
    "direct-failure-record": ("ended", 1),
    "eventbridge-contact": ("ended", 1),
    "http-contact": ((200, None), 1),
    "http-contacts": ((200, None), 2),
    "sweep": ([{"stuck": 3, "ended": 3, "failed": 0}], 3),
    "sweep-account": ([{"stuck": 3, "ended": 3, "failed": 0}], 3),
    "sweep-dry-run": ([{"stuck": 3, "ended": 0, "failed": 0}], 0),
}

pytestmark = pytest.mark.timeout(300)


def essence(answer: dict[str, Any]) -> object:
    """Status and code of an HTTP answer, outcome of a batch, class of an error, or success."""
    match answer:
        case {"statusCode": status, "body": body}:
            return status, json.loads(body).get("code")
        case {"batchItemFailures": failures}:
            return failures or "no failures"
        case {"errorType": error}:
            return error
        case {"executions": [{"status": status}, *_]}:
            return status
        case {"complete": True, "flows": flows}:
            return [{name: flow[name] for name in ("stuck", "ended", "failed")} for flow in flows]
    return answer


def invoke(name: str, event: object = None) -> dict[str, Any]:
    """The function's answer to a sample event, or to another event in its environment."""
    command = [SAM, "local", "invoke", *CONFIGURATION, "--config-env", name]
    if event is not None:
        command += ["--event", "-"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=ENVIRONMENT,
        input=json.dumps(event),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        pytest.fail(f"{name}: {done.stdout}{done.stderr}")
    return answer


@pytest.fixture(scope="session")
def stand_ins() -> Iterator[StandIns]:
    """Twilio with the Executions of all samples, and AWS, connected to the containers."""
    with at_fixed_ports() as running, relay():
        yield running


@pytest.fixture(scope="session")
def answers(stand_ins: StandIns) -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """The answers to all samples, while sam works on several of them."""
    first, *others = EXPECTED
    with ThreadPoolExecutor(3) as threads:
        futures = {first: threads.submit(invoke, first)}
        # The first builds the image that the others use.
        futures[first].exception()
        futures |= {name: threads.submit(invoke, name) for name in others}
        yield futures


@pytest.fixture(scope="session")
def api(stand_ins: StandIns) -> Iterator[str]:
    """The URL of `sam local start-api`."""
    command = [SAM, "local", "start-api", *CONFIGURATION, "--port", "8803"]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if "Running on" in line:
                break
        else:
            pytest.fail("".join(lines))
        # A full pipe would stop it.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield "http://127.0.0.1:8803"
        process.terminate()


def post(url: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and content of the answer."""
    request = urllib.request.Request(url, body, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("name", EXPECTED)
def test_sample(name: str, answers: dict[str, Future[dict[str, Any]]], stand_ins: StandIns) -> None:
    """`sam local invoke` with the sample's environment has the expected answer and ends what it should."""
    answer = answers[name].result()
    seeded = samples.seed(stand_ins.studio, samples.load(ROOT / f"events/{name}.json"))

    assert (essence(answer), [each.status for each in seeded.to_end].count("ended")) == EXPECTED[name]
    assert {each.status for each in seeded.to_stay} <= {"active"}


def test_all_samples_are_invoked() -> None:
    """No sample event lacks its expectation."""
    assert set(EXPECTED) == {path.stem for path in (ROOT / "events").glob("*.json")}


def test_poison_message_is_dead_lettered(
    answers: dict[str, Future[dict[str, Any]]], stand_ins: StandIns
) -> None:
    """The message that can never succeed is in the dead-letter queue, with its code."""
    answers["sqs-poison-message"].result()
    received = stand_ins.aws.client("sqs").receive_message(
        QueueUrl=stand_ins.dead_letter_queue_url, MessageAttributeNames=["All"], MaxNumberOfMessages=10
    )

    assert [each["MessageAttributes"]["code"]["StringValue"] for each in received["Messages"]] == [
        "invalid_request"
    ]


@pytest.mark.parametrize(
    ("name", "status"), [("webhook", 200), ("source-agent-desktop", 200), ("source-zendesk", 202)]
)
def test_signed_now(
    name: str, status: int, answers: dict[str, Future[dict[str, Any]]], stand_ins: StandIns
) -> None:
    """A sample whose signature has expired is accepted once it is signed again."""
    answers[name].result()

    answer = invoke(name, renewed(samples.load(ROOT / f"events/{name}.json")))

    assert answer["statusCode"] == status


def test_outcomes_are_published(answers: dict[str, Future[dict[str, Any]]], stand_ins: StandIns) -> None:
    """Outcomes of commands and sweeps are events on EventBridge."""
    for name in ("direct", "sqs-poison-message", "sweep"):
        answers[name].result()

    kinds = {outcome["detail-type"] for outcome in stand_ins.new_outcomes()}

    assert kinds == {"ConversationEnded", "ConversationNotEnded", "SweepFinished"}


def test_no_account_asks_about_anothers_flow(
    answers: dict[str, Future[dict[str, Any]]], stand_ins: StandIns
) -> None:
    """No sample uses one account's credentials for another's Flow."""
    for answer in answers.values():
        answer.result()

    assert stand_ins.studio.foreign_requests == []


def test_start_api_takes_a_source(api: str) -> None:
    """The webhook of another system gets through `sam local start-api` into the queue."""
    event = samples.load(ROOT / "events/source-salesforce.json")

    status, accepted = post(
        api + event["rawPath"], event["body"].encode(), authorization=event["headers"]["authorization"]
    )

    assert (status, accepted["status"]) == (202, "accepted")


def test_start_api_takes_no_unknown_source(api: str) -> None:
    """A webhook for an undeclared source is refused like any invalid signature."""
    status, problem = post(f"{api}/webhooks/unheard-of", b"{}")

    assert (status, problem["code"]) == (401, "invalid_signature")


def test_start_api_ends_an_execution(api: str, stand_ins: StandIns) -> None:
    """A command that is posted to `sam local start-api` ends its Execution."""
    execution = stand_ins.studio.seed("FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b")
    command = {"flow_sid": execution.flow_sid, "execution_sid": execution.sid}

    status, result = post(f"{api}/conversations/end", json.dumps(command).encode())

    assert (status, result["executions"][0]["status"]) == (200, "ended")


def test_start_api_refuses(api: str) -> None:
    """An invalid command gets its problem through `sam local start-api`, too."""
    status, problem = post(f"{api}/conversations/end", b'{"flow_sid": "FW1"')

    assert (status, problem["code"]) == (400, "invalid_request")
