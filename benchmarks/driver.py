"""Runs a handler as Lambda's Python runtime does, import and then invocations, and reports what it took.

``python driver.py TREE HANDLER PLAN REPORT [SLOWDOWN]``: before the handler it imports nothing that Python
has not loaded by itself: what is imported is the handler's own. Times are of the monotonic clock, which
processes share. It runs in the function's Python, and is no part of the package: a tree is all it can import.
"""

import sys
import time


class Context:
    """The part of Lambda's context object that handlers use."""

    function_name = "end-conversation"
    function_version = "1"
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:end-conversation"
    memory_limit_in_mb = "512"
    aws_request_id = "11111111-2222-3333-4444-555555555555"

    def __init__(self, seconds: float) -> None:
        self._due = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        """As Lambda's."""
        return int((self._due - time.monotonic()) * 1000)


class Unbuffered:
    """Lambda's runtime replaces sys.stdout like this: each write is flushed at once."""

    def __init__(self, stream: object) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        """As a file's."""
        self._stream.write(text)
        self._stream.flush()


def main(tree: str, handler_name: str, plan_json: str, report_path: str, slowdown: str | None = None) -> None:
    """Follow a plan; see ``benchmarks.processes.Plan``."""
    # In the place of this script's folder, as Lambda has /var/task.
    sys.path[0] = tree
    sys.stdout = Unbuffered(sys.stdout)
    if slowdown is not None:
        _slow_down_time(float(slowdown))
    module_name, _, name = handler_name.rpartition(".")
    __import__(module_name)
    handler = getattr(sys.modules[module_name], name)
    imported = time.monotonic()

    import json  # noqa: PLC0415 - by now the handler has

    plan = json.loads(plan_json)
    events, seconds = plan["events"], plan["seconds"]
    answers = [handler(events[0], Context(seconds))]
    answered = time.monotonic()
    peak_rss = _peak_rss()
    answers += [handler(event, Context(seconds)) for event in events[1:]]
    finished = time.monotonic()

    # One list for each event; the events take turns.
    warm = [[] for _ in events]
    for _ in range(plan["warm"]):
        for taken, event in zip(warm, events, strict=True):
            cpu, wall = time.process_time(), time.perf_counter()
            handler(event, Context(seconds))
            taken.append((time.perf_counter() - wall, time.process_time() - cpu))

    with open(report_path, "w") as report:  # noqa: PTH123 - pathlib is not loaded
        json.dump(
            {
                "imported": imported,
                "answered": answered,
                "finished": finished,
                "peak_rss": peak_rss,
                "answers": answers,
                "warm": warm,
            },
            report,
        )


def _slow_down_time(factor: float) -> None:
    """Lengthen every wait and deadline, where what counts instructions slows down the process itself."""
    from threading import Condition  # noqa: PLC0415 - only here

    monotonic, wait = time.monotonic, Condition.wait
    time.monotonic = lambda: monotonic() / factor
    Condition.wait = lambda self, timeout=None: wait(self, timeout and timeout * factor)


def _peak_rss() -> int:
    """Bytes of memory that this program had at most; getrusage has its parent's where that had more."""
    try:
        with open("/proc/self/status") as status:  # noqa: PTH123 - pathlib is not loaded
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except OSError:
        import resource  # noqa: PLC0415 - only where there is no /proc

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    # What Lambda never does, taking the process down in good order, is not part of any figure.
    import os

    os._exit(0)
