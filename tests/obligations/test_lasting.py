"""What was discharged has to last as long as the permit, and is consumed once however often a call is decided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from pep import AccessDenied, AccessRequest, Decision, Enforcer, Fault, Obligation, Profile, Resource, acting_as
from pep.audit import MemorySink
from pep.obligations.budget import Budget, run
from pep.obligations.limits import RateLimit
from pep.obligations.once import Once
from pep.obligations.window import Window
from pep.protocols import Call, Phase, Rank
from pep.testing import FakeClock
from tests.obligations.calling import ALICE, permit

DOCUMENT = Resource("d", "1")


def lasting(**parts: Any) -> tuple[FakeClock, Enforcer]:
    """An enforcer whose permits last ten seconds, within a budget of five."""
    clock = FakeClock()
    window = Obligation("window", {"not_after": clock.wall() + 10})
    budget = Obligation("budget", {"name": "x", "limit": 5})
    handlers = [Window(clock=clock), Budget()]
    decide = permit(window, budget)
    return clock, Enforcer(lambda _request: decide, audit=MemorySink(), obligations=handlers, clock=clock, **parts)


def test_a_grant_lasts_as_long_as_its_window() -> None:
    """It is asked at every use."""
    clock, enforcer = lasting()
    with run():
        first, second = (enforcer.enforce("read", DOCUMENT, subject=ALICE) for _ in range(2))
        first.use()
        clock.advance(11)
        with pytest.raises(AccessDenied) as denied:
            second.use()
    assert denied.value.fault is Fault.REVOKED


@pytest.mark.parametrize("end", ["window", "kill"])
def test_a_generator_stops_at_its_next_step(end: str) -> None:
    """A window that closed and a run that was killed end it, with a clear error."""
    clock, enforcer = lasting()

    @enforcer.guard("read", resource="d:{n}")
    def items(n: str) -> Iterator[int]:
        yield from (1, 2)

    with acting_as(ALICE), run() as spending:
        steps = items("1")
        assert next(steps) == 1
        clock.advance(11) if end == "window" else spending.kill()
        with pytest.raises(AccessDenied) as denied:
            next(steps)
    assert (denied.value.fault, denied.value.ran) == (Fault.REVOKED, True)


def test_an_asynchronous_generator_stops_too() -> None:
    """The same in the other world."""
    clock, enforcer = lasting()

    @enforcer.guard("read", resource="d:{n}")
    async def items(n: str) -> AsyncIterator[int]:
        yield 1
        yield 2

    async def main() -> None:
        with acting_as(ALICE), run():
            steps = items("1")
            assert await steps.__anext__() == 1
            clock.advance(11)
            with pytest.raises(AccessDenied):
                await steps.__anext__()

    asyncio.run(main())


def test_a_call_revoked_in_flight_counts_once() -> None:
    """It is decided again, and what it consumed is not consumed twice."""
    once = Obligation("once", {"key": "context.nonce", "ttl": 60})
    decide = permit(Obligation("doubt"), once, Obligation("rate-limit", {"limit": "1/day"}))

    class Revoking(MemorySink):
        armed = True

        def record(self, record: Any) -> None:
            super().record(record)
            if self.armed:
                self.armed = False
                enforcer.invalidate(subject=ALICE)

    handlers = [Doubting(last=True), Once(), RateLimit()]
    enforcer = Enforcer(lambda _request: decide, audit=Revoking(), obligations=handlers)
    enforcer.enforce("read", DOCUMENT, subject=ALICE, context={"nonce": "a"}).use()
    with pytest.raises(AccessDenied):
        enforcer.enforce("read", DOCUMENT, subject=ALICE, context={"nonce": "a"})


def test_deciding_again_at_intervals_consumes_nothing_again() -> None:
    """What a call consumed when it began lasts through every time it is decided again."""
    clock, decide = FakeClock(), permit(Obligation("once", {"key": "arguments.n", "ttl": 60}))
    profiles = {"d:read": Profile(revalidate=5)}
    enforcer = Enforcer(
        lambda _request: decide, audit=MemorySink(), obligations=[Once()], clock=clock, profiles=profiles
    )

    @enforcer.guard("read", resource="d:{n}")
    def items(n: str) -> Iterator[int]:
        yield from (1, 2, 3)

    with acting_as(ALICE):
        for number in items("1"):
            assert number in {1, 2, 3}
            clock.advance(6)


class Doubting:
    """A handler whose discharge lasts as it says."""

    types = ("doubt",)
    phase = Phase.BEFORE
    rank = Rank.VERIFY

    def __init__(self, last: Any) -> None:
        self.last = last
        self.closed = False

    def discharge(self, _obligation: Obligation, call: Call) -> Call:
        return call

    def holds(self, _obligation: Obligation, _call: Call, _now: float) -> Any:
        if isinstance(self.last, Exception):
            raise self.last
        return self.last

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("last", "allowed"), [(True, True), (1, False), (None, False), (ValueError(), False)])
def test_only_an_exact_yes_lasts(last: Any, allowed: bool) -> None:
    """A handler that cannot tell, or tells anything else, closes; it is closed with its enforcer."""
    decide, handler = permit(Obligation("doubt")), Doubting(last)
    enforcer = Enforcer(lambda _request: decide, audit=MemorySink(), obligations=[handler])
    ran: list[str] = []
    guarded = enforcer.guard("read", resource="d:{n}")(lambda n: ran.append(n))
    with acting_as(ALICE):
        if allowed:
            guarded("1")
        else:
            with pytest.raises(AccessDenied) as denied:
                guarded("1")
            assert denied.value.fault is Fault.REVOKED
    assert ran == (["1"] if allowed else [])
    enforcer.close()
    assert handler.closed


class Redirecting:
    """A handler that makes another call of one, of arguments that have no digest."""

    types = ("redirect",)
    phase = Phase.BEFORE
    rank = Rank.MODIFY

    def discharge(self, _obligation: Obligation, call: Call) -> Call:
        return call.with_arguments(n="2", how=object())


def test_a_call_that_was_changed_runs_as_it_was_changed() -> None:
    """Also where the second decision demands nothing, and nothing tells what the change was."""
    ran: list[str] = []

    def decide(request: AccessRequest) -> Decision:
        return permit(Obligation("redirect")) if request.resource.id == "1" else permit()

    enforcer = Enforcer(decide, audit=MemorySink(), obligations=[Redirecting()])
    guarded = enforcer.guard("read", resource="d:{n}")(lambda n, how: ran.append(n))
    with acting_as(ALICE):
        guarded("1", None)
    assert ran == ["2"]
