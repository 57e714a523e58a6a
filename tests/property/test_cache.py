"""Generations and the decision cache, each against a model that is plainly right."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pep import cache
from pep.cache import DecisionCache, Entry, Generations
from pep.model import AccessRequest, Decision, Effect, Resource, Subject

SUBJECTS = [Subject(kind, name) for kind in ("user", "agent") for name in ("a", "b")]
RESOURCES = [Resource("doc", "a"), Resource("doc", "b"), Resource.new("doc"), Resource("user", "a")]
REQUESTS = [
    AccessRequest(who, action, what, actors=actors)
    for who, action, what, actors in itertools.product(SUBJECTS, ["read", "doc:read"], RESOURCES, [(), (SUBJECTS[3],)])
]
NAMED = {"subject": SUBJECTS, "resource": RESOURCES}
FLOORS = [
    *{(part, one.type): None for part, entities in NAMED.items() for one in entities},
    *{(part, one.type, one.id): None for part, entities in NAMED.items() for one in entities if one.id is not None},
    ("action", "read"),
    ("action", "doc:read"),
    ("action", "user:read"),
]


def touches(floor: tuple[str, ...], request: AccessRequest) -> bool:
    """Whether a floor is about a request, by the words of the design."""
    part, *name = floor
    if part == "action":
        return name[0] in {request.action.name, request.qualified_action}
    entities = [request.subject, *request.actors] if part == "subject" else [request.resource]
    return any(name in ([one.type], [one.type, one.id]) for one in entities)


class GenerationsMachine(RuleBasedStateMachine):
    """Decisions are taken and revoked in any order; the model remembers each with all that touched it."""

    @initialize()
    def start(self) -> None:
        self.generations = Generations()
        #: Every decision taken: its request, its epoch, and whether something dropped it since.
        self.taken: list[list[Any]] = []
        self.revoked: set[int] = set()
        self.swapped = False

    @rule(at=st.sampled_from(range(len(REQUESTS))))
    def decide(self, at: int) -> None:
        self.taken.append([at, self.generations.epoch, False])

    @rule(floor=st.sampled_from(FLOORS))
    def revoke(self, floor: tuple[str, ...]) -> None:
        self.generations.revoke(floor)
        touched = {at for at, request in enumerate(REQUESTS) if touches(floor, request)}
        self.drop(touched)
        self.revoked |= touched

    @rule()
    def revoke_all(self) -> None:
        self.generations.revoke_all()
        self.drop(set(range(len(REQUESTS))))
        self.revoked = set(range(len(REQUESTS)))

    @rule()
    def swap(self) -> None:
        self.generations.swap()
        self.drop(set(range(len(REQUESTS))))

    def drop(self, touched: set[int]) -> None:
        for one in self.taken:
            one[2] = one[2] or one[0] in touched

    @invariant()
    def never_less_than_asked(self) -> None:
        for at, epoch, dropped in self.taken:
            holds = self.generations.holds(REQUESTS[at], epoch)
            assert not (dropped and holds)
            assert dropped or holds or self.collapsed
        for at, request in enumerate(REQUESTS):
            suppressed = self.generations.revoked(request)
            assert suppressed or at not in self.revoked
            assert not suppressed or at in self.revoked or self.collapsed

    @property
    def collapsed(self) -> bool:
        """Whether the floors became one over everything, which may drop more than was asked."""
        return self.generations._everything_revoked


@pytest.mark.parametrize("bound", [1, 2, 10_000])
def test_generations_never_drop_less(monkeypatch: pytest.MonkeyPatch, bound: int) -> None:
    """What was revoked never holds again; what was not goes on holding, unless the floors collapsed."""
    monkeypatch.setattr(cache, "MAX_FLOORS", bound)
    machine = GenerationsMachine.TestCase()
    machine.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
    machine.runTest()


class CacheMachine(RuleBasedStateMachine):
    """A cache beside a list of what was put, in order."""

    @initialize(bound=st.integers(1, 4))
    def start(self, bound: int) -> None:
        self.bound, self.now = bound, 0.0
        self.cache = DecisionCache(entries=bound)
        self.model: dict[bytes, Entry] = {}

    @rule(key=st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), ttl=st.sampled_from([0.0, 1.0, 5.0]))
    def put(self, key: bytes, ttl: float) -> None:
        entry = Entry(Decision(Effect.PERMIT), self.now, self.now + ttl, 0)
        self.cache.put(key, entry)
        self.model[key] = entry
        while len(self.model) > self.bound:
            del self.model[next(iter(self.model))]

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: len(self.model) > 1)
    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.model.clear()

    @invariant()
    def the_same_as_the_model(self) -> None:
        for key in (b"a", b"b", b"c", b"d", b"e"):
            expected = self.model.get(key)
            fresh = expected if expected is not None and self.now < expected.expires else None
            assert self.cache.get(key, self.now) is fresh
        assert len(self.cache) == len(self.model) <= self.bound


def test_a_cache_is_a_bounded_dict_with_an_end() -> None:
    """A cache returns what was put last, until it expires or is the oldest of too many."""
    machine = CacheMachine.TestCase()
    machine.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
    machine.runTest()
