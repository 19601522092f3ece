"""What pytest has to do differently for mutmut."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mutmut.state import state

if TYPE_CHECKING:
    import pytest

_STATS = Path("mutmut-stats.json")
_AT_IMPORT = Path("at-import.json")


def _takes_stats() -> bool:
    """Whether this is the run in which mutmut notes which test calls which function."""
    return os.environ["MUTANT_UNDER_TEST"] == "stats"


def pytest_load_initial_conftests() -> None:
    """Import everything again for a mutant of a function that runs at import.

    mutmut forks its workers from a process that has imported all of it without any mutant.
    """
    function = os.environ["MUTANT_UNDER_TEST"].partition("__mutmut_")[0]
    if _AT_IMPORT.exists() and function in json.loads(_AT_IMPORT.read_text()):
        ours = ("conftest", "doubles", "end_conversation", "local", "test_")
        for name in [name for name in sys.modules if name.startswith(ours)]:
            del sys.modules[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that take longest last: most mutants do not live to see them."""
    if _takes_stats():
        _AT_IMPORT.write_text(json.dumps(sorted(state()._stats)))  # noqa: SLF001 - mutmut tells it nowhere else
    elif _STATS.exists():
        seconds = json.loads(_STATS.read_text())["duration_by_test"]
        items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))


def pytest_runtest_setup() -> None:
    """What ran at import concerns every test; mutmut would think that it concerns the first."""
    if _takes_stats():
        state()._stats.update(json.loads(_AT_IMPORT.read_text()))  # noqa: SLF001 - as above
