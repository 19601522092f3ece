"""The sweep: what is stuck, what is ended of it, and what is left for the next run."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import FLOW_SID, Context, Function

from end_conversation import stuck
from end_conversation.errors import (
    ConfigurationError,
    CredentialsRejected,
    ExecutionNotFound,
    FlowNotAllowed,
    InvalidRequest,
)
from end_conversation.twilio import active as active_module
from local.studio import Studio

OTHER_FLOW_SID = "FW" + "2" * 32
CONTACT = "+15005550006"


def seed(studio: Studio, number: int, hours: float = 25, flow_sid: str = FLOW_SID) -> set[str]:
    """So many active Executions of this age."""
    created = datetime.now(UTC) - timedelta(hours=hours)
    return {studio.seed(flow_sid, date_created=created - timedelta(seconds=n)).sid for n in range(number)}


def active(studio: Studio) -> set[str]:
    return {one.sid for one in studio.executions.all("active")}


def flow(result: dict[str, Any], flow_sid: str = FLOW_SID) -> dict[str, Any]:
    (found,) = (one for one in result["flows"] if one["flow_sid"] == flow_sid)
    return found


EVENT = {"flow_sids": [FLOW_SID]}


def test_what_is_old_is_ended_and_the_rest_goes_on(sweep: Function, studio: Studio) -> None:
    """By default, a day makes an Execution old."""
    seed(studio, 5)
    young = seed(studio, 5, hours=23)
    assert sweep(EVENT) == {
        "dry_run": False,
        "complete": True,
        "flows": [{"flow_sid": FLOW_SID, "stuck": 5, "ended": 5, "failed": 0}],
    }
    assert active(studio) == young
    assert sweep.metrics == {"StuckExecutions": 5, "ExecutionsEnded": 5}


def test_the_age_is_the_inputs(sweep: Function, studio: Studio) -> None:
    """`older_than_minutes` goes before the environment's; null counts as absent, and a Flow once."""
    seed(studio, 3, hours=1)
    nulls = dict.fromkeys(("limit", "dry_run", "account_sid"))
    result = sweep({"flow_sids": [FLOW_SID, FLOW_SID], "older_than_minutes": 30} | nulls)
    assert [one["ended"] for one in result["flows"]] == [3]


DEFAULT_PAYLOAD = {"detail-type": "Scheduled Event", "resources": []}


@pytest.mark.parametrize(
    "event",
    [
        {},
        DEFAULT_PAYLOAD | {"source": "aws.scheduler", "detail": "{}"},
        DEFAULT_PAYLOAD | {"source": "aws.events", "detail": {}, "time": "1970-01-01T00:00:00Z"},
    ],
)
def test_the_environment_serves_without_input(sweep: Function, studio: Studio, event: dict[str, Any]) -> None:
    """Also on a schedule without an input: then EventBridge and its Scheduler send payloads of their own."""
    sweep.setenv("SWEEP_FLOW_SIDS", f"{FLOW_SID}, {OTHER_FLOW_SID}")
    sweep.setenv("SWEEP_OLDER_THAN_MINUTES", "30")
    seed(studio, 2, hours=1), seed(studio, 3, hours=1, flow_sid=OTHER_FLOW_SID)
    result = sweep(event)
    assert (flow(result)["ended"], flow(result, OTHER_FLOW_SID)["ended"]) == (2, 3)


def test_a_dry_run_only_counts_and_lists_the_oldest(sweep: Function, studio: Studio) -> None:
    """It touches nothing and counts no metric at all, also where it fails."""
    now = datetime.now(UTC).replace(microsecond=0)
    ages = [now - timedelta(hours=25 + n) for n in range(12)]
    sids = [studio.seed(FLOW_SID, date_created=created).sid for created in ages]
    result = sweep({"flow_sids": [FLOW_SID, OTHER_FLOW_SID], "dry_run": True})
    assert (result["dry_run"], result["complete"]) == (True, False)
    oldest = [
        {"sid": sid, "date_created": created.isoformat().replace("+00:00", "Z")}
        for sid, created in list(zip(sids, ages, strict=True))[:1:-1]
    ]
    assert flow(result) == {"flow_sid": FLOW_SID, "stuck": 12, "ended": 0, "failed": 0, "oldest": oldest}
    assert flow(result, OTHER_FLOW_SID)["oldest"] == []
    assert len(active(studio)) == 12
    assert {request.method for request in studio.requests} == {"GET"}
    studio.fail(status=403)
    with pytest.raises(CredentialsRejected):
        sweep(EVENT | {"dry_run": True})
    assert [line["message"] for line in sweep.lines] == ["sweep_failed"]


@pytest.mark.parametrize(("limit", "ended"), [(6, 6), (8, 8), (2.0, 2)])
def test_a_limit_is_for_the_whole_run(sweep: Function, studio: Studio, limit: float, ended: int) -> None:
    """For all Flows together; the result says if it left some out. To JSON Schema 2.0 is an integer."""
    seed(studio, 4), seed(studio, 4, flow_sid=OTHER_FLOW_SID)
    result = sweep({"flow_sids": [FLOW_SID, OTHER_FLOW_SID], "limit": limit})
    assert sum(one["ended"] for one in result["flows"]) == ended
    assert [one["stuck"] for one in result["flows"]] == [4, 4]
    assert result["complete"] == (ended == 8)
    assert len(active(studio)) == 8 - ended


def test_the_oldest_are_ended_first(sweep: Function, studio: Studio) -> None:
    """They have blocked their contacts the longest."""
    seed(studio, 3, hours=30)
    younger = seed(studio, 3, hours=26)
    sweep(EVENT | {"limit": 3})
    assert active(studio) == younger


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"flow_sids": []}, "flow_sids must contain at least 1 items"),
        ({"flow_sids": FLOW_SID}, "flow_sids must be an array"),
        ({"flow_sids": [FLOW_SID + "\n"]}, "flow_sids.0 must match pattern ^FW[0-9a-fA-F]{32}$"),
        ({"flow_sids": [FLOW_SID, None]}, "flow_sids.1 is required"),
        (EVENT | {"older_than_minutes": -1}, "older_than_minutes must be bigger than or equal to 0"),
        (EVENT | {"older_than_minutes": "60"}, "older_than_minutes must be an integer"),
        (EVENT | {"older_than_minutes": 1.5}, "older_than_minutes must be an integer"),
        (EVENT | {"older_than_minutes": True}, "older_than_minutes must be an integer"),
        (EVENT | {"older_than_minutes": float("nan")}, "older_than_minutes must be an integer"),
        (
            EVENT | {"older_than_minutes": 10**30},
            "older_than_minutes must be smaller than or equal to 525600",
        ),
        (EVENT | {"limit": 0}, "limit must be bigger than or equal to 1"),
        (EVENT | {"limit": -5}, "limit must be bigger than or equal to 1"),
        (EVENT | {"dry_run": "true"}, "dry_run must be a boolean"),
        (EVENT | {"dry_run": 1}, "dry_run must be a boolean"),
        (EVENT | {"dryrun": True}, "dryrun is unknown"),
        (EVENT | {CONTACT: True}, "a field is unknown"),
        ({"source": "aws.s3", "detail-type": "Scheduled Event"}, "detail-type is unknown; source is unknown"),
        ({}, "flow_sids is required: SWEEP_FLOW_SIDS is empty"),
        ({"flow_sids": None}, "flow_sids is required: SWEEP_FLOW_SIDS is empty"),
        ([], "the payload is not a JSON object"),
        (None, "the payload is not a JSON object"),
        ("sweep", "the payload is not a JSON object"),
        ({"requestContext": {}}, "requestContext is unknown"),
    ],
)
def test_bad_input_touches_nothing(sweep: Function, studio: Studio, event: Any, message: str) -> None:
    """The error names the field and what is wrong with it, before any request to Twilio."""
    seed(studio, 2)
    with pytest.raises(InvalidRequest) as refusal:
        sweep(event)
    assert sorted(str(refusal.value).split("; ")) == message.split("; ")
    assert not studio.requests
    assert sweep.metrics == {"RequestsRejected": 1}


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"SWEEP_FLOW_SIDS": "nonsense"}, "SWEEP_FLOW_SIDS"),
        ({"SWEEP_FLOW_SIDS": f"{FLOW_SID},nonsense"}, "SWEEP_FLOW_SIDS"),
        *(({"SWEEP_OLDER_THAN_MINUTES": age}, "SWEEP_OLDER_THAN_MINUTES") for age in ("a day", "-5", "1.5")),
        (
            {"SWEEP_FLOW_SIDS": "nonsense", "SWEEP_OLDER_THAN_MINUTES": "a day"},
            "SWEEP_FLOW_SIDS and SWEEP_OLDER_THAN_MINUTES",
        ),
    ],
)
def test_an_invalid_environment_is_a_wrong_setting(
    sweep: Function, studio: Studio, environ: dict[str, str], named: str
) -> None:
    """Nothing is swept, not even the valid part of a list; the error names every wrong variable."""
    for name, value in environ.items():
        sweep.setenv(name, value)
    with pytest.raises(ConfigurationError, match=rf"^{named} is invalid$"):
        sweep(EVENT)
    assert not studio.requests


def test_the_list_of_allowed_flows_holds(sweep: Function, studio: Studio) -> None:
    """As for commands; one Flow that is not allowed stops everything before anything is done."""
    sweep.setenv("ALLOWED_FLOW_SIDS", FLOW_SID)
    seed(studio, 2)
    with pytest.raises(FlowNotAllowed):
        sweep({"flow_sids": [FLOW_SID, OTHER_FLOW_SID]})
    assert not studio.requests
    assert flow(sweep(EVENT))["ended"] == 2


def test_a_flow_that_cannot_be_listed_does_not_hold_up_the_others(sweep: Function, studio: Studio) -> None:
    """Its error is in the result, counted and logged; the others are swept."""
    seed(studio, 3)
    result = sweep({"flow_sids": [OTHER_FLOW_SID, FLOW_SID]})
    assert flow(result, OTHER_FLOW_SID)["error"] == "execution_not_found"
    assert flow(result) == {"flow_sid": FLOW_SID, "stuck": 3, "ended": 3, "failed": 0}
    assert result["complete"] is False
    assert sweep.metrics["ExecutionsNotFound"] == 1
    (line,) = [line for line in sweep.logs if line["level"] == "WARNING"]
    assert (line["code"], line["flow_sid"]) == ("execution_not_found", OTHER_FLOW_SID)


@pytest.mark.parametrize("where", ["listing", "ending"])
def test_a_defect_is_reported_like_one_in_the_function(sweep: Function, studio: Studio, where: str) -> None:
    """It costs one Flow or one Execution; the log has the code that the alarm's metric filter counts.

    Its text, which may hold anything, stays out of the log.
    """
    seed(studio, 3), studio.executions.add_flow(OTHER_FLOW_SID)
    name = "list_active" if where == "listing" else "end"
    whole = getattr(stuck, name)
    broken = iter([True])

    def once(*args: Any) -> Any:
        return {}[CONTACT] if next(broken, False) else whole(*args)

    sweep.patch(stuck, name, once)
    result = sweep({"flow_sids": [OTHER_FLOW_SID, FLOW_SID]})
    assert result["complete"] is False
    assert flow(result, OTHER_FLOW_SID).get("error") == ("internal_error" if where == "listing" else None)
    assert (flow(result)["ended"], flow(result)["failed"]) == ((3, 0) if where == "listing" else (2, 1))
    (line,) = [line for line in sweep.logs if line["level"] == "ERROR"]
    assert (line["code"], line["detail"], line["trigger"]) == (
        "internal_error",
        "unexpected KeyError",
        "sweep",
    )
    assert any("stuck.py:" in frame for frame in line["frames"])
    assert CONTACT not in sweep.output


@pytest.mark.parametrize("statuses", [(404, 404), (404, 403), (403, 404)])
def test_if_no_flow_can_be_listed_it_raises(
    sweep: Function, studio: Studio, statuses: tuple[int, int]
) -> None:
    """The failure that every later run will meet, counted once: Lambda's own error metric alarms."""
    for status in statuses:
        studio.fail(status=status)
    with pytest.raises(ExecutionNotFound):
        sweep({"flow_sids": [FLOW_SID, OTHER_FLOW_SID]})
    assert sweep.metrics == {"ExecutionsNotFound": 1}
    assert [line["message"] for line in sweep.logs] == ["sweep_failed"]


@pytest.mark.parametrize(
    ("fault", "code"), [({"status": 500}, "twilio_error"), ({"broken": "hang"}, "twilio_timeout")]
)
@pytest.mark.usefixtures("one_try")
def test_what_was_found_of_a_broken_list_is_ended(
    sweep: Function, studio: Studio, fault: dict[str, Any], code: str
) -> None:
    """A Flow too large for its list makes progress with every run: listing gets half of the time."""
    sweep.patch(active_module, "PAGE_SIZE", 2)
    seed(studio, 6)
    studio.fail(method="GET", delay=0.001)
    studio.fail(method="GET", **fault)
    result = sweep(EVENT, seconds=3)
    assert (result["complete"], flow(result)["error"]) == (False, code)
    assert flow(result)["ended"] == 6 - len(active(studio)) >= 2


@pytest.mark.usefixtures("one_try")
@pytest.mark.parametrize(
    ("fault", "ended", "failed", "metrics"),
    [
        # What will not end is left for the next run; a conflict of an active Execution is no success either.
        ({"status": 500}, 2, 1, {"ExecutionsEnded": 2, "TwilioErrors": 1}),
        ({"status": 409}, 2, 1, {"ExecutionsEnded": 2, "TwilioErrors": 1}),
        # What somebody else ended is counted apart, what is gone is as good as ended.
        ({"status": 409, "carried_out": True}, 3, 0, {"ExecutionsEnded": 2, "ExecutionsAlreadyEnded": 1}),
        ({"status": 404, "times": 2}, 3, 0, {"ExecutionsEnded": 1}),
    ],
)
def test_one_failure_leaves_the_rest(
    sweep: Function, studio: Studio, fault: dict[str, Any], ended: int, failed: int, metrics: dict[str, int]
) -> None:
    """It is counted, and logged with its SID."""
    seed(studio, 3)
    studio.fail(method="POST", **fault)
    result = sweep(EVENT)
    assert flow(result) == {"flow_sid": FLOW_SID, "stuck": 3, "ended": ended, "failed": failed}
    assert result["complete"] == (failed == 0)
    assert sweep.metrics == {"StuckExecutions": 3} | metrics
    lines = [line for line in sweep.logs if line["level"] == "ERROR"]
    assert [line["code"] for line in lines] == ["twilio_error"] * failed
    if failed:
        assert {line["execution_sid"] for line in lines} == active(studio)
        assert flow(sweep(EVENT))["ended"] == failed


def test_concurrency_is_bounded_and_throttling_outlasted(sweep: Function, studio: Studio) -> None:
    """Many at once, and never more than that; with 30% of 429s everything is ended."""
    seed(studio, 200)
    studio.fail(delay=0.1, times=100)
    studio.fail(status=429, share=0.3, times=None)
    result = sweep(EVENT, seconds=60)
    assert (result["complete"], flow(result)["ended"], flow(result)["failed"]) == (True, 200, 0)
    assert stuck.CONCURRENCY // 2 <= studio.max_in_flight <= stuck.CONCURRENCY
    assert not active(studio)


def test_throttling_that_outlasts_the_run_stops_it(sweep: Function, studio: Studio) -> None:
    """Every further request would be refused, too: what was not sent yet is left for the next run."""
    seed(studio, 200)
    studio.fail(method="POST", status=429, headers={"Retry-After": "3600"}, times=None)
    result = sweep(EVENT)
    assert (result["complete"], flow(result)["stuck"], flow(result)["ended"]) == (False, 200, 0)
    assert sweep.metrics["TwilioThrottled"] == flow(result)["failed"]
    assert len(studio.requests) <= 1 + 2 * stuck.CONCURRENCY


def test_it_stops_in_good_time_and_the_next_run_goes_on(sweep: Function, studio: Studio) -> None:
    """A run that its deadline cuts off says so; the next one finishes."""
    seed(studio, 300)
    studio.fail(method="POST", delay=0.2, times=None)
    first = sweep(EVENT, seconds=4)
    assert first["complete"] is False
    assert 0 < flow(first)["ended"] < 300
    assert flow(first)["failed"] == 0
    assert len(active(studio)) == 300 - flow(first)["ended"]
    second = sweep(EVENT, seconds=30)
    assert second["complete"] is True
    assert flow(second)["stuck"] == 300 - flow(first)["ended"]
    assert not active(studio)


def test_it_is_done_before_lambda_is(sweep: Function, studio: Studio) -> None:
    """Twilio hangs when there is still time to begin, and the failure is reported in time."""
    seed(studio, 1)
    studio.fail(method="POST", broken="hang", times=None)
    assert flow(sweep(EVENT, seconds=4))["failed"] == 1


def test_every_ended_execution_is_logged(sweep: Function, studio: Studio) -> None:
    """The log tells which run ended an Execution."""
    sids = seed(studio, 3)
    sweep(EVENT)
    ended = {line["execution_sid"] for line in sweep.logs if line["message"] == "execution_ended"}
    assert ended == sids
    assert {line["flow_sid"] for line in sweep.logs} == {FLOW_SID}
    (summary,) = [line for line in sweep.logs if line["message"] == "flow_swept"]
    told = {"flow_sid": FLOW_SID, "stuck": 3, "ended": 3, "dry_run": False, "trigger": "sweep"}
    assert summary.items() >= told.items()
    assert {line["function_request_id"] for line in sweep.logs} == {Context(0).aws_request_id}
    assert {line["trigger"] for line in sweep.lines} == {"sweep"}
    assert CONTACT not in sweep.output


def test_metrics_beyond_a_hundred_values_keep_their_dimensions(sweep: Function, studio: Studio) -> None:
    """Powertools prints by itself then, more than once: every line has service and trigger."""
    seed(studio, 150)
    sweep(EVENT)
    lines = [line for line in sweep.lines if "_aws" in line]
    assert len(lines) > 1
    for line in lines:
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        assert [sorted(dimensions) for dimensions in directive["Dimensions"]] == [["service", "trigger"]]
    assert sweep.metrics == {"StuckExecutions": 150, "ExecutionsEnded": 150}
