"""
Checks of the constants a condition is built from: each raises where the condition is written.

Imports conditions and comparisons.
"""

from __future__ import annotations

import math
from datetime import datetime, time
from enum import Enum
from ipaddress import ip_network
from typing import Final
from zoneinfo import ZoneInfo

from pep.errors import ConfigurationError
from pep.policy.condition import Constant, Options
from pep.policy.values import DAYS, instant

#: How many values one list in a condition may have, and how many characters one text.
MAX_OPTIONS: Final = 10_000
MAX_TEXT: Final = 16_384

_KINDS: Final[dict[type, str]] = {str: "texts", bool: "booleans", int: "numbers", float: "numbers"}


def constant(value: object) -> Constant:
    """
    Take a text, a number or a boolean; an enumeration member counts as its value.

    Raises:
        ConfigurationError: On anything else, and on what no attribute can hold.
    """
    if isinstance(value, Enum):
        value = value.value
    kind = type(value)
    if kind is str:
        return Constant(text(value))
    if kind is bool:
        return Constant(value)
    if kind is int or kind is float:
        return Constant(_number(value))  # type: ignore[arg-type]
    if value is None:
        message = "nothing equals a missing value; write `~has(...)`"
        raise ConfigurationError(message)
    message = f"`{type(value).__name__}` cannot be compared; a constant is a text, a number or a boolean"
    raise ConfigurationError(message)


def options(found: object, method: str) -> Options:
    """
    Take a list, tuple or set of constants of one kind.

    Raises:
        ConfigurationError: On a bare text, on no constants at all, and on those of several kinds.
    """
    if type(found) not in {list, tuple, set, frozenset}:
        message = f"`{method}` takes a list, tuple or set of values, or an attribute, not `{type(found).__name__}`"
        raise ConfigurationError(message)
    values = [constant(one).value for one in found]  # type: ignore[attr-defined]
    if len({_KINDS[type(value)] for value in values}) != 1 or len(values) > MAX_OPTIONS:
        message = f"`{method}` takes 1 to {MAX_OPTIONS} values, all texts, all numbers or all booleans"
        raise ConfigurationError(message)
    return Options(tuple(sorted(set(values))))


def text(value: object) -> str:
    """
    Take a text that is not too long, and valid Unicode.

    Raises:
        ConfigurationError: On anything else.
    """
    if type(value) is not str or len(value) > MAX_TEXT:
        message = f"a text in a condition is exactly a `str` of at most {MAX_TEXT} characters"
        raise ConfigurationError(message)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            message = "a text in a condition has a lone surrogate, which is no valid Unicode"
            raise ConfigurationError(message) from None
    return value


def moment(value: object) -> Constant:
    """
    Take a moment: RFC 3339 text or a `datetime` with its offset, or epoch seconds.

    Raises:
        ConfigurationError: On anything else.
    """
    if type(value) is datetime and value.tzinfo is not None:
        value = value.isoformat()
    if type(value) not in {str, int, float} or instant(value) is None:
        message = "a moment must be RFC 3339 text or a `datetime` with its offset, epoch seconds, or an attribute"
        raise ConfigurationError(message)
    return constant(value)


def skew(value: object) -> float:
    """
    Take a clock-skew tolerance in seconds.

    Raises:
        ConfigurationError: When it is negative or no number.
    """
    if type(value) not in {int, float} or not 0 <= value < math.inf:  # type: ignore[operator]
        message = "`skew` must be a number of seconds, zero or more"
        raise ConfigurationError(message)
    return float(value)  # type: ignore[arg-type]


def network(value: object) -> str:
    """
    Take an IP network, such as ``10.0.0.0/8``.

    Raises:
        ConfigurationError: On anything else, and on bits beyond the prefix.
    """
    try:
        return str(ip_network(text(value)))
    except ValueError:
        message = f"`{value}` is no IP network; write one as `10.0.0.0/8`, without bits beyond its prefix"
        raise ConfigurationError(message) from None


def clock_time(value: object) -> str:
    """
    Take a time of day, ``HH:MM``.

    Raises:
        ConfigurationError: On anything else.
    """
    try:
        if type(value) is str and len(value) == len("HH:MM") and value.isascii():
            return time.fromisoformat(value).strftime("%H:%M")
    except ValueError:
        pass
    message = "a time of day must be written `HH:MM`"
    raise ConfigurationError(message)


def zone(value: object) -> str:
    """
    Take the name of a time zone of the IANA database.

    Raises:
        ConfigurationError: When this machine knows none of that name.
    """
    try:
        return ZoneInfo(text(value)).key
    except (ValueError, OSError, KeyError):
        message = "unknown time zone; write a name of the IANA database, such as `Europe/Berlin` or `UTC`"
        raise ConfigurationError(message) from None


def days(found: object) -> tuple[str, ...]:
    """
    Take days of the week, ``mon`` to ``sun``; none means every day.

    Raises:
        ConfigurationError: On anything else.
    """
    if type(found) not in {list, tuple, set, frozenset} or any(day not in DAYS for day in found):  # type: ignore[attr-defined]
        message = f"`days` must be a list of `{'`, `'.join(DAYS)}`"
        raise ConfigurationError(message)
    return tuple(day for day in DAYS if day in found)  # type: ignore[operator]


def _number(value: float) -> float:
    if not (-(2**63) <= value < 2**63 if type(value) is int else math.isfinite(value)):
        message = "a number in a condition must be finite, and an integer must fit 64 bits"
        raise ConfigurationError(message)
    return value
