"""The functions behind an attribute."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from pep import Enforcer
from pep.guard.members import attributes, is_function, is_public, parts_of

enforcer = Enforcer.unbound("sample")


def fn(*_args: object) -> int:
    return 1


def other(*_args: object) -> int:
    return 1


@functools.singledispatch
def dispatched(value: object) -> int:
    return 1


@dispatched.register
def _of_int(value: int) -> int:
    return 1


class Dispatching:
    @functools.singledispatchmethod
    def handle(self, value: object) -> int:
        return 1

    @handle.register
    def _(self, value: str) -> int:
        return 1


class CallableObject:
    def __call__(self) -> int:
        return 1


class Gone:
    """A proxy of something that is not there."""

    @property
    def __wrapped__(self) -> Any:
        message = "outside of its context"
        raise RuntimeError(message)

    def __getattribute__(self, name: str) -> Any:
        message = "outside of its context"
        raise RuntimeError(message)

    def __call__(self) -> int:
        return 1


class Unset:
    __dict__ = property(lambda self: 1 / 0)  # type: ignore[assignment]


class Proxy:
    """As wrapt makes them: what is wrapped is no entry of the instance's dictionary."""

    __wrapped__ = property(lambda self: fn)

    def __call__(self) -> int:
        return fn()


class Hybrid:
    """As SQLAlchemy's hybrid properties: no property, with the accessors of one."""

    def __init__(self) -> None:
        self.fget, self.fset = fn, other


def odd_cache() -> Any:
    """As cachetools and async_lru make them: a function with methods of its cache."""

    @functools.wraps(fn)
    def wrapper() -> int:
        return 1

    wrapper.cache_clear = lambda: None  # type: ignore[attr-defined]
    return wrapper


guarded = enforcer.guard("read")(dispatched)

# What is looked at -> the suffixes of the functions behind it, and whether a cache stands around them.
TABLE: list[tuple[str, Any, list[tuple[str, bool]]]] = [
    ("function", fn, [("", False)]),
    ("static method", staticmethod(fn), [("", False)]),
    ("class method of a static method", classmethod(staticmethod(fn)), [("", False)]),
    ("bound method", fn.__get__(1), [("", False)]),
    ("property", property(fn, other), [("", False), (".setter", False)]),
    ("deleter", property(None, None, fn), [(".deleter", False)]),
    ("hybrid", Hybrid(), [("", False), (".setter", False)]),
    ("cached property", functools.cached_property(fn), [("", True)]),
    ("partial", functools.partial(functools.partial(fn), 1), [("", False)]),
    ("partial method", functools.partialmethod(fn, 1), [("", False)]),
    ("cache", functools.lru_cache(fn), [("", True)]),
    ("cache in a static method", staticmethod(functools.lru_cache(fn)), [("", True)]),
    ("cache as a function", odd_cache(), [("", True)]),
    ("dispatched function", dispatched, [("", False), ("[int]", False)]),
    ("guarded dispatched function", guarded, [("", False)]),
    ("dispatched method", vars(Dispatching)["handle"], [("", False), ("[str]", False)]),
    ("tool", SimpleNamespace(fn=fn, name="tool"), [("", False)]),
    ("proxy", Proxy(), [("", False)]),
    ("proxy of nothing", Gone(), [("", False)]),
    ("broken object", Unset(), []),
    ("callable object", CallableObject(), [("", False)]),
    ("builtin", len, []),
    ("method of a builtin", vars(dict)["get"], [("", False)]),
    ("class", CallableObject, []),
    ("number", 1, []),
    ("object with a value named `func`", SimpleNamespace(func=3), []),
]


@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_every_function_behind_an_attribute_is_found(value: Any, expected: list[tuple[str, bool]]) -> None:
    """Whatever wraps it, the function is found, and a cache around it is seen."""
    assert [(part.suffix, part.cached) for part in parts_of(value)] == expected


@pytest.mark.parametrize("value", [row[1] for row in TABLE[:17] if row[0] != "hybrid"])
def test_functions_are_what_is_found(value: Any) -> None:
    """What is found is the function, not what it was wrapped in."""
    assert all(is_function(part.fn) for part in parts_of(value))


@pytest.mark.parametrize(
    ("name", "expected"), [("read", True), ("_read", False), ("__call__", True), ("__getitem__", False)]
)
def test_public_names(name: str, expected: bool) -> None:
    """A leading underscore makes a name private; an object's call is public."""
    assert is_public(name) is expected


def test_attributes_are_those_in_effect() -> None:
    """Of an overridden attribute only the override is told, with the class that defines it."""

    @attrs.define
    class Wide:
        def read(self) -> int:
            return 1

        def write(self) -> int:
            return 1

    class Narrow(Wide):
        def read(self) -> int:
            return 2

    found = attributes(Narrow)
    assert (found["read"][0], found["write"][0]) == (Narrow, Wide)
