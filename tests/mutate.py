"""``make mutate``: change the package in one random place at a time, and count the changes that tests notice.

A change runs only those unit tests that run its line, as coverage.py has it.
"""

import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from coverage import CoverageData

from local.terminal import interruptible

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "end_conversation"
FOLDER = ROOT / ".mutation"
TESTS = "tests/unit"
PYTEST = (
    *("-m", "pytest", "-qx", "--hypothesis-profile=mutation", "--timeout=15"),
    # Not wanted here, and loaded hundreds of times.
    *("-p", "no:cacheprovider", "-p", "no:schemathesis"),
)
PROCESSES = 2 * (os.cpu_count() or 1)
"""Runs at once: most tests wait."""

TIMEOUT = 300.0
"""Seconds for the tests of one change; a change that hangs them is noticed."""

_OPPOSITES: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.Lt: ast.LtE,
    ast.Gt: ast.GtE,
    ast.In: ast.NotIn,
    ast.Is: ast.IsNot,
    ast.And: ast.Or,
    ast.Add: ast.Sub,
    ast.Mult: ast.FloorDiv,
}
_OPPOSITES |= {other: one for one, other in _OPPOSITES.items()}


class Change(NamedTuple):
    """A place in a syntax tree that can be changed.

    Attributes:
        node: the place.
        lines: of the statement that it is in, without the body.
        apply: makes the change.
    """

    node: ast.AST
    lines: range
    apply: Callable[[], None]


def changes(node: ast.AST, lines: range = range(0)) -> Iterator[Change]:
    """Every change below a node, in a fixed order: not of types, docstrings and messages for people."""
    if isinstance(node, ast.stmt):
        body = getattr(node, "body", None)
        lines = range(node.lineno, body[0].lineno if body else (node.end_lineno or 0) + 1)
    match node:
        case ast.Expr(ast.Constant()) | ast.If(ast.Name("TYPE_CHECKING")) | ast.JoinedStr():
            return
    for field, value in _replacements(node):
        yield Change(node, lines, partial(setattr, node, field, value))
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and field not in {"annotation", "returns"}:
                yield from changes(child, lines)


def _replacements(node: ast.AST) -> Iterator[tuple[str, object]]:
    """A field of the node and another value for it, if it can be changed at all."""
    match node:
        case ast.Compare(ops=[op, *more]) if type(op) in _OPPOSITES:
            yield "ops", [_OPPOSITES[type(op)](), *more]
        case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in _OPPOSITES:
            yield "op", _OPPOSITES[type(op)]()
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield "test", ast.UnaryOp(ast.Not(), test)
        case ast.Constant(bool(value)):
            yield "value", not value
        case ast.Constant(int(value) | float(value)):
            yield "value", value + 1
        case ast.Constant(str(value)) if value and " " not in value:
            yield "value", f"{value}X"
        case ast.Return(ast.Constant(None)):
            return
        case ast.Return(ast.expr()) | ast.Expr(ast.Call()):
            yield "value", ast.Constant(None)


def survivor(path: Path, number: int, tests: dict[int, list[str]]) -> str | None:
    """Make one change of a module in a copy of the package, and describe it if the tests still pass."""
    tree = ast.parse(path.read_text())
    change = list(changes(tree))[number]
    before = ast.unparse(change.node).partition("\n")[0]
    change.apply()
    after = ast.unparse(change.node).partition("\n")[0]
    # What runs outside of tests only, at import, is a matter of every test of the module.
    contexts = {each for line in change.lines for each in tests.get(line, ())}
    if contexts == {""}:
        contexts = set(chain.from_iterable(tests.values()))
    names = sorted(f"{TESTS}/{each.replace('.', '.py::')}" for each in contexts - {""})
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        copy = Path(folder) / PACKAGE.name
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / path.relative_to(PACKAGE)).write_text(ast.unparse(ast.fix_missing_locations(tree)))
        try:
            if (
                names
                and _python(*PYTEST, "-o", f"pythonpath={folder} tests .", *names, timeout=TIMEOUT).returncode
            ):
                return None
        except subprocess.TimeoutExpired:
            return None
    return f"{path.relative_to(ROOT)}:{change.lines[0]}  {before}  =>  {after}"


def _python(*arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )


def main(count: int, seed: int) -> None:
    """Print each change of a random sample that no test notices, and the share that tests notice."""
    FOLDER.mkdir(exist_ok=True)
    print("Running the unit tests for their coverage ...", flush=True)
    done = _python("-m", "coverage", "run", *PYTEST, TESTS)
    if done.returncode:
        sys.exit(f"The tests fail without any change:\n{done.stdout[-3000:]}")
    data = CoverageData(str(FOLDER / "coverage"))
    data.read()
    every = [
        (path, number, data.contexts_by_lineno(str(path)))
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, _ in enumerate(changes(ast.parse(path.read_text())))
    ]
    sample = random.Random(seed).sample(every, count)  # noqa: S311 -- repeatable, not secret
    print(f"{count} of {len(every)} changes, seed {seed}; those that no test notices:", flush=True)
    survivors = 0
    with ThreadPoolExecutor(PROCESSES) as threads:
        for found in threads.map(lambda each: survivor(*each), sample):
            if found:
                survivors += 1
                print(f"  {found}", flush=True)
    print(f"Tests noticed {count - survivors} of {count} changes ({1 - survivors / count:.0%}).")


if __name__ == "__main__":
    with interruptible():
        main(int(os.environ.get("MUTANTS") or 200), int(os.environ.get("SEED") or 1))
