"""A soak in small: the function passes, and one that loses commands does not."""

import os
from pathlib import Path

from local.rie import HANDLER, SOURCE
from tests.soak.pace import Pace
from tests.soak.run import Plan, soak
from tests.soak.verdict import Verdict

PACE = Pace(timeout=4, visibility=2, receives=20, spell=0.8)
"""So many receives that a slow machine is no finding; nothing in a small soak has to be given up."""


def small(commands: int, *spells: str, handler: str = HANDLER) -> Verdict:
    """A soak of seconds."""
    paths = os.pathsep.join(map(str, (SOURCE, Path(__file__).parent)))
    environment = {"PYTHONPATH": paths}
    plan = Plan(commands, 2, pace=PACE, spells=spells, handler=handler, environment=environment)
    return soak(plan, lambda _: None)


def test_promises_are_kept() -> None:
    """Nothing is lost and poison is set aside while credentials rotate and processes are killed."""
    verdict = small(50, "all is well", "processes are killed")

    assert [str(promise) for promise in verdict.promises() if promise.broken_by] == []


def test_lost_command_is_noticed() -> None:
    """A function that loses commands fails the soak for that and for telling nobody, and nothing else."""
    verdict = small(20, "all is well", handler="functions.losing")

    assert [promise.text for promise in verdict.promises() if promise.broken_by] == [
        "nothing is lost: every command is done, or set aside",
        "what became of a command is told, where EventBridge lets it be",
    ]


def test_foreign_credentials_are_noticed() -> None:
    """A function that takes one account's credentials for another account fails the soak for that."""
    verdict = small(20, "all is well", handler="functions.confused")

    broken = [promise.text for promise in verdict.promises() if promise.broken_by]
    assert "no account's credentials are used for another account" in broken
