"""The function under test, as Lambda would run it, with a Twilio and an AWS of its own."""

import json
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep, time
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.loaders import create_loader
from hypothesis import HealthCheck, settings

from end_conversation import app, invocation, sweep
from end_conversation.app import handler
from end_conversation.aws import clients as aws
from end_conversation.aws import secret
from end_conversation.deadline import ANSWER_MARGIN
from end_conversation.observability import _metrics_of, logger
from end_conversation.twilio import account as account_module
from end_conversation.twilio import studio as studio_module
from end_conversation.webhooks import verifier
from local import rie
from local.aws import Aws, Call
from local.canaries import Canaries
from local.studio import API_KEY, Studio

# Machines that run tests are slow at times, which is no finding.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Whether a test notices a mutant must not depend on chance.
settings.register_profile("mutation", settings.get_profile("tests"), derandomize=True, database=None)
settings.load_profile("tests")

# It was made with the stream that pytest has while it collects, and closes when that is done.
logger.registered_handler.setStream(sys.__stdout__)

EVENTS = Path(__file__).parent.parent / "events"
ACCOUNT_SID = "AC" + "0" * 32
FLOW_SID = "FW" + "1" * 32
SECRET_ID = "end-conversation/twilio"
OUTCOME_BUS = "end-conversation-outcomes"
# Lambda's runtime client installs on Linux only, and so in CI, where nothing is skipped.
needs_emulator = pytest.mark.skipif(bool(rie.missing()), reason=f"no emulator: {rie.missing()}")
RECOGNIZABLE = 12
"""Characters of a text that does not occur by chance."""
BUSY = 2.0
"""Seconds that a busy machine may need more to answer."""


@dataclass
class Context:
    """The part of Lambda's context object that the function uses."""

    seconds: float
    aws_request_id: str = "11111111-2222-3333-4444-555555555555"
    began: float = field(default_factory=monotonic)

    def get_remaining_time_in_millis(self) -> int:
        return int((self.began + self.seconds - monotonic()) * 1000)


class Service:
    """One operation of AWS: how it fails, and what became of each call."""

    operation: str

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.url = aws.url

    @property
    def calls(self) -> list[Call]:
        return [call for call in self.aws.calls if call.operation == self.operation]

    def fail(self, **fault: Any) -> None:
        """Fail all calls, unless `times` says how many."""
        self.aws.fail(self.operation, **{"times": None} | fault)

    def recover(self) -> None:
        self.aws.recover()


class SecretsManager(Service):
    operation = "GetSecretValue"

    @property
    def reads(self) -> list[str]:
        """The ids of the secrets, in the order of the calls."""
        return [call.request["SecretId"] for call in self.calls]


class Sqs(Service):
    operation = "SendMessage"

    def __init__(self, aws: Aws, queue: str) -> None:
        super().__init__(aws)
        self.url = aws.client("sqs").create_queue(QueueName=queue)["QueueUrl"]

    @property
    def messages(self) -> list[Any]:
        """The messages that were accepted."""
        return [call.request for call in self.calls if call.answer]

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(message["MessageBody"]) for message in self.messages]

    @property
    def ids(self) -> list[str]:
        return [call.answer["MessageId"] for call in self.calls if call.answer]


class EventBridge(Service):
    operation = "PutEvents"

    def __init__(self, aws: Aws, bus: str) -> None:
        super().__init__(aws)
        aws.client("events").create_event_bus(Name=bus)

    @property
    def puts(self) -> list[Any]:
        """The entries of each call, accepted or not."""
        return [call.request["Entries"] for call in self.calls]

    @property
    def entries(self) -> list[Any]:
        """The entries that were accepted."""
        return [
            entry
            for call in self.calls
            if isinstance(call.answer, dict)
            for entry, outcome in zip(call.request["Entries"], call.answer.get("Entries") or (), strict=False)
            if outcome and "EventId" in outcome
        ]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The same as EventBridge delivers them."""
        return [
            {
                "version": "0",
                "id": "11111111-2222-3333-4444-555555555555",
                "source": entry["Source"],
                "detail-type": entry["DetailType"],
                "time": "2026-03-02T09:41:08Z",
                "detail": json.loads(entry["Detail"]),
            }
            for entry in self.entries
        ]


class Function:
    """Invokes the handler in this process. No secret and no contact may come out, and it must end in time.

    Attributes:
        handler: what is invoked.
        secrets_manager: where its secrets are.
        setenv, delenv, patch: monkeypatch's, for its environment and its modules.
        output: everything that the last invocation printed.
        stdout: what of it are log lines and metrics.
    """

    def __init__(
        self,
        capsys: pytest.CaptureFixture[str],
        studio: Studio,
        secrets_manager: SecretsManager,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self._capsys = capsys
        self._studio = studio
        self.secrets_manager = secrets_manager
        self.setenv, self.delenv = monkeypatch.setenv, monkeypatch.delenv
        self.patch = monkeypatch.setattr
        self.handler: Any = handler
        self.output = self.stdout = ""

    def __call__(self, event: Any, seconds: float = 10.0) -> Any:
        """The answer, within so many seconds and BUSY."""
        logger.registered_handler.setStream(sys.stdout)
        self._capsys.readouterr()
        told: Any = None
        context = Context(seconds + BUSY)
        try:
            told = self.handler(event, context)
        except Exception as error:
            told = "".join(traceback.format_exception(error))
            raise
        finally:
            captured = self._capsys.readouterr()
            self.stdout = captured.out
            self.output = captured.out + captured.err
            # What other threads have to say when the test is over goes where nobody closed the file.
            logger.registered_handler.setStream(sys.__stdout__)
            for text in (self.output, json.dumps(told, ensure_ascii=False)):
                assert self._canaries().find(text) is None
            assert context.get_remaining_time_in_millis() > 0
        return told

    def _canaries(self) -> Canaries:
        """Every contact, and every key in a secret, that is long enough to be recognized."""
        contacts = {execution.contact for execution in self._studio.executions.all()}
        secrets = {
            key
            for text in self.secrets_manager.aws.secrets.values()
            for found in re.findall(
                r'"(?:apiKeySid|apiKeySecret|authToken)": "[^"]*"|"keys": \[[^]]*\]', text
            )
            for key in re.findall(r'"([^"]*)"', found)[1:]
        }
        canaries = Canaries(*(each for each in contacts | secrets if len(each) >= RECOGNIZABLE))
        canaries.plant_credentials(*API_KEY)
        return canaries

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Every line of stdout, which is JSON. On stderr Python may report the garbage of an earlier test."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def logs(self) -> list[dict[str, Any]]:
        """The log lines."""
        return [line for line in self.lines if "_aws" not in line]

    @property
    def metrics(self) -> dict[str, float]:
        """The sum of each metric, without latencies."""
        sums: dict[str, float] = {}
        for line in self.lines:
            for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"] if "_aws" in line else ():
                if metric["Unit"] == "Count":
                    sums[metric["Name"]] = sums.get(metric["Name"], 0) + sum(line[metric["Name"]])
        return sums


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether it comes true in time: a server counts a connection a little after its client has it."""
    due = monotonic() + seconds
    while not condition() and monotonic() < due:
        sleep(0.005)
    return condition()


def secret_text(**fields: str) -> str:
    """A Twilio secret of the type TwilioApiKey, as the stand-in knows it."""
    return json.dumps(
        {"accountSid": ACCOUNT_SID, "apiKeySid": API_KEY[0], "apiKeySecret": API_KEY[1]} | fields
    )


# Parsing AWS's models takes longer than most tests: it is done once.
_LOADER = create_loader()
_OWN_PATHS = len(_LOADER.search_paths)


def _session() -> botocore.session.Session:
    """A session that has read nothing of the environment yet."""
    # Each session of boto3 adds its own.
    del _LOADER.search_paths[_OWN_PATHS:]
    session = botocore.session.Session()
    session.register_component("data_loader", _LOADER)
    return session


def sample(name: str) -> Any:
    """The payload in events/."""
    return json.loads((EVENTS / f"{name}.json").read_text())


def milliseconds(instant: datetime) -> int:
    """Since 1970, as AWS has times."""
    return int(instant.timestamp() * 1000)


def in_http(
    command: Any, *, rest: bool = False, at: datetime | None = None, **changes: Any
) -> dict[str, Any]:
    """A request of an HTTP API, or of a REST API, that the gateway received then; text is taken as it is."""
    event: dict[str, Any] = sample("http-rest" if rest else "http")
    event |= {"body": command if isinstance(command, str) else json.dumps(command), "isBase64Encoded": False}
    if at is not None:
        event["requestContext"]["requestTimeEpoch" if rest else "timeEpoch"] = milliseconds(at)
    return event | changes


def in_eventbridge(command: Any, **changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = sample("eventbridge")
    return event | {"detail": command} | changes


def in_sqs(*bodies: Any, at: datetime | None = None) -> dict[str, Any]:
    """A batch of messages m0, m1 and so on, sent then; text is taken as it is."""
    record = sample("sqs")["Records"][0]
    if at is not None:
        record["attributes"]["SentTimestamp"] = str(milliseconds(at))
    texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
    return {"Records": [record | {"messageId": f"m{n}", "body": text} for n, text in enumerate(texts)]}


IN_TRIGGER: dict[str, Callable[[Any], Any]] = {
    "http": in_http,
    "eventbridge": in_eventbridge,
    "sqs": in_sqs,
    "direct": lambda command: command,
}


def failed(answer: dict[str, Any]) -> set[str]:
    """The messages of a batch that come again."""
    return {item["itemIdentifier"] for item in answer["batchItemFailures"]}


def status_and_body(answer: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return answer["statusCode"], json.loads(answer["body"])


def status_and_code(answer: dict[str, Any]) -> tuple[int, str]:
    """Status and code of a problem."""
    problem = json.loads(answer["body"])
    assert problem["status"] == answer["statusCode"]
    return problem["status"], problem["code"]


@pytest.fixture
def studio() -> Iterator[Studio]:
    with Studio(credentials=[API_KEY]) as running:
        yield running


@pytest.fixture
def moto() -> Iterator[Aws]:
    """AWS without anything in it."""
    with Aws() as running:
        yield running


@pytest.fixture
def secrets_manager(moto: Aws) -> SecretsManager:
    moto.put_secret(SECRET_ID, secret_text())
    return SecretsManager(moto)


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, studio: Studio, secrets_manager: SecretsManager
) -> pytest.MonkeyPatch:
    """The function's environment variables, and a process that has served no request; retries don't wait."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": secrets_manager.url,
        "TWILIO_SECRET_ID": SECRET_ID,
        "TWILIO_STUDIO_BASE_URL": studio.url,
    }.items():
        monkeypatch.setenv(name, value)
    for cached in (app._service, sweep._service, verifier._verifier_of, aws._clients):
        cached.cache_clear()
    monkeypatch.setattr(account_module, "MAX_BACKOFF", 0.001)
    boto3.setup_default_session(botocore_session=_session())
    # What a test counted outside of an invocation is not for the next one to print.
    _metrics_of.cache_clear()
    return monkeypatch


@pytest.fixture
def queue(environment: pytest.MonkeyPatch, moto: Aws) -> Sqs:
    """The queue for commands that run later."""
    return _queue(environment, moto, "commands", "QUEUE_URL")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time of day for webhooks' signatures and cached secrets; `now` may be set."""
    clock = SimpleNamespace(now=time())
    for module in (verifier, secret):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


@pytest.fixture
def function(
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    studio: Studio,
    secrets_manager: SecretsManager,
) -> Function:
    environment.setattr(invocation, "ANSWER_MARGIN", ANSWER_MARGIN + BUSY)
    return Function(capsys, studio, secrets_manager, environment)


@pytest.fixture(name="sweep")
def sweep_function(function: Function) -> Function:
    """The sweep's handler instead of the function's."""
    function.handler = sweep.handler
    return function


@pytest.fixture
def outcome_bus(environment: pytest.MonkeyPatch, moto: Aws) -> EventBridge:
    """The bus of OUTCOME_EVENT_BUS."""
    bus = EventBridge(moto, OUTCOME_BUS)
    environment.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", moto.url)
    environment.setenv("OUTCOME_EVENT_BUS", OUTCOME_BUS)
    return bus


@pytest.fixture
def dead_letters(environment: pytest.MonkeyPatch, moto: Aws) -> Sqs:
    """The queue of DEAD_LETTER_QUEUE_URL."""
    return _queue(environment, moto, "dead-letters", "DEAD_LETTER_QUEUE_URL")


def _queue(environment: pytest.MonkeyPatch, moto: Aws, name: str, variable: str) -> Sqs:
    queue = Sqs(moto, name)
    environment.setenv("AWS_ENDPOINT_URL_SQS", moto.url)
    environment.setenv(variable, queue.url)
    return queue


@pytest.fixture
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried again."""
    monkeypatch.setattr(account_module, "MAX_ATTEMPTS", 1)
    monkeypatch.setattr(studio_module, "MAX_ATTEMPTS", 1)
