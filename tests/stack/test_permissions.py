"""What the roles allow is what the functions do, and what Lambda does for them."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from conftest import EVENTS, Function
from stack import of_type, template

from end_conversation import app, sweep
from end_conversation.aws import clients as aws
from end_conversation.errors import EndConversationError
from end_conversation.webhooks import verifier
from local import samples
from local.signing import renewed
from local.stand_ins import stand_ins

SERVICES = {"secretsmanager": "secretsmanager", "AmazonSQS": "sqs", "AWSEvents": "events"}
"""IAM's names of services, by what their requests are called."""

HANDLERS = {"EndConversationFunction": app.handler, "SweepFunction": sweep.handler}
ROLES = {"EndConversationFunction": "EndConversationRole", "SweepFunction": "SweepRole"}


@pytest.fixture
def called(function: Function, environment: pytest.MonkeyPatch) -> Iterator[dict[str, set[str]]]:
    """What each function asked of AWS when it was given every sample event that is for it."""
    environment.delenv("AWS_ENDPOINT_URL_SECRETS_MANAGER")
    with stand_ins() as running:
        for name, value in running.environment.items():
            environment.setenv(name, value)
        calls = {}
        for name, handler in HANDLERS.items():
            for cached in (app._service, sweep._service, verifier._verifier_of, aws._clients):
                cached.cache_clear()
            running.aws.calls.clear()
            function.handler = handler
            for path in sorted(EVENTS.glob("*.json")):
                if path.stem.startswith("sweep") != (handler is sweep.handler):
                    continue
                event = renewed(samples.load(path))
                samples.seed(running.studio, event)
                with suppress(EndConversationError):
                    function(event)
            calls[name] = {action(call) for call in running.aws.calls}
        yield calls


def action(call: str) -> str:
    """IAM's name of an operation, as the stand-in recorded it."""
    service, _, operation = call.partition(".")
    return f"{SERVICES[service]}:{operation}"


def allowed(role: str) -> set[str]:
    """The actions of a role; of a conditional statement, those when the condition holds."""
    (policy,) = of_type("AWS::IAM::Role")[role]["Policies"]
    statements = [
        statement["Fn::If"][1] if "Fn::If" in statement else statement
        for statement in policy["PolicyDocument"]["Statement"]
    ]
    assert all(statement["Effect"] == "Allow" for statement in statements)
    listed = [statement["Action"] for statement in statements]
    return {each for one in listed for each in ([one] if isinstance(one, str) else one)}


def done_by_lambda(function: str) -> set[str]:
    """What Lambda does with the function's role, for the features that the template turns on."""
    properties: dict[str, Any] = (
        template()["Globals"]["Function"] | template()["Resources"][function]["Properties"]
    )
    actions = set()
    if any(event["Type"] == "SQS" for event in properties.get("Events", {}).values()):
        actions |= {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
    if properties["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Type"] == "SQS":
        actions |= {"sqs:SendMessage"}
    if "LogGroup" in properties["LoggingConfig"]:
        actions |= {"logs:CreateLogStream", "logs:PutLogEvents"}
    if properties["Tracing"] == "Active":
        actions |= {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
    return actions


@pytest.mark.parametrize("function_name", HANDLERS)
def test_roles_allow_what_is_done(function_name: str, called: dict[str, set[str]]) -> None:
    """A role allows what its function calls, what Lambda calls for it, and decryption of its secrets."""
    used = called[function_name] | done_by_lambda(function_name)

    assert "secretsmanager:GetSecretValue" in called[function_name]
    # Secrets Manager decrypts in the name of who asks, if the secret has a key of its own. Events are put
    # where there is a bus for outcomes.
    assert allowed(ROLES[function_name]) == used | {"kms:Decrypt", "events:PutEvents"}


def test_function_itself_sends_dead_letters(called: dict[str, set[str]]) -> None:
    """The function sends messages itself, and not only Lambda in its name; the sweep does not."""
    assert "sqs:SendMessage" in called["EndConversationFunction"]
    assert called["SweepFunction"] == {"secretsmanager:GetSecretValue", "events:PutEvents"}
