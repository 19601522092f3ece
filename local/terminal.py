"""How the commands stop, and colours in a terminal."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does: it leaves the block, without a traceback."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def styled(text: str, style: str) -> str:
    """The text in a style, if this is a terminal."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\033[{_STYLES[style]}m{text}\033[0m"
