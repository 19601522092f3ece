"""``make soak``: thousands of commands through the stack while everything around it fails."""

import os
import sys

from local.terminal import interruptible
from tests.soak.run import soak
from tests.soak.stack import default

if __name__ == "__main__":
    with interruptible():
        report = soak(
            int(os.environ.get("COMMANDS") or 1500),
            default("MaximumConcurrency"),
            seed=int(os.environ.get("SEED") or 1),
            tell=lambda line: print(line, flush=True),
        )
        print(f"\n{report}")
        sys.exit(1 if report.broken else 0)
    sys.exit("interrupted")
