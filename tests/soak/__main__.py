"""``make soak``: thousands of commands through the stack of template.yaml while all around it fails."""

import argparse
import sys

from local.terminal import interruptible, styled
from tests.soak.cloud import default
from tests.soak.orders import FEWEST
from tests.soak.run import Plan, soak


def main() -> None:
    """Run it as the command line says; the exit status tells whether every promise was kept."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--commands", type=int, default=5000, help="how many (default: %(default)s)")
    parser.add_argument(
        "--processes",
        type=int,
        default=default("MaximumConcurrency"),
        help="of the function, at once (default: the template's MaximumConcurrency, %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of all random numbers (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.commands < FEWEST or arguments.processes < 1:
        parser.error(f"there must be {FEWEST} commands and one process at least")
    with interruptible():
        verdict = soak(
            Plan(arguments.commands, arguments.processes, arguments.seed),
            lambda line: print(line, flush=True),
        )
        print(f"\n{verdict.tables()}\n")
        for promise in verdict.promises():
            print(styled(str(promise), "red" if promise.broken_by else "green"))
        sys.exit(0 if verdict.is_good else 1)
    sys.exit("interrupted")


if __name__ == "__main__":
    main()
