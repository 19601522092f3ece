"""What importing the handler costs, module by module: the top twenty of ``-X importtime``.

``python -m bench.importtime [--tree TREE]``: of a tree that is there, else of what `sam build` makes now.
"""

import argparse
import os
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks import trees
from benchmarks.tables import table

TOP = 20
RUNS = 5

_LINE = re.compile(r"import time: +(\d+) \| +(\d+) \| +(\S+)")


def measure(python: Path, tree: trees.Tree) -> list[tuple[int, int, str]]:
    """Microseconds of each module by itself, and with what it is the first to import; its name."""
    module = tree.handler.rpartition(".")[0]
    # Lambda is what makes the handler ask for credentials when it is imported: here is none.
    command = [
        *(str(python), "-X", "importtime", "-c"),
        f"import sys; sys.path[0] = {str(tree.path)!r}; import {module}",
    ]
    environ = {"PATH": os.environ["PATH"], "AWS_REGION": "us-east-1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    return [(int(own), int(total), name) for own, total, name in _LINE.findall(done.stderr)]


def report(python: Path, tree: trees.Tree) -> str:
    """The least that each module took in a few runs, since all that disturbs a run only adds to it."""
    runs = [measure(python, tree) for _ in range(RUNS)]
    modules = [
        (min(own for own, _, _ in same), min(total for _, total, _ in same), same[0][2])
        for same in zip(*runs, strict=True)
    ]
    packages: Counter[str] = Counter()
    for own, _, name in modules:
        packages[name.partition(".")[0]] += own
    everything = sum(packages.values())

    def ms(microseconds: int) -> str:
        return f"{microseconds / 1e3:.1f}"

    return "\n\n".join(
        [
            f"{len(modules)} modules in {ms(everything)} ms, with what Python itself loads",
            table(
                ("module", "own ms", "with its imports"),
                [(name, ms(own), ms(total)) for own, total, name in sorted(modules, reverse=True)[:TOP]],
            ),
            table(
                ("package", "own ms", "share"),
                [(name, ms(own), f"{own / everything:.0%}") for name, own in packages.most_common(TOP)],
            ),
        ]
    )


def main() -> None:
    """Print the modules and the packages that cost most."""
    parser = argparse.ArgumentParser(prog="python -m bench.importtime", description=__doc__)
    trees.add_tree_option(parser)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        python = trees.python313()
        print(report(python, trees.chosen(parser.parse_args(), Path(scratch), python)))


if __name__ == "__main__":
    main()
