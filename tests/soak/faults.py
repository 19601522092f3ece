"""The schedule of what goes wrong during a soak, one thing after the other."""

import math
import random
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

from local.faults import Fault, Faults
from local.stand_ins import ACCOUNT_SECRET_PREFIX, SECRET_ID, StandIns
from local.studio import ACCOUNT_SID
from tests.soak.record import Record
from tests.soak.stack import Pace, Sandbox
from tests.soak.workload import ACCOUNTS, REVOKED

Trouble = Callable[[], AbstractContextManager[object]]
"""Makes something go wrong from entering to leaving."""


class Phase(NamedTuple):
    """A time in which something goes wrong; without the evidence in the record, nothing did."""

    name: str
    evidence: str
    trouble: Trouble
    seconds: float


class CountedFaults(Faults):
    """Faults that are counted when they hit a request."""

    def __init__(self, service: str, record: Record, seed: int) -> None:
        super().__init__(seed)
        self._service, self._record = service, record

    def next(self, method: str, about: str) -> Fault | None:
        """What happens to this request."""
        if fault := super().next(method, about):
            kind = fault.broken or (fault.body and "nonsense") or fault.status or "slow"
            self._record.count(f"{self._service}: {kind}")
        return fault


class Schedule:
    """Makes things go wrong, and right again."""

    def __init__(
        self, ready: StandIns, sandboxes: Sequence[Sandbox], record: Record, pace: Pace, draw: random.Random
    ) -> None:
        self._studio, self._services, self._sandboxes = ready.studio, ready.aws, sandboxes
        self._record, self._pace, self._draw = record, pace, draw
        self._studio.faults = CountedFaults("Twilio", record, draw.getrandbits(32))
        self._services.faults = CountedFaults("AWS", record, draw.getrandbits(32))
        self._current: dict[str, tuple[str, str]] = {}
        self._revoked = {REVOKED}
        self._turns = cycle(ACCOUNTS)
        self._lock = threading.Lock()
        for account in ACCOUNTS:
            self._rotate(account)

    def phases(self) -> list[Phase]:
        """Every phase there is."""
        twilio, aws = partial(partial, self._twilio), partial(partial, self._aws)
        throttling = partial(
            _together,
            twilio(status=429, headers={"Retry-After": "1"}, share=0.15),
            twilio(status=429, share=0.2),
        )
        # Now and then it has done its work all the same.
        errors = partial(
            _together,
            twilio(status=500, carried_out=True, share=0.1),
            *(twilio(status=status, share=0.08) for status in (500, 502, 503, 504)),
        )
        resets = partial(
            _together,
            twilio(broken="reset", share=0.15),
            twilio(broken="reset", carried_out=True, share=0.15),
        )
        slow_secrets = aws("GetSecretValue", delay=0.7)
        # Slow enough to be in the middle of its work.
        kills = partial(
            _together, twilio(delay=0.1), partial(_every, self._pace.phase / 5, self._kill_one, 5)
        )
        everything = partial(_together, throttling, errors, resets, slow_secrets, kills)
        seconds = self._pace.phase
        rows: list[tuple[str, str, Trouble]] = [
            ("all is well", "HTTP 202", ExitStack),
            ("Twilio is slow", "Twilio: slow", twilio(delay=0.4, share=0.5)),
            ("Twilio throttles", "Twilio: 429", throttling),
            ("Twilio answers 5xx", "Twilio: 500", errors),
            ("Twilio answers 409", "Twilio: 409", twilio(status=409, method="POST", share=0.3)),
            ("Twilio resets connections", "Twilio: reset", resets),
            ("Twilio hangs", "Twilio: hang", twilio(broken="hang", share=0.05)),
            ("Twilio drips", "Twilio: drip", twilio(broken="drip", interval=0.05, share=0.05)),
            ("Twilio answers nonsense", "Twilio: nonsense", twilio(status=200, body="<html>", share=0.1)),
            ("Twilio is down", "asynchronous invocations retried", twilio(status=503)),
            ("Secrets Manager is down", "log stale_credentials_used", aws("GetSecretValue", status=503)),
            ("Secrets Manager is slow", "AWS: slow", slow_secrets),
            ("credentials are revoked too early", "metric CredentialsRejected", self._revoke),
            ("SQS takes no message", "HTTP 503 queue_unavailable", aws("SendMessage", status=503)),
            ("SQS loses its answers", "AWS: 503", aws("SendMessage", status=503, carried_out=True)),
            ("EventBridge is down", "log outcome_not_published", aws("PutEvents", status=503)),
            ("processes are killed", "processes killed", kills),
            ("everything at once", "processes killed", everything),
        ]
        longer = {"Twilio is down": self._pace.outage, "everything at once": 2 * seconds}
        return [Phase(*row, longer.get(row[0], seconds)) for row in rows]

    def rotations(self) -> AbstractContextManager[None]:
        """One account's secret after the other gets new credentials; Twilio refuses the old ones at once."""
        return _every(self._pace.phase / 4, lambda: self._rotate(next(self._turns)))

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

    def _kill_one(self) -> None:
        if busy := [sandbox for sandbox in self._sandboxes if sandbox.busy]:
            self._record.count("processes killed", self._draw.choice(busy).kill())

    def _rotate(self, account: str) -> None:
        """Put new credentials into an account's secret, and have Twilio take no others, if it takes any."""
        pair = "SK" + secrets.token_hex(16), f"canary-{secrets.token_hex(16)}"
        self._record.canaries.plant_credentials(*pair)
        name = SECRET_ID if account == ACCOUNT_SID else ACCOUNT_SECRET_PREFIX + account
        with self._lock:
            # Both work for a moment, as when Secrets Manager rotates.
            self._accept(account, self._current.get(account, pair), pair)
            secret = {"accountSid": account, "apiKeySid": pair[0], "apiKeySecret": pair[1]}
            self._services.put_secret(name, secret)
            self._accept(account, pair)
            self._current[account] = pair
        self._record.count("credentials rotated")

    def _accept(self, account: str, *pairs: tuple[str, str]) -> None:
        valid = set() if account in self._revoked else set(pairs)
        if account == ACCOUNT_SID:
            self._studio.credentials = valid
        else:
            self._studio.other_credentials[account] = valid

    @contextmanager
    def _aws(self, operation: str, **fault: Any) -> Iterator[None]:
        self._services.fail(operation, **{"times": None} | fault)
        try:
            yield
        finally:
            self._services.faults.clear()

    @contextmanager
    def _twilio(self, **fault: Any) -> Iterator[None]:
        # Once for certain: in a short soak a share may hit nothing.
        self._studio.fail(**{**fault, "share": 1.0})
        self._studio.fail(**{"times": None} | fault)
        try:
            yield
        finally:
            self._studio.faults.clear()


@contextmanager
def _together(*troubles: Trouble) -> Iterator[None]:
    with ExitStack() as stack:
        for trouble in troubles:
            stack.enter_context(trouble())
        yield


@contextmanager
def _every(seconds: float, do: Callable[[], None], times: float = math.inf) -> Iterator[None]:
    """Do something again and again, at most once a second and so many times."""
    over = threading.Event()

    def repeat() -> None:
        done = 0
        while done < times and not over.wait(max(1.0, seconds)):
            do()
            done += 1

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
