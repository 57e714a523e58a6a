"""
Whether a value still refers to some others, however deep.

Looks into what can be looked into without running its code; what cannot, holds what it holds. Imports fields only.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import MappingProxyType, NoneType
from typing import Any, Final
from uuid import UUID

from pep.obligations.fields import Fields, Unreadable

_SCALARS: Final = frozenset(
    {str, int, float, bool, bytes, complex, NoneType, Decimal, UUID, date, datetime, time, timedelta}
)
# A class that is written in Python; what is built in holds code and modules, and through them everything.
_HEAP_TYPE: Final = 1 << 9


def reaches(value: object, others: Container[int]) -> bool:
    """
    Tell whether a value is, or refers to, one of some others.

    Args:
        value: Where to start.

        others: The others, by ``id``; each of them is alive.
    """
    if type(value) is dict and {*map(type, value), *map(type, value.values())} <= _SCALARS:
        return False
    seen: dict[int, Any] = {}
    left = [value]
    while left:
        here = left.pop()
        if id(here) in others:
            return True
        if id(here) not in seen:
            # Held, so that nothing else gets its identity meanwhile.
            seen[id(here)] = here
            left.extend(_referred(here))
    return False


def _referred(value: Any) -> Iterable[Any]:  # noqa: ANN401  any value
    if isinstance(value, dict):
        return [*_deep(dict.keys(value)), *_deep(dict.values(value))]
    if isinstance(value, list):
        return _deep(list.__iter__(value))
    if isinstance(value, tuple):
        return _deep(tuple.__iter__(value))
    if isinstance(value, set):
        return _deep(set.__iter__(value))
    if isinstance(value, frozenset):
        return _deep(frozenset.__iter__(value))
    if type(value) is MappingProxyType:
        return (value.copy(),)
    return _deep(_held(value))


def _deep(values: Iterable[Any]) -> Iterable[Any]:
    """Leave out what refers to nothing; most often that is all."""
    held = list(values)
    if {*map(type, held)} <= _SCALARS:
        return ()
    return [value for value in held if type(value) not in _SCALARS]


def _held(value: object) -> Iterable[Any]:
    if any(not base.__flags__ & _HEAP_TYPE for base in type(value).__mro__[:-1]):
        return ()
    try:
        return Fields(value).everything()
    except Unreadable:
        return ()
