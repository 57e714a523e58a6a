"""Conditions written in Python: what builds them, and what is refused rather than misread."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from datetime import datetime, timezone
from enum import Enum
from typing import Any

import pytest

from pep.errors import ConfigurationError
from pep.policy import action, context, has, now, permit, predicate, resource, subject
from pep.policy.condition import (
    And,
    Compare,
    Condition,
    Constant,
    Contains,
    Intrinsic,
    Options,
    Or,
    Property,
    operands,
)

OWNED = resource.owner == subject.id
PUBLIC = resource.public == True  # noqa: E712


class Colour(Enum):
    RED = "red"


class Liar(str):
    """A text that claims to equal everything."""

    __slots__ = ()

    def __eq__(self, _other: object) -> bool:
        return True

    __hash__ = str.__hash__


@pytest.mark.parametrize(
    ("misuse", "word"),
    [
        (lambda: bool(OWNED), "no truth value"),
        (lambda: OWNED and PUBLIC, "no truth value"),
        (lambda: OWNED or PUBLIC, "no truth value"),
        (lambda: not OWNED, "no truth value"),
        (lambda: 1 < context.level < 3, "no truth value"),
        (lambda: "a" in OWNED, "contains nothing"),
        (lambda: list(OWNED), "cannot be iterated"),
        (lambda: "editor" in subject.roles, r"\.contains\("),
        (lambda: list(subject.roles), "cannot be iterated"),
        (lambda: bool(resource.public), "bare attribute"),
        (lambda: not resource.public, "bare attribute"),
        (lambda: ~resource.public, "bare attribute"),
        (lambda: resource.public & OWNED, "bare attribute"),
        (lambda: resource.public | OWNED, "bare attribute"),
        (lambda: resource.public | resource.shared, "bare attribute"),
        (lambda: resource.public ^ OWNED, "bare attribute"),
        (lambda: True | resource.public, "bare attribute"),
        (lambda: OWNED & resource.public, "no condition"),
        (lambda: OWNED | resource.public, "no condition"),
        (lambda: OWNED | True, "no condition"),
        (lambda: False | OWNED, "no condition"),
        (lambda: True & OWNED, "no condition"),
        (lambda: resource.owner == subject.id | subject.admin, "bare attribute"),
        (lambda: resource.owner == "bob" | OWNED, "no condition"),
        (lambda: resource == subject, "as a whole"),
        (lambda: resource != subject, "as a whole"),
        (lambda: resource & OWNED, "as a whole"),
        (lambda: bool(resource), "as a whole"),
        (lambda: "a" in resource, "as a whole"),
        (lambda: list(resource), "as a whole"),
        (lambda: {resource.owner}, "unhashable"),
        (lambda: {resource}, "unhashable"),
    ],
)
def test_misread(misuse: Callable[[], object], word: str) -> None:
    """What Python would read differently than it looks raises, naming the mend."""
    with pytest.raises(TypeError, match=word):
        misuse()


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (lambda: resource.owner == None, "has"),  # noqa: E711
        (lambda: resource.owner == OWNED, "in parentheses"),
        (lambda: resource.owner == subject, "in parentheses"),
        (lambda: resource.owner == now, "in parentheses"),
        (lambda: resource.owner == ["a"], "`list`"),
        (lambda: resource.owner == object(), "`object`"),
        (lambda: resource.owner == Liar("bob"), "`Liar`"),
        (lambda: resource.owner == b"bob", "`bytes`"),
        (lambda: resource.owner == math.nan, "finite"),  # noqa: PLW0177  refused is what it is
        (lambda: resource.owner == math.inf, "finite"),
        (lambda: resource.owner == 2**63, "64 bits"),
        (lambda: resource.owner == "\ud800", "surrogate"),
        (lambda: resource.owner == "x" * 20_000, "at most"),
        (lambda: resource["\ud800"] == 1, "surrogate"),
        (lambda: resource[""] == 1, "not empty"),
        (lambda: resource[1] == 1, "exactly a `str`"),
        (lambda: resource[Liar("a")] == 1, "exactly a `str`"),
        (lambda: resource.id.x == 1, "no properties"),
        (lambda: resource.kind.in_("abc"), "not `str`"),
        (lambda: resource.kind.in_([]), "1 to"),
        (lambda: resource.kind.in_(["a"] * 0 + list(range(10_001))), "1 to"),
        (lambda: resource.kind.in_(["a", 1]), "all texts"),
        (lambda: resource.kind.in_([1, True]), "all texts"),
        (lambda: resource.kind.in_([None]), "has"),
        (lambda: resource.kind.in_({"a": 1}), "not `dict`"),
        (lambda: resource.kind.in_(one for one in "ab"), "not `generator`"),
        (lambda: subject.roles.intersects("ab"), "not `str`"),
        (lambda: subject.roles.contains(None), "has"),
        (lambda: resource.name.starts_with(""), "not empty"),
        (lambda: resource.name.ends_with(5), "not empty"),
        (lambda: context.ip.ip_in(), "at least one"),
        (lambda: context.ip.ip_in("10.0.0.1/8"), "IP network"),
        (lambda: context.ip.ip_in("home"), "IP network"),
        (lambda: context.ip.ip_in(5), "exactly a `str`"),
        (lambda: now.after("2025-01-01T00:00:00", skew=0), "RFC 3339"),
        (lambda: now.after(datetime(2025, 1, 1), skew=0), "RFC 3339"),  # noqa: DTZ001
        (lambda: now.after(True, skew=0), "RFC 3339"),
        (lambda: now.after(0, skew=-1), "zero or more"),
        (lambda: now.after(0, skew=math.inf), "zero or more"),
        (lambda: now.after(0, skew=True), "zero or more"),
        (lambda: now.daily("8", "18:00", zone="UTC", skew=0), "HH:MM"),
        (lambda: now.daily("25:00", "18:00", zone="UTC", skew=0), "HH:MM"),
        (lambda: now.daily("08:00", "18:00", zone="Moon/Base", skew=0), "time zone"),
        (lambda: now.daily("08:00", "18:00", zone="/etc/passwd", skew=0), "time zone"),
        (lambda: now.daily("08:00", "18:00", zone="UTC", skew=0, days="mon"), "list"),
        (lambda: now.daily("08:00", "18:00", zone="UTC", skew=0, days=["monday"]), "list"),
        (lambda: has("owner"), "takes an attribute"),
        (lambda: has(resource), "takes an attribute"),
        (lambda: predicate("x"), "function"),  # type: ignore[arg-type]
        (lambda: predicate(print, ""), "name"),
        (lambda: predicate(print, 5), "name"),  # type: ignore[arg-type]
    ],
)
def test_wrong_constants(wrong: Callable[[], object], word: str) -> None:
    """What no attribute can hold, or no operator takes, is refused where it is written."""
    with pytest.raises(ConfigurationError, match=word):
        wrong()


def test_skew_is_stated() -> None:
    """A window of time has no clock-skew tolerance by default: it is stated."""
    for window in (now.after, now.before):
        with pytest.raises(TypeError, match="skew"):
            window(0)  # type: ignore[call-arg]


def test_properties_and_parts() -> None:
    """Intrinsic parts go by attribute access; brackets always mean a property."""
    assert (resource.id == "a") == Compare("==", Intrinsic("resource", "id"), Constant("a"))
    assert (resource["id"] == "a") == Compare("==", Property("resource", ("id",)), Constant("a"))
    assert (action.name == "a") == Compare("==", Intrinsic("action", "name"), Constant("a"))
    assert (action.id == "a") == Compare("==", Property("action", ("id",)), Constant("a"))
    assert (context.a["b c"].d == 1) == Compare("==", Property("context", ("a", "b c", "d")), Constant(1))
    assert (resource.contains == 1) == Compare("==", Property("resource", ("contains",)), Constant(1))


def test_equality_is_typed() -> None:
    """Conditions are equal if they are the same tree; constants of different types are different."""
    found: list[Condition] = [resource.a == constant for constant in (1, 1.0, True, "1")]
    assert [[one == other for other in found] for one in found] == [
        [row == column for column in range(4)] for row in range(4)
    ]
    assert len(set(found)) == 4
    assert (resource.a == 1) == (resource.a == 1)
    assert hash(resource.a == 1) == hash(resource.a == 1)


def test_mirrored_and_normal() -> None:
    """A constant on the left, nested joins and lists in any order have one tree each."""
    assert (context.level > 5) == (context.level > 5)
    assert (resource.owner == "a") == (resource.owner == "a")
    one, other, third = (resource[name] == 1 for name in "abc")
    assert (one & (other & third)) == ((one & other) & third) == And((one, other, third))
    assert (one | (other | third)) == Or((one, other, third))
    assert operands((one & other) | third) == (one & other, third)
    assert resource.a.in_({"y", "x"}) == Contains(Options(("x", "y")), Property("resource", ("a",)))
    assert resource.a.in_(subject.b) == subject.b.contains(resource.a)
    assert (resource.colour == Colour.RED) == (resource.colour == "red")
    moment = datetime(2025, 1, 1, tzinfo=timezone.utc)
    assert now.after(moment, skew=1) == now.after("2025-01-01T00:00:00+00:00", skew=1.0)


@pytest.mark.parametrize("wrong", [resource.owner, subject, True, "resource.owner == 1", lambda _: True, 1])
@pytest.mark.parametrize("part", ["when", "unless"])
def test_rules_take_conditions_only(part: str, wrong: Any) -> None:
    """Neither a bare attribute nor anything else but a condition decides a rule."""
    with pytest.raises(ConfigurationError, match="must be a condition"):
        permit("rule", **{part: wrong})


@pytest.mark.parametrize(
    ("attribute", "spelled"),
    [
        (resource.owner, "resource.owner"),
        (resource.id, "resource.id"),
        (resource["id"], "resource['id']"),
        (resource["any name"], "resource['any name']"),
        (resource["class"], "resource['class']"),
        (resource["_x"], "resource['_x']"),
        (resource["größe"], "resource['größe']"),
        (resource["it's\n"], "resource['it\\'s\\x0a']"),
        (context.a["contains"].b, "context.a['contains'].b"),
        (context["contains"], "context.contains"),
        (subject, "subject"),
        (now, "now"),
    ],
)
def test_spelling(attribute: object, spelled: str) -> None:
    """An attribute is shown the way it is written."""
    assert repr(attribute) == spelled


def test_copies() -> None:
    """Conditions are values: they copy and pickle; what builds them has no private attributes to stumble over."""
    condition = (OWNED | PUBLIC) & ~has(context.frozen) & now.after(5, skew=1) & context.ip.ip_in("10.0.0.0/8")
    assert copy.deepcopy(condition) == condition
    assert pickle.loads(pickle.dumps(condition)) == condition  # noqa: S301  our own
    for owner in (resource, resource.owner):
        assert not hasattr(owner, "__wrapped__")
        assert not hasattr(owner, "_private")


def test_conditions_are_frozen() -> None:
    """Nothing in a condition can be changed after it was written."""
    with pytest.raises(AttributeError):
        OWNED.left = Constant("x")  # type: ignore[attr-defined]
