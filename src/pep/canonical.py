"""
Canonical digests of a call's arguments: typed and injective, never by ``repr`` of a user's class.

Imports the error tree only; what is costly to import is looked up only where it is loaded already.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Collection, Iterator, Mapping
from enum import Enum, Flag
from typing import Any, Final

import attrs

from pep.errors import ExtractionError

#: How deep arguments may nest.
MAX_DEPTH: Final = 64

#: How many values all arguments of a call may hold.
MAX_VALUES: Final = 100_000

# Module -> the types in it whose `repr` tells all of a value. Where the module is not loaded, there is no value.
_PLAIN: Final = (
    ("decimal", ("Decimal",)),
    ("uuid", ("UUID",)),
    ("datetime", ("date", "timedelta", "timezone")),
)
_ZONED: Final = ("datetime", "time")
_UNSET: Final = object()


def digest(arguments: Mapping[str, object]) -> str:
    """
    Digest the arguments of a call.

    Args:
        arguments: Name → value, as bound.

    Returns:
        SHA-256 as 64 hexadecimal digits; equal exactly when names, types and values are.

    Raises:
        ExtractionError: When an argument has no canonical form, naming the parameter.
    """
    import hashlib  # noqa: PLC0415  loaded only where arguments are pinned

    hashed = hashlib.sha256()
    left = [MAX_VALUES]
    for name in sorted(arguments):
        try:
            encoded = _encode(arguments[name], 0, left)
        except ExtractionError as error:
            message = f"argument `{name}` has no canonical form: {error}"
            raise ExtractionError(message) from None
        hashed.update(_text(b"a", name) + encoded)
    return hashed.hexdigest()


def _framed(tag: bytes, payload: bytes) -> bytes:
    # Tag and length before every payload: no two sequences of values encode alike.
    return b"%s%d:%s" % (tag, len(payload), payload)


def _text(tag: bytes, text: str) -> bytes:
    return _framed(tag, text.encode("utf-8", "surrogatepass"))


def _named(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _encode(value: object, depth: int, left: list[int]) -> bytes:
    left[0] -= 1
    if depth > MAX_DEPTH or left[0] < 0:
        message = f"it nests deeper than {MAX_DEPTH}, contains itself, or holds more than {MAX_VALUES} values"
        raise ExtractionError(message)
    if value is None or value is True or value is False:
        return _text(b"c", repr(value))
    if type(value) is str:
        return _text(b"s", value)
    if type(value) is int:
        return _text(b"i", f"{value:x}")
    if type(value) is float or type(value) is complex:
        return _text(b"n", f"{type(value).__name__}={value!r}")
    if type(value) is bytes:
        return _framed(b"b", value)
    if type(value) is bytearray:
        return _framed(b"B", bytes(value))
    return _compound(value, depth + 1, left)


def _compound(value: object, depth: int, left: list[int]) -> bytes:
    if type(value) is list or type(value) is tuple:
        tag = b"l" if type(value) is list else b"t"
        return _framed(tag, b"".join([_encode(item, depth, left) for item in value]))
    if type(value) is set or type(value) is frozenset:
        tag = b"u" if type(value) is set else b"f"
        return _framed(tag, b"".join(sorted(_encode(item, depth, left) for item in value)))
    if type(value) is dict:
        return _framed(b"d", b"".join(sorted(_pair(k, v, depth, left) for k, v in value.items())))
    if isinstance(value, Enum):
        return _member(value, depth, left)
    told = _plain(value)
    return _object(value, depth, left) if told is None else told


def _pair(key: object, value: object, depth: int, left: list[int]) -> bytes:
    return _framed(b"p", _encode(key, depth, left) + _encode(value, depth, left))


def _member(value: Enum, depth: int, left: list[int]) -> bytes:
    # A combination of flags has no name of its own, everything else may have any value.
    told = _encode(value.value if isinstance(value, Flag) else value.name, depth, left)
    return _framed(b"e", _text(b"s", _named(type(value))) + told)


def _plain(value: object) -> bytes | None:
    kind = type(value)
    for module, names in _PLAIN:
        if any(kind is getattr(sys.modules.get(module), name, None) for name in names):
            return _text(b"n", f"{_named(kind)}={value!r}")
    if any(kind is getattr(sys.modules.get("datetime"), name, None) for name in _ZONED):
        return _zoned(value)
    return None


def _zoned(value: Any) -> bytes:  # noqa: ANN401  a `datetime` or `time`, looked up lazily
    return _framed(b"z", _text(b"s", repr(value.replace(tzinfo=None))) + _zone(value.tzinfo))


def _zone(value: object) -> bytes:
    key = getattr(value, "key", None)
    if value is None or type(value) is getattr(sys.modules.get("datetime"), "timezone", None):
        return _text(b"s", repr(value))
    if type(value) is getattr(sys.modules.get("zoneinfo"), "ZoneInfo", None) and type(key) is str:
        return _text(b"k", key)
    message = f"its time zone is a `{type(value).__name__}`; use `datetime.timezone` or a named `zoneinfo.ZoneInfo`"
    raise ExtractionError(message)


def _object(value: object, depth: int, left: list[int]) -> bytes:
    state = ((name, getattr(value, name, _UNSET)) for name in _state(value))
    told = [_pair(name, held, depth, left) for name, held in state if held is not _UNSET]
    if isinstance(value, dict):
        told += [_pair(k, v, depth, left) for k, v in dict.items(value)]
    return _framed(b"o", _text(b"s", _named(type(value))) + b"".join(told))


def _state(value: object) -> Iterator[str]:
    """Name everything an object of fields holds: its fields, and whatever else was set on it."""
    kind: Any = type(value)
    fields = _fields(kind)
    yield from fields
    for base in kind.__mro__:
        if not {"__attrs_attrs__", "__dataclass_fields__"} & base.__dict__.keys():
            slots = base.__dict__.get("__slots__", ())
            named = (slots,) if isinstance(slots, str) else slots
            yield from (name for name in named if name not in {"__dict__", "__weakref__", *fields})
    for name in getattr(value, "__dict__", ()):
        # What is only remembered for speed may come and go.
        if name not in fields and not isinstance(getattr(kind, name, None), functools.cached_property):
            yield name


def _fields(kind: Any) -> Collection[str]:  # noqa: ANN401  any class
    if attrs.has(kind):
        return [field.name for field in attrs.fields(kind)]
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if isinstance(getattr(kind, "model_fields", None), dict):
        return list(kind.model_fields)
    if issubclass(kind, dict):
        return []
    message = f"`{kind.__name__}` is neither a plain value nor a class of fields"
    raise ExtractionError(message)
