"""A sweep as people write it today: a loop over what Twilio's SDK lists."""

from datetime import UTC, datetime, timedelta

from aws_lambda_powertools.utilities.typing import LambdaContext
from handler import client


def handler(event: dict, context: LambdaContext) -> dict:
    """End the active Executions of some Flows that are older than so many minutes."""
    until = datetime.now(UTC) - timedelta(minutes=event["older_than_minutes"])
    flows = []
    for flow_sid in event["flow_sids"]:
        executions = client.studio.v2.flows(flow_sid).executions
        stuck = executions.list(status="active", date_created_to=until, page_size=1000)
        for execution in stuck:
            execution.update(status="ended")
        flows.append({"flow_sid": flow_sid, "stuck": len(stuck), "ended": len(stuck), "failed": 0})
    return {"dry_run": False, "complete": True, "flows": flows}
