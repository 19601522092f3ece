"""What is sent: mostly what makes sense, a little beside it, and the canary where nobody may repeat it."""

import base64
import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from local import samples, signing
from local.studio import ACCOUNT_SID

CANARY = "canary7e57c0de"
"""In every contact, and in everything else that is nobody's business. No name of a field has digits."""

FLOWS = ("FW" + "a1" * 16, "FW" + "B2" * 16)
UNKNOWN_FLOW = "FW" + "c3" * 16
"""The function may work on it, and Twilio does not know it."""
FOREIGN_FLOW = "FW" + "d4" * 16
"""The function may not work on it, and Twilio knows it."""
EXECUTIONS = tuple(f"FN{digits * 16}" for digits in ("01", "02", "03", "EF"))
CONTACTS = tuple(f"client:{CANARY}-{number}" for number in range(3))

LARGE = 100_000
"""How often a text is repeated that is to be large."""

Json = Any

_fragments = st.sampled_from(
    [
        "",
        "\n",
        "\r\n",
        "/",
        "?",
        "#",
        "..",
        "%2e%2e%2f",
        "\uff10",
        "g",
        " ",
        ".",
        ",",
        '"',
        "\\",
        "\0",
        "\ud800",
        "é",
    ]
)
_texts = st.text(max_size=12) | _fragments
_plain_leaf = st.none() | st.booleans() | st.integers() | st.floats() | _texts


def _nested(leaf: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
        max_leaves=5,
    )


plain = _nested(_plain_leaf)
"""Any JSON without a canary."""

anything = _nested(_plain_leaf | st.just(CANARY))
"""Any JSON."""


@st.composite
def beside(draw: st.DrawFn, texts: Sequence[str]) -> str:
    """One of these texts with something wrong with it."""
    text = draw(st.sampled_from(texts))
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(_fragments) + text[at + draw(st.integers(0, 2)) :]


@st.composite
def mostly(draw: st.DrawFn, right: st.SearchStrategy[Json], wrong: st.SearchStrategy[Json]) -> Json:
    """What is right, but for one time in six."""
    return draw(wrong if draw(st.integers(0, 5)) == 5 else right)


_FLOW_SIDS = (*FLOWS, UNKNOWN_FLOW, FOREIGN_FLOW)
flow_sids = mostly(st.sampled_from((*FLOWS * 3, *_FLOW_SIDS)), beside(_FLOW_SIDS) | anything)
execution_sids = mostly(st.sampled_from(EXECUTIONS), beside(EXECUTIONS) | anything)
contacts = mostly(st.sampled_from(CONTACTS), beside(CONTACTS) | anything)

date_times = st.one_of(
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.sampled_from(["2026-03-02T09:41:07Z", "2100-01-01T00:00:00Z"]),
    st.sampled_from(
        [
            "2016-12-31T23:59:60Z",
            "9999-12-31T23:59:60Z",
            "9999-12-31T23:59:60+01:00",
            "0001-01-01t00:00:00+23:59",
        ]
    ),
    st.from_regex(
        r"[0-9]{4}-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,12})?(Z|[+-][0-2][0-9]:[0-6][0-9])",
        fullmatch=True,
    ),
    beside(["2026-03-02T09:41:07Z", "2026-03-02T09:41:07.123456789+01:00"]),
)

_FAR_AWAY = 4_102_444_800_000
"""2100-01-01 in milliseconds: a trigger's time that restricts nothing, since nothing occurred after now."""

_told = mostly(st.text(min_size=1, max_size=9), plain)

_ACCOUNTS = (ACCOUNT_SID, ACCOUNT_SID.upper(), "AC" + "e5" * 16)
account_sids = mostly(st.sampled_from((None, *_ACCOUNTS)), beside(_ACCOUNTS) | anything)
"""The default account's, in both cases, and that of an account that is none of the function's."""

_SOMETIMES = {"occurred_at": date_times, "account_sid": account_sids}

whole_commands = st.one_of(
    [
        st.fixed_dictionaries({"flow_sid": flow_sids, one: values}, optional=_SOMETIMES)
        for one, values in (("execution_sid", execution_sids), ("contact", contacts))
    ]
)
"""The command with all that it needs."""

commands = whole_commands | st.one_of(
    whole_commands,
    st.fixed_dictionaries(
        {},
        optional={
            "flow_sid": flow_sids,
            "execution_sid": execution_sids,
            "contact": contacts,
            "occurred_at": date_times | anything,
            "account_sid": account_sids,
            "conversation_id": _told,
            "reason": _told,
            "note": anything,
            CANARY: anything,
        },
    ),
)
"""The command, complete or not."""


@st.composite
def json_texts(draw: st.DrawFn, values: st.SearchStrategy[Json]) -> str:
    """A JSON text, or what is left of one."""
    text = json.dumps(draw(values), ensure_ascii=draw(st.booleans()))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(_texts) + text[at + draw(st.integers(0, 9)) :]
    elif kind == 1:
        text = draw(st.text(max_size=40))
    elif kind == 2:
        piece = draw(st.sampled_from(["[", '{"a":', "1", " ", '"', "\\u0000", '{"flow_sid":"', "-", CANARY]))
        text = piece * draw(st.sampled_from([1, 30, LARGE])) + draw(st.sampled_from(["", text]))
    return text


@st.composite
def bent(draw: st.DrawFn, values: st.SearchStrategy[Json]) -> Json:
    """Such a value, of which some part may be another one, or missing."""
    value = copy.deepcopy(draw(values))
    for _ in range(draw(st.integers(0, 2))):
        places = list(_places(value))
        if not places:
            break
        container, key = places[draw(st.integers(0, len(places) - 1))]
        if draw(st.booleans()):
            container[key] = draw(plain)
        else:
            del container[key]
    return value


def _places(value: Json) -> Iterator[tuple[Any, Any]]:
    keyed = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in keyed:
        yield value, key
        yield from _places(inner)


def _sample(name: str) -> Json:
    return samples.load(samples.EVENTS / f"{name}.json")


_HTTP, _REST, _WEBHOOK = _sample("http"), _sample("http-rest"), _sample("webhook")
_EVENT, _RECORD = _sample("eventbridge"), _sample("sqs")["Records"][0]

times = st.integers(0, _FAR_AWAY) | st.sampled_from([_FAR_AWAY, str(_FAR_AWAY), -1, 10**20]) | plain
"""When a trigger had an event, in milliseconds, or anything."""

_media_types = st.sampled_from(["application/json", "Application/JSON ; charset=utf-8", "text/plain", ""])
_header_names = st.sampled_from(["content-type", "Content-Type", "CONTENT-TYPE", "x-other"])
_headers: st.SearchStrategy[dict[str, Json]] = st.dictionaries(
    _header_names, _media_types | plain, max_size=3
) | st.just({})

_preferences = st.sampled_from([{}, {}, {"prefer": "wait=5, respond-async"}, {"Prefer": '"respond-async"'}])


@st.composite
def _http_events(draw: st.DrawFn) -> Json:
    body: Json = draw(json_texts(commands))
    encoded = draw(st.booleans())
    if encoded:
        body = base64.b64encode(body.encode(errors="surrogatepass")).decode()
    event: dict[str, Any] = copy.deepcopy(draw(st.sampled_from([_HTTP, _REST])))
    event |= {"body": body, "isBase64Encoded": encoded}
    event["headers"] = event["headers"] | draw(_headers) | draw(_preferences) | {"x-note": CANARY}
    event["rawQueryString"] = CANARY
    event["requestContext"]["requestTimeEpoch" if "resource" in event else "timeEpoch"] = draw(times)
    return event


@st.composite
def _eventbridge_events(draw: st.DrawFn) -> Json:
    event = _EVENT | {"detail": draw(commands), "note": CANARY}
    return event | draw(st.fixed_dictionaries({}, optional={"time": date_times}))


@st.composite
def _messages(draw: st.DrawFn) -> Json:
    """The body and the time of a message."""
    body = draw(json_texts(commands | _eventbridge_events()))
    return _RECORD | {"body": body, "attributes": _RECORD["attributes"] | {"SentTimestamp": draw(times)}}


@st.composite
def _sqs_events(draw: st.DrawFn) -> Json:
    messages = draw(st.lists(bent(_messages()) | _messages(), min_size=1, max_size=3))
    return {"Records": [_as_sqs_has_it(message, number) for number, message in enumerate(messages)]}


def _as_sqs_has_it(message: dict[str, Any], number: int) -> Json:
    body = message.get("body")
    # Half of a surrogate pair cannot get into a queue, nor out of it.
    body = body.encode(errors="replace").decode() if isinstance(body, str) else body
    return message | {"messageId": f"message-{number}"} | ({} if body is None else {"body": body})


events = st.one_of(
    *[
        strategy
        for made in (_http_events(), _eventbridge_events(), _sqs_events())
        for strategy in (made, bent(made))
    ],
    commands,
    bent(commands),
    anything,
)
"""What Lambda may hand to the function, by every trigger but signed webhooks."""


class Webhook(NamedTuple):
    """A signed request, and what happened to it on its way.

    Attributes:
        body: as its sender signed it.
        age: seconds since then.
        key: which it was signed with.
        changed: headers that became something else.
        missing: headers that got lost.
        replaced: the body that came, if it is another one.
        entries: what else `webhook-signature` holds before the right one.
    """

    body: bytes
    age: int
    key: str
    changed: dict[str, str]
    missing: set[str]
    replaced: bytes | None
    entries: list[str]

    @property
    def is_genuine(self) -> bool:
        """Whether nothing happened to it that its receiver has to notice."""
        untouched = not self.changed and not self.missing and self.replaced is None
        # Seconds from here to the tolerance, within which the invocation itself takes its time.
        return untouched and abs(self.age) < signing_tolerance() and self.key == signing.KEY

    def event(self, now: float) -> Json:
        """What API Gateway makes of it."""
        timestamp = str(int(now) - self.age)
        headers = signing.signed(self.body, key=self.key, message_id="msg_1", timestamp=timestamp)
        headers["webhook-signature"] = " ".join([*self.entries, headers["webhook-signature"]])
        headers = {
            name: value for name, value in (headers | self.changed).items() if name not in self.missing
        }
        body = self.body if self.replaced is None else self.replaced
        return _WEBHOOK | {
            "headers": headers | {"content-type": "application/json", "x-note": CANARY},
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
        }


def signing_tolerance() -> int:
    """Seconds that a request may be old, less what an invocation may take."""
    return 290


FOREIGN_KEY = "whsec_" + base64.b64encode(b"somebody else's own signing key").decode()

_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
_genuine = st.builds(
    Webhook,
    body=json_texts(commands).map(lambda text: text.encode(errors="surrogatepass")),
    age=st.integers(-280, 280),
    key=st.just(signing.KEY),
    changed=st.just({}),
    missing=st.just(set()),
    replaced=st.none(),
    entries=st.lists(st.sampled_from(["v1,", "v1", "v2,AAAA", "é", "v1a,x", ""]), max_size=2),
)
_anyhow = st.builds(
    Webhook,
    body=json_texts(commands).map(lambda text: text.encode(errors="surrogatepass")),
    age=st.integers(-400, 400) | st.sampled_from([0, 0, 0, 10**6, -(10**6)]),
    key=st.sampled_from([signing.KEY, signing.KEY, FOREIGN_KEY]),
    changed=st.dictionaries(
        st.sampled_from(_HEADERS),
        _texts | beside(["msg_1", "1772444469", "v1," + "A" * 43 + "="]),
        max_size=2,
    ),
    missing=st.sets(st.sampled_from(_HEADERS), max_size=1),
    replaced=st.none() | st.binary(max_size=20),
    entries=st.lists(_texts | st.sampled_from(["v1," + "A" * 43 + "="]), max_size=3),
)
webhooks = _genuine | _anyhow
"""Signed requests, genuine and forged."""

sweeps = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "flow_sids": st.lists(flow_sids, max_size=3),
            "older_than_minutes": st.sampled_from([0, 30, 90, 1440]) | st.integers(),
            "limit": st.integers(-1, 3) | plain,
            "dry_run": st.booleans(),
        },
    ),
    bent(st.fixed_dictionaries({"flow_sids": st.lists(flow_sids, max_size=3), "dry_run": anything})),
    st.fixed_dictionaries({"dry_run": st.booleans(), CANARY: anything}),
    anything,
)
"""The input of the sweep."""


class Reply(NamedTuple):
    """What Twilio sends in answer to one request.

    Attributes:
        content: every byte of it.
        closes: whether it hangs up then; else it keeps the connection, also if the answer is not whole.
        document: what its body was before anything happened to it.
    """

    content: bytes
    closes: bool
    document: Json = None


_page_urls = st.sampled_from(
    [
        None,
        "",
        "https://studio.twilio.com/v2/Flows/x/Executions?PageSize=50&Page=1&PageToken=PAFN01",
        "https://evil.example/v2?PageToken=PAFN02&Page=2&status=ended&DateCreatedTo=x",
        "http://[/?PageToken=%0d%0aHost:evil.example",
        "?PageToken=a&PageToken=b",
        "?PageToken=a\ud800",
    ]
)
_shown = st.fixed_dictionaries(
    {
        "sid": st.sampled_from(EXECUTIONS),
        "flow_sid": st.sampled_from(FLOWS),
        "status": st.sampled_from(["active", "ended"]),
        "contact_channel_address": st.sampled_from(CONTACTS),
        "context": st.just({"note": CANARY}),
        "date_created": st.sampled_from(["2026-03-02T09:41:07Z", "0000-00-00", "9999-12-31T23:59:59Z"]),
        "date_updated": st.none() | st.just("2026-03-02T09:41:07Z"),
    }
)
_documents = st.one_of(
    bent(_shown),
    bent(
        st.fixed_dictionaries(
            {
                "executions": st.lists(bent(_shown), max_size=3),
                "meta": st.fixed_dictionaries({"next_page_url": _page_urls}),
            }
        )
    ),
    bent(
        st.fixed_dictionaries(
            {
                "code": st.sampled_from([20404, 20409, 20429, 20001, True, 10**9]),
                "message": st.just(CANARY),
                "more_info": st.just(CANARY),
                "type": st.sampled_from(["https://www.twilio.com/docs/api/errors/20409", CANARY]),
                "status": st.integers(100, 599),
            }
        )
    ),
    anything,
)
_statuses = st.sampled_from(
    [200, 200, 200, 201, 204, 304, 307, 400, 401, 403, 404, 409, 409, 429, 500, 503, 101, 103]
)
_field_lines = st.sampled_from(
    [
        b"Connection: close",
        b"Connection: keep-alive",
        b"Content-Length: 0",
        b"Content-Length: 3",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked",
        b"Content-Encoding: gzip",
        b"Retry-After: 1",
        b"Retry-After: 99999999",
        b"Retry-After: Fri, 31 Dec 1999 23:59:59 GMT",
        b"Twilio-Request-Id: RQ0123",
        b"Twilio-Request-Id: " + b"\xff" * 9,
        b"Location: http://evil.example/",
        b"Set-Cookie: note=" + CANARY.encode(),
        b" folded",
        b"no colon",
        b"X: " + b"y" * 70_000,
    ]
)


@st.composite
def _replies(draw: st.DrawFn) -> Reply:
    if draw(st.integers(0, 15)) == 0:
        return Reply(draw(st.binary(max_size=60)), closes=True)
    document = draw(_documents)
    body = json.dumps(document).encode()
    kind = draw(st.integers(0, 9))
    if kind == 0:
        body = body[: draw(st.integers(0, len(body)))]
    elif kind == 1:
        body = draw(st.binary(max_size=30)) + body
    framed = b"Content-Length: %d" % len(body)
    if draw(st.integers(0, 5)) == 0:
        framed = b"Transfer-Encoding: chunked"
        size = draw(st.sampled_from([b"%x" % len(body), b"ffffffff", b"-1", b"zz", b"0"]))
        body = size + b"\r\n" + body + b"\r\n0\r\n" + draw(st.sampled_from([b"\r\n", b"", b"X: y\r\n\r\n"]))
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b"ICY"]))
    lines = [
        version + b" %d " % draw(_statuses) + draw(st.sampled_from([b"OK", b"", CANARY.encode()])),
        framed,
        *draw(st.lists(_field_lines, max_size=2)),
    ]
    content = b"\r\n".join([*lines, b"", body])
    extra = draw(st.sampled_from([b"", b"", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]))
    return Reply(content + extra, closes=draw(st.sampled_from([True, True, False])), document=document)


class Exchange(NamedTuple):
    """An event, and what Twilio says to each of the requests that come of it."""

    event: Json
    is_sweep: bool
    replies: list[Reply]


exchanges = st.builds(
    lambda asked, replies: Exchange(asked[0], asked[1], replies),
    st.sampled_from(
        [
            ({"flow_sid": FLOWS[0], "execution_sid": EXECUTIONS[0]}, False),
            ({"flow_sid": FLOWS[0], "contact": CONTACTS[0]}, False),
            ({"flow_sids": list(FLOWS), "older_than_minutes": 0}, True),
            (_HTTP | {"body": json.dumps({"flow_sid": FLOWS[0], "execution_sid": EXECUTIONS[0]})}, False),
        ]
    ),
    st.lists(_replies(), min_size=1, max_size=5),
)
"""Valid commands, and a Twilio that says anything."""
