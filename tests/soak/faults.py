"""The schedule of what goes wrong during a soak, one phase after the other."""

import math
import random
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from itertools import cycle
from typing import Any

from local.faults import Fault, Faults
from local.stand_ins import ACCOUNT_SECRET_PREFIX, SECRET_ID, StandIns
from local.studio import ACCOUNT_SID
from tests.soak.report import Record
from tests.soak.stack import Pace, Sandbox
from tests.soak.workload import ACCOUNTS, REVOKED


@dataclass(frozen=True)
class Phase:
    """A time in which something goes wrong.

    Attributes:
        name: for the report.
        evidence: what the record counts if it did go wrong.
        twilio, aws: the faults, each until the end of the phase.
        kills: how many processes of the function are killed.
        is_revoked: whether Twilio refuses the default account's credentials, which change only at the end.
        is_outage: whether it takes as long as an outage.
    """

    name: str
    evidence: str
    _: KW_ONLY
    twilio: Sequence[Fault] = ()
    aws: Sequence[Fault] = ()
    kills: int = 0
    is_revoked: bool = False
    is_outage: bool = False


def _down(operation: str | None, **fault: Any) -> list[Fault]:
    """An operation of AWS, or Twilio, answers 503."""
    return [Fault(method=operation, status=503, **fault)]


_THROTTLING = [Fault(status=429, headers={"Retry-After": "1"}, share=0.15), Fault(status=429, share=0.2)]
_ERRORS = [Fault(status=status, share=0.08) for status in (500, 502, 503, 504)]
_ERRORS += [Fault(status=500, carried_out=True, share=0.1)]
_RESETS = [Fault(broken="reset", carried_out=each, share=0.15) for each in (False, True)]
_SLOW_SECRETS = [Fault(method="GetSecretValue", delay=0.7)]
# So that a kill hits a process in the middle of its work.
_SLIGHT_DELAY = [Fault(delay=0.1)]
_EVERYTHING = [*_THROTTLING, *_ERRORS, *_RESETS, *_SLIGHT_DELAY]

PHASES = (
    Phase("all is well", "HTTP 202"),
    Phase("Twilio is slow", "Twilio: slow", twilio=[Fault(delay=0.4, share=0.5)]),
    Phase("Twilio throttles", "Twilio: 429", twilio=_THROTTLING),
    Phase("Twilio answers 5xx", "Twilio: 500", twilio=_ERRORS),
    Phase("Twilio answers 409", "Twilio: 409", twilio=[Fault(status=409, method="POST", share=0.3)]),
    Phase("Twilio resets connections", "Twilio: reset", twilio=_RESETS),
    Phase("Twilio hangs", "Twilio: hang", twilio=[Fault(broken="hang", share=0.05)]),
    Phase("Twilio drips", "Twilio: drip", twilio=[Fault(broken="drip", interval=0.05, share=0.05)]),
    Phase("Twilio answers nonsense", "Twilio: nonsense", twilio=[Fault(status=200, body="<", share=0.1)]),
    Phase("Twilio is down", "asynchronous invocations retried", twilio=_down(None), is_outage=True),
    Phase("Secrets Manager is down", "log stale_credentials_used", aws=_down("GetSecretValue")),
    Phase("Secrets Manager is slow", "AWS: slow", aws=_SLOW_SECRETS),
    Phase("credentials are revoked too early", "metric CredentialsRejected", is_revoked=True),
    Phase("SQS takes no message", "HTTP 503 queue_unavailable", aws=_down("SendMessage")),
    Phase("SQS loses its answers", "AWS: 503", aws=_down("SendMessage", carried_out=True)),
    Phase("EventBridge is down", "log outcome_not_published", aws=_down("PutEvents")),
    Phase("processes are killed", "processes killed", twilio=_SLIGHT_DELAY, kills=5),
    Phase("everything at once", "processes killed", twilio=_EVERYTHING, aws=_SLOW_SECRETS, kills=5),
)


class CountedFaults(Faults):
    """Faults that are counted in the record."""

    def __init__(self, service: str, record: Record, seed: int) -> None:
        super().__init__(seed)
        self._service, self._record = service, record

    def next(self, method: str, about: str) -> Fault | None:
        """The fault that hits this request, if any."""
        if fault := super().next(method, about):
            kind = fault.broken or (fault.body and "nonsense") or fault.status or "slow"
            self._record.count(f"{self._service}: {kind}")
        return fault


class Schedule:
    """Starts and ends each phase's faults."""

    def __init__(
        self, ready: StandIns, sandboxes: Sequence[Sandbox], record: Record, pace: Pace, draw: random.Random
    ) -> None:
        self._studio, self._services, self._sandboxes = ready.studio, ready.aws, sandboxes
        self._record, self._pace, self._draw = record, pace, draw
        self._studio.faults = CountedFaults("Twilio", record, draw.getrandbits(32))
        self._services.faults = CountedFaults("AWS", record, draw.getrandbits(32))
        self._current: dict[str, tuple[str, str]] = {}
        self._revoked = {REVOKED}
        self._lock = threading.Lock()
        for account in ACCOUNTS:
            self._rotate(account)

    @contextmanager
    def trouble(self, phase: Phase) -> Iterator[None]:
        """Everything that goes wrong in a phase, from entering to leaving."""
        with ExitStack() as stack:
            for faults, given in ((self._studio.faults, phase.twilio), (self._services.faults, phase.aws)):
                stack.callback(faults.clear)
                for fault in given:
                    # Once for certain: in a short soak a share may hit nothing.
                    faults.add(replace(fault, share=1.0))
                    faults.add(replace(fault, times=None))
            if phase.kills:
                stack.enter_context(_every(self._pace.phase / phase.kills, self._kill_one, phase.kills))
            if phase.is_revoked:
                self._revoked.add(ACCOUNT_SID)
                self._rotate(ACCOUNT_SID)
                stack.callback(self._rotate, ACCOUNT_SID)
                stack.callback(self._revoked.remove, ACCOUNT_SID)
            yield

    def rotations(self) -> AbstractContextManager[None]:
        """One account's secret after the other gets new credentials; Twilio refuses the old ones at once."""
        turns = cycle(ACCOUNTS)
        return _every(self._pace.phase / 4, lambda: self._rotate(next(turns)))

    def _kill_one(self) -> bool:
        busy = [sandbox for sandbox in self._sandboxes if sandbox.busy]
        if busy:
            self._record.count("processes killed", self._draw.choice(busy).kill())
        return bool(busy)

    def _rotate(self, account: str) -> bool:
        """Put new credentials into an account's secret; Twilio accepts no others, if it accepts any."""
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
        return True

    def _accept(self, account: str, *pairs: tuple[str, str]) -> None:
        valid = set() if account in self._revoked else set(pairs)
        if account == ACCOUNT_SID:
            self._studio.credentials = valid
        else:
            self._studio.other_credentials[account] = valid


@contextmanager
def _every(seconds: float, do: Callable[[], bool], times: float = math.inf) -> Iterator[None]:
    """Repeat an action, at most once a second; try again soon if it could not be done."""
    over = threading.Event()

    def repeat() -> None:
        done, pause = 0, seconds
        while done < times and not over.wait(pause):
            is_done = do()
            done += is_done
            pause = max(1.0, seconds) if is_done else 0.02

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
