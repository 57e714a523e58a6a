"""An enforcer's cache on a clock that is moved, beside a dict that is plainly right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pep import Decision, Effect, Enforcer, Profile, Resource, Subject
from pep.cache import DecisionCache, Entry, Generations
from pep.model import AccessRequest
from pep.testing import FakeClock
from tests.property.test_cache import Forgetting
from tests.proving import times

SUBJECTS: Final = [Subject("user", "a"), Subject("agent", "a")]
RESOURCES: Final = [Resource("doc", "a"), Resource.new("doc")]
ACTIONS: Final = ["read"]
QUESTIONS: Final = [(who, action, what) for who in SUBJECTS for action in ACTIONS for what in RESOURCES]
PERMIT_TTL, DENY_TTL = 10.0, 4.0

Question = tuple[Subject, str, Resource]


def touching(part: str, question: Question) -> tuple[Any, ...]:
    """What revokes a question, by the words of the design."""
    who, action, what = question
    return {
        "subject": (who, who.type),
        "resource": (what, what.type),
        "action": (action, f"{what.type}:{action}"),
    }[part]


class EnforcerMachine(RuleBasedStateMachine):
    """Policies change, time passes, things are revoked; a check is what the model says, and a hit when it says so."""

    @initialize()
    def start(self) -> None:
        self.clock = FakeClock()
        self.denied: set[Question] = set()
        self.ttl: float | None = None
        self.enforcer = Enforcer(
            self.decide,
            audit=Forgetting(),
            clock=self.clock,
            profiles={"**": Profile(permit_ttl=PERMIT_TTL, deny_ttl=DENY_TTL)},
        )
        #: Question -> whether it was permitted, and until when that may be told again.
        self.model: dict[Question, tuple[bool, float]] = {}
        self.last = QUESTIONS[0]

    def decide(self, request: AccessRequest) -> Decision:
        question = request.subject, request.action.name, request.resource
        return Decision(Effect.DENY if question in self.denied else Effect.PERMIT, ttl=self.ttl)

    @rule(question=st.sampled_from(QUESTIONS), ttl=st.sampled_from([None, None, 0.0, 2.0, 100.0]))
    def check(self, question: Question, ttl: float | None) -> None:
        self.compare(question, ttl)

    def compare(self, question: Question, ttl: float | None) -> None:
        who, action, what = self.last = question
        self.ttl = ttl
        verdict = self.enforcer.check(action, what, subject=who)
        now = self.clock.boottime()
        known = self.model.get(question)
        if known is not None and now < known[1]:
            assert (verdict.allowed, verdict.cached) == (known[0], True)
            return
        allowed = question not in self.denied
        assert (verdict.allowed, verdict.cached) == (allowed, False)
        own = PERMIT_TTL if allowed else DENY_TTL
        self.model.pop(question, None)
        if ttl != 0:
            self.model[question] = allowed, now + (own if ttl is None else min(own, ttl))

    @rule(seconds=st.sampled_from([0.0, 0.5, 4.0, 9.0]))
    def check_again(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.compare(self.last, None)

    @rule(questions=st.sets(st.sampled_from(QUESTIONS)))
    def change(self, questions: set[Question]) -> None:
        self.denied = questions

    @rule(seconds=st.sampled_from([0.5, 2.0, 4.0, 10.0]), asleep=st.booleans())
    def wait(self, seconds: float, asleep: bool) -> None:
        (self.clock.suspend if asleep else self.clock.advance)(seconds)

    @rule(
        floor=st.sampled_from(
            [
                *(("subject", who) for who in (*SUBJECTS, "user", "agent")),
                *(("resource", what) for what in (RESOURCES[0], "doc", "file")),
                *(("action", action) for action in ("read", "doc:read", "file:read")),
            ]
        )
    )
    def revoke(self, floor: tuple[str, Any]) -> None:
        part, value = floor
        self.enforcer.invalidate(**{part: value})
        self.drop(lambda question: value in touching(part, question))

    @rule()
    def revoke_all(self) -> None:
        self.enforcer.invalidate_all()
        self.model.clear()

    @rule()
    def swap(self) -> None:
        self.enforcer._core.wiring().generations.swap()
        self.model.clear()

    def drop(self, touched: Callable[[Question], bool]) -> None:
        for question in [one for one in self.model if touched(one)]:
            del self.model[question]

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        stats = self.enforcer.stats()
        assert stats["evictions"] == 0
        assert stats["cached"] >= sum(self.clock.boottime() < expires for _, expires in self.model.values())


def run(machine: type[RuleBasedStateMachine], examples: int, phases: Any = tuple(Phase)) -> None:
    case: Any = machine.TestCase()
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    case.runTest()


def test_an_enforcer_is_a_dict_with_an_end_and_a_memory_for_revocations() -> None:
    """What is answered from the cache is what was answered last, until it expires or is taken back."""
    run(EnforcerMachine, times(60, 2_000))


BUGS: Final[dict[str, tuple[Any, str, Any]]] = {
    "no check at lookup": (Generations, "holds", lambda *_: True),
    "floors are not compared": (Generations, "untouched", lambda *_: True),
    "every floor is compared with the last epoch": (Generations, "untouched", lambda *_: False),
    "types are not floors": (
        Generations,
        "revoke",
        lambda self, floor, revoke=Generations.revoke: revoke(self, (*floor, "")[:3]),
    ),
    "expiry is not looked at": (DecisionCache, "get", lambda self, key, *_, **__: self.permits.get(key)),
    "entries slide": (
        DecisionCache,
        "get",
        lambda self, key, now, get=DecisionCache.get, **again: slid(get(self, key, now, **again), now),
    ),
}


def slid(entry: Entry | None, now: float) -> Entry | None:
    if entry is not None:
        entry.expires += now - entry.started
        entry.started = now
    return entry


@pytest.mark.parametrize("bug", BUGS)
def test_the_model_notices(monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """Each of these mistakes is seen."""
    owner, name, mistaken = BUGS[bug]
    monkeypatch.setattr(owner, name, mistaken)
    with pytest.raises(AssertionError):
        run(EnforcerMachine, 200, (Phase.generate,))


class CacheMachine(RuleBasedStateMachine):
    """A cache beside a list of what was put, in order."""

    @initialize(bound=st.integers(1, 4))
    def start(self, bound: int) -> None:
        self.bound, self.now = bound, 0.0
        self.cache = DecisionCache(entries=bound)
        #: Key -> entry and holder, the oldest first.
        self.model: dict[Any, tuple[Entry, int]] = {}

    @rule(
        name=st.sampled_from("abcde"),
        ttl=st.sampled_from([1.0, 5.0]),
        effect=st.sampled_from([Effect.PERMIT, Effect.DENY]),
        holder=st.integers(0, 4),
        late=st.sampled_from([0.0, 0.0, 0.5]),
    )
    def put(self, name: str, ttl: float, effect: Effect, holder: int, late: float) -> None:
        key, started = ("shape", b"who", name), self.now - late
        entry = Entry(Decision(effect), started, started + ttl, 0)
        self.cache.put(key, entry, holder)
        known = self.model.get(key)
        if known is not None and known[0].started > started:
            return
        self.model.pop(key, None)
        self.model[key] = entry, holder
        mine = [one for one, (_, whose) in self.model.items() if whose == holder]
        for one in mine[:-1]:
            del self.model[one]
        while len(self.model) > self.bound:
            del self.model[next(iter(self.model))]

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=st.sampled_from("abcde"))
    def refuse(self, name: str) -> None:
        known = self.model.pop(("shape", b"who", name), None)
        if known is not None:
            self.cache.refuse(known[0])

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.model.clear()

    @invariant()
    def the_same_as_the_model(self) -> None:
        for name in "abcde":
            key = ("shape", b"who", name)
            expected = self.model.get(key)
            found = self.cache.get(key, self.now)
            if found is not None:
                # What had expired may have left earlier, and left room for others.
                assert found.expires > self.now
            if expected is not None and self.now < expected[0].expires:
                assert found is expected[0]
        assert len(self.cache) <= self.bound


def test_a_cache_is_a_bounded_dict_with_an_end() -> None:
    """A cache returns what was asked last, until it expires or is the oldest of too many, or of one holder's."""
    run(CacheMachine, times(100, 5_000))
