"""The commands of a soak, each with what has to come of it, and the Executions that they are about."""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any, Literal

from local.studio import ACCOUNT_SID, Execution, Executions, Studio

CANARY = re.compile(r"canary|(?<![0-9a-fA-F])(?:\+|%2B)?1500555\d{4}(?!\d)")
"""What every contact, and every field that is nobody's business, can be recognised by."""

TAG = re.compile(r"soak-\d{7}")

FEWEST = 20
"""Orders that there are at least, so that there is one of each kind."""

MOST_GIVEN_UP = 25
"""Orders that can only be given up, one in a hundred: each slows down every batch that it is in."""

NUMBERS = 10_000
"""Telephone numbers that there are for contacts."""

Way = Literal["rule", "queue", "async", "source"]
"""Through EventBridge, as a message, by HTTP with `Prefer: respond-async`, or as the webhook of a source."""

WAYS: tuple[Way, ...] = ("rule", "async", "rule", "source", "queue")
"""The ways of commands that may come any way, in turns."""

ACCOUNTS = (ACCOUNT_SID, *(f"AC{number:032x}" for number in range(1, 5)))
"""The default account and the others; Twilio takes no credentials of the last one."""

REVOKED = ACCOUNTS[-1]

NO_ACCOUNT = "AC" + "f0" * 16
"""An account without a secret."""

FOREIGN_FLOW = "FW" + "f0" * 16
"""A Flow that the function may not work on."""

COMMANDS_PER_FLOW, MOST_FLOWS = 25, 1000
"""Commands about one Flow, which bounds what listing its active Executions costs, up to so many Flows."""

Fate = Literal["ended", "dead-lettered", "ignored"]


class Stubborn(Executions):
    """Executions of which some cannot be ended: Twilio hangs up, whenever it is tried."""

    def __init__(self) -> None:
        super().__init__()
        self.stubborn: set[str] = set()

    def end(self, flow_sid: str, sid: str) -> Execution:
        """End an Execution, unless it is a stubborn one."""
        if sid in self.stubborn:
            raise ConnectionAbortedError(sid)
        return super().end(flow_sid, sid)


@dataclass(slots=True, eq=False)
class Order:
    """One message to send.

    Attributes:
        tag: names it, wherever it turns up.
        body: the command, or a text that is none and goes to the queue directly.
        fate: what has to come of it: its Executions are ended, its message is dead-lettered, or it never
            reaches the function.
        targets: the Executions that it has to end.
        code: why it is dead-lettered; None if that is not for the function to say, but SQS gives it up.
        way: how it is sent.
        repeatable: whether its sender may send it again, with another trigger time.
    """

    tag: str
    body: dict[str, Any] | str
    fate: Fate = "ended"
    targets: tuple[Execution, ...] = ()
    code: str | None = None
    way: Way = "rule"
    repeatable: bool = True

    @property
    def outcome(self) -> tuple[str, str | None] | None:
        """Type and code of the event that has to tell of it; None if there must be none."""
        if self.fate == "ended":
            return "ConversationEnded", None
        return ("ConversationNotEnded", self.code) if self.code else None

    @property
    def command(self) -> dict[str, Any]:
        """The body's fields, if it has any."""
        return self.body if isinstance(self.body, dict) else {}

    @property
    def text(self) -> str:
        """The body as it is sent."""
        return self.body if isinstance(self.body, str) else json.dumps(self.body)


@dataclass
class Book:
    """Makes orders, and keeps them, and the Executions that none of them may end.

    Args:
        studio: where the Executions are.
        count: how many orders there will be.
        draw: random numbers.
    """

    studio: Studio
    count: int
    draw: random.Random
    orders: list[Order] = field(default_factory=list)
    survivors: list[Execution] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the Flows."""
        self._now = datetime.now(UTC)
        self._contacts = 0
        self._poisons = cycle([self._refused, self._unknown, self._foreign_flow])
        self._stubborn = Stubborn()
        self.studio.executions = self._stubborn
        number_of_flows = len(ACCOUNTS) + min(MOST_FLOWS, self.count // COMMANDS_PER_FLOW)
        sids = [f"FW{number:032x}" for number in range(1, 1 + number_of_flows)]
        self.allowed = sids
        self.flows = [*sids]
        for flow_sid, account in zip((*sids, FOREIGN_FLOW), cycle(ACCOUNTS), strict=False):
            self.studio.executions.add_flow(flow_sid, account)
            if account == REVOKED and flow_sid in sids:
                self.flows.remove(flow_sid)
                self._of_revoked = flow_sid

    def write(self) -> None:
        """Make all orders; those come first that SQS has to give up, since that takes longest."""
        makers: list[Callable[[], None]] = [
            self._execution,
            self._contact,
            self._contact_twice,
            self._contact_without_time,
            self._over_already,
            self._nobody,
            self._not_for_us,
            self._poison,
        ]
        given_up = min(MOST_GIVEN_UP, round(self.count / 100))
        # In turns, so that a short soak has all of them too.
        hopeless = cycle([self._stubborn_one, self._of_revoked_account, self._of_no_account])
        for _ in range(given_up):
            next(hopeless)()
        # Each kind at least once, then as often as its weight says.
        for make in makers:
            make()
        while len(self.orders) < self.count - 1:
            (make,) = self.draw.choices(makers, (50, 18, 8, 10, 5, 3, 1, 6))
            make()
        while len(self.orders) < self.count:
            self._execution()
        rest = self.orders[given_up:]
        self.draw.shuffle(rest)
        poisonous = [order for order in rest if order.fate == "dead-lettered"]
        others = [order for order in rest if order.fate != "dead-lettered"]
        # Poison evenly in between, so that whatever goes wrong meets some.
        for number, order in enumerate(poisonous):
            others.insert(number * len(rest) // len(poisonous), order)
        self.orders[given_up:] = others
        # Evenly as well, for the same reason.
        for order, way in zip(
            (order for order in others if order.fate == "ended"), cycle(WAYS), strict=False
        ):
            order.way = way

    def _execution(self) -> None:
        execution = self._began(2)
        self._order({"execution_sid": execution.sid}, execution, targets=(execution,))

    def _over_already(self) -> None:
        execution = self._began(3, status="ended")
        self._order({"execution_sid": execution.sid}, execution)

    def _contact(self) -> None:
        """The conversation that is over, and what looks like it and is not."""
        over = self._began(3)
        contact, flow = over.contact, over.flow_sid
        self._spare(flow, contact, 1)
        self._spare(flow, f"whatsapp:{contact}", 4)
        self._spare(FOREIGN_FLOW, contact, 4)
        self._order({"contact": contact, "occurred_at": self._ago(2)}, over, targets=(over,))

    def _contact_twice(self) -> None:
        """Two conversations one after the other, whose ends come in any order, and a third that goes on."""
        first = self._began(6)
        second = self._began(4, contact=first.contact, flow_sid=first.flow_sid)
        self._spare(first.flow_sid, first.contact, 2)
        self._order({"contact": first.contact, "occurred_at": self._ago(5)}, first, targets=(first,))
        self._order({"contact": first.contact, "occurred_at": self._ago(3)}, first, targets=(second,))

    def _contact_without_time(self) -> None:
        """The trigger's own time counts; the next conversation begins after it, if before its delivery."""
        over = self._began(1)
        self._spare(over.flow_sid, over.contact, -1)
        self._order({"contact": over.contact}, over, targets=(over,), repeatable=False)

    def _nobody(self) -> None:
        flow_sid = self.draw.choice(self.flows)
        self._write(self._in(flow_sid) | {"contact": self._contact_address(), "occurred_at": self._ago(1)})

    def _not_for_us(self) -> None:
        """An event of somebody else's about an Execution that goes on."""
        spared = self._spare(self.draw.choice(self.flows), self._contact_address(), 1)
        self._order({"execution_sid": spared.sid}, spared, fate="ignored")

    def _poison(self) -> None:
        next(self._poisons)()

    def _refused(self) -> None:
        """One of the ways to be no command; those that are objects fit through EventBridge."""
        flow_sid, spared = self.draw.choice(self.flows), self._began(1)
        self.survivors.append(spared)
        by_rule: list[dict[str, Any]] = [
            {"execution_sid": spared.sid},
            {"flow_sid": flow_sid},
            {"flow_sid": flow_sid, "execution_sid": spared.sid, "contact": spared.contact},
            {"flow_sid": flow_sid, "execution_sid": f"{spared.sid}/../{spared.sid}"},
            {"flow_sid": "canary", "execution_sid": spared.sid},
            {"flow_sid": flow_sid, "contact": spared.contact, "occurred_at": "canary"},
        ]
        texts = [
            "no JSON canary TAG",
            '["canary TAG"]',
            '{"flow_sid": NaN, "conversation_id": "canary TAG"}',
            '{"detail-type": "EndConversation", "id": "canary TAG"}',
            f"{'[' * 20_000} canary TAG",
        ]
        ways: list[dict[str, Any] | str] = [*by_rule, *texts]
        wrong = self.draw.choice(ways)
        if isinstance(wrong, str):
            tag = self._tag()
            text = wrong.replace("TAG", tag)
            self.orders.append(Order(tag, text, fate="dead-lettered", code="invalid_request", way="queue"))
        else:
            self._write(wrong, fate="dead-lettered", code="invalid_request")

    def _unknown(self) -> None:
        sid = f"FN{self.draw.getrandbits(128):032x}"
        command = self._in(self.draw.choice(self.flows)) | {"execution_sid": sid}
        self._write(command, fate="dead-lettered", code="execution_not_found")

    def _foreign_flow(self) -> None:
        spared = self._spare(FOREIGN_FLOW, self._contact_address(), 1)
        self._order({"execution_sid": spared.sid}, spared, fate="dead-lettered", code="flow_not_allowed")

    def _stubborn_one(self) -> None:
        execution = self._give_up(self.draw.choice(self.flows))
        self._stubborn.stubborn.add(execution.sid)

    def _of_revoked_account(self) -> None:
        self._give_up(self._of_revoked)

    def _of_no_account(self) -> None:
        self._give_up(self.draw.choice(self.flows), account_sid=NO_ACCOUNT)

    def _give_up(self, flow_sid: str, **command: str) -> Execution:
        execution = self._spare(flow_sid, self._contact_address(), 1)
        self._order({"execution_sid": execution.sid} | command, execution, fate="dead-lettered")
        return execution

    def _order(self, command: dict[str, Any], about: Execution, **kept: Any) -> None:
        self._write(self._in(about.flow_sid) | command, **kept)

    def _in(self, flow_sid: str) -> dict[str, Any]:
        """The part of a command that says where: the default account may go without saying."""
        account = self.studio.executions.account_of(flow_sid)
        is_named = account != ACCOUNT_SID or self.draw.random() < 0.5
        return {"flow_sid": flow_sid, "account_sid": account if is_named else None}

    def _write(self, command: dict[str, Any], **kept: Any) -> None:
        tag = self._tag()
        more = {"conversation_id": tag, "reason": "canary", "customer": "canary"}
        self.orders.append(Order(tag, command | more, **kept))

    def _tag(self) -> str:
        return f"soak-{len(self.orders):07}"

    def _began(
        self,
        hours: float,
        *,
        contact: str | None = None,
        flow_sid: str | None = None,
        status: Literal["active", "ended"] = "active",
    ) -> Execution:
        return self.studio.seed(
            flow_sid or self.draw.choice(self.flows),
            contact=contact or self._contact_address(),
            date_created=self._now - timedelta(hours=hours),
            status=status,
        )

    def _spare(self, flow_sid: str, contact: str, hours: float) -> Execution:
        spared = self._began(hours, contact=contact, flow_sid=flow_sid)
        self.survivors.append(spared)
        return spared

    def _ago(self, hours: float) -> str:
        return (self._now - timedelta(hours=hours)).isoformat()

    def _contact_address(self) -> str:
        """Another one each time, in the forms that Studio has; when the numbers are used up, a name."""
        self._contacts += 1
        if self._contacts % 3 == 0 or self._contacts >= NUMBERS:
            return f"client:canary-{self._contacts}"
        return f"{'whatsapp:' if self._contacts % 3 == 1 else ''}+1500555{self._contacts:04}"


def tags(text: str) -> Iterator[str]:
    """The tags of the orders that a text tells of."""
    return iter(dict.fromkeys(TAG.findall(text)))
