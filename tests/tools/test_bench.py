"""What `make bench` and `make bench-sweep` compare does the same work; sources stand for built trees here."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import processes, stand_in, sweep, trees
from benchmarks.processes import Plan

PYTHON = Path(sys.executable)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stand_in.StandIn]:
    with stand_in.running(tmp_path_factory.mktemp("stand-in"), latency=0.05) as running:
        yield running


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, trees.Tree]:
    folder = tmp_path_factory.mktemp("trees")
    sources = {
        "sdk": (trees.HERE / "reference_sdk", "handler.handler"),
        "least": (trees.HERE / "reference_least", "handler.handler"),
        "ours": (trees.ROOT / "src", trees.HANDLER),
    }
    for name, (source, _) in sources.items():
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return {name: trees.Tree(name, folder / name, handler) for name, (_, handler) in sources.items()}


@pytest.mark.parametrize(
    ("name", "environ"), [("sdk", {}), ("least", {}), ("ours", {}), ("ours", bench.OUTCOME_EVENTS)]
)
def test_all_end_the_same_execution(
    built: dict[str, trees.Tree], at: stand_in.StandIn, name: str, environ: dict[str, str]
) -> None:
    """Each handler ends the Execution of the command, over TLS, and those of a batch."""
    one = bench.Measured(built[name], environ)
    quick, slow = processes.environment(at) | environ, processes.environment(at, slow=True) | environ
    one.starts.append(processes.run(PYTHON, one.tree, Plan([bench.COMMAND]), quick))
    batches = Plan([bench.batch_of(1), bench.batch_of(2)])
    one.batches.append(processes.run(PYTHON, one.tree, batches, slow))

    bench.check([one])


@pytest.mark.parametrize("contacts", [0, 1, 3], ids=["sweep", "command", "batch"])
@pytest.mark.parametrize("sdk", [False, True])
def test_both_end_what_is_listed(
    built: dict[str, trees.Tree], at: stand_in.StandIn, contacts: int, *, sdk: bool
) -> None:
    """The function and the loop with Twilio's SDK do what `make bench-sweep` compares."""
    bench = sweep.Bench(PYTHON, built["ours"], built["sdk"], processes.environment(at))
    measured = bench.measure(sweep.Case(5, contacts, latency=None), sdk=sdk)
    assert (measured.failed, measured.pages) == (0, contacts if sdk and contacts else 1)
