"""Each alarm is fired by a real event, as soon as docs/operations.md says: simulations of the metrics."""

import re
from itertools import product

import pytest
from cloudwatch import MINUTE, Alarm, Series, minutes_until_on, times_on
from stack import ROOT, at, of_type

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
ALARMS = {name: Alarm.of(each) for name, each in of_type("AWS::CloudWatch::Alarm").items()}
LONG = 90 * MINUTE

REPORTED_AFTER = MINUTE
"""Seconds until CloudWatch has a value: Lambda, SQS and API Gateway send theirs once a minute."""

SLEEPING = 15 * MINUTE
"""The most seconds until the first value of a queue that nothing polls and that was empty for six hours.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/monitoring-using-cloudwatch.html
"""

RECEIVES_IN_AGE = 3
"""Receives after which ApproximateAgeOfOldestMessage leaves a message out, redrive policy or not.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
"""

LONG_POLL = 20
"""The most seconds until Lambda's poller notices a visible message."""

BETWEEN_TRIES = at("Queue.VisibilityTimeout") + LONG_POLL
TRY = at("EndConversationFunction.Timeout")


def every(seconds: float, until: float = LONG, begin: float = 0) -> Series:
    """A value of one, again and again."""
    return [(begin + n * seconds, 1) for n in range(int((until - begin) / seconds))]


ONE_FAILING_MESSAGE = every(BETWEEN_TRIES, begin=TRY)
"""The only message of a stack fails whenever it is tried, each time as late as it can."""

ONCE: Series = [(0, 1)]
EVENTS = {
    "FunctionThrottledAlarm": every(MINUTE),
    "QueueAgeAlarm": [(n * MINUTE, n * MINUTE) for n in range(60)],
    "DeadLetterQueueAlarm": every(MINUTE, begin=SLEEPING),
    "OnFailureQueueAlarm": every(MINUTE, begin=SLEEPING),
    "StaleCredentialsAlarm": every(3 * MINUTE),
    "TwilioErrorsAlarm": ONE_FAILING_MESSAGE,
    "TwilioTimeoutsAlarm": ONE_FAILING_MESSAGE,
    "TwilioThrottledAlarm": ONE_FAILING_MESSAGE,
    "NearMissesAlarm": every(10 * MINUTE),
    "StuckExecutionsAlarm": [(0, 101)],
    "HttpApi5xxAlarm": every(30),
}
"""What fires each alarm; a single value if it is not listed."""

HARMLESS = {
    "FunctionThrottledAlarm": every(MINUTE, 5 * MINUTE),
    "QueueAgeAlarm": [(n * MINUTE, n * MINUTE) for n in range(15)],
    "StaleCredentialsAlarm": ONCE,
    "TwilioErrorsAlarm": [(0, 5)],
    "TwilioTimeoutsAlarm": [(0, 5)],
    "TwilioThrottledAlarm": every(30, 5 * MINUTE),
    "NearMissesAlarm": every(31 * MINUTE),
    "StuckExecutionsAlarm": [(0, 100)],
    "HttpApi5xxAlarm": every(MINUTE, LONG),
}


@pytest.mark.parametrize(
    ("points", "periods", "datapoints", "is_on"),
    [
        ("0 - X - X", 3, 3, False),
        ("0 - - - -", 3, 3, False),
        ("- - - - -", 3, 3, False),
        ("0 X X - X", 3, 3, True),
        ("- - - - X", 3, 3, False),
        ("X - - - -", 3, 3, False),
        ("0 - X - X", 3, 2, True),
        ("0 0 X 0 X", 3, 2, True),
        ("0 - X - -", 3, 2, False),
        ("- - - - 0", 3, 2, False),
        ("- - - - X", 3, 2, False),
    ],
)
def test_alarms_are_evaluated_as_aws_says(points: str, periods: int, datapoints: int, *, is_on: bool) -> None:
    """The simulation agrees with AWS's tables of examples, in the column for notBreaching.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
    """
    values = {"0": 0.0, "X": 1.0, "-": None}
    alarm = Alarm(MINUTE, periods, datapoints, threshold=0, statistic="Sum")

    assert alarm.is_breached([values[point] for point in reversed(points.split())]) is is_on


def test_every_alarm_has_its_event() -> None:
    """There is no alarm without an event that fires it, after the minutes that docs/operations.md says."""
    documented = re.findall(r"^### (\w+)\n\n\*Within (\d+) minutes, ", OPERATIONS, re.MULTILINE)

    assert {name: int(minutes) for name, minutes in documented} == {
        name: minutes_until_on(alarm, EVENTS.get(name, ONCE), REPORTED_AFTER, LONG)
        for name, alarm in ALARMS.items()
    }


@pytest.mark.parametrize("name", HARMLESS)
def test_alarms_stay_silent_for_less(name: str) -> None:
    """Brief or small disturbances fire nothing."""
    assert minutes_until_on(ALARMS[name], HARMLESS[name], REPORTED_AFTER, LONG) is None


@pytest.mark.parametrize("failures", [*product(("TwilioErrorsAlarm", "TwilioTimeoutsAlarm"), repeat=3)])
def test_an_outage_raises_an_alarm_within_ten_minutes(failures: tuple[str, ...]) -> None:
    """Whether Twilio fails or hangs, in any order: one message in the queue is enough for an alarm."""
    minutes = []
    for name in set(failures):
        series = [ONE_FAILING_MESSAGE[n] for n, kind in enumerate(failures) if kind == name]
        minutes.append(minutes_until_on(ALARMS[name], series, REPORTED_AFTER, LONG))

    assert min(each for each in minutes if each is not None) <= 10


def test_the_age_of_messages_does_not_show_an_outage() -> None:
    """QueueAgeAlarm stays silent while every message fails: none is in the metric after its third receive."""
    last_in_age = (RECEIVES_IN_AGE - 1) * BETWEEN_TRIES
    series = [(n * MINUTE, min(n * MINUTE, last_in_age)) for n in range(LONG // MINUTE)]

    assert minutes_until_on(ALARMS["QueueAgeAlarm"], series, REPORTED_AFTER, LONG) is None


@pytest.mark.parametrize("name", ["TwilioErrorsAlarm", "TwilioTimeoutsAlarm", "TwilioThrottledAlarm"])
def test_the_end_of_an_outage_ends_the_alarm(name: str) -> None:
    """The alarm ends half an hour after the last failure at the latest."""
    last = max(time for time, _ in ONE_FAILING_MESSAGE)
    on = list(times_on(ALARMS[name], ONE_FAILING_MESSAGE, REPORTED_AFTER, 2 * LONG))

    assert last < max(on) < last + 30 * MINUTE


def test_near_misses_by_chance_raise_no_alarm() -> None:
    """docs/operations.md says how often strangers' numbers are close, and how often three in an hour."""
    share = 100_000 / (10**8 * 8)
    expected = 800 * share

    assert f"once in {1 / share:,.0f} commands" in OPERATIONS
    assert f"once in {1 / (expected**3 / 6):,.0f} hours" in OPERATIONS
    assert (ALARMS["NearMissesAlarm"].period, ALARMS["NearMissesAlarm"].threshold) == (60 * MINUTE, 2)
