"""
A survey of modules: every function written in them, under the name it is reached by.

Looks without running code of the objects it looks at. Imports members and what is below them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import attrs

from pep.asking import Asking
from pep.core import Core
from pep.guard.classes import is_abstract
from pep.guard.exempt import standing
from pep.guard.frameworks import handlers
from pep.guard.members import Part, attributes, is_function, is_public, parts_of


@attrs.frozen(eq=False)
class Found:
    """
    One function.

    Args:
        name: The full name it is reached by.

        fn: The function.

        public: Whether it counts as unguarded when nothing guards it.

        cached: Whether a cache stands around it.

        note: How it is reached, where the name does not say so.
    """

    name: str
    fn: Any
    public: bool
    cached: bool = False
    note: str = ""


@attrs.frozen(eq=False)
class Survey:
    """
    What some modules hold.

    Args:
        functions: Every function, once, under its best name.

        bound: Every attribute of the modules and their classes: full name, value.

        classes: The classes written in the modules.

        cores: The cores of enforcers that modules bind.

        registered: Functions registered with frameworks: the full name of the object, how, and the function.
    """

    functions: tuple[Found, ...]
    bound: tuple[tuple[str, Any], ...]
    classes: tuple[type[Any], ...]
    cores: tuple[Core, ...]
    registered: tuple[tuple[str, str, Any], ...]


def survey(modules: Mapping[str, ModuleType], packages: tuple[str, ...]) -> Survey:
    """
    Look at what modules hold.

    Args:
        modules: Name → module.

        packages: The packages whose functions count.
    """
    return _Surveyor(packages).look(modules)


class _Surveyor:
    def __init__(self, packages: tuple[str, ...]) -> None:
        self._packages = packages
        #: Class → whether it can be reached by a public name.
        self._classes: dict[type[Any], bool] = {}
        self._bound: list[tuple[str, Any]] = []
        self._found: list[Found] = []
        self._cores: list[Core] = []
        self._registered: list[tuple[str, str, Any]] = []

    def look(self, modules: Mapping[str, ModuleType]) -> Survey:
        for module_name in sorted(modules):
            for name, value in list(vars(modules[module_name]).items()):
                self._look_at(f"{module_name}.{name}", name, value)
        for cls, public in list(self._classes.items()):
            self._look_into(cls, public=public)
        return Survey(
            tuple(_once(self._found)),
            tuple(self._bound),
            tuple(self._classes),
            tuple(self._cores),
            tuple(self._registered),
        )

    def _look_at(self, full: str, name: str, value: Any) -> None:  # noqa: ANN401  any attribute of a module
        self._bound.append((full, value))
        kind = type(value)
        if issubclass(kind, type):
            self._meet(value, public=is_public(name))
            return
        if issubclass(kind, Asking):
            self._cores.append(value._core)  # noqa: SLF001  the core of an enforcer is the library's own
        if self._counts(kind.__module__):
            self._meet(kind, public=is_public(name))
        for part in parts_of(value):
            if self._written_here(part.fn):
                self._found.append(_found(full, part, public=is_public(name)))
        for how, fn in handlers(value):
            self._registered.append((full, how, fn))
            if is_function(fn) and self._counts(fn.__module__):
                note = f"registered with `{full}` as `{how}`"
                self._found.append(Found(f"{fn.__module__}.{fn.__qualname__}", fn, public=True, note=note))

    def _meet(self, cls: type[Any], *, public: bool) -> None:
        if not self._counts(cls.__module__) or self._classes.get(cls, not public) is public:
            return
        self._classes[cls] = public = public or self._classes.get(cls, False)
        for name, value in list(vars(cls).items()):
            if issubclass(type(value), type) and value.__qualname__.startswith(f"{cls.__qualname__}."):
                self._meet(value, public=public and is_public(name))

    def _look_into(self, cls: type[Any], *, public: bool) -> None:
        runs = public and not vars(cls).get("_is_protocol", False)
        for name, (owner, value) in attributes(cls).items():
            if not self._counts(owner.__module__):
                continue
            full = f"{owner.__module__}.{owner.__qualname__}.{name}"
            if owner is cls:
                self._bound.append((full, value))
            counts = runs and is_public(name) and not is_abstract(owner, value)
            for part in parts_of(value):
                if not self._written_here(part.fn):
                    continue
                found = _found(full, part, public=counts)
                self._found.append(_construction(found, owner) if name == "__init__" else found)

    def _counts(self, module: object) -> bool:
        return type(module) is str and any(module == one or module.startswith(f"{one}.") for one in self._packages)

    def _written_here(self, fn: Any) -> bool:  # noqa: ANN401  any function
        if not is_function(fn):
            return False
        if self._counts(fn.__module__) or standing(fn) is not None:
            return True
        # What a decorator of another package returned is bound here, not there.
        home = sys.modules.get(str(fn.__module__))
        return "<locals>" in fn.__qualname__ and not any(one is fn for one in getattr(home, "__dict__", {}).values())


def _found(full: str, part: Part, *, public: bool) -> Found:
    return Found(full + part.suffix, part.fn, public, part.cached)


def _construction(found: Found, owner: type[Any]) -> Found:
    return attrs.evolve(found, name=f"{owner.__module__}.{owner.__qualname__}", note="construction")


def _once(found: list[Found]) -> Iterator[Found]:
    """Keep of each function the name it was written under, or the first; public when any of them is."""
    grouped: dict[int, list[Found]] = {}
    for one in found:
        grouped.setdefault(id(one.fn), []).append(one)
    known: set[tuple[str, int]] = set()
    for best in sorted(map(_best, grouped.values()), key=lambda one: bool(one.note)):
        # What a framework wrapped in its own says the same of the same function.
        key = (best.name, id(standing(best.fn) or best.fn))
        if key not in known:
            known.add(key)
            yield best


def _best(group: list[Found]) -> Found:
    own = f"{group[0].fn.__module__}.{group[0].fn.__qualname__}"
    best = min(group, key=lambda one: (bool(one.note), not one.name.startswith(own), one.name))
    return attrs.evolve(best, public=any(one.public for one in group), cached=any(one.cached for one in group))
