"""Lists of a Flow's active Executions: none missed, in few requests, shared by commands and kept."""

import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import FLOW_SID
from hypothesis import given
from hypothesis import strategies as st

from end_conversation.deadline import Deadline
from end_conversation.errors import TwilioError, TwilioFailure, TwilioTimeout
from end_conversation.twilio import active, listing
from end_conversation.twilio.account import Answer
from end_conversation.twilio.active import Flow, Item, Window, list_active
from end_conversation.twilio.listing import Found, Listings
from local.studio import Execution, Executions

Paging = Literal["offset", "cursor"]
NOW = 1_800_000_000
PAGING: list[Paging] = ["offset", "cursor"]


class Twilio:
    """An account whose requests the stand-in's Executions answer, without a network.

    Attributes:
        executions: what there is.
        queries: of the requests.
        before: called before each request with its query, which it may change.
        order: the Executions of a page in another order.
        paging: how lists are continued.
    """

    def __init__(self, paging: Paging = "offset") -> None:
        self.executions = Executions()
        self.executions.add_flow(FLOW_SID)
        self.queries: list[dict[str, str]] = []
        self.before: Callable[[dict[str, str]], object] = lambda _: None
        self.paging = paging
        self.item_bytes = 1000
        self._lock = threading.Lock()

    def seed(self, *seconds: int, contact: str = "+15005550006") -> list[Execution]:
        """Executions that were created then."""
        return [
            self.executions.add(FLOW_SID, contact=contact, date_created=datetime.fromtimestamp(second, UTC))
            for second in seconds
        ]

    def page(self, query: dict[str, str]) -> tuple[list[Execution], int | None]:
        """A page and the token of the next."""
        start, end = (
            datetime.fromisoformat(query[key]) if key in query else None
            for key in ("DateCreatedFrom", "DateCreatedTo")
        )
        found, following, _ = self.executions.page(
            FLOW_SID,
            status="active",
            created_from=start,
            created_to=end,
            token=int(query.get("PageToken", "0")),
            size=int(query["PageSize"]),
            paging=self.paging,
        )
        return found, following

    def call(self, method: str, path: str, *_: object, repeat_slow: bool) -> Answer:
        """As Account.call."""
        assert (method, repeat_slow) == ("GET", False)
        query = dict(parse_qsl(urlsplit(path).query))
        with self._lock:
            self.queries.append(query)
            self.before(query := dict(query))
            found, following = self.page(query)
        content = {
            "executions": [one.to_dict("") for one in found],
            "meta": {"next_page_url": following and f"https://evil.example/?PageToken={following}&x=y"},
        }
        return Answer(200, content, self.item_bytes * len(found), None, None, 0)


def sids(twilio: Any) -> set[str]:
    """What a listing of everything has."""
    taken: list[Item] = []
    list_active(Flow(twilio, FLOW_SID), Window(None, NOW + 1), taken.extend, Deadline(20), [])
    return {item.sid for item in taken}


def is_active(executions: Iterable[Execution]) -> set[str]:
    return {one.sid for one in executions if one.status == "active"}


@pytest.fixture
def page_of_five(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(active, "PAGE_SIZE", 5)


@st.composite
def flows(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """Ages of Executions, and which of them end before each request."""
    ages = draw(st.lists(st.integers(0, 2) | st.integers(0, 30) | st.integers(0, 10**7), max_size=60))
    ends = st.lists(st.integers(0, max(0, len(ages) - 1)), max_size=4)
    return ages, draw(st.lists(ends, max_size=12))


@pytest.mark.parametrize("paging", PAGING)
@given(flow=flows())
def test_nothing_is_missed(paging: Paging, flow: tuple[list[int], list[list[int]]]) -> None:
    """What stays active is listed, whatever ends and begins between pages; otherwise it is an error.

    It may only be an error where a page is too small for one second.
    """
    ages, ends = flow
    twilio = Twilio(paging)
    executions = twilio.seed(*(NOW - age for age in ages))
    remaining = iter(ends)

    def change(_: object) -> None:
        for index in next(remaining, []):
            if executions and executions[index].status == "active":
                twilio.executions.end(FLOW_SID, executions[index].sid)
        twilio.seed(NOW)

    twilio.before = change
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(active, "PAGE_SIZE", 5)
        try:
            found = sids(twilio)
        except TwilioError:
            assert max(map((ages + [0] * 99).count, ages)) >= 5
        else:
            assert found >= is_active(executions)


def reverse(twilio: Twilio) -> None:
    """Oldest first: the pages of the list that is upside down."""

    def page(query: dict[str, str]) -> tuple[list[Execution], int | None]:
        size, token = int(query["PageSize"]), int(query.get("PageToken", "0"))
        everything, _ = Twilio.page(twilio, query | {"PageSize": "9999", "PageToken": "0"})
        everything.reverse()
        more = token + size < len(everything)
        return everything[token : token + size], token + size if more else None

    twilio.page = page  # type: ignore[method-assign]


def ignore(*filters: str) -> Callable[[Twilio], None]:
    """A server without these filters."""

    def change(twilio: Twilio) -> None:
        twilio.before = lambda query: [query.pop(name, None) for name in filters]

    return change


def shift(name: str, seconds: int) -> Callable[[Twilio], None]:
    """A server that takes the bound of a window to be in or out of it, against its documentation."""

    def change(query: dict[str, str]) -> None:
        if name in query:
            query[name] = active.date_time(int(datetime.fromisoformat(query[name]).timestamp()) + seconds)

    return lambda twilio: setattr(twilio, "before", change)


def cap(twilio: Twilio) -> None:
    """A server with smaller pages than asked for."""
    twilio.before = lambda query: query.update(PageSize=str(min(3, int(query["PageSize"]))))


@pytest.mark.usefixtures("page_of_five")
@pytest.mark.parametrize("paging", PAGING)
@pytest.mark.parametrize(
    "ages",
    [range(40), [7] * 23, [1, 2, *[7] * 23, 8, 9, *range(90, 110)], [1, 2, *[7] * 23], range(0, 4000, 97)],
)
@pytest.mark.parametrize(
    "deviation",
    [
        pytest.param(lambda _: None, id="none"),
        reverse,
        ignore("DateCreatedFrom"),
        ignore("DateCreatedTo"),
        ignore("DateCreatedFrom", "DateCreatedTo"),
        pytest.param(shift("DateCreatedFrom", 1), id="windows that exclude their first second"),
        pytest.param(shift("DateCreatedTo", 1), id="windows that overlap"),
        cap,
    ],
)
def test_other_orders_and_filters(
    paging: Paging, ages: Iterable[int], deviation: Callable[[Twilio], None]
) -> None:
    """Order and filters only count as far as pages show them; what is left is read by Twilio's token."""
    twilio = Twilio(paging)
    executions = twilio.seed(*(NOW - 100 - age for age in ages))
    deviation(twilio)
    assert sids(twilio) == is_active(executions)


@pytest.mark.usefixtures("page_of_five")
@pytest.mark.parametrize("deviation", [reverse, ignore("DateCreatedTo")])
def test_a_list_that_only_tokens_continue_must_stand_still(deviation: Callable[[Twilio], None]) -> None:
    """If something ended in every pass, Twilio may have skipped another: an error, never a silent miss."""
    twilio = Twilio()
    executions = twilio.seed(*range(NOW - 1000, NOW))
    deviation(twilio)
    before = twilio.before
    remaining = iter(executions)

    def end_one(query: dict[str, str]) -> None:
        before(query)
        twilio.executions.end(FLOW_SID, next(remaining).sid)

    twilio.before = end_one
    with pytest.raises(TwilioError, match="kept changing"):
        sids(twilio)


@pytest.mark.parametrize(
    ("number", "requests"), [(0, 1), (1, 1), (1000, 1), (2000, 13), (10_000, 13), (30_000, 45)]
)
def test_few_requests(number: int, requests: int) -> None:
    """One up to a page; where Executions come evenly, at most 1.5 times as many as pages from ten on."""
    twilio = Twilio()
    executions = twilio.seed(*range(NOW - 10 * number, NOW, 10))
    assert sids(twilio) == is_active(executions)
    assert len(twilio.queries) <= requests


TOO_LARGE = TwilioError("too large")
TOO_LARGE.too_large = True


@pytest.mark.parametrize("problem", [TOO_LARGE, TwilioTimeout("too slow")])
def test_what_is_too_large_or_too_slow_is_asked_for_in_smaller_pages(problem: TwilioFailure) -> None:
    """It is asked again at once, and smaller from then on; one Execution too large is an error."""
    twilio = Twilio()
    executions = twilio.seed(*range(NOW - 2000, NOW))

    def fail(largest: int) -> None:
        def before(query: dict[str, str]) -> None:
            if int(query["PageSize"]) > largest:
                raise problem

        twilio.before = before

    fail(300)
    assert sids(twilio) == is_active(executions)
    assert [int(query["PageSize"]) for query in twilio.queries[:2]] == [1000, 250]
    assert {query["PageSize"] for query in twilio.queries[1:]} == {"250"}
    fail(0)
    with pytest.raises(type(problem)):
        sids(twilio)


def test_pages_after_the_first_are_bounded_in_bytes() -> None:
    """Ten are read at a time, and Executions can have large contexts."""
    twilio = Twilio()
    twilio.item_bytes = 20_000
    executions = twilio.seed(*range(NOW - 2000, NOW))
    assert sids(twilio) == is_active(executions)
    assert {int(query["PageSize"]) for query in twilio.queries[1:]} == {active.PAGE_BYTES // 20_000}


def test_a_failure_stops_the_other_windows_and_leaves_no_thread() -> None:
    """Nothing goes on when the command has been answered."""
    twilio = Twilio()
    twilio.seed(*range(NOW - 50_000, NOW, 10))

    def fail(query: dict[str, str]) -> None:
        if "DateCreatedFrom" in query:
            raise TwilioError("broken")

    twilio.before = fail
    threads = set(threading.enumerate())
    with pytest.raises(TwilioError):
        sids(twilio)
    assert set(threading.enumerate()) <= threads
    assert len(twilio.queries) <= active.MAX_PARTS + 1


# What commands share and keep.

CONTACT = "whatsapp:+15551234567"


class Process:
    """A process that finds contacts in a Flow; each time is another invocation, unless it says which.

    Attributes:
        twilio: the Flow's account.
        now: our time, which can be set; Twilio's does not depend on it.
        listings: what it keeps.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.twilio = Twilio()
        self.now = float(NOW)
        self.listings = Listings()
        monkeypatch.setattr(listing, "time", SimpleNamespace(time=lambda: self.now))

    def find(
        self,
        *contacts: str,
        until: float | None = None,
        invocation: Deadline | None = None,
        flow: Any = None,
    ) -> tuple[Found, int]:
        """What was found, and how many requests it took."""
        flow = flow or Flow(self.twilio, FLOW_SID)  # type: ignore[arg-type]
        before = len(flow.account.queries)
        instant = datetime.fromtimestamp(self.now if until is None else until, UTC)
        found = self.listings.find(flow, contacts or (CONTACT,), instant, invocation or Deadline(20), [])
        return found, len(flow.account.queries) - before


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(monkeypatch)


@pytest.fixture
def twilio(process: Process) -> Twilio:
    return process.twilio


@pytest.fixture
def long_flow(twilio: Twilio) -> list[Execution]:
    """More than a page of other contacts' Executions, the newest an hour old."""
    return twilio.seed(*range(NOW - 6000, NOW - 3600), contact="+15005550006")


def found_sids(found: Found) -> list[str]:
    return [one.sid for one in found.executions]


def test_near_misses_of_several_contacts(process: Process, twilio: Twilio) -> None:
    """Together, in one request; one contact's own is no other's near miss."""
    twilio.seed(NOW - 5, contact=CONTACT)
    twilio.seed(NOW - 50, contact="sms:client:anna")
    found = process.find(CONTACT, "client:anna", "+15551234567", until=NOW - 6)
    assert found == (Found((), ("later",), 2), 1)
    assert process.find("0015551234567", "sms:5551234567", "anna", until=NOW - 6)[0].near == ("digits",)


@pytest.mark.usefixtures("long_flow")
def test_a_long_list_is_kept(process: Process, twilio: Twilio) -> None:
    """A command of before its begin needs no request, a later one what is newer, with the overlap."""
    (old,) = twilio.seed(NOW - 5000, contact=CONTACT)
    assert found_sids(process.find()[0]) == [old.sid]
    assert process.find(until=NOW)[1] == 0
    process.now += 100
    (new,) = twilio.seed(NOW + 100, contact=CONTACT)
    # Twilio lists it late, or its clock is behind.
    (late,) = twilio.seed(NOW - 3601 - listing.OVERLAP, contact=CONTACT)
    found, requests = process.find()
    assert (found_sids(found), requests) == ([old.sid, late.sid, new.sid], 1)
    start = datetime.fromisoformat(twilio.queries[-1]["DateCreatedFrom"]).timestamp()
    assert start <= NOW - 3601 - listing.OVERLAP


@pytest.mark.usefixtures("long_flow")
@pytest.mark.parametrize("seconds", [listing.MAX_AGE, -1])
def test_a_list_is_not_kept_for_ever(process: Process, seconds: int) -> None:
    """Not beyond its age, however often newer Executions were added, nor if the clock was set back."""
    process.find(until=NOW - 10)
    for _ in range(9):
        process.now += seconds / 10
        process.find("+15550000000", until=NOW - 10)
    process.now = NOW + seconds
    assert process.find(until=NOW - 10)[1] > 1


def test_a_list_of_one_page_is_not_kept(process: Process, twilio: Twilio) -> None:
    """It takes one request again, so the answer about a small Flow is always what Twilio has now."""
    twilio.seed(*range(NOW - 1000, NOW))
    assert process.find(until=NOW - 10)[1] == 1
    (sid,) = (one.sid for one in twilio.seed(NOW - 5000, contact=CONTACT))
    twilio.executions.end(FLOW_SID, next(twilio.executions.all("active")).sid)
    assert found_sids(process.find(until=NOW - 10)[0]) == [sid]


@pytest.mark.usefixtures("long_flow")
def test_a_near_miss_is_active_now(process: Process, twilio: Twilio) -> None:
    """What was kept and has ended raises no alarm."""
    (execution,) = twilio.seed(NOW - 5000, contact=CONTACT)
    process.find()
    assert process.find("+15551234567", until=NOW)[0].near == ("channel",)
    twilio.executions.end(FLOW_SID, execution.sid)
    assert process.find("+15551234567", until=NOW)[0].near == ()


@pytest.mark.usefixtures("long_flow")
def test_what_was_ended_leaves_the_list(process: Process, twilio: Twilio) -> None:
    """So that ending it again, or reporting it as near, costs no request."""
    (execution,) = twilio.seed(NOW - 5000, contact=CONTACT)
    process.find()
    process.listings.remove(Flow(twilio, FLOW_SID), [execution.sid, "FN" + "0" * 32])  # type: ignore[arg-type]
    assert process.find(until=NOW) == (Found((), (), 2400), 0)


@pytest.mark.usefixtures("long_flow")
def test_what_ended_within_the_overlap_leaves_the_list(process: Process, twilio: Twilio) -> None:
    """What is listed again replaces what was kept."""
    (execution,) = twilio.seed(NOW - 3610, contact=CONTACT)
    process.find()
    twilio.executions.end(FLOW_SID, execution.sid)
    process.now += 100
    assert process.find()[0] == Found((), (), 2400)


@pytest.mark.usefixtures("long_flow")
def test_an_account_and_a_flow_have_their_own(process: Process, twilio: Twilio) -> None:
    """Nothing is shared between accounts; a Flow's SID may be in upper case."""
    process.find()
    other = Flow(Twilio(), FLOW_SID)  # type: ignore[arg-type]
    other.account.seed(NOW - 10, contact="+15005550006")  # type: ignore[attr-defined]
    assert process.find(until=NOW, flow=other) == (Found((), (), 1), 1)
    assert process.find("+1", until=NOW, flow=Flow(twilio, FLOW_SID.upper()))[0].active == 2400  # type: ignore[arg-type]


def test_commands_of_a_batch_share_a_list(process: Process, twilio: Twilio) -> None:
    """Also a short one, that is not kept for other invocations."""
    twilio.seed(NOW - 10)
    invocation = Deadline(20)
    assert process.find(invocation=invocation)[1] == 1
    assert process.find("+1", until=NOW - 5, invocation=invocation) == (Found((), (), 1), 0)


def test_a_command_that_is_later_than_a_list_of_its_batch_has_its_own(
    process: Process, twilio: Twilio
) -> None:
    """It has to end what began in between."""
    invocation = Deadline(20)
    process.find(invocation=invocation)
    process.now += 5
    (execution,) = twilio.seed(NOW + 4, contact=CONTACT)
    assert found_sids(process.find(invocation=invocation)[0]) == [execution.sid]


class Waiting(Deadline):
    """Tells when a command begins to wait for another's list."""

    def __init__(self, begun: threading.Semaphore) -> None:
        super().__init__(20)
        self._begun = begun

    def remaining(self) -> float:
        self._begun.release()
        return super().remaining()


def test_a_failure_is_shared_and_forgotten(process: Process, twilio: Twilio) -> None:
    """Commands that waited fail, too, and their log lines say so; one that is later lists again."""
    begun, broken = threading.Semaphore(0), threading.Event()
    invocation = Waiting(begun)

    def fail(_: object) -> None:
        begun.release()
        broken.wait(5)
        twilio.before = lambda _: None
        raise TwilioError("broken", http_status=500)

    twilio.before = fail
    pending = []
    with ThreadPoolExecutor(4) as threads:
        for until in (NOW - 1, NOW, NOW - 2, NOW + 4):
            pending.append(threads.submit(process.find, until=until, invocation=invocation))
            assert begun.acquire(timeout=5)
            process.now = NOW + 5
        broken.set()
    *errors, later = (one.exception() for one in pending)
    assert [error.facts.get("shared_listing", False) for error in errors] == [False, True, True]
    assert {(type(error), str(error), error.http_status) for error in errors} == {
        (TwilioError, "broken", 500)
    }
    assert later is None
    assert len(twilio.queries) == 2


@pytest.mark.usefixtures("long_flow")
def test_a_failure_costs_no_more_than_its_command(process: Process, twilio: Twilio) -> None:
    """What was kept before is still valid."""
    process.find()
    process.now += 1

    def fail(_: object) -> None:
        raise TwilioError("broken")

    twilio.before = fail
    with pytest.raises(TwilioError):
        process.find()
    assert process.find(until=NOW)[1] == 0


def test_waiting_for_another_command_ends_in_time(process: Process, twilio: Twilio) -> None:
    """The command that lists may have more time than the one that waits."""
    asked, done = threading.Event(), threading.Event()
    twilio.before = lambda _: (asked.set(), done.wait(5))
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(process.find)
        assert asked.wait(5)
        with pytest.raises(TwilioTimeout):
            process.find(invocation=Deadline(0.1))
        done.set()
        assert first.result(5)


def flow_of(number: int) -> Any:
    """Another account's Flow of so many Executions."""
    twilio: Any = Twilio()
    twilio.seed(*range(NOW - 3600 - number, NOW - 3600))
    return Flow(twilio, FLOW_SID)


@pytest.mark.parametrize(("limit", "value"), [("MAX_KEPT", 5000), ("MAX_FLOWS", 2)])
def test_what_is_kept_is_bounded(
    process: Process, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    """In Executions and in Flows; the most recently used stay."""
    monkeypatch.setattr(listing, limit, value)
    flows = [flow_of(2400) for _ in range(3)]
    for flow in flows:
        process.find(until=NOW, flow=flow)
        assert process.find(until=NOW, flow=flows[0])[1] == 0
    first, gone, last = flows
    assert [process.find(until=NOW, flow=flow)[1] > 0 for flow in (first, last, gone)] == [False, False, True]


def test_a_flow_too_large_to_be_kept_leaves_the_others(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that one is listed again each time."""
    monkeypatch.setattr(listing, "MAX_KEPT", 3000)
    flows = [flow_of(2400), flow_of(3001)]
    for flow in flows:
        process.find(until=NOW, flow=flow)
    assert [process.find(until=NOW, flow=flow)[1] > 0 for flow in flows] == [False, True]


def test_what_is_kept_is_small_and_has_no_address(process: Process, twilio: Twilio) -> None:
    """MAX_KEPT Executions of 0.5 kB; no address is among the strings that stay."""
    for n in range(2400):
        twilio.seed(NOW - 6000 + n, contact=f"whatsapp:+1555{n:07}")
    tracemalloc.start()
    process.find()
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept / 2400 < 550
    assert listing.MAX_KEPT * 550 < 60e6
    (only,) = process.listings._latest.values()
    assert "1555000" not in repr([only.__dict__, *only.executions.values()])
