"""The commands of a soak, each with its right outcome, and the Executions that they are about."""

import json
import random
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any, Literal

from local.studio import ACCOUNT_SID, Execution, Executions, Studio
from local.studio.executions import AlreadyEndedError

CANARY = re.compile(r"canary|(?<![0-9a-fA-F])(?:\+|%2B)?1?500555\d{4}(?!\d)")
"""Finds every contact, and every field that no output may contain."""

TAG = re.compile(r"soak-\d{7}")
MAX_GIVEN_UP = 25
"""Cases that SQS has to give up, one in a hundred at most: each slows down every batch that it is in."""

MAX_NUMBERS = 10_000
"""Telephone numbers for contacts."""

LARGE_FLOW_SIZE = 1200
"""Conversations that go on in one Flow: more than a page of Twilio's."""

CASES_PER_FLOW, MAX_FLOWS = 25, 1000
Outcome = Literal["ended", "nothing", "dry run", "dead-lettered", "ignored"]
Way = Literal["rule", "queue", "http", "source", "invoke"]
"""Through EventBridge and the queue, as a message, by HTTP with `Prefer: respond-async`, as the webhook of a
source, or as an event that a rule sends straight to the function."""

WAYS: tuple[Way, ...] = ("rule", "http", "rule", "source", "queue", "invoke")
ACCOUNTS = (ACCOUNT_SID, *(f"AC{number:032x}" for number in range(1, 5)))
"""The default account and the others; Twilio takes no credentials of the last one."""

REVOKED = ACCOUNTS[-1]
ACCOUNT_WITHOUT_SECRET = "AC" + "f0" * 16
FOREIGN_FLOW = "FW" + "f0" * 16
"""A Flow that the function may not work on."""


class ConflictingExecutions(Executions):
    """Executions of which some cannot be ended: Twilio answers 409, and they stay active."""

    def __init__(self) -> None:
        super().__init__()
        self.conflicting: set[str] = set()

    def end(self, flow_sid: str, sid: str) -> Execution:
        if sid in self.conflicting:
            raise AlreadyEndedError(sid)
        return super().end(flow_sid, sid)


@dataclass(slots=True, eq=False)
class Case:
    """One message to send.

    Attributes:
        tag: names it, wherever it turns up.
        body: the command, or a text that is none and goes to the queue directly.
        outcome: its Executions are ended, there is nothing to end, it only says what it would end, its
            message is dead-lettered, or it never reaches the function.
        targets: the Executions that it has to end.
        code: why it is dead-lettered; None if SQS gives it up.
        near: the near misses that have to be logged, if there is nothing to end.
        repeatable: whether its sender may send it again, with another trigger time.
    """

    tag: str
    body: dict[str, Any] | str
    outcome: Outcome = "ended"
    targets: tuple[Execution, ...] = ()
    code: str | None = None
    near: frozenset[str] = frozenset()
    way: Way = "rule"
    repeatable: bool = True

    @property
    def event(self) -> tuple[str, str | None] | None:
        """Type and code of its outcome event; None if there must be none."""
        if self.outcome in {"ended", "nothing"}:
            return "ConversationEnded", None
        return ("ConversationNotEnded", self.code) if self.code else None

    @property
    def is_poison(self) -> bool:
        return self.outcome == "dead-lettered"

    @property
    def command(self) -> dict[str, Any]:
        return self.body if isinstance(self.body, dict) else {}

    @property
    def text(self) -> str:
        return self.body if isinstance(self.body, str) else json.dumps(self.body)


@dataclass
class Workload:
    """Makes the cases, the Executions that they need, and those that no command may end: the survivors."""

    studio: Studio
    count: int
    draw: random.Random
    cases: list[Case] = field(default_factory=list)
    survivors: list[Execution] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._now = datetime.now(UTC)
        self._contacts = 0
        self.studio.executions = self._executions = ConflictingExecutions()
        number_of_flows = len(ACCOUNTS) + min(MAX_FLOWS, self.count // CASES_PER_FLOW)
        self.allowed = [f"FW{number:032x}" for number in range(1, 1 + number_of_flows)]
        for flow_sid, account in zip((*self.allowed, FOREIGN_FLOW), cycle(ACCOUNTS), strict=False):
            self._executions.add_flow(flow_sid, account)
        self._flow_of_revoked = self.allowed[ACCOUNTS.index(REVOKED)]
        self._flows = [one for one in self.allowed if self._account_of(one) != REVOKED]
        self._large_flow = self._flows[0]
        for number in range(min(LARGE_FLOW_SIZE, 20 * self.count)):
            self._spare(self._large_flow, f"client:canary-large-{number}", 1 + number // 3 / 3600)
        self._make()

    def _make(self) -> None:
        """All cases: first those that SQS has to give up, which takes longest; then some of each kind."""
        kinds = {
            self._execution: 40,
            self._contact: 14,
            self._contact_twice: 6,
            self._contact_without_time: 8,
            self._large: 4,
            self._over_already: 5,
            self._wrong_form: 6,
            self._late: 5,
            self._nobody: 3,
            self._dry_run: 2,
            self._not_for_us: 1,
            self._invalid: 2,
            self._unknown: 2,
            self._foreign_flow: 2,
        }
        for number in range(min(MAX_GIVEN_UP, round(self.count / 100))):
            self._given_up(number % 3)
        first = len(self.cases)
        for make in kinds:
            make()
        while len(self.cases) < self.count - 1:
            self.draw.choices(list(kinds), list(kinds.values()))[0]()
        while len(self.cases) < self.count:
            self._execution()
        rest = self.cases[first:]
        self.draw.shuffle(rest)
        # Poison and ways evenly over the time, so that whatever goes wrong meets some of each.
        poison = [case for case in rest if case.is_poison]
        others = [case for case in rest if not case.is_poison]
        for number, case in enumerate(poison):
            others.insert(number * len(rest) // len(poison), case)
        self.cases[first:] = others
        for case, way in zip((one for one in others if one.outcome in {"ended", "nothing"}), cycle(WAYS)):
            case.way = way

    def _execution(self) -> None:
        # Some in the large Flow: they shift its pages while others list it.
        flow_sid = self._large_flow if self.draw.random() < 0.1 else None
        one = self._began(2, flow_sid=flow_sid)
        self._add({"execution_sid": one.sid}, one.flow_sid, targets=(one,))

    def _over_already(self) -> None:
        one = self._began(3, status="ended")
        self._add({"execution_sid": one.sid}, one.flow_sid)

    def _contact(self) -> None:
        """A conversation that is over, by one or several addresses, beside others that go on."""
        over = self._began(3)
        contact, flow_sid, targets = over.contact, over.flow_sid, [over]
        self._spare(flow_sid, contact, 1)
        self._spare(FOREIGN_FLOW, contact, 4)
        addresses: Any = contact
        if self.draw.random() < 0.4:
            targets.append(self._began(3, flow_sid=flow_sid))
            addresses = [contact, targets[1].contact, self._address(), contact]
        else:
            self._spare(flow_sid, f"messenger:{contact}", 4)
        self._add({"contact": addresses, "occurred_at": self._ago(2)}, flow_sid, targets=tuple(targets))

    def _large(self) -> None:
        """A contact of the large Flow, somewhere in its pages."""
        over = self._began(1 + self.draw.random() / 9, flow_sid=self._large_flow)
        self._add({"contact": over.contact, "occurred_at": self._ago(0.5)}, over.flow_sid, targets=(over,))

    def _contact_twice(self) -> None:
        """Two conversations one after the other, whose ends come in any order, and a third that goes on."""
        first = self._began(6)
        contact, flow_sid = first.contact, first.flow_sid
        second = self._began(4, contact=contact, flow_sid=flow_sid)
        self._spare(flow_sid, contact, 2)
        for hours, one in ((5, first), (3, second)):
            self._add({"contact": contact, "occurred_at": self._ago(hours)}, flow_sid, targets=(one,))

    def _contact_without_time(self) -> None:
        """The trigger's own time counts; the next conversation begins after it, if before a retry."""
        over = self._began(1)
        self._spare(over.flow_sid, over.contact, -1)
        self._add({"contact": over.contact}, over.flow_sid, targets=(over,), repeatable=False)

    def _wrong_form(self) -> None:
        """An address in another form than Studio's: the customer stays stuck, and the log must say so."""
        self._contacts += 1
        number = f"1500555{self._contacts % MAX_NUMBERS:04}"
        forms = {
            f"+{number}": "channel",
            f"({number[1:4]}) {number[4:]}": "digits",
            f"sms:{number[1:]}": "digits",
        }
        wrong, near = self.draw.choice(list(forms.items()))
        stuck = self._spare(self.draw.choice(self._flows), f"whatsapp:+{number}", 3)
        command = {"contact": wrong, "occurred_at": self._ago(1)}
        self._add(command, stuck.flow_sid, outcome="nothing", near=frozenset([near]))

    def _late(self) -> None:
        """An event that comes long after the conversation, when the next one has begun."""
        over = self._began(9, status="ended")
        self._spare(over.flow_sid, over.contact, 1)
        command = {"contact": over.contact, "occurred_at": self._ago(8)}
        self._add(command, over.flow_sid, outcome="nothing", near=frozenset(["later"]))

    def _nobody(self) -> None:
        command = {"contact": self._address(), "occurred_at": self._ago(1)}
        self._add(command, self.draw.choice(self._flows), outcome="nothing")

    def _dry_run(self) -> None:
        one = self._spare(self.draw.choice(self._flows), self._address(), 2)
        by = self.draw.choice([{"execution_sid": one.sid}, {"contact": one.contact}])
        self._add(by | {"dry_run": True}, one.flow_sid, outcome="dry run")

    def _not_for_us(self) -> None:
        """An event with another source, about an Execution that goes on."""
        one = self._spare(self.draw.choice(self._flows), self._address(), 1)
        self._add({"execution_sid": one.sid}, one.flow_sid, outcome="ignored")

    def _invalid(self) -> None:
        """Invalid commands; those that are objects can come through EventBridge."""
        flow_sid = self.draw.choice(self._flows)
        one = self._spare(flow_sid, self._address(), 1)
        invalid: list[dict[str, Any] | str] = [
            {"flow_sid": None, "execution_sid": one.sid},
            {"contact": []},
            {"execution_sid": one.sid, "contact": one.contact},
            {"execution_sid": f"{one.sid}/../{one.sid}"},
            {"contact": one.contact, "occurred_at": "canary"},
            "no JSON canary TAG",
            '["canary TAG"]',
            '{"flow_sid": NaN, "conversation_id": "canary TAG"}',
            '{"detail-type": "EndConversation", "id": "canary TAG"}',
            f"{'[' * 20_000} canary TAG",
        ]
        body = self.draw.choice(invalid)
        self._add(body, flow_sid, outcome="dead-lettered", code="invalid_request")

    def _unknown(self) -> None:
        command = {"execution_sid": f"FN{self.draw.getrandbits(128):032x}"}
        flow_sid = self.draw.choice(self._flows)
        self._add(command, flow_sid, outcome="dead-lettered", code="execution_not_found")

    def _foreign_flow(self) -> None:
        one = self._spare(FOREIGN_FLOW, self._address(), 1)
        self._add({"execution_sid": one.sid}, FOREIGN_FLOW, outcome="dead-lettered", code="flow_not_allowed")

    def _given_up(self, kind: int) -> None:
        """Twilio answers 409 for ever, refuses the account's credentials, or there are none."""
        flow_sid = self._flow_of_revoked if kind == 1 else self.draw.choice(self._flows)
        one = self._spare(flow_sid, self._address(), 1)
        if kind == 0:
            self._executions.conflicting.add(one.sid)
        account = {"account_sid": ACCOUNT_WITHOUT_SECRET} if kind == 2 else {}
        self._add({"execution_sid": one.sid} | account, one.flow_sid, outcome="dead-lettered")

    def _add(self, body: dict[str, Any] | str, flow_sid: str, **more: Any) -> None:
        """Add a case; half of those for the default account leave `account_sid` out."""
        tag = f"soak-{len(self.cases):07}"
        if isinstance(body, str):
            self.cases.append(Case(tag, body.replace("TAG", tag), way="queue", **more))
            return
        account: str | None = self._account_of(flow_sid)
        if account == ACCOUNT_SID and self.draw.random() < 0.5:
            account = None
        extra = {"conversation_id": tag, "reason": "canary", "customer": "canary"}
        self.cases.append(Case(tag, {"flow_sid": flow_sid, "account_sid": account} | body | extra, **more))

    def _account_of(self, flow_sid: str) -> str | None:
        return self._executions.account_of(flow_sid)

    def _began(
        self, hours: float, *, flow_sid: str | None = None, contact: str | None = None, **more: Any
    ) -> Execution:
        return self.studio.seed(
            flow_sid or self.draw.choice(self._flows),
            contact=contact or self._address(),
            date_created=self._now - timedelta(hours=hours),
            **more,
        )

    def _spare(self, flow_sid: str, contact: str, hours: float) -> Execution:
        self.survivors.append(self._began(hours, contact=contact, flow_sid=flow_sid))
        return self.survivors[-1]

    def _ago(self, hours: float) -> str:
        return (self._now - timedelta(hours=hours)).isoformat()

    def _address(self) -> str:
        """A new one each time, in Studio's forms; when the numbers are used up, a name."""
        self._contacts += 1
        if self._contacts % 3 == 0 or self._contacts >= MAX_NUMBERS:
            return f"client:canary-{self._contacts}"
        return f"{'whatsapp:' if self._contacts % 3 == 1 else ''}+1500555{self._contacts:04}"
