"""
Plans side by side: on one thread, where only what waits goes to threads of its own, or each in a task.

So sessions that belong to the caller's thread stay there, and deadlines mean the same in both
worlds. Imports plans and replies only; asyncio where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pep.errors import PDPError
from pep.plan import Gather, Invoke, Plan, Raised, Reply, Returned, Send, Sleep, Step, bounded
from pep.replies import advance, brought, close, late

if TYPE_CHECKING:
    import asyncio


class Abreast(Protocol):
    """What performs steps, here or on a thread."""

    def perform(self, step: Step) -> Reply:
        """Perform one step here."""
        ...

    def start(self, step: Step, landed: Callable[[Reply], None]) -> None:
        """Perform a step on a thread of its own."""

    def left(self, deadline: float | None) -> float:
        """Return how many seconds are left."""
        ...


class AAbreast(Protocol):
    """What runs plans in tasks."""

    @property
    def closing(self) -> Abreast:
        """What performs steps when a task is cut off."""
        ...

    async def to_end(self, plan: Plan[Any], reply: Any = None) -> Reply:  # noqa: ANN401  None starts a plan
        """Run a plan to its end."""
        ...

    def abandon(self, tasks: Sequence[asyncio.Future[Any]]) -> None:
        """Cancel what nobody waits for."""

    async def cut_short(self, tasks: Sequence[asyncio.Future[Any]]) -> None:
        """Cancel what is late, and let it end."""


class Race:
    """
    The plans of a step, each of their own steps bound by its deadline.

    Args:
        step: Which plans, until when, and whether the first that brings a value ends it.
    """

    def __init__(self, step: Gather) -> None:
        deadline = math.inf if step.deadline is None else step.deadline
        bound = [bounded(plan, deadline) for plan in step.plans]
        #: What is to be run, in order.
        self.plans: list[Plan[Any]] = [self._running(plan) for plan in bound] if step.first else bound
        #: Whether one of them has brought what nobody waits any longer for.
        self.over = False

    def _running(self, plan: Plan[Any]) -> Plan[Any]:
        """Run one of several; where another has won already, it never begins."""
        if self.over:
            raise late()
        value = yield from plan
        if type(value) is not Raised:
            self.over = True
        return value


class SideBySide:
    """
    Plans that are run side by side on this thread.

    Args:
        performer: What performs their steps.

        step: Which plans, and until when.
    """

    def __init__(self, performer: Abreast, step: Gather) -> None:
        from queue import SimpleQueue  # noqa: PLC0415  loaded only where plans run side by side

        self._performer = performer
        self._race = Race(step)
        self._deadline = step.deadline
        self._replies: list[Reply] = [Raised(late())] * len(step.plans)
        self._landed: SimpleQueue[tuple[int, Reply]] = SimpleQueue()
        self._waiting: set[int] = set()

    def run(self) -> Reply:
        """Run every plan to its end, or to the deadline; their replies are in the order of the plans."""
        from queue import Empty  # noqa: PLC0415  loaded only where plans run side by side

        waited = False
        try:
            for number in range(len(self._race.plans)):
                self._advance(number, None)
            while self._waiting and not self._race.over:
                waited = True
                try:
                    number, reply = self._landed.get(timeout=self._performer.left(self._deadline))
                except Empty:
                    break
                self._waiting.discard(number)
                self._advance(number, brought(reply))
        finally:
            for plan in self._race.plans:
                close(plan)
        return Returned(tuple(self._replies), suspended=waited)

    def _advance(self, number: int, reply: Any) -> None:  # noqa: ANN401  None starts a plan
        while True:
            ended, step = advance(self._race.plans[number], reply)
            if step is None:
                self._replies[number] = ended
                return
            if isinstance(step, (Sleep, Send)) or (isinstance(step, Invoke) and step.threaded):
                self._waiting.add(number)
                self._performer.start(step, lambda landed: self._landed.put((number, landed)))
                return
            reply = self._performer.perform(step)


async def side_by_side(performer: AAbreast, step: Gather) -> Reply:
    """Run plans side by side, each in a task; see `SideBySide`."""
    if not step.plans:
        return Returned(())
    import asyncio  # noqa: PLC0415  loaded only where there is a loop

    race = Race(step)
    until = asyncio.FIRST_COMPLETED if step.first else asyncio.ALL_COMPLETED
    tasks = [asyncio.ensure_future(performer.to_end(plan)) for plan in race.plans]
    awaited: set[asyncio.Future[Reply]] = set(tasks)
    try:
        while awaited and not race.over:
            left = None if step.deadline is None else performer.closing.left(step.deadline)
            done, awaited = await asyncio.wait(awaited, timeout=left, return_when=until)
            if not done or not step.first:
                break
    except BaseException:
        performer.abandon(tasks)
        raise
    overdue = [task for task in tasks if not task.done()]
    await performer.cut_short(overdue)
    return Returned(tuple(_came(task, task in overdue) for task in tasks), suspended=True)


def _came(task: asyncio.Future[Reply], overdue: bool) -> Reply:
    if overdue:
        return Raised(late(), suspended=True)
    return Raised(PDPError("a plan cancelled itself"), suspended=True) if task.cancelled() else task.result()
