"""The templates in docs/examples: they can be deployed, and fit what they are used with."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from samtranslator.yaml_helper import yaml_parse
from stack import ROOT, template, values

from end_conversation.command import Command, parse_date_time
from local.aws import Aws

EXAMPLES = ROOT / "docs" / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.yaml"))
BIN = Path(sys.executable).parent

FLOW_SID = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
PHONE = "+15551234567"
CLOSED_AT = "2026-03-02T09:41:07Z"


def example(name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml_parse((EXAMPLES / name).read_text())
    return parsed


@pytest.mark.parametrize(
    "command",
    [["cfn-lint", *NAMES], *(["sam", "validate", "--lint", "--template", name] for name in NAMES)],
    ids=["cfn-lint", *NAMES],
)
def test_examples_can_be_deployed(command: list[str]) -> None:
    """The linters of CloudFormation and SAM have nothing against the examples."""
    checked = subprocess.run(
        [BIN / command[0], *command[1:]],
        check=False,
        capture_output=True,
        text=True,
        cwd=EXAMPLES,
        env=os.environ | {"SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1"},
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_nested_stack_is_this_one() -> None:
    """The nested template exists, and has the parameters and outputs that the example uses."""
    nested = example("nested.yaml")["Resources"]["EndConversation"]["Properties"]
    outputs = {
        value[1].removeprefix("Outputs.")
        for value in values(example("nested.yaml"), "Fn::GetAtt")
        if value[0] == "EndConversation"
    }

    assert (EXAMPLES / nested["Location"]).resolve() == ROOT / "template.yaml"
    assert set(nested["Parameters"]) <= set(template()["Parameters"])
    assert outputs
    assert outputs <= set(template()["Outputs"])


@pytest.fixture
def queue_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A queue in place of the stack's, in AWS on this machine, which boto3's clients reach."""
    with Aws() as aws:
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
        yield boto3.client("sqs").create_queue(QueueName="queue")["QueueUrl"]


def only_message(queue_url: str) -> Any:
    """The body of the one message in the queue."""
    (message,) = boto3.client("sqs").receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10)["Messages"]
    return json.loads(message["Body"])


def test_nested_function_sends_a_command(queue_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the function beside the nested stack puts into the queue is a valid command."""
    monkeypatch.setenv("FLOW_SID", FLOW_SID)
    monkeypatch.setenv("QUEUE_URL", queue_url)
    source = example("nested.yaml")["Resources"]["CaseClosedFunction"]["Properties"]["InlineCode"]
    module: dict[str, Any] = {}
    exec(source, module)  # noqa: S102 -- it is code of ours

    module["handler"]({"phone": PHONE, "closed_at": CLOSED_AT, "case_id": "4711"}, None)

    command = Command.parse(only_message(queue_url))
    assert (command.flow_sid, command.contact, command.conversation_id) == (FLOW_SID, PHONE, "4711")
    assert command.occurred_at == parse_date_time(CLOSED_AT)


def deploy_own_rule(queue_url: str) -> None:
    """The example without the policy of its dead-letter queue, which moto does not know."""
    own_rule = example("own-rule.yaml")
    del own_rule["Resources"]["UndeliveredQueuePolicy"]
    arn = boto3.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
    boto3.client("cloudformation").create_stack(
        StackName="own-rule",
        TemplateBody=json.dumps(own_rule),
        Parameters=[
            {"ParameterKey": "QueueArn", "ParameterValue": arn["Attributes"]["QueueArn"]},
            {"ParameterKey": "FlowSid", "ParameterValue": FLOW_SID},
        ],
        Capabilities=["CAPABILITY_IAM"],
    )


def put_case(**detail: Any) -> None:
    entry = {"Source": "com.example.crm", "DetailType": "Case Closed", "Detail": json.dumps(detail)}
    assert boto3.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0


def test_own_rule_makes_a_command(queue_url: str) -> None:
    """An event of another system arrives in the queue as a valid command, by the rule's input transformer."""
    deploy_own_rule(queue_url)

    put_case(case={"id": "4711"}, customer={"phone": PHONE}, closedAt=CLOSED_AT)

    assert Command.parse(only_message(queue_url)) == Command(
        flow_sid=FLOW_SID,
        execution_sid=None,
        contact=f"whatsapp:{PHONE}",
        occurred_at=parse_date_time(CLOSED_AT),
        conversation_id="4711",
        reason="case closed",
    )


@pytest.mark.parametrize("lacking", ["case", "customer", "closedAt"])
def test_own_rule_lets_incomplete_events_go(queue_url: str, lacking: str) -> None:
    """An event that lacks what the transformer needs does not match the rule."""
    deploy_own_rule(queue_url)
    detail = {"case": {"id": "4711"}, "customer": {"phone": PHONE}, "closedAt": CLOSED_AT}
    del detail[lacking]

    put_case(**detail)

    assert "Messages" not in boto3.client("sqs").receive_message(QueueUrl=queue_url)
