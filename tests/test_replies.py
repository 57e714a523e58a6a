"""Replies: what is given up is closed, whatever it thinks of that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pep.plan import Plan, Raised, Returned, Sleep
from pep.replies import advance, brought, close


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
