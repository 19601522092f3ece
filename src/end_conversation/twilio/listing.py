"""The active Executions of a Flow, none missed.

Twilio has no filter by contact, so finding a contact's Executions means to list the Flow's. Meanwhile others
begin and end, and where Twilio's pages go by position, each end moves one across the edge of a page. So:

1. A page is one look at the list. Newest first, it has all that is in its window and newer than its oldest.
2. The rest of the window is asked for by time, up to and including the second of that oldest; SIDs sort out
   what comes twice. `date_created` never changes, so no end or begin can move an Execution out of its window.
3. Windows are independent of each other, so they are listed side by side.
4. Where 1 or 2 does not hold (not newest first, or no older than the page before), pages go on by Twilio's
   token, and are read until two passes show the same; otherwise it is an error.

https://www.twilio.com/docs/studio/rest-api/v2/execution
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from end_conversation.command import EXECUTION_SID, format_date_time, parse_date_time
from end_conversation.errors import TwilioError
from end_conversation.twilio.account import CONCURRENCY
from end_conversation.twilio.near_misses import Fingerprints, near_miss

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from end_conversation.deadline import Deadline
    from end_conversation.twilio.account import Account, Answer, Retries
    from end_conversation.twilio.near_misses import Fingerprint

PAGE_SIZE = 1000
"""Executions in a page: Twilio's maximum."""

MAX_PARTS = CONCURRENCY
"""Windows that the rest of a window is cut into."""

FILL = 0.9
"""Share of a page that a window is expected to fill: what does not fit takes a second request."""

PASSES = 4
"""Times that pages are read by token before they count as too restless."""


class Flow(NamedTuple):
    """A Flow of a Twilio account."""

    account: Account
    sid: str


@dataclass(frozen=True, slots=True)
class ActiveExecution:
    """An active Execution.

    Attributes:
        sid: `FN` and 32 hexadecimal digits.
        created: seconds since 1970.
    """

    sid: str
    created: int

    @property
    def date_created(self) -> str:
        """The same as RFC 3339, as Twilio writes it."""
        return _date_time(self.created)


@dataclass(frozen=True, slots=True)
class Found:
    """What a Flow has for some contacts.

    Attributes:
        executions: the active Executions of any of them, oldest first.
        near: what else may be theirs, where nothing was found: `channel`, `digits`, `later`, in this order.
        active: how many active Executions were looked at.
    """

    executions: tuple[ActiveExecution, ...]
    near: tuple[str, ...]
    active: int


class Item(NamedTuple):
    """An active Execution as a page of the list has it; never log the contact."""

    sid: str
    created: int
    contact: str | None


class _Listed(NamedTuple):
    execution: ActiveExecution
    contact: Fingerprint


class Listings:
    """Finds contacts' Executions. One per process. Thread-safe."""

    def __init__(self) -> None:
        self._fingerprints = Fingerprints()

    def find(
        self,
        flow: Flow,
        contacts: Collection[str],
        until: datetime,
        deadline: Deadline,
        retries: Retries,
    ) -> Found:
        """The active Executions of some contacts that were created at or before a time, to the second.

        Args:
            flow: whose Executions.
            contacts: channel addresses, of one person; they match exactly.
            until: the time.
            deadline: when the answer is due.
            retries: receives the failed attempts before another one.

        Raises:
            ExecutionNotFound: the Flow does not exist.
            EndConversationError: any other failure.
        """
        listed: dict[str, _Listed] = {}

        def take(items: Iterable[Item]) -> None:
            for sid, created, contact in items:
                listed[sid.casefold()] = _Listed(
                    ActiveExecution(sid, created), self._fingerprints.of(contact or "")
                )

        read(flow, datetime.now(UTC), take, deadline, retries)
        wanted = [self._fingerprints.of(contact) for contact in contacts]
        return _find(listed.values(), wanted, int(until.timestamp()))


def read(
    flow: Flow,
    until: datetime,
    take: Callable[[Iterable[Item]], None],
    deadline: Deadline,
    retries: Retries,
) -> None:
    """List a Flow's active Executions that were created at or before a time, to the second.

    Args:
        flow: whose Executions.
        until: the time.
        take: receives them, from several threads, in no order, some twice, some newer.
        deadline: when the list is due.
        retries: receives the failed attempts before another one.

    Raises:
        ExecutionNotFound: the Flow does not exist.
        EndConversationError: any other failure; what was taken is right, but not everything.
    """
    reading = _Reading(flow, take, deadline, retries)
    # The end of a window is exclusive.
    pending = reading.first(_Window(None, int(until.timestamp()) + 1))
    if not pending:
        return
    with ThreadPoolExecutor(CONCURRENCY) as threads:
        futures: set[Future[list[_Window]]] = set()
        try:
            while pending or futures:
                # The last one may be the longest, and has to be cut again: it comes first.
                futures |= {threads.submit(reading.first, window) for window in reversed(pending)}
                done, futures = wait(futures, return_when=FIRST_COMPLETED)
                pending = [window for future in done for window in future.result()]
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


class _Window(NamedTuple):
    """What was created in a time, in seconds since 1970.

    Attributes:
        start: the first second; None: since ever.
        end: the second after the last.
    """

    start: int | None
    end: int

    def cut(self, seconds: int) -> list[_Window]:
        """Windows of so many seconds, the newest first; the last one has the rest."""
        parts: list[_Window] = []
        start, end = self.start or 0, self.end
        while len(parts) < MAX_PARTS - 1 and end - seconds > start:
            parts.append(_Window(end - seconds, end))
            end -= seconds
        return [*parts, _Window(self.start, end)]


class _Page(NamedTuple):
    """One response.

    Attributes:
        items: the active Executions.
        created: when each of everything on the page was created; None: it does not say.
        position: query parameters of the next page; None: there is none.
        answer: for an error.
    """

    items: list[Item]
    created: list[int | None]
    position: dict[str, str] | None
    answer: Answer


class _Reading:
    """Reads pages of a Flow's list."""

    def __init__(
        self,
        flow: Flow,
        take: Callable[[Iterable[Item]], None],
        deadline: Deadline,
        retries: Retries,
    ) -> None:
        self._flow = flow
        self._take = take
        self._deadline = deadline
        self._retries = retries

    def first(self, window: _Window) -> list[_Window]:
        """Take the first page of a window; returns the windows that are left of it."""
        page = self._page(window)
        if page.position is None:
            return []
        created = [second for second in page.created if second is not None]
        if not created or len(created) < len(page.created) or any(a < b for a, b in pairwise(created)):
            return self._by_token(window)
        newest, oldest = created[0], created[-1]
        if window.start is not None and oldest < window.start:
            return []
        if oldest + 1 < window.end:
            seconds = int((newest - oldest + 1) * FILL * PAGE_SIZE / len(created))
            return window._replace(end=oldest + 1).cut(max(1, seconds))
        if newest == oldest == window.end - 1 and window.start != oldest:
            # A whole page of one second.
            self._by_token(_Window(oldest, window.end))
            return [window._replace(end=oldest)]
        return self._by_token(window)

    def _by_token(self, window: _Window) -> list[_Window]:
        """Take all pages of a window by Twilio's token.

        If an Execution ends between two pages, Twilio may skip another one at the edge. None did if nothing
        is missing when the pages are read again.
        """
        before: list[frozenset[str]] | None = None
        for _ in range(PASSES):
            pages: list[frozenset[str]] = []
            position: dict[str, str] | None = {}
            seen: list[object] = [None]
            while position is not None:
                page = self._page(window, position)
                pages.append(frozenset(item.sid for item in page.items))
                position = page.position
                if position is not None:
                    if (token := position.get("PageToken")) in seen:
                        raise page.answer.failure(TwilioError, "Twilio repeats a page of the list")
                    seen.append(token)
            if len(pages) == 1 or pages == before:
                return []
            before = pages
        raise page.answer.failure(TwilioError, "Twilio's list does not stand still")

    def _page(self, window: _Window, position: dict[str, str] | None = None) -> _Page:
        query: dict[str, Any] = {"status": "active"}
        if window.start is not None:
            # One second more, so that nothing is lost between windows if Twilio left out the start itself.
            query["DateCreatedFrom"] = _date_time(window.start - 1)
        query |= {"DateCreatedTo": _date_time(window.end), "PageSize": PAGE_SIZE} | (position or {})
        path = f"/v2/Flows/{self._flow.sid}/Executions?{urlencode(query)}"
        answer = self._flow.account.call("GET", path, self._deadline, self._retries)
        match answer.content:
            case {
                "executions": list(listed),
                "meta": {"next_page_url": None | str() as next_page_url},
            } if answer.status == HTTPStatus.OK:
                created = [_created(item) for item in listed]
                items = [item for each in listed if (item := _item(each, self._flow.sid))]
                self._take(items)
                return _Page(items, created, _position(next_page_url) if next_page_url else None, answer)
        raise answer.failure(TwilioError, f"Twilio returned {answer.status} without a list")


def _find(listed: Iterable[_Listed], wanted: list[Fingerprint], until: int) -> Found:
    addresses = {each.address for each in wanted}
    found: list[ActiveExecution] = []
    near: set[str | None] = set()
    active = 0
    for execution, contact in listed:
        active += 1
        if contact.address in addresses:
            if execution.created <= until:
                found.append(execution)
            else:
                near.add("later")
        elif not found:
            near |= {near_miss(each, contact) for each in wanted}
    kinds = () if found else tuple(kind for kind in ("channel", "digits", "later") if kind in near)
    return Found(tuple(sorted(found, key=lambda one: (one.created, one.sid))), kinds, active)


def _item(listed: object, flow_sid: str) -> Item | None:
    """What a page lists, if it matches what was asked for: don't trust the server's filter."""
    if not isinstance(listed, dict):
        return None
    sid, contact, created = listed.get("sid"), listed.get("contact_channel_address"), _created(listed)
    if not isinstance(sid, str) or not EXECUTION_SID.fullmatch(sid) or created is None:
        return None
    if listed.get("status") != "active":
        return None
    in_flow = listed.get("flow_sid", flow_sid)
    if not isinstance(in_flow, str) or in_flow.casefold() != flow_sid.casefold():
        return None
    return Item(sid, created, contact if isinstance(contact, str) else None)


def _created(listed: object) -> int | None:
    try:
        value = listed.get("date_created") if isinstance(listed, dict) else None
        return int(parse_date_time(value).timestamp())
    except ValueError:
        return None


def _date_time(second: int) -> str:
    return format_date_time(datetime.fromtimestamp(second, UTC))


def _position(next_page_url: str) -> dict[str, str]:
    """Where the next page begins. Nothing else of the URL is used, so credentials go nowhere else."""
    try:
        given = parse_qs(urlsplit(next_page_url).query)
    except ValueError:
        return {}
    # Twilio's tokens are ASCII; a lone surrogate could not even be sent.
    return {
        name: given[name][0] for name in ("Page", "PageToken") if name in given and given[name][0].isascii()
    }
