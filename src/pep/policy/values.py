"""
Comparisons of attribute values in three-valued logic: every operator's meaning, once.

A value is what a frozen property holds; None stands for missing. Answers are True, False or None for unknown,
and unknown is the answer wherever a value is missing or of an incompatible type. Imports the frozen values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final
from zoneinfo import ZoneInfo

import attrs

from pep.frozen import FrozenDict
from pep.policy.condition import Truth

Value = Any
Network = IPv4Network | IPv6Network

#: Type of a value → what it may be compared to; booleans are no numbers.
_KINDS: Final[dict[type, str]] = {
    str: "text",
    bool: "boolean",
    int: "number",
    float: "number",
    tuple: "list",
    FrozenDict: "mapping",
}
_ORDERED: Final = frozenset({"text", "number"})
_MOMENT: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(\.\d{1,9})?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def equal(left: Value, right: Value) -> Truth:
    """Compare two values for equality; lists and mappings member by member."""
    kind = _KINDS.get(type(left))
    if kind is None or _KINDS.get(type(right)) != kind:
        return None
    if kind == "list":
        return False if len(left) != len(right) else every(map(equal, left, right))
    if kind == "mapping":
        return False if left.keys() != right.keys() else every(equal(left[name], right[name]) for name in left)
    return bool(left == right)


def unequal(left: Value, right: Value) -> Truth:
    """Compare two values for inequality."""
    return opposite(equal(left, right))


def less(left: Value, right: Value) -> Truth:
    """Whether one number, or one text by code points, comes before another."""
    kind = _KINDS.get(type(left))
    if kind not in _ORDERED or _KINDS.get(type(right)) != kind:
        return None
    return bool(left < right)


def less_or_equal(left: Value, right: Value) -> Truth:
    """Whether one number or text does not come after another."""
    return opposite(less(right, left))


def greater(left: Value, right: Value) -> Truth:
    """Whether one number or text comes after another."""
    return less(right, left)


def greater_or_equal(left: Value, right: Value) -> Truth:
    """Whether one number or text does not come before another."""
    return opposite(less(left, right))


def contains(collection: Value, item: Value) -> Truth:
    """Whether a list holds an item; unknown if it holds none, but something that cannot be compared."""
    if type(collection) is not tuple or item is None:
        return None
    return some(equal(one, item) for one in collection)


def intersects(left: Value, right: Value) -> Truth:
    """Whether two lists have an item in common."""
    if type(left) is not tuple or type(right) is not tuple:
        return None
    return some(equal(one, other) for one in left for other in right)


def starts_with(text: Value, part: Value) -> Truth:
    """Whether a text starts with another."""
    return text.startswith(part) if type(text) is str and type(part) is str else None


def ends_with(text: Value, part: Value) -> Truth:
    """Whether a text ends with another."""
    return text.endswith(part) if type(text) is str and type(part) is str else None


def contains_text(text: Value, part: Value) -> Truth:
    """Whether a text contains another."""
    return part in text if type(text) is str and type(part) is str else None


def in_networks(address: Value, networks: Iterable[Network]) -> Truth:
    """Whether an IP address lies in one of the networks; unknown if it is none."""
    if type(address) is not str:
        return None
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return None
    if type(parsed) is IPv6Address and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


def within(moment: Value, start: Value, end: Value, skew: float) -> Truth:
    """Whether ``start - skew <= moment < end + skew``; all three are instants or None."""
    after = None if moment is None or start is None else moment >= start - skew
    before = None if moment is None or end is None else moment < end + skew
    return both(after, before)


@attrs.frozen
class Day:
    """A window of the local day: its ends, on which days (0 is Monday), widened by so many seconds."""

    start: time
    end: time
    zone: ZoneInfo
    days: tuple[int, ...]
    skew: float

    def opens(self, day: date) -> float:
        """Return the instant it opens on a day."""
        return datetime.combine(day, self.start, self.zone).timestamp() - self.skew

    def closes(self, day: date) -> float:
        """Return the instant it closes that opened on a day; a window over midnight closes on the next."""
        last = day if self.start < self.end else day + timedelta(days=1)
        return datetime.combine(last, self.end, self.zone).timestamp() + self.skew


def within_day(moment: float | None, window: Day) -> Truth:
    """Whether an instant lies in a daily window; a window over midnight belongs to the day it starts on."""
    if moment is None:
        return None
    try:
        today = datetime.fromtimestamp(moment, window.zone).date()
        return any(
            window.opens(day) <= moment < window.closes(day)
            for day in (today + timedelta(days=offset) for offset in (-1, 0, 1))
            if day.weekday() in window.days
        )
    except (OverflowError, ValueError, OSError):
        return None


def instant(value: Value) -> float | None:
    """Read seconds since the epoch, or a date and time with its offset (RFC 3339); None for anything else."""
    if type(value) is int or type(value) is float:
        return float(value)
    return _parsed(value) if type(value) is str else None


def opposite(truth: Truth) -> Truth:
    """Kleene's *not*."""
    return None if truth is None else not truth


def both(left: Truth, right: Truth) -> Truth:
    """Kleene's *and*."""
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def every(truths: Iterable[Truth]) -> Truth:
    """Kleene's *and* over any number; true over none."""
    answer: Truth = True
    for truth in truths:
        if truth is False:
            return False
        if truth is None:
            answer = None
    return answer


def some(truths: Iterable[Truth]) -> Truth:
    """Kleene's *or* over any number; false over none."""
    answer: Truth = False
    for truth in truths:
        if truth is True:
            return True
        if truth is None:
            answer = None
    return answer


#: Operator → its meaning.
COMPARISONS: Final[dict[str, Callable[[Value, Value], Truth]]] = {
    "==": equal,
    "!=": unequal,
    "<": less,
    "<=": less_or_equal,
    ">": greater,
    ">=": greater_or_equal,
}
TEXTS: Final[dict[str, Callable[[Value, Value], Truth]]] = {
    "starts_with": starts_with,
    "ends_with": ends_with,
    "contains_text": contains_text,
}


@lru_cache(maxsize=1024)
def _parsed(text: str) -> float | None:
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    try:
        offset = timedelta() if found[8] else timedelta(hours=int(found[10]), minutes=int(found[11]))
        zone = timezone(-offset if found[9] == "-" else offset)
        whole = datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except (ValueError, OverflowError):
        return None
    return whole.timestamp() + float(found[7] or 0)
