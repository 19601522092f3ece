"""Texts that are planted in order to be searched for: none of them may come out of the function."""

import base64
import json
import threading
from typing import Any

TOLD = ("reason", "conversation_id", "message_id")
"""Keys of log lines that hold what a caller chose; everything else is ours (docs/metrics-and-logs.md)."""


class Canaries:
    """What is searched for. Safe for threads.

    Args:
        texts: The first of them; an empty one is none.
    """

    def __init__(self, *texts: str) -> None:
        self._texts: set[str] = set()
        self._lock = threading.Lock()
        self.plant(*texts)

    def plant(self, *texts: str) -> None:
        """Search for these from now on, too."""
        with self._lock:
            self._texts |= set(filter(None, texts))

    def plant_credentials(self, user: str, password: str) -> None:
        """Search for these from now on, as they are and as they travel."""
        self.plant(user, password, base64.b64encode(f"{user}:{password}".encode()).decode())

    def plant_key(self, key: str) -> None:
        """Search for this signing key from now on, as it is written down and as it is used."""
        encoded = key.removeprefix("whsec_")
        self.plant(encoded, base64.b64decode(encoded).decode(errors="replace"))

    def find(self, text: str) -> str | None:
        """One that is in the text."""
        with self._lock:
            return next((each for each in self._texts if each in text), None)


def without_told(line: str) -> str:
    """A line of the function's output, without what it may repeat of what a caller sent."""
    try:
        document: Any = json.loads(line)
    except ValueError:
        return line
    if not isinstance(document, dict):
        return line
    return json.dumps({key: value for key, value in document.items() if key not in TOLD}, ensure_ascii=False)
