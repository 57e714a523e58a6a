"""Checking plainly does what an enforcement of each question does: one script, two enforcers, the same in all."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pep.checks
from pep import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Enforcer,
    FailOpen,
    FailStale,
    Fault,
    Guarantee,
    Obligation,
    Profile,
    Resource,
    Subject,
    acting_as,
)
from pep.audit import Kind, Masking, MemorySink
from pep.audit.correlation import Correlation
from pep.audit.record import json_of, record_of
from pep.bulk import check_all
from pep.errors import ConfigurationError, PDPReplyError, PDPTimeout
from pep.plain import APPLICATION
from pep.protocols import Phase
from pep.testing import FakeClock, FakeHandler, FakeProvider
from tests.property.test_hot_path import comparable, told
from tests.proving import times
from tests.scenes import ALICE, SHADOW
from tests.test_sift import BOB, ONE, WORLDS, Page

#: A world, and a sink that only records or one that takes notes too.
PLACES: Final = [("sync", "records"), ("sync", "notes"), ("async", "notes"), ("suspending", "records")]


class World:
    """One enforcer whose checks are plain or not, and everything that happens to it."""

    def __init__(
        self, profile: Profile | None = None, *, world: str = "sync", sink: str = "records", **parts: Any
    ) -> None:
        self.world, self.guarantee, self.name = world, Guarantee.DURABLE, "batch"
        self.pure, self.threaded = parts.pop("pure", False), parts.pop("threaded", False)
        self.consistent = parts.pop("consistent", False)
        self.answer: Callable[[Any], Any] = lambda _request: True
        self.whole: Callable[[Any], Any] = lambda answers: answers
        self.touches: dict[str, Any] = {}
        self.ran: list[Any] = []
        self.came: list[Any] = []
        self.kept: list[Any] = []
        self.clock = FakeClock()
        pdp: Any = self if parts.pop("batches", True) else _One(self)
        self.enforcer = Enforcer(
            pdp,
            audit=_Notes(self) if sink == "notes" and world != "suspending" else _Sink(self),
            clock=self.clock,
            profiles={"document:**": profile or Profile()} | parts.pop("more", {}),
            obligations=[FakeHandler("log"), FakeHandler("redact", phase=Phase.AFTER), FakeHandler("limit")],
            **parts,
        )
        self.enforcer.resources.register(Page, self._page)

    def _page(self, page: Page) -> Resource:
        who = pep.current_subject()
        self.ran.append(("converted", page.name, who and who.id))
        self.touched(f"convert {page.name}")
        if page.name == "raises":
            raise ValueError
        return Resource("document", page.name)

    def _answered(self, request: Any) -> Any:
        self.ran.append(("asked", request.to_dict()))
        value = self.answer(request)
        return Decision(Effect.PERMIT if value else Effect.DENY) if type(value) is bool else value

    def decide(self, request: Any) -> Any:
        def answered() -> Any:
            self.touched("ask")
            return self._answered(request)

        return self._suspended(answered)

    def decide_many(self, requests: Sequence[Any]) -> Any:
        def answered() -> Any:
            self.touched("ask")
            return self.whole([self._answered(request) for request in requests])

        return self._suspended(answered)

    def record(self, record: Any) -> Any:
        def taken() -> None:
            self.touched("record")
            self.kept.append(record)
            self.touched("recorded")

        return self._suspended(taken)

    def _suspended(self, fn: Callable[[], Any]) -> Any:
        if self.world != "suspending":
            return fn()

        async def later() -> Any:
            await asyncio.sleep(0)
            value = fn()
            await asyncio.sleep(0)
            return value

        return later()

    def touched(self, what: str) -> None:
        does = self.touches.get(what)
        if does is not None:
            does()

    def check(self, questions: Any, **options: Any) -> None:
        """Check many; note what it came to."""
        before = len(self.kept)
        try:
            if self.world == "sync":
                verdicts = self.enforcer.check_many(questions, **options)
            else:
                verdicts = asyncio.run(self.enforcer.acheck_many(questions, **options))
        except BaseException as error:  # noqa: BLE001  whatever it raises is compared
            self.came.append((type(error), told(str(error))))
            return
        ids = [record_of(one).id for one in self.kept[before:]]
        self.came.append([(ids.index(one.id) if one.id in ids else None, *_parts(one)) for one in verdicts])

    def report(self) -> dict[str, Any]:
        lines = [json_of(one) for one in self.kept]
        self.kept = [record_of(one) for one in self.kept]
        assert [one.to_json() for one in self.kept] == lines
        places = {record.id: place for place, record in enumerate(self.kept)}
        records = [(comparable(record, places), sorted(record.to_dict())) for record in self.kept]
        for record in self.kept:
            assert record.kind is not Kind.CHECK or record.get("latency", {"total": 0})["total"] >= 0
            assert abs(record.time - self.clock.wall()) < 1_000
        return {"came": self.came, "ran": self.ran, "records": records, "stats": self.enforcer.stats()}


def _parts(verdict: Any) -> tuple[Any, ...]:
    """Everything a verdict tells but its id."""
    request, requests = verdict.request, verdict.requests
    return (
        verdict.outcome,
        verdict.fault,
        type(verdict.cause),
        told(str(verdict.cause)),
        request,
        verdict.decision,
        verdict.obligations,
        (verdict.allowed, verdict.cached, verdict.ran, verdict.would, dict(verdict.demands), verdict.hidden),
        requests,
    )


class _One:
    """The same decision point, without batches."""

    def __init__(self, world: World) -> None:
        self.decide, self.pure, self.name, self.threaded = world.decide, world.pure, "batch", world.threaded


class _Sink:
    """A sink that does first what it is told to."""

    def __init__(self, world: World) -> None:
        self.guarantee, self.record = world.guarantee, world.record


class _Notes(_Sink):
    """The same, which takes notes too."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.take = world.record


@contextmanager
def plainly(is_plain: bool) -> Iterator[list[int]]:
    """Check plainly, or make an enforcement of each question; tell how many requests were made plainly."""
    made: list[int] = []
    opened = pep.checks._opened

    def counted(*args: Any) -> Any:
        found = opened(*args)
        made.append(len(found))
        return found

    def one_by_one(lead: Any, questions: Any) -> Any:
        return check_all([lead, *[pep.checks._job(lead, questions, one) for one in questions.asked[1:]]])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pep.checks, "_opened", counted)
        if not is_plain:
            patch.setattr(pep.checks, "check_many", one_by_one)
        yield made


def alike(script: Callable[[World], Any], *, plain: bool | None = None, **parts: Any) -> dict[str, Any]:
    """
    Run one script in both ways, and compare.

    Args:
        script: Takes a world.

        plain: Whether some batch is plain; None does not say.

        parts: What the worlds are made of; what is a function makes it.
    """
    reports = []
    for way in (True, False):
        made = {name: part() if callable(part) else part for name, part in parts.items()}
        with plainly(way) as plain_ones:
            scene = World(**made)
            script(scene)
        assert plain is None or bool(plain_ones) is (plain and way)
        reports.append(scene.report())
    quickly, one_by_one = reports
    for name in ("came", "ran", "records"):
        for here, there in itertools.zip_longest(quickly[name], one_by_one[name]):
            assert here == there
    assert quickly["stats"] == one_by_one["stats"]
    return one_by_one


def some() -> list[Any]:
    """Questions of every kind that a plain batch may have."""
    return [
        ("document:read", ONE),
        ("document:read", Resource("document", "2", {"owner": "alice"})),
        ("read", Page("3")),
        ("read", Resource("letter", "4")),
        (Action("read"), Resource("document", "1")),
        (Action("read", {"why": "asked"}), ONE),
        AccessRequest(BOB, "read", ONE, {"at": 1}, (), "acme"),
        AccessRequest(ALICE, "document:read", ONE),
        ("read", Resource.new("document")),
        ("read", Page("raises")),
        ("document:read", ONE),
        ("", ONE),
        ("a*", Page("raises")),
        (None, ONE),
        ("read", None),
        ("read", object()),
        ("write", Page("9")),
        ("read", Resource("document", "x" * 70_000)),
    ]


def others() -> list[Any]:
    """Questions that take an enforcement of their own to be taken."""
    return [
        ("read", [ONE, Resource("document", "2")]),
        ("read", []),
        ("read", (ONE,)),
        ("read", iter([ONE])),
        ("read", APPLICATION),
        AccessRequest(ALICE, "read", ONE, {}, [BOB]),
    ]


def by_alice(scene: World, questions: Any, **options: Any) -> None:
    with acting_as(ALICE):
        scene.check(questions, **options)


every_world = pytest.mark.parametrize("world", WORLDS)
every_place = pytest.mark.parametrize(("world", "sink"), PLACES)


@every_place
def test_whatever_the_questions(world: str, sink: str) -> None:
    """Every mixture of questions comes to the same: pairs, whole requests, what is none, and duplicates."""

    def script(scene: World) -> None:
        scene.answer = lambda request: request.resource.id not in {"2", "9"}
        questions = some()
        for first in range(len(questions)):
            by_alice(scene, questions[first:] + questions[:first])
            by_alice(scene, questions[first : first + 1])
        by_alice(scene, [])
        by_alice(scene, iter(questions))

    alike(script, world=world, sink=sink, plain=True)


@pytest.mark.parametrize("at", range(len(others())))
def test_what_is_not_plain_is_left_to_the_rest(at: int) -> None:
    """A batch with several resources, the application or actors goes the present way, as a whole."""

    def script(scene: World) -> None:
        by_alice(scene, [some()[0], others()[at], some()[1]])

    alike(script, plain=False)


def test_pairs_of_questions() -> None:
    """Any two questions come to the same."""

    def script(scene: World) -> None:
        questions = some()
        for pair in itertools.product(range(len(questions)), repeat=2):
            by_alice(scene, [questions[at] for at in pair])

    alike(script, plain=True)


@pytest.mark.parametrize("question", ["read", ("read",), ["read", ONE], ("read", ONE, None), None])
def test_what_is_no_question_is_refused_at_once(question: Any) -> None:
    """Before anything is asked, in both worlds."""
    scene = World()
    with pytest.raises(ConfigurationError, match="a question is"):
        scene.enforcer.check_many([("read", ONE), question])
    with pytest.raises(ConfigurationError, match="a question is"):
        _ = scene.enforcer.acheck_many([("read", ONE), question])
    assert scene.ran == scene.kept == []


@every_place
@pytest.mark.parametrize(
    "answer",
    [
        False,
        Decision(Effect.NOT_APPLICABLE),
        Decision(Effect.INDETERMINATE),
        Decision(Effect.PERMIT, advice=[Obligation("rest")], reasons=["why"], policies=["p"]),
        Decision(Effect.PERMIT, obligations=[Obligation("log")]),
        Decision(Effect.PERMIT, obligations=[Obligation("redact"), Obligation("limit")]),
        Decision(Effect.PERMIT, obligations=[Obligation("unknown")]),
        Decision(Effect.DENY, obligations=[Obligation("log")]),
        Decision(Effect.PERMIT, revision="2", ttl=3),
        None,
        1,
        "true",
    ],
    ids=str,
)
@pytest.mark.parametrize("which", ["all", "one", "first"])
def test_whatever_the_answers(world: str, sink: str, answer: Any, which: str) -> None:
    """Every answer, about all or one, comes to the same; only an exact permit permits."""

    def script(scene: World) -> None:
        wanted = {"all": {"1", "2", "3", "4"}, "one": {"3"}, "first": {"1"}}[which]
        scene.answer = lambda request: answer if request.resource.id in wanted else True
        by_alice(scene, some()[:4])
        by_alice(scene, some())

    alike(script, world=world, sink=sink, plain=True)


@every_world
@pytest.mark.parametrize(
    "whole",
    [
        lambda answers: answers[:-1],
        lambda answers: [*answers, answers[0]],
        lambda answers: answers[::-1],
        tuple,
        iter,
        lambda _answers: None,
        lambda _answers: [],
        lambda _answers: 1 / 0,
        lambda answers: [*answers[:-1], 7],
    ],
    ids=["short", "long", "reordered", "tuple", "iterator", "none", "empty", "raising", "malformed"],
)
def test_whatever_the_batch(world: str, whole: Any) -> None:
    """A batch that is short, long or malformed comes to the same."""

    def script(scene: World) -> None:
        by_alice(scene, some()[:3])
        scene.whole = whole
        scene.answer = lambda request: request.resource.id == "1"
        by_alice(scene, some()[:3])
        by_alice(scene, some())

    alike(script, world=world, plain=True)


@every_world
@pytest.mark.parametrize("error", [TimeoutError, ConnectionError, PDPTimeout, PDPReplyError, ValueError, MemoryError])
@pytest.mark.parametrize(
    "profile",
    [
        Profile(),
        Profile(on_failure=FailStale(60)),
        Profile(on_failure=FailOpen(on=[Fault.TIMEOUT, Fault.UNREACHABLE], limit="9/minute")),
        SHADOW,
        Profile(hidden=True),
        Profile(pin_arguments=True),
        Profile(record_query=True),
        Profile(deadline=30),
        Profile(audit=Guarantee.DURABLE),
    ],
    ids=["closed", "stale", "open", "shadow", "hidden", "pinned", "queried", "patient", "durable"],
)
def test_whatever_the_fault(world: str, error: type[Exception], profile: Profile) -> None:
    """Every fault, under every failure mode and mode, comes to the same."""

    def script(scene: World) -> None:
        by_alice(scene, some()[:4])

        def fail(_answers: Any) -> Any:
            raise error

        scene.whole = fail
        by_alice(scene, some()[:4])
        by_alice(scene, some())

    alike(script, world=world, profile=lambda: profile, plain=True)


@every_place
@pytest.mark.parametrize("touch", ["ask", "record", "recorded"])
@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.0, 30])
@pytest.mark.parametrize("answer", [True, None])
def test_whatever_time_it_takes(world: str, sink: str, touch: str, seconds: float, answer: Any) -> None:
    """Time that passes while it is asked or recorded comes to the same: what is too late is counted."""

    def script(scene: World) -> None:
        scene.answer = lambda request: answer if request.resource.id == "1" else True
        scene.touches = {touch: lambda: scene.clock.advance(seconds)}
        by_alice(scene, some()[:4])
        by_alice(scene, some()[1:4])
        scene.touches = {}
        by_alice(scene, some()[:4])

    alike(script, world=world, sink=sink, plain=True)


@every_world
def test_time_that_is_spent_before_the_question(world: str) -> None:
    """A converter that takes all the time leaves none to ask in, alike."""

    def script(scene: World) -> None:
        scene.touches = {"convert 3": lambda: scene.clock.advance(1)}
        by_alice(scene, some()[:4])

    report = alike(script, world=world, plain=True)
    assert not [one for one in report["ran"] if one[0] == "asked"]


@every_world
@pytest.mark.parametrize("deadlines", [(1, 5), (5, 1)])
def test_the_tightest_deadline_of_any_question(world: str, deadlines: tuple[float, float]) -> None:
    """Questions of several types are decided under the tightest of their deadlines, and recorded under their own."""

    def script(scene: World) -> None:
        letter = ("read", Resource("letter", "1"))
        for seconds in (0.7, 1.5):
            touch = partial(scene.clock.advance, seconds)
            for touches in ({"ask": touch}, {"record": touch}, {"ask": touch, "record": touch}):
                scene.touches = touches
                for questions in ([("read", ONE), letter], [letter, ("read", ONE), ("write", ONE)]):
                    by_alice(scene, questions)

    document, letter = deadlines
    more = {"letter:**": Profile(deadline=letter), "document:write": Profile(hidden=True, deadline=2)}
    alike(script, world=world, profile=lambda: Profile(deadline=document), more=more, plain=True)


@every_world
def test_whoever_acts(world: str) -> None:
    """Who asks, for whom, where and in which circumstances comes to the same; nobody is nobody."""

    def script(scene: World) -> None:
        questions = some()[:9]
        whole = [one for one in questions if type(one) is AccessRequest]
        scene.answer = lambda request: request.resource.id != "2"
        scene.check(questions)
        scene.check(whole)
        scene.check(questions, subject=BOB, context={"a": 1})
        for scope in ({"via": [BOB]}, {"tenant": "t"}, {"context": {"a": 1, "b": [1]}}, {}):
            with acting_as(ALICE, **scope):
                scene.check(questions)
                scene.check(whole)
                scene.check(questions, subject=BOB)
                scene.check(questions, context={"a": 2})
                scene.check(questions, context={"a": object()})
                scene.check(questions, context={"a": "x" * 70_000})
                scene.check(questions, subject="bob")
        with acting_as(Page("somebody")):
            scene.check(questions)

    alike(script, world=world, plain=True)


def test_circumstances_that_run_out_of_memory() -> None:
    """What is out of memory says so."""

    class Exhausted(dict[str, Any]):
        def items(self) -> Any:
            raise MemoryError

        def __iter__(self) -> Any:
            raise MemoryError

    alike(lambda scene: by_alice(scene, some()[:2], context=Exhausted(a=1)))


def test_a_converter_that_runs_out_of_memory() -> None:
    """It comes to the same: its question has no request."""

    def exhausted() -> None:
        raise MemoryError

    def script(scene: World) -> None:
        scene.touches = {"convert 3": exhausted}
        by_alice(scene, some()[:4])

    alike(script, plain=True)


def test_no_memory_is_nobody_s_denial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running out of memory while requests are made ends the checks, as it ends every call."""

    def exhausted(*_parts: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pep.checks._Asking, "request", exhausted)
    scene = World()
    by_alice(scene, some()[:2])
    assert scene.came == [(MemoryError, "")]


@every_place
@pytest.mark.parametrize(
    "made",
    [
        {"attributes": lambda: [FakeProvider({"context.level": 1})]},
        {"batches": False},
        {"threaded": True},
        {"pure": True},
        {"pure": True, "profile": lambda: Profile(permit_ttl=2, deny_ttl=0)},
        {"consistent": True, "profile": lambda: Profile(permit_ttl=60, deny_ttl=60)},
        {"masking": lambda: Masking(as_is={"arguments:document:read": {"a"}, "resource:document": {"owner"}})},
        {"correlation": lambda: lambda: Correlation("r1")},
        {"telemetry": lambda: [Observing()]},
    ],
    ids=["providers", "no batches", "threaded", "pure", "brief", "consistent", "arguments", "correlated", "observed"],
)
def test_whatever_else_there_is(world: str, sink: str, made: Any) -> None:
    """Providers, no batches, a cache, consistency tokens, maskings and observers come to the same."""

    def script(scene: World) -> None:
        revisions = itertools.count()
        effect = {True: Effect.PERMIT, False: Effect.DENY}
        scene.answer = lambda request: Decision(
            effect[request.resource.id != "2"], revision=str(next(revisions) // 3) if scene.consistent else None
        )
        for _ in range(2):
            by_alice(scene, some()[:4])
            by_alice(scene, some())
            scene.clock.advance(1.5)

    alike(script, world=world, sink=sink, **made)


class Observing:
    """Observes records; fails at some."""

    def observe(self, record: Any) -> None:
        if record.outcome == "denied":
            raise ValueError


FLOORS: Final = [
    None,
    ("resource", "document", "1"),
    ("resource", "letter"),
    ("subject", "user", "alice"),
    ("action", "document:read"),
]


@every_place
@pytest.mark.parametrize("touch", ["convert 3", "ask", "record", "recorded"])
@pytest.mark.parametrize("floor", FLOORS, ids=str)
@pytest.mark.parametrize("pure", [False, True])
def test_revoked_meanwhile(world: str, sink: str, touch: str, floor: Any, pure: bool) -> None:
    """What is revoked while it is asked or recorded is no permit, alike."""

    def script(scene: World) -> None:
        left = iter(range(2))

        def revoke() -> None:
            if next(left, None) is not None:
                generations = scene.enforcer._core.wiring().generations
                generations.revoke_all() if floor is None else generations.revoke(floor)

        by_alice(scene, some()[:2])
        scene.touches = {touch: revoke}
        for _ in range(3):
            by_alice(scene, some()[:6])

    alike(script, world=world, sink=sink, pure=pure, plain=True)


@every_place
@pytest.mark.parametrize("touch", ["ask", "record", "recorded"])
@pytest.mark.parametrize("error", [OSError, MemoryError, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("answer", [True, "log", None])
def test_failing_meanwhile(world: str, sink: str, touch: str, error: type[BaseException], answer: Any) -> None:
    """A sink that fails is counted, never raised; whatever cuts checks off is told alike."""
    log = Decision(Effect.PERMIT, obligations=[Obligation("log")])

    def script(scene: World) -> None:
        def failing(at: int) -> Callable[[], None]:
            def fail() -> None:
                if next(count) == at:
                    raise error

            count = itertools.count(1)
            return fail

        scene.answer = lambda _request: log if answer == "log" else answer
        for at in (1, 2, 3):
            scene.touches = {touch: failing(at)}
            for _ in range(2):
                by_alice(scene, some()[:4])

    alike(script, world=world, sink=sink, plain=True)


@every_place
def test_what_is_owed_is_told_before_the_next(world: str, sink: str) -> None:
    """A record that was lost is told of before the next one; where it cannot be, that one is counted."""

    def script(scene: World) -> None:
        journal = scene.enforcer._core.wiring().journal

        def refuse() -> None:
            journal.owe()
            scene.touches = {"record": fail}

        def fail() -> None:
            raise OSError

        for touch in (journal.owe, refuse):
            left = iter([None, touch])
            scene.touches = {"recorded": lambda left=left: (next(left, None) or (lambda: None))()}
            by_alice(scene, some()[:4])
            scene.touches = {}
            by_alice(scene, some()[:4])

    alike(script, world=world, sink=sink, plain=True)


@pytest.mark.parametrize("turns", range(14))
def test_cancelled_after_any_turn(turns: int) -> None:
    """Cancelled at any step, it is told alike."""

    def script(scene: World) -> None:
        async def main() -> None:
            with acting_as(ALICE):
                task = asyncio.ensure_future(scene.enforcer.acheck_many(some()[:3]))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                scene.came.append(len(await task))
            except asyncio.CancelledError:
                scene.came.append("cancelled")
            for _ in range(9):
                await asyncio.sleep(0)

        asyncio.run(main())

    alike(script, world="suspending")


@every_world
def test_closed(world: str) -> None:
    """A closed enforcer denies every question, and has nothing to say to none."""

    def script(scene: World) -> None:
        by_alice(scene, some()[:2])
        scene.enforcer.close() if world != "suspending" else asyncio.run(scene.enforcer.aclose())
        by_alice(scene, [])

    alike(script, world=world, plain=True)
    scene = World(world=world)
    scene.enforcer.close() if world != "suspending" else asyncio.run(scene.enforcer.aclose())
    by_alice(scene, some()[:2])
    assert [one[1] for one in scene.came[0]] == [pep.Outcome.UNAVAILABLE] * 2


def test_checks_nest_as_deep_as_calls() -> None:
    """Checks too deep among guarded calls are refused alike."""

    def script(scene: World) -> None:
        @scene.enforcer.guard("document:write", resource=ONE)
        def deeper(levels: int) -> None:
            if levels:
                deeper(levels - 1)
            else:
                scene.check(some()[:3])

        with acting_as(ALICE):
            for levels in (0, 6, 7):
                deeper(levels)

    alike(script)


QUESTIONS: Final = st.lists(st.integers(0, len(some()) - 1), min_size=1, max_size=8)
ANSWERED: Final = st.sampled_from([True, False, None, "log", "unknown", "indeterminate", "stated"])


@settings(max_examples=times(60, 8_000))
@given(
    st.lists(st.tuples(QUESTIONS, st.lists(ANSWERED, min_size=1, max_size=4)), max_size=4),
    st.sampled_from([None, "ask", "record", "recorded", "convert 3"]),
    st.sampled_from(["revoke", "raise", "wait", "stop"]),
    st.sampled_from(["whole", "short", "late"]),
    st.sampled_from(PLACES),
)
def test_any_mixture(asked: Any, touch: str | None, does: str, batch: str, place: tuple[str, str]) -> None:
    """Any questions with any answers, hits and misses mixed, with anything going wrong, come to the same."""
    decisions = {
        "log": Decision(Effect.PERMIT, obligations=[Obligation("log")]),
        "unknown": Decision(Effect.PERMIT, obligations=[Obligation("unknown")]),
        "indeterminate": Decision(Effect.INDETERMINATE),
        "stated": Decision(Effect.DENY, reasons=["so"], policies=["p"], ttl=2),
    }

    def script(scene: World) -> None:
        def do() -> None:
            if does == "revoke":
                scene.enforcer._core.wiring().generations.revoke(("resource", "document", "1"))
            elif does == "raise":
                raise OSError
            elif does == "wait":
                scene.clock.advance(0.4)
            else:
                scene.touches.clear()
                raise KeyboardInterrupt

        scene.touches = {} if touch is None else {touch: do}
        scene.whole = {
            "whole": list,
            "short": lambda all_: all_[1:],
            "late": lambda all_: (scene.clock.advance(2), all_)[1],
        }[batch]
        for which, answers in asked:
            questions = some()

            def answer(request: Any, answers: Any = answers) -> Any:
                told_of = answers[sum(map(ord, str(request.resource.id))) % len(answers)]
                return decisions.get(told_of, told_of)

            scene.answer = answer
            by_alice(scene, [questions[at] for at in which])

    for pure in (False, True):
        alike(script, world=place[0], sink=place[1], pure=pure)


def test_each_check_leaves_its_own_record_in_a_sink_of_notes() -> None:
    """A note tells, when somebody reads it, what a record would have told, under the id of its verdict."""
    sink = MemorySink()
    enforcer = Enforcer(World(), audit=sink)
    with acting_as(Subject("user", "alice")):
        verdicts = enforcer.check_many([("read", Resource("document", str(number))) for number in range(9)])
    assert [record.id for record in sink.of(Kind.CHECK)] == [verdict.id for verdict in verdicts]
    assert [record["resource"]["id"] for record in sink.records] == [str(number) for number in range(9)]
    assert enforcer.stats()["recorded"] == 9
