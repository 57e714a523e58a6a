"""An enforcer on a bus: what others revoke is dropped here, and what is revoked here is told to the others."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any, Final

import pytest

from pep import AccessRequest, Enforcer, Resource, Subject
from pep.audit import Kind, MemorySink
from pep.bus import EVERYTHING, LocalBus
from pep.cache import DecisionCache
from pep.errors import ConfigurationError, PublishError
from pep.pdp import FunctionPDP
from pep.testing import FakeClock

ALICE: Final = Subject("user", "alice")
BOB: Final = Subject("user", "bob")
DOCUMENT: Final = Resource("document", "1")


class Wire:
    """A bus with one subscriber, which does what a test says."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.failing = False
        self.closed = False
        self.longest: float | None = None
        self.state = "connected"

    def subscribe(self, on_floor: Callable[[Any], None], on_lost: Callable[[str], None]) -> Wire:
        self.on_floor, self.on_lost = on_floor, on_lost
        return self

    def publish(self, floor: Any) -> None:
        self.told.append(("sync", floor))
        if self.failing:
            raise PublishError

    async def apublish(self, floor: Any) -> None:
        self.told.append(("async", floor))
        if self.failing:
            raise PublishError

    def lifetime(self) -> float | None:
        return self.longest

    def close(self) -> None:
        self.closed = True


class Member:
    """An enforcer over a pure decision point that counts what it was asked."""

    def __init__(self, bus: Any) -> None:
        self.asked: list[AccessRequest] = []
        self.sink, self.clock = MemorySink(), FakeClock()
        pdp = FunctionPDP(self._decide, name="member", pure=True)
        self.enforcer = Enforcer(pdp, audit=self.sink, cache=DecisionCache(bus=bus), clock=self.clock)

    def _decide(self, request: AccessRequest) -> bool:
        self.asked.append(request)
        return True

    def asks(self, subject: Subject = ALICE) -> int:
        """Check, and tell how often the decision point was asked for that."""
        before = len(self.asked)
        assert self.enforcer.check("read", DOCUMENT, subject=subject).allowed
        return len(self.asked) - before


@pytest.mark.parametrize("world", ["sync", "async"])
def test_a_revocation_reaches_the_others(world: str) -> None:
    """What one enforcer revokes, another asks about again; what it does not touch stays cached there."""
    bus = LocalBus()
    one, other = Member(bus), Member(bus)
    assert [other.asks(ALICE), other.asks(ALICE), other.asks(BOB)] == [1, 0, 1]
    if world == "sync":
        one.enforcer.invalidate(subject=ALICE)
    else:
        asyncio.run(one.enforcer.ainvalidate(subject=ALICE))
    assert [other.asks(ALICE), other.asks(BOB)] == [1, 0]
    if world == "sync":
        one.enforcer.invalidate_all()
    else:
        asyncio.run(one.enforcer.ainvalidate_all())
    assert [other.asks(ALICE), other.asks(BOB)] == [1, 1]
    assert [record["floor"] for record in one.sink.of(Kind.INVALIDATION)] == [["subject", "user", "alice"], ["all"]]


def test_what_may_have_been_missed_drops_everything() -> None:
    """A loss on the bus is as good as a revocation of everything; it is no revocation of anybody."""
    wire = Wire()
    member = Member(wire)
    assert [member.asks(), member.asks()] == [1, 0]
    wire.on_lost("a gap")
    assert member.asks() == 1
    wire.on_floor(("subject", "user"))
    assert member.asks() == 1
    wire.on_floor(EVERYTHING)
    assert [member.asks(), member.asks()] == [1, 0]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_it_is_revoked_here_though_nobody_was_told(world: str) -> None:
    """What could not be published raises, after it was revoked and recorded here."""
    wire = Wire()
    member = Member(wire)
    member.asks()
    wire.failing = True
    with pytest.raises(PublishError):
        if world == "sync":
            member.enforcer.invalidate(subject=ALICE)
        else:
            asyncio.run(member.enforcer.ainvalidate(subject=ALICE))
    assert wire.told == [(world, ("subject", "user", "alice"))]
    assert len(member.sink.of(Kind.INVALIDATION)) == 1
    assert member.asks() == 1


def test_entries_live_no_longer_than_the_bus_says() -> None:
    """A pure answer, which would live for ever, lives as long as it may unheard."""
    wire = Wire()
    wire.longest = 5.0
    member = Member(wire)
    assert [member.asks(), member.asks()] == [1, 0]
    member.clock.advance(5)
    assert member.asks() == 1


def test_health_tells_of_it_and_closing_leaves_it() -> None:
    """Its state is part of the enforcer's, and its place is given up with it."""
    wire = Wire()
    member = Member(wire)
    assert member.enforcer.health()["bus"] == "connected"
    assert "bus" not in Member(None).enforcer.health()
    member.enforcer.close()
    assert wire.closed


def test_an_enforcer_that_is_gone_is_told_nothing() -> None:
    """A bus may outlive it, and does not keep it."""
    wire = Wire()
    member: Any = Member(wire)
    del member
    gc.collect()
    wire.on_floor(EVERYTHING)
    wire.on_lost("a gap")


def test_a_bus_is_a_bus() -> None:
    """Anything else is refused where the cache is made; a test's cache hears and tells nothing."""
    for given in (object(), LocalBus):
        with pytest.raises(ConfigurationError, match="`bus` takes a bus"):
            DecisionCache(bus=given)  # type: ignore[arg-type]
    assert DecisionCache(bus=LocalBus()).fresh().bus is None
