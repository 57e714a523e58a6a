from __future__ import annotations

import datetime
import decimal
import uuid
import zoneinfo
from collections import OrderedDict, defaultdict, namedtuple
from enum import Enum, IntEnum
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.audit.safe import MAX_DEPTH, MAX_SHOWN, MAX_VALUE, Room, Teller, class_name, members_of, safe, tidy
from pep.frozen import FrozenDict

CALLED: list[str] = []


def _tells(name: str) -> Any:
    def method(*_args: Any, **_kwargs: Any) -> Any:
        CALLED.append(name)
        raise ValueError

    return method


SPECIAL = [
    "__repr__", "__str__", "__iter__", "__eq__", "__ne__", "__lt__", "__hash__", "__bool__", "__len__", "__float__",
    "__int__", "__index__", "__getitem__", "__contains__", "__getattr__", "__getattribute__", "__format__", "__bytes__",
    "__dir__", "__reduce__", "__reduce_ex__", "__copy__", "__deepcopy__", "__next__", "__call__", "__instancecheck__",
    "keys", "values", "items", "get", "copy", "encode", "replace", "isoformat",
]  # fmt: skip


def hostile(*bases: type) -> type:
    """A class whose every method of its own tells that it was called, and raises; its class lies, too."""
    special = {name: _tells(name) for name in SPECIAL}
    return type("Hostile", bases, {**special, "__class__": property(_tells("__class__"))})


def quietly(base: type, *args: Any) -> Any:
    made: Any = base.__new__(hostile(base), *args)
    if base in {dict, list, set}:
        base.__init__(made, *args)  # type: ignore[misc]
    return made


class Colour(Enum):
    RED = 1


class Level(IntEnum):
    HIGH = 3


Point = namedtuple("Point", "x y")  # noqa: PYI024  as people write them
CYCLE: list[Any] = [1]
CYCLE.append({"again": CYCLE})
DEEP: list[Any] = []
for _ in range(10_000):
    DEEP = [DEEP]
OBJECT = {"$unrepresentable": "object"}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, None),
        (True, True),
        (1, 1),
        (1.5, 1.5),
        ("é\n", "é\n"),
        ((1, [2]), [1, [2]]),
        ({"a": {"b": None}}, {"a": {"b": None}}),
        (FrozenDict({"a": [1]}), {"a": [1]}),
        (2**63, {"$int": "0x8000000000000000"}),
        (-(2**70), {"$int": "-0x400000000000000000"}),
        (float("nan"), {"$float": "nan"}),
        (float("-inf"), {"$float": "-inf"}),
        ("a\\\ud800", {"$text": "a\\\\\\ud800"}),
        (b"\x00\xff", {"$bytes": "AP8="}),
        (bytearray(b"x"), {"$bytes": "eA=="}),
        ({3, 1}, {"$set": [1, 3]}),
        (frozenset({"b", "a"}), {"$set": ["a", "b"]}),
        ({1: "a"}, {"$map": [[1, "a"]]}),
        ({"a": 1, "\ud800": 2}, {"$map": [["a", 1], [{"$text": "\\ud800"}, 2]]}),
        ({"é": 1}, {"é": 1}),
        ({"$hmac": "forged", "$$": 1}, {"$$hmac": "forged", "$$$": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(int, a=1), {"a": 1}),
        (Point(1, 2), [1, 2]),
        (Level.HIGH, 3),
        (Colour.RED, {**OBJECT, "$class": "Colour"}),
        (object(), {**OBJECT, "$class": "object"}),
        (int, {**OBJECT, "$class": "type"}),
        (uuid.UUID(int=1), {"$uuid": "00000000-0000-0000-0000-000000000001"}),
        (decimal.Decimal("1.10"), {"$decimal": "1.10"}),
        (datetime.date(2026, 1, 2), {"$date": "2026-01-02"}),
        (datetime.datetime(2026, 1, 2, 3), {"$datetime": "2026-01-02T03:00:00"}),  # noqa: DTZ001  without a zone
        (
            datetime.datetime(2026, 7, 2, 3, tzinfo=zoneinfo.ZoneInfo("UTC")),
            {"$datetime": "2026-07-02T03:00:00+00:00"},
        ),
        (CYCLE, [1, {"again": {"$unrepresentable": "cycle"}}]),
        (quietly(dict, {"a": 1}), {"a": 1}),
        (quietly(list, [1]), [1]),
        (quietly(tuple, (1, 2)), [1, 2]),
        (quietly(set, {1}), {"$set": [1]}),
        (quietly(frozenset, {1}), {"$set": [1]}),
        (quietly(str, "text"), "text"),
        (quietly(int, 7), 7),
        (quietly(float, 7.5), 7.5),
        (quietly(bytes, b"x"), {**OBJECT, "$class": "Hostile"}),
        (quietly(object), {**OBJECT, "$class": "Hostile"}),
        ({"a": quietly(object), "b": 1}, {"a": {**OBJECT, "$class": "Hostile"}, "b": 1}),
    ],
    ids=lambda _value: "",
)
def test_every_kind_of_value_is_told_or_marked(value: Any, told: Any) -> None:
    """A value is told as JSON; what JSON has no value for is marked; nothing that a user defined is called."""
    CALLED.clear()
    found = safe(value, Room())
    assert CALLED == []
    assert orjson.loads(orjson.dumps(found)) == told


class Zone(datetime.tzinfo):
    utcoffset = dst = tzname = _tells("utcoffset")


def test_a_zone_of_a_users_own_is_not_asked() -> None:
    """A moment in a zone that is a user's own class is not written out."""
    CALLED.clear()
    told = safe(datetime.datetime(2026, 1, 1, tzinfo=Zone()), Room())
    assert (dict(told), CALLED) == ({**OBJECT, "$class": "datetime"}, [])


def test_what_nests_too_deep_is_cut() -> None:
    """Values are told to a depth; what lies below is marked, and the stack is safe."""
    told = safe(DEEP, Room())
    for _ in range(MAX_DEPTH):
        (told,) = told
    assert told == {"$unrepresentable": "depth"}


def test_one_value_in_many_places_is_no_cycle() -> None:
    """A value that is there twice is told twice."""
    twice = {"a": 1}
    assert safe([twice, twice, {"b": twice}], Room()) == (twice, twice, {"b": twice})


def test_a_value_that_holds_itself_many_times_is_told_in_bounded_room() -> None:
    """What would grow without bound when it is copied is cut at the room there is."""
    bomb: list[Any] = ["x"]
    for _ in range(30):
        bomb = [bomb, bomb]
    assert len(orjson.dumps(safe(bomb, Room()))) < 4 * MAX_VALUE


@pytest.mark.parametrize(
    ("value", "length"),
    [
        ("x" * 10**7, 10**7),
        ("é" * 10**6, 10**6),
        ("\ud800" * 10**6, 10**6),
        (b"x" * 10**7, 10**7),
        ([1] * 10**6, 10**6),
        ((1,) * 10**6, 10**6),
        (set(range(10**5)), 10**5),
        (frozenset(range(10**5)), 10**5),
        ({str(at): at for at in range(10**5)}, 10**5),
        (dict.fromkeys(range(10**5)), 10**5),
        ({"a" * 9_000: 1}, 1),
        ({f"{'a' * 500}{at}": 1 for at in range(100)}, 100),
        ({f"{'é' * 500}{at}": 1 for at in range(100)}, 100),
    ],
    ids=lambda _value: "",
)
def test_what_is_too_long_is_cut_and_marked(value: Any, length: int) -> None:
    """A value takes no more than its share; the mark says how long all of it is."""
    room = Room()
    told = safe(value, room)
    assert told["$length"] == length
    assert len(orjson.dumps(told)) < 3 * MAX_VALUE
    assert MAX_SHOWN - 2 * MAX_VALUE <= room.left < MAX_SHOWN - MAX_VALUE // 4


def test_a_huge_number_is_not_written_out() -> None:
    """A number whose digits would not fit is marked; writing it would take time that grows with its square."""
    assert safe(1 << 10**6, Room()) == {"$unrepresentable": "size"}
    assert safe(10**4300, Room())["$int"].startswith("0x")


def test_all_values_of_a_record_share_its_room() -> None:
    """Once the room of a record is used up, no text is told any more, only that there was some."""
    room = Room()
    told = [safe("x" * MAX_VALUE, room) for _ in range(20)]
    assert sum(len(text) for text in told if type(text) is str) <= MAX_SHOWN
    assert told[-1] == {"$truncated": "", "$length": MAX_VALUE}
    assert room.left == 0


def test_what_breaks_while_it_is_read_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that changes under the hands of who reads it costs itself alone."""
    monkeypatch.setattr(Teller, "_mapping", _tells("_mapping"))
    teller = Teller(MAX_VALUE)
    assert teller.tell([[{"a": 1}]]) == {"$unrepresentable": "changed"}
    assert (teller.lossy, teller.tell([1])) == (True, (1,))


@pytest.mark.parametrize("value", [object(), DEEP, CYCLE, "x" * 9_000, 1 << 10**6, [b"x" * 9_000]], ids=type)
def test_it_is_known_when_something_is_lost(value: Any) -> None:
    """What was not told, or not to its end, is known to whoever needs all of it."""
    teller, whole = Teller(MAX_VALUE), Teller(MAX_VALUE)
    teller.tell(value)
    whole.tell([2**64, float("nan"), "\ud800", {1: b"x"}, {1}])
    assert (teller.lossy, whole.lossy) == (True, False)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=2) | st.integers() | st.sampled_from(["$", "$int", "$$int"]), inner, max_size=3
        )
        | st.frozensets(st.integers() | st.text(max_size=2), max_size=3)
    ),
    max_leaves=8,
)


def typed(value: Any) -> Any:
    """What a value is, types and all."""
    if isinstance(value, dict):
        return "map", frozenset((typed(key), typed(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "list", tuple(typed(item) for item in value)
    if isinstance(value, frozenset):
        return "set", frozenset(typed(item) for item in value)
    return type(value).__name__, repr(value)


@given(json_like, json_like)
def test_different_values_are_told_differently(one: Any, two: Any) -> None:
    """Marks cannot be forged: two values are told alike exactly when they are the same."""
    told = [orjson.dumps(safe(value, Room()), option=orjson.OPT_SORT_KEYS) for value in (one, two)]
    assert (told[0] == told[1]) == (typed(one) == typed(two))


def test_names_are_read_from_mappings_only() -> None:
    """A mapping's own members are read without asking it, or its keys, anything."""
    CALLED.clear()
    hidden = hostile(object)

    class Key(hidden):  # type: ignore[misc, valid-type]
        __hash__ = object.__hash__

    assert members_of(quietly(dict, {"a": 1})) == ({"a": 1}, True)
    assert members_of({"a": 1, Key(): 2}) == ({"a": 1}, False)
    assert members_of(quietly(object)) == members_of([("a", 1)]) == ({}, False)
    assert CALLED == []


def test_a_mapping_that_changes_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapping that grows while it is read is left out, and breaks nothing."""

    def growing(_of: Any) -> Any:
        raise RuntimeError

    class Quick(dict):  # type: ignore[type-arg]
        items = growing

    monkeypatch.setattr("pep.audit.safe.dict", Quick, raising=False)
    assert members_of(Quick(a=1)) == ({}, False)


def test_class_names_are_the_classes_own() -> None:
    """A class is named without asking its metaclass, in text that can be written, and not at length."""

    class Lying(type):
        __name__ = property(_tells("__name__"))  # type: ignore[assignment]

    CALLED.clear()
    assert class_name(Lying("Real", (), {})) == "Real"
    assert class_name(type("a" * 500, (), {})) == "a" * 200
    assert CALLED == []


def test_a_records_own_marks_stay() -> None:
    """What a record tells itself is not marked twice, however often it is told."""
    fields = {"a": {"$hmac": "0"}, "b": float("nan"), "c": [None, {"$map": ((1, 2),)}]}
    told = tidy(fields)
    assert told == {"a": {"$hmac": "0"}, "b": {"$float": "nan"}, "c": (None, {"$map": ((1, 2),)})}
    assert tidy(told) == told
    with pytest.raises(TypeError):
        told["a"]["$hmac"] = "1"
