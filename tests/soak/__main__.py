"""``make soak``: thousands of commands through the stack while everything around it fails."""

import argparse
import sys

from local.terminal import interruptible, styled
from tests.soak.run import Plan, soak
from tests.soak.stack import default
from tests.soak.workload import MIN_CASES


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
    if arguments.commands < MIN_CASES or arguments.processes < 1:
        parser.error(f"at least {MIN_CASES} commands and one process are needed")
    with interruptible():
        plan = Plan(arguments.commands, arguments.processes, arguments.seed)
        report = soak(plan, lambda line: print(line, flush=True))
        print(f"\n{report.tables()}\n")
        for promise in report.promises():
            print(styled(str(promise), "red" if promise.broken_by else "green"))
        sys.exit(0 if report.is_good else 1)
    sys.exit("interrupted")


if __name__ == "__main__":
    main()
