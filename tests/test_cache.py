from __future__ import annotations

import sys
from typing import Any

import pytest

from pep import generations as module
from pep.cache import DecisionCache, Entry, Generations, Key, Shapes, StaleStore, expiry, floors_of
from pep.errors import ConfigurationError, PDPReplyError
from pep.model import AccessRequest, Action, Decision, Effect, Obligation, Resource, Subject
from pep.profile import Profile

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


def test_a_bump_drops_nothing() -> None:
    """Every hit is looked at again, and holds."""
    generations = Generations()
    before = generations.epoch
    generations.bump()
    assert generations.epoch != before
    assert generations.holds(REQUEST, before)
    assert not generations.revoked(REQUEST)


def test_shapes_are_told_apart_by_value_beyond_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many actions and types there are, each has a shape of its own, and no other decision point has it."""
    monkeypatch.setattr("pep.keys.MAX_SHAPES", 1)
    ours, theirs = Shapes(), Shapes()
    for shapes in (ours, theirs):
        found = [shapes.shape(Action(name), kind) for name in ("a", "b") for kind in ("c", "d")]
        assert len(set(found)) == 4
        assert found == [shapes.shape(Action(name), kind) for name in ("a", "b") for kind in ("c", "d")]
    assert ours.shape(Action("b"), "d") != theirs.shape(Action("b"), "d")


def test_floors_collapse_into_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many floors become one over everything: more is dropped than was asked, never less."""
    monkeypatch.setattr(module, "MAX_FLOORS", 2)
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


READING = {Generations.holds.__code__, Generations.untouched.__code__, Generations.revoked.__code__}


@pytest.mark.parametrize("step", range(1, 60))
@pytest.mark.parametrize("raise_floor", [Generations.revoke_all, lambda g: g.revoke(("subject", "user", "zoe"))])
def test_a_collapse_in_the_middle_of_a_reading_is_seen(
    monkeypatch: pytest.MonkeyPatch, raise_floor: Any, step: int
) -> None:
    """At whichever instruction a reader without a lock is overtaken by a collapse, what was revoked stays so."""
    monkeypatch.setattr(module, "MAX_FLOORS", 1)
    generations = Generations()
    before = generations.epoch
    generations.revoke(("subject", "user", "alice"))
    left = step

    def trace(frame: Any, event: str, _argument: object) -> Any:
        nonlocal left
        if frame.f_code not in READING:
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


def test_what_is_untouched_by_its_parts() -> None:
    """Without a request at hand, its parts tell the same as the whole of it."""
    for floor in FLOORS:
        for request in (REQUEST, NEW):
            generations = Generations()
            before = generations.epoch
            generations.revoke(floor)
            what = request.resource
            parts = (request.subject, request.action, what.type, what.id, before, request.actors)
            assert generations.untouched(*parts) is generations.holds(request, before)


def test_an_answer_of_new_policies_drops_all_but_itself() -> None:
    """What other policies decided is gone; the answer that told of it holds, unless it was revoked in the air."""
    generations = Generations()
    before = generations.epoch
    moved = generations.superseded(REQUEST, before)
    assert generations.holds(REQUEST, moved)
    assert not generations.holds(NEW, before)
    generations.revoke(("subject", "agent"))
    assert generations.superseded(REQUEST, moved) == moved
    assert not generations.holds(REQUEST, moved)


def entry(expires: float = 10.0, *, started: float = 0.0, decision: Decision | None = None) -> Entry:
    return Entry(Decision(Effect.PERMIT) if decision is None else decision, started, expires, 0)


def key(name: object) -> Key:
    return "shape", b"who", str(name)


def consistent(decisions: DecisionCache) -> bool:
    """Whether both orders hold exactly what is found, and the sums are right."""
    forth, back, place = [], [], decisions._ends.newer
    while place is not decisions._ends:
        forth.append(place)
        place = place.newer
    place = decisions._ends.older
    while place is not decisions._ends:
        back.append(place)
        place = place.older
    held = {**decisions.permits, **decisions._rest}
    shares = {}
    for share in decisions._shares.values():
        place, mine = share.junior, []
        while place is not share:
            mine.append(place)
            place = place.junior
        shares[share.holder] = mine
        assert (len(mine), sum(one.size for one in mine)) == (share.count, share.size)
        assert mine == [one for one in forth if one.share is share]
    return (
        forth == back[::-1]
        and {one.key: one for one in forth} == held
        and sum(map(len, shares.values())) == len(held) == len(decisions)
        and sum(one.size for one in forth) == decisions._size
        and (decisions._cursor is decisions._ends or decisions._cursor in forth)
    )


@pytest.mark.parametrize("entries", [0, -1, 1.0, True, None, "10", float("nan")])
def test_a_cache_holds_a_number_of_entries(entries: Any) -> None:
    """A cache of none, or of no number, is refused; not caching is a profile's business."""
    with pytest.raises(ConfigurationError, match="set a profile's ttl to 0"):
        DecisionCache(entries=entries)


@pytest.mark.parametrize("size", [0, -1, 7999, 1e9, True, None, float("nan")])
def test_a_cache_has_room_for_an_entry(size: Any) -> None:
    """A bound that leaves no subject room for an entry, or is no number, is refused."""
    with pytest.raises(ConfigurationError, match="no room for an entry"):
        DecisionCache(bytes=size)


@pytest.mark.parametrize("ttl", [-1, -0.001, float("nan"), float("inf"), True, "60", 10**400])
@pytest.mark.parametrize("name", ["permit_ttl", "deny_ttl"])
def test_an_absurd_time_to_live_is_refused(name: str, ttl: Any) -> None:
    """A time to live is a finite number of seconds, zero or more."""
    with pytest.raises(ConfigurationError, match=name):
        Profile(**{name: ttl})


@pytest.mark.parametrize("ttl", [-1, -0.001, float("nan"), float("inf"), True, "60", 10**400])
def test_an_absurd_time_to_live_is_no_decision(ttl: Any) -> None:
    """A decision point that answers one has answered nothing."""
    with pytest.raises(PDPReplyError, match="ttl"):
        Decision(Effect.PERMIT, ttl=ttl)


def test_entries_expire_and_never_slide() -> None:
    """An entry is there until the moment it expires, however often it was read."""
    decisions, held = DecisionCache(), entry(10.0)
    decisions.put(key(1), held)
    assert [decisions.get(key(1), now) for now in (0.0, 9.999, 9.999)] == [held] * 3
    assert decisions.get(key(1), 10.0) is None
    assert decisions.get(key(2), 0.0) is None
    assert (decisions.hits, decisions.misses) == (3, 2)


def test_the_oldest_leave_first() -> None:
    """A cache never holds more than its bound; what is put again is as new as the rest."""
    decisions = DecisionCache(entries=2)
    for at, name in enumerate("abac"):
        decisions.put(key(name), entry(), at)
    assert [decisions.get(key(name), 0.0) is not None for name in "abc"] == [True, False, True]
    assert (len(decisions), decisions.evictions) == (2, 1)
    assert repr(decisions) == "<DecisionCache of 2 of 2 entries>"
    assert consistent(decisions)


def test_the_later_word_stays() -> None:
    """Of two answers to one question that was asked later counts, whichever came first."""
    decisions, store = DecisionCache(), StaleStore()
    later, earlier = entry(started=5.0, decision=Decision(Effect.DENY)), entry(started=4.0)
    for some in (decisions, store):
        some.put(key(1), later)
        some.put(key(1), earlier)
    assert decisions.get(key(1), 5.0) is later
    assert store.get(key(1), 5.0, 60.0) is later
    again = entry(started=6.0)
    decisions.put(key(1), again)
    assert decisions.get(key(1), 6.0) is again
    assert (len(decisions), list(decisions.permits)) == (1, [key(1)])


def test_no_subject_holds_over_a_sixteenth() -> None:
    """Whoever asks about everything takes the room of nobody else, in entries or in bytes."""
    shared = Decision(Effect.PERMIT)
    for decisions in (DecisionCache(entries=160), DecisionCache(bytes=16 * 10 * 600)):
        decisions.put(key("other"), entry(), "other")
        for number in range(1000):
            decisions.put(key(number), entry(decision=shared), "greedy")
        assert len(decisions) == 11
        assert decisions.get(key("other"), 0.0) is not None
        assert [decisions.get(key(number), 0.0) is not None for number in (989, 990, 999)] == [False, True, True]
        assert consistent(decisions)


def test_bytes_are_bounded() -> None:
    """Long ids, reasons and obligations count; what alone is over a subject's share is not kept, and counted."""
    decisions = DecisionCache(bytes=64_000)
    for number in range(1000):
        decisions.put(key(f"{number}" * 300), entry(), number)
    assert decisions._size <= 64_000
    assert 10 < len(decisions) < 60
    kept = len(decisions)
    telling = Decision(Effect.DENY, reasons=["x" * 4000])
    owing = Decision(Effect.PERMIT, obligations=[Obligation("log", {"text": "x" * 1000})])
    for number, decision in enumerate((telling, owing)):
        decisions.put(key(("big", number)), entry(decision=decision), number)
    assert (len(decisions), decisions.uncacheable) == (kept, 2)
    assert consistent(decisions)


def test_what_has_expired_leaves_without_being_asked_for() -> None:
    """Each entry that comes in drops some that have expired, behind others that have not as well."""
    decisions = DecisionCache(entries=1000)
    decisions.put(key("forever"), entry(float("inf")), "a")
    for number in range(100):
        decisions.put(key(number), entry(5.0), number)
    for number in range(101):
        decisions.put(key(f"new{number}"), entry(float("inf"), started=6.0), number)
    assert len(decisions) == 102
    assert decisions.evictions == 0
    assert consistent(decisions)


def test_what_is_refused_was_no_hit() -> None:
    """An entry that no longer holds is dropped; refusing it twice, or once it was replaced, changes nothing else."""
    decisions, held = DecisionCache(), entry()
    decisions.put(key(1), held)
    assert decisions.get(key(1), 0.0) is held
    decisions.refuse(held)
    assert (decisions.hits, decisions.misses, len(decisions)) == (0, 1, 0)
    newer = entry(started=1.0)
    decisions.put(key(1), newer)
    decisions.refuse(held)
    assert decisions.get(key(1), 1.0) is newer
    assert consistent(decisions)


def test_clearing_forgets_and_fresh_starts_over() -> None:
    """A cleared cache is empty, is the same dict for whoever reads it, and goes on; a fresh one has the same bounds."""
    decisions = DecisionCache(entries=1, bytes=12_000)
    read = decisions.permits
    decisions.put(key("a"), entry())
    fresh = decisions.fresh()
    decisions.clear()
    assert (len(decisions), len(fresh), decisions.permits is read) == (0, 0, True)
    for some in (decisions, fresh):
        some.put(key("b"), entry())
        some.put(key("c"), entry())
        some.put(key("d" * 1000), entry())
        assert (len(some), some.uncacheable) == (1, 1)
        assert consistent(some)


def test_what_a_cache_counts() -> None:
    """Its counts have names."""
    decisions = DecisionCache()
    decisions.put(key(1), entry())
    decisions.get(key(1), 0.0)
    told = decisions.stats()
    assert told.pop("cached_bytes") > 500
    assert told == {"hits": 1, "misses": 0, "evictions": 0, "uncacheable": 0, "stale_refusals": 0, "cached": 1}


class Interrupting:
    """A holder whose hash is taken in the middle of a change, and does something then, once."""

    def __init__(self, does: Any) -> None:
        self._does = [does]

    def __hash__(self) -> int:
        if self._does:
            self._does.pop()()
        return 1

    def __eq__(self, other: object) -> bool:
        return self is other


def test_a_signal_handler_in_the_middle_of_a_change() -> None:
    """What it decides is not kept, what it clears is cleared once the change has ended, and nothing is out of order."""
    decisions = DecisionCache()

    def handler() -> None:
        decisions.put(key("mine"), entry())
        decisions.refuse(held)

    held = entry()
    decisions.put(key("held"), held)
    decisions.put(key(1), entry(), Interrupting(handler))
    assert [decisions.get(key(name), 0.0) is not None for name in ("held", 1, "mine")] == [True, True, False]
    assert consistent(decisions)
    decisions.put(key(2), entry(), Interrupting(decisions.clear))
    assert len(decisions) == 0
    decisions.put(key(3), entry())
    assert len(decisions) == 1
    assert consistent(decisions)


def test_an_interrupt_in_the_middle_of_a_change_forgets_everything() -> None:
    """What is half done is never built upon."""
    decisions = DecisionCache()
    decisions.put(key(1), entry())

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decisions.put(key(2), entry(), Interrupting(interrupt))
    assert len(decisions) == 0
    decisions.put(key(3), entry())
    assert len(decisions) == 1
    assert consistent(decisions)


def test_a_fork_in_the_middle_of_a_change_forgets_everything() -> None:
    """A child begins anew with what the parent's thread left half done."""
    decisions = DecisionCache()
    decisions.put(key(1), entry())
    decisions._busy = -1
    decisions.put(key(2), entry())
    assert list(decisions.permits) == [key(2)]
    decisions._busy = -1
    decisions.clear()
    decisions.put(key(3), entry())
    assert list(decisions.permits) == [key(3)]
    assert consistent(decisions)


@pytest.mark.parametrize(
    ("now", "served"),
    [(100.0, True), (159.9, True), (160.0, True), (160.1, False), (170.0, False)],
)
def test_stale_decisions_have_an_age(now: float, served: bool) -> None:
    """A stale decision is served while its age, from the start of its question, allows."""
    store, held = StaleStore(), entry(expiry(100.0, None), started=100.0)
    store.put(key("k"), held)
    assert store.get(key("k"), now, 60.0) is (held if served else None)


def test_stale_decisions_respect_their_own_ttl() -> None:
    """What the decision point let live for less is served for less."""
    store, held = StaleStore(), entry(expiry(100.0, 5.0), started=100.0)
    store.put(key("k"), held)
    assert store.get(key("k"), 104.9, 60.0) is held
    assert store.get(key("k"), 105.0, 60.0) is None
    assert store.get(key("other"), 100.0, 60.0) is None


def test_the_stale_store_is_bounded() -> None:
    """The store of stale decisions forgets those not used for longest."""
    store = StaleStore(entries=2)
    for name in "ab":
        store.put(key(name), entry())
    store.get(key("a"), 0.0, 60.0)
    store.put(key("c"), entry())
    assert [store.get(key(name), 0.0, 60.0) is not None for name in "abc"] == [True, False, True]


def test_the_stale_store_is_bounded_in_bytes() -> None:
    """What alone is too much is not remembered, and what was is not lost for it."""
    store, held = StaleStore(bytes=10_000), entry()
    store.put(key(0), held)
    store.put(key(0), entry(decision=Decision(Effect.DENY, reasons=["x" * 10_000])))
    assert store.get(key(0), 0.0, 60.0) is held
    for number in range(1, 100):
        store.put(key(number), entry())
    assert 10 < sum(store.get(key(number), 0.0, 60.0) is not None for number in range(100)) < 20
    assert store.get(key(0), 0.0, 60.0) is None


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
