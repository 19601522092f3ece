"""The schedule of what goes wrong during a soak, one thing after the other."""

import random
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

from local.faults import Fault, Faults
from local.stand_ins import ACCOUNT_SECRET_PREFIX, SECRET_ID, StandIns
from local.studio import ACCOUNT_SID
from tests.soak.record import Record
from tests.soak.stack import Pace, Sandbox
from tests.soak.workload import ACCOUNTS, REVOKED

GET_SECRET, SEND_MESSAGE, PUT_EVENTS = "GetSecretValue", "SendMessage", "PutEvents"

Trouble = Callable[[], AbstractContextManager[object]]
"""Makes something go wrong from entering to leaving."""


class Phase(NamedTuple):
    """A time in which something goes wrong.

    Attributes:
        name: what it is.
        trouble: makes it begin and end.
        evidence: what the record must have after it, or nothing went wrong.
        seconds: how long it lasts at least.
    """

    name: str
    trouble: Trouble
    evidence: tuple[str, ...]
    seconds: float


class CountedFaults(Faults):
    """Faults that are counted when they hit a request."""

    def __init__(self, service: str, record: Record, seed: int) -> None:
        super().__init__(seed)
        self._service = service
        self._record = record

    def next(self, method: str, about: str) -> Fault | None:
        """What happens to this request."""
        fault = super().next(method, about)
        if fault is not None:
            kind = fault.broken or (fault.body and "nonsense") or fault.status or "slow"
            self._record.count(f"{self._service}: {kind}")
        return fault


@dataclass
class Schedule:
    """Makes things go wrong, and right again."""

    ready: StandIns
    sandboxes: Sequence[Sandbox]
    record: Record
    pace: Pace
    draw: random.Random

    def __post_init__(self) -> None:
        """Have faults counted, and credentials in every secret."""
        self.studio, self.aws = self.ready.studio, self.ready.aws
        self.studio.faults = CountedFaults("Twilio", self.record, self.draw.getrandbits(32))
        self.aws.faults = CountedFaults("AWS", self.record, self.draw.getrandbits(32))
        self._current: dict[str, tuple[str, str]] = {}
        self._revoked = {REVOKED}
        self._turns = cycle(ACCOUNTS)
        self._lock = threading.Lock()
        for account in ACCOUNTS:
            self._rotate(account)

    def phases(self) -> list[Phase]:
        """Every phase there is."""
        twilio, aws = partial(partial, self._twilio), partial(partial, self._aws)
        outage = twilio(status=503)
        slow_secrets = aws(GET_SECRET, delay=0.7)
        everything = (self._throttling, self._errors, self._resets, slow_secrets, self._kills)

        def phase(name: str, trouble: Trouble, *evidence: str, seconds: float = self.pace.phase) -> Phase:
            return Phase(name, trouble, evidence, seconds)

        return [
            phase("all is well", ExitStack, "delivered", "HTTP 202", "credentials rotated"),
            phase("Twilio is slow", twilio(delay=0.4, share=0.5), "Twilio: slow"),
            phase("Twilio throttles", self._throttling, "Twilio: 429"),
            phase("Twilio answers 5xx", self._errors, "Twilio: 500"),
            phase("Twilio answers 409", twilio(status=409, method="POST", share=0.3), "Twilio: 409"),
            phase("Twilio resets connections", self._resets, "Twilio: reset"),
            phase("Twilio hangs", twilio(broken="hang", share=0.05), "Twilio: hang"),
            phase("Twilio drips", twilio(broken="drip", interval=0.05, share=0.05), "Twilio: drip"),
            phase(
                "Twilio answers nonsense", twilio(status=200, body="<html>", share=0.1), "Twilio: nonsense"
            ),
            phase("Twilio is down", outage, "asynchronous invocations retried", seconds=self.pace.outage),
            phase("Secrets Manager is down", aws(GET_SECRET, status=503), "log stale_credentials_used"),
            phase("Secrets Manager is slow", slow_secrets, "AWS: slow"),
            phase("credentials are revoked too early", self._revoke, "Twilio: 401"),
            phase("SQS takes no message", aws(SEND_MESSAGE, status=503), "HTTP 503 queue_unavailable"),
            phase("SQS loses its answers", aws(SEND_MESSAGE, status=503, carried_out=True), "AWS: 503"),
            phase("EventBridge is down", aws(PUT_EVENTS, status=503), "log outcome_not_published"),
            phase("processes are killed", self._kills, "processes killed"),
            phase(
                "everything at once",
                partial(_together, *everything),
                "processes killed",
                seconds=2 * self.pace.phase,
            ),
        ]

    def rotations(self) -> AbstractContextManager[None]:
        """One account's secret after the other gets new credentials; Twilio refuses the old ones at once."""
        return _every(max(1.0, self.pace.phase / 4), lambda: self._rotate(next(self._turns)))

    def _throttling(self) -> AbstractContextManager[None]:
        """Twilio answers 429 to a third of the requests, with and without Retry-After."""
        return _together(
            partial(self._twilio, status=429, headers={"Retry-After": "1"}, share=0.15),
            partial(self._twilio, status=429, share=0.2),
        )

    def _errors(self) -> AbstractContextManager[None]:
        """Twilio answers one of the errors that pass; now and then it has done its work all the same."""
        return _together(
            partial(self._twilio, status=500, carried_out=True, share=0.1),
            *(partial(self._twilio, status=status, share=0.08) for status in (500, 502, 503, 504)),
        )

    def _resets(self) -> AbstractContextManager[None]:
        """Connections break, before and after Twilio has done its work."""
        return _together(
            partial(self._twilio, broken="reset", share=0.15),
            partial(self._twilio, broken="reset", carried_out=True, share=0.15),
        )

    @contextmanager
    def _revoke(self) -> Iterator[None]:
        """Twilio refuses what the default account's secret holds; it gets new credentials only at the end."""
        self._revoked.add(ACCOUNT_SID)
        self._rotate(ACCOUNT_SID)
        try:
            yield
        finally:
            self._revoked.remove(ACCOUNT_SID)
            self._rotate(ACCOUNT_SID)

    def _kills(self) -> AbstractContextManager[None]:
        """A process of the function is killed again and again, in the middle of its work."""
        return _together(
            partial(self._twilio, delay=0.1), partial(_every, max(1.0, self.pace.phase / 5), self._kill_one)
        )

    def _kill_one(self) -> None:
        if busy := [sandbox for sandbox in self.sandboxes if sandbox.busy]:
            self.record.count("processes killed", self.draw.choice(busy).kill())

    def _rotate(self, account: str) -> None:
        """Put new credentials into an account's secret, and have Twilio take no others, if it takes any."""
        pair = "SK" + secrets.token_hex(16), f"canary-{secrets.token_hex(16)}"
        self.record.canaries.plant_credentials(*pair)
        name = SECRET_ID if account == ACCOUNT_SID else ACCOUNT_SECRET_PREFIX + account
        with self._lock:
            # Both work for a moment, as when Secrets Manager rotates.
            self._accept(account, self._current.get(account, pair), pair)
            content = {"accountSid": account, "apiKeySid": pair[0], "apiKeySecret": pair[1]}
            self.aws.put_secret(name, content)
            self._accept(account, pair)
            self._current[account] = pair
        self.record.count("credentials rotated")

    def _accept(self, account: str, *pairs: tuple[str, str]) -> None:
        """Have Twilio accept these credentials of an account, and no others, if it accepts any."""
        valid = set() if account in self._revoked else set(pairs)
        if account == ACCOUNT_SID:
            self.studio.credentials = valid
        else:
            self.studio.other_credentials[account] = valid

    @contextmanager
    def _aws(self, operation: str, **fault: Any) -> Iterator[None]:
        self.aws.fail(operation, **{"times": None} | fault)
        try:
            yield
        finally:
            self.aws.faults.clear()

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
def _together(*troubles: Trouble) -> Iterator[None]:
    with ExitStack() as stack:
        for trouble in troubles:
            stack.enter_context(trouble())
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
