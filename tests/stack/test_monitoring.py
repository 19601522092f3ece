"""Alarms, dashboard and saved queries name what there is, and nothing else."""

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from conftest import Function, sample
from stack import ROOT, at, of_type, template

from end_conversation import app, sweep
from end_conversation.errors import ConfigurationError
from local import samples
from local.studio import Studio

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
ALARMS = of_type("AWS::CloudWatch::Alarm")
DASHBOARD: str = template()["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]

# Of AWS's own metrics: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/aws-services-cloudwatch-metrics.html
OF_AWS = {
    ("AWS/Lambda", "FunctionName"): {
        *("Errors", "Throttles", "Invocations", "Duration", "ConcurrentExecutions"),
    },
    ("AWS/SQS", "QueueName"): {
        *("ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"),
        *("ApproximateNumberOfMessagesNotVisible", "NumberOfMessagesSent", "NumberOfMessagesDeleted"),
    },
    ("AWS/ApiGateway", "ApiId"): {"Count", "4xx", "5xx", "Latency"},
}


def documented() -> set[str]:
    """The functions' metrics; tests/docs compares the page with the code."""
    page = (ROOT / "docs" / "metrics-and-logs.md").read_text().partition("## Logs")[0]
    cells = re.findall(r"^\| (`[A-Z].+?) \|", page, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", " ".join(cells)))


def test_metrics_have_the_dimensions_that_are_asked_for(function: Function, studio: Studio) -> None:
    """The function emits its metrics in the template's namespace, with service and trigger and no other."""
    samples.seed(studio, sample("direct"))
    function(sample("direct"))
    (document,) = [line for line in function.lines if "_aws" in line]
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    variables = template()["Globals"]["Function"]["Environment"]["Variables"]

    assert [set(dimensions) for dimensions in directive["Dimensions"]] == [{"service", "trigger"}]
    assert directive["Namespace"] == variables["POWERTOOLS_METRICS_NAMESPACE"] == "EndConversation"
    assert variables["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AWS::StackName"}


def test_alarms_look_at_metrics_that_exist() -> None:
    """Each alarm names a metric that is emitted, under exactly the dimensions that it has."""
    for name, alarm in ALARMS.items():
        if alarm.get("Namespace", "").startswith("AWS/"):
            (dimension,) = alarm["Dimensions"]
            assert alarm["MetricName"] in OF_AWS[alarm["Namespace"], dimension["Name"]], name
        elif "MetricName" in alarm:
            assert alarm["MetricName"] in documented()
            assert [each["Name"] for each in alarm["Dimensions"]] == ["service", "trigger"]
        else:
            found = re.fullmatch(
                r"SELECT SUM\((\w+)\) FROM SCHEMA\(\"EndConversation\", service, trigger\)"
                r" WHERE service = 'end-conversation'",
                alarm["Metrics"][0]["Expression"],
            )
            assert found, name
            assert found[1] in documented()


def test_dashboard_is_whole() -> None:
    """It shows each alarm, each of our metrics, and metrics of AWS that exist."""
    widgets = json.loads(DASHBOARD)["widgets"]
    ours = re.findall(
        r"\{EndConversation,service,trigger\} service=\\\"\$\{AWS::StackName\}\\\" MetricName=\\\"(\w+)\\\""
        r'|"EndConversation", "(\w+)", "service", "\$\{AWS::StackName\}", "trigger"',
        DASHBOARD,
    )

    assert widgets[0]["properties"]["alarms"] == [f"${{{name}.Arn}}" for name in ALARMS]
    assert {searched or named for searched, named in ours} == documented()
    assert len(ours) == len(re.findall(r"\bEndConversation\b", DASHBOARD))
    for namespace, name, dimension in re.findall(r'\["(AWS/\w+)", "(\w+)", "(\w+)"', DASHBOARD):
        assert name in OF_AWS[namespace, dimension]


def test_runbook_is_whole() -> None:
    """Each saved query has its line in docs/operations.md, and vice versa; test_alarms.py has the alarms."""
    section = OPERATIONS.partition("## Where to look")[2].partition("\n## ")[0]
    queries = [each["Name"] for each in of_type("AWS::Logs::QueryDefinition").values()]

    assert queries == [
        f"end-conversation/{name}" for name in re.findall(r"^ *\| `([a-z-]+)` \|", section, re.MULTILINE)
    ]


@pytest.mark.parametrize("topic", [None, "arn:aws:sns:us-east-1:123456789012:alarms"])
def test_alarms_notify(topic: str | None) -> None:
    """An alarm notifies the topic, if there is one, when it begins and when it ends.

    CloudWatch takes no alarm that looks back further than a day.
    """
    for name, alarm in of_type("AWS::CloudWatch::Alarm", AlarmTopicArn=topic or "").items():
        period = alarm["Period"] if "Period" in alarm else alarm["Metrics"][0]["Period"]
        assert alarm.get("AlarmActions") == alarm.get("OKActions") == (topic and [topic]), name
        assert period * alarm["EvaluationPeriods"] <= 24 * 60 * 60, name


@pytest.mark.parametrize(
    ("filter_name", "handler", "trigger"),
    [("InternalErrorsFilter", app.handler, "sqs"), ("SweepInternalErrorsFilter", sweep.handler, "sweep")],
)
def test_defects_are_counted(
    filter_name: str, handler: Any, trigger: str, function: Function, environment: pytest.MonkeyPatch
) -> None:
    """A failure by a setting or a defect has a log line that the filter of InternalErrors matches."""
    pattern = re.fullmatch(r'\{ \$\.(\w+) = "(\w+)" \}', at(f"{filter_name}.FilterPattern"))
    assert pattern
    environment.setenv("TWILIO_SECRET_MAX_AGE_SECONDS", "soon")
    sweep._service.cache_clear()
    function.handler = handler
    with suppress(ConfigurationError):
        function(sample(trigger))
    lines = [line for line in function.logs if line.get(pattern[1]) == pattern[2]]

    assert lines
    assert at(f"{filter_name}.MetricTransformations.0.Dimensions") == [
        {"Key": "service", "Value": "$.service"},
        {"Key": "trigger", "Value": "$.trigger"},
    ]
    assert all(line["trigger"] == trigger and line["service"] for line in lines)
