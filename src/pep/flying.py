"""
Flying: how a flight is launched and waited for, in either world.

Imports flights, plans and replies only; asyncio where it is used.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pep.flights import Ended, Flight
from pep.plan import Launch, Plan, Reply, Returned, Step, Wait
from pep.replies import advance, close

if TYPE_CHECKING:
    import asyncio


class Performing(Protocol):
    """What performs steps on this thread."""

    def perform(self, step: Step) -> Reply:
        """Perform one step."""
        ...

    def left(self, deadline: float | None) -> float:
        """Return how many seconds are left."""
        ...


class APerforming(Protocol):
    """What performs steps in this task."""

    @property
    def closing(self) -> Performing:
        """What performs steps when a task is cut off."""
        ...

    async def perform(self, step: Step) -> Reply:
        """Perform one step."""
        ...

    async def to_end(self, plan: Plan[Any], reply: Any = None) -> Reply:  # noqa: ANN401  None starts a plan
        """Run a plan to its end."""
        ...

    def keep(self, task: asyncio.Future[Any]) -> None:
        """Hold on to a task until it ends."""

    def abandon(self, tasks: Sequence[asyncio.Future[Any]]) -> None:
        """Cancel what nobody waits for."""

    async def cut_short(self, tasks: Sequence[asyncio.Future[Any]]) -> None:
        """Cancel what is late, and let it end."""


def launch(performer: Performing, step: Launch) -> Reply:
    """Run a plan to its end on this thread, and land its flight with what it came to."""
    step.flight.launched, suspended, reply = True, False, None
    try:
        while True:
            ended, todo = advance(step.plan, reply)
            if todo is None:
                step.flight.land(ended)
                return Returned(None, suspended)
            reply = performer.perform(todo)
            suspended = suspended or reply.suspended
    finally:
        close(step.plan)
        # Nothing changes where it has landed.
        step.flight.land(Ended.ABANDONED)


def wait(performer: Performing, step: Wait) -> Reply:
    """Wait on this thread for a flight to land."""
    flight = step.flight
    if flight.is_down():
        return Returned(flight.landed)
    if flight.thread == threading.get_ident():
        return Returned(Ended.ALONE)
    from queue import Empty, SimpleQueue  # noqa: PLC0415  loaded only where there are threads

    landed: SimpleQueue[None] = SimpleQueue()
    wake = partial(landed.put, None)
    flight.listen(wake)
    try:
        landed.get(timeout=performer.left(step.deadline))
    except Empty:
        return Returned(Ended.TIMED_OUT, suspended=True)
    finally:
        flight.leave(wake)
    return Returned(flight.landed, suspended=True)


def alaunch(performer: APerforming, step: Launch) -> Reply:
    """Have a task of its own run a plan to its end, and land its flight with what it came to."""
    import asyncio  # noqa: PLC0415  loaded only where there is a loop

    flight, loop = step.flight, asyncio.get_running_loop()
    # Begun here: a task that is cancelled before its first step never gets into the plan.
    ended, first = advance(step.plan, None)
    if first is None:
        flight.land(ended)
        return Returned(None)
    task = loop.create_task(_flown(performer, step, first))
    flight.launched, flight.loop, flight.task = True, loop, task
    performer.keep(task)
    task.add_done_callback(partial(_down, step))
    return Returned(None)


async def await_landing(performer: APerforming, step: Wait) -> Reply:
    """Wait in this task for a flight to land; the last who gives up ends it."""
    flight = step.flight
    if flight.is_down():
        return Returned(flight.landed)
    import asyncio  # noqa: PLC0415  loaded only where there is a loop

    loop = asyncio.get_running_loop()
    if flight.thread == threading.get_ident() and flight.loop is not loop:
        return Returned(Ended.ALONE)
    landed: asyncio.Future[None] = loop.create_future()
    wake = partial(_wake, loop, landed)
    flight.listen(wake)
    try:
        await asyncio.wait({landed}, timeout=performer.closing.left(step.deadline))
    except BaseException:
        flight.leave(wake)
        performer.abandon(_unwanted(flight, loop))
        raise
    flight.leave(wake)
    if flight.is_down():
        return Returned(flight.landed, suspended=True)
    await performer.cut_short(_unwanted(flight, loop))
    return Returned(Ended.TIMED_OUT, suspended=True)


async def _flown(performer: APerforming, step: Launch, first: Step) -> None:
    step.flight.land(await performer.to_end(step.plan, await performer.perform(first)))


def _down(step: Launch, _task: asyncio.Task[None]) -> None:
    close(step.plan)
    # Nothing changes where it has landed.
    step.flight.land(Ended.ABANDONED)


def _unwanted(flight: Flight, loop: object) -> list[asyncio.Task[None]]:
    """Name the task of a flight that nobody waits for any longer."""
    return [flight.task] if flight.task is not None and flight.loop is loop and flight.is_empty() else []


def _wake(loop: asyncio.AbstractEventLoop, landed: asyncio.Future[None]) -> None:
    def land() -> None:
        if not landed.done():
            landed.set_result(None)

    try:
        loop.call_soon_threadsafe(land)
    except RuntimeError:  # the loop was closed meanwhile: nobody waits
        return
