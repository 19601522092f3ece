"""A handler as people write it today: Twilio's SDK, boto3 and Powertools' metrics."""

import json
import os

import boto3
from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from twilio.rest import Client

metrics = Metrics(namespace="EndConversation", service="end-conversation")

secrets_manager = boto3.client("secretsmanager")
secret = json.loads(secrets_manager.get_secret_value(SecretId=os.environ["TWILIO_SECRET_ID"])["SecretString"])
client = Client(secret["apiKeySid"], secret["apiKeySecret"], secret["accountSid"])
client.studio.base_url = os.environ["TWILIO_STUDIO_BASE_URL"]


def end_execution(command: dict) -> dict:
    """End the Execution that a command names."""
    flow = client.studio.v2.flows(command["flow_sid"])
    execution = flow.executions(command["execution_sid"]).update(status="ended")
    metrics.add_metric(name="ExecutionsEnded", unit=MetricUnit.Count, value=1)
    return {
        "flow_sid": execution.flow_sid,
        "executions": [
            {
                "sid": execution.sid,
                "status": execution.status,
                "date_created": execution.date_created.isoformat(),
                "date_updated": execution.date_updated.isoformat(),
            }
        ],
    }


@metrics.log_metrics
def handler(event: dict, context: LambdaContext) -> dict:
    """End the Executions that an SQS batch or a direct invocation names."""
    if "Records" not in event:
        return end_execution(event)
    failures = []
    for record in event["Records"]:
        try:
            end_execution(json.loads(record["body"]))
        except Exception:
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}
