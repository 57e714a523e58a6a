"""Which generator functions return nothing, as far as that can be seen."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pep.guard.shape import returns_nothing


def falls_off() -> Any:
    yield 1


def returns_early() -> Any:
    if (yield 1):
        return
    yield 2


def returns_none() -> Any:
    yield 1
    return None


def returns_constant() -> Any:
    yield 1
    return 7


def returns_variable(value: Any = None) -> Any:
    yield 1
    return value


def returns_either(value: Any = None) -> Any:
    yield 1
    return None if value else 3


def returns_inner() -> Any:
    return (yield from falls_off())


@pytest.mark.parametrize("fn", [falls_off, returns_early, returns_none])
def test_those_that_return_nothing(fn: Callable[..., Any]) -> None:
    """What only ever falls off its end may be iterated over."""
    assert returns_nothing(fn)


@pytest.mark.parametrize("fn", [returns_constant, returns_variable, returns_either, returns_inner])
def test_those_that_may_return_something(fn: Callable[..., Any]) -> None:
    """What may return a value is stepped through, so that the value arrives."""
    assert not returns_nothing(fn)


@pytest.mark.parametrize(("constant", "nothing"), [(None, True), (1, False)])
def test_a_constant_may_be_returned_at_once(constant: object, nothing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python 3.12 on that is an instruction of its own."""
    instruction = SimpleNamespace(opname="RETURN_CONST", argval=constant)
    monkeypatch.setattr("pep.guard.shape.dis.get_instructions", lambda _fn: [instruction])
    assert returns_nothing(falls_off) is nothing
