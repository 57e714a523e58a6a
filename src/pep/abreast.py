"""
Plans side by side on one thread: only what waits goes to threads of its own.

So sessions that belong to the caller's thread stay there, and deadlines mean the same as in
asyncio. Imports plans and replies only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from pep.plan import Gather, Invoke, Plan, Raised, Reply, Returned, Send, Sleep, Step, bounded
from pep.replies import advance, brought, close, late


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


def plans_of(step: Gather) -> tuple[Plan[Any], ...]:
    """Return the plans of a step, each of their own steps bound by its deadline."""
    deadline = math.inf if step.deadline is None else step.deadline
    return tuple(bounded(plan, deadline) for plan in step.plans)


class SideBySide:
    """
    Plans that are run side by side.

    Args:
        performer: What performs their steps.

        step: Which plans, and until when.
    """

    def __init__(self, performer: Abreast, step: Gather) -> None:
        from queue import SimpleQueue  # noqa: PLC0415  loaded only where plans run side by side

        self._performer = performer
        self._plans = plans_of(step)
        self._deadline = step.deadline
        self._replies: list[Reply] = [Raised(late())] * len(step.plans)
        self._landed: SimpleQueue[tuple[int, Reply]] = SimpleQueue()
        self._waiting: set[int] = set()

    def run(self) -> Reply:
        """Run every plan to its end, or to the deadline; their replies are in the order of the plans."""
        from queue import Empty  # noqa: PLC0415  loaded only where plans run side by side

        waited = False
        try:
            for number in range(len(self._plans)):
                self._advance(number, None)
            while self._waiting:
                waited = True
                try:
                    number, reply = self._landed.get(timeout=self._performer.left(self._deadline))
                except Empty:
                    break
                self._waiting.discard(number)
                self._advance(number, brought(reply))
        finally:
            for plan in self._plans:
                close(plan)
        return Returned(tuple(self._replies), suspended=waited)

    def _advance(self, number: int, reply: Any) -> None:  # noqa: ANN401  None starts a plan
        while True:
            ended, step = advance(self._plans[number], reply)
            if step is None:
                self._replies[number] = ended
                return
            if isinstance(step, (Sleep, Send)) or (isinstance(step, Invoke) and step.threaded):
                self._waiting.add(number)
                self._performer.start(step, lambda landed: self._landed.put((number, landed)))
                return
            reply = self._performer.perform(step)
