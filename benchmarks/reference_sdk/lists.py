"""Handlers that list Executions, as people write them today: loops with Twilio's SDK."""

import json
from datetime import UTC, datetime, timedelta

from aws_lambda_powertools.utilities.typing import LambdaContext
from handler import client


def end_contact(command: dict) -> dict:
    """End the active Executions of a contact."""
    executions = client.studio.v2.flows(command["flow_sid"]).executions
    found = [
        execution
        for execution in executions.stream(status="active", page_size=1000)
        if execution.contact_channel_address == command["contact"]
    ]
    return {"executions": [{"sid": execution.update(status="ended").sid} for execution in found]}


def handler(event: dict, context: LambdaContext) -> dict:
    """End what an SQS batch or a direct invocation names, or the stuck Executions of some Flows."""
    if "Records" in event:
        for record in event["Records"]:
            end_contact(json.loads(record["body"]))
        return {"batchItemFailures": []}
    if "contact" in event:
        return end_contact(event)
    until = datetime.now(UTC) - timedelta(minutes=event["older_than_minutes"])
    for flow_sid in event["flow_sids"]:
        executions = client.studio.v2.flows(flow_sid).executions
        for execution in executions.list(status="active", date_created_to=until, page_size=1000):
            execution.update(status="ended")
    return {"complete": True}
