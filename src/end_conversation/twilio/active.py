"""Lists the active Executions of a Flow, none missed, however many others begin and end meanwhile.

If Twilio's pages go by position, each Execution that ends moves another one to the previous page. So:

1. A page is one snapshot of the list. Newest first, it has everything in its window that is newer than its
   oldest.
2. The rest of the window is requested by time, up to and including the second of that oldest.
   `date_created` never changes, so nothing can move an Execution out of its window.
3. Windows do not depend on each other, so they are listed concurrently.
4. Where 1 or 2 does not hold (another order, or a page that goes no further back), pages go on by Twilio's
   token and are read until two passes show the same; otherwise it is an error. A page all of one second
   shows no order, so anything newer is requested, too.

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

from end_conversation.command import EXECUTION_SID, format_date_time
from end_conversation.errors import TwilioError, TwilioTimeout
from end_conversation.twilio.account import CONCURRENCY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from end_conversation.deadline import Deadline
    from end_conversation.twilio.account import Account, Answer, Retries

PAGE_SIZE = 1000
"""Executions in a page: Twilio's maximum."""

PAGE_BYTES = 4_000_000
"""Target size of every page after the first, because CONCURRENCY pages are in memory at a time."""

MAX_PARTS = CONCURRENCY + 2
"""Windows that the rest of a window is cut into."""

FILL = 0.9
"""Share of a page that a window is expected to fill; the rest avoids second requests."""

MAX_PASSES = 4
"""How often pages are read by token before the list counts as changing too fast."""


Position = dict[str, str | int]
"""Query parameters that a request has in place of the usual ones."""


class Flow(NamedTuple):
    """A Flow of a Twilio account."""

    account: Account
    sid: str


class Window(NamedTuple):
    """A range of creation times, in seconds since 1970.

    Attributes:
        start: the first second; None: no limit.
        end: the second after the last.
    """

    start: int | None
    end: int

    def cut(self, seconds: int) -> list[Window]:
        """Windows of so many seconds, the newest first; the last one has the rest."""
        parts: list[Window] = []
        start, end = self.start or 0, self.end
        while len(parts) < MAX_PARTS - 1 and end - seconds > start:
            parts.append(Window(end - seconds, end))
            end -= seconds
        return [*parts, Window(self.start, end)]


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
        """The same as Twilio writes it: RFC 3339."""
        return date_time(self.created)


class Item(NamedTuple):
    """An active Execution as a page has it.

    Attributes:
        sid: `FN` and 32 hexadecimal digits.
        created: seconds since 1970.
        contact: channel address; never log it.
    """

    sid: str
    created: int
    contact: str | None


def list_active(
    flow: Flow, window: Window, take: Callable[[Iterable[Item]], None], deadline: Deadline, retries: Retries
) -> bool:
    """List a Flow's active Executions.

    Args:
        flow: the Flow.
        window: when they were created.
        take: receives them, from several threads, in any order, some twice, some from outside the window.
        deadline: when the list is due.
        retries: receives the failed attempts before another one.

    Returns:
        Whether it took more than one page.

    Raises:
        ExecutionNotFound: the Flow does not exist.
        EndConversationError: any other failure; what was taken until then is right, but not everything.
    """
    pages = _Pages(flow, take, deadline, retries)
    pending = pages.begin(window)
    if not pending:
        return pages.continued
    with ThreadPoolExecutor(CONCURRENCY) as threads:
        futures: set[Future[list[Window]]] = set()
        try:
            while pending or futures:
                # The last window has the rest, which may have to be cut again: begin with it.
                futures |= {threads.submit(pages.begin, each) for each in reversed(pending)}
                done, futures = wait(futures, return_when=FIRST_COMPLETED)
                pending = [each for future in done for each in future.result()]
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return pages.continued


class _Page(NamedTuple):
    """One response.

    Attributes:
        sids: of the active Executions in it.
        created: when each Execution in it was created, active or not; None: it does not say.
        position: query parameters of the next page; None: there is none.
        answer: for an error.
    """

    sids: set[str]
    created: list[int | None]
    position: Position | None
    answer: Answer


class _Pages:
    """Asks for pages.

    Attributes:
        continued: whether a page was not the last.
    """

    def __init__(
        self, flow: Flow, take: Callable[[Iterable[Item]], None], deadline: Deadline, retries: Retries
    ) -> None:
        self.continued = False
        self._flow = flow
        self._take = take
        self._deadline = deadline
        self._retries = retries
        self._size = PAGE_SIZE

    def begin(self, window: Window) -> list[Window]:
        """Take the first page of a window; returns the windows that are left of it."""
        page = self._ask(window)
        if page.position is None:
            return []
        created = [second for second in page.created if second is not None]
        if not created or len(created) < len(page.created) or any(a < b for a, b in pairwise(created)):
            return self._by_token(window)
        newest, oldest = created[0], created[-1]
        # A page of one second shows no order.
        is_ordered = newest > oldest
        if window.start is not None and oldest < window.start:
            return [] if is_ordered else self._by_token(window)
        if oldest < window.end - 1:
            seconds = int((newest - oldest + 1) * FILL * self._size / len(created))
            left = window._replace(end=oldest + 1).cut(max(1, seconds))
            return left if is_ordered else [*left, Window(oldest + 1, window.end)]
        if newest == oldest == window.end - 1 and window.start != oldest:
            # A page and more of one second.
            return [*self._by_token(Window(oldest, window.end)), window._replace(end=oldest)]
        return self._by_token(window)

    def _by_token(self, window: Window) -> list[Window]:
        """Take all pages of a window by Twilio's token; returns [], since nothing is left of it.

        If an Execution ends between two pages, another one may be skipped at the edge. None was if all those
        before the edge are still there when the pages are read again.
        """
        before: list[set[str]] | None = None
        for _ in range(MAX_PASSES):
            pages: list[set[str]] = []
            tokens: list[str | int | None] = [None]
            position: Position | None = {}
            while position is not None:
                page = self._ask(window, position)
                pages.append(page.sids)
                position = page.position
                if position is not None:
                    token = position.get("PageToken")
                    if token in tokens:
                        raise page.answer.failure(TwilioError, "Twilio repeated a page of the list")
                    tokens.append(token)
            if len(pages) == 1 or pages == before:
                return []
            before = pages
        raise page.answer.failure(TwilioError, "Twilio's list kept changing")

    def _ask(self, window: Window, position: Position | None = None) -> _Page:
        """Take a page; if it is too large or too slow, a smaller one."""
        while True:
            size = self._size
            query = self._query(window, size) | (position or {})
            path = f"/v2/Flows/{self._flow.sid}/Executions?{urlencode(query)}"
            try:
                answer = self._flow.account.call(
                    "GET", path, self._deadline, self._retries, repeat_slow=False
                )
                break
            except (TwilioError, TwilioTimeout) as error:
                is_for_less = isinstance(error, TwilioTimeout) or error.too_large
                if not is_for_less or size == 1 or position or not self._deadline.remaining():
                    raise
                self._size = min(self._size, max(1, size // 4))
        match answer.content:
            case {
                "executions": list(listed),
                "meta": {"next_page_url": None | str() as next_page_url},
            } if answer.status == HTTPStatus.OK:
                pass
            case _:
                raise answer.failure(TwilioError, f"Twilio returned {answer.status} without a list")
        if listed:
            self._size = max(1, min(self._size, PAGE_BYTES * len(listed) // answer.size))
        created = [_created(each) for each in listed]
        items = [
            Item(each["sid"], second, contact if isinstance(contact, str) else None)
            for each, second in zip(listed, created, strict=True)
            if second is not None and _is_active(each, self._flow.sid)
            for contact in [each.get("contact_channel_address")]
        ]
        self._take(items)
        following: Position | None = None
        if next_page_url:
            self.continued = True
            # A token belongs to a page size.
            following = _position(next_page_url) | {"PageSize": query["PageSize"]}
        return _Page({item.sid for item in items}, created, following, answer)

    def _query(self, window: Window, size: int) -> Position:
        query: Position = {"status": "active"}
        if window.start is not None:
            # One second more, so that nothing gets lost between windows if Twilio excludes the start.
            query["DateCreatedFrom"] = date_time(window.start - 1)
        return query | {"DateCreatedTo": date_time(window.end), "PageSize": size}


def _created(listed: Any) -> int | None:  # noqa: ANN401 - Twilio's JSON
    try:
        created = datetime.fromisoformat(listed["date_created"])
    except (KeyError, TypeError, ValueError):
        return None
    return int(created.timestamp()) if created.tzinfo else None


def _is_active(listed: dict[str, Any], flow_sid: str) -> bool:
    """Whether it matches the request: the server's filter may not work."""
    sid, in_flow = listed.get("sid"), listed.get("flow_sid", flow_sid)
    return (
        listed.get("status") == "active"
        and isinstance(sid, str)
        and EXECUTION_SID.fullmatch(sid) is not None
        and isinstance(in_flow, str)
        and in_flow.casefold() == flow_sid.casefold()
    )


def date_time(second: int) -> str:
    """Seconds since 1970 as RFC 3339."""
    return format_date_time(datetime.fromtimestamp(second, UTC))


def _position(next_page_url: str) -> Position:
    """Where the next page begins. Nothing else of the URL is used, so credentials go nowhere else."""
    try:
        given = parse_qs(urlsplit(next_page_url).query)
    except ValueError:
        return {}
    # Twilio's tokens are ASCII; a lone surrogate could not even be sent.
    return {
        name: given[name][0] for name in ("Page", "PageToken") if name in given and given[name][0].isascii()
    }
