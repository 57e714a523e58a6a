"""Scenes of approvals: an enforcer that wants transfers confirmed, a desk, and those who come to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from pep import AccessDenied, Decision, Effect, Enforcer, Obligation, Profile, Resource, Subject, acting_as, approval
from pep.approvals import ApprovalRefused, MemoryStore, Reason
from pep.approvals.desk import Desk
from pep.approvals.store import Store
from pep.audit import MemorySink
from pep.errors import ConfirmationRequired
from pep.obligations.confirmation import RequireConfirmation
from pep.testing import FakeClock

SECRET: Final = b"0123456789abcdef"
ALICE: Final = Subject("user", "alice")
BOB: Final = Subject("user", "bob", {"roles": ["boss"], "dept": "sales"})
CAROL: Final = Subject("user", "carol", {"roles": ["boss"], "dept": "sales"})
DAVE: Final = Subject("user", "dave")
AGENT: Final = Subject("agent", "a-1")
#: How long a transfer's confirmation may take, in seconds.
LIFE: Final = 100.0


def account(name: str) -> Resource:
    return Resource("account", name, {"dept": "sales", "secret": "canary"})


class Bank:
    """
    One enforcer, its approvals, and a desk that believes whatever subject comes to it.

    Args:
        properties: What the obligation says.

        world: ``sync`` or ``async``.

        store: Where approvals are; in memory, unless it is given.

        options: What the handler takes.
    """

    def __init__(
        self,
        properties: Mapping[str, Any] | None = None,
        *,
        world: str = "sync",
        store: Callable[[FakeClock], Store] = lambda clock: MemoryStore(clock=clock),
        parts: Mapping[str, Any] | None = None,
        deadline: float = 10.0,
        clock: FakeClock | None = None,
        **options: Any,
    ) -> None:
        self.world, self.clock, self.sink = world, clock or FakeClock(), MemorySink()
        self.store = store(self.clock)
        self.properties = {"expires_in": LIFE, **(properties or {})}
        self.permits = True
        self.ran: list[Any] = []
        self.desk = self.new_desk(may_approve=options.get("may_approve"))
        self.handler = RequireConfirmation(self.store, audit=self.sink, **options)
        self.enforcer = Enforcer(
            self.decide,
            audit=self.sink,
            clock=self.clock,
            obligations=[self.handler],
            profiles={"account:transfer": Profile(deadline=deadline)},
            **(parts or {}),
        )
        self._guarded = self.enforcer.guard("transfer", resource=account_of)(transfer_of(self, world))

    def new_desk(self, **options: Any) -> Desk:
        options.setdefault("authenticate", lambda credentials: credentials)
        return Desk(self.store, audit=self.sink, clock=self.clock, **options)

    def decide(self, _request: Any) -> Decision:
        if not self.permits:
            return Decision(Effect.DENY)
        return Decision(Effect.PERMIT, obligations=[Obligation("require-confirmation", self.properties)])

    def transfer(self, *args: Any, brings: str | None = None, who: Any = ALICE, **acting: Any) -> Any:
        """Transfer; returns what it returned, or the denial."""
        try:
            with acting_as(who, **acting):
                if brings is None:
                    return self.run(lambda: self._guarded(*args))
                with approval(brings):
                    return self.run(lambda: self._guarded(*args))
        except AccessDenied as denial:
            return denial

    def run(self, begin: Callable[[], Any]) -> Any:
        return begin() if self.world == "sync" else asyncio.run(_awaited(begin))

    def asked(self, *args: Any, **acting: Any) -> str:
        """Ask for a transfer that has to be confirmed; return the approval's id."""
        denial = self.transfer(*(args or ("1", 5)), **acting)
        assert isinstance(denial, ConfirmationRequired), denial
        assert denial.approval is not None
        return denial.approval

    def refused(self, answer: Callable[..., Any], *args: Any, **options: Any) -> Reason:
        """Return why an answer does not count."""
        try:
            answer(*args, **options)
        except ApprovalRefused as refused:
            return refused.reason
        raise AssertionError

    @property
    def events(self) -> list[Any]:
        """What was recorded about approvals, with the reason where there is one."""
        told = [(record.get("event"), record.get("reason")) for record in self.sink.records if record.get("event")]
        return [event if reason is None else (event, reason) for event, reason in told]


def account_of(to: str) -> Resource:
    return account(to)


def transfer_of(bank: Bank, world: str) -> Callable[..., Any]:
    def transfer(to: str, amount: Any) -> Any:
        bank.ran.append(amount)
        return amount

    async def atransfer(to: str, amount: Any) -> Any:
        return transfer(to, amount)

    return transfer if world == "sync" else atransfer


def why(denial: Any) -> Any:
    """Why a denial's obligation failed: the reason of an approval, or the error's text."""
    cause = denial.__cause__
    return cause.reason if isinstance(cause, ApprovalRefused) else str(cause)


async def _awaited(begin: Callable[[], Any]) -> Any:
    return await begin()
