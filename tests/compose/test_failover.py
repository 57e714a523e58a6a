"""Fail-over: who is asked, when it moves on, and when it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pep import Decision, Effect, Enforcer, Fault, Profile
from pep.audit import MemorySink
from pep.compose import FailoverPDP
from pep.drive import arun, run
from pep.errors import ConfigurationError, PDPRejected, PDPTimeout, PDPUnavailable
from pep.fault import AVAILABILITY, fault_of
from pep.pdp import FunctionPDP
from pep.plan import Plan, contain, remaining, sleep
from pep.policy import PolicySet, permit, resource
from pep.policy.partial import AllowAll
from pep.testing import FailingPDP, FakeClock, check_pdp
from pep.testing.performing import Stage
from tests.compose.composing import BatchPart, Part, Word, answers, many, perform, request_for, said, word
from tests.proving import times

WORLDS: Final = ("sync", "async")
worlds: Final = pytest.mark.parametrize("world", WORLDS)


def expected(words: list[Word]) -> Word:
    """The first that is available; where none is, the first."""
    return next((one for one in words if one not in AVAILABILITY), words[0])


@settings(max_examples=times(300, 50_000))
@given(st.lists(answers, min_size=2, max_size=4), st.sampled_from(WORLDS))
def test_only_the_permit_of_the_first_available_permits(given_: list[Any], world: str) -> None:
    """It moves on for faults of availability alone; whatever else came, stands, by its own kind."""
    parts = [Part(answer, str(at)) for at, answer in enumerate(given_)]
    assert said(perform(FailoverPDP(*parts).decide(request_for()), world)) is expected([word(one) for one in given_])
    first = next((at for at, one in enumerate(given_) if word(one) not in AVAILABILITY), len(parts))
    assert [bool(part.asked) for part in parts] == [at <= first for at in range(len(parts))]


@settings(max_examples=times(150, 5_000))
@given(st.lists(st.tuples(answers, answers), min_size=2, max_size=5), st.booleans())
def test_a_batch_moves_on_as_a_whole(rows: list[tuple[Any, Any]], batching: bool) -> None:
    """All of it where nothing of it was answered; else what is missing stays missing."""
    kind = BatchPart if batching else Part
    primary, standby = (kind({str(at): row[side] for at, row in enumerate(rows)}) for side in (0, 1))
    found = many(FailoverPDP(primary, standby), [request_for(str(at)) for at in range(len(rows))])
    sides = [[word(row[side]) for row in rows] for side in (0, 1)]
    moved = all(one in AVAILABILITY for one in sides[0])
    both = moved and all(one in AVAILABILITY for one in sides[1])
    assert found == sides[1 if moved and not both else 0]
    assert bool(standby.asked) is moved


def test_an_empty_batch_asks_nobody() -> None:
    """There is nothing to move on for."""
    part = BatchPart(True)
    assert many(FailoverPDP(part, part), []) == []
    assert (part.asked, part.batches) == ([], [])


def test_the_record_tells_of_a_standby() -> None:
    """A decision of a standby says so in its reasons, in batches too; one of the primary does not."""
    failover = FailoverPDP(BatchPart({"1": PDPTimeout, "2": True}, "main"), BatchPart(True, "spare"))
    assert perform(failover.decide(request_for("2"))).value.reasons == ()
    sink = MemorySink()
    enforcer = Enforcer(failover, audit=sink)
    assert enforcer.check(request_for("1")).allowed
    assert sink.records[-1]["reasons"] == ["answered by standby `spare`"]
    assert sink.records[-1]["pdp"] == "failover(main,spare)"
    both = FailoverPDP(BatchPart(PDPTimeout), BatchPart(True, "spare")).decide_many(
        [request_for("1"), request_for("2")]
    )
    assert [one.reasons for one in perform(both).value] == [("answered by standby `spare`",)] * 2


class Slow:
    """A plan that takes its time, and notes what it was given."""

    name = "slow"

    def __init__(self, took: float) -> None:
        self._took = took
        self.left: list[float] = []

    def decide(self, _request: Any) -> Plan[bool]:
        self.left.append((yield from remaining()))
        yield from sleep(self._took)
        if (yield from remaining()) <= 0:
            raise PDPTimeout
        return True


@worlds
def test_the_deadline_is_shared(world: str) -> None:
    """Each but the last gets its share of what is left, the last all of it; a late answer is none."""
    clock = FakeClock()
    parts = [Slow(100), Slow(100), Slow(0.1)]
    pdp = FailoverPDP(*parts, share=0.25, clock=clock)
    stage = Stage(clock)
    plan = contain(pdp.decide(request_for()), clock.monotonic() + 1.0)
    reply = run(plan, stage.performer) if world == "sync" else asyncio.run(arun(plan, stage.aperformer))
    # The staged clock jumps to the end of each share.
    assert [part.left for part in parts] == [[pytest.approx(0.25)], [pytest.approx(0.1875)], [pytest.approx(0.5625)]]
    assert said(reply) is Effect.PERMIT


@worlds
def test_a_primary_that_hangs_costs_its_share(world: str) -> None:
    """What the primary answers after its share is a timeout, and the standby has the rest."""
    clock = FakeClock()
    primary = FailingPDP(hangs=0.6, answers=True, clock=clock)
    sink = MemorySink()
    enforcer = Enforcer(FailoverPDP(primary, Part(False, "spare"), clock=clock), audit=sink, clock=clock)
    verdict = enforcer.check(request_for()) if world == "sync" else asyncio.run(enforcer.acheck(request_for()))
    assert verdict.decision is not None
    assert verdict.decision.effect is Effect.DENY


def down_then(answer: object, failures: int = 1, **more: Any) -> tuple[FailoverPDP, Part, FakeClock]:
    """One whose primary was found down, and would answer something else now."""
    clock, primary = FakeClock(), Part(PDPUnavailable, "main")
    pdp = FailoverPDP(primary, Part(True, "spare"), failures=failures, down_for=10.0, clock=clock, **more)
    for _ in range(failures):
        perform(pdp.decide(request_for()))
    primary.table = answer
    primary.asked.clear()
    return pdp, primary, clock


def ask(pdp: FailoverPDP, count: int = 1) -> None:
    for _ in range(count):
        perform(pdp.decide(request_for()))


def test_what_is_down_is_left_alone_for_a_time() -> None:
    """No question goes to it before its time is over; then one trial, and after enough of them it is up."""
    pdp, primary, clock = down_then(True)
    assert pdp.health()["active"] == "spare"
    ask(pdp, 5)
    clock.advance(9.9)
    ask(pdp)
    assert primary.asked == []
    clock.advance(0.1)
    ask(pdp)
    assert (len(primary.asked), pdp.health()["active"]) == (1, "spare")
    ask(pdp)
    assert (len(primary.asked), pdp.health()["active"]) == (2, "main")


def test_a_failed_trial_waits_for_another_time() -> None:
    """Trials are bounded: one in so many seconds, while they fail; a success before does not count on."""
    pdp, primary, clock = down_then(True)
    clock.advance(10)
    ask(pdp)
    primary.table = PDPUnavailable
    ask(pdp, 4)
    assert len(primary.asked) == 2
    primary.table = True
    clock.advance(10)
    ask(pdp)
    assert pdp.health()["active"] == "spare"
    ask(pdp)
    assert pdp.health()["active"] == "main"


@pytest.mark.parametrize("answer", [PDPRejected, None, ValueError])
def test_a_trial_that_is_answered_wrongly_brings_nothing_back(answer: object) -> None:
    """A fault that is none of availability stands for the call, and is no success of a trial."""
    pdp, primary, clock = down_then(answer, successes=1)
    clock.advance(10)
    assert said(perform(pdp.decide(request_for()))) is word(answer)
    assert said(perform(pdp.decide(request_for()))) is Effect.PERMIT
    assert (len(primary.asked), pdp.health()["active"]) == (1, "spare")


def test_a_trial_that_is_cut_off_is_made_again() -> None:
    """Whoever tries it and is gone leaves nothing behind: the next time comes all the same."""
    pdp, primary, clock = down_then(True, successes=1)
    clock.advance(10)
    plan = pdp.decide(request_for())
    next(plan)
    plan.close()
    ask(pdp)
    assert primary.asked == []
    clock.advance(10)
    ask(pdp)
    assert pdp.health()["active"] == "main"


def test_when_all_are_down_all_are_asked() -> None:
    """A late answer is better than none: what is down is the last resort."""
    clock = FakeClock()
    parts = [Part(PDPUnavailable, "main"), Part(PDPTimeout, "spare")]
    pdp = FailoverPDP(*parts, failures=1, clock=clock)
    assert said(perform(pdp.decide(request_for()))) is Fault.UNREACHABLE
    assert pdp.health()["active"] is None
    parts[1].table = True
    assert said(perform(pdp.decide(request_for()))) is Effect.PERMIT


def test_health_tells_the_state() -> None:
    """Who is asked first, who is up, and when the others are tried again."""
    pdp, _, clock = down_then(True, failures=2)
    clock.advance(4)
    assert pdp.health() == {
        "active": "spare",
        "parts": [
            {"name": "main", "up": False, "answered": 0, "failures": 2, "retry_in": 6.0},
            {"name": "spare", "up": True, "answered": 2, "failures": 0},
        ],
    }


class Probed(Part):
    """One that can tell whether it is up."""

    state: Any = None

    def probe(self) -> None:
        if self.state is not None:
            raise self.state


def test_probes_find_what_is_down_and_what_is_up_again() -> None:
    """A heartbeat counts like questions do, and fails only where nobody is available."""
    clock = FakeClock()
    main, spare = Probed(True, "main"), Probed(True, "spare")
    pdp = FailoverPDP(main, spare, failures=1, successes=1, down_for=10.0, clock=clock)
    assert perform(pdp.probe()).value is None
    main.state = PDPUnavailable("gone")
    assert perform(pdp.probe()).value is None
    assert pdp.health()["active"] == "spare"
    spare.state = PDPTimeout()
    assert perform(pdp.probe()).error is main.state
    main.state = spare.state = None
    assert perform(pdp.probe()).value is None
    assert pdp.health()["active"] == "main"
    main.state = PDPRejected("no")
    assert perform(pdp.probe()).error is main.state


def test_a_part_that_cannot_tell_is_thought_to_be_up() -> None:
    """Probes of the others do not say that all are down."""
    main = Probed(True, "main")
    main.state = PDPUnavailable()
    pdp = FailoverPDP(main, Part(True))
    assert perform(pdp.probe()).value is None
    assert not hasattr(FailoverPDP(Part(True), Part(True)), "probe")


def policies(name: str) -> PolicySet:
    return PolicySet([permit(name, action="read", resource="doc", when=resource.id == "1")])


def test_it_conforms_and_lends_what_its_parts_have() -> None:
    """The same answers in both worlds; row filters where every part has them; swaps where any part tells."""
    permitted, denied = request_for("1"), request_for("2")
    check_pdp(lambda: FailoverPDP(policies("a"), policies("b")), permitted=permitted, denied=denied)
    check_pdp(lambda: FailoverPDP(Part(PDPTimeout), policies("b")), permitted=permitted, denied=denied)
    assert not hasattr(FailoverPDP(policies("a"), Part(True)), "row_filter")
    assert not hasattr(FailoverPDP(policies("a"), Part(True)), "subscribe")
    assert FailoverPDP.pure is False


@worlds
def test_rows_are_filtered_by_whoever_is_available(world: str) -> None:
    """A row filter moves on like a question."""

    class Down(Part):
        def row_filter(self, *_: Any, **__: Any) -> Any:
            raise PDPUnavailable

    class Wrong(Part):
        def row_filter(self, *_: Any, **__: Any) -> Any:
            return True

    everything = PolicySet([permit("all", action="read")])

    def rows(*pdps: Any) -> Any:
        pdp = FailoverPDP(*pdps)
        return perform(pdp.row_filter(request_for().subject, "read", "doc", context={}), world)

    assert rows(Down(True), everything).value == AllowAll()
    assert fault_of(rows(Wrong(True), everything).error) is Fault.MALFORMED


def test_swaps_of_parts_are_told() -> None:
    """Listeners hear of the swaps of each part that tells of them."""

    class Swapping(Part):
        def subscribe(self, listener: Callable[[Any], None]) -> None:
            listener(self.name)

    heard: list[str] = []
    FailoverPDP(Swapping(True, "a"), Swapping(True, "b")).subscribe(heard.append)
    assert heard == ["a", "b"]


def test_asynchronous_parts_are_awaited() -> None:
    """One part that can only be awaited makes the whole so."""

    async def decide(_request: Any) -> bool:
        return True

    pdp = FailoverPDP(FunctionPDP(decide), Part(True))
    assert pdp.asynchronous
    assert said(perform(pdp.decide(request_for()), "async")) is Effect.PERMIT


@pytest.mark.parametrize(
    ("parts", "options", "mend"),
    [
        ([Part(True)], {}, "needs a standby"),
        ([Part(True), object()], {}, "wrap a function"),
        ([Part(True)] * 2, {"share": 1.0}, "above 0 and below 1"),
        ([Part(True)] * 2, {"share": 1}, "above 0 and below 1"),
        ([Part(True)] * 2, {"failures": 0}, "`failures` is a count"),
        ([Part(True)] * 2, {"successes": True}, "`successes` is a count"),
        ([Part(True)] * 2, {"down_for": 0}, "`down_for`"),
    ],
)
def test_what_cannot_be_is_refused(parts: list[Any], options: dict[str, Any], mend: str) -> None:
    """Mistakes are found where they are written."""
    with pytest.raises(ConfigurationError, match=mend):
        FailoverPDP(*parts, **options)


def test_a_cached_permit_needs_a_ttl() -> None:
    """It is never pure: nothing is cached unless a profile says so."""
    primary = Part(True, "main", pure=True)
    enforcer = Enforcer(FailoverPDP(primary, Part(True, pure=True)), audit=MemorySink(), profiles={"**": Profile()})
    assert [enforcer.check(request_for()).cached for _ in range(2)] == [False, False]


def test_nobody_keeps_a_part_from_coming_back() -> None:
    """What says nothing of availability takes back nothing of what was found."""

    class Probed(Part):
        def probe(self) -> None:
            """Up."""

    clock = FakeClock()
    primary = Probed({"1": PDPUnavailable, "odd": PDPRejected}, "main")
    pdp = FailoverPDP(primary, Probed(True, "spare"), failures=1, successes=2, down_for=10.0, clock=clock)
    perform(pdp.decide(request_for()), clock=clock)
    assert pdp.health()["active"] == "spare"
    for _ in range(2):
        assert pdp.health()["active"] == "spare"
        clock.advance(10.0)
        perform(pdp.probe(), clock=clock)
        perform(pdp.decide(request_for("odd")), clock=clock)
    assert pdp.health()["active"] == "main"


class Member:
    """What the model knows of a part."""

    def __init__(self) -> None:
        self.up, self.failures, self.successes, self.due = True, 0, 0, 0.0


class FailoverMachine(RuleBasedStateMachine):
    """Parts go down and come up, time passes; who is asked, and in what order, is what the model says."""

    @initialize(failures=st.integers(1, 3), successes=st.integers(1, 3))
    def start(self, failures: int, successes: int) -> None:
        self.clock, self.now = FakeClock(), 0.0
        self.limits = failures, successes
        self.order: list[int] = []
        self.answer = [True, True, True]
        self.model = [Member() for _ in range(3)]
        parts = [FunctionPDP(lambda _request, at=at: self.decide(at), name=str(at)) for at in range(3)]
        self.pdp = FailoverPDP(*parts, failures=failures, successes=successes, down_for=10.0, clock=self.clock)

    def decide(self, at: int) -> Decision:
        self.order.append(at)
        if not self.answer[at]:
            raise PDPUnavailable
        return Decision(Effect.PERMIT)

    @rule(at=st.integers(0, 2), up=st.booleans())
    def turn(self, at: int, up: bool) -> None:
        self.answer[at] = up

    @rule(seconds=st.sampled_from([1.0, 5.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.now += seconds

    @rule(count=st.integers(1, 3))
    def ask(self, count: int) -> None:
        for _ in range(count):
            self.order.clear()
            reply = perform(self.pdp.decide(request_for()), clock=self.clock)
            wanted, allowed = self.predict()
            assert self.order == wanted
            assert (said(reply) is Effect.PERMIT) is allowed

    def predict(self) -> tuple[list[int], bool]:
        ready = [at for at, one in enumerate(self.model) if one.up or one.due <= self.now]
        for at in ready:
            self.model[at].due = self.now + 10.0
        asked: list[int] = []
        for at in [*ready, *(at for at in range(3) if at not in ready)]:
            asked.append(at)
            one = self.model[at]
            if self.answer[at]:
                if one.up:
                    one.failures = 0
                else:
                    one.successes, one.due = one.successes + 1, self.now
                    if one.successes >= self.limits[1]:
                        one.up, one.failures, one.successes = True, 0, 0
                return asked, True
            one.failures, one.successes = one.failures + 1, 0
            if one.up and one.failures >= self.limits[0]:
                one.up, one.due = False, self.now + 10.0
        return asked, False

    @invariant()
    def the_state_is_visible(self) -> None:
        if hasattr(self, "pdp"):
            assert [part["up"] for part in self.pdp.health()["parts"]] == [one.up for one in self.model]


FailoverMachine.TestCase.settings = settings(max_examples=times(40, 2_000), stateful_step_count=30, deadline=None)
TestFailoverState = FailoverMachine.TestCase
