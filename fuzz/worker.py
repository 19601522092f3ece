"""One target under one engine, in a process of its own: ``python -m fuzz.worker TARGET ENGINE …``.

The engine that is guided by coverage is atheris (libFuzzer). What it makes up are the choices by which
hypothesis generates its inputs, so that both engines send things of the same shape.
https://hypothesis.readthedocs.io/en/latest/extras.html#use-with-external-fuzzers
"""

import argparse
import contextlib
import importlib
import json
import random
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hypothesis
from hypothesis import HealthCheck, Phase

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY = 768 * 1024 * 1024
"""Bytes that the process may need at most, with the stand-ins and the engine, which take about a third."""

LONGEST = 10
"""Seconds that one input may take."""

EXAMPLES = 500
"""Inputs between two looks at the clock."""

_PHASES = (Phase.explicit, Phase.generate, Phase.shrink)


def main() -> None:
    """Fuzz as the command line says, and write down what came of it, again and again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("engine", choices=("hypothesis", "atheris"))
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--directory", type=Path, required=True, help="of the corpus, and of what was found")
    parser.add_argument("--report", type=Path, required=True, help="the figures, as JSON")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))  # noqa: S311 -- repeatable, not secret
    parser.add_argument("--replay", type=Path, help="only this input, as the engine that is guided kept it")
    parser.add_argument("--handler", help="the function's handler, if it is another one")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", file=sys.stderr)
    with _instrumented(arguments.engine):
        targets = importlib.import_module("fuzz.targets")
    with targets.TARGETS[arguments.target](arguments.handler) as target:
        run = _Run(target, arguments.report)
        try:
            if arguments.replay:
                _test(run, target.inputs).hypothesis.fuzz_one_input(arguments.replay.read_bytes())
            elif arguments.engine == "atheris":
                _by_atheris(run, target.inputs, arguments)
            else:
                _by_hypothesis(run, target.inputs, arguments)
        finally:
            run.write_down()


class _Run:
    """Sends inputs, one after the other, and keeps count."""

    def __init__(self, target: Any, report: Path) -> None:  # noqa: ANN401 -- fuzz.targets.Target, imported late
        self._target = target
        self._report = report
        self._inputs = 0
        self._longest = 0.0
        self._began = self._written = time.monotonic()

    def __call__(self, value: Any) -> None:  # noqa: ANN401 -- whatever the target takes
        """Send one."""
        began = time.monotonic()
        try:
            outcome = self._target.check(value)
            took = time.monotonic() - began
            if took > LONGEST or _memory() > MEMORY:
                _complain(f"{took:.1f} s and {_memory() / 1e6:.0f} MB are too much")
        except Exception as finding:
            print(f"\nfound with: {value!r}", file=sys.stderr)
            print(f"{type(finding).__name__}: {finding}", file=sys.stderr)
            raise
        self._inputs += 1
        self._longest = max(self._longest, took)
        self._target.world.happened[outcome] += 1
        if time.monotonic() - self._written > 1:
            self.write_down()

    def write_down(self) -> None:
        """Bring the report up to date."""
        self._written = time.monotonic()
        world = self._target.world
        figures = {
            "inputs": self._inputs,
            "seconds": self._written - self._began,
            "longest": self._longest,
            "memory": _memory(),
            "searched": world.searched,
            "outcomes": dict(world.happened.most_common()),
        }
        beside = self._report.with_suffix(".new")
        beside.write_text(json.dumps(figures))
        beside.replace(self._report)


def _complain(what: str) -> NoReturn:
    raise AssertionError(what)


def _by_hypothesis(run: _Run, inputs: Any, arguments: argparse.Namespace) -> None:  # noqa: ANN401 -- any strategy
    over = time.monotonic() + arguments.seconds
    seed = arguments.seed
    while time.monotonic() < over:
        seed += 1
        test = hypothesis.seed(seed)(_test(run, inputs, over))
        test()


def _by_atheris(run: _Run, inputs: Any, arguments: argparse.Namespace) -> None:  # noqa: ANN401 -- any strategy
    import atheris  # noqa: PLC0415 -- only where it is

    corpus = arguments.directory / "corpus" / arguments.target
    corpus.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={arguments.seconds:.0f}",
        f"-timeout={LONGEST}",
        f"-rss_limit_mb={MEMORY // 2**20}",
        f"-seed={arguments.seed % 2**31}",
        f"-artifact_prefix={arguments.directory / arguments.target}-",
        # Inputs of hypothesis begin to make sense with some hundred bytes.
        "-len_control=0",
        "-max_len=4096",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *options], _test(run, inputs).hypothesis.fuzz_one_input)
    atheris.Fuzz()


def _test(run: _Run, inputs: Any, over: float = float("inf")) -> Any:  # noqa: ANN401 -- hypothesis types neither
    @hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=_PHASES,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(inputs)
    def test(value: Any) -> None:  # noqa: ANN401 -- as above
        if time.monotonic() < over:
            run(value)

    return test


def _instrumented(engine: str) -> contextlib.AbstractContextManager[object]:
    if engine != "atheris":
        return contextlib.nullcontext()
    import atheris  # noqa: PLC0415 -- only where it is

    instrument: Callable[..., contextlib.AbstractContextManager[object]] = atheris.instrument_imports
    return instrument(include=["end_conversation", "http.client", "fastjsonschema"])


def _memory() -> int:
    # In bytes on macOS, in kB elsewhere.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
