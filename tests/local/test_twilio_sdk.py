"""Twilio's own Python SDK, unmodified, works against the Studio stand-in."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client
from twilio.rest.studio.v2.flow.execution import ExecutionList

from local.studio import ACCOUNT_SID, API_KEY, AUTH_TOKEN, Studio

FLOW = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Redirected(TwilioHttpClient):
    """The SDK's own HTTP client, which meets the stand-in where it looks for studio.twilio.com."""

    def __init__(self, url: str) -> None:
        super().__init__(timeout=5)
        self.target = urlsplit(url)

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Response:
        """Send the request to the stand-in instead."""
        asked = urlsplit(url)
        assert asked.netloc in {"studio.twilio.com", self.target.netloc}
        url = asked._replace(scheme=self.target.scheme, netloc=self.target.netloc).geturl()
        return super().request(method, url, *args, **kwargs)


@pytest.fixture
def studio() -> Iterator[Studio]:
    with Studio() as studio:
        studio.executions.add_flow(FLOW)
        yield studio


@pytest.fixture
def connect(studio: Studio) -> Iterator[Callable[[str, str], Client]]:
    """A client with these credentials, which closes its connections at the end."""
    clients = []

    def connect(user: str, password: str) -> Client:
        clients.append(Redirected(studio.url))
        return Client(user, password, ACCOUNT_SID, http_client=clients[-1])

    yield connect
    for client in clients:
        client.session.close()


@pytest.fixture
def executions(connect: Callable[[str, str], Client]) -> ExecutionList:
    return connect(*API_KEY).studio.v2.flows(FLOW).executions


def test_life(connect: Callable[[str, str], Client], executions: ExecutionList) -> None:
    """An Execution is created, fetched with other credentials, ended and deleted."""
    created = executions.create(to="+15005550006", from_="+15005550001", parameters={"name": "Zeke"})
    fetched = connect(*AUTH_TOKEN).studio.v2.flows(FLOW).executions(created.sid).fetch()
    assert (fetched.status, fetched.contact_channel_address) == ("active", "+15005550006")
    assert fetched.context["flow"]["data"] == {"name": "Zeke"}
    assert executions(created.sid).update(status="ended").status == "ended"
    assert executions(created.sid).delete() is True


def test_list(studio: Studio, executions: ExecutionList) -> None:
    """The SDK's paging finds every Execution once, newest first, with all filters."""
    for minute in range(25):
        studio.seed(FLOW, f"FN{minute:032d}", date_created=NOON + timedelta(minutes=minute))
    studio.executions.end(FLOW, f"FN{10:032d}")
    found = executions.list(
        status="active",
        date_created_from=NOON + timedelta(minutes=5),
        date_created_to=NOON + timedelta(minutes=20),
        page_size=4,
    )
    assert [int(one.sid[2:]) for one in found] == [minute for minute in range(19, 4, -1) if minute != 10]
    assert len(studio.requests) == 4


@pytest.mark.parametrize(
    ("fail", "status", "code"),
    [
        (lambda executions, ended: executions(ended).update(status="ended"), 409, 20409),
        (lambda executions, ended: executions(ended).update(status="active"), 400, 20001),
        (lambda executions, _: executions("FN" + "0" * 32).fetch(), 404, 20404),
    ],
    ids=["already ended", "invalid", "not found"],
)
def test_errors(studio: Studio, executions: ExecutionList, fail: Any, status: int, code: int) -> None:
    """They are Twilio's, with its codes."""
    ended = studio.seed(FLOW, status="ended")
    with pytest.raises(TwilioRestException) as raised:
        fail(executions, ended.sid)
    assert (raised.value.status, raised.value.code) == (status, code)


def test_unauthenticated(connect: Callable[[str, str], Client]) -> None:
    """Wrong credentials raise what they raise with Twilio."""
    with pytest.raises(TwilioRestException) as raised:
        connect(API_KEY[0], "wrong").studio.v2.flows(FLOW).executions("FN" + "0" * 32).fetch()
    assert (raised.value.status, raised.value.code) == (401, 20003)
