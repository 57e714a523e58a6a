"""The parts of a circuit breaker that no model shows: who is told, threads, forks and the window's memory."""

from __future__ import annotations

import os
import threading
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep import Resource, Subject
from pep.compose import CircuitBreaker, CircuitOpen, ResilientPDP, Transition
from pep.compose.breaker import Came, Circuit, CircuitState
from pep.compose.bulkhead import Bulkhead
from pep.compose.retrying import TokenBudget
from pep.compose.window import PARTS, Window
from pep.errors import PDPOverloaded, PDPTimeout
from pep.model import AccessRequest
from pep.pdp import FunctionPDP
from pep.testing import FakeClock

REQUEST: Final = AccessRequest(Subject("user", "alice"), "read", Resource("document", "1"))


def circuit(clock: FakeClock, listener: Any = None, **options: Any) -> Circuit:
    breaker = CircuitBreaker(**{"least": 1, "open_for": 4.0, **options})
    return Circuit("engine", breaker, clock=clock, random=lambda: 0.5, listener=listener)


def test_a_listener_is_told_of_every_transition() -> None:
    """In order, after the fact, with what counted then."""
    told: list[Transition] = []
    clock = FakeClock()
    it = circuit(clock, told.append, probes=1, jitter=0.0)
    it.leave(it.enter(), Came.FAILED)
    clock.advance(4.0)
    it.leave(it.enter(), Came.ANSWERED)
    assert told == [
        Transition("engine", CircuitState.CLOSED, CircuitState.OPEN, 1, 1),
        Transition("engine", CircuitState.OPEN, CircuitState.HALF_OPEN, 1, 1),
        Transition("engine", CircuitState.HALF_OPEN, CircuitState.CLOSED, 0, 0),
    ]


def test_a_listener_that_fails_disturbs_nobody() -> None:
    """What it raises is counted; it may ask how the breaker is, from any thread."""
    clock = FakeClock()
    seen: list[Any] = []

    def listen(_told: Transition) -> None:
        thread = threading.Thread(target=lambda: seen.append(it.health()["state"]))
        thread.start()
        thread.join(5.0)
        raise KeyError

    it = circuit(clock, listen)
    it.leave(it.enter(), Came.FAILED)
    assert seen == ["open"]
    assert it.health()["unheard"] == 1


def test_somebody_else_may_have_told_it() -> None:
    """Two threads that want to tell the same transition tell it once."""
    told: list[Transition] = []
    it = circuit(FakeClock(), told.append)

    class Gone:
        def __bool__(self) -> bool:
            return True

        def popleft(self) -> Any:
            raise IndexError

    it._untold = Gone()  # type: ignore[assignment]
    it._tell()
    assert told == []


def test_a_probe_that_never_comes_back_holds_its_slot_no_longer_than_its_time() -> None:
    """A breaker that is half open always leaves: once its probe is overdue it opens again, and tries again later."""
    clock = FakeClock()
    it = circuit(clock, probes=1, jitter=0.0, probe_timeout=1.0)
    it.leave(it.enter(), Came.FAILED)
    clock.advance(4.0)
    hanging = it.enter()
    clock.advance(0.5)
    assert it.health()["state"] == "half-open"
    clock.advance(1.0)
    assert it.health()["state"] == "open"
    clock.advance(4.0)
    it.leave(it.enter(), Came.ANSWERED)
    it.leave(hanging, Came.FAILED)
    assert it.health()["state"] == "closed"


def test_an_answer_opens_nothing() -> None:
    """However many calls failed before it: whoever answers is up."""
    it = circuit(FakeClock(), least=3)
    for came in (Came.FAILED, Came.FAILED, Came.ANSWERED):
        it.leave(it.enter(), came)
    assert (it.health()["calls"], it.health()["state"]) == (3, "closed")
    it.leave(it.enter(), Came.FAILED)
    assert it.health()["state"] == "open"


def test_it_opens_for_a_random_time() -> None:
    """So that processes do not all come back at once."""
    it = circuit(FakeClock(), jitter=0.5)
    it.leave(it.enter(), Came.FAILED)
    with pytest.raises(CircuitOpen, match="`engine` is not asked: its circuit breaker is open") as refused:
        it.enter()
    assert refused.value.retry_after == 4.0 * 1.25


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=200))
def test_the_window_counts_what_is_recent_in_bounded_memory(calls: list[tuple[float, bool]]) -> None:
    """Everything of the last nine tenths of it, nothing older than all of it, in ten parts."""
    window, now, ended = Window(10.0), 0.0, list[tuple[float, bool]]()
    for pause, bad in calls:
        now += pause
        window.add(now, bad=bad)
        ended.append((now, bad))
        counted = window.counts(now)
        sure = [one for when, one in ended if when > now - 9.0]
        maybe = [one for when, one in ended if when >= now - 10.0]
        assert len(sure) <= counted[0] <= len(maybe)
        assert sum(sure) <= counted[1] <= sum(maybe)
        assert len(window._parts) <= PARTS


def test_a_call_that_is_late_to_be_counted_is_counted_now() -> None:
    """A thread that read the clock before another one has moved on loses nothing."""
    window = Window(10.0)
    window.add(5.0, bad=False)
    window.add(3.0, bad=True)
    assert window.counts(5.0) == (2, 1)
    window.clear()
    assert window.counts(5.0) == (0, 0)


def test_threads_do_not_disturb_its_counts() -> None:
    """As many calls as were made, and no slot is left."""
    it = circuit(FakeClock(), least=10**9)
    bulkhead, budget = Bulkhead("engine", 8), TokenBudget(10**6)

    def work() -> None:
        for number in range(500):
            seat = bulkhead.enter()
            it.leave(it.enter(), Came.FAILED if number % 2 else Came.ANSWERED)
            budget.hedge()
            bulkhead.leave(seat)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (it.health()["calls"], it.health()["bad"]) == (4_000, 2_000)
    assert bulkhead.taken == bulkhead.refused == 0
    assert budget.left == 10**6 - 40_000


def test_what_is_renewed_is_as_it_was_made() -> None:
    """Closed, empty and full; what was given out before counts no more, and takes nobody's place."""
    it, bulkhead, budget = circuit(FakeClock()), Bulkhead("engine", 1), TokenBudget(10)
    early = it.enter()
    it.leave(it.enter(), Came.FAILED)
    seat = bulkhead.enter()
    budget.hedge()
    for one in (it, bulkhead, budget):
        one._renew()  # type: ignore[attr-defined]
    it.leave(early, Came.FAILED)
    assert (it.health()["state"], it.health()["calls"], it.health()["opened"]) == ("closed", 0, 0)
    bulkhead.enter()
    bulkhead.leave(seat)
    assert (bulkhead.taken, budget.left) == (1, 10)


def in_child(check: Any) -> int:
    """Run a check in a forked child; return its exit status."""
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if check() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_begins_anew() -> None:
    """Closed, with every seat and token, whatever the parent's threads were at; what the parent had stays its own."""

    def refusing(_request: AccessRequest) -> bool:
        raise PDPTimeout

    pdp = ResilientPDP(FunctionPDP(refusing), breaker=CircuitBreaker(least=1), bulkhead=1, clock=FakeClock())
    pdp._tokens.hedge()
    gate, held = threading.Event(), threading.Event()
    passed = pdp._circuit.enter()
    with pytest.raises(PDPTimeout):
        from_plan(pdp.decide(REQUEST))
    seat = pdp._bulkhead.enter()
    with pytest.raises(PDPOverloaded, match="asked 1 questions already"):
        pdp._bulkhead.enter()

    def hold() -> None:
        with pdp._circuit._lock, pdp._bulkhead._lock, pdp._tokens._lock:
            held.set()
            gate.wait(10.0)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10.0)

    def check() -> bool:
        # What the parent's plans give back here was never taken here.
        pdp._bulkhead.leave(seat)
        pdp._circuit.leave(passed, Came.FAILED)
        fresh = pdp.health()
        pdp._bulkhead.enter()
        pdp._circuit.enter()
        wanted = {"state": "closed", "calls": 0, "bad": 0, "refused": 0, "opened": 0, "unheard": 0}
        return fresh == {**wanted, "in_flight": 0, "crowded_out": 0, "tokens": 500}

    try:
        assert in_child(check) == 0
    finally:
        gate.set()
        thread.join()
    assert pdp.health()["state"] == "open"
    assert (pdp.health()["in_flight"], pdp.health()["crowded_out"]) == (1, 1)


def from_plan(plan: Any) -> Any:
    from pep.drive import Performer, run  # noqa: PLC0415  for one test

    return run(plan, Performer(FakeClock()))
