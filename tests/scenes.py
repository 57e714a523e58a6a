"""Scenes: one enforcer with parts that do as they are told, and a guarded function, in either world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, Final

import attrs
import pytest

from pep import (
    AccessDenied,
    Decision,
    Effect,
    Enforcer,
    FailOpen,
    Fault,
    Guarantee,
    Obligation,
    Outcome,
    Profile,
    Resource,
    Shadow,
    Subject,
    acting_as,
)
from pep.audit import Kind, MemorySink, Record
from pep.core import Core
from pep.protocols import Phase, Rank, Refusal
from pep.testing import FakeClock, FakeHandler

LATER: Final = datetime(2040, 1, 1, tzinfo=timezone.utc)
ALICE: Final = Subject("user", "alice")
DOCUMENT: Final = Resource("document", "1")
WORLDS: Final = ("sync", "async")
PERMIT, DENY = Effect.PERMIT, Effect.DENY
OPEN: Final = Profile(
    on_failure=FailOpen(on=[Fault.TIMEOUT, Fault.UNREACHABLE, Fault.OVERLOADED], limit="100/minute"),
)
SHADOW: Final = Profile(mode=Shadow(until=LATER, reason="new"))
STEP_UP: Final = Refusal(Outcome.STEP_UP_REQUIRED, {"acr_values": ("high",), "max_age": 60.0})
LIMITED: Final = Refusal(Outcome.RATE_LIMITED, {"retry_after": 3.0})
CONFIRM: Final = Refusal(Outcome.CONFIRMATION_REQUIRED, {"approval": "a1"})


def owing(effect: Effect, *types: str) -> Decision:
    return Decision(effect, obligations=[Obligation(kind) for kind in types])


def raising(error: BaseException) -> Callable[[Any], Any]:
    def answer(_request: Any) -> Any:
        raise error

    return answer


def handlers() -> list[FakeHandler]:
    return [
        FakeHandler("log", phase=Phase.BEFORE | Phase.ON_DENIAL),
        FakeHandler("break", phase=Phase.BEFORE | Phase.ON_DENIAL, raises=ValueError("no")),
        FakeHandler("forget", does=lambda _call: None),
        FakeHandler("step up", rank=Rank.VERIFY, refuses=STEP_UP),
        FakeHandler("limit", rank=Rank.COUNT, refuses=LIMITED),
        FakeHandler("confirm", rank=Rank.CONFIRM, refuses=CONFIRM),
        FakeHandler("count", rank=Rank.COUNT),
        FakeHandler("redact", phase=Phase.AFTER, does=lambda seen: seen.with_result("redacted")),
        FakeHandler("break after", phase=Phase.AFTER, raises=ValueError("no")),
        FakeHandler("refuse after", phase=Phase.AFTER, refuses=LIMITED),
    ]


#: A test in both worlds.
worlds: Final = pytest.mark.parametrize("world", WORLDS)


@attrs.frozen(eq=False)
class Suspended:
    """A value that must be awaited first; in the synchronous world nobody can."""

    value: Any

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self.value() if callable(self.value) else self.value


class Strong(MemorySink):
    """A sink in memory that does for every profile."""

    guarantee = Guarantee.DURABLE


@attrs.frozen
class Ended:
    """What a call came to: a result, or the denial it raised."""

    result: Any = None
    denial: AccessDenied | None = None

    @property
    def told(self) -> tuple[str, str | None]:
        """The outcome and the fault, in words."""
        if self.denial is None:
            return "returned", None
        return self.denial.outcome.value, self.denial.fault.value if self.denial.fault else None


class Scene:
    """
    One enforcer and the function it guards.

    Args:
        world: ``sync`` or ``async``.

        answer: What the decision point answers; or a function of the request.

        profile: How editing a document is enforced.

        parts: Other parts of the enforcer.
    """

    def __init__(
        self,
        world: str,
        answer: Any = True,
        *,
        profile: Profile | None = None,
        profiles: Mapping[str, Profile] | None = None,
        sink: Any = None,
        pdp: Any = None,
        resource: Any = DOCUMENT,
        on_denied: Callable[[AccessDenied], Any] | None = None,
        body: Callable[[str], Any] | None = None,
        **parts: Any,
    ) -> None:
        self.world = world
        self.clock = FakeClock()
        self.asked: list[Any] = []
        self.ran: list[str] = []
        self.sink = Strong() if sink is None else sink
        self._answer = answer
        self._body = body
        known = {"document:edit": Profile() if profile is None else profile} if profiles is None else profiles
        parts.setdefault("clock", self.clock)
        self.enforcer = Enforcer(pdp or self._decide, audit=self.sink, profiles=known, **parts)
        options = {"resource": resource, "on_denied": on_denied}
        self._sync = self.enforcer.guard("edit", **options)(self.edit_of("sync"))
        self._async = self.enforcer.guard("edit", **options)(self.edit_of("async"))

    def _decide(self, request: Any) -> Any:
        self.asked.append(request)
        return self._answer(request) if callable(self._answer) else self._answer

    def edit_of(self, world: str) -> Any:
        """Return the function itself, which nobody guards."""

        def edit(title: str = "new") -> Any:
            self.ran.append(title)
            return title if self._body is None else self._body(title)

        async def aedit(title: str = "new") -> Any:
            return edit(title)

        return edit if world == "sync" else aedit

    @property
    def core(self) -> Core:
        """The enforcer's core."""
        return self.enforcer._core

    def edit(self, *args: Any, subject: Any = ALICE, via: Iterable[Any] = ()) -> Ended:
        """Call the guarded function."""
        return self.acting(lambda: self._sync(*args) if self.world == "sync" else self._async(*args), subject, via)

    def do(self, name: str, *args: Any, who: Any = ALICE, **options: Any) -> Any:
        """Call a method of the enforcer, in this world's half of it; raises what it raises."""
        with acting_as(who):
            if self.world == "sync":
                return getattr(self.enforcer, name)(*args, **options)
            return asyncio.run(self._awaited(lambda: getattr(self.enforcer, f"a{name}")(*args, **options)))

    def acting(
        self, begin: Callable[[], Any], subject: Any = ALICE, via: Iterable[Any] = (), tenant: str | None = None
    ) -> Ended:
        """Do something for a subject; None is nobody."""
        try:
            if subject is None:
                return Ended(self._run(begin))
            with acting_as(subject, via=via, tenant=tenant):
                return Ended(self._run(begin))
        except AccessDenied as denial:
            return Ended(denial=denial)

    def _run(self, begin: Callable[[], Any]) -> Any:
        return begin() if self.world == "sync" else asyncio.run(self._awaited(begin))

    @staticmethod
    async def _awaited(begin: Callable[[], Any]) -> Any:
        value = await begin()
        # Nothing may be left behind in the loop.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert others == set()
        return value

    @property
    def kinds(self) -> list[str]:
        """The kinds of the records, in order; an outcome with its status."""
        return [
            record.kind.value if record.kind is not Kind.OUTCOME else f"outcome {record['status']}"
            for record in self.sink.records
        ]

    @property
    def last(self) -> Record:
        """The last record."""
        record: Record = self.sink.records[-1]
        return record

    def of(self, kind: Kind) -> list[Record]:
        """The records of one kind."""
        return [record for record in self.sink.records if record.kind is kind]
