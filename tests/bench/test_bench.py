"""The benchmark measures what it says; sources stand for built trees here, so that it takes seconds."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import costs, hot_path, importtime, processes, stand_in, sweep, trees
from bench.processes import Plan, Report
from bench.tables import table

PYTHON = Path(sys.executable)


@pytest.fixture(scope="session")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stand_in.StandIn]:
    with stand_in.running(tmp_path_factory.mktemp("stand-in"), latency=0.05) as running:
        yield running


@pytest.fixture(scope="session")
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


def small_tree(path: Path, source: str) -> trees.Tree:
    (path / "small.py").write_text(source)
    return trees.Tree("small", path, "small.handler")


def measured(tree: trees.Tree, name: str, milliseconds: float) -> bench.Measured:
    seconds = milliseconds / 1e3
    start = Report(seconds / 2, seconds, 1_000_000, 0, [], [[(seconds, seconds)]])
    batch = replace(start, warm=[[(0.1, 0.0)], [(0.2, 0.0)]])
    return bench.Measured(replace(tree, name=name), [start], [batch], [(1000, 2000)], 1_000_000)


@pytest.mark.parametrize("name", ["sdk", "least", "ours"])
def test_all_end_the_same_execution(built: dict[str, trees.Tree], at: stand_in.StandIn, name: str) -> None:
    """Each of the three ends the Execution of the command, over TLS, and the ones of a batch."""
    one = bench.Measured(built[name])
    one.starts.append(processes.run(PYTHON, one.tree, Plan([bench.COMMAND]), processes.environment(at)))
    batches = Plan([bench.batch_of(1), bench.batch_of(2)])
    one.batches.append(processes.run(PYTHON, one.tree, batches, processes.environment(at, slow=True)))
    bench.check([one])


def test_another_outcome_is_no_figure(tmp_path: Path, at: stand_in.StandIn) -> None:
    """A tree that answers something else is refused."""
    one = bench.Measured(
        small_tree(tmp_path, "def handler(event, context):\n    return {'executions': [event]}\n")
    )
    one.starts.append(
        processes.run(PYTHON, one.tree, Plan([bench.COMMAND | {"sid": "FN", "status": "ended"}]), {})
    )
    with pytest.raises(RuntimeError, match="small answered"):
        bench.check([one])


def test_times_and_memory(tmp_path: Path) -> None:
    """A report tells when import and first answer were, each warm invocation of each event, and memory."""
    source = "kept = b'x' * 50_000_000\ndef handler(event, context):\n    return bytes(9_000_000) and event\n"
    plan = Plan([1, 2], warm=3, trace_memory=True)
    report = processes.run(PYTHON, small_tree(tmp_path, source), plan, {})
    assert 0 < report.imported < report.answered < 30
    assert report.answers == [1, 2]
    assert [len(taken) for taken in report.warm] == [3, 3]
    assert report.peak_rss > 50_000_000
    assert 9_000_000 <= report.traced < 50_000_000


def test_a_failure_shows(tmp_path: Path) -> None:
    """What a process wrote to stderr before it failed is told."""
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        processes.run(PYTHON, small_tree(tmp_path, "1 / 0\n"), Plan([{}]), {})


def test_read_only(tmp_path: Path) -> None:
    """A tree that is read-only stays without bytecode, for root as well."""
    tree = small_tree(tmp_path, "import other\nhandler = other.handler\n")
    (tmp_path / "other.py").write_text("def handler(event, context):\n    return event\n")
    with trees.read_only(tree.path):
        processes.run(PYTHON, tree, Plan([{}]), {})
    assert sorted(path.name for path in tree.path.iterdir()) == ["other.py", "small.py"]
    processes.run(PYTHON, tree, Plan([{}]), {})
    assert (tree.path / "__pycache__").exists()


def test_time_that_is_slowed_down(tmp_path: Path) -> None:
    """Where counting makes the process slow, waits and deadlines are as much longer."""
    source = """
from concurrent.futures import Future
from threading import Thread
from time import sleep

def handler(event, context):
    future = Future()
    Thread(target=lambda: future.set_result(sleep(0.1))).start()
    future.result(0.001)
    return context.get_remaining_time_in_millis()
"""
    report = processes.run(PYTHON, small_tree(tmp_path, source), Plan([{}]), {}, slowdown=1000)
    assert report.answers[0] > 29_950


def test_targets(tmp_path: Path) -> None:
    """A target that is missed is named, with what it should have been; one that is met is not."""
    tree = small_tree(tmp_path, "#")
    took = {"sdk": 100, "least": 30, "ours": 39}
    _, missed = bench.report([measured(tree, name, milliseconds) for name, milliseconds in took.items()])
    assert missed == [
        "start to first answer: 1.30 of least's, at most 1.25",
        "… million instructions: 1.00 of sdk's, at most 0.4",
        "… million instructions: 1.00 of sdk's, at most 0.6",
        "batch of ten: 2.00 of a batch of one, at most 1.3",
    ]


def test_costs() -> None:
    """A million events with 100 ms for Twilio and 29 ms of a whole processor cost what AWS's formula says."""
    work = costs.Work(start=0.0, first=0.029, warm=0.029)
    # 10**6 x 0.129 s x 1.7275390625 GB x $0.0000133334 + $0.20
    assert work.dollars(1769) == pytest.approx(3.1714, abs=0.0001)
    assert work.warm_seconds(512) == pytest.approx(0.1 + 0.029 * 1769 / 512)


def test_table() -> None:
    """A table is Markdown whose columns line up."""
    assert table(("", "ms"), [("import", "1,024"), ("warm", "1")]) == (
        "|        |    ms |\n|:-------|------:|\n| import | 1,024 |\n| warm   |     1 |"
    )


def test_sizes(tmp_path: Path) -> None:
    """Every file counts, and the zip is a real one."""
    (tmp_path / "tree").mkdir()
    tree = small_tree(tmp_path / "tree", "#" * 10_000)
    assert tree.unzipped_bytes == 10_000
    assert 100 < tree.zipped_bytes(tmp_path) < 1000


def test_import_times(built: dict[str, trees.Tree]) -> None:
    """The handler's module is among what its import costs, and what it imports is in its total."""
    totals = {name: (own, total) for own, total, name in importtime.measure(PYTHON, built["ours"])}
    own, total = totals["end_conversation.app"]
    assert own < total


def test_profile(
    built: dict[str, trees.Tree], at: stand_in.StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profile of the warm path has the function's own functions, by their place in the tree."""
    monkeypatch.setattr(hot_path, "INVOCATIONS", 5)
    plan = Plan([bench.COMMAND], warm=5, profile=str(tmp_path / "profile"))
    processes.run(PYTHON, built["ours"], plan, processes.environment(at))
    monkeypatch.setattr(hot_path, "TOP", 1000)
    assert "handler  end_conversation/app.py:" in hot_path.report(PYTHON, built["ours"], tmp_path / "profile")


def test_sweeps(built: dict[str, trees.Tree], at: stand_in.StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sweeps end everything that is stuck, and both are timed."""
    monkeypatch.setattr(sweep, "STUCK", 3)
    monkeypatch.setattr(sweep, "LATENCY", 0.0)
    shown = sweep.against_the_sdk(PYTHON, built["ours"], built["sdk"], processes.environment(at))
    assert "loop with Twilio's SDK" in shown
    assert "\n| ours " in shown


def test_growth(built: dict[str, trees.Tree], at: stand_in.StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of more than one page is fetched, swept and searched."""
    monkeypatch.setattr(sweep, "LENGTHS", (1001,))
    shown = sweep.growth(PYTHON, built["ours"], processes.environment(at))
    assert "\n| 1,001 active " in shown
