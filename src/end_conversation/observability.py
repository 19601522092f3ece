"""The one logger and the one set of metrics.

Log lines are JSON: `message` is a stable identifier, all else is in other keys. Metrics use CloudWatch's
embedded metric format, printed once at the end of an invocation. A process handles one invocation at a time,
so the current metrics are module state; the lock is for that invocation's threads.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import contextmanager
from functools import cache, partial
from threading import RLock
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.exceptions import InvalidLoggerSamplingRateError
from aws_lambda_powertools.metrics import EphemeralMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME") or "end-conversation"
NAMESPACE = os.environ.get("POWERTOOLS_METRICS_NAMESPACE") or "EndConversation"


def _make_logger() -> Logger:
    logging.captureWarnings(capture=True)
    # Powertools writes Unicode unescaped, which fails for lone surrogates; JSON input can contain them.
    serializer = partial(json.dumps, default=str, separators=(",", ":"))
    # Lambda's level filter only reads RFC 3339 times; it takes any other line for INFO:
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
    make = partial(Logger, service=SERVICE, json_serializer=serializer, use_rfc3339=True, utc=True)
    try:
        made = make()
    except (ValueError, InvalidLoggerSamplingRateError):
        # An invalid level or rate. The first request must be able to log; Config rejects the level then.
        made = make(level=logging.INFO, sampling_rate=0.0)
    own = logging.getLogger(SERVICE)
    own.propagate = False
    # Lambda's TRACE is NOTSET here, which would mean the root's level.
    own.setLevel(own.level or logging.DEBUG)
    # Libraries' logs are JSON lines, too, but never DEBUG, which contains secrets in botocore.
    root = logging.getLogger()
    root.handlers = [*own.handlers]
    for library in (root, logging.getLogger("botocore")):
        library.setLevel(logging.WARNING)
    # Its warnings quote responses.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    return made


logger = _make_logger()

# Powertools prints metrics to the same stream as log lines, in two writes: no line may come between.
_lock = logger.registered_handler.lock or RLock()


@cache
def _metrics_of(trigger: str) -> EphemeralMetrics:
    # Powertools flushes at 100 values and then drops dimensions from add_dimension; defaults stay.
    return EphemeralMetrics(namespace=NAMESPACE, service=SERVICE, default_dimensions={"trigger": trigger})


_current: EphemeralMetrics | None = None


@contextmanager
def metrics_of(trigger: str) -> Iterator[None]:
    """Collect the metrics of one invocation by this trigger, and print them at the end in any case."""
    global _current  # noqa: PLW0603 - one invocation at a time, see above
    _current = metrics = _metrics_of(trigger)
    try:
        yield
    finally:
        with _lock:
            if metrics.metric_set:
                metrics.flush_metrics()


@contextmanager
def without_metrics() -> Iterator[None]:
    """Collect no metrics in this block."""
    global _current  # noqa: PLW0603 - as above
    metrics, _current = _current, None
    try:
        yield
    finally:
        _current = metrics


def count(metric: str, value: int = 1) -> None:
    """Add to a metric of the unit Count."""
    _add(metric, "Count", value)


def observe_milliseconds(metric: str, value: float) -> None:
    """Add one value to a metric of the unit Milliseconds."""
    _add(metric, "Milliseconds", value)


def _add(metric: str, unit: str, value: float) -> None:
    with _lock:
        if _current is not None:
            _current.add_metric(metric, unit, value)
