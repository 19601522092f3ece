"""What goes wrong during a soak, one thing after the other."""

import random
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from local.executions import ACCOUNT_SID
from local.faults import Fault, Faults
from local.stand_ins import SECRET_ID
from local.studio import Studio
from tests.soak.cloud import Cloud
from tests.soak.ledger import Ledger
from tests.soak.pace import Pace
from tests.soak.sandbox import Sandbox

Cast = Callable[[], AbstractContextManager[object]]


class Spell(NamedTuple):
    """A time in which something goes wrong.

    Attributes:
        name: what it is.
        cast: makes it begin and end.
        evidence: what has to be in the ledger after it, or it was none.
        seconds: how long it lasts at least.
    """

    name: str
    cast: Cast
    evidence: str
    seconds: float


class CountedFaults(Faults):
    """Faults that tell the ledger when one hits a request."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        super().__init__(seed)
        self._ledger = ledger

    def next(self, method: str) -> Fault | None:
        """What happens to a request that comes now."""
        fault = super().next(method)
        if fault is not None:
            kind = fault.broken or (fault.body and "nonsense") or fault.status or "slow"
            self._ledger.count(f"Twilio: {kind}")
        return fault


@dataclass
class Weather:
    """Makes things go wrong, and right again."""

    studio: Studio
    cloud: Cloud
    sandboxes: Sequence[Sandbox]
    ledger: Ledger
    pace: Pace
    draw: random.Random

    def __post_init__(self) -> None:
        """Have the ledger told what Twilio does wrong."""
        self.studio.faults = CountedFaults(self.ledger, self.draw.getrandbits(32))

    def spells(self) -> list[Spell]:
        """Every spell there is."""
        lasting = self.pace.spell
        everything = (
            self.throttling,
            self.errors,
            self.resets,
            self.slow_secrets,
            self.rotations,
            self.kills,
        )
        twilio = partial(partial, self._twilio)
        return [
            Spell("all is well", ExitStack, "delivered", lasting),
            Spell("Twilio is slow", twilio(delay=0.4, share=0.5), "Twilio: slow", lasting),
            Spell("Twilio throttles", self.throttling, "Twilio: 429", lasting),
            Spell("Twilio answers 5xx", self.errors, "Twilio: 500", lasting),
            Spell("Twilio resets connections", self.resets, "Twilio: reset", lasting),
            Spell("Twilio hangs", twilio(broken="hang", share=0.05), "Twilio: hang", lasting),
            Spell(
                "Twilio answers byte by byte",
                twilio(broken="drip", interval=0.05, share=0.05),
                "Twilio: drip",
                lasting,
            ),
            Spell(
                "Twilio answers nonsense",
                twilio(status=200, body="<html>", share=0.1),
                "Twilio: nonsense",
                lasting,
            ),
            Spell("Twilio is down", twilio(status=503), "Twilio: 503", self.pace.outage),
            Spell("Secrets Manager is down", self.secrets_down, "Secrets Manager: refused", lasting),
            Spell("Secrets Manager is slow", self.slow_secrets, "Secrets Manager: slow", lasting),
            Spell("credentials rotate", self.rotations, "credentials rotated", lasting),
            Spell("credentials are revoked too early", self.revoked, "Twilio: credentials refused", lasting),
            Spell("dead letters are refused", self.dead_letters_down, "SQS: refused", lasting),
            Spell("processes are killed", self.kills, "processes killed", lasting),
            Spell("everything at once", partial(_together, *everything), "processes killed", 2 * lasting),
        ]

    def throttling(self) -> AbstractContextManager[None]:
        """Twilio answers 429 to a third of the requests, with and without a time to wait."""
        return _together(
            partial(self._twilio, status=429, headers={"Retry-After": "1"}, share=0.15),
            partial(self._twilio, status=429, share=0.2),
        )

    def errors(self) -> AbstractContextManager[None]:
        """Twilio answers one of the errors that pass; now and then it has done its work all the same."""
        return _together(
            partial(self._twilio, status=500, carried_out=True, share=0.1),
            *(partial(self._twilio, status=status, share=0.08) for status in (500, 502, 503, 504)),
        )

    def resets(self) -> AbstractContextManager[None]:
        """Connections break, before and after Twilio has done its work."""
        return _together(
            partial(self._twilio, broken="reset", share=0.15),
            partial(self._twilio, broken="reset", carried_out=True, share=0.15),
        )

    @contextmanager
    def secrets_down(self) -> Iterator[None]:
        """Secrets Manager answers 503."""
        self.cloud.secrets_down = True
        try:
            yield
        finally:
            self.cloud.secrets_down = False

    @contextmanager
    def slow_secrets(self) -> Iterator[None]:
        """Secrets Manager takes its time."""
        self.cloud.secrets_delay = 0.7
        try:
            yield
        finally:
            self.cloud.secrets_delay = 0.0

    @contextmanager
    def dead_letters_down(self) -> Iterator[None]:
        """The function cannot put aside what can never succeed."""
        self.cloud.dead_letters_down = True
        try:
            yield
        finally:
            self.cloud.dead_letters_down = False

    def rotations(self) -> AbstractContextManager[None]:
        """The secret gets new credentials again and again, and Twilio refuses the old ones at once."""
        return _every(self.pace.spell / 4, self.rotate)

    @contextmanager
    def revoked(self) -> Iterator[None]:
        """Twilio refuses what the secret holds; it gets new credentials only at the end."""
        self.studio.credentials = set()
        try:
            yield
        finally:
            self.rotate()

    def kills(self) -> AbstractContextManager[None]:
        """A process of the function is killed again and again, in the middle of its work."""
        return _together(
            partial(self._twilio, delay=0.1),
            partial(_every, self.pace.spell / 5, self._kill_one),
        )

    def rotate(self) -> None:
        """Put new credentials into the secret, and have Twilio take no others."""
        pair = "SK" + secrets.token_hex(16), f"canary-{secrets.token_hex(16)}"
        self.ledger.canaries.plant_credentials(*pair)
        # Both work for a moment, as when Secrets Manager rotates.
        self.studio.credentials = self.studio.credentials | {pair}
        self.cloud.put_secret(
            SECRET_ID, {"accountSid": ACCOUNT_SID, "apiKeySid": pair[0], "apiKeySecret": pair[1]}
        )
        self.studio.credentials = {pair}
        self.ledger.count("credentials rotated")

    def _kill_one(self) -> None:
        if busy := [sandbox for sandbox in self.sandboxes if sandbox.busy]:
            self.ledger.count("processes killed", self.draw.choice(busy).kill())

    @contextmanager
    def _twilio(self, **fault: Any) -> Iterator[None]:
        # Once for certain: in a short soak a share may hit nothing.
        self.studio.fail(**{**fault, "share": 1.0})
        self.studio.fail(**{"times": None} | fault)
        try:
            yield
        finally:
            self.studio.faults.clear()


@contextmanager
def _together(*casts: Cast) -> Iterator[None]:
    with ExitStack() as stack:
        for cast in casts:
            stack.enter_context(cast())
        yield


@contextmanager
def _every(seconds: float, do: Callable[[], None]) -> Iterator[None]:
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            do()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
