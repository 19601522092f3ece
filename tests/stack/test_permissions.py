"""Roles allow what the functions do, and what Lambda does for them."""

import json
from collections.abc import Iterator
from contextlib import suppress

import pytest
from conftest import EVENTS, Function
from stack import at, lead_to, of_type, statements

from end_conversation import app, sweep
from end_conversation.errors import EndConversationError
from local import samples
from local.signing import renewed
from local.stand_ins import stand_ins

SERVICES = {"secretsmanager": "secretsmanager", "AmazonSQS": "sqs", "AWSEvents": "events"}
"""IAM's names of services, by their names in requests."""

HANDLERS = {"EndConversationFunction": app.handler, "SweepFunction": sweep.handler}
ROLES = {"EndConversationFunction": "EndConversationRole", "SweepFunction": "SweepRole"}
EVERYTHING = {
    "TwilioAccountSecretPrefix": "end-conversation/twilio/",
    "WebhookSecretId": "webhooks",
    "SecretKmsKeyArns": "arn:aws:kms:us-east-1:123456789012:key/a",
    "OutcomeEventBus": "outcomes",
    "VpcSubnetIds": "subnet-1",
    "VpcSecurityGroupIds": "sg-1",
}
"""The parameters that permissions depend on."""

BY_LAMBDA = {
    *("kms:Decrypt", "sqs:SendMessage", "logs:CreateLogStream", "logs:PutLogEvents"),
    *("xray:PutTraceSegments", "xray:PutTelemetryRecords"),
    *("ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces"),
    *("ec2:DescribeSubnets", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"),
}
"""What Lambda and Secrets Manager do with a function's role: secrets, on-failure queue, logs, traces, VPC."""
POLLING = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}


@pytest.fixture
def called(function: Function, environment: pytest.MonkeyPatch) -> Iterator[dict[str, set[str]]]:
    """The operations of AWS that each function calls for the sample events that are for it."""
    with stand_ins() as running:
        lead_to(running, environment)
        calls = {}
        for name, handler in HANDLERS.items():
            running.aws.calls.clear()
            function.handler = handler
            for path in sorted(EVENTS.glob("*.json")):
                if path.stem.startswith("sweep") != (handler is sweep.handler):
                    continue
                event = renewed(samples.load(path))
                samples.seed(running.studio, event)
                with suppress(EndConversationError):
                    function(event)
            targets = [call.target.partition(".") for call in running.aws.calls]
            calls[name] = {f"{SERVICES[service]}:{operation}" for service, _, operation in targets}
        yield calls


def allowed(role: str) -> dict[str, list[str]]:
    """The actions of each statement of a role that has all of them."""
    actions = {sid: each["Action"] for sid, each in statements(role, **EVERYTHING).items()}
    return {sid: [each] if isinstance(each, str) else each for sid, each in actions.items()}


def test_roles_allow_what_is_done(called: dict[str, set[str]]) -> None:
    """A role allows what its function calls and what Lambda calls for it, and nothing else."""
    (mapping,) = of_type("AWS::Lambda::EventSourceMapping").values()
    for name, role in ROLES.items():
        polling = POLLING if mapping["FunctionName"]["Ref"].startswith(name) else set[str]()
        assert {each for actions in allowed(role).values() for each in actions} == (
            called[name] | BY_LAMBDA | polling
        ), name
    assert called == {
        "EndConversationFunction": {"secretsmanager:GetSecretValue", "sqs:SendMessage", "events:PutEvents"},
        "SweepFunction": {"secretsmanager:GetSecretValue", "events:PutEvents"},
    }


@pytest.mark.parametrize("function", ROLES)
def test_roles_name_their_resources(function: str) -> None:
    """Only what cannot be bounded is allowed on all resources; logs are those of the function itself."""
    role = ROLES[function]
    given = statements(role, **EVERYTHING)

    assert at(f"{function}.Role") == {"Fn::GetAtt": [role, "Arn"]}
    assert {sid for sid, each in given.items() if each["Resource"] == "*"} == {
        "WriteTraces",
        "FindNetworkInterfaces",
    }
    assert given["WriteLogs"]["Resource"] == {
        "Fn::GetAtt": [at(f"{function}.LoggingConfig.LogGroup")["Ref"], "Arn"]
    }
    assert "*" not in json.dumps(allowed(role))


def test_schedule_may_only_invoke_the_sweep() -> None:
    """The schedule's role is good for one function, and for Scheduler of this account only."""
    (trust,) = at("SweepScheduleRole.AssumeRolePolicyDocument")["Statement"]

    assert [(each["Action"], each["Resource"]) for each in statements("SweepScheduleRole").values()] == [
        ("lambda:InvokeFunction", {"Fn::GetAtt": ["SweepFunction", "Arn"]})
    ]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
