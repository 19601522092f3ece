"""Ending by contact: which Executions, and never one that began after the event."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import FLOW_SID, Function, in_eventbridge, in_http, in_sqs, sample, status_and_code

from end_conversation.errors import ExecutionNotFound, TwilioError, TwilioTimeout
from end_conversation.twilio import account as account_module
from end_conversation.twilio import active as active_module
from local.studio import Studio

CONTACT = "whatsapp:+15005550006"
OTHER = "+15005550006"
# A whole second in the past: what Twilio gives, and what the stand-in keeps.
EVENT_TIME = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
COMMAND = {"flow_sid": FLOW_SID, "contact": CONTACT}


def rfc3339(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def seed(studio: Studio, seconds: float = -60, **properties: Any) -> str:
    """An Execution of the contact, created so many seconds after the event."""
    properties = {"contact": CONTACT, "date_created": EVENT_TIME + timedelta(seconds=seconds)} | properties
    return studio.seed(FLOW_SID, **properties).sid


def active(studio: Studio) -> set[str]:
    return {one.sid for one in studio.executions.all("active") if one.flow_sid == FLOW_SID}


def ended(result: dict[str, Any]) -> set[str]:
    return {execution["sid"] for execution in result["executions"]}


def test_repeated_and_reordered_events_do_no_harm(function: Function, studio: Studio) -> None:
    """The first conversation's event comes again after the second began, and after the second's own."""
    first_over, second_over = EVENT_TIME, EVENT_TIME + timedelta(minutes=10)
    first, second, third = seed(studio, -60), seed(studio, 60), seed(studio, 900)
    events = [COMMAND | {"occurred_at": rfc3339(over)} for over in (first_over, second_over)]
    assert ended(function(events[0])) == {first}
    assert ended(function(events[0])) == set()
    assert ended(function(events[1])) == {second}
    assert ended(function(events[0])) == set()
    assert active(studio) == {third}


def test_only_the_contacts_own_are_ended(function: Function, studio: Studio) -> None:
    """Addresses match as a whole and exactly, in this Flow."""
    mine = {seed(studio), seed(studio)}
    for other in (OTHER, CONTACT.upper(), CONTACT + "0", " " + CONTACT, CONTACT[:-1]):
        seed(studio, contact=other)
    elsewhere = studio.seed("FW" + "2" * 32, contact=CONTACT)
    assert ended(function(COMMAND)) == mine
    assert studio.executions.get(elsewhere.flow_sid, elsewhere.sid).status == "active"


def test_an_unknown_flow_is_not_found(function: Function) -> None:
    """Twilio returns 404 for the list."""
    with pytest.raises(ExecutionNotFound):
        function(COMMAND)


def test_the_server_is_asked_for_no_more_than_needed(function: Function, studio: Studio) -> None:
    """Active ones only, up to now (what began after the event may be a near miss), in the largest pages."""
    seed(studio)
    before = time.time()
    function(in_eventbridge(COMMAND, time=rfc3339(EVENT_TIME)))
    (listing, _) = studio.requests
    query = dict(listing.query)
    until = datetime.fromisoformat(query.pop("DateCreatedTo")).timestamp()
    assert (query, listing.form) == ({"status": "active", "PageSize": "1000"}, {})
    assert before < until <= time.time() + 1


def page(*items: Any, next_page_url: Any = None) -> str:
    return json.dumps({"executions": items, "meta": {"next_page_url": next_page_url}})


def item(**changes: Any) -> dict[str, Any]:
    return {
        "sid": "FN" + "9" * 32,
        "flow_sid": FLOW_SID,
        "status": "active",
        "date_created": rfc3339(EVENT_TIME),
        "contact_channel_address": CONTACT,
    } | changes


@pytest.mark.parametrize(
    "wrong",
    [
        item(status="ended"),
        item(flow_sid="FW" + "2" * 32),
        item(contact_channel_address=OTHER),
        item(contact_channel_address=None),
        item(date_created="2999-01-01T00:00:00Z"),
        item(date_created=None),
        item(date_created="recently"),
        item(sid="FN/../../FW"),
        item(sid=None),
        None,
        "FN",
        [],
        {},
    ],
)
def test_what_was_asked_for_is_checked_again(function: Function, studio: Studio, wrong: Any) -> None:
    """An item that the filters should have kept away is not ended; one that comes twice is ended once."""
    sid = seed(studio)
    studio.fail(method="GET", body=page(wrong, item(sid=sid), item(sid=sid)))
    assert ended(function(COMMAND)) == {sid}
    assert [request.path[-34:] for request in studio.requests if request.method == "POST"] == [sid]


@pytest.mark.parametrize("flow", [{}, {"flow_sid": "FW" + "a" * 32}], ids=["none", "lower case"])
def test_what_does_not_say_otherwise_is_of_the_flow(
    function: Function, studio: Studio, flow: dict[str, str]
) -> None:
    """A command may have the Flow in upper case, and an item may leave it out."""
    flow_sid = "FW" + "A" * 32
    sid = studio.seed(flow_sid, contact=CONTACT, date_created=EVENT_TIME).sid
    listed = item(sid=sid) | flow
    if not flow:
        del listed["flow_sid"]
    studio.fail(method="GET", status=200, body=page(listed))
    assert ended(function(COMMAND | {"flow_sid": flow_sid})) == {sid}


NO_LIST = "Twilio returned 200 without a list"
REPEATED = "Twilio repeated a page of the list"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", NO_LIST),
        ("[]", NO_LIST),
        ('{"executions": []}', NO_LIST),
        ('{"executions": {}, "meta": {}}', NO_LIST),
        (page(next_page_url=7), NO_LIST),
        (page(next_page_url="https://["), REPEATED),
        (page(next_page_url="nowhere"), REPEATED),
        (page(next_page_url="/v2?Page=1&PageToken="), REPEATED),
        (page(next_page_url="?PageToken=\ud800"), REPEATED),
        # In circles, which would be read for ever.
        (page(next_page_url="?PageToken=PAabc"), REPEATED),
    ],
)
def test_a_list_that_is_none_is_an_error(function: Function, studio: Studio, body: str, message: str) -> None:
    """A list that cannot be read, or has more and no way to it, does not count as a short one."""
    studio.executions.add_flow(FLOW_SID)
    studio.fail(method="GET", status=200, body=body, times=None)
    with pytest.raises(TwilioError, match=f"^{message}$"):
        function(COMMAND)
    assert len(studio.requests) <= 3


def test_all_pages_are_read_before_anything_is_ended(function: Function, studio: Studio) -> None:
    """Ending an Execution shifts the pages, so that some would be missed."""
    function.patch(active_module, "PAGE_SIZE", 10)
    mine = {seed(studio, -n) for n in range(60, 95)}
    assert ended(function(COMMAND)) == mine
    methods = [request.method for request in studio.requests]
    assert methods == sorted(methods)


def test_credentials_go_only_where_they_belong(function: Function, studio: Studio) -> None:
    """Of the next page's URL nothing is used but the position in the list."""
    sid = seed(studio)
    with Studio() as evil:
        url = f"{evil.url}/v2/Flows/x/Executions?Page=1&PageToken=PAabc&PageSize=5&status=ended&x=y"
        # An empty page that is not the last: Twilio's token is the only way on.
        for _ in range(2):
            studio.fail(method="GET", body=page(next_page_url=url))
        studio.fail(method="GET", status=200, body=page(item(sid=sid)))
        for content in (page(next_page_url=url), page(item(sid=sid))):
            studio.fail(method="GET", status=200, body=content)
        assert ended(function(COMMAND)) == {sid}
        assert not evil.requests
    second = dict(studio.requests[2].query)
    assert studio.requests[2].path == f"/v2/Flows/{FLOW_SID}/Executions"
    assert (second["Page"], second["PageToken"]) == ("1", "PAabc")
    assert (second["PageSize"], second["status"], "x" in second) == ("1000", "active", False)


def test_several_are_ended_at_once(function: Function, studio: Studio) -> None:
    """One contact's Executions take as long as the slowest of them."""
    for _ in range(8):
        seed(studio)
    together = threading.Barrier(8)
    studio.before = lambda request: request.method == "POST" and together.wait(8)
    assert len(ended(function(COMMAND))) == 8


THROTTLED = {"status": 429, "headers": {"Retry-After": "3600"}}


@pytest.mark.usefixtures("one_try")
@pytest.mark.parametrize(
    ("faults", "status", "code"),
    [
        ([THROTTLED, {"status": 500}], 502, "twilio_error"),
        ([THROTTLED, {"status": 403}], 502, "credentials_rejected"),
        ([{"status": 500}, {"status": 403}], 502, "credentials_rejected"),
        ([THROTTLED], 503, "twilio_throttled"),
    ],
)
def test_the_most_serious_failure_is_the_answer(
    function: Function, studio: Studio, faults: list[dict[str, Any]], status: int, code: str
) -> None:
    """Its status and code, what was ended, and what failed and why; asking again ends the rest."""
    sids = {seed(studio) for _ in range(3)}
    for fault in faults:
        studio.fail(method="POST", **fault)
    answer = function(in_http(COMMAND, at=EVENT_TIME))
    problem = json.loads(answer["body"])
    assert (answer["statusCode"], problem["status"], problem["code"]) == (status, status, code)
    assert problem["request_id"] == sample("http")["requestContext"]["requestId"]
    failed = {item["sid"]: item["code"] for item in problem["failed"]}
    assert code in failed.values()
    assert len(failed) == len(faults)
    assert ended(problem) | failed.keys() == sids
    assert ended(function(COMMAND)) == failed.keys()


@pytest.mark.usefixtures("one_try")
def test_the_longest_retry_after_is_handed_on(function: Function, studio: Studio) -> None:
    """Also if it belongs to a less serious failure: asking again earlier would be too early for it."""
    for fault in ({"status": 429, "headers": {"Retry-After": "300"}}, {"status": 401}):
        seed(studio)
        studio.fail(method="POST", **fault)
    function(COMMAND | {"contact": OTHER})
    function.secrets_manager.fail(code="InternalServiceError")
    answer = function(in_http(COMMAND, at=EVENT_TIME))
    assert status_and_code(answer) == (503, "credentials_unavailable")
    assert answer["headers"]["retry-after"] == "300"


@pytest.mark.usefixtures("one_try")
def test_each_execution_is_counted_and_named(function: Function, studio: Studio) -> None:
    """Two over, one not: three outcomes, and one log line with the SIDs of both kinds."""
    for _ in range(3):
        seed(studio)
    studio.fail(method="POST", status=500)
    with pytest.raises(TwilioError):
        function(COMMAND)
    assert function.metrics == {"ExecutionsEnded": 2, "TwilioErrors": 1}
    (line,) = function.logs
    assert (line["code"], line["ended"], line["level"]) == ("twilio_error", 2, "ERROR")
    assert {line["execution_sid"]} == active(studio)
    assert len(set(line["execution_sids"]) - active(studio)) == 2


def test_what_is_gone_by_then_is_no_failure(function: Function, studio: Studio) -> None:
    """Somebody deleted it between the list and its turn."""
    seed(studio), seed(studio)
    studio.fail(method="POST", status=404)
    assert len(ended(function(COMMAND))) == 1
    assert function.metrics == {"ExecutionsEnded": 1}


def test_what_ended_since_the_list_is_a_success(function: Function, studio: Studio) -> None:
    """It was found, and is counted apart."""
    sid = seed(studio)
    studio.before = lambda request: request.method == "POST" and studio.executions.end(FLOW_SID, sid)
    assert ended(function(COMMAND)) == {sid}
    assert function.metrics == {"ExecutionsAlreadyEnded": 1}


def test_a_list_that_is_too_long_for_the_time_is_a_clear_error(function: Function, studio: Studio) -> None:
    """Nothing is ended; the answer is twilio_timeout, in time."""
    function.patch(active_module, "PAGE_SIZE", 1)
    for _ in range(50):
        seed(studio)
    function(COMMAND | {"contact": OTHER})
    studio.fail(method="GET", delay=0.5, times=None)
    with pytest.raises(TwilioTimeout):
        function(COMMAND, seconds=1.4)
    assert len(active(studio)) == 50


def test_ten_contacts_of_a_batch_share_a_list_and_no_threads(function: Function, studio: Studio) -> None:
    """Records and Executions have threads of their own: neither can use up the other's."""
    contacts = [f"+1500555{n:04}" for n in range(10)]
    for contact in contacts * 3:
        seed(studio, contact=contact)
    commands = [COMMAND | {"contact": contact} for contact in contacts]
    assert function(in_sqs(*commands, at=EVENT_TIME)) == {"batchItemFailures": []}
    assert not active(studio)
    assert [request.method for request in studio.requests].count("GET") == 1
    assert studio.max_in_flight <= account_module.CONCURRENCY


@pytest.fixture
def kept(function: Function, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> str:
    """The contact's Execution, in a list that an earlier command made and that is kept."""
    monkeypatch.setattr(active_module, "PAGE_SIZE", 5)
    for number in range(8):
        seed(studio, -3600 + 480 * number, contact=f"+1500555{number:04}")
    sid = seed(studio, -3600)
    function(COMMAND | {"contact": "+15005550003"})
    return sid


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_had_ended_before_is_nothing_found(
    function: Function, studio: Studio, kept: str, *, dry_run: bool
) -> None:
    """The customer may be stuck under another address."""
    studio.executions.end(FLOW_SID, kept)
    seed(studio, contact=OTHER)
    result = function(COMMAND | {"dry_run": dry_run})
    assert (result["executions"], result["near"]) == ([], ["channel"])
    assert function.logs[-1]["message"] == ("dry_run" if dry_run else "nothing_to_end")


@pytest.mark.parametrize("fault", [{}, {"broken": "reset", "carried_out": True, "method": "POST"}])
def test_what_this_command_ended_is_found(
    function: Function, studio: Studio, kept: str, fault: dict[str, Any]
) -> None:
    """Also by a request whose response was lost."""
    if fault:
        studio.fail(**fault)
    assert ended(function(COMMAND)) == {kept}
    assert function(COMMAND)["executions"] == []
