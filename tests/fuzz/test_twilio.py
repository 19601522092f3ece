"""For any response of Twilio's the outcome is a documented one, and success only where Twilio says so."""

import json
from typing import Any

import pytest
from conftest import sample
from hypothesis import strategies as st

from end_conversation import app, sweep
from fuzz.conftest import World, fuzz
from fuzz.inputs import CANARY, CLIENT, EXECUTIONS, FLOWS, Json, anything, damaged
from local.studio import Fault

FAILURES = {
    *("execution_not_found", "credentials_rejected", "credentials_unavailable"),
    *("twilio_error", "twilio_throttled", "twilio_timeout"),
}

_urls = [
    None,
    "",
    "https://studio.twilio.com/v2/Flows/x/Executions?PageSize=50&Page=1&PageToken=PAFN01",
    "https://evil.example/v2?PageToken=PAFN02&Page=2&status=ended&DateCreatedTo=x",
    "http://[/?PageToken=%0d%0aHost:evil.example",
    "?PageToken=a&PageToken=b",
    "?PageToken=a\ud800",
]
_execution = st.fixed_dictionaries(
    {
        "sid": st.sampled_from(EXECUTIONS),
        "flow_sid": st.sampled_from(FLOWS),
        "status": st.sampled_from(["active", "ended"]),
        "contact_channel_address": st.just(CLIENT),
        "context": st.just({"note": CANARY}),
        "date_created": st.sampled_from(["2026-03-02T09:41:07Z", "0000-00-00", "9999-12-31T23:59:59Z"]),
        "date_updated": st.none() | st.just("2026-03-02T09:41:07Z"),
    }
)
_page = st.fixed_dictionaries(
    {
        "executions": st.lists(damaged(_execution), max_size=3),
        "meta": st.fixed_dictionaries({"next_page_url": st.sampled_from(_urls)}),
    }
)
_problem = st.fixed_dictionaries(
    {
        "code": st.sampled_from([20404, 20409, 20429, 20001, True, 10**9]),
        "message": st.just(CANARY),
        "type": st.sampled_from(["https://www.twilio.com/docs/api/errors/20409", CANARY]),
        "status": st.integers(100, 599),
    }
)
_documents = damaged(_execution) | damaged(_page) | damaged(_problem) | anything
_statuses = [200, 200, 200, 201, 204, 304, 307, 400, 401, 403, 404, 409, 409, 429, 500, 503, 101, 103]
_header_lines = st.sampled_from(
    [
        b"Connection: close",
        b"Content-Length: 0",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked",
        b"Content-Encoding: gzip",
        b"Retry-After: 1",
        b"Retry-After: 99999999",
        b"Retry-After: Fri, 31 Dec 1999 23:59:59 GMT",
        b"Twilio-Request-Id: " + b"\xff" * 9,
        b"Location: http://evil.example/",
        b" folded",
        b"no colon",
        b"X: " + b"y" * 70_000,
    ]
)


@st.composite
def _responses(draw: st.DrawFn) -> bytes:
    """All bytes of a response, valid or not."""
    if draw(st.integers(0, 15)) == 0:
        return draw(st.binary(max_size=60))
    body = json.dumps(draw(_documents)).encode()
    match draw(st.integers(0, 9)):
        case 0:
            body = body[: draw(st.integers(0, len(body)))]
        case 1:
            body = draw(st.binary(max_size=30)) + body
    framed = b"Content-Length: %d" % len(body)
    if draw(st.integers(0, 5)) == 0:
        framed = b"Transfer-Encoding: chunked"
        size = draw(st.sampled_from([b"%x" % len(body), b"ffffffff", b"-1", b"zz", b"0"]))
        body = size + b"\r\n" + body + b"\r\n0\r\n" + draw(st.sampled_from([b"\r\n", b"", b"X: y\r\n\r\n"]))
    version = draw(st.sampled_from([b"HTTP/1.1"] * 4 + [b"HTTP/1.0", b"HTTP/2", b"ICY"]))
    status = version + b" %d " % draw(st.sampled_from(_statuses)) + CANARY.encode()
    head = [status, framed, *draw(st.lists(_header_lines, max_size=2))]
    extra = draw(st.sampled_from([b"", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]))
    return b"\r\n".join([*head, b"", body]) + extra


_by_sid = {"flow_sid": FLOWS[0], "execution_sid": EXECUTIONS[0]}
_by_contact = {"flow_sid": FLOWS[0], "contact": CLIENT}
_events: list[tuple[Json, Any]] = [
    (_by_sid, app.handler),
    (_by_contact, app.handler),
    (sample("http") | {"body": json.dumps(_by_sid)}, app.handler),
    ({"flow_sids": list(FLOWS), "older_than_minutes": 0}, sweep.handler),
]


@fuzz(
    st.sampled_from(_events), st.lists(_responses(), min_size=1, max_size=5), st.sampled_from(["close", None])
)
def test_responses(
    world: World, monkeypatch: pytest.MonkeyPatch, event: Any, responses: list[bytes], broken: Any
) -> None:
    """A documented failure, or a success that Twilio confirmed; credentials go nowhere else."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    world.renew()
    payload, world.handler = event
    for raw in responses:
        world.studio.faults.add(Fault(raw=raw, broken=broken))
    result = world.invoke(payload, seconds=1.8)
    world.studio.faults.clear()
    code = result.body.get("code") if result.is_response else result.code
    assert code is None or code in FAILURES
    if code is None and payload is not _by_contact and world.handler is app.handler:
        said = b"".join(responses)
        assert world.ended or b'"ended"' in said or b"20409" in said
