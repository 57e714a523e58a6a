"""A decision point that is asked with care: what is asked again, how often, in what time, and what gets through."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import Effect, Enforcer, Fault, Profile, Resource, Subject
from pep.audit import MemorySink
from pep.compose import CircuitBreaker, CircuitOpen, CombinedPDP, Hedge, ResilientPDP, Retries
from pep.compose.combine import Algorithm
from pep.compose.hedging import ENOUGH, Latencies
from pep.compose.retrying import TokenBudget
from pep.decision import Decision
from pep.drive import arun, run
from pep.errors import (
    ConfigurationError,
    PDPError,
    PDPInsecure,
    PDPMismatched,
    PDPOverloaded,
    PDPRejected,
    PDPReplyError,
    PDPTimeout,
    PDPUnavailable,
)
from pep.fault import AVAILABILITY, fault_of
from pep.found import Found
from pep.model import AccessRequest
from pep.pdp import FunctionPDP
from pep.plan import Plan, Raised, Returned, call, sleep
from pep.policy import PolicySet, permit
from pep.policy.partial import AllowAll
from pep.protocols import BatchPDP, RowFilterPDP, SearchPDP
from pep.testing import FakeClock, Stage, check_pdp
from tests.compose.simulation import Dice, Simulation, SlowBatchPDP, SlowPDP
from tests.proving import times

REQUEST: Final = AccessRequest(Subject("user", "alice"), "read", Resource("document", "1"))
DOWN: Final = [PDPUnavailable(), PDPTimeout(), PDPOverloaded(), ConnectionRefusedError(), TimeoutError()]
CLOSED: Final = [
    PDPRejected(),
    PDPInsecure(),
    PDPReplyError(),
    PDPMismatched(),
    PDPError(),
    ValueError(),
    StopIteration(),
    OSError(),
]


def script(*answers: Any) -> Callable[[float], Any]:
    """Give one answer after the other, the last again and again."""
    left = list(answers)
    return lambda _now: left.pop(0) if len(left) > 1 else left[0]


class Bench:
    """A resilient decision point before a slow one, in virtual time."""

    def __init__(self, *answers: Any, pdp: type[SlowPDP] = SlowPDP, **options: Any) -> None:
        self.simulation = Simulation()
        self.inner = pdp(self.simulation.clock, script(*answers))
        options.setdefault("random", Dice())
        self.pdp = ResilientPDP(self.inner, clock=self.simulation.clock, **options)

    def ask(self, deadline: float | None = 1.0) -> Any:
        return self.simulation.ask(self.pdp.decide(REQUEST), deadline)

    def took(self, deadline: float | None = 1.0) -> float:
        run = self.simulation.begin(self.pdp.decide(REQUEST), deadline)
        self.simulation.run()
        return run.took


# --- retries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", DOWN)
def test_what_was_not_available_is_asked_again(error: Exception) -> None:
    """Every fault of availability is worth another attempt, and an answer is an answer."""
    bench = Bench(error, error, 0.01)
    assert bench.ask().value == Decision(Effect.PERMIT)
    assert len(bench.inner.asked) == 3


@pytest.mark.parametrize("error", CLOSED)
def test_nothing_else_is_asked_again(error: Exception) -> None:
    """A fault that availability does not explain passes through as it is, at once, and opens nothing."""
    bench = Bench(error, breaker=CircuitBreaker(least=1))
    reply = bench.ask()
    assert fault_of(reply.error) is fault_of(error)
    assert fault_of(reply.error) not in AVAILABILITY
    assert len(bench.inner.asked) == 1
    assert bench.pdp.health()["state"] == "closed"


@pytest.mark.parametrize("error", DOWN)
@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_attempts_are_bounded(error: Exception, attempts: int) -> None:
    """There are so many attempts in all; then the last fault is the answer, as it is."""
    bench = Bench(error, retries=Retries(attempts=attempts))
    assert bench.ask(100.0).error is error
    assert len(bench.inner.asked) == attempts


def test_without_retries_there_is_one_attempt() -> None:
    """None is never again."""
    bench = Bench(PDPUnavailable(), retries=None)
    bench.ask()
    assert len(bench.inner.asked) == 1


def test_pauses_are_a_random_part_of_what_doubles() -> None:
    """Full jitter: between nothing and base, then twice base, never more than cap."""
    bench = Bench(PDPUnavailable(), retries=Retries(base=0.1, cap=10.0), random=Dice(0.5, 0.25))
    bench.ask(10.0)
    assert bench.inner.asked == pytest.approx([0.0, 0.05, 0.05 + 0.05])
    capped = Bench(PDPUnavailable(), retries=Retries(base=4.0, cap=1.0), random=Dice(0.5))
    capped.ask(10.0)
    assert capped.inner.asked == pytest.approx([0.0, 0.5, 1.0])


def test_retry_after_is_honoured_within_the_deadline() -> None:
    """An overloaded decision point is left alone as long as it asked for, and a little longer at random."""
    bench = Bench(PDPOverloaded(retry_after=0.4), 0.01, retries=Retries(base=0.1))
    assert bench.ask().value == Decision(Effect.PERMIT)
    assert bench.inner.asked == pytest.approx([0.0, 0.45])


def test_retry_after_past_the_deadline_is_the_fault_at_once() -> None:
    """A wait that the deadline would cut short never begins."""
    bench = Bench(PDPOverloaded(retry_after=0.9), 0.01)
    assert bench.took() == 0.0
    assert len(bench.inner.asked) == 1


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1.0, "soon", True])
def test_a_retry_after_that_is_none_is_overlooked(odd: Any) -> None:
    """What a decision point of somebody else's tells may be anything."""
    bench = Bench(PDPOverloaded(retry_after=odd), 0.01)
    assert bench.ask().value.effect is Effect.PERMIT


def test_nothing_begins_that_cannot_end_in_time() -> None:
    """Neither pause nor attempt, and a share of the time is kept for the rest of the call."""
    bench = Bench(PDPUnavailable(), retries=Retries(base=1.0), random=Dice(0.9), reserve=0.1)
    assert bench.took(1.0) == 0.0
    assert bench.took(1.01) == pytest.approx(0.9)
    late = Bench(0.2, reserve=0.5)
    reply = late.ask(0.3)
    assert fault_of(reply.error) is Fault.TIMEOUT
    assert late.simulation.clock.monotonic() == pytest.approx(1000.15, abs=1e-4)


def test_without_time_nobody_is_asked() -> None:
    """Time that was spent elsewhere is not the decision point's fault: it is not asked, and nothing is counted."""
    bench = Bench(0.01, breaker=CircuitBreaker(least=1))
    reply = bench.ask(0.004)
    assert "no time left to ask; raise the deadline" in str(reply.error)
    assert fault_of(reply.error) is Fault.TIMEOUT
    assert bench.inner.asked == []
    assert bench.pdp.health()["calls"] == 0


def test_an_attempt_has_a_bound_of_its_own() -> None:
    """So one that hangs leaves time for another."""
    bench = Bench(1e5, 0.01, retries=Retries(timeout=0.2, base=0.0))
    assert bench.ask().value == Decision(Effect.PERMIT)
    assert bench.inner.asked == pytest.approx([0.0, 0.2], abs=1e-4)


def test_an_answer_after_its_time_is_none() -> None:
    """What blocks cannot be cut short; it is late all the same."""
    clock = FakeClock()

    def blocking(_request: AccessRequest) -> Plan[bool]:
        yield from sleep(0)
        clock.advance(5.0)
        return True

    pdp = ResilientPDP(FunctionPDP(blocking), clock=clock, retries=Retries(timeout=1.0, attempts=1))
    with pytest.raises(PDPTimeout, match="too late"):
        run(pdp.decide(REQUEST), Stage(clock).performer)


# --- the token budget ---------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "cost"), [(PDPUnavailable(), 5), (PDPOverloaded(), 5), (PDPTimeout(), 10)])
def test_a_retry_costs(error: Exception, cost: int) -> None:
    """Five tokens, ten after a timeout; an answer earns one, up to the capacity."""
    bench = Bench(error, 0.01, retries=Retries(tokens=20))
    bench.ask()
    assert bench.pdp.health()["tokens"] == 20 - cost + 1
    for _answer in range(20):
        bench.ask()
    assert bench.pdp.health()["tokens"] == 20


def test_without_tokens_nothing_is_asked_again() -> None:
    """A budget that is spent stops retries, not questions."""
    bench = Bench(PDPUnavailable(), retries=Retries(tokens=14), breaker=None)
    for _question in range(10):
        bench.ask()
    assert len(bench.inner.asked) == 10 + 2
    assert bench.pdp.health()["tokens"] == 4


@settings(max_examples=times(100, 5_000))
@given(st.lists(st.sampled_from([0.001, PDPUnavailable(), PDPTimeout()]), max_size=60), st.integers(0, 40))
def test_retries_are_paid_for(answers: list[Any], tokens: int) -> None:
    """There are never more retries than the budget, and what answers earned, pay for."""
    bench = Bench(*answers, 0.001, retries=Retries(tokens=tokens), breaker=None)
    questions = answered = 0
    for _question in answers:
        questions += 1
        answered += type(bench.ask()) is Returned
    assert len(bench.inner.asked) <= questions + (tokens + answered) // 5
    assert len(bench.inner.asked) <= 3 * questions


def test_the_budget_is_refused_before_it_is_overdrawn() -> None:
    """A timeout may be too dear where a refusal is not."""
    budget = TokenBudget(9)
    assert not budget.retry(PDPTimeout())
    assert not budget.hedge()
    assert budget.retry(PDPUnavailable())
    assert not budget.retry(PDPUnavailable())
    assert budget.left == 4


@settings(max_examples=times(20, 1_000), deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 0.6), st.integers(0, 120), st.booleans())
def test_of_many_questions_a_tenth_is_asked_again(seed: int, failing: float, tokens: int, hedges: bool) -> None:
    """However they fail, and for however long: what the budget begins with is the first tenth."""
    budget, dice = TokenBudget(tokens), random.Random(seed)  # noqa: S311  repeatable
    answered = further = 0
    for _question in range(times(1_500, 5_000)):
        attempts = 0
        while attempts < 2 and dice.random() < failing:
            attempts += 1
            if not (budget.hedge() if hedges else budget.retry(PDPUnavailable())):
                break
            further += 1
        else:
            answered += 1
            budget.earn()
        assert further <= max(tokens // 5, answered // 10)
    # Whatever there was in good times, no more than that is saved.
    for _answer in range(20 * tokens + 100):
        budget.earn()
    again = 0
    while budget.retry(PDPUnavailable()):
        again += 1
    assert again == tokens // 5


# --- the circuit breaker ------------------------------------------------------------------------


def test_a_retry_stops_when_the_breaker_opens() -> None:
    """The fault is that of the decision point, and no pause is made for nothing."""
    error = PDPUnavailable()
    bench = Bench(error, breaker=CircuitBreaker(least=1))
    assert bench.ask().error is error
    assert len(bench.inner.asked) == 1


def test_an_open_breaker_refuses_at_once() -> None:
    """Nobody is asked, and whoever is refused is told when to come back."""
    bench = Bench(PDPUnavailable(), breaker=CircuitBreaker(least=1, open_for=4.0, jitter=0.5))
    bench.ask()
    bench.simulation.clock.advance(1.0)
    for _question in range(3):
        assert bench.took() == 0.0
    refused = bench.ask().error
    assert type(refused) is CircuitOpen
    assert refused.retry_after == pytest.approx(4.0)
    assert fault_of(refused) is Fault.OVERLOADED
    assert type(pickle.loads(pickle.dumps(refused))) is CircuitOpen  # noqa: S301  its own
    assert len(bench.inner.asked) == 1


def test_when_others_open_it_during_a_pause_the_fault_stands() -> None:
    """The first attempt's fault says more than the breaker's refusal."""
    bench = Bench(
        PDPUnavailable("first"), PDPUnavailable("second"), breaker=CircuitBreaker(least=2), retries=Retries(base=0.5)
    )
    one = bench.simulation.begin(bench.pdp.decide(REQUEST), 1.0)
    two = bench.simulation.begin(bench.pdp.decide(REQUEST), 1.0)
    bench.simulation.run()
    assert [str(run.reply.error) for run in (one, two)] == ["first", "second"]  # type: ignore[union-attr]
    assert len(bench.inner.asked) == 2


def test_hurried_attempts_do_not_open_it() -> None:
    """A call whose time was spent elsewhere says nothing about the decision point; one with a fair time does."""
    options: Any = {"breaker": CircuitBreaker(least=1, fair=0.1), "retries": None, "reserve": 0.0}
    hurried = Bench(1e5, **options)
    assert fault_of(hurried.ask(0.09).error) is Fault.TIMEOUT
    assert hurried.pdp.health()["state"] == "closed"
    fair = Bench(1e5, **options)
    fair.ask(0.11)
    assert fair.pdp.health()["state"] == "open"
    quick = Bench(PDPTimeout(), **options)
    quick.ask(0.09)
    assert quick.pdp.health()["state"] == "open"


def test_slow_answers_count_as_bad() -> None:
    """An answer is given all the same."""
    bench = Bench(0.3, breaker=CircuitBreaker(least=2, slow=0.2))
    assert bench.ask().value.effect is Effect.PERMIT
    assert bench.ask().value.effect is Effect.PERMIT
    assert bench.pdp.health()["state"] == "open"


def test_a_recovery_is_found_by_a_few() -> None:
    """After its time so many are let through at once; when they are answered, all are."""
    bench = Bench(
        PDPUnavailable(), 0.1, breaker=CircuitBreaker(least=1, open_for=1.0, jitter=0.0, probes=2), retries=None
    )
    bench.ask()
    bench.simulation.clock.advance(1.0)
    runs = [bench.simulation.begin(bench.pdp.decide(REQUEST), 1.0) for _ in range(5)]
    assert bench.pdp.health()["state"] == "half-open"
    bench.simulation.run()
    assert [type(run.reply) for run in runs] == [Returned, Returned, Raised, Raised, Raised]
    assert [run.reply.error.retry_after for run in runs[2:]] == [1.0] * 3  # type: ignore[union-attr]
    assert bench.pdp.health()["state"] == "closed"
    assert type(bench.ask()) is Returned


def test_a_probe_that_hangs_is_timed_out() -> None:
    """However long its own deadline, a probe has its time, and then the breaker is open again."""
    bench = Bench(PDPUnavailable(), 1e5, breaker=CircuitBreaker(least=1, open_for=1.0, jitter=0.0, probe_timeout=0.5))
    bench.ask()
    bench.simulation.clock.advance(1.0)
    assert bench.took(100.0) == pytest.approx(0.5, abs=1e-4)
    assert bench.pdp.health()["state"] == "open"


@pytest.mark.parametrize("probes", [1, 2])
def test_a_probe_that_is_dropped_frees_its_slot(probes: int) -> None:
    """However often those who probe are cancelled, there is a slot for the next one."""
    bench = Bench(PDPUnavailable(), 0.1, breaker=CircuitBreaker(least=1, open_for=1.0, jitter=0.0, probes=probes))
    bench.ask()
    bench.simulation.clock.advance(2.0)
    for _probe in range(5):
        run = bench.simulation.begin(bench.pdp.decide(REQUEST), 1.0)
        assert run.ended is None
        run.cancel()
    for _probe in range(probes):
        assert type(bench.ask()) is Returned
    assert bench.pdp.health()["state"] == "closed"


# --- the bulkhead -------------------------------------------------------------------------------


def test_a_full_bulkhead_refuses_at_once() -> None:
    """So many questions are in the air, and nobody waits for a place; who ends makes one."""
    bench = Bench(0.1, bulkhead=2)
    runs = [bench.simulation.begin(bench.pdp.decide(REQUEST), 1.0) for _ in range(3)]
    assert (bench.pdp.health()["in_flight"], bench.pdp.health()["crowded_out"]) == (2, 1)
    assert runs[2].ended is not None
    assert type(runs[2].reply.error) is PDPOverloaded  # type: ignore[union-attr]
    bench.simulation.run()
    assert [type(run.reply) for run in runs] == [Returned, Returned, Raised]
    assert bench.pdp.health()["in_flight"] == 0
    assert type(bench.ask()) is Returned


def test_without_a_bulkhead_there_is_no_bound() -> None:
    """None is any number."""
    bench = Bench(0.1, bulkhead=None)
    for _question in range(300):
        bench.simulation.begin(bench.pdp.decide(REQUEST), 1.0)
    assert bench.inner.most == 300


HEDGED: Final = {"hedge": Hedge(after=0.01)}


@pytest.mark.parametrize("options", [{}, HEDGED], ids=["plain", "hedged"])
@pytest.mark.parametrize("answers", [(0.1,), (PDPUnavailable(), 0.1), (PDPTimeout(), PDPUnavailable(), 0.1)])
@pytest.mark.parametrize("state", ["closed", "half-open"])
def test_wherever_a_question_is_dropped_everything_is_given_back(
    options: dict[str, Any], answers: tuple[Any, ...], state: str
) -> None:
    """Closed at any of its moments, as a cancelled task closes it: no seat, slot or inner question stays."""
    for moment in range(1, 100):
        breaker = CircuitBreaker(least=1 if state == "half-open" else 100, open_for=1.0, jitter=0.0, probes=2)
        before = (PDPUnavailable(),) if state == "half-open" else ()
        bench = Bench(*before, *answers, breaker=breaker, bulkhead=1, **options)
        if before:
            bench.ask()
            bench.simulation.clock.advance(2.0)
        run = bench.simulation.begin(bench.pdp.decide(REQUEST), 1.0)
        for _tick in range(moment):
            bench.simulation.run(bench.simulation.clock.monotonic())
            if run.ended is not None:
                break
            bench.simulation.clock.advance(0.007)
        ended = run.ended is not None
        run.cancel()
        assert bench.pdp.health()["in_flight"] == 0
        assert bench.inner.in_flight == 0
        assert bench.pdp._circuit._probing == set()
        if ended:
            return
    pytest.fail("it never came to its end")


# --- hedging ------------------------------------------------------------------------------------


def test_a_hedge_is_the_first_of_two_answers() -> None:
    """What takes long is asked a second time beside the first, once; that costs tokens."""
    bench = Bench(1e5, 0.02, hedge=Hedge(after=0.1))
    assert bench.took() == pytest.approx(0.12)
    assert bench.inner.asked == pytest.approx([0.0, 0.1])
    assert bench.inner.in_flight == 0
    assert bench.pdp.health()["tokens"] == 500 - 10 + 1


def test_an_answer_in_time_needs_no_hedge() -> None:
    """Nor does a failure: that is for the retries."""
    bench = Bench(0.05, hedge=Hedge(after=0.1))
    assert bench.took() == pytest.approx(0.05)
    assert len(bench.inner.asked) == 1
    failing = Bench(PDPUnavailable(), hedge=Hedge(after=0.1), retries=None)
    assert failing.took() == 0.0
    assert len(failing.inner.asked) == 1


def test_a_hedge_that_fails_leaves_it_to_the_first() -> None:
    """One usable answer is enough, whichever fails."""
    second_fails = Bench(0.3, PDPUnavailable(), hedge=Hedge(after=0.1))
    assert second_fails.ask().value.effect is Effect.PERMIT
    first_fails = Bench(0.3, 0.3, hedge=Hedge(after=0.1), retries=Retries(timeout=0.35, attempts=1))
    first_fails.inner.does = script(1e5, 0.3)
    assert first_fails.took() == pytest.approx(0.4)


def test_when_both_fail_the_first_fault_stands() -> None:
    """And is asked again, if there is time."""
    bench = Bench(1e5, PDPUnavailable(), hedge=Hedge(after=0.1), retries=Retries(timeout=0.2, attempts=1))
    assert fault_of(bench.ask().error) is Fault.TIMEOUT
    assert len(bench.inner.asked) == 2


def test_a_closing_fault_is_no_race() -> None:
    """What availability does not explain stands, whichever attempt met it."""
    bench = Bench(0.3, PDPRejected(), hedge=Hedge(after=0.1))
    asking = bench.simulation.begin(bench.pdp.decide(REQUEST), 1.0)
    bench.simulation.run()
    assert type(asking.reply.error) is PDPRejected  # type: ignore[union-attr]
    assert asking.took == pytest.approx(0.1)


def test_a_hedge_that_cannot_be_paid_is_not_made() -> None:
    """The first answer is waited for."""
    bench = Bench(0.3, hedge=Hedge(after=0.1), retries=Retries(tokens=9))
    assert bench.took() == pytest.approx(0.3)
    assert len(bench.inner.asked) == 1


def test_a_hedge_needs_time() -> None:
    """None is made that could not end within the deadline."""
    bench = Bench(0.3, hedge=Hedge(after=0.9))
    bench.ask(1.0)
    assert len(bench.inner.asked) == 1


def test_a_measured_hedge_waits_for_what_is_usual() -> None:
    """After enough answers, what nineteen of twenty stayed under is the delay; before, there is no hedge."""
    bench = Bench(*[0.01 * number for number in range(1, ENOUGH + 1)], 0.5, 0.05, hedge=Hedge())
    for _answer in range(ENOUGH):
        bench.ask()
    assert len(bench.inner.asked) == ENOUGH
    assert bench.took() == pytest.approx(0.2 + 0.05)
    assert len(bench.inner.asked) == ENOUGH + 2
    latencies = Latencies()
    assert latencies.usual() is None


# --- batches, rows, searches --------------------------------------------------------------------


def test_a_batch_counts_once() -> None:
    """One seat, one call in the window, one retry."""
    bench = Bench(PDPUnavailable(), 0.01, pdp=SlowBatchPDP, bulkhead=1)
    pdp: Any = bench.pdp
    assert isinstance(pdp, BatchPDP)
    assert bench.simulation.ask(pdp.decide_many([REQUEST] * 7), 1.0).value == [Decision(Effect.PERMIT)] * 7
    assert len(bench.inner.asked) == 2
    assert (bench.pdp.health()["calls"], bench.pdp.health()["bad"]) == (2, 1)
    assert bench.simulation.ask(pdp.decide_many([]), 1.0).value == []


@pytest.mark.parametrize(
    ("items", "asked"),
    [
        ([Raised(PDPUnavailable()), True], 1),
        ([Raised(PDPUnavailable()), Raised(PDPReplyError())], 1),
        ([Raised(PDPTimeout()), Raised(PDPUnavailable())], 3),
    ],
)
def test_a_batch_without_any_answer_failed(items: list[Any], asked: int) -> None:
    """Where every question met an outage the batch did; one answer, or another fault, is one from who is up."""
    clock, calls = FakeClock(), []

    class Batch(SlowPDP):
        def decide_many(self, requests: Any) -> Any:
            calls.append(requests)
            return items

    pdp: Any = ResilientPDP(Batch(clock), clock=clock, random=Dice())
    try:
        found = run(pdp.decide_many([REQUEST, REQUEST]), Stage(clock).performer)
    except PDPTimeout:
        found = None
    assert (found is None) == (asked > 1)
    assert len(calls) == asked


class Able(SlowBatchPDP):
    """Can do everything there is."""

    revision = "7"
    threaded = True

    def row_filter(self, _subject: Any, _action: Any, _type: str, *, context: Any, **_whose: Any) -> Any:
        self.context = context
        return self._answered(AllowAll())

    def search(self, wanted: str, _request: Any) -> Any:
        return self._answered(Found((wanted,), complete=True))

    def subscribe(self, listener: Any) -> None:
        self.listener = listener

    def health(self) -> Any:
        return {"pool": 3}

    def close(self) -> None:
        self.closed = True


def test_rows_and_searches_are_asked_with_care_too() -> None:
    """A failure is made good in the same way."""
    bench = Bench(PDPUnavailable(), 0.01, PDPUnavailable(), 0.01, pdp=Able)
    pdp: Any = bench.pdp
    rows = bench.simulation.ask(pdp.row_filter(REQUEST.subject, REQUEST.action, "document", context={"a": 1}), 1.0)
    assert rows.value == AllowAll()
    assert bench.inner.context == {"a": 1}  # type: ignore[attr-defined]
    assert bench.simulation.ask(pdp.search("subject", REQUEST), 1.0).value == Found(("subject",), complete=True)
    assert len(bench.inner.asked) == 4


def test_it_can_do_what_the_decision_point_can() -> None:
    """And nothing else; it is never pure."""
    able: Any = ResilientPDP(Able(FakeClock()))
    assert isinstance(able, BatchPDP)
    assert isinstance(able, RowFilterPDP)
    assert isinstance(able, SearchPDP)
    assert able.revision == "7"
    assert able.health()["inner"] == {"pool": 3}
    able.subscribe("listener")
    able.close()
    assert (able._pdp.listener, able._pdp.closed) == ("listener", True)
    plain: Any = ResilientPDP(FunctionPDP(lambda _request: True, name="f", pure=True))
    for protocol in (BatchPDP, RowFilterPDP, SearchPDP):
        assert not isinstance(plain, protocol)
    for ability in ("probe", "subscribe", "close", "aclose"):
        assert not hasattr(plain, ability)
    assert plain.revision is None
    assert "inner" not in plain.health()
    assert (plain.pure, plain.asynchronous, plain.name) == (False, False, "resilient(f)")
    assert ResilientPDP(plain, name="mine").name == "mine"


# --- health -------------------------------------------------------------------------------------


def test_probes_open_the_breaker_before_a_caller_comes() -> None:
    """So many health probes in a row that fail are an outage; one is not, nor are two with an answer between."""
    bench = Bench(PDPUnavailable(), 0.01, PDPUnavailable(), PDPUnavailable(), breaker=CircuitBreaker(missed=2))
    pdp: Any = bench.pdp
    states = []
    for _probe in range(4):
        bench.simulation.ask(pdp.probe(), 1.0)
        states.append(bench.pdp.health()["state"])
    assert states == ["closed", "closed", "closed", "open"]
    assert type(bench.ask().error) is CircuitOpen


def test_probes_find_a_recovery_before_a_caller_has_to_try() -> None:
    """A health probe is let through while it is open; when so many succeed, everybody is."""
    bench = Bench(PDPUnavailable(), PDPTimeout(), 0.01, breaker=CircuitBreaker(least=1, open_for=1000.0, probes=2))
    pdp: Any = bench.pdp
    bench.ask()
    assert type(bench.simulation.ask(pdp.probe(), 1.0).error) is PDPTimeout
    assert bench.pdp.health()["state"] == "open"
    assert bench.simulation.ask(pdp.probe(), 1.0) == Returned(None)
    assert bench.pdp.health()["state"] == "half-open"
    assert bench.simulation.ask(pdp.probe(), 1.0) == Returned(None)
    assert bench.pdp.health()["state"] == "closed"


def test_a_probe_takes_no_retry_and_no_seat() -> None:
    """It tells what is, once; where callers find that out already, it is refused."""
    bench = Bench(PDPUnavailable(), 0.2, bulkhead=1, breaker=CircuitBreaker(least=1, open_for=1.0, jitter=0, probes=1))
    pdp: Any = bench.pdp
    assert type(bench.simulation.ask(pdp.probe(), 1.0).error) is PDPUnavailable
    assert len(bench.inner.asked) == 1
    bench.simulation.clock.advance(2.0)
    run = bench.simulation.begin(bench.pdp.decide(REQUEST), 1.0)
    refused = bench.simulation.begin(pdp.probe(), 1.0)
    assert type(refused.reply.error) is CircuitOpen  # type: ignore[union-attr]
    bench.simulation.run()
    assert type(run.reply) is Returned


# --- both worlds --------------------------------------------------------------------------------


class Failing:
    """Fails twice, then answers; in steps."""

    def __init__(self, error: Exception) -> None:
        self.error, self.asked = error, 0

    def decide(self, _request: AccessRequest) -> Plan[bool]:
        self.asked += 1
        yield from sleep(0.01)
        if self.asked < 3:
            yield from call(self.fail)
        return True

    def fail(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [PDPUnavailable(), PDPTimeout(), PDPRejected()])
def test_both_worlds_do_the_same(error: Exception) -> None:
    """The same steps, the same answers, the same state."""
    told = []
    for asynchronous in (False, True):
        clock = FakeClock()
        inner = Failing(error)
        pdp = ResilientPDP(inner, clock=clock, random=Dice())
        stage = Stage(clock)
        try:
            plan: Plan[Any] = pdp.decide(REQUEST)
            found: Any = asyncio.run(arun(plan, stage.aperformer)) if asynchronous else run(plan, stage.performer)
        except PDPError as raised:
            found = type(raised)
        told.append((found, inner.asked, [type(step) for step in stage.steps], clock.monotonic(), pdp.health()))
    assert told[0] == told[1]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_hedge_in_both_worlds(asynchronous: bool) -> None:
    """For real, with threads and tasks: the second answer counts, and the first is let go."""
    asked: list[int] = []

    def decide(_request: AccessRequest) -> Plan[bool]:
        asked.append(1)
        yield from sleep(8.0 if len(asked) == 1 else 0.0)
        return True

    pdp = ResilientPDP(FunctionPDP(decide), hedge=Hedge(after=0.001))
    enforcer = Enforcer(pdp, audit=MemorySink(), profiles={"**": Profile(deadline=20.0)})
    verdict = asyncio.run(enforcer.acheck(REQUEST)) if asynchronous else enforcer.check(REQUEST)
    assert verdict.allowed
    assert len(asked) == 2
    assert pdp.health()["in_flight"] == 0


@pytest.mark.parametrize("answer", [None, 1, "true", [], {}, Effect.PERMIT, object()])
def test_only_an_exact_permit_permits(answer: object) -> None:
    """What is no decision is malformed, asked once, and never a permit."""
    pdp = ResilientPDP(FunctionPDP(lambda _request: answer, name="odd"))
    verdict = Enforcer(pdp, audit=MemorySink()).check(REQUEST)
    assert verdict.fault is Fault.MALFORMED
    assert not verdict.allowed


def test_it_conforms() -> None:
    """It keeps every rule of a decision point, around one and within a composition."""
    policies = PolicySet([permit("all", action="read", resource="document")])
    requests: Any = {"permitted": REQUEST, "denied": AccessRequest(REQUEST.subject, "drop", REQUEST.resource)}
    check_pdp(lambda: ResilientPDP(policies), **requests)
    check_pdp(lambda: ResilientPDP(policies, hedge=Hedge(after=0.0)), **requests)
    check_pdp(lambda: CombinedPDP(Algorithm.DENY_OVERRIDES, [ResilientPDP(policies), policies]), **requests)


# --- wiring -------------------------------------------------------------------------------------

POLICIES: Final = PolicySet([])


@pytest.mark.parametrize(
    ("make", "mend"),
    [
        (lambda: ResilientPDP(print), "wrap a function in `FunctionPDP`"),  # type: ignore[arg-type]
        (lambda: ResilientPDP(POLICIES, retries=3), "`retries` is a `int`; give a `Retries`"),  # type: ignore[arg-type]
        (lambda: ResilientPDP(POLICIES, breaker=Retries()), "give a `CircuitBreaker`"),  # type: ignore[arg-type]
        (lambda: ResilientPDP(POLICIES, hedge=0.1), "give a `Hedge`"),  # type: ignore[arg-type]
        (lambda: ResilientPDP(POLICIES, bulkhead=0), "`bulkhead` is `0`; give a whole number, 1 or more"),
        (lambda: ResilientPDP(POLICIES, bulkhead=True), "`bulkhead`"),
        (lambda: ResilientPDP(POLICIES, reserve=1.0), "give a share of the time, from 0 to below 1"),
        (lambda: ResilientPDP(POLICIES, reserve=float("nan")), "`reserve` is `nan`"),
        (lambda: ResilientPDP(POLICIES, listener=3), "`listener` is a `int`"),  # type: ignore[arg-type]
        (lambda: Retries(attempts=4), "a question is asked 1 to 3 times"),
        (lambda: Retries(attempts=0), "1 to 3 times"),
        (lambda: Retries(attempts=True), "1 to 3 times"),
        (lambda: Retries(base=-1.0), "`base`"),
        (lambda: Retries(timeout=0.0), "greater than 0"),
        (lambda: Retries(tokens=-1), "`tokens` is `-1`; give a whole number, 0 or more"),
        (lambda: Hedge(after=-0.1), "`after`"),
        (lambda: CircuitBreaker(ratio=0), "above 0, at most 1"),
        (lambda: CircuitBreaker(ratio=1.1), "above 0, at most 1"),
        (lambda: CircuitBreaker(ratio="half"), "`ratio` is a `str`"),  # type: ignore[arg-type]
        (lambda: CircuitBreaker(jitter=2.0), "a share from 0 to 1"),
        (lambda: CircuitBreaker(probes=0), "`probes`"),
        (lambda: CircuitBreaker(least=0), "`least`"),
        (lambda: CircuitBreaker(missed=0), "`missed`"),
        (lambda: CircuitBreaker(window=0), "`window`"),
        (lambda: CircuitBreaker(open_for=float("inf")), "`open_for`"),
        (lambda: CircuitBreaker(probe_timeout=0), "`probe_timeout`"),
        (lambda: CircuitBreaker(slow=0), "`slow`"),
        (lambda: CircuitBreaker(fair=-1), "`fair`"),
    ],
)
def test_mistakes_are_found_where_they_are_written(make: Callable[[], object], mend: str) -> None:
    """A number out of bounds, or a value of another type, is refused at once."""
    with pytest.raises(ConfigurationError, match=mend):
        make()


def test_unknown_options_are_refused() -> None:
    """A misspelled option is an error."""
    with pytest.raises(TypeError):
        ResilientPDP(POLICIES, retry=Retries())  # type: ignore[call-arg]
