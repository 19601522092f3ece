"""Secrets and addresses that must not appear in any output of the function."""

import base64
import json
import threading
from typing import Any

CHOSEN_BY_CALLERS = ("reason", "conversation_id", "message_id")
"""Keys of log lines whose values a caller chose (docs/metrics-and-logs.md)."""


class Canaries:
    """The texts to search for. Thread-safe.

    Args:
        texts: The first of them; empty ones are left out.
    """

    def __init__(self, *texts: str) -> None:
        self._texts: set[str] = set()
        self._lock = threading.Lock()
        self.plant(*texts)

    def plant(self, *texts: str) -> None:
        """Add these."""
        with self._lock:
            self._texts |= set(filter(None, texts))

    def plant_credentials(self, user: str, password: str) -> None:
        """Add these, plain and as sent in a header."""
        self.plant(user, password, base64.b64encode(f"{user}:{password}".encode()).decode())

    def plant_key(self, key: str) -> None:
        """Add this signing key, encoded and decoded."""
        encoded = key.removeprefix("whsec_")
        self.plant(encoded, base64.b64decode(encoded).decode(errors="replace"))

    def find(self, text: str) -> str | None:
        """One that the text contains."""
        with self._lock:
            return next((each for each in self._texts if each in text), None)


def without_callers_values(line: str) -> str:
    """A line of the function's output, without the values that a caller chose."""
    try:
        document: Any = json.loads(line)
    except ValueError:
        return line
    if not isinstance(document, dict):
        return line
    return json.dumps(
        {key: value for key, value in document.items() if key not in CHOSEN_BY_CALLERS}, ensure_ascii=False
    )
