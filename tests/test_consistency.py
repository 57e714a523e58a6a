"""Consistency tokens: what a decision point has moved on from is served to nobody."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep import (
    AccessDenied,
    AccessRequest,
    Decision,
    Effect,
    Enforcer,
    FailStale,
    Profile,
    Resource,
    Subject,
    acting_as,
)
from pep.audit import MemorySink
from pep.audit.record import Kind
from pep.errors import PDPUnavailable
from pep.keys import MAX_TOKENS, Shapes
from pep.plan import Raised
from pep.testing import FakeClock

ALICE = Subject("user", "alice")
ONE, TWO, THREE = (Resource("document", name) for name in "123")


class Store:
    """A decision point whose answers name the state of a store that they were given from."""

    name, consistent = "store", True

    def __init__(self) -> None:
        self.token: str | None = "t0"
        self.effect = Effect.PERMIT
        self.asked: list[str | None] = []
        self.down = False

    def decide(self, request: AccessRequest) -> Decision:
        self.asked.append(request.resource.id)
        if self.down:
            raise PDPUnavailable
        return Decision(self.effect, revision=self.token)


class Batched(Store):
    """The same, with batches."""

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision | Raised]:
        return [self.decide(request) for request in requests]


class Scene:
    """An enforcer that caches for a minute what a store answers."""

    def __init__(self, store: Store, **options: object) -> None:
        self.store, self.clock, self.sink = store, FakeClock(), MemorySink()
        profile = Profile(permit_ttl=60.0, deny_ttl=60.0, **options)  # type: ignore[arg-type]
        self.enforcer = Enforcer(store, audit=self.sink, profiles={"*:*": profile}, clock=self.clock)
        self.ran = 0

    def asks(self, resource: Resource) -> int:
        """Tell how often the store is asked for one check."""
        before = len(self.store.asked)
        assert self.enforcer.check("read", resource, subject=ALICE).allowed
        return len(self.store.asked) - before


def test_what_an_older_token_decided_is_asked_again() -> None:
    """A new token drops every decision that names another, without the time to live being over."""
    scene = Scene(Store())
    assert [scene.asks(ONE), scene.asks(ONE), scene.asks(TWO), scene.asks(TWO)] == [1, 0, 1, 0]
    scene.store.token = "t1"
    assert scene.asks(THREE) == 1
    assert [scene.asks(ONE), scene.asks(TWO), scene.asks(ONE), scene.asks(THREE)] == [1, 1, 0, 0]


def test_a_token_seen_before_is_not_the_newest() -> None:
    """An answer from a lagging replica is good for its own call, and is neither kept nor drops what is newer."""
    scene = Scene(Store())
    assert scene.asks(ONE) == 1
    scene.store.token = "t1"
    assert [scene.asks(TWO), scene.asks(TWO)] == [1, 0]
    scene.store.token = "t0"
    assert [scene.asks(THREE), scene.asks(THREE), scene.asks(TWO)] == [1, 1, 0]
    assert scene.enforcer.stats()["uncacheable"] == 2


def test_an_answer_without_a_token_is_not_kept_beside_those_that_have_one() -> None:
    """Nothing tells whether it is older than they are."""
    scene = Scene(Store())
    assert scene.asks(ONE) == 1
    scene.store.token = None
    assert [scene.asks(TWO), scene.asks(TWO), scene.asks(ONE)] == [1, 1, 0]


def test_tokens_say_nothing_of_a_decision_point_that_does_not_claim_them() -> None:
    """The revision of any other decision point is told in records, and drops nothing."""
    store = Store()
    store.consistent = False  # type: ignore[misc]
    scene = Scene(store)
    assert scene.asks(ONE) == 1
    store.token = "t1"
    assert [scene.asks(TWO), scene.asks(ONE)] == [1, 0]


def test_a_decision_point_may_have_tokens_and_swap_its_policies() -> None:
    """What tells of its policies itself has tokens all the same."""

    class Swapping(Store):
        def subscribe(self, listener: object) -> None:
            """Tell nobody."""

    scene = Scene(Swapping())
    assert [scene.asks(ONE), scene.asks(ONE)] == [1, 0]
    scene.store.token = "t1"
    assert [scene.asks(TWO), scene.asks(ONE), scene.asks(ONE)] == [1, 1, 0]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_a_hit_that_is_overtaken_before_dispatch_is_asked_again(world: str) -> None:
    """Between the record and the code a newer token comes: the code waits for what the store says now."""
    scene = Scene(Store())
    assert scene.asks(ONE) == 1
    sink = scene.sink
    recorded = sink.record

    def overtaking(record: object) -> None:
        recorded(record)  # type: ignore[arg-type]
        if scene.store.token == "t0":
            scene.store.token = "t1"
            scene.store.effect = Effect.DENY
            scene.enforcer.check("read", TWO, subject=ALICE)

    sink.record = overtaking  # type: ignore[method-assign]

    @scene.enforcer.guard("read", resource=ONE, subject=ALICE)
    def read() -> None:
        scene.ran += 1

    @scene.enforcer.guard("read", resource=ONE, subject=ALICE)
    async def aread() -> None:
        scene.ran += 1

    with pytest.raises(AccessDenied) as refused:
        read() if world == "sync" else asyncio.run(aread())
    assert scene.ran == 0
    assert refused.value.verdict.decision == Decision(Effect.DENY, revision="t1")


def test_a_fresh_answer_stands_though_others_bring_newer_tokens() -> None:
    """What was asked for this very call is as new as it gets; a busy store refuses nobody for that."""
    scene = Scene(Store())
    recorded, tokens = scene.sink.record, iter(range(1, 100))

    def overtaking(record: object) -> None:
        recorded(record)  # type: ignore[arg-type]
        if len(scene.store.asked) % 2:
            scene.store.token = f"t{next(tokens)}"
            scene.enforcer.check("read", TWO, subject=ALICE)

    scene.sink.record = overtaking  # type: ignore[method-assign]
    with scene.enforcer.enforcing("read", ONE, subject=ALICE):
        scene.ran += 1
    assert scene.ran == 1


@pytest.mark.parametrize("make", [Store, Batched])
def test_hits_that_their_own_batch_overtakes_are_asked_about_too(make: type[Store]) -> None:
    """One item is served from the cache, another brings a newer token: the first is asked about after all."""
    scene = Scene(make())
    assert scene.asks(ONE) == 1
    scene.store.token = "t1"
    del scene.store.asked[:]
    assert scene.enforcer.filter("read", [ONE, TWO, THREE], subject=ALICE) == [ONE, TWO, THREE]
    assert scene.store.asked == ["2", "3", "1"]
    assert scene.enforcer.filter("read", [ONE, TWO, THREE], subject=ALICE) == [ONE, TWO, THREE]
    assert scene.store.asked == ["2", "3", "1"]


def test_a_filter_releases_no_hit_that_was_overtaken_while_it_was_recorded() -> None:
    """Nobody asks any more: what a newer token may have taken back is withheld, with a record."""
    scene = Scene(Batched())
    assert [scene.asks(ONE), scene.asks(TWO)] == [1, 1]
    recorded = scene.sink.record

    def overtaking(record: object) -> None:
        recorded(record)  # type: ignore[arg-type]
        if scene.store.token == "t0":
            scene.store.token = "t1"
            scene.asks(THREE)

    scene.sink.record = overtaking  # type: ignore[method-assign]
    assert scene.enforcer.filter("read", [ONE, TWO], subject=ALICE) == []
    assert scene.sink.of(Kind.OUTCOME)[-1]["revoked"] == [["document", "1"], ["document", "2"]]


def test_what_is_guarded_is_overtaken_like_what_is_checked() -> None:
    """The hot path serves nothing that a token may have overtaken."""
    scene = Scene(Store())

    @scene.enforcer.guard("read", resource=ONE, subject=ALICE)
    def read() -> int:
        return len(scene.store.asked)

    with acting_as(ALICE):
        assert [read(), read(), read()] == [1, 1, 1]
        scene.store.token = "t1"
        scene.asks(TWO)
        assert [read(), read()] == [3, 3]


def test_an_outage_may_be_bridged_with_what_was_overtaken() -> None:
    """`FailStale` is consent to an older state, for as long as it says."""
    scene = Scene(Store(), on_failure=FailStale(max_age=300))
    assert scene.asks(ONE) == 1
    scene.store.token = "t1"
    scene.asks(TWO)
    scene.store.down = True
    assert scene.enforcer.check("read", ONE, subject=ALICE).allowed


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5)), max_size=30))
def test_the_newest_token_was_asked_for_after_the_one_before_it_came(seen: list[tuple[str, int]]) -> None:
    """However tokens arrive, one is taken only if it is unknown and was asked for since the last was taken."""
    shapes, newest, past, came = Shapes(Store()), None, set(), -math.inf
    for now, (token, ago) in enumerate(seen):
        asked = now - ago
        shapes.see(token, float(asked), float(now))
        if token != newest and token not in past and asked >= came:
            past |= {newest} - {None}
            newest, came = token, now
        assert shapes.revision == newest
        assert [shapes.is_past(one) for one in "abcd"] == [one != newest for one in "abcd"]


def test_tokens_are_forgotten_at_a_bound() -> None:
    """However often a store moves on, what is remembered of it is bounded."""
    shapes = Shapes(Store())
    for number in range(MAX_TOKENS + 10):
        shapes.see(f"t{number}", number, number)
    shapes.see("t0", MAX_TOKENS + 10, MAX_TOKENS + 10)
    assert shapes.revision == "t0"
    shapes.see(f"t{MAX_TOKENS}", MAX_TOKENS + 11, MAX_TOKENS + 11)
    assert shapes.revision == "t0"
