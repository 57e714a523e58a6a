"""
Members: the functions behind an attribute, whatever it is wrapped in.

Looks without running code of the objects it looks at. Imports sites and wrappers.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, NamedTuple

from pep.guard.site import Site, own_site
from pep.guard.wrap import wrap

#: Accessor of a property → what is added to the property's name.
_ACCESSORS: Final = (("fget", ""), ("fset", ".setter"), ("fdel", ".deleter"))

#: Attributes under which an object that is made from a function keeps it.
_KEPT: Final = ("__wrapped__", "func", "fn", "callback")

#: Attributes by which functions with a cache are known: `functools`, `cachetools`, `async_lru`.
_CACHES: Final = ("cache_info", "cache_clear", "cache_key")


class Part(NamedTuple):
    """
    One function behind an attribute.

    Args:
        suffix: What is added to the attribute's name, such as ``.setter``.

        fn: The function, or a callable that cannot be looked into.

        cached: Whether what it returned is kept and served again.
    """

    suffix: str
    fn: Any
    cached: bool = False


def is_public(name: str) -> bool:
    """Tell whether users of a class or module are meant to call what has this name."""
    return not name.startswith("_") or name == "__call__"


def is_function(value: object) -> bool:
    """Tell whether it is a Python function, or a guarded one that passes for one."""
    kind = type(value)
    return issubclass(kind, FunctionType) or kind.__module__ == wrap.__module__


def attributes(cls: type[Any]) -> dict[str, tuple[type[Any], Any]]:
    """Return what a class has, its own and inherited: name → the class that defines it, and the value."""
    found: dict[str, tuple[type[Any], Any]] = {}
    for owner in reversed(type.mro(cls)):
        found.update({name: (owner, value) for name, value in vars(owner).items()})
    return found


def parts_of(value: Any, suffix: str = "", *, cached: bool = False) -> Iterator[Part]:  # noqa: ANN401  any attribute
    """
    Find the functions behind an attribute of a class or module; none behind plain data and classes.

    Args:
        value: The attribute as it is kept, not as it is got.

        suffix: What was added to its name already.

        cached: Whether a cache stands around it already.
    """
    kind = type(value)
    if issubclass(kind, (type, BuiltinFunctionType)):
        return
    cached = cached or _caches(value)
    if issubclass(kind, (staticmethod, classmethod, MethodType)):
        yield from parts_of(value.__func__, suffix, cached=cached)
    elif inspect.getattr_static(kind, "fget", None) is not None or "fget" in _own(value):
        for name, label in _ACCESSORS:
            yield from parts_of(getattr(value, name, None), suffix + label, cached=cached)
    elif issubclass(kind, functools.singledispatchmethod):
        yield from _implementations(value.dispatcher, suffix, cached=cached)
    elif is_function(value):
        yield from _functions(value, suffix, cached=cached)
    elif (inner := _inner(value)) is not None:
        yield from parts_of(inner, suffix, cached=cached)
    elif callable(value):
        yield Part(suffix, value, cached)


def chain(fn: Any) -> Iterator[Any]:  # noqa: ANN401  any function
    """Yield a function, then what it wraps, outermost first."""
    seen: set[int] = set()
    while fn is not None and id(fn) not in seen:
        seen.add(id(fn))
        yield fn
        fn = _own(fn).get("__wrapped__")


def layers(site: Site) -> Iterator[Site]:
    """Yield the site of a guard, then those of the guards under it, outermost first."""
    yield site
    for one in chain(site.fn):
        inner = own_site(one)
        if inner is not None:
            yield from layers(inner)


def _functions(fn: Any, suffix: str, *, cached: bool) -> Iterator[Part]:  # noqa: ANN401  any function
    if {"registry", "dispatch"} <= _own(fn).keys() and own_site(fn) is None:
        yield from _implementations(fn, suffix, cached=cached)
    else:
        yield Part(suffix, fn, cached)


def _implementations(dispatcher: Any, suffix: str, *, cached: bool) -> Iterator[Part]:  # noqa: ANN401  a `singledispatch` function
    for kind, implementation in dispatcher.registry.items():
        label = "" if kind is object else f"[{kind.__qualname__}]"
        yield from parts_of(implementation, suffix + label, cached=cached)


def _inner(value: Any) -> Any:  # noqa: ANN401  any function
    if issubclass(type(value), functools.partial):
        return value.func
    own = _own(value)
    for name in _KEPT:
        if name in own and _leads_on(own[name]):
            return own[name]
    proxied = inspect.getattr_static(type(value), "__wrapped__", None)
    try:
        found = None if proxied is None else proxied.__get__(value, type(value))
    except Exception:  # noqa: BLE001  a proxy of what is not there now
        return None
    return found if _leads_on(found) else None


def _leads_on(value: object) -> bool:
    kinds = (functools.partial, MethodType, staticmethod, classmethod)
    return is_function(value) or issubclass(type(value), kinds) or "__wrapped__" in _own(value)


def _caches(value: object) -> bool:
    if issubclass(type(value), functools.cached_property) or type(value).__name__.endswith("cached_property"):
        return True
    return any(inspect.getattr_static(value, name, None) is not None for name in _CACHES)


def _own(value: object) -> dict[str, Any]:
    try:
        own = object.__getattribute__(value, "__dict__")
    except Exception:  # noqa: BLE001  a proxy of what is not there now
        return {}
    return own if isinstance(own, dict) else {}
