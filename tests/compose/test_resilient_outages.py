"""Promise 9: bounded time and load, whatever an outage looks like, for a thousand callers in virtual time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import cycle, product
from typing import Any, Final

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import Resource, Subject
from pep.compose import CircuitBreaker, Hedge, ResilientPDP, Retries
from pep.errors import PDPOverloaded, PDPTimeout, PDPUnavailable
from pep.fault import AVAILABILITY, fault_of
from pep.model import AccessRequest
from pep.plan import Plan, Raised, Returned, call, sleep
from tests.compose.simulation import Run, Simulation, SlowPDP
from tests.proving import IN_FULL, times

CALLERS: Final = 1_000
DEADLINE: Final = 1.0
REQUEST: Final = AccessRequest(Subject("user", "alice"), "read", Resource("document", "1"))

#: How many seconds the callers' questions are spread over.
SPREAD: Final = 60.0


class TricklePDP(SlowPDP):
    """Sends a byte a second, and is always about to answer."""

    def _answered(self, answer: Any) -> Plan[Any]:
        self.asked.append(self.clock.monotonic() - self.made)
        for _byte in range(20):
            yield from sleep(1.0)
        return (yield from call(lambda: answer))


def flapping(period: float) -> Callable[[float], Any]:
    return lambda now: 0.01 if now % period < period / 2 else PDPUnavailable()


def now_and_then(every: int, error: Exception) -> Callable[[float], Any]:
    """Fail one attempt of so many, at no particular time."""
    turn = cycle([error, *[0.01] * (every - 1)])
    return lambda _now: next(turn)


#: What an outage looks like → the decision point, and what it does when.
OUTAGES: Final[dict[str, tuple[type[SlowPDP], Callable[[float], Any]]]] = {
    "hang": (SlowPDP, lambda _now: 1e5),
    "trickle": (TricklePDP, lambda _now: 0.0),
    "10x slow": (SlowPDP, lambda _now: 0.5),
    "too slow": (SlowPDP, lambda _now: 2.0),
    "refused": (SlowPDP, lambda _now: PDPUnavailable()),
    "429": (SlowPDP, lambda _now: PDPOverloaded(retry_after=0.1)),
    "timed out": (SlowPDP, lambda _now: PDPTimeout()),
    "flapping fast": (SlowPDP, flapping(0.2)),
    "flapping": (SlowPDP, flapping(4.0)),
    "flapping slowly": (SlowPDP, flapping(30.0)),
    "a third refused": (SlowPDP, now_and_then(3, PDPUnavailable())),
    "a fifth refused": (SlowPDP, now_and_then(5, PDPUnavailable())),
    "a fifth overloaded": (SlowPDP, now_and_then(5, PDPOverloaded())),
}
#: What is made of it.
WAYS: Final[dict[str, dict[str, Any]]] = {
    "as it comes": {},
    "attempts bounded": {"retries": Retries(timeout=0.2)},
    "slow calls count": {"breaker": CircuitBreaker(slow=0.3)},
    "hedged": {"hedge": Hedge(after=0.1)},
    "small bulkhead": {"bulkhead": 8},
    "no breaker": {"breaker": None},
}


@attrs.frozen
class Report:
    """What came of so many callers."""

    runs: list[Run]
    inner: SlowPDP
    pdp: ResilientPDP

    @property
    def p99(self) -> float:
        return sorted(run.took for run in self.runs)[int(0.99 * len(self.runs))]

    @property
    def attempts(self) -> int:
        return len(self.inner.asked)


def outage(kind: str, spread: float, seed: int = 0, **options: Any) -> Report:
    """Have a thousand callers ask during an outage, spread over so many seconds."""
    simulation, dice = Simulation(), random.Random(seed)  # noqa: S311  repeatable
    made, does = OUTAGES[kind]
    inner = made(simulation.clock, does)
    pdp = ResilientPDP(inner, clock=simulation.clock, random=dice.random, **options)
    runs: list[Run] = []
    for number in range(CALLERS):
        when = simulation.clock.monotonic() + spread * number / CALLERS
        simulation.at(when, lambda: runs.append(simulation.begin(pdp.decide(REQUEST), DEADLINE)))
    simulation.run()
    return Report(runs, inner, pdp)


@pytest.mark.parametrize(
    ("kind", "way", "spread"),
    [
        (kind, way, spread)
        for kind, way, spread in product(OUTAGES, WAYS, [0.0, 2.0, SPREAD])
        if IN_FULL or way == "as it comes" or spread == SPREAD
    ],
)
def test_time_and_load_are_bounded(kind: str, way: str, spread: float) -> None:
    """Everybody ends within the deadline, by an answer or a fault of availability, and few attempts are made."""
    report = outage(kind, spread, **WAYS[way])
    assert len(report.runs) == CALLERS
    assert report.p99 <= DEADLINE
    assert max(run.took for run in report.runs) <= DEADLINE
    for run in report.runs:
        assert isinstance(run.reply, Returned) or fault_of(run.reply.error) in AVAILABILITY
    assert report.attempts <= 1.1 * CALLERS
    assert report.inner.in_flight == 0
    assert report.pdp.health()["in_flight"] == 0


@pytest.mark.parametrize("kind", ["hang", "trickle", "refused", "429", "timed out", "too slow"])
def test_a_lasting_outage_is_hardly_asked(kind: str) -> None:
    """Once the breaker is open, only its probes get through."""
    report = outage(kind, SPREAD)
    assert report.attempts <= 0.2 * CALLERS
    assert report.pdp.health()["opened"] >= 1


@settings(max_examples=times(6, 500), deadline=None)
@given(
    st.sampled_from(sorted(OUTAGES)),
    st.floats(0.0, 100.0),
    st.integers(0, 2**32),
    st.sampled_from([1.0, 3.0, 20.0]),
    st.integers(1, 5),
)
def test_a_breaker_always_leaves_what_it_is_in(kind: str, spread: float, seed: int, lasts: float, probes: int) -> None:
    """Whatever happened before: once the decision point is up, it is asked again, and soon by everybody."""
    breaker = CircuitBreaker(open_for=lasts, probes=probes, probe_timeout=0.5)
    report = outage(kind, spread, seed, breaker=breaker)
    simulation = report.runs[0].simulation
    up = SlowPDP(simulation.clock)
    report.pdp._pdp = up
    came: Counter[bool] = Counter()
    for _caller in range(probes + 1):
        simulation.clock.advance(lasts * 1.2 + 0.5)
        came[isinstance(simulation.ask(report.pdp.decide(REQUEST), DEADLINE), Returned)] += 1
    assert came[True] >= probes
    assert report.pdp.health()["state"] == "closed"


def test_probes_that_are_all_cancelled_keep_nobody_out() -> None:
    """A thousand callers who give up while they probe; the next one is let through."""
    simulation = Simulation()
    inner = SlowPDP(simulation.clock, lambda now: PDPUnavailable() if now < 10 else 0.1)
    pdp = ResilientPDP(inner, clock=simulation.clock, breaker=CircuitBreaker(least=1, probes=1), random=lambda: 0.0)
    simulation.ask(pdp.decide(REQUEST), DEADLINE)
    simulation.clock.advance(100.0)
    for _caller in range(CALLERS):
        run = simulation.begin(pdp.decide(REQUEST), DEADLINE)
        assert run.ended is None
        run.cancel()
    assert isinstance(simulation.ask(pdp.decide(REQUEST), DEADLINE), Returned)


def test_the_simulation_can_fail() -> None:
    """Without budget and breaker, a refusing decision point is asked three times as often."""
    report = outage("refused", SPREAD, retries=Retries(tokens=10**9), breaker=None)
    assert report.attempts == 3 * CALLERS
    assert all(isinstance(run.reply, Raised) for run in report.runs)
