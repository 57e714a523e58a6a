"""
The fields of objects, read and copied without running any of their code: a copy is never the original.

An object whose attributes may be anything but what it holds (computed, lazy, by proxy, of an extension type) is
refused. Imports nothing of the library.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from enum import Enum
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

# What reads an attribute in a way of its own, or hands the object out as something else.
_ACTING: Final = ("__getitem__", "__del__")
_PYDANTIC: Final = "__pydantic_"
_EXTRA: Final = "__pydantic_extra__"
_CACHED_HASH: Final = "_attrs_cached_hash"
# What a class may have of its own that never stands for what an instance holds.
_METHODS: Final = (FunctionType, classmethod, staticmethod, property, functools.cached_property, type)
_ABSENT: Final = object()


class Unreadable(Exception):  # noqa: N818  not an error of the library's: its callers tell theirs
    """What an object holds cannot be told, or it cannot be copied."""


class Fields:
    """
    What one object holds.

    Args:
        value: The object: of attrs, a dataclass, a pydantic model, or any other with ``__dict__`` or ``__slots__``.

    Raises:
        Unreadable: When what its attributes are cannot be told.
    """

    __slots__ = ("_dict", "_extra", "_slots", "_value")

    def __init__(self, value: object) -> None:
        kind = type(value)
        acts = any(_class_attribute(kind, name) is not _ABSENT for name in _ACTING)
        # A member of an enumeration is the only one of its kind: there is no copy of it.
        if acts or isinstance(value, Enum) or _class_attribute(kind, "__getattribute__") is not object.__getattribute__:
            raise Unreadable
        self._value = value
        # The one that counts last, where a class has a slot again that its base has: attributes are found from here on.
        slots = dict(reversed(list(_slots(kind))))
        self._slots = {name: slot for name, slot in slots.items() if not _is_cache(kind, name)}
        self._dict = _instance_dict(value)
        extra = self._slot(_EXTRA)
        self._extra: dict[str, Any] = extra if type(extra) is dict else {}

    def names(self) -> list[str]:
        """
        Name every field.

        Raises:
            Unreadable: When there are none, or there may be some that it does not hold yet: a lazy one of some
                other library.
        """
        kind = type(self._value)
        if any(_is_foreign(name, attribute) for base in _own(kind) for name, attribute in base.__dict__.items()):
            raise Unreadable
        slots = [name for name in self._slots if not _is_hidden(name) and self._slot(name) is not _ABSENT]
        names = [*slots, *(name for name in self._dict if not _is_cache(kind, name)), *self._extra]
        if not names:
            raise Unreadable
        return names

    def get(self, name: str) -> Any:  # noqa: ANN401  whatever it holds
        """
        Return what a field holds.

        Raises:
            Unreadable: When it has no such field, or computes it.
        """
        attribute = _class_attribute(type(self._value), name)
        held = _ABSENT
        if name in self._slots:
            held = self._slot(name)
        elif not hasattr(type(attribute), "__get__"):
            held = self._dict.get(name, self._extra.get(name, _ABSENT))
        if held is _ABSENT:
            raise Unreadable
        return held

    def copied(self, changes: Mapping[str, Any]) -> Any:  # noqa: ANN401  an object of the same type
        """
        Copy the object with some of its fields changed.

        Args:
            changes: Field → value, of fields that `get` finds.

        Returns:
            A new object of the same type, made without its constructor. What was only remembered, as by a
            ``cached_property``, is forgotten: it may tell what was changed.

        Raises:
            Unreadable: When objects of its type cannot be made like that.
        """
        kind = type(self._value)
        try:
            new = object.__new__(kind)
        except TypeError:
            raise Unreadable from None
        for name, slot in self._slots.items():
            held = changes.get(name, self._slot(name))
            if held is not _ABSENT:
                slot.__set__(new, _apart(name, held, changes))
        kept = {name: held for name, held in self._dict.items() if not _is_cache(kind, name)}
        _instance_dict(new).update({name: changes.get(name, held) for name, held in kept.items()})
        return new

    def everything(self) -> Iterator[Any]:
        """Return all that it holds, also what is hidden or only remembered."""
        for name, _slot in _slots(type(self._value)):
            yield self._slot(name)
        yield from self._dict.values()

    def _slot(self, name: str) -> Any:  # noqa: ANN401  whatever it holds
        slot = _class_attribute(type(self._value), name)
        if type(slot) is not MemberDescriptorType:
            return _ABSENT
        try:
            return slot.__get__(self._value)
        except AttributeError:
            return _ABSENT


def named_tuple(value: object) -> dict[str, Any] | None:
    """Return the items of a named tuple by name; None for anything else, and for one that holds more than them."""
    names = _class_attribute(type(value), "_fields")
    if not isinstance(value, tuple) or type(names) is not tuple or len(names) != tuple.__len__(value):
        return None
    return None if _instance_dict(value) else dict(zip(names, tuple.__iter__(value), strict=True))


def _class_attribute(kind: type, name: str) -> Any:  # noqa: ANN401  whatever a class has
    """Look an attribute up as an instance would, without asking its metaclass or any descriptor."""
    for base in kind.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return _ABSENT


def _slots(kind: type) -> Iterator[tuple[str, Any]]:
    for base in kind.__mro__:
        for name, attribute in base.__dict__.items():
            if type(attribute) is MemberDescriptorType:
                yield name, attribute


def _instance_dict(value: object) -> dict[Any, Any]:
    held = _class_attribute(type(value), "__dict__")
    if held is _ABSENT:
        return {}
    if type(held) is not GetSetDescriptorType:
        raise Unreadable
    found: dict[Any, Any] = held.__get__(value)
    return found


def _apart(name: str, held: Any, changes: Mapping[str, Any]) -> Any:  # noqa: ANN401  whatever it holds
    """Return what the copy holds in a slot: nothing of the machinery is shared with the original."""
    if name == _CACHED_HASH:
        return None
    if not name.startswith(_PYDANTIC) or type(held) not in {dict, set}:
        return held
    apart = held.copy()
    if name == _EXTRA:
        apart.update({field: value for field, value in changes.items() if field in held})
    return apart


def _is_cache(kind: type, name: str) -> bool:
    """Tell whether a name only remembers what others say; attrs keeps that in slots that are no fields."""
    attribute = _class_attribute(kind, name)
    if isinstance(attribute, functools.cached_property):
        return True
    if type(attribute) is not MemberDescriptorType or name == _CACHED_HASH:
        return False
    fields = attribute.__objclass__.__dict__.get("__attrs_attrs__")
    return fields is not None and all(field.name != name for field in fields)


def _is_hidden(name: str) -> bool:
    return name == _CACHED_HASH or name.startswith(_PYDANTIC)


def _own(kind: type) -> Iterator[type]:
    """Return the classes that somebody wrote to hold something: not those of the frameworks that are known here."""
    return (base for base in kind.__mro__ if base.__module__.partition(".")[0] not in {"builtins", "pydantic"})


def _is_foreign(name: str, attribute: object) -> bool:
    kind = type(attribute)
    if name.startswith("__") or isinstance(attribute, _METHODS):
        return False
    return hasattr(kind, "__get__") and kind not in {MemberDescriptorType, GetSetDescriptorType}
