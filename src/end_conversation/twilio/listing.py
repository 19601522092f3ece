"""Finds contacts' active Executions: a Flow is listed once for many commands.

Twilio has no filter by contact, so finding a contact's Executions means listing the Flow's, which is what
`active` does. This module shares a listing:

1. Executions only leave a listing, so it serves every command whose `occurred_at` is not after its begin.
   For a later command, newer Executions are listed and added.
2. A listing of several pages is kept for MAX_AGE. One of a single page serves only its own invocation.
3. Kept Executions may have ended; the request that ends one finds out. Near misses are only reported from a
   listing of the same invocation.
4. Contacts are kept as keyed hashes only.
5. Commands that waited for a failed listing share its failure, which is then forgotten.
"""

from __future__ import annotations

import copy
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from end_conversation.errors import EndConversationError, TwilioTimeout
from end_conversation.twilio.active import ActiveExecution, Window, list_active
from end_conversation.twilio.near_misses import Fingerprints, near_miss

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from end_conversation.deadline import Deadline
    from end_conversation.twilio.account import Retries
    from end_conversation.twilio.active import Flow, Item
    from end_conversation.twilio.near_misses import Fingerprint

MAX_AGE = 600
"""Seconds after which a Flow is listed as a whole again."""

OVERLAP = 60
"""Newer Executions are listed from so many seconds before the newest one seen.

Both times are Twilio's, so our clock does not matter; Twilio may list an Execution that much after its
`date_created`.
"""

MAX_KEPT = 100_000
"""Executions kept, of all Flows together, at about 0.5 kB each: 50 MB."""

MAX_FLOWS = 100
"""Flows whose listings are kept, the most recently used."""


@dataclass(frozen=True, slots=True)
class Found:
    """The active Executions of some contacts in a Flow.

    Attributes:
        executions: the active Executions of any of them, oldest first.
        near: if none was found, how others are close: `channel`, `digits`, `later`, in this order.
        active: how many active Executions were looked at.
        is_kept: whether this is from another invocation's listing, so that any may have ended since.
    """

    executions: tuple[ActiveExecution, ...]
    near: tuple[str, ...]
    active: int
    is_kept: bool = field(default=False, compare=False)


class _Kept(NamedTuple):
    sid: str
    created: int
    contact: Fingerprint


class _Listing:
    """A listing of a Flow, finished or not.

    Args:
        invocation: the deadline that the commands of an invocation share.
        base: a finished listing to which newer Executions are added; None: the whole Flow is listed.

    Attributes:
        began: seconds since 1970. This clock also runs while Lambda freezes the process.
        whole_began: when the listing of the whole Flow began.
        invocation: which listed the whole Flow.
        is_long: whether the whole Flow took more than one page.
        executions: by SID.
        newest: when the newest of them was created.
        done: finished, or failed.
    """

    def __init__(self, invocation: Deadline, base: _Listing | None) -> None:
        self.began = time.time()
        self.whole_began: float = base.whole_began if base else self.began
        self.invocation: Deadline = base.invocation if base else invocation
        self.fingerprints: Fingerprints = base.fingerprints if base else Fingerprints()
        self.is_long = base is not None
        self.executions: dict[str, _Kept] = {}
        self.newest: int = base.newest if base else 0
        self.base = base
        self.done: Future[None] = Future()

    def is_kept(self) -> bool:
        """Whether other invocations may use it, too."""
        return self.is_long and self.began <= time.time() < self.whole_began + MAX_AGE

    def run(self, flow: Flow, deadline: Deadline, retries: Retries) -> None:
        """List what is not in the base; raises as `list_active`."""
        start = None
        if self.base:
            start = self.newest - OVERLAP
            self.executions = {
                sid: kept for sid, kept in self.base.executions.items() if kept.created < start
            }
        is_long = list_active(flow, Window(start, int(self.began) + 1), self._take, deadline, retries)
        self.is_long = self.is_long or is_long
        self.base = None

    def _take(self, items: Iterable[Item]) -> None:
        for sid, created, contact in items:
            self.executions[sid] = _Kept(sid, created, self.fingerprints.of(contact or ""))
            # Nothing is younger than the request, unless Twilio ignored the filter.
            self.newest = max(self.newest, min(created, int(self.began)))


@dataclass(frozen=True, slots=True)
class _Need:
    """What a command needs from a listing.

    Attributes:
        until: seconds since 1970; later Executions are not its own.
        invocation: its own.
        anew: whether it accepts no other invocation's listing.
    """

    until: float
    invocation: Deadline
    anew: bool

    def is_met(self, listing: _Listing) -> bool:
        """Whether a finished listing will do."""
        is_own = listing.invocation is self.invocation
        return listing.began >= self.until and (is_own or (listing.is_kept() and not self.anew))

    def base(self, listing: _Listing | None) -> _Listing | None:
        """The listing, if newer Executions added to it will do."""
        return listing if listing and listing.is_kept() and not self.anew else None


class Listings:
    """Finds contacts' Executions. One per process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._latest: OrderedDict[Flow, _Listing] = OrderedDict()

    def find(
        self, flow: Flow, contacts: Collection[str], until: datetime, deadline: Deadline, retries: Retries
    ) -> Found:
        """The active Executions of some contacts that were created at or before a time, to the second.

        Args:
            flow: the Flow.
            contacts: channel addresses of one person; they match exactly.
            until: the time, not in the future.
            deadline: when the answer is due. It also tells the invocation, whose commands share a listing.
            retries: receives the failed attempts before another one.

        Raises:
            ExecutionNotFound: the Flow does not exist.
            EndConversationError: any other failure.
        """
        for anew in (False, True):
            listing = self._get(flow, _Need(until.timestamp(), deadline, anew), retries)
            with self._lock:
                executions = tuple(listing.executions.values())
            wanted = [listing.fingerprints.of(contact) for contact in contacts]
            found = _find(executions, wanted, int(until.timestamp()))
            is_kept = listing.invocation is not deadline
            if not (found.near and is_kept):
                break
        return replace(found, is_kept=is_kept)

    def remove(self, flow: Flow, sids: Iterable[str]) -> None:
        """Forget Executions that are no longer active."""
        with self._lock:
            if listing := self._latest.get(_key(flow)):
                for sid in sids:
                    listing.executions.pop(sid, None)

    def _get(self, flow: Flow, need: _Need, retries: Retries) -> _Listing:
        """A listing that meets the need: another command's, or a new one."""
        while True:
            with self._lock:
                listing = self._latest.get(_key(flow))
                is_new = listing is None or (listing.done.done() and not need.is_met(listing))
                if listing is None or is_new:
                    listing = self._latest[_key(flow)] = _Listing(need.invocation, need.base(listing))
                self._latest.move_to_end(_key(flow))
            if is_new:
                self._run(listing, flow, need.invocation, retries)
                return listing
            try:
                listing.done.result(need.invocation.remaining())
            except TimeoutError:
                raise TwilioTimeout("listing the Flow's Executions took too long") from None
            except EndConversationError as error:
                if listing.began >= need.until:
                    shared = copy.copy(error)
                    shared.shared_listing = True
                    raise shared from None
            if need.is_met(listing):
                return listing

    def _run(self, listing: _Listing, flow: Flow, deadline: Deadline, retries: Retries) -> None:
        key = _key(flow)
        try:
            listing.run(flow, deadline, retries)
        except BaseException as error:
            with self._lock:
                if self._latest.get(key) is listing:
                    del self._latest[key]
                    if listing.base:
                        self._latest[key] = listing.base
            # Only now, so that a command that waited does not find it again.
            listing.done.set_exception(error)
            raise
        with self._lock:
            if len(listing.executions) > MAX_KEPT and self._latest.get(key) is listing:
                del self._latest[key]
            while len(self._latest) > MAX_FLOWS or self._number() > MAX_KEPT:
                self._latest.popitem(last=False)
        listing.done.set_result(None)

    def _number(self) -> int:
        return sum(len(listing.executions) for listing in self._latest.values())


def _key(flow: Flow) -> Flow:
    return flow._replace(sid=flow.sid.casefold())


def _find(executions: Collection[_Kept], wanted: list[Fingerprint], until: int) -> Found:
    addresses = {each.address for each in wanted}
    theirs = [each for each in executions if each.contact.address in addresses]
    found = sorted((each.created, each.sid) for each in theirs if each.created <= until)
    if found:
        each = (ActiveExecution(sid, created) for created, sid in found)
        return Found(tuple(each), (), len(executions))
    without_channel = {each.without_channel for each in wanted}
    last_digits = {each.last_digits for each in wanted} - {None}
    others = [
        contact
        for _, _, contact in executions
        if (contact.without_channel in without_channel or contact.last_digits in last_digits)
        and contact.address not in addresses
    ]
    near: set[str | None] = {near_miss(each, other) for each in wanted for other in others}
    near |= {"later" for _ in theirs}
    return Found((), tuple(kind for kind in ("channel", "digits", "later") if kind in near), len(executions))
