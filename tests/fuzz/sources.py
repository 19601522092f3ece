"""What senders of webhooks send through declared sources, and declarations that are meant to do harm."""

import base64
import gzip
import hmac
import json
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import parse_qs, parse_qsl, urlencode

from hypothesis import strategies as st

from local import samples, signing
from tests.fuzz.inputs import (
    CANARY,
    FLOWS,
    Json,
    anything,
    bent,
    beside,
    json_texts,
    mostly,
    times,
    whole_commands,
)
from tests.fuzz.model import parsed

FIELDS = ("flow_sid", "execution_sid", "contact", "occurred_at", "account_sid", "conversation_id", "reason")
KEY, FOREIGN_KEY = "one of the keys of a source", "one of somebody else's keys"
BASIC_KEY, FOREIGN_BASIC_KEY = f"user:{KEY}", f"user:{FOREIGN_KEY}"

_COMMAND = {field: field for field in FIELDS}
_OWN: dict[str, Any] = {"keys": [KEY], "when": "status != 'open'", "command": _COMMAND}
SOURCES: dict[str, dict[str, Any]] = {
    "standard": _OWN | {"keys": [signing.KEY], "respond": "sync"},
    "hmac": _OWN
    | {
        "verify": {
            "type": "hmac",
            "header": "X-Signature",
            "encoding": "base64",
            "prefix": "v0=",
            "signed": "{method}{url}{body}{timestamp}",
            "timestamp_header": "X-Time",
            "timestamp_format": "rfc3339",
        },
    },
    "token": _OWN | {"verify": {"type": "token"}, "each": "events"},
    "basic": _OWN | {"verify": {"type": "basic"}, "keys": [BASIC_KEY], "each": "events", "respond": "sync"},
    "twilio": _OWN | {"verify": {"type": "twilio"}},
}
"""A source for each kind of proof; two of them take several events at once."""

_EVENT = samples.load(samples.EVENTS / "source-zendesk.json")
_QUERY = "a=%20b&a=c"
_FORM = "application/x-www-form-urlencoded"


class Call(NamedTuple):
    """A webhook, and what is wrong with it.

    Attributes:
        source: whose it is.
        body: as it is sent.
        is_form: whether it is declared to be a form.
        age: seconds since it was signed.
        sent_at: when the gateway got it, in milliseconds.
        wrong: what keeps it from proving anything; empty if nothing does.
    """

    source: str
    body: bytes
    is_form: bool
    age: int
    sent_at: Json
    wrong: str

    @property
    def is_genuine(self) -> bool:
        """Whether it has to be let through."""
        return not self.wrong

    @property
    def payloads(self) -> list[Json] | None:
        """What its events are as commands, without those to ignore; None if it holds no events."""
        if self.is_form:
            try:
                fields = parse_qs(self.body.decode(), keep_blank_values=True, strict_parsing=True)
            except ValueError:
                return None
            body: Json = {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
        else:
            is_json, body = parsed(self.body)
            if not is_json:
                return None
        events: Json = [body]
        if "each" in SOURCES[self.source]:
            events = body.get("events") if isinstance(body, dict) else None
            if not isinstance(events, list) or len(events) > 100:
                return None
        found = [event if isinstance(event, dict) else {} for event in events]
        return [
            {field: event.get(field) for field in FIELDS} for event in found if event.get("status") != "open"
        ]

    def event(self, now: float) -> Json:
        """What API Gateway makes of it."""
        context = _EVENT["requestContext"] | {"timeEpoch": self.sent_at}
        source = "no-source" if self.wrong == "source" else self.source
        if self.wrong == "name":
            source = f"../{source}"
        path, query = f"/webhooks/{source}", _QUERY
        if self.source == "twilio" and not self.is_form:
            query += f"&bodySHA256={sha256(self.body).hexdigest()}"
        url = f"https://{context['domainName']}{path}?{query}"
        headers = self._proof(url, now)
        name = max(headers)
        body = self.body
        if self.wrong == "missing":
            del headers[name]
        elif self.wrong == "longer":
            headers[name] += "x"
        elif self.wrong == "body":
            body += b" "
        return _EVENT | {
            "rawPath": path,
            "rawQueryString": query,
            "headers": headers | {"content-type": _FORM if self.is_form else "application/json"},
            "pathParameters": {"source": source},
            "requestContext": context,
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
        }

    def _proof(self, url: str, now: float) -> dict[str, str]:
        """The headers that prove the source, made by other means than the function's."""
        is_own = self.wrong != "key"
        key = KEY if is_own else FOREIGN_KEY
        at = now - (400 if self.wrong == "old" else self.age)
        match self.source:
            case "standard":
                foreign = base64.b64encode(FOREIGN_KEY.encode()).decode()
                return signing.signed(
                    self.body, key=signing.KEY if is_own else foreign, timestamp=str(int(at))
                )
            case "hmac":
                timestamp = datetime.fromtimestamp(at, UTC).isoformat()
                content = f"POST{url}".encode() + self.body + timestamp.encode()
                digest = hmac.digest(key.encode(), content, "sha256")
                return {"x-time": timestamp, "x-signature": f"v0={base64.b64encode(digest).decode()}"}
            case "basic":
                user = BASIC_KEY if is_own else FOREIGN_BASIC_KEY
                return {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}
            case "twilio":
                # https://www.twilio.com/docs/usage/webhooks/webhooks-security
                fields = parse_qsl(self.body.decode(), keep_blank_values=True) if self.is_form else []
                content = (url + "".join(name + value for name, value in sorted(set(fields)))).encode()
                digest = hmac.digest(key.encode(), content, "sha1")
                return {"x-twilio-signature": base64.b64encode(digest).decode()}
        return {"Authorization": f"Bearer {key}"}


_events = st.builds(
    lambda event, status: event | status,
    mostly(whole_commands, bent(whole_commands)),
    st.sampled_from([{}, {}, {"status": "open"}, {"status": CANARY}]),
)


@st.composite
def _calls(draw: st.DrawFn) -> Call:
    source = draw(st.sampled_from(list(SOURCES)))
    is_form = draw(st.integers(0, 2)) == 0
    if is_form:
        fields: list[tuple[str, str]] = [
            (name.encode(errors="replace").decode(), str(value).encode(errors="replace").decode())
            for name, value in (draw(_events) | {"note": CANARY}).items()
        ]
        body = urlencode(fields + draw(st.sampled_from([[], [], fields[:1]]))).encode()
    else:
        bodies: Any = _events
        if "each" in SOURCES[source]:
            several = st.fixed_dictionaries({"events": st.lists(_events, max_size=3)})
            bodies = several | st.just({"events": [{}] * 101}) | anything
        text = draw(mostly(bodies.map(json.dumps), json_texts(bodies)))
        body = text.encode(errors="surrogatepass")
    wrong = ["missing", "longer", "key", "source", "name"]
    if source in ("standard", "hmac"):
        wrong.append("old")
    # What holds the key itself says nothing about the body; of a form, a space is in no field of its own.
    if source in ("standard", "hmac") or (source == "twilio" and not is_form):
        wrong.append("body")
    is_wrong = draw(st.integers(0, 3)) == 0
    return Call(
        source,
        body,
        is_form,
        draw(st.integers(-280, 280)),
        draw(times),
        draw(st.sampled_from(wrong)) if is_wrong else "",
    )


calls = _calls()
"""Webhooks of declared sources."""

_FUNCTIONS = (
    *("abs", "avg", "ceil", "contains", "ends_with", "floor", "join", "keys", "length", "map", "max"),
    *("max_by", "merge", "min", "min_by", "not_null", "reverse", "sort", "sort_by", "starts_with", "sum"),
    *("to_array", "to_number", "to_string", "type", "values", "powertools_json", "powertools_base64"),
    *("powertools_base64_gzip", "from_unix", "from_unix_ms", "e164", "no_such_function"),
)
_leaves = st.sampled_from(
    ["a", "b", "@", '"é"', "'x'", f"'{CANARY}'", '`"x"`', "`[1, [2]]`", "a[*]", "*", "[]"]
)
_forms = st.sampled_from(
    [
        *("%s | %s", "[%s, %s]", "[%s, %s][]", "[%s, %s].a", "{a: %s, b: %s}", "%s || %s", "%s && %s"),
        *("(%s)[?%s]", "(%s)[*].[%s]", "(%s)[].{b: %s}", "(%s) == (%s)", "(%s) < (%s)", "!(%s) | %s"),
        *("map(&%s, %s)", "sort_by(%s, &%s)", "max_by(%s, &%s)", "join(%s, %s)", "merge(%s, %s)"),
        *("contains(%s, %s)", "join('-', [%s, %s])", "%s.%s", "&%s | %s"),
    ]
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds(lambda form, pair: form % pair, _forms, st.tuples(inner, inner)),
        st.builds("{}({})".format, st.sampled_from(_FUNCTIONS), inner),
        st.builds("({})[{}]".format, inner, st.sampled_from(["0", "-1", "::-1", "1:9:2", "*", "::0"])),
        # What doubles what it has, or nests.
        st.builds(lambda text, times: " | ".join([text] * times), inner, st.integers(2, 20)),
        st.builds(lambda text, times: f"{'[' * times}{text}{']' * times}", inner, st.integers(2, 40)),
    )


_expressions = mostly(st.recursive(_leaves, _larger, max_leaves=6), beside(["a.b", "'x'", "a[?b]"]))

_token, _hmac = ({"verify": each} for each in ({"type": "token"}, SOURCES["hmac"]["verify"]))
_declarations = st.builds(
    lambda one, other: one | other,
    mostly(
        st.sampled_from([_token, _hmac, {"preset": "zendesk"}, {"preset": "salesforce"}]),
        bent(st.just(_hmac)),
    ),
    st.fixed_dictionaries(
        {
            "keys": st.just([KEY]),
            "command": st.fixed_dictionaries(
                {"flow_sid": st.just(f"'{FLOWS[0]}'"), "contact": _expressions},
                optional={"conversation_id": _expressions},
            ),
        },
        optional={"each": mostly(st.just("@"), _expressions), "when": _expressions},
    ),
)
_secrets = st.fixed_dictionaries(
    {
        "sources": st.dictionaries(
            # A name that is one is told: it is the operator's own.
            mostly(st.just("crm"), st.sampled_from(["conversation-ended", "a" * 33, f"{CANARY}.", ""])),
            mostly(_declarations, bent(_declarations)),
            min_size=1,
            max_size=2,
        )
    },
    optional={"keys": st.lists(st.sampled_from([signing.KEY, CANARY]), max_size=2) | anything},
)

_SIZE = 30_000
_hostile = st.sampled_from(
    [
        [0] * _SIZE,
        [[]] * _SIZE,
        [{"a": 1, "b": CANARY}] * (_SIZE // 10),
        {"a": {str(number): number for number in range(_SIZE // 5)}},
        {"a": base64.b64encode(gzip.compress(bytes(10**7))).decode(), "b": json.dumps([[CANARY]] * 999)},
        {"a": '"\\' * _SIZE, "b": [CANARY] * 99},
    ]
)
declared = st.tuples(
    mostly(_secrets.map(json.dumps), json_texts(_secrets)), (_hostile | anything).map(json.dumps)
)
"""The secret of the webhooks, and the body of a webhook."""


def webhook(source: str, body: str) -> Json:
    """What API Gateway makes of a webhook with this body."""
    return _EVENT | {"pathParameters": {"source": source}, "body": body}
