"""A candidate decision point: who is asked of it, what it is judged by, and that a rollback holds."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pep import (
    ANONYMOUS,
    AccessDenied,
    AccessRequest,
    Decision,
    Effect,
    Enforcer,
    Fault,
    Obligation,
    Profile,
    Resource,
    Subject,
    acting_as,
)
from pep.audit import Kind, MemorySink
from pep.compose import CanaryPDP, Rollback
from pep.compose.window import PARTS
from pep.errors import ConfigurationError, PDPUnavailable
from pep.fault import AVAILABILITY, fault_of
from pep.pdp import FunctionPDP
from pep.policy import PolicySet, permit
from pep.policy.partial import AllowAll, DenyAll
from pep.profile import Canary
from pep.testing import FailingPDP, FakeClock, check_pdp
from tests.compose.composing import BatchPart, Part, Word, answers, many, perform, request_for, said, word
from tests.proving import times

SECRET: Final = b"0123456789abcdef"
WORLDS: Final = ("sync", "async")
worlds: Final = pytest.mark.parametrize("world", WORLDS)
BUCKET: Final = CanaryPDP(Part(True), Part(True), fraction=0.5, secret=SECRET, max_denials=1, max_faults=1)
#: Names of subjects of either side, at a half.
OURS, THEIRS = (
    [f"s{n}" for n in range(64) if BUCKET._is_candidates(Subject("user", f"s{n}")) is ours] for ours in (True, False)
)


def canary(current: Any, candidate: Any, **options: Any) -> CanaryPDP:
    """One of a half, that rolls back for nothing unless told otherwise."""
    return CanaryPDP(
        current, candidate, **{"fraction": 0.5, "secret": SECRET, "max_denials": 1.0, "max_faults": 1.0, **options}
    )


@settings(max_examples=times(300, 50_000))
@given(answers, answers, st.booleans(), st.sampled_from(WORLDS))
def test_only_the_permit_of_whoever_decides_permits(now: Any, then: Any, ours: bool, world: str) -> None:
    """The candidate counts for its subjects, unless it is not available; the current one for all others."""
    current, candidate = Part(now), Part(then)
    request = request_for(subject=(OURS if ours else THEIRS)[0])
    fallen = word(then) in AVAILABILITY
    wanted = word(then) if ours and not fallen else word(now)
    assert said(perform(canary(current, candidate).decide(request), world)) is wanted
    assert (bool(current.asked), bool(candidate.asked)) == (not ours or fallen, ours)


@settings(max_examples=times(150, 5_000))
@given(st.lists(st.tuples(answers, answers, st.booleans()), max_size=6), st.booleans(), st.booleans())
def test_a_batch_is_answered_like_its_questions(rows: list[Any], batching: bool, other: bool) -> None:
    """Split by subject, re-joined in order; what the candidate leaves open is asked of the current one at once."""
    tables = [{str(at): row[side] for at, row in enumerate(rows)} for side in (0, 1)]
    current = (BatchPart if batching else Part)(tables[0])
    candidate = (BatchPart if other else Part)(tables[1])
    requests = [request_for(str(at), subject=(OURS if row[2] else THEIRS)[at]) for at, row in enumerate(rows)]
    pdp = canary(current, candidate)
    alone = canary(Part(tables[0]), Part(tables[1]))
    assert many(pdp, requests) == [said(perform(alone.decide(request))) for request in requests]
    assert [part["asked"] for part in pdp.health()["parts"]] == [part["asked"] for part in alone.health()["parts"]]
    assert len(current.batches) <= 2


@given(st.text(min_size=1, max_size=5).filter(str.isascii), st.dictionaries(st.just("role"), st.text(max_size=2)))
def test_a_subject_stays_on_its_side(name: str, properties: dict[str, str]) -> None:
    """The side depends on type and id alone; who is tried at a fraction is at every greater one."""
    subject = Subject("user", name, properties)
    sides = [canary(Part(True), Part(True), fraction=fraction)._is_candidates(subject) for fraction in (0.1, 0.5, 0.9)]
    assert sides == sorted(sides)
    assert sides[1] is Canary(0.5, until=BUCKET._bucket.until, reason="r").enforced(Subject("user", name), SECRET)


def test_nobody_in_particular_is_the_current_ones() -> None:
    """The anonymous subject is all who are not known: a fraction of them cannot be told."""
    current, candidate = Part(True), Part(False)
    pdp = canary(current, candidate, fraction=0.999999)
    assert said(perform(pdp.decide(AccessRequest(ANONYMOUS, "read", Resource("doc", "1"))))) is Effect.PERMIT
    assert candidate.asked == []


def test_each_actor_goes_by_its_own_bucket() -> None:
    """Who acts for a subject is asked about apart; all must permit, whichever side they are on."""
    current, candidate = Part(True), Part(True)
    enforcer = Enforcer(canary(current, candidate), audit=MemorySink())
    guarded = enforcer.guard("read", resource=lambda: Resource("doc", "1"))(lambda: "ran")
    with acting_as(Subject("user", OURS[0]), via=[Subject("user", THEIRS[0])]):
        assert guarded() == "ran"
        assert (len(current.asked), len(candidate.asked)) == (1, 1)
        current.table = False
        with pytest.raises(AccessDenied):
            guarded()


def test_the_record_tells_of_the_candidate() -> None:
    """A decision of the candidate says so in its reasons, one of the current one does not."""
    sink = MemorySink()
    enforcer = Enforcer(canary(Part(True, "old"), Part(True, "new")), audit=sink)
    for name in (OURS[0], THEIRS[0]):
        enforcer.check(request_for(subject=name))
    assert [record.get("reasons") for record in sink.records if record.kind is Kind.CHECK] == [
        ["answered by candidate `new`"],
        None,
    ]
    assert sink.records[-1]["pdp"] == "canary(old,new)"


def judged(then: object, now: object = True, *, ours: int = 20, theirs: int = 20, **options: Any) -> CanaryPDP:
    """One after so many questions of either side."""
    pdp = canary(Part(now), Part(then), least=20, **{"max_denials": 0.1, "max_faults": 0.1, **options})
    for name in [*THEIRS[:theirs], *OURS[:ours]]:
        perform(pdp.decide(request_for(subject=name)))
    return pdp


@pytest.mark.parametrize(
    ("then", "now", "reason"),
    [
        (False, True, "denials"),
        ("NOT_APPLICABLE", True, "denials"),
        ("INDETERMINATE", True, "denials"),
        (PDPUnavailable, True, "faults"),
        (None, True, "faults"),
        (ValueError, True, "faults"),
        (True, True, None),
        (False, False, None),
        (True, False, None),
        (PDPUnavailable, PDPUnavailable, None),
    ],
)
def test_it_is_rolled_back_for_what_exceeds_the_current_one(then: object, now: object, reason: str | None) -> None:
    """Denials and faults are judged apart, each by how much more of them there are."""
    pdp = judged(then, now)
    assert (pdp.rolled_back.reason if pdp.rolled_back else None) == reason
    assert pdp.health()["rolled_back"] == reason


def test_few_questions_are_no_evidence() -> None:
    """Below the minimum volume nothing is concluded."""
    assert judged(False, ours=19).rolled_back is None
    rollback = judged(False, ours=20).rolled_back
    assert rollback is not None
    assert (rollback.candidate.asked, rollback.candidate.denials, rollback.current.asked) == (20, 20, 20)


def test_without_questions_of_the_current_one_the_bound_is_absolute() -> None:
    """What was not asked has no share of denials."""
    assert judged(False, theirs=0).rolled_back is not None


def test_what_is_at_the_bound_is_within_it() -> None:
    """The bound is what may be reached."""
    assert judged(False, max_denials=1.0).rolled_back is None


def test_what_is_long_ago_does_not_count() -> None:
    """Only the window is judged."""
    clock = FakeClock()
    candidate = Part(False)
    pdp = canary(Part(True), candidate, least=20, max_denials=0.1, window=60.0, clock=clock)
    for name in OURS[:19]:
        perform(pdp.decide(request_for(subject=name)))
    clock.advance(60.0)
    for name in OURS[:19]:
        perform(pdp.decide(request_for(subject=name)))
    assert pdp.rolled_back is None
    assert pdp.health()["parts"][1]["asked"] == 19


def test_a_rollback_is_told_once_and_stays() -> None:
    """Everybody is the current one's, however well the candidate would do, until it is reset."""
    told: list[Rollback] = []
    swaps: list[Any] = []
    pdp = canary(Part(True, "old", revision="1"), Part(False, "new"), least=2, max_denials=0.1, on_rollback=told.append)
    pdp.subscribe(swaps.append)
    assert [said(perform(pdp.decide(request_for(subject=name)))) for name in OURS[:4]] == [
        Effect.DENY, Effect.DENY, Effect.PERMIT, Effect.PERMIT,
    ]  # fmt: skip
    assert [one.reason for one in told] == ["denials"]
    assert [(one.old, one.new) for one in swaps] == [("new", "old@1")]
    pdp.reset()
    assert pdp.rolled_back is None
    assert [(one.old, one.new) for one in swaps][1:] == [("old@1", "new")]
    assert pdp.health()["parts"][1]["asked"] == 0
    pdp.reset()
    assert len(swaps) == 2
    assert said(perform(pdp.decide(request_for(subject=OURS[0])))) is Effect.DENY


def test_answers_in_the_air_at_the_rollback_make_no_second_one() -> None:
    """What was asked of the candidate before is counted, and judged no more."""
    told: list[Rollback] = []

    class Overtaken(Part):
        def decide(self, request: AccessRequest) -> Any:
            if request.subject.id == OURS[0]:
                perform(pdp.decide(request_for(subject=OURS[1])))
            return Decision(Effect.DENY)

    pdp = canary(Part(True), Overtaken(False), least=1, max_denials=0.1, on_rollback=told.append)
    assert said(perform(pdp.decide(request_for(subject=OURS[0])))) is Effect.DENY
    assert len(told) == 1


def test_what_the_candidate_says_is_kept() -> None:
    """Everything of its decision, and one reason more."""
    full = Decision(
        Effect.PERMIT, [Obligation("log")], [Obligation("hint")], ["why"], ["p1"], "8", 5.0, "d7",
    )  # fmt: skip
    decision = perform(canary(Part(True), Part(full, "new")).decide(request_for(subject=OURS[0]))).value
    assert decision == attrs.evolve(full, reasons=("why", "answered by candidate `new`"))


def test_a_listener_that_fails_changes_nothing() -> None:
    """Whatever the application's own listener raises, the rollback holds, and the answer stands."""

    def fails(_rollback: Rollback) -> None:
        raise ValueError

    pdp = canary(Part(True), Part(False), least=1, max_denials=0.1, on_rollback=fails)
    assert said(perform(pdp.decide(request_for(subject=OURS[0])))) is Effect.DENY
    assert pdp.rolled_back is not None


@worlds
def test_after_a_rollback_no_permit_of_the_candidate_takes_effect(world: str) -> None:
    """Not from the cache, though its time is not over; the record tells of the swap."""
    candidate, sink = Part({"1": True, "2": False}, "new"), MemorySink()
    pdp = canary(Part(False, "old"), candidate, least=2, max_denials=-0.0, max_faults=0.0)
    pdp._bounds["denials"] = -0.9
    enforcer = Enforcer(pdp, audit=sink, profiles={"**": Profile(permit_ttl=60)})

    def check(resource: str) -> Any:
        request = request_for(resource, subject=OURS[0])
        return enforcer.check(request) if world == "sync" else asyncio.run(enforcer.acheck(request))

    assert check("1").allowed
    assert check("1").cached
    check("2")
    assert pdp.rolled_back is not None
    after = check("1")
    assert (after.allowed, after.cached) == (False, False)
    assert [(one["change"], one["old"], one["new"]) for one in sink.records if one.kind is Kind.CONFIGURATION] == [
        ("policies", "new", "old")
    ]


@pytest.mark.parametrize("entry", ["decide", "decide_many", "rows"])
def test_a_permit_that_was_in_the_air_at_the_rollback_is_asked_again(entry: str) -> None:
    """Whoever is not subscribed is told nothing; the permit of what was rolled back meanwhile is not passed on."""
    others = iter(OURS[1:])

    class Overtaken(Part):
        def decide(self, request: AccessRequest) -> Any:
            if request.subject.id != OURS[0]:
                return Decision(Effect.DENY)
            perform(pdp.decide(request_for(subject=next(others))))
            return Decision(Effect.PERMIT)

        def row_filter(self, *_: Any, **__: Any) -> Any:
            perform(pdp.decide(request_for(subject=next(others))))
            return AllowAll()

    class Current(Part):
        def row_filter(self, *_: Any, **__: Any) -> Any:
            return DenyAll()

    pdp = canary(Current(False), Overtaken(True), least=1, max_denials=0.1)
    pdp._bounds["denials"] = -1.0
    request = request_for(subject=OURS[0])
    if entry == "rows":
        assert perform(pdp.row_filter(request.subject, "read", "doc", context={})).value == DenyAll()
    elif entry == "decide":
        assert said(perform(pdp.decide(request))) is Effect.DENY
    else:
        assert many(pdp, [request]) == [Effect.DENY]
    assert pdp.rolled_back is not None


@worlds
def test_a_call_in_the_air_at_the_rollback_is_asked_again(world: str) -> None:
    """A permit that was decided before and not yet in effect is withheld, and decided by the current one."""

    class Late(MemorySink):
        def record(self, record: Any) -> None:
            super().record(record)
            if len(self.records) == 1:
                perform(pdp.decide(request_for(subject=OURS[1])))

    pdp = canary(Part(False, "old"), Part({"1": True}, "new"), least=2, max_denials=0.1)
    pdp._bounds["denials"] = -2.0
    sink, ran = Late(), []
    enforcer = Enforcer(pdp, audit=sink)

    def code() -> None:
        ran.append(1)

    async def acode() -> None:
        ran.append(1)

    with acting_as(Subject("user", OURS[0])):
        guarded: Any = enforcer.guard("read", resource=lambda: Resource("doc", "1"))(code if world == "sync" else acode)
        with pytest.raises(AccessDenied):
            guarded() if world == "sync" else asyncio.run(guarded())
    assert ran == []
    assert [record.kind.value for record in sink.records] == ["decision", "configuration", "outcome", "decision"]


@worlds
def test_a_candidate_that_hangs_costs_its_share(world: str) -> None:
    """The current one answers with what is left of the same deadline."""
    clock = FakeClock()
    candidate = FailingPDP(hangs=0.6, answers=True, clock=clock)
    enforcer = Enforcer(canary(Part(False), candidate, clock=clock), audit=MemorySink(), clock=clock)
    request = request_for(subject=OURS[0])
    verdict = enforcer.check(request) if world == "sync" else asyncio.run(enforcer.acheck(request))
    assert verdict.decision is not None
    assert verdict.decision.effect is Effect.DENY


@worlds
def test_rows_are_filtered_by_whoever_decides_for_the_subject(world: str) -> None:
    """The candidate's rows for its subjects; where it is not available the current one's; other faults stand."""

    class Rows(Part):
        def row_filter(self, *_: Any, **__: Any) -> Any:
            if isinstance(self.table, type):
                raise self.table
            return self.table

    def rows(then: object, name: str) -> Any:
        pdp = canary(Rows(DenyAll()), Rows(then))
        return perform(pdp.row_filter(Subject("user", name), "read", "doc", context={}), world)

    assert rows(AllowAll(), OURS[0]).value == AllowAll()
    assert rows(AllowAll(), THEIRS[0]).value == DenyAll()
    assert rows(PDPUnavailable, OURS[0]).value == DenyAll()
    assert fault_of(rows("everything", OURS[0]).error) is Fault.MALFORMED
    assert not hasattr(canary(Part(True), Rows(AllowAll())), "row_filter")


def test_a_probe_asks_the_current_one() -> None:
    """An outage of the candidate is none of the service."""

    class Probed(Part):
        def probe(self) -> None:
            raise PDPUnavailable(self.name)

    assert str(perform(canary(Probed(True, "old"), Part(True)).probe()).error) == "old"
    assert not hasattr(canary(Part(True), Probed(True)), "probe")


def test_it_conforms() -> None:
    """The same answers in both worlds, for either side, alone and in batches."""
    policies = PolicySet([permit("p", action="read", resource="doc")])
    for name in (OURS[0], THEIRS[0]):
        permitted, denied = request_for(subject=name), request_for(subject=name, action="edit")
        check_pdp(lambda: canary(policies, policies), permitted=permitted, denied=denied)
    assert CanaryPDP.pure is False

    async def decide(_request: Any) -> bool:
        return True

    assert canary(Part(True), FunctionPDP(decide)).asynchronous


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({"fraction": 0.0}, "between 0 and 1"),
        ({"fraction": 1}, "between 0 and 1"),
        ({"secret": b"short"}, "at least 16 bytes"),
        ({"secret": "0123456789abcdef"}, "at least 16 bytes"),
        ({"max_denials": 2}, "a ratio from 0 to 1"),
        ({"max_faults": True}, "a ratio from 0 to 1"),
        ({"window": 0}, "`window`"),
        ({"least": 0}, "`least` is a count"),
        ({"per_subject": 0}, "`per_subject` is a count"),
        ({"per_subject": 1.0}, "`per_subject` is a count"),
        ({"share": 2.0}, "above 0 and below 1"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], mend: str) -> None:
    """Mistakes are found where they are written; the secret is not shown."""
    with pytest.raises(ConfigurationError, match=mend) as raised:
        canary(Part(True), Part(True), **options)
    assert "0123456789abcdef" not in str(raised.value)
    with pytest.raises(ConfigurationError, match="wrap a function"):
        canary(Part(True), object())


@worlds
@pytest.mark.parametrize("batching", [False, True])
def test_one_subject_rolls_nothing_back(world: str, batching: bool) -> None:
    """However often somebody is denied, or breaks the candidate, it counts `per_subject` times."""
    for answer in (False, PDPUnavailable, ValueError):
        kind = BatchPart if batching else Part
        candidate = kind({"1": answer, "2": True}, "candidate")
        pdp = canary(kind(True), candidate, max_denials=0.5, max_faults=0.5, least=4, per_subject=2)
        for _ in range(20):
            if batching:
                many(pdp, [request_for(subject=OURS[0])] * 5, world)
            else:
                perform(pdp.decide(request_for(subject=OURS[0])), world)
        assert pdp.rolled_back is None
        for name in OURS[1:3]:
            perform(pdp.decide(request_for("2", subject=name)), world)
        assert pdp.rolled_back is None
        for name in OURS[3:5]:
            perform(pdp.decide(request_for(subject=name)), world)
        rollback = pdp.rolled_back
        assert rollback is not None
        assert rollback.candidate.asked == 5


def test_one_subject_hides_nothing() -> None:
    """Nor does somebody who is denied by the current one over and over make the candidate look well."""
    pdp = canary(Part({"1": False, "2": True}), Part(False), max_denials=0.5, least=4, per_subject=2)
    for _ in range(50):
        perform(pdp.decide(request_for("1", subject=THEIRS[0])))
    for name in THEIRS[1:20]:
        perform(pdp.decide(request_for("2", subject=name)))
    for name in OURS[:4]:
        perform(pdp.decide(request_for("1", subject=name)))
    assert pdp.rolled_back is not None


class CanaryMachine(RuleBasedStateMachine):
    """Questions, time and resets; it is rolled back exactly when the model says, and stays so."""

    WINDOW = 10.0 * PARTS

    @initialize(least=st.integers(1, 6), bound=st.sampled_from([0.0, 0.25, 0.5]))
    def start(self, least: int, bound: float) -> None:
        self.clock, self.least, self.bound = FakeClock(), least, bound
        self.current, self.candidate = Part(True), Part(True)
        self.told: list[Rollback] = []
        self.pdp = canary(
            self.current, self.candidate, least=least, max_denials=bound, max_faults=bound, window=self.WINDOW,
            clock=self.clock, on_rollback=self.told.append,
        )  # fmt: skip
        #: Side -> (part of the window, word).
        self.seen: dict[bool, list[tuple[int, Word]]] = {True: [], False: []}
        self.rolled, self.rollbacks = False, 0

    @rule(now=answers, then=answers, ours=st.booleans(), name=st.integers(0, 20), count=st.integers(1, 4))
    def ask(self, now: Any, then: Any, ours: bool, name: int, count: int) -> None:
        self.current.table, self.candidate.table = now, then
        for _ in range(count):
            reply = perform(self.pdp.decide(request_for(subject=(OURS if ours else THEIRS)[name])))
            assert said(reply) is self.predict(word(now), word(then), ours=ours)

    def predict(self, now: Word, then: Word, *, ours: bool) -> Word:
        tried = ours and not self.rolled
        part = int(self.clock.monotonic() // 10.0)
        self.seen[tried].append((part, then if tried else now))
        if not tried:
            return now
        counted = {side: [one for at, one in seen if at > part - PARTS] for side, seen in self.seen.items()}
        if len(counted[True]) >= self.least and any(
            self.excess(counted, kind) > self.bound for kind in (Effect, Fault)
        ):
            self.rolled, self.rollbacks = True, self.rollbacks + 1
        lost = then in AVAILABILITY or (self.rolled and then is Effect.PERMIT)
        return now if lost else then

    def excess(self, counted: dict[bool, list[Word]], kind: type) -> float:
        ratios = [
            sum(isinstance(one, kind) and one is not Effect.PERMIT for one in counted[side])
            / max(1, len(counted[side]))
            for side in (True, False)
        ]
        return ratios[0] - ratios[1]

    @rule(seconds=st.sampled_from([5.0, 30.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def reset(self) -> None:
        self.pdp.reset()
        self.rolled, self.seen = False, {True: [], False: []}

    @invariant()
    def the_state_is_visible(self) -> None:
        if hasattr(self, "pdp"):
            assert (self.pdp.rolled_back is not None) is self.rolled
            assert len(self.told) == self.rollbacks


CanaryMachine.TestCase.settings = settings(max_examples=times(40, 2_000), stateful_step_count=30, deadline=None)
TestCanaryState = CanaryMachine.TestCase
