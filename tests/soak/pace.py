"""How fast time runs in a soak: what takes hours in AWS is over in minutes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """What is shortened, and what that makes of the template's own numbers.

    Attributes:
        timeout: seconds that an invocation may take; the template's function has 30.
        visibility: seconds after which SQS delivers a message again that nobody deleted; there 180.
        receives: deliveries after which SQS gives a message up; there 100.
        spell: seconds that each thing goes wrong for, at least.
    """

    timeout: int = 5
    visibility: int = 12
    receives: int = 10
    spell: float = 5.0

    @property
    def outage(self) -> float:
        """Seconds for which Twilio is down: too long for one delivery, and shorter than all of them."""
        return 2.0 * self.visibility

    @property
    def patience(self) -> float:
        """Seconds after which the last message must have found its end."""
        return 2.0 * self.visibility * (self.receives + 1) + 60
