"""Shadow: the answer is that of the one that decides, whatever the other one does, and however long it takes."""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pep.audit
from pep import AccessRequest, Decision, Effect, Enforcer, Obligation, Resource, Subject
from pep.audit import FileSink, Kind, MemorySink, verify
from pep.clock import SystemClock
from pep.compose import Disagreement, Said, ShadowPDP, disagreements_to
from pep.drive import APerformer, arun, run
from pep.errors import ConfigurationError, PDPTimeout, PDPUnavailable
from pep.fault import Fault
from pep.pdp import FunctionPDP
from pep.plan import Plan, contain, sleep
from pep.policy import PolicySet, permit
from pep.policy.partial import AllowAll
from pep.testing import FakeClock, FakeHandler, check_pdp
from pep.testing.performing import Stage
from tests.compose.composing import BatchPart, Part, answers, many, perform, request_for, said, word
from tests.proving import times

WORLDS: Final = ("sync", "async")
worlds: Final = pytest.mark.parametrize("world", WORLDS)


def shadowing(*parts: Any, **options: Any) -> ShadowPDP:
    """One on a clock that stands, like that of `perform`: nothing is late for what the machine does meanwhile."""
    return ShadowPDP(*parts, **{"clock": FakeClock(), **options})


def counts(pdp: ShadowPDP) -> dict[str, int]:
    found: dict[str, int] = pdp.health()["compared"]
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_every_place() -> None:
    """What hangs in a thread of the parent hangs nowhere in the child; whoever forked while asking goes on."""
    clock = FakeClock()
    pdp = shadowing(Part(True), Part(False, immediate=True), at_most=1, patience=60.0, clock=clock)
    gate, inside = threading.Event(), threading.Event()
    seat = pdp._aside.enter(0.0)
    assert seat is not None
    pdp._aside.awaited(math.inf)
    thread = threading.Thread(target=pdp._aside._run, args=(lambda _asked: inside.set() or gate.wait(10.0), None))
    thread.start()
    assert inside.wait(10.0)
    perform(pdp.decide(request_for()), clock=clock)
    assert counts(pdp) == {"left_out": 1}
    child = os.fork()
    if not child:
        status = 1
        try:
            perform(pdp.decide(request_for()), clock=clock)
            pdp._aside.leave(seat)
            perform(pdp.decide(request_for()), clock=clock)
            status = 0 if counts(pdp)["disagreed"] == 2 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pdp._aside.enter(0.0) is None
    gate.set()
    thread.join()


@settings(max_examples=times(200, 50_000))
@given(answers, answers, st.sampled_from(WORLDS))
def test_only_the_permit_of_the_one_that_decides_permits(deciding: Any, other: Any, world: str) -> None:
    """What the shadow comes to changes neither answer nor fault, and is counted."""
    told: list[Disagreement] = []
    shadow = Part(other, immediate=True)
    pdp = shadowing(Part(deciding), shadow, listener=told.append)
    assert said(perform(pdp.decide(request_for()), world)) is word(deciding)
    assert shadow.asked == ["1"]
    wanted, got = word(deciding), word(other)
    if not isinstance(wanted, Effect):
        assert counts(pdp) == {"unanswered": 1}
    elif not isinstance(got, Effect):
        assert counts(pdp) == {f"fault/{got.value}": 1}
    elif got is wanted:
        assert (counts(pdp), told) == ({"agreed": 1}, [])
    else:
        assert counts(pdp) == {"disagreed": 1, f"{wanted.value}/{got.value}": 1}
        assert [(one.enforced.effect, one.shadow.effect) for one in told] == [(wanted, got)]


@settings(max_examples=times(100, 5_000))
@given(st.lists(st.tuples(answers, answers), max_size=5), st.booleans(), st.booleans())
def test_a_batch_is_answered_like_its_questions(rows: list[Any], batching: bool, other: bool) -> None:
    """Each item is compared with its own."""
    tables = [{str(at): row[side] for at, row in enumerate(rows)} for side in (0, 1)]
    deciding = (BatchPart if batching else Part)(tables[0])
    shadow = (BatchPart if other else Part)(tables[1], immediate=True)
    requests = [request_for(str(at)) for at in range(len(rows))]
    pdp = shadowing(deciding, shadow)
    assert many(pdp, requests) == [word(row[0]) for row in rows]
    alone = shadowing(Part(tables[0]), Part(tables[1], immediate=True))
    for request in requests:
        perform(alone.decide(request))
    assert counts(pdp) == counts(alone)


class Hanging:
    """A function that answers when it is let go."""

    name = "hanging"

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.ended = threading.Semaphore(0)

    def decide(self, _request: AccessRequest) -> bool:
        self.entered.release()
        self.gate.wait(30)
        self.ended.release()
        return False


@worlds
def test_a_shadow_that_hangs_is_cut_short(world: str) -> None:
    """A plain function is asked on a thread, and left there once patience is over."""
    hanging = Hanging()
    # Nothing is ever late on a clock that stands; that the shadow is slept for takes real time.
    clock = FakeClock()
    pdp = ShadowPDP(Part(True), hanging, patience=0.01, clock=clock)
    enforcer = Enforcer(pdp, audit=MemorySink(), clock=clock)
    verdict = enforcer.check(request_for()) if world == "sync" else asyncio.run(enforcer.acheck(request_for()))
    assert verdict.allowed
    assert counts(pdp) == {"fault/timeout": 1}
    hanging.gate.set()
    assert hanging.ended.acquire(timeout=30)


def test_hanging_shadows_take_up_a_bounded_number_of_threads() -> None:
    """Where too many hang, more questions are not asked of it; they are counted, and answered."""
    hanging = Hanging()
    clock = FakeClock()
    pdp = ShadowPDP(Part(True), hanging, patience=0.005, at_most=2, clock=clock)
    enforcer = Enforcer(pdp, audit=MemorySink(), clock=clock)
    for _ in range(2):
        assert enforcer.check(request_for()).allowed
        assert hanging.entered.acquire(timeout=30)
        clock.advance(1)
    for _ in range(3):
        assert enforcer.check(request_for()).allowed
    assert counts(pdp) == {"fault/timeout": 2, "left_out": 3}
    hanging.gate.set()
    for _ in range(2):
        assert hanging.ended.acquire(timeout=30)


class Planned:
    """A plan that sleeps."""

    name = "planned"

    def __init__(self, took: float, answer: bool) -> None:
        self._took, self._answer = took, answer

    def decide(self, _request: AccessRequest) -> Plan[bool]:
        yield from sleep(self._took)
        return self._answer


def test_sleeping_for_a_shadow_takes_up_a_bounded_number_of_threads() -> None:
    """A thread that sleeps for an answer that came meanwhile sleeps on until then: it keeps its place."""
    clock, hanging = FakeClock(), Hanging()
    pdp = ShadowPDP(Part(True), hanging, patience=0.005, at_most=1, clock=clock)
    perform(pdp.decide(request_for()), clock=clock)
    hanging.gate.set()
    assert hanging.ended.acquire(timeout=30)
    while pdp._aside._running:
        threading.Event().wait(0.001)
    perform(pdp.decide(request_for()), clock=clock)
    assert counts(pdp)["left_out"] == 1
    clock.advance(1)
    perform(pdp.decide(request_for()), clock=clock)
    assert counts(pdp)["left_out"] == 1


def test_it_waits_no_longer_than_its_patience() -> None:
    """Nor longer than half of the time left; and not at all where what decides takes longer anyway."""
    clock = FakeClock()
    for patience, left, waited in ((0.1, 10.0, 0.1), (5.0, 1.0, 0.5)):
        before = clock.monotonic()
        stage = Stage(clock)
        pdp = ShadowPDP(Part(True), Hung(), patience=patience, clock=clock)
        reply = asyncio.run(arun(contain(pdp.decide(request_for()), before + left), stage.aperformer))
        assert said(reply) is Effect.PERMIT
        assert clock.monotonic() - before == pytest.approx(waited)
        assert counts(pdp) == {"fault/timeout": 1}


class Hung:
    """A coroutine that never ends."""

    name = "hung"
    asynchronous = True

    async def decide(self, _request: AccessRequest) -> bool:
        await asyncio.Event().wait()
        return False


def test_what_decides_late_does_not_wait_for_the_shadow() -> None:
    """Patience counts from the question: once it is over, the answer goes out as it comes."""
    clock = FakeClock()
    stage = Stage(clock)

    class Late(Part):
        def decide(self, request: AccessRequest) -> Any:
            clock.advance(0.3)
            return super().decide(request)

    pdp = ShadowPDP(Late(True), Hung(), patience=0.2, clock=clock)
    reply = asyncio.run(arun(contain(pdp.decide(request_for())), stage.aperformer))
    assert said(reply) is Effect.PERMIT
    assert clock.monotonic() == pytest.approx(1000.3)


def test_what_decides_is_waited_for() -> None:
    """A shadow that is there first ends nothing."""
    clock = FakeClock()
    pdp = ShadowPDP(Planned(0.001, answer=True), Part(False, immediate=True), clock=clock)
    assert said(run(contain(pdp.decide(request_for())), Stage(clock).performer)) is Effect.PERMIT
    assert counts(pdp) == {"disagreed": 1, "permit/deny": 1}


@worlds
def test_a_deadline_that_cuts_off_what_decides_is_a_timeout(world: str) -> None:
    """Whatever the shadow has said by then."""
    clock = FakeClock()
    stage = Stage(clock)

    class Never(Planned):
        def decide(self, request: AccessRequest) -> Plan[bool]:
            yield from super().decide(request)
            raise PDPTimeout

    pdp = ShadowPDP(Never(9.0, answer=True), Part(True, immediate=True), clock=clock)
    plan = contain(pdp.decide(request_for()), clock.monotonic() + 1.0)
    reply = run(plan, stage.performer) if world == "sync" else asyncio.run(arun(plan, stage.aperformer))
    assert said(reply) is Fault.TIMEOUT


def test_a_real_deadline_cuts_off_both() -> None:
    """Where what decides never comes, there is a timeout, and nothing to compare."""
    pdp = ShadowPDP(Hung(), Hung(), patience=0.005)

    async def asked() -> Any:
        clock = SystemClock()
        return await arun(contain(pdp.decide(request_for()), clock.monotonic() + 0.05), APerformer(clock))

    assert said(asyncio.run(asked())) is Fault.TIMEOUT


def test_the_shadow_runs_no_obligations_and_fills_no_cache() -> None:
    """Only what decides is discharged and kept."""
    handler = FakeHandler("log")
    shadow = Part(True, immediate=True)
    shadow.decide = lambda _request: Decision(Effect.PERMIT, obligations=[Obligation("log")])  # type: ignore[method-assign]
    pdp = ShadowPDP(Part(True, pure=True), shadow, patience=30)
    assert pdp.pure
    enforcer = Enforcer(pdp, audit=MemorySink(), obligations=[handler])
    subject, document = Subject("user", "alice"), Resource("doc", "1")
    for _ in range(2):
        enforcer.enforce("read", document, subject=subject)
    assert handler.discharged == []
    # The second one came from the cache, and was not compared.
    assert counts(pdp) == {"disagreed": 1, "permit/permit": 1}


def owing(*duties: Obligation, effect: Effect = Effect.PERMIT) -> Decision:
    return Decision(effect, obligations=duties)


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        (owing(Obligation("a"), Obligation("b")), owing(Obligation("b"), Obligation("a", id="7")), True),
        (owing(Obligation("a", {"n": {"x": 1, "y": 2}})), owing(Obligation("a", {"n": {"y": 2, "x": 1}})), True),
        (owing(Obligation("a", {"n": 1})), owing(Obligation("a", {"n": True})), False),
        (owing(Obligation("a")), owing(), False),
        (owing(Obligation("a", {"n": 1})), owing(Obligation("a", {"n": 2})), False),
        (owing(Obligation("a"), effect=Effect.NOT_APPLICABLE), owing(effect=Effect.NOT_APPLICABLE), True),
        (owing(effect=Effect.DENY), owing(effect=Effect.NOT_APPLICABLE), False),
    ],
)
def test_what_agrees(one: Decision, other: Decision, agree: bool) -> None:
    """The same effect with the same obligations, in any order and whatever their ids."""
    pdp = shadowing(Part(one, immediate=True), Part(other, immediate=True))
    perform(pdp.decide(request_for()))
    assert ("agreed" in counts(pdp)) is agree


def test_a_disagreement_tells_no_values() -> None:
    """Types and ids, effects, policies, revisions and types of obligations; nothing else of the request."""
    request = AccessRequest(
        Subject("user", "alice", {"ssn": "canary"}), "read", Resource("doc", "1", {"text": "canary"}),
        {"ip": "canary"}, [Subject("agent", "bot", {"key": "canary"})], "acme",
    )  # fmt: skip
    said_ = Decision(Effect.DENY, policies=["p2"], revision="2", obligations=[Obligation("log", {"to": "canary"})])
    told: list[Disagreement] = []
    old = Part(Decision(Effect.PERMIT, policies=["p1"], revision="1"), "old")
    pdp = shadowing(old, Part(said_, "new", immediate=True), listener=told.append)
    perform(pdp.decide(request))
    assert told == [
        Disagreement(
            "shadow(old,new)", "read", ("user", "alice"), ("doc", "1"), (("agent", "bot"),), "acme",
            Said(Effect.PERMIT, ("p1",), "1", ()), Said(Effect.DENY, ("p2",), "2", ("log",)),
        )
    ]  # fmt: skip
    assert "canary" not in repr(told)


@worlds
@pytest.mark.parametrize("fails", [ValueError, PDPUnavailable, None])
def test_a_listener_may_fail_or_be_awaited(world: str, fails: type[Exception] | None) -> None:
    """What it raises is counted, and changes nothing."""
    told: list[str] = []

    def listener(disagreement: Disagreement) -> Plan[None]:
        yield from sleep(0)
        told.append(disagreement.action)
        if fails is not None:
            raise fails

    pdp = shadowing(Part(True), Part(False, immediate=True), listener=listener)
    assert said(perform(pdp.decide(request_for()), world)) is Effect.PERMIT
    assert told == ["read"]
    assert counts(pdp).get("untold", 0) == (fails is not None)


def schema() -> Any:
    return json.loads((Path(pep.audit.__file__).parent / "schema.json").read_bytes())


def test_disagreements_become_records(tmp_path: Path) -> None:
    """A `check` of both answers, of the published schema, in the chain of the enforcer's own file."""
    sink = FileSink(tmp_path / "audit.jsonl")
    old = Part(Decision(Effect.PERMIT, policies=["p1"], revision="1"), "old")
    new = Part(Decision(Effect.DENY), "new", immediate=True)
    with Enforcer(ShadowPDP(old, new, listener=disagreements_to(sink), patience=30), audit=sink) as enforcer:
        request = AccessRequest(Subject("user", "a"), "read", Resource.new("doc"), {}, [Subject("agent", "b")], "acme")
        assert enforcer.check(request).allowed
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_bytes().splitlines()]
    found = next(line for line in lines if line.get("would"))
    for line in lines:
        jsonschema.validate(line, schema())
    about = {
        "subject": {"type": "user", "id": "a"}, "resource": {"type": "doc"}, "action": "read",
        "actors": [{"type": "agent", "id": "b"}], "tenant": "acme",
    }  # fmt: skip
    enforced = {"effect": "permit", "policies": ["p1"], "revision": "1"}
    assert {name: found[name] for name in ("kind", "entry", "outcome", "would", "mode", "pdp")} == {
        "kind": "check", "entry": "check", "outcome": "permitted", "would": "denied", "mode": "shadow",
        "pdp": "shadow(old,new)",
    }  # fmt: skip
    assert found["requests"] == [{**about, **enforced}, {**about, "effect": "deny", "mode": "shadow"}]
    assert verify(tmp_path / "audit.jsonl").intact


@worlds
def test_records_go_to_sinks_of_any_kind(world: str) -> None:
    """One that answers with a plan, or has to be awaited; a failing one is counted."""

    class Planning(MemorySink):
        def record(self, record: Any) -> Any:
            return self._plan(record)

        def _plan(self, record: Any) -> Plan[None]:
            yield from sleep(0)
            super().record(record)

    class Broken(MemorySink):
        def record(self, record: Any) -> None:
            raise OSError

    planning = Planning()
    pdp = shadowing(Part(False), Part("INDETERMINATE", immediate=True), listener=disagreements_to(planning))
    perform(pdp.decide(request_for()), world)
    assert [(one.kind, one["outcome"], one["would"]) for one in planning.records] == [
        (Kind.CHECK, "denied", "unavailable")
    ]
    broken = shadowing(Part(False), Part(True, immediate=True), listener=disagreements_to(Broken()))
    perform(broken.decide(request_for()), world)
    assert counts(broken)["untold"] == 1


@pytest.mark.parametrize("sink", [object(), MemorySink])
def test_a_listener_needs_a_sink(sink: Any) -> None:
    """What takes no records is refused where it is written."""
    with pytest.raises(ConfigurationError, match="no audit sink"):
        disagreements_to(sink)


def test_a_sample_is_compared() -> None:
    """The rest is asked of the one that decides alone, batches as a whole."""
    drawn = iter([0.1, 0.3, 0.1, 0.3])
    shadow = BatchPart(True, immediate=True)
    pdp = shadowing(BatchPart(True), shadow, fraction=0.2, drawn=lambda: next(drawn))
    for _ in range(2):
        perform(pdp.decide(request_for()))
    for _ in range(2):
        assert many(pdp, [request_for("1"), request_for("2")]) == [Effect.PERMIT] * 2
    assert (len(shadow.asked), counts(pdp)) == (3, {"agreed": 3})


def test_a_function_is_asked_on_a_thread_and_a_plan_is_not() -> None:
    """What answers from memory, in steps, or when awaited needs none; what asks for one has it."""
    threads: list[str] = []

    def decide(_request: AccessRequest) -> bool:
        threads.append(threading.current_thread().name)
        return True

    def planned(_request: AccessRequest) -> Plan[bool]:
        threads.append(threading.current_thread().name)
        yield from sleep(0)
        return True

    here = threading.current_thread().name

    def asked(pdp: Any) -> bool:
        threads.clear()
        perform(shadowing(Part(True), pdp, patience=30).decide(request_for()))
        return threads == [here]

    def made(fn: Any, **more: bool) -> Any:
        return type("Made", (), {"decide": staticmethod(fn), **more})()

    assert not asked(FunctionPDP(decide))
    assert asked(made(decide, immediate=True))
    assert asked(made(planned))
    assert not asked(made(decide, immediate=True, threaded=True))


def test_it_lends_what_the_one_that_decides_has() -> None:
    """Row filters, probes and swaps are those of the one that decides; a batch is taken whatever the parts."""

    class Able(Part):
        def row_filter(self, *_: Any, **__: Any) -> AllowAll:
            return AllowAll()

        def probe(self) -> None:
            raise PDPUnavailable(self.name)

        def subscribe(self, listener: Callable[[Any], None]) -> None:
            listener(self.name)

    heard: list[Any] = []
    pdp = shadowing(Able(True, "old"), Part(True, "new"))
    assert perform(pdp.row_filter(Subject("user", "a"), "read", "doc", context={})).value == AllowAll()
    assert str(perform(pdp.probe()).error) == "old"
    pdp.subscribe(heard.append)
    assert heard == ["old"]
    other = shadowing(Part(True), Able(True))
    assert not any(hasattr(other, name) for name in ("row_filter", "probe", "subscribe"))
    assert [part["name"] for part in pdp.health()["parts"]] == ["old", "new"]


def test_it_conforms() -> None:
    """The same answers in both worlds, alone and in batches."""
    policies = PolicySet([permit("p", action="read", resource="doc")])

    def broken(_requests: Sequence[AccessRequest]) -> Any:
        raise ValueError

    permitted, denied = request_for(), request_for(action="edit")
    check_pdp(lambda: shadowing(policies, policies), permitted=permitted, denied=denied)
    check_pdp(lambda: shadowing(policies, FunctionPDP(broken)), permitted=permitted, denied=denied)
    assert shadowing(Part(True), Hung()).asynchronous


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({"fraction": 0}, "above 0, up to 1"),
        ({"fraction": 1.5}, "above 0, up to 1"),
        ({"fraction": True}, "above 0, up to 1"),
        ({"patience": 0}, "`patience`"),
        ({"at_most": 0}, "`at_most` is a count"),
        ({"listener": 7}, "is no listener"),
        ({"listener": Hanging}, "is no listener"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], mend: str) -> None:
    """Mistakes are found where they are written."""
    with pytest.raises(ConfigurationError, match=mend):
        shadowing(Part(True), Part(True), **options)
    with pytest.raises(ConfigurationError, match="wrap a function"):
        shadowing(Part(True), object())  # type: ignore[arg-type]
