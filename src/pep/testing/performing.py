"""
Performers that count steps, let one of them go wrong, and never sleep.

A *stage* directs the performers of both worlds. Imports the drivers and what is below them.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import GeneratorType
from typing import Any

import attrs

from pep.drive import APerformer, Performer
from pep.plan import Reply, Returned, Sleep, Step, Write
from pep.protocols import Clock
from pep.testing.clock import FakeClock
from pep.testing.mishaps import Mishap


@attrs.frozen
class Event:
    """Something that happened while an enforcer was at work: what, and what it is about."""

    what: str
    about: Any = None


class Stage:
    """
    Counts the steps that are performed on it, and lets one of them go wrong.

    Args:
        clock: What time it is; a `FakeClock` is moved by what sleeps and hangs.

        at: Which step goes wrong, counted from 0; None is none of them.

        mishap: What befalls it.

        lost: Told when a record that nobody could await did not arrive.

    Attributes:
        steps: Every step that was performed, in order.

        struck: Whether the mishap has happened.

        timeline: What a sink acknowledged, and what a test noted itself, in order; see `laws`.
    """

    def __init__(
        self,
        clock: Clock,
        at: int | None = None,
        mishap: Mishap | None = None,
        *,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.clock = clock
        self.steps: list[Step] = []
        self.struck = False
        self.timeline: list[Event] = []
        self._at = at
        self._mishap = mishap
        self.performer = StagedPerformer(self)
        self.aperformer = StagedAPerformer(self, lost)

    def directed(self, step: Step) -> tuple[Step, ...]:
        """Count a step, and return what to perform in its place."""
        self.steps.append(step)
        mishap, clock = self._mishap, self.clock
        if mishap is None or len(self.steps) - 1 != self._at or not mishap.strikes(step):
            return (step,)
        if not isinstance(clock, FakeClock):
            message = "what goes wrong may move the clock; use a `FakeClock`"
            raise TypeError(message)
        self.struck = True
        return mishap.steps(step, clock)

    def note(self, what: str, value: object = None) -> None:
        """Note that something happened now: ``"ran"`` for protected code, ``"released"`` for a result."""
        self.timeline.append(Event(what, value))

    def slept(self, step: Sleep, left: float) -> Reply | None:
        """Let the clock sleep in place of everybody else; None where it cannot."""
        if not isinstance(self.clock, FakeClock):
            return None
        self.clock.advance(min(step.seconds, left))
        return Returned(None, suspended=True)

    def ended(self, step: Step, reply: Reply) -> Reply:
        """Note what a step came to; a sink that answers with a plan has acknowledged nothing yet."""
        if isinstance(step, Write) and type(reply) is Returned and type(reply.value) is not GeneratorType:
            self.note("acknowledged", step.record)
        return reply


class StagedPerformer(Performer):
    """Performs steps on the calling thread, as a stage directs."""

    def __init__(self, stage: Stage, hand_over: Callable[[Awaitable[Any]], None] | None = None) -> None:
        super().__init__(stage.clock, None if hand_over is None else functools.partial(self._left, hand_over))
        self._stage = stage
        self._left_to_loop = False

    def perform(self, step: Step) -> Reply:
        """Perform what the stage makes of a step."""
        reply: Reply = Returned(None)
        self._left_to_loop = False
        for each in self._stage.directed(step):
            slept = self._stage.slept(each, self.left(each.deadline)) if isinstance(each, Sleep) else None
            reply = slept or super().perform(each)
        return reply if self._left_to_loop else self._stage.ended(step, reply)

    def _left(self, hand_over: Callable[[Awaitable[Any]], None], value: Awaitable[Any]) -> None:
        """Leave an awaitable to the loop: what it acknowledges is noted once it does."""
        step, self._left_to_loop = self._stage.steps[-1], True
        noting = self._noting(value, step)
        try:
            hand_over(noting)
        except RuntimeError:
            noting.close()
            raise

    async def _noting(self, value: Awaitable[Any], step: Step) -> Any:  # noqa: ANN401  whatever it comes to
        came = await value
        self._stage.ended(step, Returned(came))
        return came


class StagedAPerformer(APerformer):
    """Performs steps in the running task, as a stage directs."""

    def __init__(self, stage: Stage, lost: Callable[[], None]) -> None:
        super().__init__(stage.clock, lost)
        self._stage = stage
        self.closing = StagedPerformer(stage, self._adopt)

    async def perform(self, step: Step) -> Reply:
        """Perform what the stage makes of a step."""
        reply: Reply = Returned(None)
        for each in self._stage.directed(step):
            slept = self._stage.slept(each, self.closing.left(each.deadline)) if isinstance(each, Sleep) else None
            reply = slept or await super().perform(each)
        return self._stage.ended(step, reply)
