"""Generations against a model that is plainly right; and a cached answer against the answer itself."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pep import AccessDenied, Enforcer, Fault, Guarantee, Profile
from pep import generations as module
from pep.audit import MemorySink
from pep.cache import DecisionCache, Generations, Shapes
from pep.frozen import canonical
from pep.model import AccessRequest, Action, Decision, Effect, Resource, Subject
from tests.proving import times

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
    monkeypatch.setattr(module, "MAX_FLOORS", bound)
    machine = GenerationsMachine.TestCase()
    machine.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
    machine.runTest()


# --- a hit equals a miss -------------------------------------------------------------------------------------

#: What only types, separators and places tell apart.
VALUES: Final = [
    1,
    True,
    1.0,
    "1",
    0,
    False,
    0.0,
    -0.0,
    "",
    None,
    [1],
    [True],
    [[1]],
    {"a": 1},
    {"a": 1.0},
    {},
    [],
    "a",
]

#: Every part of a request -> what it is unless it is changed, and what it may be changed to.
PARTS: Final[dict[str, tuple[Any, list[Any]]]] = {
    "type": ("a", ["b", "ab"]),
    "id": ("b", ["a", "", "bb", "a\nb", 'a","b', "1", "True", "é", "e\u0301", "\x00"]),
    "subject": ({}, [{"a": value} for value in VALUES]),
    "action": ("a", ["b", "a:b"]),
    "how": ({}, [{"a": 1}, {"a": True}, {"b": 1}]),
    "kind": ("a", ["b", "ab"]),
    "name": ("b", [None, "None", "null", "a", "bb", "a\nb", 'a","b', "1", "True", 'k["a","b",{"a":1}]']),
    "resource": ({}, [{"a": value} for value in VALUES]),
    "context": ({}, [{"a": value} for value in VALUES]),
    "actors": ([], [["x"], ["y"], ["x", "y"], ["y", "x"], ["x", "x"], ["z"]]),
    "tenant": (None, ["a", "b", "null", "None"]),
}
ACTORS: Final = {"x": Subject("a", "b"), "y": Subject("b", "a"), "z": Subject("a", "b", {"a": 1})}


def drawn(chance: random.Random) -> AccessRequest:
    """One request, of those that differ from one another in so little that they may be mistaken."""
    changed = chance.sample(list(PARTS), chance.choice([0, 1, 1, 2]))
    part = {name: chance.choice(others) if name in changed else usual for name, (usual, others) in PARTS.items()}
    kind, name, properties = part["kind"], part["name"], part["resource"]
    return AccessRequest(
        Subject(part["type"], part["id"] or "ab", part["subject"]),
        Action(part["action"], part["how"]),
        Resource.new(kind, properties) if name is None else Resource(kind, name, properties),
        part["context"],
        [ACTORS[who] for who in part["actors"]],
        part["tenant"],
    )


def spelled(value: Any) -> str:
    """A value and its type, by other means than the library's."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{spelled(key)}={spelled(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(spelled, value)) + "]"
    return f"{type(value).__name__}:{value!r}"


def told(request: AccessRequest) -> str:
    who = [[one.type, one.id, one.properties] for one in (request.subject, *request.actors)]
    what = [request.resource.type, request.resource.id, request.resource.properties]
    return spelled([who, request.action.name, request.action.properties, what, request.context, request.tenant])


class Telling:
    """A decision point whose answer tells the whole question; all of them go by one name."""

    name = "telling"
    pure = True

    def __init__(self, tag: str) -> None:
        self._tag = tag

    def decide(self, request: AccessRequest) -> Decision:
        text = f"{self._tag} {told(request)}"
        return Decision(Effect.PERMIT if len(text) % 3 else Effect.DENY, reasons=[text])


class Forgetting:
    """A sink that has taken everything and kept nothing."""

    guarantee = Guarantee.DURABLE

    def record(self, _record: Any) -> None:
        pass


def diverge(tries: int, *, shared: bool = False) -> int:
    """Ask cached and uncached about the same, two decision points of one name; return how many were hits."""
    cache, chance, hits = DecisionCache(), random.Random(7), 0  # noqa: S311  not for secrets
    pdps = [Telling("first"), Telling("second")]
    never = {"**": Profile(permit_ttl=0, deny_ttl=0)}
    cached = [Enforcer(pdp, audit=Forgetting(), cache=cache) for pdp in pdps]
    uncached = [Enforcer(pdp, audit=Forgetting(), profiles=never) for pdp in pdps]
    if shared:
        cached[1]._core.wiring().shapes = cached[0]._core.wiring().shapes
    for _try in range(tries):
        request, which = drawn(chance), chance.random() < 0.5
        hit, miss = cached[which].check(request), uncached[which].check(request)
        assert (hit.outcome, hit.decision, hit.fault) == (miss.outcome, miss.decision, miss.fault)
        assert not miss.cached
        hits += hit.cached
    return hits


def test_a_hit_equals_a_miss() -> None:
    """Whatever could be taken for another question is not; neither is another decision point of the same name."""
    tries = times(3_000, 100_000)
    assert diverge(tries) > tries / 4


def key_without(part: str) -> Callable[[Shapes, AccessRequest], Any]:
    def key(_shapes: Shapes, request: AccessRequest) -> Any:
        resource, action = request.resource, request.action
        parts = {
            "shapes": id(_shapes),
            "action": action.name,
            "action properties": canonical(action.properties),
            "type": resource.type,
            "id": str(resource.id),
            "new": resource.is_new,
            "resource properties": canonical(resource.properties),
            "who": request.who,
        }
        if part == "text or bytes":
            what = resource.key.decode() if resource.properties or resource.is_new else resource.id
            return _shapes.shape(action, resource.type), request.who, what
        left = tuple(value for name, value in parts.items() if name != part)
        return "shape", b"", repr(left)

    return key


def who_without(part: str) -> Callable[..., bytes]:
    def who(subject: Subject, context: Any, tenant: str | None, actors: tuple[Subject, ...]) -> bytes:
        if part == "separators":
            return f"{subject.type}{subject.id}{dict(subject.properties)}{context}{tenant}{actors}".encode()
        parts = {
            "subject type": subject.type,
            "subject id": subject.id,
            "subject properties": subject.properties,
            "context": context,
            "tenant": tenant,
            "actors": [actor.key for actor in actors],
        }
        if part == "actor order":
            parts["actors"] = sorted(actor.key for actor in actors)
        if part == "actor properties":
            parts["actors"] = [(actor.type, actor.id) for actor in actors]
        if part == "numbers":
            return repr({name: loosely(value) for name, value in parts.items()}).encode()
        if part == "quotes":
            return str({name: str(loosely(value, str)) for name, value in parts.items()}).encode()
        return repr([spelled(value) for name, value in parts.items() if name != part]).encode()

    return who


def loosely(value: Any, kind: Callable[[Any], Any] = float) -> Any:
    """A value as Python compares it: 1 is True and 1.0; or as it is written."""
    if isinstance(value, dict):
        return {key: loosely(one, kind) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [loosely(one, kind) for one in value]
    if kind is str:
        return str(value)
    return kind(value) if isinstance(value, (bool, int, float)) else value


KEYS: Final = [
    "shapes",
    "action",
    "action properties",
    "type",
    "id",
    "new",
    "resource properties",
    "who",
    "text or bytes",
]
WHO: Final = [
    *("subject type", "subject id", "subject properties", "context", "tenant", "actors", "actor order"),
    *("actor properties", "numbers", "quotes", "separators"),
]


@pytest.mark.parametrize("part", KEYS)
def test_no_part_of_the_key_can_be_spared(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Without it somebody gets another request's answer."""
    monkeypatch.setattr(Shapes, "key", key_without(part))
    with pytest.raises(AssertionError):
        diverge(6_000)


@pytest.mark.parametrize("part", WHO)
def test_no_part_of_who_asks_can_be_spared(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Without it somebody gets another one's answer."""
    monkeypatch.setattr("pep.model.who_key", who_without(part))
    with pytest.raises(AssertionError):
        diverge(6_000)


def test_the_mutants_differ_from_a_sound_key_by_that_part_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every part, keys made as the mutants make them tell everything apart."""
    monkeypatch.setattr(Shapes, "key", key_without("nothing"))
    monkeypatch.setattr("pep.model.who_key", who_without("nothing"))
    assert diverge(1_000) > 200


def test_a_decision_point_s_identity_is_part_of_the_key() -> None:
    """Its name is not enough."""
    with pytest.raises(AssertionError):
        diverge(6_000, shared=True)


# --- what has no key -----------------------------------------------------------------------------------------


class Lying:
    """Equal to everything, of any hash."""

    def __eq__(self, _other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("a")


class Raising:
    """Refuses to be compared, hashed, shown or iterated."""

    def __eq__(self, _other: object) -> bool:
        raise ValueError

    def __hash__(self) -> int:
        raise ValueError

    def __repr__(self) -> str:
        raise ValueError

    def __iter__(self) -> Any:
        raise ValueError


class Text(str):
    """Text that is equal to all other text."""

    __slots__ = ()

    def __eq__(self, _other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("a")


def nested() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


HOSTILE: Final = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "wide": 2**64,
    "set": {1},
    "lying": Lying(),
    "raising": Raising(),
    "text": Text("b"),
    "surrogate": "\ud800",
    "endless": nested(),
    "megabyte": "x" * 2**20,
    "many": [0] * 2**20,
    "lying key": {Lying(): 1},
    "object": object(),
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("place", ["resource", "id", "context", "subject"])
def test_what_has_no_canonical_form_gets_nobody_s_answer(place: str, value: Any) -> None:
    """It cannot become part of a request: the call is denied, nothing is asked, and nothing is cached."""
    asked: list[AccessRequest] = []
    enforcer = Enforcer(lambda request: asked.append(request) is None, audit=MemorySink(), profiles=ALWAYS)

    def resource(given: Any) -> Resource:
        inner = {"resource": {"a": given}}.get(place, {})
        return Resource("document", given if place == "id" else "1", inner)

    @enforcer.guard(
        "read",
        resource=resource,
        context=lambda given: {"a": given} if place == "context" else {},
        subject=lambda given: Subject("user", "a", {"a": given} if place == "subject" else {}),
    )
    def read(given: Any) -> None:
        message = "this never runs"
        raise AssertionError(message)

    for _again in range(2):
        with pytest.raises(AccessDenied) as denied:
            read(value)
        assert denied.value.fault is Fault.EXTRACTION
    assert asked == []
    assert enforcer.stats()["cached"] == 0


ALWAYS: Final = {"**": Profile(permit_ttl=60)}
