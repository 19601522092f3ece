"""docs/examples and the configuration of sam local fit the template; make lint reads the templates."""

import json
import re
import tomllib
from typing import Any

import boto3
import hcl2
import pytest
from samtranslator.yaml_helper import yaml_parse
from stack import ROOT, at, template, values

from end_conversation.command import Command, parse_date_time
from local import samples
from local.aws import Aws

EXAMPLES = ROOT / "docs" / "examples"
FLOW_SID = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
PHONE = "+15551234567"
CLOSED_AT = "2026-03-02T09:41:07Z"
CASE = {"case": {"id": "4711"}, "customer": {"phone": PHONE}, "closedAt": CLOSED_AT}


def example(name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml_parse((EXAMPLES / name).read_text())
    return parsed


def test_sam_local() -> None:
    """Each sample has its environment for `sam local`, which knows only variables of the template."""
    configuration = tomllib.loads((ROOT / "samplesconfig.toml").read_text())
    common = configuration.pop("default")["local_start_api"]["parameters"]
    del common["warm_containers"], configuration["version"]
    events = {path.stem: samples.load(path) for path in samples.EVENTS.glob("*.json")}
    functions = {True: "SweepFunction", False: "EndConversationFunction"}

    assert configuration == {
        name: {
            "local_invoke": {
                "parameters": common
                | {
                    "event": f"events/{name}.json",
                    "function_logical_id": functions[samples.is_sweep(event)],
                }
            }
        }
        for name, event in events.items()
    }
    for function, given in json.loads((ROOT / common["env_vars"]).read_text()).items():
        assert set(given) <= set(at(f"{function}.Environment.Variables"))


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


def test_terraform_deploys_this_template() -> None:
    """Terraform's configuration has the stack's parameters, outputs and capabilities."""
    text = (EXAMPLES / "terraform/main.tf").read_text()
    parsed = hcl2.loads(text)
    stack = parsed["resource"][1]['"aws_cloudformation_stack"']['"end_conversation"']
    (parameters,) = (each['"parameters"'] for each in parsed["variable"] if '"parameters"' in each)
    outputs = re.findall(r'end_conversation\.outputs\["(\w+)"\]', text)

    assert stack["capabilities"] == ['"CAPABILITY_IAM"', '"CAPABILITY_AUTO_EXPAND"']
    assert set(parameters["default"]) <= set(template()["Parameters"])
    assert len(outputs) == len(parsed["output"])
    assert set(outputs) <= set(template()["Outputs"])


@pytest.fixture
def queue_url(moto: Aws, monkeypatch: pytest.MonkeyPatch) -> str:
    """A queue in place of the stack's, which boto3's clients reach."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return str(boto3.client("sqs").create_queue(QueueName="queue")["QueueUrl"])


def messages(queue_url: str) -> list[Any]:
    """The bodies of the messages in the queue."""
    received = boto3.client("sqs").receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in received.get("Messages", [])]


def test_nested_function_sends_a_command(queue_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the function beside the nested stack puts into the queue is a valid command."""
    monkeypatch.setenv("FLOW_SID", FLOW_SID)
    monkeypatch.setenv("QUEUE_URL", queue_url)
    source = example("nested.yaml")["Resources"]["CaseClosedFunction"]["Properties"]["InlineCode"]
    module: dict[str, Any] = {}
    exec(source, module)  # noqa: S102 -- it is code of ours

    module["handler"]({"phone": PHONE, "closed_at": CLOSED_AT, "case_id": "4711"}, None)
    (sent,) = messages(queue_url)

    command = Command.parse(sent)
    assert (command.flow_sid, command.contacts, command.conversation_id) == (FLOW_SID, (PHONE,), "4711")
    assert command.occurred_at == parse_date_time(CLOSED_AT)


@pytest.mark.parametrize("lacking", [None, "case", "customer", "closedAt"])
def test_own_rule_makes_a_command(lacking: str | None, queue_url: str) -> None:
    """Another system's event arrives as a valid command; one that lacks what that needs does not match."""
    properties = example("own-rule.yaml")["Resources"]["Rule"]["Properties"]
    (target,) = properties["Targets"]
    transformer = target["InputTransformer"]
    made = transformer["InputTemplate"]["Fn::Sub"].replace("${FlowSid}", FLOW_SID)
    sqs, events = boto3.client("sqs"), boto3.client("events")
    arn = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="rule", EventPattern=json.dumps(properties["EventPattern"]))
    events.put_targets(
        Rule="rule",
        Targets=[{"Id": "queue", "Arn": arn, "InputTransformer": transformer | {"InputTemplate": made}}],
    )
    detail = {name: value for name, value in CASE.items() if name != lacking}
    entry = {"Source": "com.example.crm", "DetailType": "Case Closed", "Detail": json.dumps(detail)}

    events.put_events(Entries=[entry])
    sent = messages(queue_url)
    assert len(sent) == (0 if lacking else 1)
    for command in map(Command.parse, sent):
        assert (command.flow_sid, command.conversation_id) == (FLOW_SID, "4711")
        assert command.occurred_at == parse_date_time(CLOSED_AT)
        assert f"whatsapp:{PHONE}" in json.dumps(sent)
