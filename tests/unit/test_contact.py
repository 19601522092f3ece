"""Ending by contact: which Executions, and never one that began after the event."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import FLOW_SID, Function, sample

from end_conversation.errors import ExecutionNotFound, InvalidRequest, TwilioError, TwilioTimeout
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


def by_every_trigger(command: Any, time: datetime) -> dict[str, Any]:
    """The command as every trigger brings it, sent at a time; a direct invocation has none."""
    milliseconds = int(time.timestamp() * 1000)
    http, rest, event, sqs = (sample(name) for name in ("http", "http-rest", "eventbridge", "sqs"))
    http["requestContext"]["timeEpoch"] = milliseconds
    rest["requestContext"]["requestTimeEpoch"] = milliseconds
    event |= {"time": rfc3339(time), "detail": command}
    late = str(int(datetime.now(UTC).timestamp() * 1000))
    record = sqs["Records"][0]

    def batch(body: Any, sent_timestamp: str) -> dict[str, Any]:
        attributes = record["attributes"] | {"SentTimestamp": sent_timestamp}
        return {"Records": [record | {"body": json.dumps(body), "attributes": attributes}]}

    return {
        "http": http | {"body": json.dumps(command)},
        "http-rest": rest | {"body": json.dumps(command), "isBase64Encoded": False},
        "eventbridge": event,
        "sqs": batch(command, str(milliseconds)),
        # The rule took its time: what counts is when the event happened.
        "sqs-eventbridge": batch(event, late),
    }


TRIGGERS = list(by_every_trigger(None, EVENT_TIME))


def seed(studio: Studio, seconds: float = -60, **properties: Any) -> str:
    """An Execution of the contact, created so many seconds after the event."""
    properties = {"contact": CONTACT, "date_created": EVENT_TIME + timedelta(seconds=seconds)} | properties
    return studio.seed(FLOW_SID, **properties).sid


def active(studio: Studio) -> set[str]:
    return {one.sid for one in studio.executions.all("active") if one.flow_sid == FLOW_SID}


def ended(result: dict[str, Any]) -> set[str]:
    return {execution["sid"] for execution in result["executions"]}


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize(
    ("sent", "occurred_at"),
    [
        pytest.param(0, None, id="the trigger's own time"),
        pytest.param(1, 0, id="sent again later: what the caller says"),
        pytest.param(0, 1, id="a caller whose clock is fast"),
    ],
)
def test_what_began_after_the_event_goes_on(
    function: Function, studio: Studio, trigger: str, sent: int, occurred_at: int | None
) -> None:
    """By every trigger the earlier of both times, in hours, is the limit, to the second."""
    seed(studio, -60), seed(studio, 0)
    after = {seed(studio, 1), seed(studio, 60)}
    command = COMMAND
    if occurred_at is not None:
        command = COMMAND | {"occurred_at": rfc3339(EVENT_TIME + timedelta(hours=occurred_at))}
    function(by_every_trigger(command, EVENT_TIME + timedelta(hours=sent))[trigger])
    assert active(studio) == after


@pytest.mark.parametrize("event", [COMMAND, {"detail-type": "EndConversation", "detail": COMMAND}])
def test_without_any_time_it_is_now(function: Function, studio: Studio, event: dict[str, Any]) -> None:
    """Who invokes the function directly has no other time than that."""
    sid = seed(studio)
    assert ended(function(event)) == {sid}


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


def test_an_event_without_a_time_is_about_now(function: Function, studio: Studio) -> None:
    """EventBridge always sends one; whoever invokes the function with less has no other time than that."""
    sid = seed(studio)
    assert ended(function({"detail-type": "EndConversation", "detail": COMMAND})) == {sid}


def test_an_event_with_a_senseless_time_is_refused(function: Function, studio: Studio) -> None:
    """Without knowing when it happened, nobody knows what it is about."""
    seed(studio)
    with pytest.raises(InvalidRequest, match=r"^time must be an RFC 3339 date-time$"):
        function(sample("eventbridge") | {"detail": COMMAND, "time": "yesterday"})
    assert not studio.requests


def test_only_the_contacts_own_are_ended(function: Function, studio: Studio) -> None:
    """Addresses match as a whole and exactly, in this Flow."""
    mine = {seed(studio), seed(studio)}
    for other in (OTHER, CONTACT.upper(), CONTACT + "0", " " + CONTACT, CONTACT[:-1]):
        seed(studio, contact=other)
    elsewhere = studio.seed("FW" + "2" * 32, contact=CONTACT)
    assert ended(function(COMMAND)) == mine
    assert studio.executions.get(elsewhere.flow_sid, elsewhere.sid).status == "active"


def test_an_unknown_flow_is_not_found(function: Function) -> None:
    """Twilio's 404 of the list."""
    with pytest.raises(ExecutionNotFound):
        function(COMMAND)


def test_the_server_is_asked_for_no_more_than_needed(function: Function, studio: Studio) -> None:
    """Active ones only, up to now (what began after the event tells a near miss), in the largest pages."""
    seed(studio)
    function(by_every_trigger(COMMAND, EVENT_TIME)["eventbridge"])
    (listing, _) = studio.requests
    query = dict(listing.query)
    asked = datetime.fromisoformat(query.pop("DateCreatedTo")).timestamp()
    assert (query, listing.form) == ({"status": "active", "PageSize": "1000"}, {})
    assert 0 <= asked - listing.time <= 1


def test_a_time_before_the_calendar_of_some_is_a_time(function: Function, studio: Studio) -> None:
    """Years have four digits, also the first one; nothing is that old."""
    seed(studio)
    assert ended(function(COMMAND | {"occurred_at": "0001-01-01T00:00:00Z"})) == set()


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
REPEATED = "Twilio repeats a page of the list"


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
    """What cannot be read, or has more and no way to it, is not taken for a short list."""
    studio.executions.add_flow(FLOW_SID)
    studio.fail(method="GET", status=200, body=body, times=None)
    with pytest.raises(TwilioError, match=f"^{message}$"):
        function(COMMAND)
    assert len(studio.requests) <= 3


def test_all_pages_are_read_before_anything_is_ended(
    function: Function, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ending shifts the pages: who ends while reading leaves some out."""
    monkeypatch.setattr(active_module, "PAGE_SIZE", 10)
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


def test_a_list_that_shrinks_to_one_page(function: Function, studio: Studio) -> None:
    """There was more, without a date to go on from; now the rest fits one page."""
    sid = seed(studio)
    studio.fail(method="GET", status=200, body=page(next_page_url="?PageToken=PAabc"))
    assert ended(function(COMMAND)) == {sid}


def test_several_are_ended_at_once(function: Function, studio: Studio) -> None:
    """One contact's Executions take as long as the slowest of them."""
    for _ in range(8):
        seed(studio)
    studio.fail(method="POST", delay=0.3, times=None)
    function(COMMAND)
    assert studio.max_in_flight == 8


@pytest.mark.parametrize(
    ("faults", "status", "code"),
    [
        ([{"status": 429, "headers": {"Retry-After": "3600"}}, {"status": 500}], 502, "twilio_error"),
        ([{"status": 429, "headers": {"Retry-After": "3600"}}, {"status": 403}], 502, "credentials_rejected"),
        ([{"status": 500}, {"status": 403}], 502, "credentials_rejected"),
        ([{"status": 429, "headers": {"Retry-After": "3600"}}], 503, "twilio_throttled"),
    ],
)
def test_the_worst_failure_speaks_for_all(
    function: Function,
    studio: Studio,
    faults: list[dict[str, Any]],
    status: int,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its status and code, what was ended, and what failed and why; asking again ends the rest."""
    monkeypatch.setattr(account_module, "MAX_ATTEMPTS", 1)
    sids = {seed(studio) for _ in range(3)}
    for fault in faults:
        studio.fail(method="POST", **fault)
    answer = function(by_every_trigger(COMMAND, EVENT_TIME)["http"])
    problem = json.loads(answer["body"])
    assert (answer["statusCode"], problem["status"], problem["code"]) == (status, status, code)
    assert problem["request_id"] == sample("http")["requestContext"]["requestId"]
    failed = {item["sid"]: item["code"] for item in problem["failed"]}
    assert code in failed.values()
    assert len(failed) == len(faults)
    assert ended(problem) | failed.keys() == sids
    assert ended(function(COMMAND)) == failed.keys()


def test_the_longest_retry_after_is_told(
    function: Function, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several that Twilio throttled: asking again earlier would be too early for one of them."""
    monkeypatch.setattr(account_module, "MAX_ATTEMPTS", 1)
    for seconds in ("7", "30", "9"):
        seed(studio)
        studio.fail(method="POST", status=429, headers={"Retry-After": seconds})
    assert (
        function(by_every_trigger(COMMAND, EVENT_TIME)["http"], seconds=6)["headers"]["retry-after"] == "30"
    )


def test_each_execution_is_counted_and_named(
    function: Function, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two over, one not: three outcomes, and one log line with the SIDs of both kinds."""
    monkeypatch.setattr(account_module, "MAX_ATTEMPTS", 1)
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


def test_a_message_that_was_done_in_part_comes_again(
    function: Function, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQS delivers it again, and the rest is ended then."""
    monkeypatch.setattr(account_module, "MAX_ATTEMPTS", 1)
    seed(studio), seed(studio)
    studio.fail(method="POST", status=500)
    event = by_every_trigger(COMMAND, EVENT_TIME)["sqs"]
    assert function(event)["batchItemFailures"]
    assert function(event) == {"batchItemFailures": []}
    assert not active(studio)


def test_what_is_gone_by_then_is_no_failure(function: Function, studio: Studio) -> None:
    """Somebody deleted it between the list and its turn."""
    seed(studio), seed(studio)
    studio.fail(method="POST", status=404)
    assert len(ended(function(COMMAND))) == 1
    assert function.metrics == {"ExecutionsEnded": 1}


def test_a_list_that_is_too_long_for_the_time_is_a_clear_error(
    function: Function, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is ended by halves: the answer is twilio_timeout, in time."""
    monkeypatch.setattr(active_module, "PAGE_SIZE", 1)
    for _ in range(50):
        seed(studio)
    function(COMMAND | {"contact": OTHER})
    studio.fail(method="GET", delay=0.1, times=None)
    with pytest.raises(TwilioTimeout):
        function(COMMAND, seconds=1.2)
    assert len(active(studio)) == 50


def test_ten_contacts_of_a_batch_share_a_list_and_no_threads(function: Function, studio: Studio) -> None:
    """Records and Executions have threads of their own: neither can use up the other's."""
    contacts = [f"+1500555{n:04}" for n in range(10)]
    for contact in contacts * 3:
        seed(studio, contact=contact)
    record = by_every_trigger(COMMAND, EVENT_TIME)["sqs"]["Records"][0]
    records = [
        record | {"messageId": f"message-{n}", "body": json.dumps(COMMAND | {"contact": contact})}
        for n, contact in enumerate(contacts)
    ]
    assert function({"Records": records}) == {"batchItemFailures": []}
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
