from __future__ import annotations

import dataclasses
import functools
import threading
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import attrs
import pytest

from pep.frozen import FrozenDict
from pep.obligations.paths import Path
from pep.obligations.rewriting import GONE, Unfit, compile_paths, rewrite


def star(_value: Any) -> Any:
    return "*"


def gone(_value: Any) -> Any:
    return GONE


def rewritten(value: Any, *paths: str, edit: Callable[[Any], Any] = star, optional: bool = False) -> Any:
    return rewrite(value, compile_paths([Path.parse(path) for path in paths]), edit, optional=optional)


class Field(Enum):
    SECRET = "secret"


class TextField(str, Enum):
    SECRET = "secret"


class Point(NamedTuple):
    secret: int
    other: int


PLAIN: list[tuple[Any, tuple[str, ...], Any]] = [
    ({"secret": 1, "other": 2}, ("secret",), {"secret": "*", "other": 2}),
    ({"a": {"b": {"c": 1, "d": 2}}}, ("a.b.c",), {"a": {"b": {"c": "*", "d": 2}}}),
    ({"a": [{"s": 1}, {"s": 2}]}, ("a.*.s",), {"a": [{"s": "*"}, {"s": "*"}]}),
    ({"a": 1, "b": 2}, ("*",), {"a": "*", "b": "*"}),
    (
        {"a": {"s": 1, "t": 1}, "b": {"s": 2, "t": 2}},
        ("*.s", "a.t"),
        {"a": {"s": "*", "t": "*"}, "b": {"s": "*", "t": 2}},
    ),
    ([1, 2, 3], ("1",), [1, "*", 3]),
    ([{"s": 1, "t": 1}, {"s": 2, "t": 2}], ("*.s", "1.t"), [{"s": "*", "t": 1}, {"s": "*", "t": "*"}]),
    ((1, (2, 3)), ("1.0",), (1, ("*", 3))),
    ({1, 2}, ("*",), {"*"}),
    (frozenset({(1, 2)}), ("*.1",), frozenset({(1, "*")})),
    (Point(1, 2), ("secret",), Point("*", 2)),
    (Point(1, 2), ("*",), Point("*", "*")),
    (OrderedDict(b=1, a=2), ("b",), OrderedDict(b="*", a=2)),
    (defaultdict(list, a=[1]), ("a.0",), defaultdict(list, a=["*"])),
    (FrozenDict({"a": [1]}), ("a.0",), FrozenDict({"a": ["*"]})),
    ({1: "a", "1": "b", 2: "c"}, ("1",), {1: "*", "1": "*", 2: "c"}),
    ({Field.SECRET: 1, TextField.SECRET: 2}, ("secret",), {Field.SECRET: "*", TextField.SECRET: "*"}),
    ({b"x": 1, (1, 2): 2}, ("*",), {b"x": "*", (1, 2): "*"}),
    ("text", (".",), "*"),
    (iter(()), (".",), "*"),
    ([], ("*",), []),
    ({}, ("*.a",), {}),
]


@pytest.mark.parametrize(("value", "paths", "expected"), PLAIN)
def test_parts_are_rewritten(value: Any, paths: tuple[str, ...], expected: Any) -> None:
    """Every part a path leads to is rewritten, every other is as it was, and the type of what holds it stays."""
    result = rewritten(value, *paths)
    assert result == expected
    assert type(result) is type(expected)
    if isinstance(value, Mapping):
        assert list(result) == list(value)


def test_a_read_only_mapping_stays_one() -> None:
    """A proxy of a dict becomes a proxy of another."""
    inner = {"a": 1}
    result = rewritten(MappingProxyType(inner), "a")
    assert (type(result), dict(result), inner) == (MappingProxyType, {"a": "*"}, {"a": 1})
    with pytest.raises(Unfit, match="leads into a `mappingproxy`"):
        rewritten(MappingProxyType(UserDict(a=1)), "a")


@pytest.mark.parametrize("factory", [lambda: {"a": 1}, lambda: defaultdict(list, a=1)])
def test_a_default_stays(factory: Callable[[], Any]) -> None:
    """What makes a mapping's missing items is kept; it does not make up parts."""
    with pytest.raises(Unfit, match="not there"):
        rewritten(factory(), "b")
    assert getattr(rewritten(factory(), "a"), "default_factory", None) is getattr(factory(), "default_factory", None)


TAKEN_OUT: list[tuple[Any, tuple[str, ...], Any]] = [
    ({"a": 1, "b": 2}, ("a",), {"b": 2}),
    ({"a": 1, "b": 2}, ("*",), {}),
    ([1, 2, 3, 4], ("1", "3"), [1, 3]),
    ([1, 2], ("*",), []),
    ((1, 2), ("0",), (2,)),
    ({1, 2}, ("*",), set()),
    ([{"a": 1}, {"a": 2, "b": 3}], ("*.a",), [{}, {"b": 3}]),
    (Point(1, 2), ("secret",), Point(None, 2)),
    ({"a": 1}, (".",), None),
]


@pytest.mark.parametrize(("value", "paths", "expected"), TAKEN_OUT)
def test_parts_are_taken_out(value: Any, paths: tuple[str, ...], expected: Any) -> None:
    """A part is taken out of what can do without it; all positions are those of the original."""
    result = rewritten(value, *paths, edit=gone)
    assert result == expected
    assert type(result) is type(expected)


@attrs.frozen
class Frozen:
    secret: Any
    other: Any = 2


@attrs.define(slots=False)
class Open:
    secret: Any
    other: Any = 2


@dataclasses.dataclass(frozen=True)
class Record:
    secret: Any
    other: Any = 2


@dataclasses.dataclass
class Slotted:
    __slots__ = ("other", "secret")
    secret: Any
    other: Any


class Plain:
    def __init__(self, secret: Any, other: Any = 2) -> None:
        self.secret = secret
        self.other = other


class Mixed(Slotted):
    """With slots of its base, and a dictionary of its own."""

    def __init__(self, secret: Any, other: Any = 2) -> None:
        super().__init__(secret, other)
        self.more = 3


MAKERS = [
    Frozen,
    Open,
    Record,
    lambda secret: Slotted(secret, 2),
    lambda secret: Again(secret, 2),
    Plain,
    Mixed,
    lambda secret: Bare(secret),
]


class Again(Slotted):
    """With a slot that its base has, too."""

    __slots__ = ("secret",)


class Bare:
    other = 2

    def __init__(self, secret: Any) -> None:
        self.secret = secret


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("edit", [star, gone])
def test_objects_of_fields_are_copied(make: Callable[[Any], Any], edit: Callable[[Any], Any]) -> None:
    """An object, frozen or with slots, is copied with a field changed; it loses none."""
    original = make(1)
    result = rewritten(original, "secret", edit=edit)
    assert type(result) is type(original)
    assert result is not original
    assert (result.secret, result.other) == ("*" if edit is star else None, 2)
    assert (original.secret, original.other) == (1, 2)
    assert getattr(result, "more", 3) == 3


@pytest.mark.parametrize("make", MAKERS[:-1])
def test_every_field_of_an_object(make: Callable[[Any], Any]) -> None:
    """Every field is each one it holds."""
    result = rewritten([make([1])], "0.*")
    assert (result[0].secret, result[0].other) == ("*", "*")


def test_a_field_without_a_value_stays_without() -> None:
    """A slot that was never filled is neither a part nor made up."""
    original = Slotted(1, 2)
    del original.other
    result = rewritten(original, "secret")
    assert (result.secret, hasattr(result, "other")) == ("*", False)
    assert rewritten(original, "*").secret == "*"
    with pytest.raises(Unfit, match="no such field"):
        rewritten(original, "other")


def test_pydantic_models_are_copied() -> None:
    """Fields and extra ones of a model are rewritten; what is machinery is no field, and not shared."""
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        model_config = pydantic.ConfigDict(extra="allow", frozen=True)
        secret: Any = 1
        inner: Any = None
        _private: int = pydantic.PrivateAttr(5)

        @pydantic.computed_field  # type: ignore[prop-decorator]
        @property
        def derived(self) -> str:
            return f"from {self.secret}"

    original = Model(secret=1, inner={"secret": 2}, more=3)
    result = rewritten(original, "secret", "inner.secret", "more")
    assert result.model_dump() == {"secret": "*", "inner": {"secret": "*"}, "more": "*", "derived": "from *"}
    assert original.model_dump() == {"secret": 1, "inner": {"secret": 2}, "more": 3, "derived": "from 1"}
    assert (type(result), result._private) == (Model, 5)
    assert result.__pydantic_fields_set__ is not original.__pydantic_fields_set__
    assert rewritten(original, "*").model_dump() == {"secret": "*", "inner": "*", "more": "*", "derived": "from *"}
    for name in ("derived", "_private", "absent"):
        with pytest.raises(Unfit, match="leads into a `Model`"):
            rewritten(original, name, optional=True)


@pytest.mark.filterwarnings("ignore::Warning")
def test_old_pydantic_models_are_copied() -> None:
    """A model of the first version is an object of fields, too."""
    v1 = pytest.importorskip("pydantic.v1")

    class Model(v1.BaseModel):  # type: ignore[misc, name-defined]
        secret: Any
        other: int = 2

    original = Model(secret=1)
    assert rewritten(original, "secret").dict() == {"secret": "*", "other": 2}
    assert original.dict() == {"secret": 1, "other": 2}


def test_what_was_remembered_is_forgotten() -> None:
    """A copy does not remember what was computed from the part that was rewritten."""

    class Cached:
        def __init__(self) -> None:
            self.secret = 1

        @functools.cached_property
        def label(self) -> str:
            return f"from {self.secret}"

    @attrs.frozen(cache_hash=True)
    class SlottedCache:
        secret: Any

        @functools.cached_property
        def label(self) -> str:
            return f"from {self.secret}"

    for original in (Cached(), SlottedCache(1)):
        assert original.label == "from 1"
        hash(original)
        for path in ("secret", "*"):
            result = rewritten(original, path)
            assert (result.label, result.secret) == ("from *", "*")
            assert hash(result) != hash(original)
        with pytest.raises(Unfit):
            rewritten(original, "label")


def gives() -> Iterator[dict[str, int]]:
    yield {"secret": 1}


class Liar(dict[str, Any]):
    def __getitem__(self, key: str) -> Any:
        return "canary"


class Indexed:
    secret = 1

    def __getitem__(self, key: str) -> Any:
        return "canary"


class Computed:
    @property
    def secret(self) -> str:
        return "canary"


class Lazy:
    """An attribute as object-relational mappers have them."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        return "canary" if instance is not None else self

    def __set__(self, instance: Any, value: Any) -> None:
        raise AssertionError


class Mapped:
    secret = Lazy()

    def __init__(self) -> None:
        self.__dict__["secret"] = 1
        self.other = 2


class Holder:
    """A property of the class stands before what the instance holds."""

    @property
    def secret(self) -> str:
        return "canary"

    def __init__(self) -> None:
        self.__dict__["secret"] = 1


class Unloaded:
    secret = Lazy()


class Proxy:
    def __init__(self) -> None:
        self.secret = 1

    def __getattribute__(self, name: str) -> Any:
        return "canary"


class Closing:
    def __init__(self) -> None:
        self.secret = 1

    def __del__(self) -> None:
        """Ends what the original still uses."""


class Disguised:
    secret = 1

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {"secret": "canary"}


class Stateful(namedtuple("Stateful", "secret")):  # noqa: PYI024, SLOT002  it is to hold more
    """A named tuple that holds more than its items."""


def stateful() -> Stateful:
    value = Stateful(1)
    value.more = "canary"  # type: ignore[attr-defined]
    return value


UNKNOWN: list[Callable[[], Any]] = [
    gives,
    lambda: iter([1]),
    lambda: map(str, []),
    lambda: range(3),
    lambda: deque([1]),
    lambda: UserDict(secret=1),
    lambda: Liar(secret=1),
    lambda: Counter(secret=1),
    lambda: memoryview(b"secret"),
    lambda: object(),
    lambda: threading.Lock(),
    lambda: threading.local(),
    lambda: ValueError("secret"),
    lambda: Field,
    lambda: Field.SECRET,
    lambda: threading,
    lambda: gives,
    lambda: SimpleNamespace(secret=1),
    Indexed,
    Mapped,
    Proxy,
    Closing,
    Disguised,
    stateful,
    lambda: "text",
    lambda: 7,
    lambda: b"bytes",
]


@pytest.mark.parametrize("make", UNKNOWN)
@pytest.mark.parametrize("path", ["secret", "*", "*.secret", "0", "1.secret"])
@pytest.mark.parametrize("optional", [False, True])
def test_what_cannot_be_looked_into_is_refused(make: Callable[[], Any], path: str, optional: bool) -> None:
    """Whatever may be something else than it shows, anywhere on the way, is withheld, optional or not."""
    for held, full in (
        (make(), path),
        ([make()], f"0.{path}"),
        ({"a": make()}, f"*.{path}"),
        (Plain(make()), f"secret.{path}"),
    ):
        with pytest.raises(Unfit, match=r"^leads (into|to) a"):
            rewritten(held, full, optional=optional)


@pytest.mark.parametrize("make", [Computed, Unloaded, Holder])
def test_what_is_not_held_is_no_field(make: Callable[[], Any]) -> None:
    """What an object computes, or has not loaded, is no field that could be rewritten."""
    with pytest.raises(Unfit, match="no such field"):
        rewritten(make(), "secret")


class HalfLoaded(Unloaded):
    def __init__(self) -> None:
        self.other = 2


@pytest.mark.parametrize("make", [Unloaded, HalfLoaded])
def test_a_lazy_attribute_is_not_every_field(make: Callable[[], Any]) -> None:
    """Where a class may load more than it holds, nobody can say what every field is."""
    with pytest.raises(Unfit):
        rewritten(make(), "*")
    with pytest.raises(Unfit):
        rewritten(make(), "secret", optional=True)


def test_class_attributes_are_no_fields() -> None:
    """What a class holds for all instances is no field of one."""
    with pytest.raises(Unfit, match="no such field"):
        rewritten(Bare(1), "other")
    assert not hasattr(rewritten(Bare(1), "*"), "absent")


MISSING: list[tuple[Any, str]] = [
    ({}, "a"),
    ({"b": 1}, "a"),
    ({1: 2}, "a"),
    ([], "0"),
    ([1], "1"),
    ((1,), "1"),
    (None, "a"),
    ({"a": None}, "a.b"),
    ([None], "*.a"),
    (Frozen(None), "secret.a"),
]


@pytest.mark.parametrize(("value", "path"), MISSING)
def test_what_is_missing(value: Any, path: str) -> None:
    """A part that is not there is a failure, unless it is optional: then nothing is copied."""
    with pytest.raises(Unfit, match="leads to a part that is not there"):
        rewritten(value, path)
    assert rewritten(value, path, optional=True) is value


@pytest.mark.parametrize(
    ("value", "path", "told"),
    [
        ([1], "a", "its items have positions"),
        ((1,), "01", "its items have positions"),
        ([{"a": 1}], "a", "its items have positions"),
        ({1}, "a", "names a part of a set"),
        ({1}, "0", "names a part of a set"),
        ({b"x": 1}, "x", "keys of type `bytes`"),
        ({None: 1}, "None", "keys of type `NoneType`"),
        ({True: 1}, "True", "keys of type `bool`"),
        (Frozen(1), "absent", "no such field"),
        (Field.SECRET, "_value_", "cannot be looked into or copied"),
        (Point(1, 2), "absent", "no such field"),
        (Point(1, 2), "0", "no such field"),
    ],
)
@pytest.mark.parametrize("optional", [False, True])
def test_a_path_for_another_shape(value: Any, path: str, told: str, optional: bool) -> None:
    """A path that was meant for something else fails, optional or not."""
    with pytest.raises(Unfit, match=told):
        rewritten(value, path, optional=optional)


def test_ambiguous_paths_are_refused() -> None:
    """Two paths to one part leave open what becomes of it."""
    for paths in (("a", "a"), ("a", "a.b"), ("*", "a"), ("a.*", "*.b"), (".", "a")):
        with pytest.raises(ValueError, match="two of the paths"):
            compile_paths([Path.parse(path) for path in paths])


def test_what_is_not_on_the_way_is_shared() -> None:
    """Only what leads to a part is copied; everything else is the very same object."""
    aside, before = {"x": [1]}, {"s": 1}
    value = {"aside": aside, "a": [before, aside]}
    result = rewritten(value, "a.0.s")
    assert result == {"aside": {"x": [1]}, "a": [{"s": "*"}, {"x": [1]}]}
    assert result["aside"] is result["a"][1] is aside
    assert (value["a"], before) == ([before, aside], {"s": 1})


def node(**held: Any) -> Plain:
    made = Plain(1)
    for name, value in held.items():
        setattr(made, name, value)
    return made


def test_what_contains_itself_is_refused() -> None:
    """A path through something that contains itself leads nowhere definite, or leaves a way back to the original."""
    rounds: list[Any] = []
    rounds.append(rounds)
    with pytest.raises(Unfit, match="contains itself"):
        rewritten(rounds, "0.0.0")
    ring = node()
    ring.ring = ring  # type: ignore[attr-defined]
    with pytest.raises(Unfit, match="referred to from elsewhere"):
        rewritten(ring, "secret")


@pytest.mark.parametrize(
    "holds",
    [
        lambda parent: {"a": parent},
        lambda parent: [parent],
        lambda parent: (parent,),
        lambda parent: Frozen(parent),
        lambda parent: Record(secret=1, other=[parent]),
        lambda parent: Liar(a=parent),
        lambda parent: MappingProxyType({"a": parent}),
        lambda parent: {parent},
        lambda parent: frozenset({parent}),
        lambda parent: {parent: 1},
        lambda parent: Point(1, parent),
        lambda parent: node(_hidden=parent),
        lambda parent: rounds_to(parent),
    ],
)
def test_a_way_back_to_the_original_is_refused(holds: Callable[[Any], Any]) -> None:
    """What was rewritten must not be had from the copy by another way, however that holds it."""
    parent = node()
    parent.kids = [7, holds(parent)]  # type: ignore[attr-defined]
    with pytest.raises(Unfit, match="referred to from elsewhere"):
        rewritten(parent, "secret")
    with pytest.raises(Unfit, match="referred to from elsewhere"):
        rewritten({"a": parent, "b": holds(parent)}, "a.secret")
    parent.kids = [7, holds(node())]  # type: ignore[attr-defined]
    assert rewritten(parent, "secret").kids is parent.kids  # type: ignore[attr-defined]


def rounds_to(parent: Any) -> list[Any]:
    rounds: list[Any] = [parent]
    rounds.append(rounds)
    return rounds


def test_what_cannot_be_looked_into_beside_the_way_is_left_alone() -> None:
    """Code, modules and the like beside the way hold everything, and are nobody's result."""
    value = {"secret": 1, "fn": star, "module": threading, "lock": threading.Lock(), "lazy": Proxy(), "type": Plain}
    assert rewritten(value, "secret") == {**value, "secret": "*"}


def test_shared_empty_values_are_no_way_back() -> None:
    """There is one empty tuple in the world; nothing in it was rewritten."""
    assert rewritten({"a": (), "b": ()}, "a.*") == {"a": (), "b": ()}


def test_an_edit_may_refuse() -> None:
    """What an edit cannot be applied to is a failure like the others, and what it raises of itself goes on."""

    def refuse(_value: Any) -> Any:
        message = "leads to nothing fit"
        raise Unfit(message)

    def fail(_value: Any) -> Any:
        raise KeyError

    with pytest.raises(Unfit, match="nothing fit"):
        rewritten({"a": 1}, "a", edit=refuse)
    with pytest.raises(KeyError):
        rewritten({"a": 1}, "a", edit=fail)
