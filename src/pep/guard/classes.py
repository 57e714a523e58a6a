"""
Classes whose public methods are all guarded or exempt, subclasses too.

Imports sites, members and exemptions.
"""

from __future__ import annotations

from abc import ABC, ABCMeta
from collections.abc import Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

from pep.errors import ConfigurationError
from pep.guard.exempt import Exemption, standing
from pep.guard.members import Part, attributes, is_public, parts_of
from pep.guard.site import Site
from pep.guard.subclasses import watch_subclasses

C = TypeVar("C", bound=type[Any])

#: What is told of a cache around a guard.
CACHED: Final = "is cached outside its guard, which serves the revoked; drop the cache, or guard it"

#: Bases whose methods are the language's own.
_LANGUAGE: Final = (object, ABC, Generic, Protocol)


def all_guarded(cls: C) -> C:
    """
    Refuse a class with public methods that are neither guarded nor exempt, subclasses too.

    Public is what has no leading underscore, and ``__call__``; inherited or not. A method that is
    abstract may be left unguarded, its override may not.

    Raises:
        ConfigurationError: Naming every such method; also an override that undoes an inherited guard,
            a cache around one, and two inherited guards of which it is not clear which holds.
    """
    given: object = cls
    if not isinstance(given, type):
        message = f"`all_guarded` takes a class, not a `{type(given).__name__}`; guard it"
        raise ConfigurationError(message)
    _check(cls)
    watch_subclasses(cls, _check)
    return cls


def is_abstract(cls: type[Any], value: object) -> bool:
    """Tell whether an attribute is abstract in a class that enforces it, so that it never runs there."""
    return isinstance(cls, ABCMeta) and getattr(value, "__isabstractmethod__", False) is True


def undone(cls: type[Any]) -> Iterator[tuple[str, str]]:
    """Find inherited guards that an override undoes: the method's name, and how."""
    for name, (owner, value) in attributes(cls).items():
        if value is None or is_abstract(cls, value):
            continue
        parts = {part.suffix: part for part in parts_of(value)}
        bases = cls.__mro__[cls.__mro__.index(owner) + 1 :]
        for place, inherited in ((base, part) for base in bases for part in parts_of(vars(base).get(name))):
            problem = _undoing(parts, inherited.suffix) if isinstance(standing(inherited.fn), Site) else None
            if problem is not None:
                what = f"{name}{inherited.suffix}"
                yield what, f"{problem} the guarded `{place.__qualname__}.{what}`; guard it, too"


def conflicts(cls: type[Any]) -> Iterator[tuple[str, str]]:
    """Find methods that two bases guard differently: the method's name, and which they are."""
    inherited = [attributes(base) for base in cls.__bases__]
    for name in {name for known in inherited for name in known if is_public(name)} - vars(cls).keys():
        owners = {known[name][0] for known in inherited if name in known}
        last = [one for one in owners if not any(other is not one and issubclass(other, one) for other in owners)]
        guards = {id(site): owner for owner in last for site in _sites(vars(owner)[name])}
        if len(last) > 1 and len(set(guards.values())) > 1:
            told = " and ".join(sorted(f"`{owner.__qualname__}.{name}`" for owner in set(guards.values())))
            yield name, f"inherits the guards of {told}; define it here, guarded"


def _check(cls: type[Any]) -> None:
    problems = {**dict(_open(cls)), **dict(conflicts(cls)), **dict(undone(cls))}
    if problems:
        told = "\n".join(f"  `{name}` {problem}" for name, problem in sorted(problems.items()))
        message = f"`{cls.__qualname__}` is not all guarded; mend these:\n{told}"
        raise ConfigurationError(message)


def _open(cls: type[Any]) -> Iterator[tuple[str, str]]:
    for name, (owner, value) in attributes(cls).items():
        if not is_public(name) or _is_language(owner) or is_abstract(cls, value):
            continue
        for part in parts_of(value):
            state = standing(part.fn)
            origin = "" if owner is cls else f"(inherited from `{owner.__qualname__}`) "
            if state is None:
                mend = "drop the cache and guard it" if part.cached else "guard it, or mark it with `exempt`"
                yield name + part.suffix, f"{origin}is neither guarded nor exempt; {mend}"
            elif part.cached and isinstance(state, Site):
                yield (
                    name + part.suffix,
                    CACHED,
                )


def _undoing(parts: dict[str, Part], suffix: str) -> str | None:
    if not parts:
        return "replaces"
    if suffix not in parts:
        return None
    state = standing(parts[suffix].fn)
    if isinstance(state, Exemption):
        return "is exempt over"
    return "overrides" if state is None else None


def _sites(value: object) -> list[Site]:
    states = [standing(part.fn) for part in parts_of(value)]
    return [state for state in states if isinstance(state, Site)]


def _is_language(cls: type) -> bool:
    # Told by its module: importing `typing_extensions` costs a start more than all of this file.
    return cls in _LANGUAGE or cls.__module__ == "typing_extensions"
