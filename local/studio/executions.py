"""The Executions that the stand-in keeps, in the order in which Twilio lists them."""

import hashlib
import json
import re
import secrets
import threading
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Literal

ACCOUNT_SID = "AC" + "0123456789abcdef" * 2
OTHER_ACCOUNT_SID = "AC" + "fedcba9876543210" * 2

Status = Literal["active", "ended"]
Paging = Literal["offset", "cursor"]

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
    """The Execution has already ended."""


@dataclass(slots=True, eq=False)
class Execution:
    """One contact's run through a Flow. Dates are in UTC and whole seconds, as in Twilio's API."""

    sid: str
    account_sid: str
    flow_sid: str
    contact: str
    status: Status
    date_created: datetime
    date_updated: datetime | None
    context: dict[str, Any] = field(repr=False)
    number: int
    """The place in the order of creation, for Executions of the same second."""
    _rendered: tuple[str, bytes] | None = field(default=None, init=False, repr=False)

    def to_dict(self, base_url: str) -> dict[str, Any]:
        """The resource as Twilio's API returns it."""
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
            "date_created": _iso(self.date_created),
            "date_updated": _iso(self.date_updated),
            "initiated_by": f"SM{self.sid[2:]}",
            "url": url,
            "links": {"steps": f"{url}/Steps", "execution_context": f"{url}/Context"},
        }

    def to_json(self, base_url: str) -> bytes:
        """The same as JSON, rendered once: a page of 1,000 costs a copy."""
        if self._rendered is None or self._rendered[0] != base_url:
            self._rendered = base_url, json.dumps(self.to_dict(base_url)).encode()
        return self._rendered[1]

    def end(self) -> None:
        """Set the status."""
        self.status = "ended"
        self.date_updated = _whole_seconds(None)
        self._rendered = None


_Entry = tuple[datetime, int, Execution]


class _Flow:
    """A Flow's Executions, oldest first: all, and by status."""

    def __init__(self, account_sid: str) -> None:
        self.account_sid = account_sid
        self.entries: dict[Status | None, list[_Entry]] = {None: [], "active": [], "ended": []}

    def insert(self, execution: Execution, *keys: Status | None) -> None:
        entry = _entry(execution)
        for key in keys:
            entries = self.entries[key]
            if not entries or entries[-1] < entry:
                entries.append(entry)
            else:
                insort(entries, entry)

    def remove(self, execution: Execution, *keys: Status | None) -> None:
        for key in keys:
            del self.entries[key][bisect_left(self.entries[key], _entry(execution))]


class Executions:
    """A thread-safe collection of Executions by Flow, always in order, so that a page costs a slice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count()
        self._by_sid: dict[str, Execution] = {}
        self._flows: dict[str, _Flow] = {}

    def __len__(self) -> int:
        return len(self._by_sid)

    def add_flow(self, flow_sid: str, account_sid: str = ACCOUNT_SID) -> None:
        """Create a Flow of this account, unless it exists. Twilio answers 404 for others."""
        if flow_sid not in self._flows:
            _check("FW", flow_sid)
            _check("AC", account_sid)
            with self._lock:
                self._flows.setdefault(flow_sid, _Flow(account_sid))

    def account_of(self, flow_sid: str) -> str | None:
        """The account that a Flow belongs to; ``None`` if there is no such Flow."""
        flow = self._flows.get(flow_sid)
        return flow.account_sid if flow else None

    def add(  # noqa: PLR0913 -- these are the properties of the resource, all of them by name
        self,
        flow_sid: str,
        sid: str | None = None,
        *,
        account_sid: str = ACCOUNT_SID,
        contact: str = "+15005550006",
        status: Status = "active",
        date_created: datetime | None = None,
        context: dict[str, Any] | None = None,
    ) -> Execution:
        """Add an Execution, and its Flow if there is none.

        Args:
            flow_sid: The Flow.
            sid: The Execution's SID; by default a new one.
            account_sid: The account of the Flow, if the Flow is new.
            contact: The contact's channel address.
            status: ``active`` or ``ended``.
            date_created: Any instant with a zone; by default now.
            context: The Flow's state in this run.

        Raises:
            ValueError: The SID is invalid or taken.
        """
        if sid is None:
            sid = new_sid("FN")
        else:
            _check("FN", sid)
        self.add_flow(flow_sid, account_sid)
        created = _whole_seconds(date_created)
        with self._lock:
            if sid in self._by_sid:
                raise ValueError(f"{sid} is taken")
            flow = self._flows[flow_sid]
            execution = Execution(
                sid=sid,
                account_sid=flow.account_sid,
                flow_sid=flow_sid,
                contact=contact,
                status=status,
                date_created=created,
                date_updated=created if status == "ended" else None,
                context=context or {},
                number=next(self._numbers),
            )
            self._by_sid[sid] = execution
            flow.insert(execution, None, status)
        return execution

    def all(self, status: Status | None = None) -> Iterator[Execution]:
        """Every Execution of this status, or of any, in the order of their creation."""
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
            self._flows[flow_sid].remove(execution, "active")
            execution.end()
            self._flows[flow_sid].insert(execution, "ended")
        return execution

    def delete(self, flow_sid: str, sid: str) -> None:
        """Delete an Execution, or raise ``NotFoundError``."""
        with self._lock:
            execution = self.get(flow_sid, sid)
            self._flows[flow_sid].remove(execution, None, execution.status)
            del self._by_sid[sid]

    def page(  # noqa: PLR0913 -- the filters of the list operation, all of them by name
        self,
        flow_sid: str,
        *,
        status: Status | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        token: int = 0,
        size: int = 50,
        paging: Paging = "offset",
    ) -> tuple[list[Execution], int | None, int | None]:
        """A page of a Flow's Executions, newest first, with the tokens of the next and the previous page.

        By offset, a token counts the Executions before the page among those that match now. If some of them
        end, the rest moves forward, and a part of it is never listed. By cursor, a token names the last
        Execution before the page, and nothing is skipped.

        Args:
            flow_sid: The Flow.
            status: Only those.
            created_from: Only those created then or later.
            created_to: Only those created before.
            token: Of the page; 0 is the first.
            size: How many at most.
            paging: What tokens mean.

        Raises:
            NotFoundError: There is no such Flow.
        """
        with self._lock:
            if flow_sid not in self._flows:
                raise NotFoundError(flow_sid)
            entries = self._flows[flow_sid].entries[status]
            first = bisect_left(entries, created_from, key=_created) if created_from else 0
            end = bisect_left(entries, created_to, key=_created) if created_to else len(entries)
            if paging == "offset" or not token:
                newest = end - token
            else:
                newest = min(end, bisect_left(entries, divmod(token, _NUMBERS), key=_position))
            oldest = max(first, newest - size)
            found = [execution for *_, execution in reversed(entries[oldest : max(oldest, newest)])]
            if paging == "offset":
                following, previous = token + size, max(0, token - size)
            else:
                following = _cursor(found[-1]) if found else 0
                previous = _cursor(entries[newest + size][2]) if newest + size < end else 0
            return found, following if oldest > first else None, previous if token else None


_NUMBERS = 1 << 64
"""A cursor is a point in time and a number below this."""


def _cursor(execution: Execution) -> int:
    return int(execution.date_created.timestamp()) * _NUMBERS + execution.number


def _entry(execution: Execution) -> _Entry:
    return execution.date_created, execution.number, execution


def _created(entry: _Entry) -> datetime:
    return entry[0]


def _position(entry: _Entry) -> tuple[int, int]:
    return int(entry[0].timestamp()), entry[1]


def _whole_seconds(instant: datetime | None) -> datetime:
    return (instant or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)


def _iso(instant: datetime | None) -> str | None:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ") if instant else None


def _check(prefix: Literal["AC", "FW", "FN"], sid: str) -> None:
    if not is_sid(prefix, sid):
        raise ValueError(f"{sid!r} is not a valid {prefix} SID")
