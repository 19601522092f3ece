"""The API as `make serve` serves it, on ports of its own."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local import rie, samples
from local.serve import serving as serving_function
from local.stand_ins import StandIns, stand_ins

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Api:
    """Where it answers, and what is behind it."""

    url: str
    behind: StandIns


@contextlib.contextmanager
def serving() -> Iterator[Api]:
    """Serve it, with the Execution of events/http.json."""
    with (
        stand_ins() as behind,
        rie.function(behind.environment) as function,
        serving_function(0, behind, function) as url,
    ):
        samples.seed(behind.studio, samples.load(samples.EVENTS / "http.json"))
        yield Api(url, behind)
