"""What is open on purpose carries the reason."""

from __future__ import annotations

import functools
from typing import Any

import click
import pytest

from pep import Enforcer
from pep.errors import ConfigurationError
from pep.guard.exempt import Exemption, exemption_of, standing
from pep.guard.members import parts_of

enforcer = Enforcer.unbound("sample")
health = enforcer.exempt(reason="health check")


def plain() -> int:
    return 1


async def coroutine() -> int:
    return 1


class Host:
    def method(self) -> int:
        return 1


def made(kind: str) -> Any:
    """One fresh thing of each kind that can be exempt."""

    def fn(*_args: object) -> int:
        return 1

    async def afn(*_args: object) -> int:
        return 1

    return {
        "function": fn,
        "coroutine function": afn,
        "static method": staticmethod(fn),
        "class method": classmethod(fn),
        "static coroutine": staticmethod(afn),
        "bound method": fn.__get__(object()),
        "getter": property(fn),
        "setter alone": property(None, fn),
        "partial": functools.partial(fn, 1),
        "partial method": functools.partialmethod(fn, 1),
        "cached property": functools.cached_property(fn),
        "cache": functools.lru_cache(fn),
        "command": click.command(fn),
    }[kind]


KINDS = (
    "function",
    "coroutine function",
    "static method",
    "class method",
    "static coroutine",
    "bound method",
    "getter",
    "setter alone",
    "partial",
    "partial method",
    "cached property",
    "cache",
    "command",
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_its_reason(kind: str) -> None:
    """Whatever holds one function is returned as it is, and its function carries the reason."""
    target = made(kind)
    assert health(target) is target
    (part,) = parts_of(target)
    assert standing(part.fn) == Exemption("health check", "sample")


@pytest.mark.parametrize("reason", ["", "  ", None, 1, type("S", (str,), {})("text")])
def test_needs_a_reason(reason: Any) -> None:
    """An exemption without a reason is none."""
    with pytest.raises(ConfigurationError, match="needs a reason"):
        enforcer.exempt(reason=reason)


@pytest.mark.parametrize(
    "target",
    [
        enforcer.guard("read")(lambda: 1),
        staticmethod(enforcer.guard("read")(lambda: 1)),
        property(enforcer.guard("read")(lambda self: 1)),
        functools.partial(enforcer.guard("read")(lambda: 1)),
        functools.lru_cache(enforcer.guard("read")(lambda: 1)),
    ],
    ids=["function", "static method", "getter", "partial", "cache"],
)
def test_refused_over_a_guard(target: Any) -> None:
    """What is guarded cannot be exempt, however it is wrapped."""
    with pytest.raises(ConfigurationError, match="drop the guard"):
        health(target)


def test_guard_refused_over_exemption() -> None:
    """What is exempt cannot be guarded on top."""
    with pytest.raises(ConfigurationError, match="drop `exempt`"):
        enforcer.guard("read")(health(lambda: 1))


@pytest.mark.parametrize("target", [Host, len, 3, Host()], ids=["class", "builtin", "number", "instance"])
def test_refused_where_there_is_no_function(target: Any) -> None:
    """What holds no function cannot be marked, and the message says where to put the mark."""
    with pytest.raises(ConfigurationError, match="directly above the `def`"):
        health(target)


def test_accessors_are_exempted_one_by_one() -> None:
    """A mark above a setter does not open the getter with it, or leave the setter unmarked."""
    with pytest.raises(ConfigurationError, match="one by one"):
        health(property(lambda self: 1, lambda self, value: None))


def test_unmarked_functions_are_not_exempt() -> None:
    """A mark on one function marks no other."""
    assert exemption_of(plain) is None
    assert standing(coroutine) is None


def test_reason_is_found_through_wrappers() -> None:
    """A decorator above `exempt` that names what it wraps keeps the exemption, copied or not."""
    fn = health(made("function"))

    def wrapper() -> int:
        return 1

    wrapper.__wrapped__ = fn  # type: ignore[attr-defined]
    assert standing(wrapper) == standing(fn) == Exemption("health check", "sample")


def test_wrappers_in_a_circle_end() -> None:
    """Functions that name each other as wrapped are looked at once."""
    first, second = made("function"), made("function")
    first.__wrapped__, second.__wrapped__ = second, first
    assert standing(first) is None
