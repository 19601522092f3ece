"""One target under one engine, in a process of its own: ``python -m tests.fuzz.worker TARGET ENGINE …``.

The coverage-guided engine is atheris (libFuzzer). It mutates the choices from which hypothesis generates its
inputs, so that both engines send inputs of the same shape.
https://hypothesis.readthedocs.io/en/latest/extras.html#use-with-external-fuzzers
"""

import argparse
import contextlib
import json
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis import HealthCheck, Phase

from tests.fuzz.targets import TARGETS, Target

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY = 768 * 1024 * 1024
"""Bytes that the process may use, stand-ins and engine included, which take about a third."""

LONGEST = 10
"""Seconds that one input may take."""

EXAMPLES = 100
"""Inputs between two looks at the clock."""


def main() -> None:
    """Fuzz as the command line says; a finding ends the process with its traceback."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("engine", choices=("hypothesis", "atheris"))
    parser.add_argument("--seconds", type=float, default=0.0, help="how long")
    parser.add_argument("--inputs", type=int, default=EXAMPLES, help="how many of hypothesis's at least")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))  # noqa: S311 -- repeatable, not secret
    parser.add_argument("--directory", type=Path, default=Path(".fuzz"), help="corpus and findings")
    parser.add_argument("--replay", type=Path, help="only this input, from a file that atheris wrote")
    parser.add_argument("--handler", help="dotted name of another handler than the function's")
    arguments = parser.parse_args()
    print(f"seed: {arguments.seed}", file=sys.stderr)
    with _instrumented(arguments.engine), TARGETS[arguments.target](arguments.handler) as target:
        run = _Run(target)
        try:
            if arguments.engine == "atheris":
                _by_atheris(run, target.inputs, arguments)
            else:
                _by_hypothesis(run, target.inputs, arguments)
        finally:
            run.tell()


class _Run:
    """Sends one input after the other, and counts."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._outcomes: Counter[str] = Counter()
        self._told = 0.0

    def __call__(self, value: Any) -> None:
        """Send one input."""
        began = time.monotonic()
        try:
            outcome = self._target.check(value)
            took = time.monotonic() - began
            if took > LONGEST or _memory() > MEMORY:
                raise AssertionError(f"{took:.1f} s and {_memory() / 1e6:.0f} MB are too much")  # noqa: TRY301 -- a finding
        except Exception:
            print(f"\nfound with: {value!r}", file=sys.stderr)
            raise
        self._outcomes[outcome] += 1
        # libFuzzer ends the process without unwinding the stack.
        if time.monotonic() - self._told > 1:
            self.tell()

    def tell(self) -> None:
        """Print the figures so far."""
        self._told = time.monotonic()
        figures = {"inputs": self._outcomes.total(), "outcomes": dict(self._outcomes.most_common())}
        print(f"\nfigures: {json.dumps(figures)}", file=sys.stderr, flush=True)


def _by_hypothesis(run: _Run, inputs: Any, arguments: argparse.Namespace) -> None:
    over = time.monotonic() + arguments.seconds
    seed = arguments.seed
    while True:
        hypothesis.seed(seed)(_test(run, inputs, arguments.inputs))()
        seed += 1
        if time.monotonic() >= over:
            break


def _by_atheris(run: _Run, inputs: Any, arguments: argparse.Namespace) -> None:
    import atheris  # noqa: PLC0415 -- only where it is

    corpus = arguments.directory / "corpus" / arguments.target
    corpus.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={arguments.seconds:.0f}",
        f"-timeout={LONGEST}",
        f"-rss_limit_mb={MEMORY // 2**20}",
        f"-seed={arguments.seed % 2**31}",
        f"-artifact_prefix={arguments.directory / arguments.target}-",
        # Shorter inputs rarely make a valid event.
        "-len_control=0",
        "-max_len=4096",
        str(arguments.replay or corpus),
    ]
    atheris.Setup([sys.argv[0], *options], _test(run, inputs, EXAMPLES).hypothesis.fuzz_one_input)
    atheris.Fuzz()


def _test(run: _Run, inputs: Any, examples: int) -> Any:
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(inputs)
    def test(value: Any) -> None:
        run(value)

    return test


def _instrumented(engine: str) -> contextlib.AbstractContextManager[object]:
    """Count the coverage of what is imported meanwhile: a target imports the function."""
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
