"""What template.yaml promises to operators, and how its numbers depend on each other."""

import json
import re
from fnmatch import fnmatchcase
from typing import Any

import pytest
from stack import deployed, function, of_type, resources, template, values

HOUR = 3600
FUNCTION = "EndConversationFunction"
FUNCTIONS = [FUNCTION, "SweepFunction"]

# The settings of both functions, and what the runtime and its libraries read by themselves.
SETTINGS = {
    "TWILIO_SECRET_ID",
    "TWILIO_SECRET_MAX_AGE_SECONDS",
    "TWILIO_EDGE",
    "TWILIO_REGION",
    "TWILIO_STUDIO_BASE_URL",
    "TWILIO_ACCOUNT_SECRET_PREFIX",
    "ALLOWED_FLOW_SIDS",
    "OUTCOME_EVENT_BUS",
    "POWERTOOLS_SERVICE_NAME",
    "POWERTOOLS_METRICS_NAMESPACE",
    "POWERTOOLS_LOG_LEVEL",
}
OWN_SETTINGS = {
    FUNCTION: {"WEBHOOK_SECRET_ID", "WEBHOOK_BASE_URL", "QUEUE_URL", "DEAD_LETTER_QUEUE_URL"},
    "SweepFunction": {"SWEEP_FLOW_SIDS", "SWEEP_OLDER_THAN_MINUTES"},
}
SECRETS = [
    ("EndConversationRole", "Twilio"),
    ("EndConversationRole", "Webhook"),
    ("SweepRole", "Twilio"),
]


def statements(*roles: str) -> list[dict[str, Any]]:
    """Every statement of the roles, or of all; of a conditional one, what it is when the condition holds."""
    return [
        statement["Fn::If"][1] if "Fn::If" in statement else statement
        for name, role in of_type("AWS::IAM::Role").items()
        if name in roles or not roles
        for policy in role["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
    ]


def queue_policy_statements() -> list[dict[str, Any]]:
    policies = of_type("AWS::SQS::QueuePolicy").values()
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def event_source() -> dict[str, Any]:
    (mapping,) = of_type("AWS::Lambda::EventSourceMapping").values()
    return mapping


def queue() -> dict[str, Any]:
    return of_type("AWS::SQS::Queue")["Queue"]


def test_visibility_timeout() -> None:
    """A message stays invisible for at least six times the function's timeout, as Lambda asks."""
    assert queue()["VisibilityTimeout"] >= 6 * function()["Timeout"]


def test_outage_is_ridden_out() -> None:
    """However MaxReceiveCount is chosen, a message is tried for at least four hours."""
    assert template()["Parameters"]["MaxReceiveCount"]["MinValue"] * queue()["VisibilityTimeout"] >= 4 * HOUR


def test_messages_outlive_their_receives() -> None:
    """However MaxReceiveCount is chosen, a message is dead-lettered before the queue forgets it."""
    longest = template()["Parameters"]["MaxReceiveCount"]["MaxValue"] * queue()["VisibilityTimeout"]

    assert longest < queue()["MessageRetentionPeriod"]


def test_dead_letters_outlive_the_queue() -> None:
    """A dead letter, whose age counts from its first sending, is kept longer than any message."""
    dead_letters = of_type("AWS::SQS::Queue")["DeadLetterQueue"]

    assert dead_letters["MessageRetentionPeriod"] > queue()["MessageRetentionPeriod"]


def test_queue_redrives_to_the_dead_letter_queue() -> None:
    """What the queue gives up goes to the same queue that the function knows."""
    assert queue()["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
    assert function()["Environment"]["Variables"]["DEAD_LETTER_QUEUE_URL"] == {"Ref": "DeadLetterQueue"}


@pytest.mark.parametrize("name", of_type("AWS::SQS::Queue"))
def test_queues_are_encrypted(name: str) -> None:
    """Every queue is encrypted at rest."""
    assert of_type("AWS::SQS::Queue")[name]["SqsManagedSseEnabled"] is True


@pytest.mark.parametrize("name", of_type("AWS::SQS::Queue"))
def test_queues_outlive_the_stack(name: str) -> None:
    """Deleting or changing the stack deletes no queue that may hold messages."""
    assert (resources()[name]["DeletionPolicy"], resources()[name]["UpdateReplacePolicy"]) == ("Retain",) * 2


@pytest.mark.parametrize("name", of_type("AWS::SQS::Queue"))
def test_queues_take_tls_only(name: str) -> None:
    """Every queue refuses requests in the clear."""
    refusal = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": {"Fn::GetAtt": [name, "Arn"]},
        "Condition": {"Bool": {"aws:SecureTransport": False}},
    }

    assert refusal in queue_policy_statements()


def test_queues_take_events_of_the_rule_only() -> None:
    """EventBridge may send to the queues for this stack's rule, not for anybody's."""
    allowed = [statement for statement in queue_policy_statements() if statement["Effect"] == "Allow"]

    assert [statement["Condition"] for statement in allowed] == [
        {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["Rule", "Arn"]}}}
    ] * 2


def test_rule_target_loses_nothing() -> None:
    """An event that the rule cannot put into the queue is tried again, and ends in the dead-letter queue."""
    (target,) = of_type("AWS::Events::Rule")["Rule"]["Targets"]

    assert target["RetryPolicy"]["MaximumRetryAttempts"] > 0
    assert target["DeadLetterConfig"]["Arn"] == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}


def test_batches_fail_in_part() -> None:
    """SQS delivers only those messages again that the function reports."""
    assert event_source()["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_queue_is_consumed_with_bounded_concurrency() -> None:
    """A full queue does not take all of Twilio's concurrent requests."""
    assert event_source()["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "MaximumConcurrency"}}


def test_triggers_invoke_the_alias() -> None:
    """API Gateway and SQS invoke the alias live, so that SnapStart takes effect."""
    alias = {"Ref": f"{FUNCTION}Aliaslive"}

    assert of_type("AWS::Lambda::Alias")[alias["Ref"]]["Name"] == "live"
    assert event_source()["FunctionName"] == alias
    assert [each["FunctionName"] for each in of_type("AWS::Lambda::Permission").values()] == [alias] * 3


def versions(**parameters: str) -> list[str]:
    """The logical ids of the function's versions, with these parameters."""
    return [name for name, each in deployed(**parameters).items() if each["Type"] == "AWS::Lambda::Version"]


def settings_of(name: str) -> set[str]:
    """The parameters that a function itself depends on, and not only what surrounds it."""
    around = ("Events", "EventInvokeConfig", "DeploymentPreference")
    itself = {key: each for key, each in function(name).items() if key not in around}
    return {name for name in values(itself, "Ref") if name in template()["Parameters"]}


@pytest.mark.parametrize("name", template()["Parameters"])
def test_a_version_is_published_if_the_function_changes(name: str) -> None:
    """A parameter's new value makes a new version if the function depends on it, and none otherwise.

    SAM derives the version's logical id from the function's properties. Without a new one the alias would
    keep the old settings; a new one for a function that is the same is refused ("Version already exists").
    """
    parameter = template()["Parameters"][name]
    choices = parameter.get("AllowedValues", ["1001"] if parameter["Type"] == "Number" else ["other"])
    other = next(str(value) for value in choices if value != parameter["Default"])

    assert (versions(**{name: other}) != versions()) == (name in settings_of(FUNCTION))


def test_versions_stay_when_another_takes_over() -> None:
    """A version that is no longer in the template is kept, so that the alias can be moved back to it.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-attribute-deletionpolicy.html: it goes
    for a resource whose logical id is gone. UpdateReplacePolicy would go for one that is replaced under its
    logical id, which takes another FunctionName.
    """
    (name,) = versions()

    assert deployed()[name]["DeletionPolicy"] == "Retain"
    assert set(deployed()[name]["Properties"]) == {"FunctionName"}


def test_settings_are_where_they_are_resolved() -> None:
    """No parameter is in SAM's Globals, which AWS::LanguageExtensions does not look at."""
    assert template()["Transform"] == ["AWS::LanguageExtensions", "AWS::Serverless-2016-10-31"]
    assert not set(values(template()["Globals"], "Ref")) & set(template()["Parameters"])


def test_names_of_accounts_secrets_fit() -> None:
    """Whatever the prefix, it and an account's SID stay within the 512 characters of a secret's name.

    https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html
    """
    assert template()["Parameters"]["TwilioAccountSecretPrefix"]["MaxLength"] + len("AC" + "0" * 32) <= 512


@pytest.mark.parametrize("name", FUNCTIONS)
def test_settings_fit_into_the_environment(name: str) -> None:
    """As many Flows as the parameters take, and long names, stay within what Lambda has for variables.

    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 4 KB for all of them.
    """
    parameters = template()["Parameters"]
    needed = 0
    for variable, value in function(name)["Environment"]["Variables"].items():
        parameter = parameters.get(value["Ref"], {}) if isinstance(value, dict) else {"MaxLength": len(value)}
        needed += len(variable) + parameter.get("MaxLength", len(str(parameter.get("MaxValue", "x" * 100))))

    assert needed <= 4096


def test_sweep_has_its_present_settings() -> None:
    """The schedule invokes $LATEST, which no version keeps from new settings."""
    assert "AutoPublishAlias" not in function("SweepFunction")
    assert of_type("AWS::Scheduler::Schedule")["SweepSchedule"]["Target"]["Arn"] == {
        "Fn::GetAtt": ["SweepFunction", "Arn"]
    }


def test_sweep_is_off_until_turned_on() -> None:
    """The schedule comes disabled, and its state is the operator's."""
    assert of_type("AWS::Scheduler::Schedule")["SweepSchedule"]["State"] == {"Ref": "SweepScheduleState"}
    assert template()["Parameters"]["SweepScheduleState"]["Default"] == "DISABLED"


def test_sweep_by_schedule_needs_flows() -> None:
    """A schedule that would fail at every run cannot be turned on."""
    (rule,) = template()["Rules"].values()

    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "SweepScheduleState"}, "ENABLED"]}
    assert rule["Assertions"][0]["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "SweepFlowSids"}, ""]}]}


def test_schedule_may_only_invoke_the_sweep() -> None:
    """The schedule's role is good for one function, and for Scheduler of this account only."""
    (trust,) = of_type("AWS::IAM::Role")["SweepScheduleRole"]["AssumeRolePolicyDocument"]["Statement"]

    assert [(each["Action"], each["Resource"]) for each in statements("SweepScheduleRole")] == [
        ("lambda:InvokeFunction", {"Fn::GetAtt": ["SweepFunction", "Arn"]})
    ]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


@pytest.mark.parametrize(("name", "qualifier"), [(FUNCTION, "live"), ("SweepFunction", "$LATEST")])
def test_asynchronous_failures_are_kept(name: str, qualifier: str) -> None:
    """An event that fails for good in an asynchronous invocation goes to a queue."""
    configs = of_type("AWS::Lambda::EventInvokeConfig").values()
    (config,) = [each for each in configs if each["FunctionName"] == {"Ref": name}]

    assert config["Qualifier"] == qualifier
    assert config["DestinationConfig"]["OnFailure"]["Destination"] == {
        "Fn::GetAtt": ["OnFailureQueue", "Arn"]
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_roles_of_their_own(name: str) -> None:
    """No function has permissions for what another one does."""
    role = function(name)["Role"]

    assert role["Fn::GetAtt"][0] in of_type("AWS::IAM::Role")
    assert [function(other)["Role"] for other in FUNCTIONS].count(role) == 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_write_their_own_logs_only(name: str) -> None:
    """The role may write the one log group that the function logs to."""
    group = function(name)["LoggingConfig"]["LogGroup"]["Ref"]
    (statement,) = [
        each for each in statements(function(name)["Role"]["Fn::GetAtt"][0]) if each["Sid"] == "WriteLogs"
    ]

    assert statement["Resource"] == {"Fn::GetAtt": [group, "Arn"]}


def test_roles_have_no_managed_policies() -> None:
    """What the functions may do stands in the template, all of it."""
    assert not list(values(resources(), "ManagedPolicyArns"))
    assert sorted(of_type("AWS::IAM::Role")) == [
        "DeploymentRole",
        "EndConversationRole",
        "SweepRole",
        "SweepScheduleRole",
    ]


def test_roles_name_their_resources() -> None:
    """Only what cannot be bounded is allowed on all resources: traces, and CodeDeploy's look at alarms."""
    unbounded = [statement["Action"] for statement in statements() if statement["Resource"] == "*"]
    traces = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]

    assert [action for action in unbounded if action != traces] == ["cloudwatch:DescribeAlarms"]
    assert unbounded.count(traces) == len(FUNCTIONS)
    assert "*" not in json.dumps([statement["Action"] for statement in statements()])


@pytest.mark.parametrize(("role", "secret"), SECRETS)
def test_secrets_in_the_role(role: str, secret: str) -> None:
    """The role may read the secret: as given if that is an ARN, else by its name and a suffix."""
    (resource,) = [each["Resource"] for each in statements(role) if each["Sid"] == f"Read{secret}Secret"]
    condition, if_arn, if_name = resource["Fn::If"]

    assert template()["Conditions"][condition]["Fn::Equals"][1] == "arn"
    assert if_arn == {"Ref": f"{secret}SecretId"}
    assert if_name["Fn::Sub"].endswith(f":secret:${{{secret}SecretId}}-??????")


def test_no_webhook_secret_no_permission() -> None:
    """Without signing keys the role lacks the statement, which would name every secret."""
    (policy,) = of_type("AWS::IAM::Role")["EndConversationRole"]["Policies"]
    (conditional,) = [
        statement["Fn::If"]
        for statement in policy["PolicyDocument"]["Statement"]
        if "Fn::If" in statement and statement["Fn::If"][1]["Sid"] == "ReadWebhookSecret"
    ]

    assert conditional[2] == {"Ref": "AWS::NoValue"}
    assert template()["Conditions"][conditional[0]] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "WebhookSecretId"}, ""]}]
    }


def test_sweep_reads_no_signing_keys() -> None:
    """The sweep has no use for the webhooks' keys."""
    assert "WebhookSecret" not in json.dumps(of_type("AWS::IAM::Role")["SweepRole"])


@pytest.mark.parametrize(
    ("role", "sid", "key"),
    [
        *[(role, f"Decrypt{secret}Secret", f"{secret}SecretKmsKeyArn") for role, secret in SECRETS],
        ("EndConversationRole", "DecryptAccountSecrets", "TwilioAccountSecretKmsKeyArn"),
        ("SweepRole", "DecryptAccountSecrets", "TwilioAccountSecretKmsKeyArn"),
    ],
)
def test_keys_are_used_through_secrets_manager_only(role: str, sid: str, key: str) -> None:
    """The role may decrypt with the secret's key only for Secrets Manager."""
    (statement,) = [each for each in statements(role) if each["Sid"] == sid]

    assert statement["Resource"] == {"Ref": key}
    assert statement["Condition"] == {
        "StringLike": {"kms:ViaService": {"Fn::Sub": "secretsmanager.*.${AWS::URLSuffix}"}}
    }


ROLES = ["EndConversationRole", "SweepRole"]


def granted(role: str, sid: str, **parameters: str) -> str | None:
    """The resource of a role's statement when it is deployed; None without the statement."""
    (policy,) = deployed(**parameters)[role]["Properties"]["Policies"]
    resources = [each["Resource"] for each in policy["PolicyDocument"]["Statement"] if each["Sid"] == sid]
    return resources[0] if resources else None


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("name", "is_granted"),
    [
        ("twilio/AC0123456789abcdef0123456789ABCDEF", True),
        ("twilio/AC0123456789abcdef0123456789ABCDEF-backup", False),
        ("twilio/AC0123456789abcdef0123456789ABCDE", False),
        ("twilio/webhook-keys", False),
        ("twilio", False),
        ("other/twilio/AC0123456789abcdef0123456789ABCDEF", False),
    ],
)
def test_accounts_secrets_in_the_role(role: str, name: str, *, is_granted: bool) -> None:
    """The role may read the secrets whose names are the prefix and an account's SID, and no other."""
    granting = granted(role, "ReadAccountSecrets", TwilioAccountSecretPrefix="twilio/")
    secret = f"arn:aws:secretsmanager:us-east-1:123456789012:secret:{name}-a1B2c3"

    assert granting
    assert fnmatchcase(secret, granting) is is_granted


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "bus", ["outcomes", "arn:aws:events:us-east-1:123456789012:event-bus/outcomes"], ids=["name", "ARN"]
)
def test_outcome_bus_in_the_role(role: str, bus: str) -> None:
    """The role may put events on the one bus, whether that is given by its name or its ARN."""
    assert (
        granted(role, "PublishOutcomes", OutcomeEventBus=bus)
        == "arn:aws:events:us-east-1:123456789012:event-bus/outcomes"
    )


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("sid", ["ReadAccountSecrets", "DecryptAccountSecrets", "PublishOutcomes"])
def test_no_setting_no_permission(role: str, sid: str) -> None:
    """A role lacks what only a parameter that is not given would need."""
    assert granted(role, sid) is None


def test_only_the_function_queues_commands() -> None:
    """The function may send to the queue that it consumes, for callers who do not wait; the sweep may not."""
    send = [each["Sid"] for each in statements("EndConversationRole") if "sqs:SendMessage" in each["Action"]]

    assert send == ["QueueCommands", "SetAsideFailures"]
    assert function()["Environment"]["Variables"]["QUEUE_URL"] == {"Ref": "Queue"}
    assert '"Queue"' not in json.dumps(of_type("AWS::IAM::Role")["SweepRole"])


@pytest.mark.parametrize("name", of_type("AWS::Logs::LogGroup"))
def test_logs_expire(name: str) -> None:
    """No log is kept for ever."""
    assert of_type("AWS::Logs::LogGroup")[name]["RetentionInDays"] == {"Ref": "LogRetentionInDays"}


def test_access_logs_are_json_without_payloads() -> None:
    """A line of the access log is one JSON object, and names no body, header, query or path of a request."""
    (stage,) = of_type("AWS::ApiGatewayV2::Stage").values()
    variables = json.loads(stage["AccessLogSettings"]["Format"]).values()

    assert all(re.fullmatch(r"\$context(\.[a-zA-Z]+)+", variable) for variable in variables)
    assert not {"$context.path", "$context.customDomain.basePathMatched"} & set(variables)


def test_every_route_is_authorized() -> None:
    """No route of the HTTP API answers without SigV4, but those whose callers sign in their own way."""
    (api,) = of_type("AWS::ApiGatewayV2::Api").values()

    assert sorted(
        (path, method, operation.get("security"))
        for path, methods in api["Body"]["paths"].items()
        for method, operation in methods.items()
    ) == [
        ("/conversations/end", "post", [{"AWS_IAM": []}]),
        ("/webhooks/conversation-ended", "post", None),
        ("/webhooks/{source}", "post", None),
    ]


def test_routes_are_throttled_apart() -> None:
    """The limits of the HTTP API are the operator's, and each open route has a bucket of its own."""
    (stage,) = of_type("AWS::ApiGatewayV2::Stage").values()
    limits = {
        "ThrottlingRateLimit": {"Ref": "ThrottlingRateLimit"},
        "ThrottlingBurstLimit": {"Ref": "ThrottlingBurstLimit"},
    }

    assert stage["DefaultRouteSettings"] == limits
    assert stage["RouteSettings"] == {
        "POST /webhooks/conversation-ended": limits,
        "POST /webhooks/{source}": limits,
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_settings(name: str) -> None:
    """The function's environment has every setting, and for sam local a name for boto3's endpoint."""
    (deployed,) = [each for key, each in of_type("AWS::Lambda::Function").items() if key == name]

    assert set(deployed["Environment"]["Variables"]) == SETTINGS | OWN_SETTINGS[name] | {"AWS_ENDPOINT_URL"}


def test_endpoint_of_sam_local_is_not_deployed() -> None:
    """The name that only sam local needs leaves the deployed function without the variable."""
    assert function()["Environment"]["Variables"]["AWS_ENDPOINT_URL"] == {"Ref": "AWS::NoValue"}


@pytest.mark.parametrize("name", template()["Parameters"])
def test_parameters_are_told(name: str) -> None:
    """Every parameter has a description, a default, and its place in a group."""
    parameter = template()["Parameters"][name]
    groups = template()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]

    assert parameter["Description"].endswith(".")
    assert "Default" in parameter
    assert [name in group["Parameters"] for group in groups].count(True) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TwilioSecretId", "end-conversation/twilio"),
        (
            "TwilioSecretId",
            "arn:aws:secretsmanager:us-east-1:123456789012:secret:end-conversation/twilio-a1B2c3",
        ),
        (
            "TwilioSecretKmsKeyArn",
            "arn:aws:kms:us-east-1:123456789012:key/12345678-90ab-cdef-1234-567890abcdef",
        ),
        ("WebhookSecretId", ""),
        ("WebhookSecretId", "end-conversation/webhook-keys"),
        (
            "WebhookSecretKmsKeyArn",
            "arn:aws:kms:us-east-1:123456789012:key/12345678-90ab-cdef-1234-567890abcdef",
        ),
        ("SweepFlowSids", ", ".join(["FW" + "0" * 32] * 50)),
        ("SweepScheduleExpression", "rate(1 hour)"),
        ("SweepScheduleExpression", "cron(0 3 * * ? *)"),
        ("TwilioStudioBaseUrl", "https://studio.example.com:8443"),
        ("AllowedFlowSids", ", ".join(["FW" + "0" * 32] * 30)),
        ("TwilioAccountSecretPrefix", "end-conversation/twilio/"),
        ("WebhookBaseUrl", "https://hooks.example.com"),
        ("WebhookBaseUrl", "https://hooks.example.com:8443/end/v1"),
        ("OutcomeEventBus", "default"),
        ("OutcomeEventBus", "arn:aws:events:us-east-1:123456789012:event-bus/outcomes"),
    ],
)
def test_patterns_let_good_values_through(name: str, value: str) -> None:
    """The patterns of parameters do not refuse what they should take."""
    parameter = template()["Parameters"][name]

    assert re.fullmatch(parameter["AllowedPattern"], value)
    assert len(value) <= parameter.get("MaxLength", 4096)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TwilioSecretId", ""),
        ("TwilioSecretId", "arn:aws:ssm:us-east-1:123456789012:parameter/twilio"),
        ("WebhookSecretId", "arn:aws:ssm:us-east-1:123456789012:parameter/keys"),
        ("TwilioSecretKmsKeyArn", "alias/twilio"),
        ("TwilioStudioBaseUrl", "http://studio.twilio.com"),
        ("AllowedFlowSids", "FW1"),
        ("SweepFlowSids", "FW" + "0" * 32 + ","),
        ("SweepScheduleExpression", "hourly"),
        ("EventBusName", ""),
        ("TwilioAccountSecretPrefix", "*"),
        ("TwilioAccountSecretPrefix", "arn:aws:secretsmanager:us-east-1:123456789012:secret:twilio/"),
        ("TwilioAccountSecretPrefix", "twilio/${x}"),
        ("WebhookBaseUrl", "http://hooks.example.com"),
        ("WebhookBaseUrl", "https://hooks.example.com/"),
        ("WebhookBaseUrl", "https://hooks.example.com?x=1"),
        ("OutcomeEventBus", "arn:aws:sns:us-east-1:123456789012:outcomes"),
        ("OutcomeEventBus", "out*"),
    ],
)
def test_patterns_refuse_bad_values(name: str, value: str) -> None:
    """A value that cannot be meant is refused before anything is deployed."""
    assert not re.fullmatch(template()["Parameters"][name]["AllowedPattern"], value)
