"""Alarms, dashboard and saved queries name what there is, and nothing else."""

import json
import re
from collections.abc import Iterator
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
DOCUMENTED = set(
    re.findall(
        r"`(\w+)`",
        "".join(
            re.findall(
                r"^\| (`[A-Z].+?) \|",
                (ROOT / "docs" / "metrics-and-logs.md").read_text().partition("## Logs")[0],
                re.MULTILINE,
            )
        ),
    )
)
"""The function's metrics; tests/docs compares the page with the code."""
DOCUMENTED |= {"NothingToEnd", "NearMisses"}  # until the page has them

# Of AWS's own metrics: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/aws-services-cloudwatch-metrics.html
METRICS = {
    "AWS/Lambda": {"Errors", "Throttles", "Invocations", "Duration", "ConcurrentExecutions"},
    "AWS/SQS": {
        *("ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"),
        *("ApproximateNumberOfMessagesNotVisible", "NumberOfMessagesSent", "NumberOfMessagesDeleted"),
    },
    "AWS/ApiGateway": {"Count", "4xx", "5xx", "Latency"},
    "EndConversation": DOCUMENTED,
}
DIMENSIONS = {
    "AWS/Lambda": {"FunctionName"},
    "AWS/SQS": {"QueueName"},
    "AWS/ApiGateway": {"ApiId"},
    "EndConversation": {"service", "trigger"},
}
ALARMS = of_type("AWS::CloudWatch::Alarm")
DASHBOARD: dict[str, Any] = json.loads(
    template()["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
)


def dashboard_metrics() -> Iterator[tuple[str, str, set[str]]]:
    """Namespace, name and dimensions of each metric on the dashboard."""
    for widget in DASHBOARD["widgets"]:
        namespace, name, dimensions = "", "", set[str]()
        for entry in widget["properties"].get("metrics", ()):
            match [part for part in entry if not isinstance(part, dict)]:
                case []:
                    found = re.search(
                        r"\{(\w+),(\w+),(\w+)\} .* MetricName=\"(\w+)\"", entry[0]["expression"]
                    )
                    assert found
                    yield found[1], found[4], {found[2], found[3]}
                case ["...", *_]:
                    yield namespace, name, dimensions
                case [namespace, name, *pairs]:
                    dimensions = set(pairs[::2])
                    yield namespace, name, dimensions


def alarm_metrics() -> Iterator[tuple[str, str, set[str]]]:
    """Namespace, name and dimensions of each metric that an alarm looks at."""
    for alarm in ALARMS.values():
        if "MetricName" in alarm:
            names = {dimension["Name"] for dimension in alarm["Dimensions"]}
            yield alarm["Namespace"], alarm["MetricName"], names
        else:
            found = re.fullmatch(
                r"SELECT SUM\((\w+)\) FROM SCHEMA\(\"(\w+)\", (\w+), (\w+)\) WHERE service = '[\w-]+'",
                alarm["Metrics"][0]["Expression"],
            )
            assert found, alarm
            yield found[2], found[1], {found[3], found[4]}


def test_metrics_have_the_dimensions_that_are_asked_for(function: Function, studio: Studio) -> None:
    """The function emits its metrics in the template's namespace, with service and trigger and no other."""
    samples.seed(studio, sample("direct"))
    function(sample("direct"))
    (document,) = [line for line in function.lines if "_aws" in line]
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    variables = template()["Globals"]["Function"]["Environment"]["Variables"]

    assert [set(dimensions) for dimensions in directive["Dimensions"]] == [DIMENSIONS["EndConversation"]]
    assert directive["Namespace"] == variables["POWERTOOLS_METRICS_NAMESPACE"] == "EndConversation"
    assert variables["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AWS::StackName"}


def test_metrics_exist() -> None:
    """Alarms and dashboard show metrics that are emitted, under exactly these dimensions, and all of ours."""
    for namespace, name, dimensions in [*alarm_metrics(), *dashboard_metrics()]:
        assert name in METRICS[namespace], name
        assert dimensions == DIMENSIONS[namespace], name
    assert {
        name for namespace, name, _ in dashboard_metrics() if namespace == "EndConversation"
    } == DOCUMENTED


def test_dashboard_is_whole() -> None:
    """It shows each alarm, is 24 columns wide, and every field of it belongs to one widget at the most."""
    (widget,) = [each for each in DASHBOARD["widgets"] if each["type"] == "alarm"]
    fields = [
        (x, y)
        for each in DASHBOARD["widgets"]
        for x in range(each["x"], each["x"] + each["width"])
        for y in range(each["y"], each["y"] + each["height"])
    ]

    assert widget["properties"]["alarms"] == [f"${{{name}.Arn}}" for name in ALARMS]
    assert len(fields) == len(set(fields))
    assert max(x for x, _ in fields) < 24


def test_runbook_is_whole() -> None:
    """Each alarm has its section in docs/operations.md, each saved query its line, and vice versa."""
    section = OPERATIONS.partition("## Where to look")[2].partition("\n## ")[0]
    queries = [each["Name"] for each in of_type("AWS::Logs::QueryDefinition").values()]

    assert set(re.findall(r"^### (\w+Alarm)$", OPERATIONS, re.MULTILINE)) == set(ALARMS)
    assert re.findall(r"^ *\| `([a-z-]+)` \|", section, re.MULTILINE) == [
        str(name).rpartition("/")[2].rstrip("'}") for name in queries
    ]


@pytest.mark.parametrize("topic", ["", "arn:aws:sns:us-east-1:123456789012:alarms"])
@pytest.mark.parametrize("name", ALARMS)
def test_alarms(name: str, topic: str) -> None:
    """An alarm notifies the topic, if there is one, of its beginning and its end; no data is no alarm.

    CloudWatch takes no alarm that looks back further than a day.
    """
    alarm = of_type("AWS::CloudWatch::Alarm", AlarmTopicArn=topic)[name]
    period = alarm["Period"] if "Period" in alarm else alarm["Metrics"][0]["Period"]

    assert alarm.get("AlarmActions") == alarm.get("OKActions") == ([topic] if topic else None)
    assert alarm["TreatMissingData"] == "notBreaching"
    assert period * alarm["EvaluationPeriods"] <= 24 * 60 * 60


@pytest.mark.parametrize(
    ("filter_name", "event", "handler", "trigger"),
    [
        ("InternalErrorsFilter", "sqs", app.handler, "sqs"),
        ("SweepInternalErrorsFilter", "sweep", sweep.handler, "sweep"),
    ],
)
def test_defects_are_counted_by_their_log_lines(
    filter_name: str,
    event: str,
    handler: Any,
    trigger: str,
    function: Function,
    environment: pytest.MonkeyPatch,
) -> None:
    """What fails by a setting or a defect has a log line with what InternalErrors is made of."""
    pattern = re.fullmatch(r'\{ \$\.(\w+) = "(\w+)" \}', at(f"{filter_name}.FilterPattern"))
    (transformation,) = at(f"{filter_name}.MetricTransformations")
    assert pattern
    environment.setenv("TWILIO_SECRET_MAX_AGE_SECONDS", "soon")
    sweep._service.cache_clear()
    function.handler = handler
    with suppress(ConfigurationError):
        function(sample(event))
    lines = [line for line in function.logs if line.get(pattern[1]) == pattern[2]]

    assert lines
    assert transformation["Dimensions"] == [
        {"Key": "service", "Value": "$.service"},
        {"Key": "trigger", "Value": "$.trigger"},
    ]
    assert all(line["trigger"] == trigger and line["service"] for line in lines)
