"""A small soak: the function keeps its promises, and one that lies does not."""

import os
from pathlib import Path

import pytest

from local.rie import HANDLER, SOURCE
from tests.soak.report import STUCK, Report
from tests.soak.run import soak
from tests.soak.stack import Pace

pytestmark = pytest.mark.timeout(240)
PACE = Pace(timeout=10, visibility=4, receives=100, phase=1.0)
"""So slow that a busy machine keeps up: in a small soak, SQS gives up no message."""


def small(commands: int, *names: str, handler: str = HANDLER) -> Report:
    """A soak of seconds."""
    paths = {"PYTHONPATH": os.pathsep.join(map(str, (SOURCE, Path(__file__).parent)))}
    return soak(commands, 2, pace=PACE, names=names, handler=handler, environment=paths)


def test_promises_are_kept() -> None:
    """Nothing is lost and no customer stays stuck while credentials rotate and processes are killed."""
    report = small(49, "all is well", "processes are killed")

    assert not report.broken, str(report)


def test_a_lie_is_noticed() -> None:
    """A function that reports success and does nothing leaves customers stuck."""
    assert STUCK in small(25, "all is well", handler="functions.lying").broken
