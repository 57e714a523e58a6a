"""
Plans side by side: on one thread, where only what waits goes to threads of its own, or each in a task.

So sessions that belong to the caller's thread stay there, and deadlines mean the same in both
worlds. Imports plans and replies only; asyncio where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

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


class _Group:
    """
    The plans of one step, and what came of them so far.

    Args:
        step: Which plans, and until when.

        owner: The group whose plan waits for this one, and that plan's number; None for the outermost.
    """

    def __init__(self, step: Gather, owner: tuple[_Group, int] | None) -> None:
        self.race = Race(step)
        self.deadline = math.inf if step.deadline is None else step.deadline
        self.owner = owner
        self.waited = False
        self._replies: list[Reply] = [Raised(late())] * len(step.plans)
        self._running = len(step.plans)

    @property
    def done(self) -> bool:
        """Whether nobody has to wait for it any longer."""
        return not self._running or self.race.over

    def came(self, number: int, reply: Reply) -> None:
        """Take what a plan ended with."""
        self._replies[number] = reply
        self._running -= 1

    def reply(self) -> Reply:
        """Return the replies of its plans, in their order."""
        return Returned(tuple(self._replies), suspended=self.waited)

    def within(self, other: _Group) -> bool:
        """Tell whether it is another group, or waited for by one of its plans."""
        return self is other or (self.owner is not None and self.owner[0].within(other))


class _Wait(NamedTuple):
    """A plan that waits for a step on a thread: in which group, its number, and until when."""

    group: _Group
    number: int
    deadline: float


class SideBySide:
    """
    Plans that are run side by side on this thread, and those that they run side by side in their turn.

    Args:
        performer: What performs their steps.

        step: Which plans, and until when.
    """

    def __init__(self, performer: Abreast, step: Gather) -> None:
        from queue import SimpleQueue  # noqa: PLC0415  loaded only where plans run side by side

        self._performer = performer
        self._landed: SimpleQueue[tuple[int, Reply]] = SimpleQueue()
        self._numbers = count()
        self._waits: dict[int, _Wait] = {}
        # Those that run, an outer one before those within it.
        self._groups: list[_Group] = []
        self._step = step

    def run(self) -> Reply:
        """Run every plan to its end, or to the deadline; their replies are in the order of the plans."""
        try:
            outermost = self._begun(self._step, None)
            while outermost in self._groups:
                self._wait()
        finally:
            if self._groups:
                self._end(self._groups[0])
        return outermost.reply()

    def _begun(self, step: Gather, owner: tuple[_Group, int] | None) -> _Group:
        group = _Group(step, owner)
        self._groups.append(group)
        for number in range(len(step.plans)):
            self._advance(group, number, None)
        if group.done:
            self._end(group)
        return group

    def _advance(self, group: _Group, number: int, reply: Any) -> None:  # noqa: ANN401  None starts a plan
        """Go on with a plan, until it ends, or waits for a thread or for plans of its own."""
        while True:
            ended, step = advance(group.race.plans[number], reply)
            if step is None:
                group.came(number, ended)
                return
            if isinstance(step, Gather):
                inner = self._begun(step, (group, number))
                if inner in self._groups:
                    return
                reply = inner.reply()
            elif isinstance(step, (Sleep, Send)) or (isinstance(step, Invoke) and step.threaded):
                self._start(group, number, step)
                return
            else:
                reply = self._performer.perform(step)

    def _start(self, group: _Group, number: int, step: Sleep | Send | Invoke) -> None:
        # To sleep until the deadline is not to be late.
        endless = step.deadline is None or isinstance(step, Sleep)
        wait = next(self._numbers)
        self._waits[wait] = _Wait(group, number, math.inf if endless else step.deadline)  # type: ignore[arg-type]
        self._performer.start(step, lambda reply: self._landed.put((wait, reply)))

    def _wait(self) -> None:
        """Wait for a step on a thread, or for the first deadline."""
        from queue import Empty  # noqa: PLC0415  loaded only where plans run side by side

        # Of one moment, that of the outermost counts: what is cut short then has no say in it.
        bounds: list[_Group | _Wait] = [*self._groups, *self._waits.values()]
        due = min(bounds, key=_deadline)
        try:
            number, reply = self._landed.get(timeout=self._performer.left(due.deadline))
        except Empty:
            self._late(due)
            return
        wait = self._waits.pop(number, None)
        # Nobody waits any longer for what comes after its deadline.
        if wait is not None:
            self._resume(wait.group, wait.number, brought(reply))

    def _late(self, due: _Group | _Wait) -> None:
        if isinstance(due, _Group):
            due.waited = True
            self._finish(due)
            return
        self._waits = {number: wait for number, wait in self._waits.items() if wait is not due}
        self._resume(due.group, due.number, Raised(late(), suspended=True))

    def _resume(self, group: _Group, number: int, reply: Reply) -> None:
        group.waited = True
        self._advance(group, number, reply)
        if group.done:
            self._finish(group)

    def _finish(self, group: _Group) -> None:
        """End a group, and go on with the plan that waits for it."""
        self._end(group)
        if group.owner is not None:
            self._resume(*group.owner, group.reply())

    def _end(self, group: _Group) -> None:
        """Close the plans of a group, those of inner ones before them, and wait for none of them any longer."""
        ended = [one for one in self._groups if one.within(group)]
        self._groups = [one for one in self._groups if one not in ended]
        self._waits = {number: wait for number, wait in self._waits.items() if wait.group not in ended}
        for one in reversed(ended):
            for plan in one.race.plans:
                close(plan)


def _deadline(due: _Group | _Wait) -> float:
    return due.deadline


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
