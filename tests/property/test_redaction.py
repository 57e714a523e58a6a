"""Redaction, over values of any shape: no canary gets through, and nothing that was given is changed."""

from __future__ import annotations

import dataclasses
import gc
import random
from collections import OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep.errors import ObligationError
from pep.model import AccessRequest, Obligation, Resource, Subject
from pep.obligations.redact import Redact
from pep.protocols import Call, Phase
from tests.proving import times

REQUEST = AccessRequest(Subject("user", "alice"), "read", Resource("document", "42"))
HANDLER = Redact(secret=b"0123456789abcdef")
CANARY = "canary-7261726172"
DEEPEST = 6

Trail = tuple[str, ...]


class Pair(NamedTuple):
    a: Any
    b: Any


@attrs.frozen
class Frozen:
    a: Any
    b: Any


@attrs.define(slots=False)
class Open:
    a: Any
    b: Any


@dataclasses.dataclass(frozen=True)
class Record:
    a: Any
    b: Any


@dataclasses.dataclass
class Slotted:
    __slots__ = ("a", "b")
    a: Any
    b: Any


class Plain:
    def __init__(self, a: Any, b: Any) -> None:
        self.a = a
        self.b = b


try:
    import pydantic

    class Model(pydantic.BaseModel):  # type: ignore[misc]
        a: Any
        b: Any

    MODELS: tuple[Callable[[Any, Any], Any], ...] = (lambda a, b: Model.model_construct(a=a, b=b),)
except ImportError:
    MODELS = ()

NAMED: tuple[Callable[[Any, Any], Any], ...] = (
    Pair,
    Frozen,
    Open,
    Record,
    Slotted,
    Plain,
    *MODELS,
    lambda a, b: {"a": a, "b": b},
    lambda a, b: OrderedDict(b=b, a=a),
    lambda a, b: defaultdict(list, a=a, b=b),
    lambda a, b: MappingProxyType({"a": a, "b": b}),
)
COUNTED: tuple[Callable[[Any, Any], Any], ...] = (lambda a, b: [a, b], lambda a, b: (a, b))


class Hiding:
    """Holds a canary as no other does."""

    def __init__(self, secret: str) -> None:
        self.secret = secret


def canary(rng: random.Random, held: list[Any]) -> Any:
    """Make a canary of some type; the object itself must not be had from what is let out."""
    text = f"{CANARY}-{len(held)}"
    made: Any = rng.choice(
        [
            lambda: text,
            lambda: text.encode(),
            lambda: 10**30 + len(held),
            lambda: Decimal(10**30 + len(held)),
            lambda: [text],
            lambda: {"a": {text}},
            lambda: (text, 1),
            lambda: Hiding(text),
            lambda: 1.5 + len(held),
        ]
    )()
    held.append(made)
    return made


def filler(rng: random.Random) -> Any:
    return rng.choice([lambda: None, lambda: rng.random(), lambda: "text", list, lambda: {"x": 1}, lambda: b""])()


def grown(rng: random.Random, depth: int, trail: Trail, held: list[Any], trails: list[Trail]) -> Any:
    """Grow a value with canaries in it, and note where each is."""
    if depth >= DEEPEST or (trail and rng.random() < 0.25):
        if rng.random() < 0.3:
            return filler(rng)
        trails.append(trail)
        return canary(rng, held)
    if rng.random() < 0.25:
        names, make = ("0", "1"), rng.choice(COUNTED)
    else:
        names, make = ("a", "b"), rng.choice(NAMED)
    return make(*[grown(rng, depth + 1, (*trail, name), held, trails) for name in names])


def reachable(value: Any) -> Iterator[Any]:
    """Everything that can be had from a value by any way, but for code."""
    seen: dict[int, Any] = {}
    left = [value]
    while left:
        here = left.pop()
        if id(here) in seen or isinstance(here, (type, ModuleType, FunctionType)):
            continue
        seen[id(here)] = here
        yield here
        left.extend(gc.get_referents(here))


def shape(value: Any) -> list[tuple[int, Any]]:
    """What a value is made of, by identity and by what each thing holds."""
    for one in reachable(value):
        # Python makes an object's dictionary when it is first asked for.
        getattr(one, "__dict__", None)
    return [(id(one), [id(held) for held in gc.get_referents(one)]) for one in reachable(value)]


def check(kind: str, rng: random.Random, held: list[Any], trails: list[Trail], value: Any) -> None:
    if not trails:
        return
    before = shape(value)
    obligation = Obligation(kind, {"fields": [list(trail) for trail in trails]})
    call = Call(REQUEST, {}, value, Phase.AFTER)
    if kind == "hash" and any(type(one) is Hiding for one in held):
        with pytest.raises(ObligationError, match="cannot be hashed"):
            HANDLER.discharge(obligation, call)
        assert shape(value) == before
        return
    result = HANDLER.discharge(obligation, call).result
    assert shape(value) == before
    let_out = list(reachable(result))
    assert not {id(one) for one in held} & {id(one) for one in let_out}
    assert not [one for one in let_out if type(one) is str and CANARY in one]
    assert len(let_out) > 0


KINDS = ["redact", "mask", "hash", "drop"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=times(50, 1000), deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_canary_gets_through(kind: str, rng: random.Random) -> None:
    """Wherever a canary is, and whatever it is, it is not to be had from what is let out; the original is as it was."""
    held: list[Any] = []
    trails: list[Trail] = []
    check(kind, rng, held, trails, grown(rng, 0, (), held, trails))


@pytest.mark.parametrize("kind", KINDS)
def test_500_canaries(kind: str) -> None:
    """Five hundred canaries at random depths and of random types: none gets through."""
    rng, seen, depths = random.Random(7261), 0, set()  # noqa: S311  a test
    while seen < 500:
        held: list[Any] = []
        trails: list[Trail] = []
        value = grown(rng, 0, (), held, trails)
        if kind == "hash" and any(type(one) is Hiding for one in held):
            continue
        check(kind, rng, held, trails, value)
        seen += len(held)
        depths |= {len(trail) for trail in trails}
    assert depths >= set(range(1, DEEPEST + 1))


UNKNOWN: tuple[Callable[[Any], Any], ...] = (
    lambda inner: iter([inner]),
    lambda inner: UserDict(a=inner, b=inner),
    lambda inner: deque([inner]),
    lambda inner: (one for one in [inner]),
    lambda inner: map(str, [inner]),
    lambda inner: type("Mapping", (dict,), {})(a=inner),
    lambda inner: type("Items", (list,), {})([inner]),
    lambda inner: type("Computed", (), {"a": property(lambda _self: inner)})(),
    lambda inner: type("Proxy", (), {"__getattribute__": lambda _self, _name: inner})(),
)


def wrapped(rng: random.Random, depth: int, inner: Any) -> tuple[Any, list[str]]:
    trail: list[str] = []
    for _level in range(depth):
        if rng.random() < 0.25:
            inner, name = rng.choice(COUNTED)(filler(rng), inner), "1"
        else:
            inner, name = rng.choice(NAMED)(filler(rng), inner), "b"
        trail.insert(0, name)
    return inner, trail


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=times(50, 1000), deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, DEEPEST), st.sampled_from(["a", "*", "0"]), st.booleans())
def test_what_cannot_be_looked_into_is_withheld(
    kind: str, rng: random.Random, depth: int, last: str, lenient: bool
) -> None:
    """A part inside something that may not be what it shows is never let out, at any depth, missing or not."""
    unknown = rng.choice(UNKNOWN)([CANARY])
    value, trail = wrapped(rng, depth, unknown)
    properties = {"fields": [[*trail, last]], "missing": "ignore" if lenient else "fail"}
    with pytest.raises(ObligationError):
        HANDLER.discharge(Obligation(kind, properties), Call(REQUEST, {}, value, Phase.AFTER))
