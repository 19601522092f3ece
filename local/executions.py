"""The Executions that the Studio stand-in keeps, and how Twilio shows and lists them."""

import bisect
import hashlib
import re
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Literal

ACCOUNT_SID = "AC" + "0123456789abcdef" * 2
OTHER_ACCOUNT_SID = "AC" + "fedcba9876543210" * 2

Status = Literal["active", "ended"]

_SIDS = {prefix: re.compile(f"{prefix}[0-9a-fA-F]{{32}}") for prefix in ("AC", "FW", "FN")}


def is_sid(prefix: Literal["AC", "FW", "FN"], text: str) -> bool:
    """Whether this is the SID of an account, of a Flow, or of an Execution."""
    return _SIDS[prefix].fullmatch(text) is not None


def new_sid(prefix: str, name: str | None = None) -> str:
    """A random SID, or the one that always belongs to the name."""
    if name is None:
        return prefix + secrets.token_hex(16)
    return prefix + hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


class NotFoundError(LookupError):
    """Twilio knows no such Flow or Execution."""


class AlreadyEndedError(ValueError):
    """An Execution was to be ended that is ended already."""


class AlreadyActiveError(ValueError):
    """An Execution was to be created for a contact that already has an active one in the Flow."""


@dataclass(slots=True)
class Execution:
    """One contact's run through a Flow. Dates are in UTC and whole seconds, as in Twilio's API."""

    sid: str
    account_sid: str
    flow_sid: str
    contact: str
    address: str
    status: Status
    date_created: datetime
    date_updated: datetime | None
    context: dict[str, Any] = field(repr=False)
    initiated_by: str
    number: int
    """The place in the order of creation, for Executions of the same second."""

    def shown(self, base_url: str) -> dict[str, Any]:
        """The resource as Twilio's API shows it."""
        url = f"{base_url}/v2/Flows/{self.flow_sid}/Executions/{self.sid}"
        return {
            "sid": self.sid,
            "account_sid": self.account_sid,
            "flow_sid": self.flow_sid,
            "contact_channel_address": self.contact,
            "contact_sid": new_sid("FC", self.contact),
            "flow_version": 1,
            "context": self.context,
            "status": self.status,
            "date_created": _written(self.date_created),
            "date_updated": _written(self.date_updated),
            "initiated_by": self.initiated_by,
            "url": url,
            "links": {"steps": f"{url}/Steps", "execution_context": f"{url}/Context"},
        }


class Executions:
    """A thread-safe collection of Executions by Flow, always in order, so that a page costs a slice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count()
        self._by_sid: dict[str, Execution] = {}
        self._accounts: dict[str, str] = {}
        self._lists: dict[str, dict[Status | None, list[tuple[datetime, int, Execution]]]] = {}

    def __len__(self) -> int:
        return len(self._by_sid)

    def add_flow(self, flow_sid: str, account_sid: str = ACCOUNT_SID) -> None:
        """Make a Flow of this account known, unless it is. Twilio answers 404 for others."""
        _check("FW", flow_sid)
        _check("AC", account_sid)
        with self._lock:
            self._accounts.setdefault(flow_sid, account_sid)
            self._lists.setdefault(flow_sid, {None: [], "active": [], "ended": []})

    def has_flow(self, flow_sid: str) -> bool:
        """Whether the Flow is known."""
        return flow_sid in self._lists

    def account_of(self, flow_sid: str) -> str | None:
        """The account that a Flow belongs to, if the Flow is known."""
        return self._accounts.get(flow_sid)

    def add(  # noqa: PLR0913 -- these are the properties of the resource, all of them by name
        self,
        flow_sid: str,
        sid: str | None = None,
        *,
        account_sid: str = ACCOUNT_SID,
        contact: str = "+15005550006",
        address: str = "+15005550001",
        status: Status = "active",
        date_created: datetime | None = None,
        context: dict[str, Any] | None = None,
        initiated_by: str | None = None,
        alone: bool = False,
    ) -> Execution:
        """Keep one more Execution, of this age and status, whatever else there is; its Flow becomes known.

        Args:
            flow_sid: The Flow.
            sid: The Execution's SID; by default a new one.
            account_sid: The account of the Flow, where that is not known yet.
            contact: The contact's channel address (``To`` on creation).
            address: The Flow's own channel address (``From`` on creation).
            status: ``active`` or ``ended``.
            date_created: Any instant with a zone; by default now.
            context: The Flow's state in this run.
            initiated_by: What triggered it; by default a Message SID.
            alone: Whether to refuse it while the contact has an active one on the same address, as creating
                through Twilio's API does.

        Raises:
            AlreadyActiveError: As ``alone`` says.
            ValueError: The SID is none, or is taken.
        """
        sid = sid or new_sid("FN")
        _check("FN", sid)
        self.add_flow(flow_sid, account_sid)
        created = _whole_seconds(date_created)
        with self._lock:
            if sid in self._by_sid:
                raise ValueError(f"{sid} is taken")
            lists = self._lists[flow_sid]
            if alone and any(
                (other.contact, other.address) == (contact, address) for _, _, other in lists["active"]
            ):
                raise AlreadyActiveError(contact)
            execution = Execution(
                sid=sid,
                account_sid=self._accounts[flow_sid],
                flow_sid=flow_sid,
                contact=contact,
                address=address,
                status=status,
                date_created=created,
                date_updated=created if status == "ended" else None,
                context=context or {},
                initiated_by=initiated_by or new_sid("SM"),
                number=next(self._numbers),
            )
            self._by_sid[sid] = execution
            for key in (None, status):
                bisect.insort(lists[key], _entry(execution))
        return execution

    def all(self, status: Status | None = None) -> Iterator[Execution]:
        """Every Execution of this status, or of any, in the order of coming."""
        executions = tuple(self._by_sid.values())
        return (execution for execution in executions if status in {None, execution.status})

    def get(self, flow_sid: str, sid: str) -> Execution:
        """The Execution of that Flow, or ``NotFoundError``."""
        execution = self._by_sid.get(sid)
        if execution is None or execution.flow_sid != flow_sid:
            raise NotFoundError(sid)
        return execution

    def end(self, flow_sid: str, sid: str) -> Execution:
        """End an active Execution, or raise ``NotFoundError`` or ``AlreadyEndedError``."""
        with self._lock:
            execution = self.get(flow_sid, sid)
            if execution.status == "ended":
                raise AlreadyEndedError(sid)
            lists = self._lists[flow_sid]
            _remove(lists["active"], execution)
            execution.status = "ended"
            execution.date_updated = _whole_seconds(None)
            bisect.insort(lists["ended"], _entry(execution))
        return execution

    def delete(self, flow_sid: str, sid: str) -> None:
        """Forget an Execution, or raise ``NotFoundError``."""
        with self._lock:
            execution = self.get(flow_sid, sid)
            for key in (None, execution.status):
                _remove(self._lists[flow_sid][key], execution)
            del self._by_sid[sid]

    def page(  # noqa: PLR0913 -- the filters of the list operation, all of them by name
        self,
        flow_sid: str,
        *,
        status: Status | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        offset: int = 0,
        size: int = 50,
    ) -> tuple[list[Execution], bool]:
        """A Flow's Executions, newest first, and whether there are more behind them.

        The place is counted among those that match at this moment. So ending while paging through the active
        ones moves the later ones forward, and a page is skipped over, exactly as with Twilio.

        Args:
            flow_sid: The Flow.
            status: Only those.
            created_from: Only those created then or later.
            created_to: Only those created before.
            offset: How many to leave out.
            size: How many at most.

        Raises:
            NotFoundError: The Flow is unknown.
        """
        with self._lock:
            if flow_sid not in self._lists:
                raise NotFoundError(flow_sid)
            entries = self._lists[flow_sid][status]
            first = bisect.bisect_left(entries, created_from, key=_created) if created_from else 0
            end = bisect.bisect_left(entries, created_to, key=_created) if created_to else len(entries)
            newest = end - offset
            oldest = max(first, newest - size)
            found = [execution for _, _, execution in reversed(entries[oldest : max(oldest, newest)])]
            return found, oldest > first


def _entry(execution: Execution) -> tuple[datetime, int, Execution]:
    return execution.date_created, execution.number, execution


def _created(entry: tuple[datetime, int, Execution]) -> datetime:
    return entry[0]


def _remove(entries: list[tuple[datetime, int, Execution]], execution: Execution) -> None:
    del entries[bisect.bisect_left(entries, _entry(execution))]


def _whole_seconds(instant: datetime | None) -> datetime:
    return (instant or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)


def _written(instant: datetime | None) -> str | None:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ") if instant else None


def _check(prefix: Literal["AC", "FW", "FN"], sid: str) -> None:
    if not is_sid(prefix, sid):
        raise ValueError(f"{sid!r} is no {prefix} SID")
