"""Alarms, dashboard and saved queries name what there is, and nothing else."""

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Function, sample
from stack import ROOT, deployed, of_type, resources, template

from local import samples
from local.studio import Studio

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
SOURCES = [ast.parse(path.read_text()) for path in sorted((ROOT / "src" / "end_conversation").rglob("*.py"))]
NAME = re.compile(r"(?:[A-Z][a-z]+){2,}")

# Of AWS's own metrics: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/aws-services-cloudwatch-metrics.html
OF_AWS = {
    "AWS/Lambda": {"Errors", "Throttles", "Invocations", "Duration", "ConcurrentExecutions"},
    "AWS/SQS": {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesVisible",
        "ApproximateNumberOfMessagesNotVisible",
        "NumberOfMessagesSent",
        "NumberOfMessagesDeleted",
    },
    "AWS/ApiGateway": {"Count", "4xx", "5xx", "Latency"},
}
DIMENSIONS = {
    "AWS/Lambda": [{"FunctionName"}, {"FunctionName", "Resource", "ExecutedVersion"}],
    "AWS/SQS": [{"QueueName"}],
    "AWS/ApiGateway": [{"ApiId"}],
    "EndConversation": [{"service", "trigger"}],
}


def emitted() -> set[str]:
    """The metrics that the code emits: the errors' own, and the names in what it counts or observes."""
    names = set()
    for tree in SOURCES:
        for node in ast.walk(tree):
            match node:
                case ast.Assign(targets=[ast.Name("metric")], value=ast.Constant(str(name))):
                    names.add(name)
                case ast.Call(func=ast.Name("count" | "observe_milliseconds"), args=[name, *_]):
                    names |= set(strings(name))
    return names


def filtered() -> set[str]:
    """The metrics that CloudWatch makes of log lines."""
    return {
        transformation["MetricName"]
        for each in of_type("AWS::Logs::MetricFilter").values()
        for transformation in each["MetricTransformations"]
    }


def strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def alarms() -> dict[str, dict[str, Any]]:
    return of_type("AWS::CloudWatch::Alarm")


def dashboard() -> dict[str, Any]:
    """The dashboard, with its variables as they are in the template."""
    (body,) = [each["DashboardBody"]["Fn::Sub"] for each in of_type("AWS::CloudWatch::Dashboard").values()]
    parsed: dict[str, Any] = json.loads(body.replace("${!", "${"))
    return parsed


def dashboard_metrics() -> Iterator[tuple[str, str, set[str]]]:
    """Namespace, name and dimensions of each metric on the dashboard."""
    for widget in dashboard()["widgets"]:
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
    for alarm in alarms().values():
        if "MetricName" in alarm:
            names = {dimension["Name"] for dimension in alarm["Dimensions"]}
            yield alarm["Namespace"], alarm["MetricName"], names
        else:
            (metric,) = alarm["Metrics"]
            query = metric["Expression"]["Fn::Sub"]
            found = re.fullmatch(
                r"SELECT SUM\((\w+)\) FROM SCHEMA\(\"(\w+)\", (\w+), (\w+)\)"
                r" WHERE service = '\$\{AWS::StackName\}'",
                query,
            )
            assert found, query
            yield found[2], found[1], {found[3], found[4]}


def queries() -> dict[str, str]:
    return {
        each["Name"]["Fn::Sub"]: each["QueryString"]
        for each in of_type("AWS::Logs::QueryDefinition").values()
    }


def test_metrics_have_the_dimensions_that_are_asked_for(function: Function, studio: Studio) -> None:
    """The function emits its metrics in the template's namespace, with service and trigger and no other."""
    samples.seed(studio, sample("direct"))
    function(sample("direct"))
    (document,) = [line for line in function.lines if "_aws" in line]
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    variables = template()["Globals"]["Function"]["Environment"]["Variables"]

    assert [set(dimensions) for dimensions in directive["Dimensions"]] == DIMENSIONS["EndConversation"]
    assert directive["Namespace"] == variables["POWERTOOLS_METRICS_NAMESPACE"] == "EndConversation"
    assert variables["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AWS::StackName"}


@pytest.mark.parametrize(("namespace", "name", "dimensions"), [*alarm_metrics(), *dashboard_metrics()])
def test_metrics_exist(namespace: str, name: str, dimensions: set[str]) -> None:
    """Each metric of an alarm or of the dashboard is emitted, under exactly these dimensions."""
    assert name in (emitted() | filtered() if namespace == "EndConversation" else OF_AWS[namespace])
    assert dimensions in DIMENSIONS[namespace]


def test_every_failure_is_on_the_dashboard() -> None:
    """Nothing that is counted is missing from the dashboard."""
    shown = {name for namespace, name, _ in dashboard_metrics() if namespace == "EndConversation"}

    assert shown == emitted() | filtered()


def test_every_alarm_is_on_the_dashboard() -> None:
    """The dashboard shows the state of each alarm."""
    (widget,) = [each for each in dashboard()["widgets"] if each["type"] == "alarm"]

    assert widget["properties"]["alarms"] == [f"${{{name}.Arn}}" for name in alarms()]


def test_widgets_do_not_overlap() -> None:
    """The dashboard is 24 columns wide, and every field of it belongs to one widget at the most."""
    fields = [
        (x, y)
        for each in dashboard()["widgets"]
        for x in range(each["x"], each["x"] + each["width"])
        for y in range(each["y"], each["y"] + each["height"])
    ]

    assert len(fields) == len(set(fields))
    assert max(x for x, _ in fields) < 24


def test_alarms_are_documented() -> None:
    """Each alarm has its section in docs/operations.md, and each section its alarm."""
    assert set(re.findall(r"^### (\w+Alarm)$", OPERATIONS, re.MULTILINE)) == set(alarms())


def test_queries_are_documented() -> None:
    """Each saved query has its line in docs/operations.md, and each line its query."""
    section = OPERATIONS.partition("## Where to look")[2].partition("\n## ")[0]

    assert set(re.findall(r"^ *\| `([a-z-]+)` \|", section, re.MULTILINE)) == {
        name.removeprefix("${AWS::StackName}/") for name in queries()
    }


@pytest.mark.parametrize("name", alarms())
def test_alarms_tell_somebody_if_there_is_somebody(name: str) -> None:
    """An alarm that begins or ends goes to the topic, if one is given, and its name tells its section."""
    topic = {"Fn::If": ["IsAlarmTopicGiven", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}

    assert alarms()[name]["AlarmActions"] == alarms()[name]["OKActions"] == topic
    assert alarms()[name]["AlarmName"] == {"Fn::Sub": f"${{AWS::StackName}}-{name}"}


@pytest.mark.parametrize("name", alarms())
def test_no_data_is_no_alarm(name: str) -> None:
    """Metrics are only sent when there is something to count, so their absence is no news."""
    assert alarms()[name]["TreatMissingData"] == "notBreaching"


@pytest.mark.parametrize("name", alarms())
def test_alarms_look_back_a_day_at_most(name: str) -> None:
    """CloudWatch takes no alarm that looks further back."""
    alarm = alarms()[name]
    period = alarm["Period"] if "Period" in alarm else alarm["Metrics"][0]["Period"]

    assert period * alarm["EvaluationPeriods"] <= 24 * 60 * 60


def test_defects_are_counted_by_their_log_lines(function: Function, environment: pytest.MonkeyPatch) -> None:
    """A batch that fails by a setting raises nothing, and its log line has what InternalErrors is made of."""
    (metric_filter,) = of_type("AWS::Logs::MetricFilter").values()
    (transformation,) = metric_filter["MetricTransformations"]
    pattern = re.fullmatch(r'\{ \$\.(\w+) = "(\w+)" \}', metric_filter["FilterPattern"])
    assert pattern
    keys = {each["Key"]: each["Value"].removeprefix("$.") for each in transformation["Dimensions"]}

    environment.setenv("TWILIO_SECRET_MAX_AGE_SECONDS", "soon")
    answer = function(sample("sqs"))
    lines = [line for line in function.lines if line.get(pattern[1]) == pattern[2]]

    assert len(lines) == len(answer["batchItemFailures"]) > 0
    assert keys == {"service": "service", "trigger": "trigger"}
    assert all(line["trigger"] == "sqs" and line["service"] for line in lines)


@pytest.mark.parametrize(("name", "query"), queries().items())
def test_queries_name_what_is_logged(name: str, query: str) -> None:
    """Each message and code that a query looks for is one that the code has."""
    known = {text for tree in SOURCES for text in strings(tree)}
    conditions = " ".join(re.findall(r"^filter (?:message|code) .*", query, re.MULTILINE))

    assert set(re.findall(r'"([a-z_]+)"', conditions)) <= known, name


def test_deployment_is_plain_by_default() -> None:
    """Without a wish for anything else there is no CodeDeploy in the stack."""
    assert not [each for each in resources().values() if each["Type"].startswith("AWS::CodeDeploy::")]


def test_gradual_deployment_watches_the_new_version() -> None:
    """CodeDeploy moves the alias in the way that was chosen, with our role, and back at the alarm."""
    made = deployed(DeploymentPreference="Canary10Percent5Minutes")
    (group,) = [each["Properties"] for each in made.values() if each["Type"].endswith("::DeploymentGroup")]
    version = {
        "Name": "ExecutedVersion",
        "Value": {
            "Fn::GetAtt": [
                next(name for name, each in made.items() if each["Type"] == "AWS::Lambda::Version"),
                "Version",
            ]
        },
    }

    assert group["AlarmConfiguration"]["Alarms"] == [
        {"Name": {"Ref": "DeploymentErrorsAlarm"}},
        {"Name": {"Ref": "InternalErrorsAlarm"}},
    ]
    assert "Canary10Percent5Minutes" in json.dumps(group["DeploymentConfigName"])
    assert group["ServiceRoleArn"] == {"Fn::GetAtt": ["DeploymentRole", "Arn"]}
    assert "CodeDeployServiceRole" not in made
    assert version in made["DeploymentErrorsAlarm"]["Properties"]["Dimensions"]
    assert "CodeDeployLambdaAliasUpdate" in made["EndConversationFunctionAliaslive"]["UpdatePolicy"]


def test_every_preference_is_known_to_be_gradual_or_not() -> None:
    """Each value that the parameter takes has its line in the mapping, and only one is not gradual."""
    values_taken = template()["Parameters"]["DeploymentPreference"]["AllowedValues"]
    mapping = template()["Mappings"]["IsGradual"]

    assert list(mapping) == values_taken
    assert [name for name in mapping if mapping[name]["Value"] == "false"] == ["AllAtOnce"]
