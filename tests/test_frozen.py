from __future__ import annotations

import copy
import pickle
from collections import ChainMap, UserDict
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.errors import ExtractionError
from pep.frozen import (
    EMPTY,
    MAX_DEPTH,
    MAX_VALUES,
    FrozenDict,
    canonical,
    exact_text,
    fields_repr,
    freeze,
    freeze_mapping,
    frozen_items,
    thaw,
)
from tests.values import colliding, contents, mappings, typed


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


class Number(int):
    pass


class Pair(NamedTuple):
    a: int
    b: int


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def immutable(value: object) -> bool:
    if type(value) is FrozenDict:
        return all(immutable(item) for item in value.values())
    if type(value) is tuple:
        return all(immutable(item) for item in value)
    return value is None or type(value) in {str, int, float, bool}


def scramble(value: Any) -> None:
    """Change a value wherever it can be changed."""
    for inner in list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []:
        scramble(inner)
    if isinstance(value, dict):
        value["scrambled"] = True
    elif isinstance(value, list):
        value.append("scrambled")


@given(contents)
def test_freezing_is_deep(value: Any) -> None:
    """Nothing mutable is left at any depth, and nothing but the types of containers changes."""
    frozen = freeze(value)
    assert immutable(frozen)
    assert typed(frozen) == typed(value)
    assert typed(thaw(frozen)) == typed(value)


@given(mappings)
def test_nothing_can_change_afterwards(value: Any) -> None:
    """What happens to the original later does not happen to the frozen one."""
    frozen = freeze_mapping(value, what="it")
    before = canonical(frozen)
    scramble(value)
    assert canonical(frozen) == before


@given(mappings)
def test_direct_construction_freezes_too(value: Any) -> None:
    """There is no way to a `FrozenDict` around freezing, and freezing one again costs nothing."""
    made = FrozenDict(value)
    assert immutable(made)
    before = canonical(made)
    scramble(value)
    made.__init__(value)  # type: ignore[misc]
    assert canonical(made) == before
    assert freeze_mapping(made, what="it") is made


@given(st.tuples(colliding, colliding) | st.tuples(contents, contents))
def test_canonical_is_injective(pair: tuple[Any, Any]) -> None:
    """Two values have equal bytes exactly when they are equal, types included."""
    one, other = freeze(pair[0]), freeze(pair[1])
    assert (canonical(one) == canonical(other)) == (typed(one) == typed(other))


@given(mappings)
def test_equal_mappings_hash_alike(value: Any) -> None:
    """A frozen mapping keeps the contract of hashing, however it was put together."""
    frozen = FrozenDict(value)
    again = FrozenDict(dict(reversed(value.items())))
    assert frozen == again == dict(frozen)
    assert hash(frozen) == hash(again)


def test_hash_agrees_with_equality_across_types() -> None:
    """What Python calls equal has one hash, also where the canonical bytes differ."""
    assert FrozenDict({"a": 1}) == FrozenDict({"a": True})
    assert len({FrozenDict({"a": 1}), FrozenDict({"a": True}), FrozenDict({"a": 1.0})}) == 1


@given(mappings)
def test_copies_and_pickles_stay_frozen(value: Any) -> None:
    """Pickling keeps the value; copying is the value itself."""
    frozen = FrozenDict(value)
    assert copy.copy(frozen) is frozen
    assert copy.deepcopy(frozen) is frozen
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(frozen, protocol))  # noqa: S301  our own bytes
        assert type(again) is FrozenDict
        assert immutable(again)
        assert canonical(again) == canonical(frozen)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.__setitem__("a", 2),
        lambda d: d.__delitem__("a"),
        lambda d: d.update(a=2),
        lambda d: d.pop("a"),
        lambda d: d.popitem(),
        lambda d: d.clear(),
        lambda d: d.setdefault("b", 2),
        lambda d: d.__ior__({"b": 2}),
        lambda d: FrozenDict.fromkeys(["b"], []),
    ],
)
def test_every_change_is_refused(change: Any) -> None:
    """Each method that changes a `dict` names the mend instead."""
    frozen = FrozenDict({"a": 1})
    with pytest.raises(TypeError, match="build a new value"):
        change(frozen)
    assert frozen == {"a": 1}
    assert EMPTY == {}


def test_union_is_a_plain_dict() -> None:
    """What a union gives is a dict of its own: the frozen one stays as it was."""
    frozen = FrozenDict({"a": 1})
    assert type(frozen | {"b": 2}) is dict
    assert type(frozen.copy()) is dict
    assert frozen == {"a": 1}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ([Colour.RED], ("red",)),
        ((1, (2,)), (1, (2,))),
        (MappingProxyType({"a": [1]}), {"a": (1,)}),
        (ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
        (UserDict(a=1), {"a": 1}),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
    ],
)
def test_what_freezes(value: Any, expected: Any) -> None:
    """Members count as their values, and every mapping is one."""
    assert freeze(value) == expected


@pytest.mark.parametrize(
    ("value", "mend"),
    [
        (2**63, "pass it as text"),
        (-(2**63) - 1, "pass it as text"),
        (float("nan"), "leave the attribute out"),
        (float("inf"), "leave the attribute out"),
        (float("-inf"), "leave the attribute out"),
        (b"x", "convert it"),
        ({1, 2}, "convert it"),
        (object(), "convert it"),
        (Pair(1, 2), "convert it"),
        (Text("x"), "convert it"),
        (Number(1), "convert it"),
        (iter([1]), "convert it"),
        ({1: "x"}, "exactly `str`, not `int`"),
        ({Text("x"): 1}, "exactly `str`, not `Text`"),
        ({Colour.RED: 1}, "exactly `str`, not `Colour`"),
        (nested(MAX_DEPTH + 1), "at most 32 deep"),
        ([["x"] * 1000] * 1000, "references instead of content"),
    ],
)
def test_what_does_not_freeze(value: Any, mend: str) -> None:
    """What JSON cannot carry exactly is refused, at any depth, and the message names the mend."""
    for wrapped in (value, [value], {"a": value}):
        with pytest.raises(ExtractionError, match=mend):
            freeze(wrapped)


def test_depth_is_bounded_exactly() -> None:
    """32 containers are a value, 33 are not; one that contains itself is not either."""
    freeze(nested(MAX_DEPTH))
    with pytest.raises(ExtractionError, match="at most 32 deep"):
        freeze(nested(MAX_DEPTH), 1)
    own: list[Any] = []
    own.append(own)
    with pytest.raises(ExtractionError, match="at most 32 deep"):
        freeze(own)


def test_aliases_do_not_explode() -> None:
    """A few lists that hold one another many times over are refused before they are copied out."""
    value: Any = "lol"
    for _ in range(30):
        value = [value] * 10
    with pytest.raises(ExtractionError, match=f"at most {MAX_VALUES} values"):
        freeze(value)


def test_numbers_of_values_are_bounded() -> None:
    """Many values are refused by number, empty containers among them."""
    freeze([1] * (MAX_VALUES - 1))
    with pytest.raises(ExtractionError, match=f"at most {MAX_VALUES} values"):
        freeze([1] * MAX_VALUES)
    with pytest.raises(ExtractionError, match=f"at most {MAX_VALUES} values"):
        freeze([[]] * (MAX_VALUES // 2))


@pytest.mark.parametrize("error", [KeyError, RuntimeError])
def test_a_mapping_that_changes_is_refused(error: type[Exception]) -> None:
    """A mapping that changes under the reader's hands is no value."""

    class Shaky(UserDict[str, int]):
        def __getitem__(self, key: str) -> int:
            raise error

    with pytest.raises(ExtractionError, match="changed while it was read"):
        freeze_mapping(Shaky(a=1), what="it")


@pytest.mark.parametrize("value", [None, [], "a", 1, [("a", 1)]])
def test_properties_must_be_a_mapping(value: Any) -> None:
    """What is no mapping is refused by the name it goes by."""
    with pytest.raises(ExtractionError, match=r"the context must be a mapping, not `\w+`"):
        freeze_mapping(value, what="the context")


def test_empty_mappings_are_one() -> None:
    """Whoever has no properties shares the one empty mapping."""
    assert freeze_mapping({}, what="it") is EMPTY
    assert FrozenDict() is EMPTY
    assert FrozenDict({}) is EMPTY


def test_frozen_items_takes_its_own_copy() -> None:
    """The mapping made of frozen values does not follow the one it was made of."""
    items = {"a": 1}
    frozen = frozen_items(items)
    items["a"] = 2
    assert frozen == {"a": 1}
    assert type(frozen) is FrozenDict


@pytest.mark.parametrize("value", ["\ud800", ("\udfff",), {"a": "\ud800"}, {"\ud800": 1}])
def test_lone_surrogates_have_no_canonical_bytes(value: Any) -> None:
    """Text that cannot be encoded cannot be told apart by others, and is refused."""
    with pytest.raises(ExtractionError, match="encodable as UTF-8"):
        canonical(freeze(value))


@given(st.text(min_size=1))
def test_exact_text_is_opaque(text: str) -> None:
    """Ids are never folded, trimmed or normalised."""
    assert exact_text(text, what="an id") is text


@pytest.mark.parametrize(
    "pair", [("é", "e\u0301"), ("K", "\u212a"), ("i", "\u0130"), ("a", "\uff41"), ("a", "a "), ("a", "A")]
)
def test_look_alikes_stay_apart(pair: tuple[str, str]) -> None:
    """Normal forms, the Kelvin sign, the Turkish i, fullwidth letters, case and blanks tell ids apart."""
    assert canonical(exact_text(pair[0], what="an id")) != canonical(exact_text(pair[1], what="an id"))


@pytest.mark.parametrize(
    ("value", "mend"),
    [
        (Text("x"), "exactly a `str`, not `Text`"),
        (None, "exactly a `str`, not `NoneType`"),
        (1, "exactly a `str`, not `int`"),
        (b"x", "exactly a `str`, not `bytes`"),
        (Level.HIGH, "exactly a `str`, not `int`"),
        ("", "must not be empty"),
    ],
)
def test_exact_text_refuses(value: Any, mend: str) -> None:
    """Subclasses of `str` may lie about equality; nothing else is text."""
    with pytest.raises(ExtractionError, match=mend):
        exact_text(value, what="an id")


def test_members_count_as_their_text() -> None:
    """An enumeration member whose value is a `str` is replaced by it."""
    assert exact_text(Colour.RED, what="an id") == "red"


def test_a_value_is_shown_as_attrs_shows_it() -> None:
    """The one repr for all classes tells what the one attrs makes for a class tells: what is hidden stays hidden."""

    def shown(cls: type[Any]) -> type[Any]:
        cls.__annotations__.update(a="int", b="str", c="list[int]")
        cls.a, cls.b = attrs.field(), attrs.field(default="canary", repr=False)
        cls.c = attrs.field(default=(), repr=lambda items: f"<{len(items)} items>")
        return cls

    @attrs.frozen
    @shown
    class Value: ...

    theirs = Value(1, c=[2, 3])

    @attrs.frozen(repr=False)
    @shown
    class Value:  # type: ignore[no-redef]
        __repr__ = fields_repr

    told = repr(Value(1, c=[2, 3]))
    assert told.endswith("Value(a=1, c=<2 items>)")
    assert told.rpartition(".")[2] == repr(theirs)
