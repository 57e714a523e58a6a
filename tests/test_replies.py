"""Replies: what is given up is closed, whatever it thinks of that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pep.plan import Plan, Raised, Returned, Sleep
from pep.replies import advance, awaitable, brought, close, discard


async def coroutine() -> None:
    """Do nothing."""


class Closing:
    """Counts how often it was closed or cancelled, and fails at it."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def close(self) -> None:
        self.ended.append("closed")
        raise RuntimeError


class Cancelling:
    """The same, for what can only be cancelled."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def cancel(self) -> None:
        self.ended.append("cancelled")


def test_an_awaitable_nobody_awaits_is_closed() -> None:
    """Closed or cancelled, or left alone where it knows neither; failing at it is no news."""
    discard(coroutine())
    closing, cancelling = Closing(), Cancelling()
    discard(closing)
    discard(cancelling)
    discard(object())
    assert (closing.ended, cancelling.ended) == (["closed"], ["cancelled"])


def test_what_must_be_awaited_is_told_by_its_class() -> None:
    """An attribute of the object is not enough, as for the language."""
    made = coroutine()
    assert awaitable(made)
    made.close()
    plain = Closing()
    plain.__await__ = lambda: iter(())  # type: ignore[attr-defined]
    assert not awaitable(plain)


def test_a_plan_that_yields_while_closing_is_left_as_it_is() -> None:
    """No plan's ending disturbs who ends it."""

    def stubborn() -> Iterator[int]:
        try:
            yield 1
        finally:
            yield 2

    plan: Any = stubborn()
    next(plan)
    close(plan)


def test_advancing_tells_step_end_and_error_apart() -> None:
    """A step comes with no end; an end or an error with no step; memory that ran out is neither."""

    def plan(error: BaseException | None) -> Plan[int]:
        yield Sleep(1.0)
        if error is not None:
            raise error
        return 7

    fine, failing, ending = plan(None), plan(KeyError()), plan(MemoryError())
    for one in (fine, failing, ending):
        assert isinstance(advance(one, None)[1], Sleep)
    assert advance(fine, None) == (Returned(7), None)
    ended, step = advance(failing, None)
    assert isinstance(ended, Raised)
    assert isinstance(ended.error, KeyError)
    assert step is None
    with pytest.raises(MemoryError):
        advance(ending, None)


def test_what_another_thread_brought_says_that_time_passed() -> None:
    """A reply from elsewhere is marked as such; memory that ran out there ran out here."""
    error = KeyError()
    assert brought(Returned(1)) == Returned(1, suspended=True)
    assert brought(Raised(error)) == Raised(error, suspended=True)
    with pytest.raises(MemoryError):
        brought(Raised(MemoryError()))
