"""When a CloudWatch alarm goes off, given the values of its metric over time.

Alarms look at their metric once a minute, whatever their period, each time at windows that end then:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation-window.html
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

MINUTE = 60
EXTRA_PERIODS = 2
"""Periods that CloudWatch looks back beyond EvaluationPeriods; AWS's examples have five for three."""

Series = Sequence[tuple[float, float]]
"""Values of a metric, each with its time in seconds."""


class Alarm(NamedTuple):
    """The properties that decide when an alarm goes off, which here is above a threshold."""

    period: int
    periods: int
    datapoints: int
    threshold: float
    statistic: str

    @classmethod
    def of(cls, properties: dict[str, Any]) -> "Alarm":
        """Read the properties of an AWS::CloudWatch::Alarm."""
        assert properties["ComparisonOperator"] == "GreaterThanThreshold"
        assert properties["TreatMissingData"] == "notBreaching"
        metric = properties.get("Metrics", [{"Statistic": "Sum"} | properties])[0]
        periods = properties["EvaluationPeriods"]
        return cls(
            metric["Period"],
            periods,
            properties.get("DatapointsToAlarm", periods),
            float(properties["Threshold"]),
            metric.get("Statistic", "Sum"),
        )

    def is_on(self, now: float, series: Series) -> bool:
        """Whether it goes off when it is evaluated now, with what is known by now."""
        ends = (now - n * self.period for n in range(self.periods + EXTRA_PERIODS))
        return self.is_breached([self._datapoint(end, series) for end in ends])

    def is_breached(self, points: Sequence[float | None]) -> bool:
        """Whether these datapoints, the latest first and None for a missing one, are reason enough.

        Of those that exist, the latest count. Only what lacks then counts as missing, and is treated as OK.
        """
        existing = [point for point in points if point is not None][: self.periods]
        return sum(point > self.threshold for point in existing) >= self.datapoints

    def _datapoint(self, end: float, series: Series) -> float | None:
        values = [value for time, value in series if end - self.period < time <= end]
        return (sum(values) if self.statistic == "Sum" else max(values)) if values else None


def times_on(alarm: Alarm, series: Series, reported_after: float, until: float) -> Iterator[float]:
    """The times of evaluations that find the alarm on.

    Args:
        alarm: what is evaluated.
        series: the values of its metric.
        reported_after: seconds until CloudWatch knows a value.
        until: time of the last evaluation.
    """
    for now in range(0, int(until) + 1, MINUTE):
        if alarm.is_on(now, [(time, value) for time, value in series if time + reported_after <= now]):
            yield now


def minutes_until_on(alarm: Alarm, series: Series, reported_after: float, until: float) -> int | None:
    """Whole minutes until the alarm goes off at the latest, from second 0 of the series; None if never."""
    latest = 0
    for phase in range(0, MINUTE, 5):
        later = [(time + phase, value) for time, value in series]
        first = next(times_on(alarm, later, reported_after, until), None)
        if first is None:
            return None
        latest = max(latest, -int(-(first - phase) // MINUTE))
    return latest
