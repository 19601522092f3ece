"""Each parameter: described, refused where it is invalid, and in force where it is given."""

import re
from fnmatch import fnmatchcase
from itertools import product

import pytest
from stack import at, deployed, expanded, of_type, statements, template, values

ROLES = ["EndConversationRole", "SweepRole"]
FUNCTIONS = ["EndConversationFunction", "SweepFunction"]
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:"
KEY = "arn:aws:kms:us-east-1:123456789012:key/"
BUS = "arn:aws:events:us-east-1:123456789012:event-bus/outcomes"
TOPIC = "arn:aws:sns:us-east-1:123456789012:closed"
BOUNDARY = "arn:aws:iam::123456789012:policy/teams/boundary"


@pytest.mark.parametrize("name", template()["Parameters"])
def test_parameters_are_described(name: str) -> None:
    """Every parameter has a description, a default, and its place in a group."""
    parameter = template()["Parameters"][name]
    groups = template()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]

    assert parameter["Description"].endswith(".")
    assert "Default" in parameter
    assert [name in group["Parameters"] for group in groups].count(True) == 1


def test_a_proxy_s_password_is_masked() -> None:
    """CloudFormation shows asterisks in place of a URL that may hold a password."""
    assert template()["Parameters"]["ProxyUrl"]["NoEcho"] is True


@pytest.mark.parametrize(
    ("name", "valid", "invalid"),
    [
        (
            "TwilioSecretId",
            ["end-conversation/twilio", f"{SECRET}end-conversation/twilio-a1B2c3", f"{SECRET}twilio"],
            ["", "arn:aws:ssm:us-east-1:123456789012:parameter/twilio"],
        ),
        ("WebhookSecretId", ["", "webhook-keys"], ["arn:aws:ssm:us-east-1:123456789012:parameter/keys"]),
        ("TwilioAccountSecretPrefix", ["twilio/"], ["*", f"{SECRET}twilio/", "twilio/${x}"]),
        ("SecretKmsKeyArns", ["", f"{KEY}12345678-90ab-cdef-1234-567890abcdef"], ["alias/twilio", "*"]),
        ("TwilioStudioBaseUrl", ["https://studio.example.com:8443"], ["http://studio.twilio.com"]),
        ("AllowedFlowSids", [", ".join(["FW" + "0" * 32] * 30)], ["FW1"]),
        ("SweepFlowSids", [", ".join(["FW" + "0" * 32] * 40)], ["FW" + "0" * 32 + ","]),
        ("SweepScheduleExpression", ["rate(1 hour)", "cron(0 3 * * ? *)"], ["hourly"]),
        ("EventBusName", ["default"], [""]),
        (
            "WebhookBaseUrl",
            ["https://hooks.example.com", "https://hooks.example.com:8443/end/v1"],
            ["http://hooks.example.com", "https://hooks.example.com/", "https://hooks.example.com?x=1"],
        ),
        ("OutcomeEventBus", ["default", BUS], ["arn:aws:sns:us-east-1:123456789012:outcomes", "out*"]),
        ("SnsTopicArn", ["", TOPIC], ["closed", f"{TOPIC}.fifo", f"{TOPIC}:subscription"]),
        ("PermissionsBoundaryArn", ["", BOUNDARY, "arn:aws-cn:iam::aws:policy/x"], ["boundary", "*"]),
        ("VpcSubnetIds", ["", "subnet-0123456789abcdef0"], ["vpc-1", "subnet-*"]),
        ("VpcSecurityGroupIds", ["", "sg-0123456789abcdef0"], ["default"]),
        (
            "ProxyUrl",
            [
                *("", "http://proxy.internal:3128", "https://user:password@10.0.0.1:8080/"),
                "{{resolve:secretsmanager:proxy:SecretString:url}}",
            ],
            ["proxy.internal:3128", "socks5://proxy:1080", "http://proxy/path", "{{resolve:ssm:proxy}}"],
        ),
        ("NoProxy", ["", ".amazonaws.com,10.0.0.1,*"], ["a b", "10.0.0.0/8"]),
    ],
)
def test_patterns(name: str, valid: list[str], invalid: list[str]) -> None:
    """An invalid value is refused before anything is deployed, and no valid one is."""
    parameter = template()["Parameters"][name]
    refused = [value for value in [*valid, *invalid] if not re.fullmatch(parameter["AllowedPattern"], value)]

    assert refused == invalid
    assert all(len(value) <= parameter.get("MaxLength", 4096) for value in valid)


def test_names_of_accounts_secrets_fit() -> None:
    """The longest prefix and an account's SID stay within the 512 characters of a secret's name.

    https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html
    """
    assert template()["Parameters"]["TwilioAccountSecretPrefix"]["MaxLength"] + len("AC" + "0" * 32) <= 512


def test_sweep_by_schedule_needs_flows() -> None:
    """A schedule that would fail at every run cannot be turned on."""
    rule = template()["Rules"]["SweepNeedsFlows"]

    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "SweepScheduleState"}, "ENABLED"]}
    assert rule["Assertions"][0]["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "SweepFlowSids"}, ""]}]}


FORMS = ["a/b", f"{SECRET}a/b", f"{SECRET}a/b-a1B2c3"]
"""A name, the partial ARN that CDK has, and a full one."""

NAMES = {"a/b": True, "a/b-copy": False, "a/bc": False, "a": False, "x/a/b": False}
OF_ACCOUNT = "x/AC0123456789abcdef0123456789ABCDEF"
OF_ACCOUNTS = {OF_ACCOUNT: True} | dict.fromkeys(
    [f"{OF_ACCOUNT}-backup", OF_ACCOUNT[:-1], f"y/{OF_ACCOUNT}", "x/keys", "x"], False
)


@pytest.mark.parametrize(
    ("role", "sid", "parameter", "forms", "names"),
    [
        ("EndConversationRole", "ReadTwilioSecret", "TwilioSecretId", FORMS, NAMES),
        ("EndConversationRole", "ReadWebhookSecret", "WebhookSecretId", FORMS, NAMES),
        ("EndConversationRole", "ReadAccountSecrets", "TwilioAccountSecretPrefix", ["x/"], OF_ACCOUNTS),
        ("SweepRole", "ReadTwilioSecret", "TwilioSecretId", FORMS, NAMES),
        ("SweepRole", "ReadAccountSecrets", "TwilioAccountSecretPrefix", ["x/"], OF_ACCOUNTS),
    ],
)
def test_secrets_in_the_role(
    role: str, sid: str, parameter: str, forms: list[str], names: dict[str, bool]
) -> None:
    """However a secret is named, and for accounts by prefix and SID, the role may read it and no other."""
    for given, (name, is_readable) in product(forms, names.items()):
        resource = statements(role, **{parameter: given})[sid]["Resource"]
        patterns = [resource] if isinstance(resource, str) else resource
        matches = [fnmatchcase(f"{SECRET}{name}-a1B2c3", pattern) for pattern in patterns]
        assert any(matches) is is_readable, (given, name)


@pytest.mark.parametrize("role", ROLES)
def test_no_setting_no_permission(role: str) -> None:
    """By default a role has only what it always needs; the sweep reads no signing keys and fills no queue."""
    own = {"ConsumeQueue", "QueueCommands"} if role == "EndConversationRole" else set[str]()

    assert (
        statements(role).keys() == {"ReadTwilioSecret", "SetAsideFailures", "WriteLogs", "WriteTraces"} | own
    )


@pytest.mark.parametrize("role", ROLES)
def test_what_else_a_role_may(role: str) -> None:
    """Decrypt with the listed keys for Secrets Manager only; put events on the one bus, by name or ARN."""
    decrypt = statements(role, SecretKmsKeyArns=f"{KEY}a,{KEY}b")["DecryptSecrets"]

    assert (decrypt["Action"], decrypt["Resource"]) == ("kms:Decrypt", [f"{KEY}a", f"{KEY}b"])
    assert decrypt["Condition"] == {"StringLike": {"kms:ViaService": "secretsmanager.*.amazonaws.com"}}
    for bus in ("outcomes", BUS):
        assert statements(role, OutcomeEventBus=bus)["PublishOutcomes"]["Resource"] == BUS


@pytest.mark.parametrize("boundary", ["", BOUNDARY])
def test_permissions_boundary(boundary: str) -> None:
    """Every role of the stack has the boundary, if one is given."""
    roles = of_type("AWS::IAM::Role", PermissionsBoundaryArn=boundary)
    found = {name: each.get("PermissionsBoundary", "") for name, each in roles.items()}

    assert found == dict.fromkeys([*ROLES, "SweepScheduleRole"], boundary)


@pytest.mark.parametrize(("function", "role"), [*zip(FUNCTIONS, ROLES, strict=True)])
def test_network(function: str, role: str) -> None:
    """Both functions are in the subnets, Lambda may make interfaces there, and both know the proxy."""
    vpc = {"VpcSubnetIds": "subnet-1,subnet-2", "VpcSecurityGroupIds": "sg-1"}
    variables = at(f"{function}.Environment.Variables", ProxyUrl="http://proxy:3128", NoProxy=".example.com")

    assert at(f"{function}.VpcConfig") is None
    assert list(at(f"{function}.VpcConfig", **vpc).values()) == [["subnet-1", "subnet-2"], ["sg-1"]]
    assert statements(role, **vpc).keys() >= {"ManageNetworkInterfaces", "FindNetworkInterfaces"}
    assert not list(values(deployed(**vpc), "ManagedPolicyArns"))
    assert (variables["HTTPS_PROXY"], variables["NO_PROXY"]) == ("http://proxy:3128", ".example.com")


@pytest.mark.parametrize(
    ("partition", "domain"),
    [
        ("aws", "console.aws.amazon.com"),
        ("aws-cn", "console.amazonaws.cn"),
        ("aws-us-gov", "console.amazonaws-us-gov.com"),
        ("aws-iso", "console.aws.amazon.com"),
    ],
)
def test_links_follow_the_partition(partition: str, domain: str) -> None:
    """Links lead to the console of China or GovCloud there; elsewhere they fail no deployment."""
    for name in ("DashboardUrl", "AlarmsUrl", "LogsInsightsUrl"):
        link = expanded(partition)["Outputs"][name]["Value"]
        assert str(link).startswith(f"https://us-east-1.{domain}/cloudwatch/home?region=us-east-1#"), link
