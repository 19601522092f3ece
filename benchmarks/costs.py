"""The figures in Lambda's terms: milliseconds, and money per million events, at common memory sizes."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.tables import table

# https://aws.amazon.com/lambda/pricing/, US East (N. Virginia), arm64, November 2026; without the free tier.
DOLLARS_PER_GB_SECOND = 0.0000133334
DOLLARS_PER_MILLION_REQUESTS = 0.20

# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
MB_OF_ONE_CPU = 1769

# https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/ has "under 1%".
SHARE_OF_COLD_STARTS = 0.01

TWILIO_SECONDS = 0.1
SIZES = (256, 512, 1024, 1769)


@dataclass(frozen=True)
class Work:
    """The work of one handler, in seconds of a whole processor.

    Attributes:
        start: until the handler is imported, which Lambda gives a whole processor at any size.
        first: the first invocation.
        warm: any other invocation, without its wait for Twilio.
    """

    start: float
    first: float
    warm: float

    def warm_seconds(self, memory: int) -> float:
        """How long a warm invocation takes."""
        return TWILIO_SECONDS + self.warm / min(1, memory / MB_OF_ONE_CPU)

    def dollars(self, memory: int) -> float:
        """What a million events cost; Lambda bills the start as well."""
        cold = self.start + TWILIO_SECONDS + self.first / min(1, memory / MB_OF_ONE_CPU)
        seconds = SHARE_OF_COLD_STARTS * cold + (1 - SHARE_OF_COLD_STARTS) * self.warm_seconds(memory)
        return DOLLARS_PER_MILLION_REQUESTS + 1e6 * seconds * memory / 1024 * DOLLARS_PER_GB_SECOND


def report(works: Sequence[Work]) -> str:
    """A line for each memory size, with columns for each handler, in the order given."""
    head = ("memory", "warm (a)", "(b)", "ours", "a million (a)", "(b)", "ours")
    rows = [
        (
            f"{memory:,} MB",
            *(f"{work.warm_seconds(memory) * 1e3:.0f} ms" for work in works),
            *(f"${work.dollars(memory):.2f}" for work in works),
        )
        for memory in SIZES
    ]
    return f"""{table(head, rows)}

With {TWILIO_SECONDS * 1e3:.0f} ms for Twilio's answer and {SHARE_OF_COLD_STARTS:.0%} cold starts, on arm64.
"""
