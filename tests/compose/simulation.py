"""Many callers in virtual time: a driver of plans that waits for nothing, and moves one clock for all of them."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count
from typing import Any

from pep.abreast import Race
from pep.plan import Gather, Invoke, Plan, Raised, Remaining, Reply, Returned, Sleep, bounded, call, sleep
from pep.replies import advance, close, late, within
from pep.testing import FakeClock


class Run:
    """One plan under way: what it came to, and when."""

    def __init__(self, simulation: Simulation, plan: Plan[Any], done: Callable[[Run], None]) -> None:
        self.simulation, self.plan, self.done = simulation, plan, done
        self.began = simulation.clock.monotonic()
        self.ended: float | None = None
        self.reply: Reply = Raised(late())
        self.parts: list[Run] = []

    def go_on(self, reply: Any = None) -> None:
        while self.ended is None:
            self.reply, step = advance(self.plan, reply)
            if step is None:
                self.ended = self.simulation.clock.monotonic()
                self.done(self)
                return
            reply = self.simulation.perform(step, self)
            if reply is None:
                return

    def cancel(self) -> None:
        if self.ended is None:
            self.ended = self.simulation.clock.monotonic()
            self.reply = Raised(late())
            for part in self.parts:
                part.cancel()
            close(self.plan)

    @property
    def took(self) -> float:
        return math.inf if self.ended is None else self.ended - self.began


class Simulation:
    """A clock, and what happens when."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), event))

    def begin(self, plan: Plan[Any], deadline: float | None = None) -> Run:
        """Begin a plan now, with so many seconds for all of it."""
        until = None if deadline is None else self.clock.monotonic() + deadline
        run = Run(self, bounded(plan, until), lambda _run: None)
        run.go_on()
        return run

    def ask(self, plan: Plan[Any], deadline: float | None = None) -> Reply:
        """Run one plan, and everything else, to the end."""
        run = self.begin(plan, deadline)
        self.run()
        assert run.ended is not None
        return run.reply

    def run(self, until: float = math.inf) -> None:
        while self._events and self._events[0][0] <= until:
            when, _number, event = heapq.heappop(self._events)
            self.clock.advance(max(0.0, when - self.clock.monotonic()))
            event()

    def perform(self, step: Any, run: Run) -> Reply | None:
        """Perform a step at once, or later."""
        now = self.clock.monotonic()
        left = 1e6 if step.deadline is None else max(0.0, step.deadline - now)
        match step:
            case Remaining():
                return Returned(left)
            case Sleep():
                # What is cut short ends past its deadline, as timers do.
                ends = now + (step.seconds if step.seconds <= left else left + 1e-6)
                self.at(ends, lambda: run.go_on(Returned(None, suspended=True)))
                return None
            case Gather():
                self._gather(step, run, left)
                return None
            case Invoke():
                if step.deadline is not None and now > step.deadline:
                    return Raised(late())
                return within(None, step.fn, step.args, {})
            case _:
                raise AssertionError(step)

    def _gather(self, step: Gather, run: Run, left: float) -> None:
        race = Race(step)

        def landed(_part: Run | None) -> None:
            over = race.over or all(part.ended is not None for part in parts)
            if parts and len(parts) == len(race.plans) and over and run.parts is parts:
                run.parts = []
                for part in parts:
                    part.cancel()
                self.at(self.clock.monotonic(), lambda: run.go_on(Returned(tuple(part.reply for part in parts))))

        parts: list[Run] = []
        run.parts = parts
        for plan in race.plans:
            parts.append(Run(self, plan, landed))
            parts[-1].go_on()
        landed(None)
        if left < 1e6:
            self.at(self.clock.monotonic() + left, lambda: [part.cancel() for part in parts] and landed(None))


class SlowPDP:
    """A decision point that takes its time in virtual seconds, and does what the time of day says."""

    name = "engine"

    def __init__(self, clock: FakeClock, does: Callable[[float], Any] = lambda _now: 0.01) -> None:
        self.clock = clock
        #: Seconds since it was made → how long the next answer takes, or what is raised.
        self.does = does
        self.made = clock.monotonic()
        self.asked: list[float] = []
        self.in_flight = self.most = 0

    def decide(self, _request: Any) -> Plan[bool]:
        return self._answered(True)

    def probe(self) -> Plan[None]:
        return self._answered(None)

    def _answered(self, answer: Any) -> Plan[Any]:
        now = self.clock.monotonic() - self.made
        self.asked.append(now)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            takes = self.does(now)
            if isinstance(takes, BaseException):
                raise takes
            yield from sleep(takes)
            return (yield from call(lambda: answer))
        finally:
            self.in_flight -= 1


class SlowBatchPDP(SlowPDP):
    """The same, for many questions at once."""

    def decide_many(self, requests: Any) -> Plan[list[bool]]:
        return self._answered([True] * len(requests))


class Dice:
    """Random numbers that are not: always the same."""

    def __init__(self, *values: float) -> None:
        self.values = list(values) or [0.5]

    def __call__(self) -> float:
        return self.values.pop(0) if len(self.values) > 1 else self.values[0]
