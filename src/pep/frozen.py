"""
Frozen values: what properties and context become, so that nothing checked can change afterwards.

Imports the error tree only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, NoReturn, final

import orjson

from pep.errors import ExtractionError

#: How deep properties and context may nest.
MAX_DEPTH: Final = 32

#: How many values properties and context may hold: more than an access request has room for.
MAX_VALUES: Final = 32 * 1024

_INT64: Final = range(-(2**63), 2**63)
# What is frozen as it is, whatever its value.
_PLAIN: Final = frozenset({str, bool, type(None)})


@final
class FrozenDict(dict[str, Any]):
    """
    A mapping that refuses every change, all the way down.

    A real ``dict`` underneath, so that serialisers and ``isinstance`` treat it as one.

    Args:
        value: What `freeze_mapping` takes; it is copied and frozen.

    Raises:
        ExtractionError: When it is no mapping, or holds something that cannot be frozen.
    """

    __slots__ = ()

    def __new__(cls, value: Mapping[str, Any] = MappingProxyType({})) -> FrozenDict:
        """Freeze a mapping."""
        # INVARIANT: whatever has this exact type is frozen all the way down.
        return freeze_mapping(value, what="a frozen mapping")

    def __init__(self, _value: Mapping[str, Any] = MappingProxyType({})) -> None:
        # Nothing: ``dict``'s own would take in whatever it is given.
        pass

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        message = "properties and context are frozen; build a new value instead"
        raise TypeError(message)

    __setitem__ = __delitem__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse  # pyright: ignore[reportAssignmentType]
    __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)

    def __copy__(self) -> FrozenDict:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> FrozenDict:
        return self


def frozen_items(items: Mapping[str, Any]) -> FrozenDict:
    """Make a frozen mapping of values that are frozen already, without looking at them again."""
    made: FrozenDict = dict.__new__(FrozenDict)
    dict.update(made, items)
    return made


#: The empty mapping every value without properties shares.
EMPTY: Final = frozen_items({})

# Asking an abstract class costs more than the rest.
_CONTAINERS: Final = frozenset({dict, FrozenDict, list, tuple})


def freeze(value: object, depth: int = 0) -> Any:  # noqa: ANN401  JSON has no narrower type
    """
    Copy a JSON-like value into an immutable one.

    Args:
        value: Exact ``str``, ``int`` (64 bit), finite ``float``, ``bool``, ``None``, lists, tuples
            and ``str``-keyed mappings of these; an enumeration member counts as its value.

        depth: How many containers surround it.

    Returns:
        The same value with tuples for sequences and a `FrozenDict` for every mapping.

    Raises:
        ExtractionError: On any other type, on what nests deeper than `MAX_DEPTH`, and on what holds
            more than `MAX_VALUES` values.
    """
    return _frozen(value, depth, [MAX_VALUES])


def freeze_mapping(value: object, *, what: str) -> FrozenDict:
    """
    Freeze properties or a context: a mapping from exact ``str`` to values `freeze` takes.

    Args:
        value: The mapping.

        what: What to call it in a message.

    Returns:
        The frozen mapping; `EMPTY` when there is nothing in it.

    Raises:
        ExtractionError: When it is no mapping, or holds something that cannot be frozen.
    """
    if type(value) is FrozenDict:
        return value
    if type(value) is dict and (flat := _flat(value)) is not None:
        return flat
    if not isinstance(value, Mapping):
        message = f"{what} must be a mapping, not `{type(value).__name__}`"
        raise ExtractionError(message)
    frozen: FrozenDict = freeze(value)
    return frozen or EMPTY


def _flat(value: dict[Any, Any]) -> FrozenDict | None:
    """Freeze a mapping of names to plain values, as most are; None where it takes more than a copy."""
    if not value:
        return EMPTY
    # The copy is looked at, since another thread may change the original meanwhile.
    made: FrozenDict = dict.__new__(FrozenDict)
    dict.update(made, value)
    for key, item in made.items():
        if type(key) is not str or not (type(item) in _PLAIN or (type(item) is int and item in _INT64)):
            return None
    return made if len(made) < MAX_VALUES else None


def thaw(value: object) -> Any:  # noqa: ANN401  JSON has no narrower type
    """Copy a frozen value into plain JSON: lists and dicts, free to be changed."""
    return orjson.loads(orjson.dumps(value))


def canonical(value: object) -> bytes:
    """
    Write a frozen value as sorted JSON bytes.

    Injective over frozen values: ``1``, ``1.0``, ``True`` and ``"1"`` differ.

    Raises:
        ExtractionError: When a string in it has a lone surrogate.
    """
    try:
        # The prefix copies: orjson keeps 4 KB behind every `bytes` it returns.
        return b"k" + orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONEncodeError, RecursionError):
        message = "a value holds text that is not valid Unicode; ids, names and properties must be encodable as UTF-8"
        raise ExtractionError(message) from None


def fields_repr(self: Any) -> str:  # noqa: ANN401  any attrs class
    """
    Show a value by its fields, as attrs does.

    One function for all classes: the one that attrs makes for each costs much of the time of an import.
    """
    shown = []
    for field in type(self).__attrs_attrs__:
        tell = repr if field.repr is True else field.repr
        if tell:
            shown.append(f"{field.name}={tell(getattr(self, field.name))}")
    return f"{type(self).__qualname__}({', '.join(shown)})"


def exact_text(value: object, *, what: str) -> str:
    """
    Take a non-empty exact ``str``, or an enumeration member whose value is one.

    Opaque: never folded, trimmed or normalised.

    Raises:
        ExtractionError: On anything else; subclasses of ``str`` may lie about equality.
    """
    if isinstance(value, Enum):
        value = value.value
    if type(value) is not str:
        message = f"{what} must be exactly a `str`, not `{type(value).__name__}`"
        raise ExtractionError(message)
    if not value:
        message = f"{what} must not be empty"
        raise ExtractionError(message)
    return value


def _frozen(value: object, depth: int, left: list[int]) -> Any:  # noqa: ANN401  JSON has no narrower type
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if type(value) is int:
        return _bounded(value)
    if type(value) is float:
        return _finite(value)
    return _container(value, depth, left)


def _bounded(value: int) -> int:
    if value not in _INT64:
        message = "an integer is outside 64 bits; pass it as text"
        raise ExtractionError(message)
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        message = "NaN and infinities are no attribute values; leave the attribute out"
        raise ExtractionError(message)
    return value


def _container(value: object, depth: int, left: list[int]) -> Any:  # noqa: ANN401  JSON has no narrower type
    if depth >= MAX_DEPTH:
        message = f"properties and context may nest at most {MAX_DEPTH} deep"
        raise ExtractionError(message)
    if type(value) not in _CONTAINERS and isinstance(value, Enum):
        return _frozen(value.value, depth + 1, left)
    if type(value) is list or type(value) is tuple:
        items: tuple[Any, ...] = tuple(value)
        _spend(len(items), left)
        return tuple([_frozen(item, depth + 1, left) for item in items])
    if isinstance(value, (dict, Mapping)):
        pairs = _pairs(value)
        _spend(len(pairs), left)
        return frozen_items({_name(key): _frozen(item, depth + 1, left) for key, item in pairs})
    message = f"`{type(value).__name__}` is no attribute value; convert it to text, a number, a list or a mapping"
    raise ExtractionError(message)


def _spend(values: int, left: list[int]) -> None:
    # A list that holds one list many times over would grow without bound when it is copied.
    left[0] -= values + 1
    if left[0] < 0:
        message = f"properties and context may hold at most {MAX_VALUES} values; send references instead of content"
        raise ExtractionError(message)


def _pairs(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    if type(value) is dict or type(value) is FrozenDict:
        return list(value.items())
    try:
        return [(key, value[key]) for key in value]
    except (KeyError, RuntimeError):
        message = "a mapping changed while it was read"
        raise ExtractionError(message) from None


def _name(key: object) -> str:
    if type(key) is not str:
        message = f"attribute names must be exactly `str`, not `{type(key).__name__}`"
        raise ExtractionError(message)
    return key
