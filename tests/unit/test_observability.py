"""Log lines that Lambda can filter, and which variables of Powertools and boto3 have an effect."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FLOW_SID, Function

from end_conversation.aws.clients import client
from local.studio import Studio

# https://www.rfc-editor.org/rfc/rfc3339#section-5.6
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")


def test_timestamps(function: Function, studio: Studio) -> None:
    """Every line's is RFC 3339, a library's too: Lambda's filter takes a line with another for INFO."""
    studio.before = lambda _: logging.getLogger("library").warning("careful")
    function({"flow_sid": FLOW_SID, "execution_sid": studio.seed(FLOW_SID).sid})
    assert [line["message"] for line in function.logs] == ["careful", "conversation_ended"]
    assert all(RFC_3339.fullmatch(line["timestamp"]) for line in function.logs)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("TZ", "Asia/Tokyo", ["INFO", "WARNING", "metric"]),
        ("POWERTOOLS_LOG_LEVEL", "WARNING", ["WARNING", "metric"]),
        ("POWERTOOLS_LOG_LEVEL", "LOUD", ["INFO", "WARNING", "metric"]),
        ("AWS_LAMBDA_LOG_LEVEL", "TRACE", ["INFO", "WARNING", "metric"]),
        ("AWS_LAMBDA_LOG_LEVEL", "WARN", ["WARNING", "metric"]),
        ("POWERTOOLS_LOGGER_SAMPLE_RATE", "often", ["INFO", "WARNING", "metric"]),
        ("POWERTOOLS_METRICS_DISABLED", "true", ["INFO", "WARNING"]),
        ("POWERTOOLS_DEV", "true", ["INFO", "WARNING"]),
    ],
)
def test_powertools_variables(variable: str, value: str, expected: list[str]) -> None:
    """Some change what is printed, none the form; an invalid one leaves the first request its log."""
    code = """
from end_conversation.observability import count, logger, metrics_of
with metrics_of("http"):
    logger.info("one")
    logger.warning("two")
    count("ExecutionsEnded")
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), variable: value}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    lines = [json.loads(line) for line in printed.stdout.splitlines()]
    assert [line.get("level", "metric") for line in lines] == expected
    assert all(RFC_3339.fullmatch(line["timestamp"]) for line in lines if "level" in line)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "https://secretsmanager.us-east-1.amazonaws.com"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "http://127.0.0.1:1"),
        ({"AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://127.0.0.1:2"}, "http://127.0.0.1:2"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "https://secretsmanager-fips.us-east-1.amazonaws.com"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://secretsmanager.us-east-1.api.aws"),
        (
            {"AWS_MAX_ATTEMPTS": "9", "AWS_RETRY_MODE": "adaptive", "AWS_DEFAULTS_MODE": "mobile"},
            "https://secretsmanager.us-east-1.amazonaws.com",
        ),
    ],
)
def test_boto3_variables(environment: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    """Those for endpoints work; timeouts and tries are the function's own, whatever the environment says."""
    environment.delenv("AWS_ENDPOINT_URL_SECRETS_MANAGER")
    for name, value in variables.items():
        environment.setenv(name, value)
    meta = client("secretsmanager").meta
    assert meta.endpoint_url == expected
    assert meta.config.retries == {"total_max_attempts": 2, "mode": "standard"}
    assert (meta.config.connect_timeout, meta.config.read_timeout) == (1.0, 2.0)
