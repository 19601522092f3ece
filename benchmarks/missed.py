"""Which Executions a list misses while others end: the function's, and a loop with Twilio's SDK."""

import json
import random
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from twilio.rest import Client

from benchmarks.trees import ROOT
from local.studio import ACCOUNT_SID, API_KEY, Latency, Studio

FLOW_SID = "FW" + "1" * 32
ACTIVE = 5000


class Case(NamedTuple):
    """A list by `offset` or `cursor`, while `rate` Executions end each second."""

    seed: int
    paging: Any
    rate: int
    is_sdk: bool


def share(case: Case) -> float:
    """The share that a list missed of the Executions that stayed active."""
    numbers = random.Random(case.seed)  # noqa: S311 - repeatable, not secret
    with Studio(paging=case.paging, latency=Latency()) as studio:
        now = datetime.now(UTC)
        active = [
            studio.seed(
                FLOW_SID, contact=f"+1500{n:07}", date_created=now - timedelta(days=3 * numbers.random())
            )
            for n in range(ACTIVE)
        ]
        stop = threading.Event()

        def change() -> None:
            while not stop.wait(numbers.expovariate(case.rate)):
                studio.executions.end(FLOW_SID, active.pop(numbers.randrange(len(active))).sid)

        thread = threading.Thread(target=change)
        thread.start()
        listed = _by_the_sdk(studio) if case.is_sdk else _by_the_function(studio)
        stop.set()
        thread.join()
    return len({one.sid for one in active} - listed) / len(active)


def _by_the_sdk(studio: Studio) -> set[str]:
    client = Client(*API_KEY, ACCOUNT_SID)
    client.studio.base_url = studio.url
    executions = client.studio.v2.flows(FLOW_SID).executions
    return {execution.sid for execution in executions.stream(status="active", page_size=1000)}


def _by_the_function(studio: Studio) -> set[str]:
    sys.path.insert(0, str(ROOT / "src"))
    from end_conversation.aws.secret import Secret  # noqa: PLC0415 - it is not installed
    from end_conversation.deadline import Deadline  # noqa: PLC0415 - as above
    from end_conversation.twilio.account import Account  # noqa: PLC0415 - as above
    from end_conversation.twilio.active import Flow, Window, list_active  # noqa: PLC0415 - as above
    from end_conversation.twilio.credentials import parse_credentials  # noqa: PLC0415 - as above
    from end_conversation.twilio.transport import Connections  # noqa: PLC0415 - as above

    class SecretsManager:
        """Knows one secret."""

        def get_secret_value(self, **_: str) -> dict[str, str]:
            """As boto3's client."""
            names = ("accountSid", "apiKeySid", "apiKeySecret")
            return {"SecretString": json.dumps(dict(zip(names, (ACCOUNT_SID, *API_KEY), strict=True)))}

    secret = Secret(SecretsManager(), "twilio", parse_credentials, 300)
    taken: set[str] = set()
    flow = Flow(Account(secret, Connections(studio.url, 10)), FLOW_SID)
    window = Window(None, int(datetime.now(UTC).timestamp()) + 1)
    list_active(flow, window, lambda items: taken.update(item.sid for item in items), Deadline(60), [])
    return taken
