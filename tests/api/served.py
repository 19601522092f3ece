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
    """Its URL, and the stand-ins."""

    url: str
    stand_ins: StandIns


@contextlib.contextmanager
def serving() -> Iterator[Api]:
    """Serve it, with the Execution of events/http.json."""
    with (
        stand_ins() as ready,
        rie.function(ready.environment) as function,
        serving_function(0, ready, function) as url,
    ):
        samples.seed(ready.studio, samples.load(samples.EVENTS / "http.json"))
        yield Api(url, ready)
