"""
What the fields of profiles, failure modes and modes may hold.

Imports the faults, the rates and the error tree only.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeGuard, TypeVar, cast

from pep.errors import ConfigurationError
from pep.fault import AVAILABILITY, Fault

if TYPE_CHECKING:
    from pep.rate import Rate

T = TypeVar("T")

_COLLECTIONS: Final = frozenset({set, frozenset, list, tuple})


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown word: the known one it resembles, or else all of them."""
    from difflib import get_close_matches  # noqa: PLC0415  for mistakes only

    names = list(known)
    close = get_close_matches(word.lower(), names, n=1)
    return f"did you mean `{close[0]}`?" if close else f"choose from {', '.join(f'`{name}`' for name in names)}"


def seconds(value: object, name: str, *, zero: bool = False) -> float:
    """Take a finite number of seconds."""
    if not is_finite(value) or value < 0 or (value == 0 and not zero):
        least = "0 or more" if zero else "greater than 0"
        message = f"`{name}` is {described(value)}; give a finite number of seconds, {least}"
        raise ConfigurationError(message)
    return float(value)


def is_finite(value: object) -> TypeGuard[float]:
    """Tell whether a value is an exact number that is finite."""
    return (type(value) is int or type(value) is float) and abs(value) <= sys.float_info.max


def described(value: object) -> str:
    """Show a number, and only the type of anything else: values may be secret, or endless."""
    number = type(value) is float or is_finite(value)
    return f"`{value!r}`" if number else f"a `{type(value).__name__}`"


def a_flag(value: object, name: str) -> bool:
    """Take an exact `bool`."""
    if type(value) is not bool:
        message = f"`{name}` is a `{type(value).__name__}`; give `True` or `False`"
        raise ConfigurationError(message)
    return value


def one_of(value: Any, name: str, kinds: tuple[type, ...], mend: str) -> Any:  # noqa: ANN401  one of *kinds*
    """Take a value of one of some exact types."""
    if type(value) not in kinds:
        message = f"`{name}` is a `{type(value).__name__}`; give {mend}"
        raise ConfigurationError(message)
    return value


def a_rate(value: str | Rate) -> Rate:
    """Take a rate, or the text of one."""
    from pep.rate import Rate  # noqa: PLC0415  only who opens calls pays for it

    return value if type(value) is Rate else Rate.parse(value)  # type: ignore[arg-type]


def a_collection(value: object, kind: type[T], name: str, mend: str) -> Collection[T]:
    """Take a collection of exact instances of a type."""
    if type(value) not in _COLLECTIONS or any(type(item) is not kind for item in cast("Collection[Any]", value)):
        message = f"`{name}` takes a collection of `{kind.__name__}` values; give {mend}"
        raise ConfigurationError(message)
    return cast("Collection[T]", value)


def excusable(value: object) -> frozenset[Fault]:
    """Take faults of which each may be excused; at least one."""
    names = ", ".join(sorted(map(str, AVAILABILITY)))
    faults = frozenset(a_collection(value, Fault, "on", f"some of {{{names}}}"))
    if not faults:
        message = f"`on` names no fault; give some of {{{names}}}, or use `FailClosed()`"
        raise ConfigurationError(message)
    if faults - AVAILABILITY:
        never = ", ".join(f"`{fault}`" for fault in sorted(faults - AVAILABILITY, key=str))
        message = f"{never} can never be excused; give some of {{{names}}}"
        raise ConfigurationError(message)
    return faults


def check_until(value: object) -> None:
    """Check the moment from which something is enforced."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        message = "`until` must be a datetime with a time zone; give one, such as `tzinfo=timezone.utc`, or `Z` in TOML"
        raise ConfigurationError(message)


def check_reason(value: object) -> None:
    """Check that a reason says something."""
    if type(value) is not str or not value.strip():
        message = "`reason` must say why this is not enforced yet; give a `str` that is not blank"
        raise ConfigurationError(message)


def check_fraction(value: object) -> None:
    """Check a fraction between 0 and 1."""
    if type(value) is not float or not 0 < value < 1:
        message = f"`fraction` is {described(value)}; give a float between 0 and 1, or use `Shadow` or `Enforce`"
        raise ConfigurationError(message)
