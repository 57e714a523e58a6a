from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import os
import subprocess
import sys
import uuid
import zoneinfo
from collections import OrderedDict, defaultdict
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import pytest

from pep.canonical import MAX_DEPTH, MAX_VALUES, digest
from pep.errors import ExtractionError
from pep.frozen import FrozenDict


class Perm(enum.Flag):
    READ = 1
    WRITE = 2
    ADMIN = 4


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Other(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


@attrs.frozen
class Point:
    x: int
    y: int = 0


@attrs.define
class Slotted:
    x: int


class Wider(Slotted):
    __slots__ = ("__dict__", "extra")


class Single(Slotted):
    __slots__ = "extra"  # noqa: PLC0205  one name without a tuple is a way to write it


@dataclasses.dataclass
class Row:
    x: Any
    y: Any = 0

    @functools.cached_property
    def derived(self) -> int:
        return 1


class Child(Row):
    pass


class Own(dict[str, int]):
    pass


class Model:
    """What pydantic's models look like from outside."""

    model_fields = {"x": None}  # noqa: RUF012  a class attribute, as theirs is
    __slots__ = ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__")

    def __init__(self, x: int, **extra: int) -> None:
        self.x = x
        self.__pydantic_extra__ = extra or None
        self.__pydantic_private__ = None


class Liar(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


def changed(value: Any, **attributes: Any) -> Any:
    for name, held in attributes.items():
        setattr(value, name, held)
    return value


def remembered(row: Row) -> Row:
    assert row.derived == 1
    return row


UTC, PARIS = datetime.timezone.utc, zoneinfo.ZoneInfo("Europe/Paris")
ONE_HOUR = datetime.timezone(datetime.timedelta(hours=1))
NOON = datetime.datetime(2024, 1, 1, 12)  # noqa: DTZ001  a time without a zone is one of the values

#: Values no two of which are the same, however alike Python finds them.
DISTINCT: list[Any] = [
    None, True, False, 0, 1, -1, 2**64, -(2**64), 10**5000, 0.0, -0.0, 1.0, 1j, float("inf"), float("nan"),
    "", "1", "True", "None", "a", "A", "\ud800", "e\u0301", "é", b"", b"a", bytearray(b"a"), b"1",
    decimal.Decimal(1), decimal.Decimal("1.0"), uuid.UUID(int=1), str(uuid.UUID(int=1)),
    NOON, NOON.replace(fold=1), NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=ONE_HOUR), NOON.replace(tzinfo=PARIS),
    NOON.date(), NOON.time(), NOON.time().replace(tzinfo=UTC), datetime.timedelta(1), datetime.timedelta(seconds=1),
    UTC,
    [], (), set(), frozenset(), {}, OrderedDict(), Own(), FrozenDict({}),
    [1], (1,), {1}, frozenset([1]), {1: None}, [None], [[]], [[1]], [1, 2], [2, 1], [[1], 2], [1, [2]],
    ["ab", "c"], ["a", "bc"],
    {"a": 1}, {"a": True}, {"a": 1.0}, {"a": "1"}, {"a": 1, "b": 2}, {"a": 2, "b": 1}, {True: 1}, {1.0: 1}, {"1": 1},
    OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), Own(a=1), Own(a=2), changed(Own(a=1), label="x"),
    {1, 2}, {1, 3}, {"1", 2}, {frozenset([1])},
    Colour.RED, Colour.BLUE, Other.RED, Number.ONE, Perm.READ, Perm.READ | Perm.WRITE, Perm.READ | Perm.ADMIN,
    Point(1), Point(1, 1), Point(True), Slotted(1), Row(1), Row(1, 1), Row([1]), Child(1), changed(Row(1), extra=1),
    Wider(1), changed(Wider(1), extra=1), changed(Wider(1), extra=2), Single(1), changed(Single(1), extra=1),
    Model(1), Model(2), Model(1, extra=1), Model(1, extra=2),
]  # fmt: skip


def test_no_two_values_digest_alike() -> None:
    """Types, order, nesting and every attribute are told apart, whatever Python's `==` says."""
    by_digest: dict[str, list[Any]] = defaultdict(list)
    for value in DISTINCT:
        by_digest[digest({"a": value})].append(value)
    assert [same for same in by_digest.values() if len(same) > 1] == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1, 2, 3}, {3, 2, 1}),
        (Row(1, [2]), Row(1, [2])),
        (Point(1), Point(1, 0)),
        (float("nan"), -float("nan")),
        (NOON.replace(tzinfo=PARIS), NOON.replace(tzinfo=zoneinfo.ZoneInfo.no_cache("Europe/Paris"))),
        (Row(1), remembered(Row(1))),
        (Model(1, e=1), Model(1, e=1)),
    ],
)
def test_equal_values_digest_alike(one: Any, other: Any) -> None:
    """What is the same has the same digest, in whatever order it was put together."""
    assert digest({"a": one}) == digest({"a": other})


def test_names_and_their_bounds_count() -> None:
    """Which parameter holds a value is part of the digest; the order of parameters is not."""
    digests = [{"a": 1}, {"b": 1}, {"a": 1, "b": 1}, {"ab": 1}, {}, {"a": {"b": 1}}, {"a": "1"}]
    assert len({digest(arguments) for arguments in digests}) == len(digests)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert len(digest({"\ud800": 1})) == 64


class Zone(datetime.tzinfo):
    def utcoffset(self, _when: object) -> datetime.timedelta:
        return datetime.timedelta()


class Nameless(zoneinfo.ZoneInfo):
    pass


@pytest.mark.parametrize(
    "value",
    [
        object(),
        lambda: None,
        Liar("x"),
        type("Sub", (int,), {})(1),
        type("When", (datetime.datetime,), {})(2024, 1, 1),
        type("Money", (decimal.Decimal,), {})(1),
        Fraction(1, 2),
        Path("x"),
        MappingProxyType({}),
        iter([]),
        range(3),
        memoryview(b"x"),
        int,
        NOON.replace(tzinfo=Zone()),
        NOON.time().replace(tzinfo=Zone()),
        NOON.replace(tzinfo=Nameless("Europe/Paris")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    """A value that is not known all through is never taken by its `repr`; the parameter is named."""
    for wrapped in (value, [value], {"k": value}, Row(value)):
        with pytest.raises(ExtractionError, match="argument `document` has no canonical form"):
            digest({"a": 1, "document": wrapped})


def test_a_nameless_zone_is_refused() -> None:
    """A time zone read from a file has no name to tell it by."""
    folder = Path(zoneinfo.TZPATH[0]) if zoneinfo.TZPATH else Path("/nonexistent")
    if not (folder / "Europe" / "Paris").is_file():
        pytest.skip("there is no time zone database here")
    with (folder / "Europe" / "Paris").open("rb") as file:
        zone = zoneinfo.ZoneInfo.from_file(file)
    with pytest.raises(ExtractionError, match=r"use `datetime\.timezone` or a named"):
        digest({"a": NOON.replace(tzinfo=zone)})


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth_and_size_are_bounded() -> None:
    """What nests too deep, contains itself or never ends is refused in bounded time."""
    digest({"a": nested(MAX_DEPTH)})
    own = Row(1)
    own.y = [own, own, own]
    wide: Any = "lol"
    for _ in range(30):
        wide = [wide] * 10
    for value in (nested(MAX_DEPTH + 1), own, wide, [0] * MAX_VALUES):
        with pytest.raises(ExtractionError, match="contains itself"):
            digest({"a": value})


def test_a_change_between_check_and_use_is_seen() -> None:
    """An argument that is changed in place has another digest afterwards."""
    row = Row([1])
    before = digest({"row": row})
    row.x.append(2)
    assert digest({"row": row}) != before


def test_fields_that_were_never_set_are_left_out() -> None:
    """A slot nobody filled holds nothing, which differs from None."""
    assert digest({"a": Wider(1)}) != digest({"a": changed(Wider(1), extra=None)})


def test_nothing_costly_is_imported() -> None:
    """Where nobody loaded decimals, UUIDs or zones, digesting does not either."""
    probe = (
        "import sys, types\n"
        "package = types.ModuleType('pep'); package.__path__ = [sys.argv[1]]; sys.modules['pep'] = package\n"
        "from pep.canonical import digest\n"
        "digest({'a': {1: [2.5, 'x', b'y']}})\n"
        "try: digest({'a': object()})\n"
        "except Exception: pass\n"
        "print(*({'decimal', 'uuid', 'zoneinfo'} & set(sys.modules)))"
    )
    source = str(Path(__file__).resolve().parent.parent / "src" / "pep")
    # Coverage of the process would import what it needs itself.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", probe, source]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert found.stdout.split() == []
