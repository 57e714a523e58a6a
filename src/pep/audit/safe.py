"""
Values as JSON, whatever they are: nothing in them is called, and what JSON has no value for is marked.

A mark is an object whose names begin with ``$``; where a value's own names do, they get one more. Imports the frozen
values only.
"""

from __future__ import annotations

import sys
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from math import isfinite
from typing import Any, Final, final

import orjson

from pep.frozen import FrozenDict, frozen_items

#: How many bytes a value may take in a record.
MAX_VALUE: Final = 8 * 1024

#: How many bytes all values shown in one record may take together.
MAX_SHOWN: Final = 64 * 1024

#: How deep a value may nest.
MAX_DEPTH: Final = 32

#: How many bytes any text in a record may take; an id is never longer.
MAX_TEXT: Final = 64 * 1024

#: How many bytes the fields of one record may take: a bound on time and memory, far above what is recorded.
MAX_FIELDS: Final = 16 * 1024 * 1024

_INT64: Final = range(-(2**63), 2**63)
_NAME: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__
# Asked of the class, not of the value: an instance may lie about its class.
_TEXT, _INTEGER, _NUMBER = str.__str__, int.__int__, float.__float__


@final
class Room:
    """How many bytes are left for the values shown in one record."""

    __slots__ = ("left",)

    def __init__(self, left: int = MAX_SHOWN) -> None:
        self.left = left


def safe(value: object, room: Room) -> Any:  # noqa: ANN401  a JSON value
    """
    Tell a value as JSON, in what room there is, and in `MAX_VALUE` bytes.

    Args:
        value: Anything.

        room: How much is left for it; what it takes is taken off.

    Returns:
        A frozen JSON value that says what *value* was, or is marked: ``{"$unrepresentable": "cycle"}``.
    """
    teller = Teller(min(room.left, MAX_VALUE))
    given, told = teller.left, teller.tell(value)
    room.left -= given - max(teller.left, 0)
    return told


def tidy(fields: Mapping[str, Any]) -> FrozenDict:
    """Tell a record's own fields as JSON, their marks as they are; one without a name that is text is left out."""
    teller = Teller(MAX_FIELDS, own=True, text=MAX_TEXT)
    return frozen_items({name: teller.tell(value) for name, value in fields.items() if _is_name(name)})


def members_of(value: Any) -> tuple[dict[str, Any], bool]:  # noqa: ANN401  anything
    """Return what a mapping holds under names that are exactly text, and whether that is all of the value."""
    if not issubclass(type(value), dict):
        return {}, False
    try:
        # By the names' exact class: a key of a user's own might answer for any name.
        members = {name: item for name, item in list(dict.items(value)) if type(name) is str}
    except RuntimeError:
        # It changed while it was read.
        return {}, False
    return members, len(members) == dict.__len__(value)


def class_name(kind: type) -> str:
    """Return the name of a class, without asking anything that it defines."""
    return _NAME(kind).encode("utf-8", "replace").decode()[:200]


def escaped_name(name: str) -> str:
    """Return a name as it stands in a value: one that looks like a mark gets one more ``$``."""
    return f"${name}" if name.startswith("$") else name


def unrepresentable(why: str) -> FrozenDict:
    """Return the mark of a value that is not told."""
    return frozen_items({"$unrepresentable": why})


@final
class Teller:
    """
    Tells one value.

    Args:
        left: How many bytes it may take.

        own: Whether names that begin with ``$`` are marks already.

        text: How many bytes one text may take; None is all there are.

    Attributes:
        left: How many bytes are left; negative once there was too much.

        lossy: Whether something was not told, or not to its end.
    """

    __slots__ = ("_open", "_own", "_text_limit", "left", "lossy")

    def __init__(self, left: int, *, own: bool = False, text: int | None = None) -> None:
        self.left = left
        self.lossy = False
        self._own = own
        self._text_limit = left if text is None else text
        self._open: list[int] = []

    def tell(self, value: object) -> Any:  # noqa: ANN401  a JSON value
        """Return a frozen JSON value; whatever goes wrong is marked."""
        depth = len(self._open)
        try:
            return self._told(value)
        except Exception:  # noqa: BLE001  it changed while it was read, or there was no more memory or stack
            del self._open[depth:]
            return self._lost("changed")

    def _told(self, value: Any) -> Any:  # noqa: ANN401  anything, and a JSON value
        kind = type(value)
        if value is None or kind is bool:
            self.left -= 5
            return value
        if issubclass(kind, str):
            return self._text(_TEXT(value))
        if issubclass(kind, int):
            return self._integer(_INTEGER(value))
        if issubclass(kind, float):
            return self._number(_NUMBER(value))
        if issubclass(kind, _CONTAINERS):
            return self._container(value, kind)
        return self._other(value, kind)

    def _text(self, text: str) -> Any:  # noqa: ANN401  a JSON value
        limit = max(min(self.left, self._text_limit), 0)
        # A character takes one byte at least.
        start = text[: limit + 1]
        try:
            encoded = start.encode()
        except UnicodeEncodeError:
            start = start.replace("\\", "\\\\")
            encoded = start.encode("utf-8", "backslashreplace")
            return self._cut(encoded, limit, len(text), "$text")
        if len(encoded) <= limit:
            self.left -= len(encoded) + 2
            return text
        return self._cut(encoded, limit, len(text), None)

    def _cut(self, encoded: bytes, limit: int, length: int, mark: str | None) -> Any:  # noqa: ANN401  a JSON value
        told: Any = encoded[:limit].decode("utf-8", "ignore")
        self.left -= min(len(encoded), limit) + 2
        if mark is not None:
            told = frozen_items({mark: told})
        return told if len(encoded) <= limit else self._shortened(told, length)

    def _shortened(self, told: Any, length: int) -> FrozenDict:  # noqa: ANN401  a JSON value
        self.lossy = True
        return frozen_items({"$truncated": told, "$length": length})

    def _lost(self, why: str) -> FrozenDict:
        self.lossy = True
        return unrepresentable(why)

    def _integer(self, number: int) -> Any:  # noqa: ANN401  a JSON value
        self.left -= 8
        if number in _INT64:
            return number
        digits = number.bit_length() // 4
        self.left -= digits
        # In base sixteen: anything else takes time that grows with the square of its length.
        return self._lost("size") if digits > self._text_limit else frozen_items({"$int": hex(number)})

    def _number(self, number: float) -> Any:  # noqa: ANN401  a JSON value
        self.left -= 8
        return number if isfinite(number) else frozen_items({"$float": repr(number)})

    def _container(self, value: object, kind: type) -> Any:  # noqa: ANN401  a JSON value
        if id(value) in self._open:
            return self._lost("cycle")
        if len(self._open) >= MAX_DEPTH:
            return self._lost("depth")
        self._open.append(id(value))
        self.left -= 2
        told = self._inside(value, kind)
        self._open.pop()
        return told

    def _inside(self, value: Any, kind: type) -> Any:  # noqa: ANN401  a container
        most = max(self.left, 0) // 2
        if issubclass(kind, dict):
            return self._mapping(list(islice(dict.items(value), most)), dict.__len__(value))
        if issubclass(kind, list):
            return self._items(list.__getitem__(value, slice(most)), list.__len__(value))
        if issubclass(kind, tuple):
            return self._items(tuple.__getitem__(value, slice(most)), tuple.__len__(value))
        base = set if issubclass(kind, set) else frozenset
        found, whole = self._each(list(islice(base.__iter__(value), most)))
        told = frozen_items({"$set": tuple(sorted(found, key=orjson.dumps))})
        length = base.__len__(value)
        return told if whole and len(found) == length else self._shortened(told, length)

    def _items(self, items: Iterable[object], length: int) -> Any:  # noqa: ANN401  a JSON value
        found, whole = self._each(items)
        return tuple(found) if whole and len(found) == length else self._shortened(tuple(found), length)

    def _each(self, items: Iterable[object]) -> tuple[list[Any], bool]:
        """Tell items for as long as there is room; tell whether there was room for all."""
        found: list[Any] = []
        for item in items:
            if self.left < 0:
                return found, False
            self.left -= 1
            found.append(self._told(item))
        return found, True

    def _mapping(self, pairs: list[tuple[object, object]], length: int) -> Any:  # noqa: ANN401  a JSON value
        if any(not _is_name(name) for name, _ in pairs):
            found, whole = self._each([item for pair in pairs for item in pair])
            paired = tuple(zip(found[::2], found[1::2], strict=False))
            told: Any = frozen_items({"$map": paired})
            return told if whole and len(paired) == length else self._shortened(told, length)
        named: dict[str, Any] = {}
        for name, item in pairs:
            if self.left < 0:
                break
            text: str = name  # type: ignore[assignment]
            self.left -= (len(text) if text.isascii() else 4 * len(text)) + 4
            named[text if self._own else escaped_name(text)] = self._told(item)
        told = frozen_items(named)
        return told if len(named) == length else self._shortened(told, length)

    def _other(self, value: Any, kind: type) -> Any:  # noqa: ANN401  anything
        if kind is bytes or kind is bytearray:
            limit = max(min(self.left, self._text_limit), 0) * 3 // 4
            told = frozen_items({"$bytes": b2a_base64(value[:limit], newline=False).decode()})
            self.left -= len(told["$bytes"]) + 12
            return told if len(value) <= limit else self._shortened(told, len(value))
        for module, name, mark, write in _WRITTEN:
            if kind is getattr(sys.modules.get(module), name, None) and _is_told(value, mark):
                return frozen_items({mark: self._text(write(value))})
        self.left -= 40
        self.lossy = True
        return frozen_items({"$unrepresentable": "object", "$class": class_name(kind)})


_CONTAINERS: Final = (dict, list, tuple, set, frozenset)
# Module, type in it, its mark, and how it is written: classes that tell all of themselves. Where the module is not
# loaded there is no value.
_WRITTEN: Final[tuple[tuple[str, str, str, Callable[[Any], str]], ...]] = (
    ("uuid", "UUID", "$uuid", str),
    ("decimal", "Decimal", "$decimal", str),
    ("datetime", "datetime", "$datetime", lambda moment: str(moment.isoformat())),
    ("datetime", "date", "$date", lambda day: str(day.isoformat())),
)


def _is_told(value: Any, mark: str) -> bool:  # noqa: ANN401  anything
    """Tell whether a moment's zone is one of the standard library's, which may be asked."""
    if mark != "$datetime" or value.tzinfo is None:
        return True
    zones = (("datetime", "timezone"), ("zoneinfo", "ZoneInfo"))
    return any(type(value.tzinfo) is getattr(sys.modules.get(module), name, None) for module, name in zones)


def _is_name(name: object) -> bool:
    """Tell whether a name can stand in JSON as it is."""
    if type(name) is not str or len(name) > MAX_VALUE:
        return False
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
