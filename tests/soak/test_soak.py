"""A soak in small: it passes with the function as it is, and notices a function that breaks a promise."""

import os
import random
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import pytest

from local.rie import HANDLER, SOURCE
from local.studio import Studio
from soak.ledger import Ledger
from soak.orders import FEWEST, Book
from soak.pace import Pace
from soak.run import Plan, soak
from soak.spells import Spell
from soak.verdict import End, Verdict

# So many receives that a slow machine is no finding; nothing in a small soak has to be given up.
QUICK = Pace(timeout=4, visibility=2, receives=20, spell=0.8)
LOST = "nothing is lost: every command is done, or set aside"
WRONGLY_DEAD_LETTERED = "only what can never succeed is in the dead-letter queue"


def small(*spells: str, function: str | None = None, commands: int = FEWEST, pace: Pace = QUICK) -> Verdict:
    """A soak of seconds, with the function or with one of functions.py."""
    paths = os.pathsep.join(map(str, (SOURCE, Path(__file__).parent)))
    handler = f"functions.{function}" if function else HANDLER
    environment = {"PYTHONPATH": paths}
    plan = Plan(commands, 2, pace=pace, spells=spells, handler=handler, environment=environment)
    return soak(plan, lambda _: None)


def broken(verdict: Verdict) -> list[str]:
    """The promises that were not kept."""
    return [promise.text for promise in verdict.promises() if promise.broken_by]


def end(dead_letters: Iterable[str] = (), left: int = 0) -> End:
    """The end of a soak in which nothing was measured."""
    return End(list(dead_letters), left, asked=0, seconds=1.0, function_memory=0, own_memory=0)


def test_promises_are_kept() -> None:
    """Commands are done, and poison is set aside, while credentials rotate and processes are killed."""
    verdict = small("all is well", "credentials rotate", "processes are killed", commands=45)

    assert [str(promise) for promise in verdict.promises() if promise.broken_by] == []
    assert verdict.is_good
    assert "| lost                                  |      0 |" in verdict.tables()


@pytest.mark.parametrize(
    ("function", "promise"),
    [
        ("losing", LOST),
        ("careless", "nothing is ended that goes on"),
        ("overcautious", WRONGLY_DEAD_LETTERED),
        ("talkative", "no credential, contact or payload is in any output"),
        ("indiscreet", "no credential, contact or payload is in any output"),
    ],
)
def test_broken_promise_is_noticed(function: str, promise: str) -> None:
    """A function that breaks a promise fails the soak, for what it did and for nothing else."""
    verdict = small("all is well", function=function)

    assert broken(verdict) == [promise]
    assert not verdict.is_good


def test_function_that_does_nothing_is_noticed() -> None:
    """What nobody does is given up in the end, and the soak says that it is lost."""
    pace = Pace(visibility=1, receives=1, spell=0.5)

    assert broken(small("all is well", function="idle", pace=pace)) == [LOST, WRONGLY_DEAD_LETTERED]


@pytest.fixture
def book() -> Iterable[Book]:
    with Studio() as studio:
        yield Book(studio, FEWEST, random.Random(1))  # noqa: S311 -- repeatable, not secret


def test_spell_without_effect_is_noticed(book: Book) -> None:
    """A soak in which what was to go wrong did not go wrong proves nothing, and says so."""
    spells = [Spell("Twilio sleeps", ExitStack, "Twilio: asleep", 1.0)]

    assert broken(Verdict(book, Ledger(), spells, end())) == ["everything that was to go wrong went wrong"]


def test_messages_left_are_noticed(book: Book) -> None:
    """A queue that never gets empty is no success."""
    assert broken(Verdict(book, Ledger(), [], end(left=1))) == ["the queue is empty in time"]


def test_poison_that_is_nowhere_is_lost(book: Book) -> None:
    """A message that can never succeed has to be in the dead-letter queue, not just away."""
    book.write()
    poison = {order.tag for order in book.orders if order.fate == "dead-lettered"}
    ledger = Ledger()
    for order in book.orders:
        ledger.done([{"Body": order.text}])
        for execution in order.targets:
            book.studio.executions.end(execution.flow_sid, execution.sid)

    assert poison
    assert broken(Verdict(book, ledger, [], end(poison))) == []
    assert broken(Verdict(book, ledger, [], end(sorted(poison)[1:]))) == [LOST]
