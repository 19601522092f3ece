# ruff: noqa: PLC0415 - one process has one kind of instrumentation
"""What holds under instrumentation; test_instrumentation.py runs this in a process for each kind."""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from conftest import FLOW_SID, Function, sample

from end_conversation import app, sweep
from local import samples
from local.aws import Aws
from local.signing import SECRET, renewed
from local.studio import Studio


def opentelemetry() -> Callable[[], list[str]]:
    """Instrument as OpenTelemetry's layer does; returns a function that lists the spans so far."""
    from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor
    from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for instrumentor in (BotocoreInstrumentor(), ThreadingInstrumentor(), URLLib3Instrumentor()):
        instrumentor.instrument(tracer_provider=provider)
    return lambda: [span.name for span in exporter.get_finished_spans()]


def xray() -> Callable[[], list[str]]:
    """Patch as the X-Ray SDK does in Lambda; returns a function that lists the subsegments so far."""
    os.environ["LAMBDA_TASK_ROOT"] = "/var/task"
    os.environ["_X_AMZN_TRACE_ID"] = (
        "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    )
    from aws_xray_sdk.core import patch_all, xray_recorder

    names: list[str] = []

    class Emitter:
        def send_entity(self, entity: Any) -> None:
            names.append(entity.name)

    xray_recorder.configure(emitter=Emitter())
    patch_all()
    return lambda: names


KIND = os.environ["INSTRUMENTATION"]
spans = {"opentelemetry": opentelemetry, "xray": xray}[KIND]()


def test_batch(function: Function, studio: Studio) -> None:
    """Ten of ten messages succeed, and requests to AWS and Twilio are traced."""
    record = sample("sqs")["Records"][0]
    commands = [{"flow_sid": FLOW_SID, "execution_sid": studio.seed(FLOW_SID).sid} for _ in range(10)]
    before = len(spans())

    records = [record | {"messageId": f"m{n}", "body": json.dumps(c)} for n, c in enumerate(commands)]
    answer = function({"Records": records})

    assert answer == {"batchItemFailures": []}
    assert not list(studio.executions.all("active"))
    traced = spans()[before:]
    if KIND == "opentelemetry":
        assert traced.count("Secrets Manager.GetSecretValue") == 1
        assert traced.count("POST") == 10
    else:
        # The X-Ray SDK does not know urllib3.
        assert traced == ["secretsmanager"]


@pytest.mark.parametrize(
    "name", ["http", "http-contact", "webhook", "source-zendesk", "eventbridge", "direct", "sweep"]
)
def test_samples(
    function: Function, studio: Studio, moto: Aws, environment: pytest.MonkeyPatch, name: str
) -> None:
    """An event of any trigger ends its Executions, after a failure, a throttling and a lost connection."""
    environment.setenv("WEBHOOK_SECRET_ID", "webhooks")
    moto.put_secret("webhooks", SECRET)
    event = renewed(sample(name))
    to_end, _ = samples.seed(studio, event)
    function.handler = sweep.handler if samples.is_sweep(event) else app.handler
    for fault in ({"status": 500}, {"status": 429}, {"broken": "reset"}):
        studio.fail(**fault)

    function(event)

    assert {one.status for one in to_end} == {"ended"}
