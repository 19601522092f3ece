"""A process of the function under the Runtime Interface Emulator, to be killed at any moment."""

import contextlib
import os
import signal
from pathlib import Path

from local.rie import Emulated, Outcome


class Sandbox(Emulated):
    """The function, as ``Emulated`` runs it.

    Attributes:
        busy: whether it is working on an event.
    """

    busy = False

    def invoke(self, event: object) -> Outcome:
        """Send an event, and wait for what comes of it."""
        self.busy = True
        try:
            return super().invoke(event)
        finally:
            self.busy = False

    def kill(self) -> int:
        """Kill the function's process, which Lambda then replaces; tells how many there were."""
        processes = self._processes()
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return len(processes)

    def emulator_log(self) -> str:
        """What the emulator itself wrote, and the function to its standard error."""
        return Path(f"/proc/{self._process.pid}/fd/2").read_text(errors="replace")

    def _processes(self) -> list[int]:
        with contextlib.suppress(OSError):
            threads = Path(f"/proc/{self._process.pid}/task").iterdir()
            return [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
        return []
