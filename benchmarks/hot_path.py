"""What a warm invocation costs, function by function, by cProfile.

``python -m bench.hot_path [--tree TREE]``: of a tree that is there, else of what `sam build` makes now.
The profiler makes calls dearer than they are: the figures tell where the time goes, not how much it is.
"""

import argparse
import pstats
import tempfile
from pathlib import Path

from benchmarks import processes, stand_in, trees
from benchmarks.__main__ import COMMAND
from benchmarks.tables import table

TOP = 40
INVOCATIONS = 1000


def report(python: Path, tree: trees.Tree, stats_path: Path) -> str:
    """The functions that cost most by themselves, for each invocation."""
    stats = pstats.Stats(str(stats_path)).stats  # type: ignore[attr-defined] # typeshed lacks it
    # Bytecode that was compiled for /var/task names its files so.
    prefixes = (f"{tree.path}/", "/var/task/", f"{python.parent.parent}/lib/python3.13/")
    rows = []
    for (file, line, name), (_, calls, own, total, _) in stats.items():
        for prefix in prefixes:
            file = file.removeprefix(prefix)  # noqa: PLW2901 - the same file, shorter
        place = "" if file == "~" else f"  {file}:{line}"
        rows.append((own, total, calls, name + place))
    rows.sort(reverse=True)
    everything, calls = sum(row[0] for row in rows), sum(row[2] for row in rows)
    return "\n\n".join(
        [
            f"{everything / INVOCATIONS * 1e6:,.0f} µs and {calls / INVOCATIONS:,.0f} calls, as profiled",
            table(
                ("function", "own µs", "with what it calls", "calls"),
                [
                    (
                        name,
                        f"{own / INVOCATIONS * 1e6:.1f}",
                        f"{total / INVOCATIONS * 1e6:.1f}",
                        f"{count / INVOCATIONS:.0f}",
                    )
                    for own, total, count, name in rows[:TOP]
                ],
            ),
        ]
    )


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.hot_path", description=__doc__)
    trees.add_tree_option(parser)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch, python = Path(folder), trees.python313()
        tree = trees.chosen(parser.parse_args(), scratch, python)
        plan = processes.Plan([COMMAND], warm=INVOCATIONS, profile=str(scratch / "profile"))
        with stand_in.running(scratch) as at, trees.read_only(tree.path):
            processes.run(python, tree, plan, processes.environment(at))
        print(report(python, tree, scratch / "profile"))


if __name__ == "__main__":
    main()
