"""A small soak: the function keeps its promises, and one that lies does not."""

import os
from pathlib import Path

import pytest

from local.rie import HANDLER, SOURCE
from tests.soak.report import Report
from tests.soak.run import Plan, soak
from tests.soak.stack import Pace

pytestmark = pytest.mark.timeout(240)
PACE = Pace(timeout=4, visibility=2, receives=100, phase=1.5)
"""So many receives that a slow machine is no finding; nothing in a small soak has to be given up."""


def small(commands: int, *phases: str, handler: str = HANDLER) -> Report:
    """A soak of seconds."""
    environment = {"PYTHONPATH": os.pathsep.join(map(str, (SOURCE, Path(__file__).parent)))}
    plan = Plan(commands, 2, pace=PACE, phases=phases, handler=handler, environment=environment)
    return soak(plan, lambda _: None)


def test_promises_are_kept() -> None:
    """Nothing is lost and nobody stays stuck while credentials rotate and processes are killed."""
    report = small(49, "all is well", "processes are killed")

    assert [str(promise) for promise in report.promises() if promise.broken_by] == []


def test_a_lie_is_noticed() -> None:
    """A function that says done and does nothing leaves customers stuck."""
    report = small(25, "all is well", handler="functions.lying")

    broken = {promise.text for promise in report.promises() if promise.broken_by}
    assert "no success while the customer is still stuck" in broken
