"""The meaning of each operator, in tables."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from pep.model import AccessRequest, Resource, Subject
from pep.policy import context, has, now, predicate, resource, subject
from pep.policy.compiling import Compiler
from pep.policy.condition import Condition
from pep.policy.evaluate import Facts, evaluate

V = context.v
W = context.w
T, F, U = True, False, None


def both(condition: Condition, request: AccessRequest, now: float = 0.0) -> bool | None:
    """What a condition says, evaluated and compiled alike."""
    answer = evaluate(condition, Facts(request, now))
    test, constants = Compiler().compile(condition)
    assert test(request, constants, now) is answer
    return answer


def of(condition: Condition, now: float = 0.0, **properties: Any) -> bool | None:
    request = AccessRequest(Subject("user", "alice"), "read", Resource("doc", "1"), properties)
    return both(condition, request, now)


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        (V == "a", "a", T),
        (V == "a", "b", F),
        (V == "a", None, U),
        (V == "a", 1, U),
        (V == "a", ["a"], U),
        (V == 1, 1, T),
        (V == 1, 1.0, T),
        (V == 1, True, U),
        (V == 1, "1", U),
        (V == True, True, T),  # noqa: E712
        (V == True, False, F),  # noqa: E712
        (V == True, 1, U),  # noqa: E712
        (V != "a", "b", T),
        (V != "a", 1, U),
        (V < 2, 1.5, T),
        (V < 2, 2, F),
        (V <= 2, 2, T),
        (V > 2, 2, F),
        (V >= 2, 2.0, T),
        (V < 2, True, U),
        (V < "b", "a", T),
        (V < "b", 1, U),
        (V < 1, [0], U),
        (V.in_(["a", "b"]), "a", T),
        (V.in_(["a", "b"]), "c", F),
        (V.in_(["a", "b"]), 1, U),
        (V.in_([1, 2]), 1.0, T),
        (V.in_([1, 2]), True, U),
        (V.in_([True]), True, T),
        (V.in_([True]), 1, U),
        (V.contains("a"), ["b", "a"], T),
        (V.contains("a"), ["b"], F),
        (V.contains("a"), [], F),
        (V.contains("a"), ["b", 1], U),
        (V.contains("a"), ["a", 1], T),
        (V.contains("a"), [None], U),
        (V.contains("a"), "banana", U),
        (V.contains("a"), {"a": 1}, U),
        (V.contains(1), [1.0], T),
        (V.contains(1), [True], U),
        (V.intersects(["a", "b"]), ["b", "c"], T),
        (V.intersects(["a", "b"]), ["c"], F),
        (V.intersects(["a", "b"]), [], F),
        (V.intersects(["a", "b"]), [1], U),
        (V.intersects(["a", "b"]), "a", U),
        (V.starts_with("ab"), "abc", T),
        (V.starts_with("ab"), "a", F),
        (V.starts_with("ab"), ["ab"], U),
        (V.ends_with("bc"), "abc", T),
        (V.contains_text("b"), "abc", T),
        (V.contains_text("b"), ["b"], U),
        (V.ip_in("10.0.0.0/8"), "10.1.2.3", T),
        (V.ip_in("10.0.0.0/8", "192.168.0.0/16"), "192.168.9.9", T),
        (V.ip_in("10.0.0.0/8"), "11.1.2.3", F),
        (V.ip_in("10.0.0.0/8"), "::ffff:10.1.2.3", T),
        (V.ip_in("2001:db8::/32"), "2001:db8::1", T),
        (V.ip_in("10.0.0.0/8"), "2001:db8::1", F),
        (V.ip_in("10.0.0.0/8"), "10.1.2", U),
        (V.ip_in("10.0.0.0/8"), "010.1.2.3", U),
        (V.ip_in("10.0.0.0/8"), 167838211, U),
        (has(V), "a", T),
        (has(V), False, T),
        (has(V), None, F),
    ],
)
def test_operators(condition: Condition, value: Any, expected: bool | None) -> None:
    """Each operator is true, false or unknown of a value as the table says."""
    assert of(condition, v=value) is expected


@pytest.mark.parametrize(
    "condition",
    [
        V == "a",
        V != "a",
        V < 1,
        V.in_(["a"]),
        V.contains("a"),
        V.intersects(["a"]),
        V.starts_with("a"),
        V.ip_in("10.0.0.0/8"),
        V == W,
        W == V,
        W.in_(V),
        W.contains(V),
        W.intersects(V),
        V.before(5, skew=0),
        V.nested == "a",
    ],
)
def test_missing_is_unknown(condition: Condition) -> None:
    """Whatever is said of a missing attribute is unknown, and so is its negation."""
    for value in ("a", ["a"], 1):
        assert of(condition, w=value) is None
        assert of(~condition, w=value) is None


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, "a"], [1.0, "a"], T),
        ([1], [1, 2], F),
        ([1, "a"], [True, "b"], F),
        ([1, "a"], [True, "a"], U),
        ([None], [None], U),
        ({"a": 1}, {"a": 1.0}, T),
        ({"a": 1}, {"b": 1}, F),
        ({"a": 1}, {"a": True}, U),
        ({"a": 1}, [1], U),
        (None, None, U),
    ],
)
def test_containers(one: Any, other: Any, expected: bool | None) -> None:
    """Lists and mappings are compared member by member, in three-valued logic."""
    assert of(V == W, v=one, w=other) is expected


@pytest.mark.parametrize("one", [T, F, U])
@pytest.mark.parametrize("other", [T, F, U])
def test_kleene(one: bool | None, other: bool | None) -> None:
    """And, or and not follow Kleene's tables, whatever the order and however many operands."""
    tree = {name: (context[name] == True) for name in "vwx"}  # noqa: E712
    order = {False: 0, None: 1, True: 2}
    given = {"v": one, "w": other}
    low, high = sorted((one, other), key=order.__getitem__)
    assert of(tree["v"] & tree["w"], **given) is low
    assert of(tree["v"] | tree["w"], **given) is high
    assert of(tree["v"] & tree["w"] & tree["x"], **given, x=True) is low
    assert of(tree["v"] | tree["w"] | tree["x"], **given, x=False) is high
    assert of(~tree["v"], **given) is (None if one is None else not one)


MOMENT = datetime(2025, 3, 1, 12, 0, tzinfo=timezone.utc)
AT = MOMENT.timestamp()


@pytest.mark.parametrize(("seconds", "expected"), [(-61, F), (-60, T), (0, T), (3659.9, T), (3660, F)])
def test_windows(seconds: float, expected: bool) -> None:
    """A window is widened by the stated skew on either side, and its end is exclusive."""
    later = MOMENT + timedelta(hours=1)
    for start, end in ((MOMENT, later), (MOMENT.isoformat(), later.isoformat()), (AT, AT + 3600)):
        assert of(now.between(start, end, skew=60), now=AT + seconds) is expected
    assert of(now.after(MOMENT, skew=60), now=AT + seconds) is (seconds >= -60)
    assert of(now.before(later, skew=60), now=AT + seconds) is (seconds < 3660)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-03-01T12:00:00Z", T),
        ("2025-03-01t14:00:00.0+02:00", T),
        ("2025-03-01T07:00:00-05:00", T),
        ("2025-03-01T12:00:01Z", F),
        ("2025-03-01T12:00:00", U),
        ("2025-03-01", U),
        ("2025-13-01T12:00:00Z", U),
        ("2025-03-01T12:00:00+99:00", U),
        ("0001-01-01T00:00:00+14:00", T),
        ("soon", U),
    ],
)
def test_moments(text: str, expected: bool | None) -> None:
    """A moment in an attribute is RFC 3339 with its offset; any other text is unknown."""
    assert of(now.after(V, skew=0), now=AT, v=text) is expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2025-03-03T07:59:00+01:00", F),
        ("2025-03-03T08:00:00+01:00", T),
        ("2025-03-03T18:00:00+01:00", F),
        ("2025-07-07T08:00:00+02:00", T),
        ("2025-03-02T12:00:00+01:00", F),
        ("soon", U),
    ],
)
def test_days(moment: str, expected: bool | None) -> None:
    """A daily window is read in its own time zone, summer time included, and on its days only."""
    condition = V.daily("08:00", "18:00", zone="Europe/Berlin", skew=0, days=["mon", "tue"])
    assert of(condition, v=moment) is expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2025-03-03T23:00:00Z", T),
        ("2025-03-04T05:59:00Z", T),
        ("2025-03-04T06:00:29Z", T),
        ("2025-03-04T06:00:30Z", F),
        ("2025-03-03T05:00:00Z", F),
        ("2025-03-04T22:30:00Z", F),
        ("9999-12-31T23:59:59Z", U),
    ],
)
def test_nights(moment: str, expected: bool | None) -> None:
    """A window over midnight belongs to the day it starts on."""
    assert of(V.daily("22:00", "06:00", zone="UTC", skew=30, days=["mon"]), v=moment) is expected


def _raise(_request: AccessRequest) -> bool:
    raise RuntimeError


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda request: request.subject.id == "alice", T),
        (lambda _: False, F),
        (lambda _: 1, U),
        (lambda _: None, U),
        (lambda _: "true", U),
        (_raise, U),
    ],
)
def test_predicates(function: Any, expected: bool | None) -> None:
    """Of a Python function's answers only exact booleans count; a failure is unknown."""
    assert of(predicate(function, "asked")) is expected


def test_intrinsics() -> None:
    """Ids, types and `is_new` are no properties, and a new resource's id is missing."""
    request = AccessRequest(Subject("user", "a", {"id": "b"}), "read", Resource.new("doc", {"type": "x", "is_new": 1}))
    assert both(subject.id == "a", request) is True
    assert both(subject["id"] == "b", request) is True
    assert both(resource.type == "doc", request) is True
    assert both(resource["type"] == "x", request) is True
    assert both(resource.is_new == True, request) is True  # noqa: E712
    assert both(resource["is_new"] == 1, request) is True
    assert both(resource.id == "1", request) is None
    assert both(has(resource.id), request) is False


def test_nested() -> None:
    """Nested properties are looked up one by one; one that is no mapping has none."""
    assert of(context.v.a.b == 1, v={"a": {"b": 1}}) is True
    assert of(context.v["a"]["b"] == 1, v={"a": 1}) is None
    assert of(has(context.v.a), v={"a": None}) is False
