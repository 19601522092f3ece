"""Commands: mostly right, often slightly wrong, with a canary in every value that no output may contain."""

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

from conftest import ACCOUNT_SID
from hypothesis import strategies as st

CANARY = "canary7e57c0de"
"""In contacts, and in fields that the function does not know."""

FLOWS = ("FW" + "a1" * 16, "FW" + "B2" * 16)
UNKNOWN_FLOW = "FW" + "c3" * 16
"""Allowed, but Twilio does not know it."""
FOREIGN_FLOW = "FW" + "d4" * 16
"""Not allowed, but Twilio knows it."""
EXECUTIONS = tuple(f"FN{digits * 16}" for digits in ("01", "02", "03", "EF"))
CLIENT, PHONE = f"client:{CANARY}", "whatsapp:+15005550101"
NEAR = {"+15005550101": "channel", "sms:5005550101": "digits", "(500) 555-0101": "digits"}
"""Addresses that are close to PHONE, and how."""
STRANGER = f"client:{CANARY}-nobody"

Json = Any

fragments = st.sampled_from(["", *'\n/?#g .,"\\\0é', "\r\n", "..", "%2e%2e%2f", "\uff10", "\ud800"])
_texts = st.text(max_size=12) | fragments
_leaves = st.none() | st.booleans() | st.integers() | st.floats() | _texts


def _nested(leaves: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
        max_leaves=5,
    )


harmless = _nested(_leaves)
"""Any JSON without the canary."""

anything = _nested(_leaves | st.just(CANARY))
"""Any JSON."""


@st.composite
def beside(draw: st.DrawFn, texts: Sequence[str]) -> str:
    """One of these texts, slightly changed."""
    text = draw(st.sampled_from(texts))
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(fragments) + text[at + draw(st.integers(0, 2)) :]


@st.composite
def mostly(draw: st.DrawFn, right: st.SearchStrategy[Json], wrong: st.SearchStrategy[Json]) -> Json:
    """The right value five times out of six."""
    return draw(wrong if draw(st.integers(0, 5)) == 5 else right)


_FLOW_SIDS = (*FLOWS, UNKNOWN_FLOW, FOREIGN_FLOW)
flow_sids = mostly(st.sampled_from((*FLOWS * 3, *_FLOW_SIDS)), beside(_FLOW_SIDS) | anything)
execution_sids = mostly(st.sampled_from(EXECUTIONS), beside(EXECUTIONS) | anything)
_addresses = st.sampled_from([CLIENT, PHONE, *NEAR, STRANGER])
_contact = mostly(_addresses, beside([CLIENT, PHONE]) | anything)
contacts = mostly(_contact, st.lists(_contact, max_size=4) | st.just([CLIENT] * 11))
date_times = st.one_of(
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.sampled_from(["2026-03-02T09:41:07Z", "2100-01-01T00:00:00Z", "2016-12-31T23:59:60Z"]),
    st.sampled_from(["9999-12-31T23:59:60Z", "9999-12-31T23:59:60+01:00", "0001-01-01t00:00:00+23:59"]),
    st.from_regex(
        r"[0-9]{4}-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,12})?(Z|[+-][0-2][0-9]:[0-6][0-9])",
        fullmatch=True,
    ),
    beside(["2026-03-02T09:41:07Z", "2026-03-02T09:41:07.123456789+01:00"]),
)
_ACCOUNTS = (ACCOUNT_SID, ACCOUNT_SID.lower(), "AC" + "e5" * 16)
account_sids = mostly(st.sampled_from((None, *_ACCOUNTS)), beside(_ACCOUNTS) | anything)
_for_logs = mostly(st.text(min_size=1, max_size=9), harmless)
_dry_run = st.sampled_from([None, False, True])
_optional = {"occurred_at": date_times, "account_sid": account_sids, "dry_run": _dry_run}

whole_commands = st.one_of(
    st.fixed_dictionaries({"flow_sid": flow_sids, "execution_sid": execution_sids}, optional=_optional),
    st.fixed_dictionaries({"flow_sid": flow_sids, "contact": contacts}, optional=_optional),
)
"""Commands with all required fields."""

commands = whole_commands | st.fixed_dictionaries(
    {},
    optional={
        "flow_sid": flow_sids,
        "execution_sid": execution_sids,
        "contact": contacts,
        "occurred_at": date_times | anything,
        "account_sid": account_sids,
        "conversation_id": _for_logs,
        "reason": _for_logs,
        "dry_run": _dry_run | anything,
        "note": anything,
        CANARY: anything,
    },
)
"""Commands, complete or not."""


@st.composite
def json_texts(draw: st.DrawFn, values: st.SearchStrategy[Json]) -> str:
    """A JSON text, sometimes damaged."""
    text = json.dumps(draw(values), ensure_ascii=draw(st.booleans()))
    match draw(st.integers(0, 9)):
        case 0:
            at = draw(st.integers(0, len(text)))
            return text[:at] + draw(_texts) + text[at + draw(st.integers(0, 9)) :]
        case 1:
            return draw(st.text(max_size=40))
        case 2:
            piece = draw(st.sampled_from(["[", '{"a":', "1", " ", '"', "\\u0000", "-", CANARY]))
            return piece * draw(st.sampled_from([1, 30, 20_000])) + text
    return text


@st.composite
def damaged(draw: st.DrawFn, values: st.SearchStrategy[Json]) -> Json:
    """A value with up to two of its parts replaced or missing."""
    value = copy.deepcopy(draw(values))
    for _ in range(draw(st.integers(0, 2))):
        if not (places := list(_places(value))):
            break
        container, key = draw(st.sampled_from(places))
        if draw(st.booleans()):
            container[key] = draw(harmless)
        else:
            del container[key]
    return value


def _places(value: Json) -> Iterator[tuple[Any, Any]]:
    for key, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield value, key
        yield from _places(inner)
