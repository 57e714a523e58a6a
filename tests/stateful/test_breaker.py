"""A circuit breaker on a clock that is moved, beside a model that remembers every call."""

from __future__ import annotations

import math
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pep.compose.breaker import Came, Circuit, CircuitBreaker, CircuitOpen, CircuitState, Pass, Transition
from pep.testing import FakeClock
from tests.proving import times

RATIO, LEAST, WINDOW, SLOW, OPEN_FOR, PROBES, PATIENCE, MISSED = 0.5, 3, 10.0, 2.0, 5.0, 2, 4.0, 2

#: How many tenths of the window a call counts for: the one it is in, and nine more.
TENTH: Final = WINDOW / 10


class Model:
    """What should be, plainly: every call that counted, and when."""

    def __init__(self) -> None:
        self.state, self.until = "closed", 0.0
        self.calls: list[tuple[float, bool]] = []
        self.missed = self.succeeded = 0
        #: Probes under way → when each has to be back.
        self.probing: dict[int, float] = {}
        #: Passes under way → in which turn of the state each was given.
        self.passes: dict[int, int] = {}
        self.turn = 0
        self.turns: list[str] = []

    def tick(self, now: float) -> None:
        if self.state == "open" and now >= self.until:
            self.go("half-open", now)
        elif self.state == "half-open" and any(due < now for due in self.probing.values()):
            self.go("open", now)

    def go(self, state: str, now: float) -> None:
        self.turns.append(f"{self.state} to {state}")
        self.state, self.turn = state, self.turn + 1
        self.missed = self.succeeded = 0
        self.probing = {}
        if state == "open":
            self.until = now + OPEN_FOR
        if state == "closed":
            self.calls = []

    def enters(self, number: int, now: float, *, health: bool) -> float | None:
        """Let somebody in, or tell when to come back."""
        if self.state == "open" and not health:
            return self.until - now
        if self.state == "half-open":
            if len(self.probing) + self.succeeded >= PROBES:
                return max(0.0, min(self.probing.values()) - now)
            self.probing[number] = now + PATIENCE
        self.passes[number] = self.turn
        return None

    def leaves(self, number: int, came: Came, took: float, now: float, *, health: bool) -> None:
        self.probing.pop(number, None)
        self.tick(now)
        if self.passes.pop(number) != self.turn:
            return
        slow = took >= SLOW
        if not slow and (came is Came.CUT_OFF or (came is Came.HURRIED and self.state == "closed")):
            return
        bad = slow or came is not Came.ANSWERED
        if self.state == "closed":
            self.calls.append((now, bad))
            self.missed = 0 if not bad else self.missed + health
            calls, failed = self.counted(now)
            if bad and ((calls >= LEAST and failed >= RATIO * calls) or self.missed >= MISSED):
                self.go("open", now)
        elif self.state == "half-open" and bad:
            self.go("open", now)
        elif not bad:
            if self.state == "open":
                self.go("half-open", now)
            self.succeeded += 1
            if self.succeeded >= PROBES:
                self.go("closed", now)

    def counted(self, now: float) -> tuple[int, int]:
        recent = [bad for when, bad in self.calls if when // TENTH > now // TENTH - 10]
        return len(recent), sum(recent)


class Breaking(RuleBasedStateMachine):
    """Calls begin and end in any order, time passes; who is let in, and what it is, is what the model says."""

    @initialize()
    def start(self) -> None:
        self.clock = FakeClock()
        self.told: list[Transition] = []
        breaker = CircuitBreaker(
            ratio=RATIO, least=LEAST, window=WINDOW, slow=SLOW, open_for=OPEN_FOR, probes=PROBES,
            probe_timeout=PATIENCE, missed=MISSED,
        )  # fmt: skip
        self.circuit = Circuit(
            "engine", breaker, clock=self.clock, random=lambda: 0.0, listener=lambda told: self.told.append(told)
        )
        self.model = Model()
        self.passes: dict[int, Pass] = {}
        self.number = 0

    @rule(health=st.sampled_from([False, False, True]))
    def enter(self, health: bool) -> None:
        now = self.clock.monotonic()
        self.model.tick(now)
        self.number += 1
        back = self.model.enters(self.number, now, health=health)
        if back is not None:
            with pytest.raises(CircuitOpen) as refused:
                self.circuit.enter(health=health)
            assert refused.value.retry_after == back
            return
        passed = self.circuit.enter(health=health)
        probing = health or self.model.state == "half-open"
        assert passed.due == (now + PATIENCE if probing else math.inf)
        self.passes[self.number] = passed

    @precondition(lambda self: self.passes)
    @rule(data=st.data(), came=st.sampled_from([Came.ANSWERED, Came.ANSWERED, Came.FAILED, Came.HURRIED, Came.CUT_OFF]))
    def leave(self, data: Any, came: Came) -> None:
        number = data.draw(st.sampled_from(sorted(self.passes)))
        passed = self.passes.pop(number)
        now = self.clock.monotonic()
        self.model.leaves(number, came, now - passed.began, now, health=passed.health)
        self.circuit.leave(passed, came)

    @rule(came=st.sampled_from([Came.ANSWERED, Came.FAILED]), calls=st.integers(1, 4), health=st.booleans())
    def come_and_go(self, came: Came, calls: int, health: bool) -> None:
        for _call in range(calls):
            before = self.number
            self.enter(health)
            if before + 1 in self.passes:
                passed, now = self.passes.pop(self.number), self.clock.monotonic()
                self.model.leaves(self.number, came, 0.0, now, health=passed.health)
                self.circuit.leave(passed, came)

    @rule(seconds=st.sampled_from([0.5, 1.0, SLOW, PATIENCE, OPEN_FOR, WINDOW]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def it_is_what_the_model_says(self) -> None:
        if not hasattr(self, "circuit"):
            return
        now = self.clock.monotonic()
        self.model.tick(now)
        health = self.circuit.health()
        assert (health["state"], health["calls"], health["bad"]) == (self.model.state, *self.model.counted(now))
        assert health.get("retry_after", 0.0) == (self.model.until - now if self.model.state == "open" else 0.0)
        assert self.circuit.is_open() == (self.model.state == "open")
        assert [f"{one.old.value} to {one.new.value}" for one in self.told] == self.model.turns
        assert len(self.circuit._probing) <= PROBES
        assert len(self.circuit._window._parts) <= 10

    def teardown(self) -> None:
        """However it got there: left alone, then asked and answered, it closes."""
        if not hasattr(self, "circuit"):
            return
        for _round in range(PROBES + 2):
            self.clock.advance(PATIENCE + OPEN_FOR)
            try:
                self.circuit.leave(self.circuit.enter(), Came.ANSWERED)
            except CircuitOpen:
                continue
        assert self.circuit.health()["state"] == "closed"


TestBreaking = Breaking.TestCase
TestBreaking.settings = settings(
    max_examples=times(60, 3_000), stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("_tripped", lambda _self, _now: False),
        ("_open", lambda self, now: self._turn_to(CircuitState.CLOSED, now)),
        ("is_open", lambda _self: False),
    ],
)
def test_the_machine_can_fail(name: str, instead: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a part of the breaker taken away, the machine and the breaker disagree."""
    monkeypatch.setattr(Circuit, name, instead)
    case = Breaking.TestCase
    quick = settings(
        max_examples=200,
        stateful_step_count=30,
        deadline=None,
        phases=[Phase.generate],
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    monkeypatch.setattr(case, "settings", quick)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        case("runTest").runTest()
