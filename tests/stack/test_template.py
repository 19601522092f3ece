"""What the stack promises to operators, and how its numbers depend on each other."""

import json
import re
from typing import Any

import pytest
from stack import at, deployed, of_type, template, values

HOUR = 3600
FUNCTION = "EndConversationFunction"
FUNCTIONS = [FUNCTION, "SweepFunction"]
QUEUES = ["Queue", "DeadLetterQueue", "OnFailureQueue"]
MAPPING = f"{FUNCTION}Queue"


def arn(name: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [name, "Arn"]}


def test_queue_s_numbers() -> None:
    """Lambda can retry a batch; messages survive an outage of four hours, and none expires untried."""
    receives, queue = template()["Parameters"]["MaxReceiveCount"], at("Queue")

    assert queue["VisibilityTimeout"] >= 6 * at(FUNCTION)["Timeout"]
    assert receives["MinValue"] * queue["VisibilityTimeout"] >= 4 * HOUR
    assert receives["MaxValue"] * queue["VisibilityTimeout"] < queue["MessageRetentionPeriod"]
    # A dead letter's age counts from its first sending.
    assert queue["MessageRetentionPeriod"] < at("DeadLetterQueue")["MessageRetentionPeriod"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Queue.RedrivePolicy", {"deadLetterTargetArn": arn("DeadLetterQueue"), "maxReceiveCount": "100"}),
        ("Rule.Targets.0.DeadLetterConfig.Arn", arn("DeadLetterQueue")),
        ("Rule.Targets.0.RetryPolicy.MaximumEventAgeInSeconds", 24 * HOUR),
        (f"{FUNCTION}.Environment.Variables.QUEUE_URL", {"Ref": "Queue"}),
        (f"{FUNCTION}.Environment.Variables.DEAD_LETTER_QUEUE_URL", {"Ref": "DeadLetterQueue"}),
        (f"{FUNCTION}EventInvokeConfig.DestinationConfig.OnFailure.Destination", arn("OnFailureQueue")),
        (f"{FUNCTION}EventInvokeConfig.Qualifier", "live"),
        ("SweepFunctionEventInvokeConfig.DestinationConfig.OnFailure.Destination", arn("OnFailureQueue")),
        ("SweepFunctionEventInvokeConfig.Qualifier", "$LATEST"),
        # A failed message does not bring its batch back; a full queue does not take all of Twilio's requests.
        (f"{MAPPING}.FunctionResponseTypes", ["ReportBatchItemFailures"]),
        (f"{MAPPING}.ScalingConfig.MaximumConcurrency", "5"),
        # Scheduled sweeps run $LATEST, which has the present settings, and are off until turned on.
        ("SweepSchedule.Target.Arn", arn("SweepFunction")),
        ("SweepSchedule.State", "DISABLED"),
    ],
)
def test_nothing_is_lost(path: str, value: Any) -> None:
    """Failures have a queue to go to, and only those messages come again that failed."""
    assert at(path) == value


@pytest.mark.parametrize("name", QUEUES)
def test_queues(name: str) -> None:
    """Every queue is encrypted, takes TLS only, and outlives the stack with the messages in it."""
    policies = [each for each in of_type("AWS::SQS::QueuePolicy").values() if {"Ref": name} in each["Queues"]]
    (denied,) = [each for each in policies[0]["PolicyDocument"]["Statement"] if each["Effect"] == "Deny"]

    assert len(policies) == 1
    assert at(f"{name}.SqsManagedSseEnabled") is True
    assert (deployed()[name]["DeletionPolicy"], deployed()[name]["UpdateReplacePolicy"]) == ("Retain",) * 2
    assert (denied["Principal"], denied["Action"], denied["Resource"]) == ("*", "sqs:*", "*")
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": False}}


@pytest.mark.parametrize(
    ("topic", "senders"),
    [("", ["Rule"]), ("arn:aws:sns:us-east-1:123456789012:t", ["Rule", "Topic"])],
    ids=["rule", "topic"],
)
def test_queues_take_what_this_stack_sends_for(topic: str, senders: list[str]) -> None:
    """EventBridge may send for this stack's rule, SNS for the topic that is given, and neither for others."""
    own = {"Rule": arn("Rule"), "Topic": topic}
    made = at("QueuePolicy.PolicyDocument.Statement", SnsTopicArn=topic)
    allowed = [each["Condition"]["ArnEquals"]["aws:SourceArn"] for each in made if each["Effect"] == "Allow"]

    assert allowed == [own[sender] for sender in senders]
    assert at("QueuePolicy.Queues") == [{"Ref": "Queue"}, {"Ref": "DeadLetterQueue"}]
    assert len(of_type("AWS::SNS::Subscription", SnsTopicArn=topic)) == len(senders) - 1


def test_triggers_invoke_the_alias() -> None:
    """API Gateway and SQS invoke the alias live, so that SnapStart takes effect."""
    alias = {"Ref": f"{FUNCTION}Aliaslive"}

    assert at(f"{alias['Ref']}.Name") == "live"
    assert at(f"{MAPPING}.FunctionName") == alias
    assert all(each["FunctionName"] == alias for each in of_type("AWS::Lambda::Permission").values())
    assert "AutoPublishAlias" not in template()["Resources"]["SweepFunction"]["Properties"]


def settings_of(name: str) -> set[str]:
    """The parameters that a function itself depends on, and not only what surrounds it."""
    written = template()["Resources"][name]["Properties"]
    itself = {key: each for key, each in written.items() if key not in ("Events", "EventInvokeConfig")}
    # The condition of VpcConfig, too, depends on this one only.
    return {name for name in values(itself, "Ref") if name in template()["Parameters"]}


@pytest.mark.parametrize("name", template()["Parameters"])
def test_a_version_is_published_if_the_function_changes(name: str) -> None:
    """A parameter's new value makes a new version if the function depends on it, and none otherwise.

    SAM derives the version's logical id from the function's properties. Without a new one the alias would
    keep the old settings; a new one for a function that is the same is refused ("Version already exists").
    """
    parameter = template()["Parameters"][name]
    choices = parameter.get("AllowedValues", ["1001"] if parameter["Type"] == "Number" else ["other"])
    other = {name: next(str(value) for value in choices if value != parameter["Default"])}
    # Lambda knows security groups only in subnets.
    subnets = {"VpcSubnetIds": "subnet-1"} if name == "VpcSecurityGroupIds" else {}
    before, after = (of_type("AWS::Lambda::Version", **subnets, **change) for change in ({}, other))

    assert (before.keys() != after.keys()) == (name in settings_of(FUNCTION))


def test_versions_stay_when_another_takes_over() -> None:
    """A version that is no longer in the template is kept, so that the alias can be moved back to it.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-attribute-deletionpolicy.html: it goes
    for resources that updates delete, too.
    """
    (version,) = of_type("AWS::Lambda::Version")

    assert deployed()[version]["DeletionPolicy"] == "Retain"


def test_settings_are_where_they_are_resolved() -> None:
    """No parameter is in SAM's Globals, which AWS::LanguageExtensions does not look at."""
    assert template()["Transform"] == ["AWS::LanguageExtensions", "AWS::Serverless-2016-10-31"]
    assert not set(values(template()["Globals"], "Ref")) & set(template()["Parameters"])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_settings_fit(name: str) -> None:
    """The longest values of all parameters fit into the 4 KB that Lambda has for a function's variables.

    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    """
    own = template()["Resources"][name]["Properties"]["Environment"]["Variables"]
    variables = own | template()["Globals"]["Function"]["Environment"]["Variables"]
    needed = 0
    for variable, value in variables.items():
        parameter = template()["Parameters"].get(value["Ref"], {}) if isinstance(value, dict) else {}
        needed += len(variable) + parameter.get("MaxLength", len(str(parameter.get("MaxValue", "x" * 100))))

    assert needed <= 4096
    assert variables["AWS_ENDPOINT_URL"] == {"Ref": "AWS::NoValue"}  # only sam local needs the name


def test_logs_expire_and_say_nothing_personal() -> None:
    """Every log expires; an access log's line is JSON without body, header, query or path."""
    groups = of_type("AWS::Logs::LogGroup", LogRetentionInDays="7")
    (stage,) = of_type("AWS::ApiGatewayV2::Stage").values()
    variables = json.loads(stage["AccessLogSettings"]["Format"]).values()

    assert [each["RetentionInDays"] for each in groups.values()] == ["7"] * 3
    assert all(re.fullmatch(r"\$context(\.[a-zA-Z]+)+", variable) for variable in variables)
    assert not {"$context.path", "$context.customDomain.basePathMatched"} & set(variables)


def test_routes() -> None:
    """Only webhooks are without SigV4, and each of their routes has a bucket of its own."""
    limits = {"ThrottlingRateLimit": "7", "ThrottlingBurstLimit": "8"}
    (api,) = of_type("AWS::ApiGatewayV2::Api").values()
    (stage,) = of_type("AWS::ApiGatewayV2::Stage", **limits).values()
    routes = {
        f"{method.upper()} {path}": operation.get("security")
        for path, methods in api["Body"]["paths"].items()
        for method, operation in methods.items()
    }
    open_routes = {name for name, security in routes.items() if security is None}

    assert open_routes == {
        f"{method} /webhooks/{name}"
        for method in ("POST", "HEAD")
        for name in ("conversation-ended", "{source}")
    }
    assert {name: routes[name] for name in routes.keys() - open_routes} == {
        "POST /conversations/end": [{"AWS_IAM": []}]
    }
    assert stage["DefaultRouteSettings"] == limits
    assert stage["RouteSettings"] == dict.fromkeys(open_routes, limits)
