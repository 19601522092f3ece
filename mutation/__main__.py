"""``make mutate``: change the core in every small way there is, and see whether tests/unit notice.

mutmut does the work. accepted.toml has what may go unnoticed, each change with its reason. They go by what is
changed: mutmut's own numbers mean something else after the next edit of a function.
"""

import json
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

ACCEPTED = Path(__file__).with_name("accepted.toml")
MUTANTS = Path("mutants")
NOTICED = ("killed", "timeout")


def described(mutant: str, path: Path) -> tuple[str, str]:
    """The function, and what the mutant makes of which of its lines."""
    module, _, function = mutant.partition("__mutmut_")[0].rpartition(".")
    function = function.removeprefix("x_") if "ǁ" not in function else function[2:].replace("ǁ", ".")
    lines = get_diff_for_mutant(mutant, path=path).splitlines()[2:]
    before, after = (" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return f"{module.removeprefix('end_conversation.')}.{function}", f"{before} -> {after}"


def main() -> None:
    """Run every mutant, or those with these names (* is anything); fail if one lives that may not."""
    names = sys.argv[1:]
    if not names:
        # mutmut would keep what it found with the tests of last time.
        shutil.rmtree(MUTANTS, ignore_errors=True)
    # `python -m mutmut` warns against itself.
    run = [sys.executable, "-c", "from mutmut.__main__ import cli; cli()", "run", *names]
    subprocess.run(run, check=True)
    accepted = tomllib.loads(ACCEPTED.read_text())
    unseen = {(function, change) for function, changes in accepted.items() for change in changes}
    counts: Counter[str] = Counter()
    complaints: list[str] = []
    for meta in sorted(MUTANTS.rglob("*.meta")):
        path = meta.relative_to(MUTANTS).with_suffix("")
        for mutant, code in json.loads(meta.read_text())["exit_code_by_key"].items():
            status = status_by_exit_code[code]
            counts[status] += 1
            if code is None or status in NOTICED:
                continue
            function, change = described(mutant, path)
            unseen.discard((function, change))
            if change not in accepted.get(function, {}):
                text = json.dumps(change, ensure_ascii=False)
                complaints.append(f'{status}: {mutant}\n  ["{function}"]\n  {text} = "why"')
    if not counts["not checked"]:
        # This also shows that what is taken for noticed is not simply everything.
        complaints += [f"accepted, but noticed or gone: {function}: {change}" for function, change in unseen]
    print("", *sorted(complaints), sep="\n")
    print(", ".join(f"{number} {status}" for status, number in counts.most_common() if number))
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
