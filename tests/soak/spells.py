"""What goes wrong during a soak, one thing after the other."""

import random
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

from local.stand_ins import ACCOUNT_SECRET_PREFIX, SECRET_ID
from local.studio import ACCOUNT_SID, Fault, Faults, Studio
from tests.soak.cloud import GET_SECRET, PUT_EVENTS, SEND_MESSAGE, Cloud
from tests.soak.ledger import Ledger
from tests.soak.orders import ACCOUNTS, REVOKED
from tests.soak.pace import Pace
from tests.soak.sandbox import Sandbox

Cast = Callable[[], AbstractContextManager[object]]


class Spell(NamedTuple):
    """A time in which something goes wrong.

    Attributes:
        name: what it is.
        cast: makes it begin and end.
        evidence: all that has to be in the ledger after it, or it was none.
        seconds: how long it lasts at least.
    """

    name: str
    cast: Cast
    evidence: tuple[str, ...]
    seconds: float


class CountedFaults(Faults):
    """Faults that tell the ledger when one hits a request."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        super().__init__(seed)
        self._ledger = ledger

    def next(self, method: str, about: str) -> Fault | None:
        """What happens to a request that comes now."""
        fault = super().next(method, about)
        if fault is not None:
            kind = fault.broken or (fault.body and "nonsense") or fault.status or "slow"
            self._ledger.count(f"Twilio: {kind}")
        return fault


@dataclass
class Weather:
    """Makes things go wrong, and right again.

    Attributes:
        owners: the account of each API key that there ever was.
    """

    studio: Studio
    cloud: Cloud
    sandboxes: Sequence[Sandbox]
    ledger: Ledger
    pace: Pace
    draw: random.Random

    def __post_init__(self) -> None:
        """Have the ledger told what Twilio does wrong, and credentials in every secret."""
        self.studio.faults = CountedFaults(self.ledger, self.draw.getrandbits(32))
        self.owners: dict[str, str] = {}
        self._current: dict[str, tuple[str, str]] = {}
        self._revoked = {REVOKED}
        self._turns = cycle(ACCOUNTS)
        self._lock = threading.Lock()
        for account in ACCOUNTS:
            self._rotate(account)

    def spells(self) -> list[Spell]:
        """Every spell there is."""
        lasting = self.pace.spell
        twilio = partial(partial, self._twilio)
        slow_secrets = partial(self._slow, GET_SECRET, 0.7)
        everything = (self.throttling, self.errors, self.resets, slow_secrets, self.kills)

        def spell(name: str, cast: Cast, *evidence: str, seconds: float = lasting) -> Spell:
            return Spell(name, cast, evidence, seconds)

        return [
            spell("all is well", ExitStack, "delivered", "HTTP 202", "credentials rotated"),
            spell("Twilio is slow", twilio(delay=0.4, share=0.5), "Twilio: slow"),
            spell("Twilio throttles", self.throttling, "Twilio: 429"),
            spell("Twilio answers 5xx", self.errors, "Twilio: 500"),
            spell("Twilio resets connections", self.resets, "Twilio: reset"),
            spell("Twilio hangs", twilio(broken="hang", share=0.05), "Twilio: hang"),
            spell(
                "Twilio answers byte by byte",
                twilio(broken="drip", interval=0.05, share=0.05),
                "Twilio: drip",
            ),
            spell(
                "Twilio answers nonsense", twilio(status=200, body="<html>", share=0.1), "Twilio: nonsense"
            ),
            spell("Twilio is down", twilio(status=503), "Twilio: 503", seconds=self.pace.outage),
            spell(
                "Secrets Manager is down", partial(self._refusing, GET_SECRET), "log stale_credentials_used"
            ),
            spell("Secrets Manager is slow", slow_secrets, f"{GET_SECRET} slow"),
            spell("credentials are revoked too early", self.revoked, "Twilio: credentials refused"),
            spell(
                "SQS takes no message",
                partial(self._refusing, SEND_MESSAGE),
                "HTTP 503 queue_unavailable",
                "log message_not_dead_lettered",
            ),
            spell(
                "EventBridge takes no outcome",
                partial(self._refusing, PUT_EVENTS),
                "log outcome_not_published",
            ),
            spell("processes are killed", self.kills, "processes killed"),
            spell(
                "everything at once", partial(_together, *everything), "processes killed", seconds=2 * lasting
            ),
        ]

    def rotations(self) -> AbstractContextManager[None]:
        """One account's secret after the other gets new credentials; Twilio refuses the old ones at once."""
        return _every(self.pace.spell / 4, lambda: self._rotate(next(self._turns)))

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
    def revoked(self) -> Iterator[None]:
        """Twilio refuses what the default account's secret holds; it gets new credentials only at the end."""
        self._revoked.add(ACCOUNT_SID)
        self._rotate(ACCOUNT_SID)
        try:
            yield
        finally:
            self._revoked.remove(ACCOUNT_SID)
            self._rotate(ACCOUNT_SID)

    def kills(self) -> AbstractContextManager[None]:
        """A process of the function is killed again and again, in the middle of its work."""
        return _together(
            partial(self._twilio, delay=0.1),
            partial(_every, self.pace.spell / 5, self._kill_one),
        )

    def _rotate(self, account: str) -> None:
        """Put new credentials into an account's secret, and have Twilio take no others, if it takes any."""
        pair = "SK" + secrets.token_hex(16), f"canary-{secrets.token_hex(16)}"
        self.ledger.canaries.plant_credentials(*pair)
        self.owners[pair[0]] = account
        name = SECRET_ID if account == ACCOUNT_SID else ACCOUNT_SECRET_PREFIX + account
        with self._lock:
            # Both work for a moment, as when Secrets Manager rotates.
            self._take(account, self._current.get(account, pair), pair)
            self.cloud.put_secret(
                name, {"accountSid": account, "apiKeySid": pair[0], "apiKeySecret": pair[1]}
            )
            self._take(account, pair)
            self._current[account] = pair
        self.ledger.count("credentials rotated")

    def _take(self, account: str, *pairs: tuple[str, str]) -> None:
        """Have Twilio take these credentials of an account, and no others, if it takes any."""
        right = set() if account in self._revoked else set(pairs)
        if account == ACCOUNT_SID:
            self.studio.credentials = right
        else:
            self.studio.other_credentials[account] = right

    def _kill_one(self) -> None:
        if busy := [sandbox for sandbox in self.sandboxes if sandbox.busy]:
            self.ledger.count("processes killed", self.draw.choice(busy).kill())

    @contextmanager
    def _refusing(self, operation: str) -> Iterator[None]:
        """AWS answers 503 to an operation of the function."""
        self.cloud.refused.add(operation)
        try:
            yield
        finally:
            self.cloud.refused.remove(operation)

    @contextmanager
    def _slow(self, operation: str, seconds: float) -> Iterator[None]:
        """AWS takes its time over an operation of the function."""
        self.cloud.delays[operation] = seconds
        try:
            yield
        finally:
            del self.cloud.delays[operation]

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
