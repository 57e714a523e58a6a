"""A question that nobody awaits does not go unnoticed."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Coroutine
from typing import Any

import pytest

from pep import AccessDenied, Grant, Resource, acting_as
from pep.guard.awaiting import Asked
from tests.guard.rigs import ALICE, MALLORY, Rig, wait

DOC = Resource("document", "42")


def ask(rig: Rig) -> Any:
    return rig.enforcer.aenforce("edit", DOC)


@pytest.mark.parametrize("how", ["await", "task", "gather", "wait_for"])
def test_it_is_awaited_like_any_coroutine(how: str) -> None:
    """The event loop takes it in every way it takes coroutines."""
    rig = Rig()

    async def main() -> Any:
        asked = ask(rig)
        assert inspect.isawaitable(asked)
        assert asyncio.iscoroutine(asked)
        assert rig.asked == []
        if how == "task":
            return await asyncio.ensure_future(asked)
        if how == "gather":
            return (await asyncio.gather(asked))[0]
        if how == "wait_for":
            return await asyncio.wait_for(asked, None)
        return await asked

    with acting_as(ALICE):
        assert isinstance(wait(main()), Grant)
    assert rig.told() == ["permitted"]


def test_it_asks_for_who_acted_at_the_call() -> None:
    """The subject is captured at the call, the question asked when it is awaited."""
    rig = Rig()

    async def main() -> None:
        with acting_as(ALICE):
            asked = ask(rig)
            with acting_as(MALLORY):
                await asked

    wait(main())
    assert [request.subject for request in rig.asked] == [ALICE]


def test_a_denial_is_raised_where_it_is_awaited() -> None:
    """Calling it denies nothing yet."""
    rig = Rig(False)

    async def main() -> None:
        asked = ask(rig)
        with pytest.raises(AccessDenied):
            await asked

    with acting_as(ALICE):
        wait(main())


def test_dropped_it_warns_and_writes_a_record() -> None:
    """Un-awaited, it decides nothing, warns, and leaves a record that is no permit."""
    rig = Rig()
    with acting_as(ALICE):
        asked = [ask(rig)]
        with pytest.warns(RuntimeWarning, match="`aenforce` was never awaited: nothing was decided"):
            asked.clear()
    assert rig.asked == []
    assert [(record.get("status"), record.get("outcome")) for record in rig.records] == [("abandoned", None)]


def test_closed_on_purpose_it_is_silent() -> None:
    """Whoever closes it knows."""
    rig = Rig()
    with acting_as(ALICE):
        asked = ask(rig)
        asked.close()
        del asked
        gc.collect()
    assert rig.records == []


def test_a_task_cancelled_before_it_began_is_silent() -> None:
    """Cancelled before its first step, nothing was asked and nothing is complained of."""
    rig = Rig()

    async def main() -> None:
        task = asyncio.ensure_future(ask(rig))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with acting_as(ALICE):
        wait(main())
    assert (rig.asked, rig.records) == ([], [])


class Stopped(Exception):  # noqa: N818  what a test throws in
    pass


@pytest.mark.parametrize("thrown", [(Stopped(),), (Stopped, Stopped(), None)], ids=["value", "triple"])
@pytest.mark.filterwarnings("ignore:the \\(type, exc, tb\\) signature:DeprecationWarning")
def test_what_is_thrown_in_is_raised_inside(thrown: tuple[Any, ...]) -> None:
    """`throw` takes what a coroutine's does."""

    async def answer() -> int:
        return 1

    asked: Asked[int] = Asked("ask", answer, lambda: None)
    with pytest.raises(Stopped):
        asked.throw(*thrown)


def test_by_hand_it_steps_like_a_coroutine() -> None:
    """`send` takes it to its end."""

    async def answer() -> int:
        return 1

    asked: Coroutine[Any, Any, int] = Asked("ask", answer, lambda: None)
    with pytest.raises(StopIteration, match="1"):
        asked.send(None)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        asked.send(None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_it_warns_even_where_the_record_fails() -> None:
    """What goes wrong with the record does not hide the warning."""

    async def answer() -> int:
        return 1

    def broken() -> None:
        raise RuntimeError

    asked = [Asked("ask", answer, broken)]
    with pytest.warns(RuntimeWarning, match="`ask` was never awaited"):
        asked.clear()


def test_one_that_was_never_made_is_silent() -> None:
    """A failed construction is collected without another error."""
    with pytest.raises(TypeError):
        Asked("ask")  # type: ignore[call-arg]
    gc.collect()
