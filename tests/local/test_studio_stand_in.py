"""The Studio stand-in: what it does over HTTP, right and wrong, and how much it carries."""

import base64
import concurrent.futures
import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import jsonschema
import pytest
import trustme

from local.studio import API_KEY, OTHER_ACCOUNT_SID, OTHER_AUTH_TOKEN, Latency, Studio

FLOW = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCHEMAS = json.loads((Path(__file__).parent / "twilio_studio_v2_executions.json").read_text())

Call = Callable[..., Any]


@pytest.fixture
def studio() -> Iterator[Studio]:
    with Studio() as studio:
        yield studio


@pytest.fixture
def call(studio: Studio) -> Iterator[Call]:
    """One request over one keep-alive connection, with the right credentials."""
    connection = http.client.HTTPConnection(urlsplit(studio.url).netloc, timeout=5)

    def call(
        method: str,
        path: str,
        *,
        auth: tuple[str, str] | None = API_KEY,
        form: dict[str, str] | str | None = None,
        **query: object,
    ) -> Any:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if auth:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(auth).encode()).decode()
        if path.startswith("/Executions"):
            path = f"/v2/Flows/{FLOW}{path}"
        url = f"{path}?{urlencode(query)}" if query else path
        body = form if isinstance(form, str) else urlencode(form or {})
        connection.request(method, url, body, headers)
        answer = connection.getresponse()
        body = answer.read()
        answer.text = body.decode()
        answer.json = json.loads(body) if body.startswith(b"{") else None
        return answer

    yield call
    connection.close()


def openapi(name: str) -> dict[str, Any]:
    """A schema of Twilio's OpenAPI document as JSON Schema, which says "or null" in another way."""

    def translated(schema: Any) -> Any:
        if not isinstance(schema, dict):
            return schema
        schema = {key: translated(value) for key, value in schema.items()}
        if schema.pop("nullable", False) and "type" in schema:
            schema["type"] = [schema["type"], "null"]
        return schema

    schemas = translated(SCHEMAS)
    return schemas | schemas[name]


def validate(document: Any, name: str) -> None:
    schema = openapi(name)
    properties = schema["properties"]
    assert set(document) == set(properties)
    jsonschema.validate(document, schema, format_checker=jsonschema.FormatChecker())


class TestExecutions:
    """What Twilio documents."""

    def test_fetched(self, studio: Studio, call: Call) -> None:
        """A fetched Execution has every property of Twilio's schema, and fits it."""
        execution = studio.seed(FLOW, contact="whatsapp:+15005550006")
        answer = call("GET", f"/Executions/{execution.sid}")
        assert answer.status == 200
        assert answer.json["contact_channel_address"] == "whatsapp:+15005550006"
        validate(answer.json, "execution")

    def test_ended(self, studio: Studio, call: Call) -> None:
        """Ending answers 200 with the Execution as it is then, and it stays so."""
        execution = studio.seed(FLOW, date_created=NOON)
        answer = call("POST", f"/Executions/{execution.sid}", form={"Status": "ended"})
        assert (answer.status, answer.json["status"]) == (200, "ended")
        assert answer.json["date_created"] == "2026-03-01T12:00:00Z" < answer.json["date_updated"]
        validate(answer.json, "execution")
        assert call("GET", f"/Executions/{execution.sid}").json == answer.json

    def test_ended_twice(self, studio: Studio, call: Call) -> None:
        """Ending what is ended is a conflict, told as Twilio tells errors."""
        sid = studio.seed(FLOW, status="ended").sid
        answer = call("POST", f"/Executions/{sid}", form={"Status": "ended"})
        assert answer.status == 409
        assert answer.json == {
            "code": 20409,
            "message": f"Execution {sid} is already ended",
            "more_info": "https://www.twilio.com/docs/errors/20409",
            "status": 409,
        }

    @pytest.mark.parametrize("form", [{}, {"Status": "active"}, {"Status": "Ended"}, {"status": "ended"}])
    def test_wrong_status(self, studio: Studio, call: Call, form: dict[str, str]) -> None:
        """Only ``Status=ended`` is taken, and anything else changes nothing."""
        execution = studio.seed(FLOW)
        answer = call("POST", f"/Executions/{execution.sid}", form=form)
        assert (answer.status, answer.json["code"]) == (400, 20001)
        assert execution.status == "active"

    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    def test_unknown(self, studio: Studio, call: Call, method: str) -> None:
        """An Execution that does not exist, or not in this Flow, is not found."""
        elsewhere = studio.seed("FW" + "0" * 32)
        studio.seed(FLOW)
        for sid in (elsewhere.sid, "FN" + "0" * 32, "FNshort"):
            answer = call(method, f"/Executions/{sid}", form={"Status": "ended"})
            assert (answer.status, answer.json["code"]) == (404, 20404)
        assert elsewhere.status == "active"

    @pytest.mark.parametrize("auth", [None, ("", ""), (API_KEY[0], "wrong"), ("wrong", API_KEY[1])])
    def test_credentials(self, studio: Studio, call: Call, auth: tuple[str, str] | None) -> None:
        """Wrong credentials, or none, are refused before anything else is looked at."""
        studio.seed(FLOW)
        answer = call("GET", "/Executions/FNshort", auth=auth)
        assert (answer.status, answer.json["code"]) == (401, 20003)

    def test_rotated_credentials(self, studio: Studio, call: Call) -> None:
        """The valid credentials can be replaced while it serves."""
        studio.seed(FLOW)
        studio.credentials = {("SKnew", "new")}
        assert call("GET", "/Executions").status == 401
        assert call("GET", "/Executions", auth=("SKnew", "new")).status == 200

    def test_foreign_flow(self, studio: Studio, call: Call) -> None:
        """To an account, another one's Flow and its Executions do not exist; their owner has them."""
        execution = studio.seed(FLOW, account_sid=OTHER_ACCOUNT_SID)
        for path in ("/Executions", f"/Executions/{execution.sid}"):
            for method in ("GET", "POST"):
                answer = call(method, path, form={"Status": "ended", "To": "client:a", "From": "client:b"})
                assert (answer.status, answer.json["code"]) == (404, 20404)
        assert execution.status == "active"
        assert (
            call("GET", f"/Executions/{execution.sid}", auth=OTHER_AUTH_TOKEN).json["account_sid"]
            == OTHER_ACCOUNT_SID
        )

    def test_foreign_requests(self, studio: Studio, call: Call) -> None:
        """Requests with an account's credentials for another's Flow are told apart, revoked ones too."""
        studio.seed(FLOW, account_sid=OTHER_ACCOUNT_SID)
        for auth in (OTHER_AUTH_TOKEN, API_KEY, None, ("SKunknown", "")):
            call("GET", "/Executions", auth=auth)
        studio.credentials = set()
        call("GET", "/Executions")
        assert [request.status for request in studio.foreign_requests] == [404, 401]

    def test_created(self, studio: Studio, call: Call) -> None:
        """Creating answers 201 with an active Execution of that contact, which is then there."""
        studio.executions.add_flow(FLOW)
        form = {"To": "+15005550006", "From": "+15005550001", "Parameters": '{"name": "Zeke"}'}
        answer = call("POST", "/Executions", form=form)
        assert (answer.status, answer.json["status"]) == (201, "active")
        assert answer.json["context"]["flow"]["data"] == {"name": "Zeke"}
        validate(answer.json, "execution")
        assert call("GET", f"/Executions/{answer.json['sid']}").json == answer.json

    def test_created_twice(self, studio: Studio, call: Call) -> None:
        """A contact has one active Execution at a time; the next can start when that one is ended."""
        studio.executions.add_flow(FLOW)
        form = {"To": "+15005550006", "From": "+15005550001"}
        first = call("POST", "/Executions", form=form)
        assert call("POST", "/Executions", form=form).status == 409
        call("POST", f"/Executions/{first.json['sid']}", form={"Status": "ended"})
        assert call("POST", "/Executions", form=form).status == 201

    def test_deleted(self, studio: Studio, call: Call) -> None:
        """Deleting answers 204 without a body, and the Execution is gone from everywhere."""
        execution = studio.seed(FLOW)
        answer = call("DELETE", f"/Executions/{execution.sid}")
        assert (answer.status, answer.text) == (204, "")
        assert call("GET", f"/Executions/{execution.sid}").status == 404
        assert call("GET", "/Executions", status="active").json["executions"] == []

    def test_headers(self, studio: Studio, call: Call) -> None:
        """Answers carry Twilio's request id, a new one each time, also errors."""
        studio.seed(FLOW)
        ids = {call("GET", path).headers["Twilio-Request-Id"] for path in ("/Executions", "/Executions/FN")}
        assert len(ids) == 2
        assert all(one.startswith("RQ") and len(one) == 34 for one in ids)


class TestList:
    """The list operation."""

    def test_order_and_pages(self, studio: Studio, call: Call) -> None:
        """Executions come newest first, in pages that fit Twilio's schema and lead to the next."""
        for minute in (3, 1, 4, 0, 2):
            studio.seed(FLOW, f"FN{minute:032d}", date_created=NOON + timedelta(minutes=minute))
        page, sids = call("GET", "/Executions", PageSize=2).json, []
        validate(page, "list")
        while True:
            sids += [execution["sid"] for execution in page["executions"]]
            if not page["meta"]["next_page_url"]:
                break
            url = urlsplit(page["meta"]["next_page_url"])
            page = call("GET", f"{url.path}?{url.query}").json
        assert sids == [f"FN{minute:032d}" for minute in (4, 3, 2, 1, 0)]

    def test_token_shape(self, studio: Studio, call: Call) -> None:
        """The next page's URL keeps filters and page size, counts pages and carries a token."""
        for _ in range(3):
            studio.seed(FLOW)
        first = call("GET", "/Executions", status="active", PageSize=2)
        query = urlsplit(first.json["meta"]["next_page_url"]).query
        assert query.startswith("status=active&PageSize=2&Page=1&PageToken=PA")

    def test_previous_page(self, studio: Studio, call: Call) -> None:
        """A later page leads back to the one before."""
        for _ in range(3):
            studio.seed(FLOW)
        first = call("GET", "/Executions", PageSize=2).json
        second = call("GET", "/Executions" + "?" + urlsplit(first["meta"]["next_page_url"]).query).json
        back = call("GET", "/Executions" + "?" + urlsplit(second["meta"]["previous_page_url"]).query).json
        assert back["executions"] == first["executions"]

    def test_dates(self, studio: Studio, call: Call) -> None:
        """``DateCreatedFrom`` is inclusive, ``DateCreatedTo`` is exclusive, in any zone."""
        for second in range(4):
            studio.seed(FLOW, f"FN{second:032d}", date_created=NOON + timedelta(seconds=second))
        answer = call(
            "GET",
            "/Executions",
            DateCreatedFrom="2026-03-01T12:00:01Z",
            DateCreatedTo="2026-03-01T13:00:03+01:00",
        )
        assert [execution["sid"][-1] for execution in answer.json["executions"]] == ["2", "1"]

    @pytest.mark.parametrize("status", ["active", "ended"])
    def test_status(self, studio: Studio, call: Call, status: str) -> None:
        """``status`` in lower case filters; the upper-case name that updates use does not."""
        studio.seed(FLOW, status="active")
        studio.seed(FLOW, status="ended")
        found = call("GET", "/Executions", status=status).json["executions"]
        assert [execution["status"] for execution in found] == [status]
        assert len(call("GET", "/Executions", Status=status).json["executions"]) == 2

    def test_ending_shifts_pages(self, studio: Studio, call: Call) -> None:
        """Whoever ends a page of Executions before asking for the next one misses some, as with Twilio."""
        for _ in range(4):
            studio.seed(FLOW)
        page = call("GET", "/Executions", status="active", PageSize=2).json
        for execution in page["executions"]:
            studio.executions.end(FLOW, execution["sid"])
        url = urlsplit(page["meta"]["next_page_url"])
        assert call("GET", f"{url.path}?{url.query}").json["executions"] == []
        assert len(call("GET", "/Executions", status="active").json["executions"]) == 2

    @pytest.mark.parametrize(("paging", "missed"), [("offset", 2), ("cursor", 0)])
    def test_paging(self, studio: Studio, call: Call, paging: Any, missed: int) -> None:
        """Pages by offset skip what moves forward when Executions end in between; pages by cursor do not."""
        studio.paging = paging
        sids = {studio.seed(FLOW, date_created=NOON).sid for _ in range(6)}
        page = call("GET", "/Executions", status="active", PageSize=2).json
        for execution in page["executions"]:
            studio.executions.end(FLOW, execution["sid"])
        while True:
            sids -= {execution["sid"] for execution in page["executions"]}
            if not page["meta"]["next_page_url"]:
                break
            page = call("GET", "/Executions?" + urlsplit(page["meta"]["next_page_url"]).query).json
        assert len(sids) == missed

    def test_previous_page_by_cursor(self, studio: Studio, call: Call) -> None:
        """The way back leads over the same pages."""
        studio.paging = "cursor"
        for _ in range(6):
            studio.seed(FLOW, date_created=NOON)
        pages = [call("GET", "/Executions", PageSize=2).json]
        while following := pages[-1]["meta"]["next_page_url"]:
            pages.append(call("GET", "/Executions?" + urlsplit(following).query).json)
        for before, page in pairwise(pages):
            back = call("GET", "/Executions?" + urlsplit(page["meta"]["previous_page_url"]).query).json
            assert back["executions"] == before["executions"]
        assert len(pages) == 3

    def test_change_between_pages(self, studio: Studio, call: Call) -> None:
        """A test can end Executions right before any request is worked on."""
        execution = studio.seed(FLOW)
        studio.before = lambda _: studio.executions.end(FLOW, execution.sid)
        assert call("GET", "/Executions", status="active").json["executions"] == []

    def test_default_page_size(self, studio: Studio, call: Call) -> None:
        """A page has 50 unless asked otherwise."""
        for _ in range(51):
            studio.seed(FLOW)
        page = call("GET", "/Executions").json
        assert (len(page["executions"]), page["meta"]["page_size"]) == (50, 50)

    @pytest.mark.parametrize(
        "query",
        [
            {"PageSize": 0},
            {"PageSize": 1001},
            {"PageSize": "ten"},
            {"PageToken": "PA1"},
            {"status": "stuck"},
            {"DateCreatedTo": "yesterday"},
        ],
    )
    def test_invalid(self, studio: Studio, call: Call, query: dict[str, Any]) -> None:
        """A filter that means nothing is refused."""
        studio.seed(FLOW)
        answer = call("GET", "/Executions", **query)
        assert (answer.status, answer.json["code"]) == (400, 20001)

    def test_unknown_flow(self, call: Call) -> None:
        """A Flow that does not exist is not found."""
        assert call("GET", "/Executions").status == 404


class TestFaults:
    """What it does wrong on request."""

    def test_throttled(self, studio: Studio, call: Call) -> None:
        """A refusal has its headers and Twilio's error JSON, comes as often as asked, and changes nothing."""
        execution = studio.seed(FLOW)
        studio.fail(status=429, headers={"Retry-After": "7"}, times=2)
        for _ in range(2):
            answer = call("POST", f"/Executions/{execution.sid}", form={"Status": "ended"})
            assert (answer.status, answer.headers["Retry-After"], answer.json["code"]) == (429, "7", 20429)
        assert execution.status == "active"
        assert call("POST", f"/Executions/{execution.sid}", form={"Status": "ended"}).status == 200

    def test_reset(self, studio: Studio, call: Call) -> None:
        """A reset is a reset for the client, and the Execution stays as it was."""
        execution = studio.seed(FLOW)
        studio.fail(broken="reset")
        with pytest.raises(ConnectionResetError):
            call("POST", f"/Executions/{execution.sid}", form={"Status": "ended"})
        assert execution.status == "active"
        assert studio.requests[-1].status is None

    def test_lost_answer(self, studio: Studio, call: Call) -> None:
        """A request can be carried out although its answer is lost."""
        execution = studio.seed(FLOW)
        studio.fail(broken="reset", carried_out=True)
        with pytest.raises(ConnectionResetError):
            call("POST", f"/Executions/{execution.sid}", form={"Status": "ended"})
        assert execution.status == "ended"

    def test_hang(self, studio: Studio) -> None:
        """A request can be left without an answer, and leaving the stand-in does not wait for it."""
        studio.fail(broken="hang")
        with pytest.raises(TimeoutError):
            plain_get(studio, timeout=0.05)

    def test_hang_ends_with_the_stand_in(self) -> None:
        """Who still waits for a hanging answer when the stand-in stops sees the connection close."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            with Studio() as studio:
                studio.fail(broken="hang")
                waiting = pool.submit(plain_get, studio)
                while not studio.requests:
                    time.sleep(0.001)
            with pytest.raises(http.client.RemoteDisconnected):
                waiting.result()

    def test_drip(self, studio: Studio, call: Call) -> None:
        """An answer can come byte by byte, with time between them, and is whole in the end."""
        studio.fail(broken="drip", interval=0.002, body='{"executions": []}')
        begin = time.perf_counter()
        assert call("GET", "/Executions").json == {"executions": []}
        assert time.perf_counter() - begin >= 0.002 * len('{"executions": []}')

    def test_latency(self, studio: Studio, call: Call) -> None:
        """Latency delays the answer and nothing else; a fault with a number of times goes before it."""
        studio.seed(FLOW)
        studio.fail(delay=0.05, times=None)
        studio.fail(status=500)
        assert call("GET", "/Executions").status == 500
        begin = time.perf_counter()
        assert call("GET", "/Executions").status == 200
        assert time.perf_counter() - begin >= 0.05

    def test_latency_of_pages(self, studio: Studio, call: Call) -> None:
        """A page takes longer with every item in it."""
        for _ in range(10):
            studio.seed(FLOW)
        studio.latency = Latency(page=0.02, item=0.005, other=0)
        begin = time.perf_counter()
        assert call("GET", "/Executions", PageSize=8).status == 200
        assert 0.06 <= time.perf_counter() - begin < 0.5

    def test_concurrency(self, studio: Studio) -> None:
        """More requests at once than Twilio allows are throttled."""
        studio.max_concurrency = 2
        studio.fail(broken="hang", times=2)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for _ in range(2):
                pool.submit(plain_get, studio, timeout=0.2)
            while len(studio.requests) < 2:
                time.sleep(0.001)
            assert plain_get(studio) == 429

    def test_raw(self, studio: Studio) -> None:
        """Any bytes can come in place of an answer."""
        studio.fail(raw=b"HTTP/1.1 299 Odd\r\n\r\n", broken="close")
        assert plain_get(studio) == 299

    def test_other_conflict(self, studio: Studio, call: Call) -> None:
        """A conflict is not always an Execution that has ended; a fault can be for one SID only."""
        one, other = studio.seed(FLOW), studio.seed(FLOW)
        studio.fail(status=409, code=20001, about=one.sid)
        assert call("POST", f"/Executions/{other.sid}", form={"Status": "ended"}).status == 200
        answer = call("POST", f"/Executions/{one.sid}", form={"Status": "ended"})
        assert (answer.status, answer.json["code"], one.status) == (409, 20001, "active")

    def test_tls(self) -> None:
        """It serves HTTPS, and its links say so."""
        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        with Studio(tls=context) as studio:
            url = f"{studio.url}{studio.seed(FLOW).to_dict(studio.url)['url'].removeprefix(studio.url)}"
            connection = http.client.HTTPSConnection(urlsplit(url).netloc, context=trusting, timeout=5)
            authorization = base64.b64encode(":".join(API_KEY).encode()).decode()
            connection.request("GET", url, headers={"Authorization": f"Basic {authorization}"})
            assert json.loads(connection.getresponse().read())["url"] == url
            connection.close()

    def test_malformed(self, studio: Studio, call: Call) -> None:
        """The body can be anything, under any status."""
        studio.seed(FLOW)
        studio.fail(body="<html>")
        answer = call("GET", "/Executions")
        assert (answer.status, answer.text) == (200, "<html>")

    def test_method(self, studio: Studio, call: Call) -> None:
        """A fault can wait for one method, and lets the others pass."""
        execution = studio.seed(FLOW)
        studio.fail(status=418, method="POST")
        assert call("GET", f"/Executions/{execution.sid}").status == 200
        assert call("POST", f"/Executions/{execution.sid}", form={"Status": "ended"}).status == 418

    def test_share(self) -> None:
        """A share of the requests fails, the same ones each time with the same seed."""

        def statuses(seed: int) -> list[bool]:
            with Studio(seed=seed) as studio:
                studio.seed(FLOW)
                studio.fail(status=503, share=0.3, times=None)
                return [studio.faults.next("GET", "/") is not None for _ in range(1000)]

        assert statuses(1) == statuses(1) != statuses(2)
        assert 250 < sum(statuses(1)) < 350

    @pytest.mark.parametrize("fault", [{"broken": "glass"}, {"share": 2}, {"times": 0}, {"delay": -1}])
    def test_nonsense(self, studio: Studio, fault: dict[str, Any]) -> None:
        """A fault that means nothing is refused at once, where it is asked for."""
        with pytest.raises(ValueError):  # noqa: PT011 -- each has its own text
            studio.fail(**fault)


class TestRecord:
    """What it tells about the requests."""

    def test_request(self, studio: Studio, call: Call) -> None:
        """Each request is recorded with what a test needs to know."""
        execution = studio.seed(FLOW)
        call("POST", f"/Executions/{execution.sid}", form={"Status": "ended"}, a="b")
        (request,) = studio.requests
        assert (request.method, request.path) == ("POST", f"/v2/Flows/{FLOW}/Executions/{execution.sid}")
        assert (request.query, request.form) == ({"a": "b"}, {"Status": "ended"})
        assert (request.user, request.connection, request.status) == (API_KEY[0], 1, 200)
        assert abs(time.time() - request.time) < 5

    def test_connections(self, studio: Studio, call: Call) -> None:
        """Connections are counted, not requests: keep-alive shows."""
        studio.seed(FLOW)
        for _ in range(5):
            call("GET", "/Executions")
        assert (studio.connections, len(studio.requests)) == (1, 5)
        plain_get(studio)
        assert studio.connections == 2

    def test_max_in_flight(self) -> None:
        """The greatest number of requests at the same time is known."""
        with concurrent.futures.ThreadPoolExecutor(8) as pool, Studio() as studio:
            studio.fail(broken="hang", times=8)
            for _ in range(8):
                pool.submit(plain_get, studio)
            while len(studio.requests) < 8:
                time.sleep(0.001)
            assert studio.max_in_flight == 8


class TestAdministration:
    """The paths that are no part of Twilio's API."""

    def test_seed_fail_tell(self, studio: Studio, call: Call) -> None:
        """Executions, faults and the record are reached over HTTP, without credentials and unrecorded."""
        seeded = {"flow_sid": FLOW, "contact": "client:ann", "date_created": "2026-03-01T12:00:00Z"}
        answer = call("POST", "/_executions", auth=None, form=json.dumps(seeded))
        assert (answer.status, answer.json["date_created"]) == (201, "2026-03-01T12:00:00Z")
        assert call("POST", "/_faults", auth=None, form='{"status": 503, "times": null}').status == 204
        assert call("GET", "/Executions").status == 503
        assert call("DELETE", "/_faults", auth=None).status == 204
        assert call("GET", "/Executions").status == 200
        told = call("GET", "/_requests", auth=None).json
        assert [request["status"] for request in told["requests"]] == [503, 200]
        assert call("DELETE", "/_requests", auth=None).status == 204
        assert studio.requests == []

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/_executions", "{}"),
            ("/_executions", '{"flow_sid": "FW1"}'),
            ("/_faults", "[]"),
            ("/_faults", '{"colour": "red"}'),
            ("/_faults", "nonsense"),
        ],
    )
    def test_nonsense(self, call: Call, path: str, body: str) -> None:
        """What it cannot make sense of is refused with a reason."""
        answer = call("POST", path, form=body)
        assert answer.status == 400
        assert answer.json["message"]


class TestLoad:
    """It is no bottleneck. Other work on the machine may disturb a measurement, but not all of them."""

    def test_hundred_thousand(self, studio: Studio, call: Call) -> None:
        """With 100,000 Executions in a Flow, its last page takes no longer than others."""
        for second in range(100_000):
            studio.executions.add(FLOW, date_created=NOON + timedelta(seconds=second))

        def last_page() -> None:
            answer = call("GET", "/Executions", status="active", PageSize=1000, PageToken=f"PA{99_000:032x}")
            assert len(answer.json["executions"]) == 1000
            assert answer.json["executions"][-1]["date_created"] == "2026-03-01T12:00:00Z"

        assert best_of_five(last_page) < 0.05

    def test_hundreds_a_second(self, studio: Studio, call: Call) -> None:
        """Hundreds of requests a second over one connection are nothing to it."""

        def end_fifty() -> None:
            for sid in [studio.seed(FLOW).sid for _ in range(50)]:
                assert call("POST", f"/Executions/{sid}", form={"Status": "ended"}).status == 200

        assert best_of_five(end_fifty) < 50 / 200


def best_of_five(work: Callable[[], None]) -> float:
    """The seconds that it takes when nothing disturbs."""
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def plain_get(studio: Studio, timeout: float = 5) -> int:
    connection = http.client.HTTPConnection(urlsplit(studio.url).netloc, timeout=timeout)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    finally:
        connection.close()
