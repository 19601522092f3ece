"""What the process does when it starts, before there is a request."""

import random
from time import monotonic

import pytest
import snapshot_restore_py
from conftest import BUSY, FLOW_SID, Function, SecretsManager, eventually

from end_conversation import app, deadline
from end_conversation.twilio import account as account_module
from local.studio import Studio


@pytest.fixture
def command(studio: Studio) -> dict[str, str]:
    return {"flow_sid": FLOW_SID, "execution_sid": studio.seed(FLOW_SID).sid}


@pytest.mark.parametrize("kind", ["on-demand", "provisioned-concurrency"])
def test_lambda_starts_warm(function: Function, studio: Studio, command: dict[str, str], kind: str) -> None:
    """The credentials are read and Twilio is connected to; the first request needs no more of either."""
    app._start(kind)
    assert eventually(lambda: studio.connections == 1)
    assert len(function.secrets_manager.reads) == 1
    # Without credentials: it only opens the connection.
    assert [(request.method, request.path, request.user) for request in studio.requests] == [
        ("HEAD", "/", None)
    ]
    studio.requests.clear()
    function(command)
    assert (studio.connections, len(function.secrets_manager.reads)) == (1, 1)


def test_elsewhere_nothing_happens(
    environment: pytest.MonkeyPatch, studio: Studio, secrets_manager: SecretsManager
) -> None:
    """Importing the handler connects to nothing."""
    app._start(None)
    assert (studio.connections, secrets_manager.reads) == (0, [])


@pytest.mark.parametrize("who", ["secrets manager", "twilio"])
def test_a_failing_start_is_survived(
    function: Function, studio: Studio, command: dict[str, str], who: str
) -> None:
    """Nothing to be read, or nowhere to connect to: the first request tries again."""
    if who == "twilio":
        studio.fail(broken="reset")
    else:
        function.secrets_manager.fail(code="InternalServiceError")
    app._start("on-demand")
    function.secrets_manager.recover()
    assert function(command)["executions"]


@pytest.mark.parametrize("kind", ["on-demand", "snap-start"])
def test_a_wrong_setting_at_the_start_is_survived(environment: pytest.MonkeyPatch, kind: str) -> None:
    """The first request reports it."""
    environment.setenv("TWILIO_SECRET_ID", "")
    environment.setattr(snapshot_restore_py, "register_after_restore", lambda _: None)
    app._start(kind)


def test_a_hanging_start_is_bounded(environment: pytest.MonkeyPatch, secrets_manager: SecretsManager) -> None:
    """The caller of the first request waits for it."""
    secrets_manager.fail(delay=20)
    began = monotonic()
    app._start("on-demand")
    assert monotonic() - began < deadline.WARM_UP_LIMIT + BUSY


def test_a_snapshot_holds_nothing_stale(function: Function, studio: Studio, command: dict[str, str]) -> None:
    """Neither credentials nor connections go into it; a restored process makes its own."""
    hooks = []
    function.patch(snapshot_restore_py, "register_after_restore", hooks.append)
    app._start("snap-start")
    assert (studio.connections, function.secrets_manager.reads) == (0, [])
    (after_restore,) = hooks
    after_restore()
    assert eventually(lambda: studio.connections == 1)
    assert len(function.secrets_manager.reads) == 1
    function(command)
    assert studio.connections == 1


def test_a_snapshot_holds_no_random_state() -> None:
    """Copies of one process with the same random waits would retry at the same times."""
    assert type(account_module._RANDOM) is random.SystemRandom


def test_a_start_leaves_the_gateway_time() -> None:
    """Connecting and importing fit into what an HTTP request has set aside for a cold start."""
    assert deadline.WARM_UP_LIMIT + 1 <= deadline.COLD_START_ALLOWANCE
