from __future__ import annotations

import sys
from typing import Any

import pytest

from pep import cache
from pep.cache import DecisionCache, Entry, Generations, StaleStore, expiry, floors_of
from pep.errors import ConfigurationError
from pep.model import AccessRequest, Decision, Effect, Resource, Subject

ALICE, AGENT = Subject("user", "alice"), Subject("agent", "a1")
REQUEST = AccessRequest(ALICE, "read", Resource("document", "42"), actors=[AGENT])
NEW = AccessRequest(ALICE, "document:create", Resource.new("document"))

#: Every floor there is -> whether it touches REQUEST, and NEW.
FLOORS = {
    ("subject", "user"): (True, True),
    ("subject", "user", "alice"): (True, True),
    ("subject", "user", "bob"): (False, False),
    ("subject", "agent"): (True, False),
    ("subject", "agent", "a1"): (True, False),
    ("subject", "document", "42"): (False, False),
    ("resource", "document"): (True, True),
    ("resource", "document", "42"): (True, False),
    ("resource", "document", "43"): (False, False),
    ("resource", "user", "alice"): (False, False),
    ("action", "read"): (True, False),
    ("action", "document:read"): (True, False),
    ("action", "document:create"): (False, True),
    ("action", "create"): (False, False),
}


@pytest.mark.parametrize("floor", FLOORS)
def test_what_a_floor_touches(floor: tuple[str, ...]) -> None:
    """A floor drops what was decided about its subject, actor, resource, type or action, and nothing else."""
    for request, touched in zip((REQUEST, NEW), FLOORS[floor], strict=True):
        generations = Generations()
        before = generations.epoch
        assert generations.holds(request, before)
        assert not generations.revoked(request)
        generations.revoke(floor)
        assert generations.holds(request, before) is not touched
        assert generations.revoked(request) is touched
        assert generations.holds(request, generations.epoch)
        assert (floor in floors_of(request)) is touched


def test_revoking_everything_drops_everything() -> None:
    """Dropping everything drops every request, and suppresses every opening."""
    generations = Generations()
    before = generations.epoch
    generations.revoke_all()
    for request in (REQUEST, NEW):
        assert not generations.holds(request, before)
        assert generations.holds(request, generations.epoch)
        assert generations.revoked(request)


def test_a_policy_swap_drops_everything_and_suppresses_nothing() -> None:
    """New policies make every decision old, but revoke nobody."""
    generations = Generations()
    before = generations.epoch
    generations.swap()
    assert not generations.holds(REQUEST, before)
    assert generations.holds(REQUEST, generations.epoch)
    assert not generations.revoked(REQUEST)


def test_floors_collapse_into_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many floors become one over everything: more is dropped than was asked, never less."""
    monkeypatch.setattr(cache, "MAX_FLOORS", 2)
    generations = Generations()
    generations.revoke(("subject", "user", "alice"))
    generations.revoke(("subject", "user", "bob"))
    generations.revoke(("subject", "user", "bob"))
    between = generations.epoch
    assert generations.holds(NEW, between)
    generations.revoke(("subject", "user", "carol"))
    assert not generations.holds(REQUEST, between)
    assert not generations.holds(NEW, between)
    assert generations.revoked(NEW)
    after = generations.epoch
    assert generations.holds(NEW, after)
    generations.revoke(("resource", "document"))
    assert not generations.holds(NEW, after)


@pytest.mark.parametrize("step", range(1, 60))
@pytest.mark.parametrize("raise_floor", [Generations.revoke_all, lambda g: g.revoke(("subject", "user", "zoe"))])
def test_a_collapse_in_the_middle_of_a_reading_is_seen(
    monkeypatch: pytest.MonkeyPatch, raise_floor: Any, step: int
) -> None:
    """At whichever instruction a reader without a lock is overtaken by a collapse, what was revoked stays so."""
    monkeypatch.setattr(cache, "MAX_FLOORS", 1)
    generations = Generations()
    before = generations.epoch
    generations.revoke(("subject", "user", "alice"))
    left = step

    def trace(frame: Any, event: str, _argument: object) -> Any:
        nonlocal left
        if frame.f_code not in {Generations.holds.__code__, Generations.revoked.__code__}:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise_floor(generations)
                sys.settrace(trace)
        return trace

    former = sys.gettrace()
    for read in (lambda: generations.holds(REQUEST, before), lambda: not generations.revoked(REQUEST)):
        left = step
        sys.settrace(trace)
        try:
            held = read()
        finally:
            sys.settrace(former)
        assert not held


def entry(expires: float = 10.0, *, started: float = 0.0) -> Entry:
    return Entry(Decision(Effect.PERMIT), started, expires, 0)


@pytest.mark.parametrize("entries", [0, -1, 1.0, True, None, "10"])
def test_a_cache_holds_a_number_of_entries(entries: Any) -> None:
    """A cache of none, or of no number, is refused; not caching is a profile's business."""
    with pytest.raises(ConfigurationError, match="set a profile's ttl to 0"):
        DecisionCache(entries=entries)


def test_entries_expire_and_never_slide() -> None:
    """An entry is there until the moment it expires, however often it was read."""
    decisions, held = DecisionCache(), entry(10.0)
    decisions.put(b"k", held)
    assert [decisions.get(b"k", now) for now in (0.0, 9.999, 9.999)] == [held] * 3
    assert decisions.get(b"k", 10.0) is None
    assert decisions.get(b"other", 0.0) is None
    assert (decisions.hits, decisions.misses) == (3, 2)


def test_the_oldest_leave_first() -> None:
    """A cache never holds more than its bound; one put again takes no more room."""
    decisions = DecisionCache(entries=2)
    for key in (b"a", b"b", b"a", b"c"):
        decisions.put(key, entry())
    assert [decisions.get(key, 0.0) is not None for key in (b"a", b"b", b"c")] == [False, True, True]
    assert (len(decisions), decisions.evictions) == (2, 1)
    assert repr(decisions) == "<DecisionCache of 2 of 2 entries>"


def test_a_cache_left_half_done_is_none_the_worse() -> None:
    """Where a fork cut a put short, later puts neither fail nor go beyond the bound."""
    decisions = DecisionCache(entries=1)
    decisions._order.append(b"never put")
    for key in (b"a", b"b", b"c"):
        decisions.put(key, entry())
    assert len(decisions) == 1


def test_clearing_forgets_and_fresh_starts_over() -> None:
    """A cleared cache is empty and goes on; a fresh one has the same bound and nothing in it."""
    decisions = DecisionCache(entries=1)
    decisions.put(b"a", entry())
    fresh = decisions.fresh()
    decisions.clear()
    assert (len(decisions), len(fresh)) == (0, 0)
    for some in (decisions, fresh):
        some.put(b"b", entry())
        some.put(b"c", entry())
        assert len(some) == 1


@pytest.mark.parametrize(
    ("now", "served"),
    [(100.0, True), (159.9, True), (160.0, True), (160.1, False), (170.0, False)],
)
def test_stale_decisions_have_an_age(now: float, served: bool) -> None:
    """A stale decision is served while its age, from the start of its question, allows."""
    store, held = StaleStore(), entry(expiry(100.0, None), started=100.0)
    store.put(b"k", held)
    assert store.get(b"k", now, 60.0) is (held if served else None)


def test_stale_decisions_respect_their_own_ttl() -> None:
    """What the decision point let live for less is served for less."""
    store, held = StaleStore(), entry(expiry(100.0, 5.0), started=100.0)
    store.put(b"k", held)
    assert store.get(b"k", 104.9, 60.0) is held
    assert store.get(b"k", 105.0, 60.0) is None
    assert store.get(b"other", 100.0, 60.0) is None


def test_the_stale_store_is_bounded() -> None:
    """The store of stale decisions forgets those not used for longest."""
    store = StaleStore(entries=2)
    for key in (b"a", b"b"):
        store.put(key, entry())
    store.get(b"a", 0.0, 60.0)
    store.put(b"c", entry())
    assert [store.get(key, 0.0, 60.0) is not None for key in (b"a", b"b", b"c")] == [True, False, True]


@pytest.mark.parametrize(
    ("ttls", "expected"),
    [
        ((), float("inf")),
        ((None, None), float("inf")),
        ((5.0, None), 15.0),
        ((None, 3.0, 5.0), 13.0),
        ((0.0, 5.0), 10.0),
    ],
)
def test_the_shortest_life_counts(ttls: tuple[float | None, ...], expected: float) -> None:
    """Of several bounds the shortest holds, from the start of the question on; none is no bound."""
    assert expiry(10.0, *ttls) == expected
