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


def test_create_and_fetch(connect: Callable[[str, str], Client], executions: ExecutionList) -> None:
    """An Execution created through the SDK is fetched as it was created."""
    created = executions.create(to="+15005550006", from_="+15005550001", parameters={"name": "Zeke"})
    flow = connect(*AUTH_TOKEN).studio.v2.flows(FLOW)
    fetched = flow.executions(created.sid).fetch()
    assert (fetched.status, fetched.contact_channel_address) == ("active", "+15005550006")
    assert fetched.context["flow"]["data"] == {"name": "Zeke"}
    assert fetched.date_created == created.date_created
    assert datetime.now(UTC) - fetched.date_created < timedelta(minutes=1)


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


def test_update(executions: ExecutionList) -> None:
    """An update ends the Execution; the next one is a conflict with Twilio's code."""
    execution = executions.create(to="+15005550006", from_="+15005550001")
    assert executions(execution.sid).update(status="ended").status == "ended"
    with pytest.raises(TwilioRestException) as raised:
        executions(execution.sid).update(status="ended")
    assert (raised.value.status, raised.value.code) == (409, 20409)


def test_invalid(executions: ExecutionList) -> None:
    """An update to anything else is refused with Twilio's code."""
    execution = executions.create(to="+15005550006", from_="+15005550001")
    with pytest.raises(TwilioRestException) as raised:
        executions(execution.sid).update(status="active")
    assert (raised.value.status, raised.value.code) == (400, 20001)


def test_delete(executions: ExecutionList) -> None:
    """A deleted Execution is not found any more."""
    execution = executions.create(to="+15005550006", from_="+15005550001")
    assert executions(execution.sid).delete() is True
    with pytest.raises(TwilioRestException) as raised:
        executions(execution.sid).fetch()
    assert (raised.value.status, raised.value.code) == (404, 20404)


def test_unauthenticated(connect: Callable[[str, str], Client]) -> None:
    """Wrong credentials raise what they raise with Twilio."""
    with pytest.raises(TwilioRestException) as raised:
        connect(API_KEY[0], "wrong").studio.v2.flows(FLOW).executions("FN" + "0" * 32).fetch()
    assert (raised.value.status, raised.value.code) == (401, 20003)
