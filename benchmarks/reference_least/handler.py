"""The least code that does the job with boto3's Secrets Manager and urllib3, its metric printed by hand."""

import json
import os
import time

import boto3
import urllib3

secrets_manager = boto3.client("secretsmanager")
secret = json.loads(secrets_manager.get_secret_value(SecretId=os.environ["TWILIO_SECRET_ID"])["SecretString"])
headers = urllib3.make_headers(basic_auth=f"{secret['apiKeySid']}:{secret['apiKeySecret']}")
http = urllib3.PoolManager()


def end_execution(command: dict) -> dict:
    """End the Execution that a command names."""
    url = (
        f"{os.environ['TWILIO_STUDIO_BASE_URL']}/v2/Flows/{command['flow_sid']}"
        f"/Executions/{command['execution_sid']}"
    )
    answer = http.request("POST", url, fields={"Status": "ended"}, encode_multipart=False, headers=headers)
    if answer.status != 200:
        raise RuntimeError(f"Twilio answered {answer.status}")
    execution = answer.json()
    return {
        "flow_sid": execution["flow_sid"],
        "executions": [{key: execution[key] for key in ("sid", "status", "date_created", "date_updated")}],
    }


def print_metric(ended: int) -> None:
    """Print a metric as CloudWatch reads it from the log."""
    definition = {
        "Namespace": "EndConversation",
        "Dimensions": [["service"]],
        "Metrics": [{"Name": "ExecutionsEnded", "Unit": "Count"}],
    }
    line = {
        "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [definition]},
        "service": "end-conversation",
        "ExecutionsEnded": ended,
    }
    print(json.dumps(line))


def handler(event: dict, context: object) -> dict:
    """End the Executions that an SQS batch or a direct invocation names."""
    if "Records" not in event:
        result = end_execution(event)
        print_metric(1)
        return result
    failures = []
    for record in event["Records"]:
        try:
            end_execution(json.loads(record["body"]))
        except Exception:
            failures.append({"itemIdentifier": record["messageId"]})
    print_metric(len(event["Records"]) - len(failures))
    return {"batchItemFailures": failures}
