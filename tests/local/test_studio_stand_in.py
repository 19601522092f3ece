"""The stand-in for Twilio Studio: its API and its faults."""

import concurrent.futures
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jsonschema
import pytest
import urllib3
from urllib3.exceptions import HTTPError

from local.studio import API_KEY, OTHER_ACCOUNT_SID, OTHER_AUTH_TOKEN, Fault, Faults, Latency, Studio

FLOW = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
SID = "FN" + "1" * 32
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCHEMAS = json.loads((Path(__file__).parent / "twilio_studio_v2_executions.json").read_text())

Call = Callable[..., Any]


@pytest.fixture
def call(studio: Studio) -> Iterator[Call]:
    """A request over a connection that is kept alive, by default with the right credentials."""
    with urllib3.connection_from_url(studio.url, maxsize=1, retries=False) as pool:

        def call(method: str, path: str, *, auth: Any = API_KEY, form: Any = "", **query: Any) -> Any:
            headers = urllib3.make_headers(basic_auth=":".join(auth) if auth else None)
            timeout = query.pop("timeout", 50)
            if path.startswith("/Executions"):
                path = f"/v2/Flows/{FLOW}{path}"
            body = form if isinstance(form, str) else urlencode(form)
            return pool.request(method, f"{path}?{urlencode(query)}", body, headers=headers, timeout=timeout)

        yield call


def json_schema(schema: Any) -> Any:
    """A schema of OpenAPI as JSON Schema, which says "or null" in another way."""
    if not isinstance(schema, dict):
        return schema
    schema = {key: json_schema(value) for key, value in schema.items()}
    if schema.pop("nullable", False) and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    return schema


def validate(document: Any, name: str) -> None:
    """Compare with the schema in Twilio's OpenAPI description."""
    schemas = json_schema(SCHEMAS)
    assert document.keys() == schemas[name]["properties"].keys()
    jsonschema.validate(document, schemas | schemas[name], format_checker=jsonschema.FormatChecker())


def end(call: Call, sid: str, **more: Any) -> Any:
    return call("POST", f"/Executions/{sid}", form={"Status": "ended"}, **more)


def follow(call: Call, page: Any, direction: str = "next") -> Any:
    """The page that a page leads to."""
    url = urlsplit(page["meta"][f"{direction}_page_url"])
    return call("GET", url.path, **dict(parse_qsl(url.query))).json()


def pages(call: Call, **query: Any) -> Iterator[Any]:
    """All pages of a list."""
    page = call("GET", "/Executions", **query).json()
    yield page
    while page["meta"]["next_page_url"]:
        yield (page := follow(call, page))


def test_an_execution(studio: Studio, call: Call) -> None:
    """It is fetched and ended as Twilio's schema says, with Twilio's request ids; then that is a conflict."""
    execution = studio.seed(FLOW, contact="whatsapp:+15005550006", date_created=NOON)
    fetched, ended = call("GET", f"/Executions/{execution.sid}"), end(call, execution.sid)
    for answer in (fetched, ended):
        validate(answer.json(), "execution")
    assert fetched.json()["contact_channel_address"] == "whatsapp:+15005550006"
    assert (ended.status, ended.json()["status"]) == (200, "ended")
    assert ended.json()["date_created"] == "2026-03-01T12:00:00Z" < ended.json()["date_updated"]
    assert call("GET", f"/Executions/{execution.sid}").json() == ended.json()
    assert end(call, execution.sid).json() == {
        "code": 20409,
        "message": f"Execution {execution.sid} is already ended",
        "more_info": "https://www.twilio.com/docs/errors/20409",
        "status": 409,
    }
    assert fetched.headers["Twilio-Request-Id"] != ended.headers["Twilio-Request-Id"]


@pytest.mark.parametrize(
    ("method", "path", "query", "form", "auth", "code"),
    [
        ("POST", f"/Executions/{SID}", {}, {"Status": "Ended"}, API_KEY, 20001),
        ("POST", f"/Executions/{SID}", {}, {"status": "ended"}, API_KEY, 20001),
        ("GET", "/Executions", {"PageSize": 0}, {}, API_KEY, 20001),
        ("GET", "/Executions", {"PageSize": 1001}, {}, API_KEY, 20001),
        ("GET", "/Executions", {"PageToken": "PA1"}, {}, API_KEY, 20001),
        ("GET", "/Executions", {"status": "stuck"}, {}, API_KEY, 20001),
        ("GET", "/Executions", {"DateCreatedTo": "yesterday"}, {}, API_KEY, 20001),
        ("GET", f"/Executions/{SID}", {}, {}, None, 20003),
        ("GET", f"/Executions/{SID}", {}, {}, (API_KEY[0], "wrong"), 20003),
        ("GET", "/Executions/FNshort", {}, {}, ("wrong", API_KEY[1]), 20003),
        ("GET", f"/Executions/{SID}", {}, {}, OTHER_AUTH_TOKEN, 20404),
        ("POST", f"/Executions/{SID}", {}, {"Status": "ended"}, OTHER_AUTH_TOKEN, 20404),
        ("GET", "/Executions/FNshort", {}, {}, API_KEY, 20404),
        ("DELETE", f"/Executions/{SID}", {}, {}, API_KEY, 20004),
        ("GET", "/v2/Flows/FW" + "0" * 32 + "/Executions", {}, {}, API_KEY, 20404),
    ],
)
def test_refused(
    studio: Studio, call: Call, method: str, path: str, query: Any, form: Any, auth: Any, code: int
) -> None:
    """Invalid values, wrong credentials, and what does not exist for an account, have Twilio's codes."""
    execution = studio.seed(FLOW, SID)
    answer = call(method, path, form=form, auth=auth, **query)
    assert (answer.status, answer.json()["code"]) == (
        {20001: 400, 20003: 401, 20004: 405, 20404: 404}[code],
        code,
    )
    assert execution.status == "active"


def test_accounts(studio: Studio, call: Call) -> None:
    """Credentials can be replaced at any time; requests for another account's Flow are recorded apart."""
    studio.seed(FLOW, account_sid=OTHER_ACCOUNT_SID)
    for auth in (OTHER_AUTH_TOKEN, API_KEY, None, ("SKunknown", "")):
        call("GET", "/Executions", auth=auth)
    studio.credentials = {("SKnew", "new")}
    call("GET", "/Executions")
    assert [request.status for request in studio.requests] == [200, 404, 401, 401, 401]
    assert [request.status for request in studio.foreign_requests] == [404, 401]


@pytest.mark.parametrize("paging", ["offset", "cursor"])
def test_pages(studio: Studio, call: Call, paging: Any) -> None:
    """Executions come newest first, in pages that fit Twilio's schema and lead to each other."""
    studio.paging = paging
    for minute in (3, 1, 4, 0, 2, 2):
        studio.seed(FLOW, date_created=NOON + timedelta(minutes=minute))
    found = list(pages(call, status="active", PageSize=2))
    validate(found[0], "list")
    query = urlsplit(found[0]["meta"]["next_page_url"]).query
    assert query.startswith("status=active&PageSize=2&Page=1&PageToken=PA")
    dates = [one["date_created"] for page in found for one in page["executions"]]
    assert (dates, len(found)) == (sorted(dates, reverse=True), 3)
    for before, page in pairwise(found):
        assert follow(call, page, "previous")["executions"] == before["executions"]


@pytest.mark.parametrize(("paging", "missed"), [("offset", 2), ("cursor", 0)])
def test_ending_between_pages(studio: Studio, call: Call, paging: Any, missed: int) -> None:
    """Pages by offset skip what moves forward when Executions end in between; pages by cursor do not."""
    studio.paging = paging
    sids = {studio.seed(FLOW, date_created=NOON).sid for _ in range(6)}
    for page in pages(call, status="active", PageSize=2):
        listed = {one["sid"] for one in page["executions"]}
        if len(sids) == 6:
            for sid in listed:
                studio.executions.end(FLOW, sid)
        sids -= listed
    assert len(sids) == missed


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        ({"DateCreatedFrom": "2026-03-01T12:00:01Z", "DateCreatedTo": "2026-03-01T13:00:03+01:00"}, [2, 1]),
        ({"status": "active"}, [3, 2, 0]),
        ({"status": "ended"}, [1]),
        ({"Status": "ended"}, [3, 2, 1, 0]),
    ],
)
def test_filters(studio: Studio, call: Call, query: dict[str, str], seconds: list[int]) -> None:
    """From is inclusive, To exclusive, in any zone; `status` filters only in lower case."""
    for second in range(4):
        status = "ended" if second == 1 else "active"
        studio.seed(FLOW, f"FN{second:032d}", date_created=NOON + timedelta(seconds=second), status=status)
    found = call("GET", "/Executions", **query).json()["executions"]
    assert [int(one["sid"][2:]) for one in found] == seconds


@pytest.mark.parametrize(
    ("fault", "raises", "status", "after"),
    [
        ({"status": 429, "headers": {"Retry-After": "7"}}, None, 429, "active"),
        ({"status": 500, "carried_out": True}, None, 500, "ended"),
        ({"status": 409, "code": 20001}, None, 409, "active"),
        ({"body": "<html>"}, None, 200, "ended"),
        ({"raw": b"HTTP/1.1 299 Odd\r\n\r\n", "broken": "close"}, None, 299, "active"),
        ({"broken": "close"}, "RemoteDisconnected", None, "active"),
        ({"broken": "reset"}, "ConnectionResetError", None, "active"),
        ({"broken": "reset", "carried_out": True}, "ConnectionResetError", None, "ended"),
        ({"broken": "hang"}, "Read timed out", None, "active"),
        ({"broken": "drip", "interval": 0.0001}, None, 200, "ended"),
        ({"delay": 0.01}, None, 200, "ended"),
    ],
    ids=str,
)
def test_faults(
    studio: Studio, call: Call, fault: dict[str, Any], raises: Any, status: int | None, after: str
) -> None:
    """A fault hits the requests that it is for, as often as it says; what it refuses is not carried out."""
    other, execution = studio.seed(FLOW), studio.seed(FLOW)
    studio.fail(**fault, method="POST", about=execution.sid)
    assert call("GET", f"/Executions/{execution.sid}").status == 200
    assert end(call, other.sid).status == 200
    if raises:
        with pytest.raises(HTTPError, match=raises):
            end(call, execution.sid, timeout=0.1 if "hang" in fault.values() else 50)
    else:
        answer = end(call, execution.sid)
        assert answer.status == status
        assert fault.get("headers", {}).items() <= dict(answer.headers).items()
        assert answer.data.decode() == fault.get("body", answer.data.decode())
    assert execution.status == after
    assert call("GET", f"/Executions/{execution.sid}").status == 200


def test_faults_in_their_order(studio: Studio, call: Call) -> None:
    """A fault with a number of times comes first; a share is the same with the same seed."""
    studio.seed(FLOW)
    studio.fail(status=503, times=None)
    studio.fail(status=500, times=2)
    assert [call("GET", "/Executions").status for _ in range(4)] == [500, 500, 503, 503]

    def hits(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.add(Fault(share=0.3, times=None))
        return [faults.next("GET", "/") is not None for _ in range(1000)]

    assert hits(1) == hits(1) != hits(2)
    assert 250 < sum(hits(1)) < 350


@pytest.mark.parametrize("fault", [{"broken": "glass"}, {"share": 2}, {"times": 0}, {"delay": -1}])
def test_invalid_faults(studio: Studio, fault: dict[str, Any]) -> None:
    """They are refused where they are asked for."""
    with pytest.raises(ValueError):  # noqa: PT011 -- each has its own text
        studio.fail(**fault)


def test_latency(studio: Studio, call: Call) -> None:
    """A page takes longer with every item in it."""
    for _ in range(10):
        studio.seed(FLOW)
    studio.latency = Latency(page=0.02, item=0.005, other=0)
    begin = time.monotonic()
    assert call("GET", "/Executions", PageSize=8).status == 200
    assert time.monotonic() - begin >= 0.02 + 8 * 0.005


def test_concurrency(studio: Studio) -> None:
    """More requests at once than Twilio allows are throttled; those that hang end with the stand-in."""

    def get() -> int:
        return urllib3.request("GET", studio.url, retries=False, timeout=50).status

    studio.max_concurrency = 2
    studio.fail(broken="hang", times=2)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(get) for _ in range(2)]
        while len(studio.requests) < 2:
            time.sleep(0.001)
        assert get() == 429
        assert (studio.connections, studio.max_in_flight) == (3, 3)
        studio.__exit__(None, None, None)
        assert all("RemoteDisconnected" in str(one.exception()) for one in waiting)


def test_requests(studio: Studio, call: Call) -> None:
    """Each request is recorded with everything but its password; connections are counted by themselves."""
    execution = studio.seed(FLOW)
    end(call, execution.sid, a="b")
    call("GET", "/Executions")
    request, _ = studio.requests
    assert (request.method, request.path) == ("POST", f"/v2/Flows/{FLOW}/Executions/{execution.sid}")
    assert (request.query, request.form) == ({"a": "b"}, {"Status": "ended"})
    assert (request.user, request.connection, request.status) == (API_KEY[0], 1, 200)
    assert API_KEY[1] not in repr(request)
    assert studio.connections == 1


def test_administration(studio: Studio, call: Call) -> None:
    """Executions, faults and requests are reached over HTTP, without credentials and unrecorded."""
    seeded = {"flow_sid": FLOW, "contact": "client:ann", "date_created": "2026-03-01T12:00:00Z"}
    answer = call("POST", "/_executions", auth=None, form=json.dumps(seeded))
    assert (answer.status, answer.json()["date_created"]) == (201, "2026-03-01T12:00:00Z")
    assert call("POST", "/_faults", auth=None, form='{"status": 503, "times": null}').status == 204
    assert call("GET", "/Executions").status == 503
    assert call("DELETE", "/_faults", auth=None).status == 204
    assert call("GET", "/Executions").status == 200
    recorded = call("GET", "/_requests", auth=None).json()
    assert [request["status"] for request in recorded["requests"]] == [503, 200]
    assert call("DELETE", "/_requests", auth=None).status == 204
    assert studio.requests == []
    for path, body in (("/_executions", '{"flow_sid": "FW1"}'), ("/_faults", '{"colour": "red"}')):
        answer = call("POST", path, form=body)
        assert (answer.status, bool(answer.json()["message"])) == (400, True)
