"""Sifting does what an enforcement of each item does: one script, two enforcers, the same lists, errors and records."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pep.sift
from pep import (
    AccessDenied,
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
from pep.audit import MemorySink
from pep.bulk import LISTED, keep_permitted
from pep.errors import PDPReplyError, PDPTimeout
from pep.policy import PolicySet, permit
from pep.protocols import Phase
from pep.testing import FakeClock, FakeHandler, FakeProvider
from tests.property.test_hot_path import comparable, told
from tests.proving import times
from tests.scenes import SHADOW

ALICE: Final = Subject("user", "alice")
BOB: Final = Subject("user", "bob")
ONE: Final = Resource("document", "1")
WORLDS: Final = ("sync", "async", "suspending")


class Page:
    """What a registry makes a resource of."""

    def __init__(self, name: str) -> None:
        self.name = name


class World:
    """One enforcer whose filters are sifted or not, and everything that happens to it."""

    def __init__(
        self, profile: Profile | None = None, *, world: str = "sync", batches: bool = True, **parts: Any
    ) -> None:
        self.world = world
        self.guarantee = Guarantee.DURABLE
        self.pure = parts.pop("pure", False)
        self.threaded = False
        self.name = "batch"
        self.answer: Callable[[Any], Any] = lambda _request: True
        self.whole: Callable[[Any], Any] = lambda answers: answers
        self.touches: dict[str, Any] = {}
        self.ran: list[Any] = []
        self.came: list[Any] = []
        self.kept: list[Any] = []
        self.clock = FakeClock()
        pdp: Any = self if batches else _One(self)
        self.enforcer = Enforcer(
            pdp,
            audit=_Sink(self),
            clock=self.clock,
            profiles={"document:**": profile or Profile()} | parts.pop("more", {}),
            obligations=[
                FakeHandler("log"),
                FakeHandler("redact", phase=Phase.AFTER, does=lambda call: call.with_result("redacted")),
            ],
            **parts,
        )
        self.enforcer.resources.register(Page, self._page)

    def _page(self, page: Page) -> Resource:
        self.ran.append(("converted", page.name, pep.current_subject() and pep.current_subject().id))
        if page.name == "raises":
            raise ValueError
        if page.name == "exhausted":
            raise MemoryError
        return Resource("document", page.name)

    def _answered(self, request: Any) -> Any:
        self.ran.append(("asked", request.subject.id, request.resource.id, request.tenant, dict(request.context)))
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

    def filter(self, items: Sequence[Any], action: str = "document:read", **options: Any) -> None:
        """Filter; note what it came to."""
        try:
            if self.world == "sync":
                kept = self.enforcer.filter(action, items, **options)
            else:
                kept = asyncio.run(self.enforcer.afilter(action, items, **options))
        except AccessDenied as denied:
            cause = type(denied.__cause__)
            self.came.append((type(denied), told(str(denied)), denied.outcome, denied.fault, denied.ran, cause))
        except BaseException as error:  # noqa: BLE001  whatever it raises is compared
            self.came.append((type(error), told(str(error))))
        else:
            self.came.append([next((at for at, item in enumerate(items) if item is one), one) for one in kept])

    def report(self) -> dict[str, Any]:
        places = {record.id: place for place, record in enumerate(self.kept)}
        records = [comparable(record, places) for record in self.kept]
        return {"came": self.came, "ran": self.ran, "records": records}


class _One:
    """The same decision point, without batches."""

    def __init__(self, world: World) -> None:
        self.decide, self.pure, self.name, self.threaded = world.decide, world.pure, "batch", False


class _Sink:
    """The same sink."""

    def __init__(self, world: World) -> None:
        self.guarantee, self.record = world.guarantee, world.record


@contextmanager
def sifted(is_sifted: bool) -> Iterator[list[int]]:
    """Sift, or make an enforcement of each item; tell how often a batch was sifted to its end."""
    ended: list[int] = []
    released = pep.sift._released

    def counted(*args: Any) -> Any:
        ended.append(1)
        return released(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pep.sift, "_released", counted)
        if not is_sifted:
            patch.setattr(pep.sift, "sift", lambda lead, _, items, jobs: keep_permitted(jobs(), items, lead))
        yield ended


def alike(
    script: Callable[[World], Any], *, world: str = "sync", quick: bool | None = None, **parts: Any
) -> dict[str, Any]:
    """
    Run one script in both ways, and compare.

    Args:
        script: Takes a world.

        world: In which.

        quick: Whether some batch is sifted to its end; None does not say.

        parts: What the worlds are made of; what is a function makes it.
    """
    reports = []
    for way in (True, False):
        made = {name: part() if callable(part) else part for name, part in parts.items()}
        with sifted(way) as ended:
            scene = World(world=world, **made)
            script(scene)
        assert quick is None or bool(ended) is (quick and way)
        reports.append(scene.report())
    quickly, one_by_one = reports
    for name in ("came", "records"):
        for here, there in itertools.zip_longest(quickly[name], one_by_one[name]):
            assert here == there
    # Whoever is asked about an item twice answers once: how often is not the same, about what and for whom is.
    assert {str(one) for one in quickly["ran"]} == {str(one) for one in one_by_one["ran"]}
    return one_by_one


def some() -> list[Any]:
    return [
        ONE,
        Resource("document", "2", {"owner": "alice"}),
        Page("3"),
        Resource("letter", "4"),
        Resource.new("document"),
        Page("raises"),
        ONE,
        Resource("document", "1"),
        object(),
        None,
        "1",
        [ONE],
        [],
        [ONE, Resource("document", "2")],
        Subject("user", "x"),
        Page("9"),
    ]


def by_alice(world: World, items: Sequence[Any], **options: Any) -> None:
    with acting_as(ALICE):
        world.filter(items, **options)


every_world = pytest.mark.parametrize("world", WORLDS)


@every_world
def test_whatever_the_items(world: str) -> None:
    """Every mixture of items comes to the same: resources, registered objects, what is none, and duplicates."""

    def script(scene: World) -> None:
        items = some()
        scene.answer = lambda request: request.resource.id not in {"2", "9"}
        for first in range(len(items)):
            by_alice(scene, items[first:] + items[:first])
            by_alice(scene, items[first : first + 1])
        for pair in itertools.product(items, repeat=2):
            by_alice(scene, pair)
        by_alice(scene, [])

    alike(script, world=world, quick=True)


@every_world
@pytest.mark.parametrize(
    "answer",
    [
        False,
        Decision(Effect.NOT_APPLICABLE),
        Decision(Effect.INDETERMINATE),
        Decision(Effect.PERMIT, advice=[Obligation("rest")]),
        Decision(Effect.PERMIT, obligations=[Obligation("log")]),
        Decision(Effect.PERMIT, obligations=[Obligation("redact")]),
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
def test_whatever_the_answers(world: str, answer: Any, which: str) -> None:
    """Every answer, about all or one, comes to the same."""

    def script(scene: World) -> None:
        wanted = {"all": {"1", "2", "3", "4"}, "one": {"3"}, "first": {"1"}}[which]
        scene.answer = lambda request: answer if request.resource.id in wanted else True
        by_alice(scene, some()[:4])
        by_alice(scene, some())

    alike(script, world=world)


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
@pytest.mark.parametrize("profile", [Profile(), Profile(on_failure=FailStale(60))], ids=["closed", "stale"])
def test_whatever_the_batch(world: str, whole: Any, profile: Profile) -> None:
    """A batch that is short, long or malformed comes to the same: no partial list."""

    def script(scene: World) -> None:
        by_alice(scene, some()[:3])
        scene.whole = whole
        scene.answer = lambda request: request.resource.id == "1"
        by_alice(scene, some()[:3])
        by_alice(scene, some())

    alike(script, world=world, profile=lambda: profile)


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
        Profile(deadline=30),
        Profile(audit=Guarantee.DURABLE),
    ],
    ids=["closed", "stale", "open", "shadow", "hidden", "pinned", "patient", "durable"],
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

    alike(script, world=world, profile=lambda: profile)


@every_world
@pytest.mark.parametrize("touch", ["ask", "record", "recorded"])
@pytest.mark.parametrize("seconds", [0.4, 0.6, 1.0, 1.5, 30])
@pytest.mark.parametrize("answer", [True, False, None])
def test_whatever_time_it_takes(world: str, touch: str, seconds: float, answer: Any) -> None:
    """Time that passes while it is asked or recorded comes to the same."""

    def script(scene: World) -> None:
        scene.answer = lambda request: answer if request.resource.id == "1" else True
        scene.touches = {touch: lambda: scene.clock.advance(seconds)}
        by_alice(scene, some()[:3])
        by_alice(scene, some()[1:4])
        scene.touches = {}
        by_alice(scene, some()[:3])

    alike(script, world=world)


@every_world
@pytest.mark.parametrize("deadlines", [(1, 5), (5, 1)])
def test_the_tightest_deadline_of_any_item(world: str, deadlines: tuple[float, float]) -> None:
    """Items of several types are decided under the tightest of their deadlines."""

    def script(scene: World) -> None:
        scene.touches = {"ask": lambda: scene.clock.advance(3)}
        letter = Resource("letter", "1")
        for items in ([ONE, letter], [letter, ONE], [ONE], [letter]):
            by_alice(scene, items, action="read")

    document, letter = deadlines
    alike(
        script,
        world=world,
        profile=lambda: Profile(deadline=document),
        more={"letter:**": Profile(deadline=letter)},
    )


@every_world
def test_whoever_acts(world: str) -> None:
    """Who asks, for whom, where and in which circumstances comes to the same; nobody is nobody."""

    def script(scene: World) -> None:
        items = some()[:4]
        scene.answer = lambda request: request.resource.id != "2"
        scene.filter(items)
        scene.filter(items, subject=BOB)
        for scope in ({"via": [BOB]}, {"tenant": "t"}, {"context": {"a": 1, "b": [1]}}, {}):
            with acting_as(ALICE, **scope):
                scene.filter(items)
                scene.filter(items, subject=BOB)
                scene.filter(items, context={"a": 2})
                scene.filter(items, context={"a": object()})
                scene.filter(items, context={"a": "x" * 70_000})
                scene.filter(items, subject="bob")
                scene.filter(items, action="read")
                scene.filter([*items, Resource("document", "x" * 70_000)])
        with acting_as(Page("somebody")):
            scene.filter(items)

    alike(script, world=world, quick=True)


@every_world
def test_an_action_that_is_none(world: str) -> None:
    """An action that is none is refused alike."""

    def script(scene: World) -> None:
        for action in ("", "a*", None, 3, "x" * 70_000):
            by_alice(scene, some()[:3], action=action)

    alike(script, world=world)


@every_world
@pytest.mark.parametrize("parts", ["providers", "no batches", "pure"])
def test_whatever_else_there_is(world: str, parts: str) -> None:
    """Providers, a decision point that takes no batches, and a cache come to the same."""

    def script(scene: World) -> None:
        scene.answer = lambda request: request.resource.id != "2"
        for _ in range(2):
            by_alice(scene, some()[:4])
            by_alice(scene, some())
        if parts == "pure":
            # What is cached is not asked again.
            scene.ran.clear()

    made: dict[str, dict[str, Any]] = {
        "providers": {"attributes": lambda: [FakeProvider({"context.level": 1})]},
        "no batches": {"batches": False},
        "pure": {"pure": True},
    }
    alike(script, world=world, **made[parts])


@every_world
@pytest.mark.parametrize("touch", ["ask", "record", "recorded"])
@pytest.mark.parametrize(
    "floor",
    [
        None,
        ("resource", "document", "1"),
        ("resource", "document"),
        ("resource", "letter"),
        ("subject", "user", "alice"),
        ("subject", "user", "bob"),
        ("action", "document:read"),
    ],
    ids=str,
)
@pytest.mark.parametrize("often", [1, 3])
def test_revoked_meanwhile(world: str, touch: str, floor: Any, often: int) -> None:
    """What is revoked while it is asked or recorded stays in, and is told, alike."""

    def script(scene: World) -> None:
        left = iter(range(often))

        def revoke() -> None:
            if next(left, None) is not None:
                generations = scene.enforcer._core.wiring().generations
                generations.revoke_all() if floor is None else generations.revoke(floor)

        scene.touches = {touch: revoke}
        by_alice(scene, some()[:4])
        by_alice(scene, some()[:4])

    alike(script, world=world)


@every_world
@pytest.mark.parametrize("touch", ["ask", "record", "recorded"])
@pytest.mark.parametrize("error", [OSError, TimeoutError, MemoryError, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("answer", [True, False])
def test_failing_meanwhile(world: str, touch: str, error: type[BaseException], at: int, answer: bool) -> None:
    """A sink that fails, and whatever cuts a filter off, comes to the same: nothing is released without a record."""

    def script(scene: World) -> None:
        count = itertools.count(1)

        def fail() -> None:
            if next(count) == at:
                raise error
            scene.enforcer._core.wiring().generations.revoke(("resource", "document", str(at)))

        scene.answer = lambda _request: answer
        scene.touches = {touch: fail}
        for _ in range(3):
            by_alice(scene, some()[:4])
        scene.touches = {}
        by_alice(scene, some()[:4])

    alike(script, world=world)


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("revoking", [False, True])
def test_cancelled_after_any_turn(turns: int, revoking: bool) -> None:
    """Cancelled at any step, it is told alike."""

    def script(scene: World) -> None:
        async def main() -> None:
            with acting_as(ALICE):
                task = asyncio.ensure_future(scene.enforcer.afilter("document:read", some()[:4]))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                scene.came.append(len(await task))
            except asyncio.CancelledError:
                scene.came.append("cancelled")
            for _ in range(9):
                await asyncio.sleep(0)

        if revoking:
            scene.touches = {"recorded": scene.enforcer._core.wiring().generations.revoke_all}
        asyncio.run(main())

    alike(script, world="suspending")


@every_world
def test_closed_and_unbound(world: str) -> None:
    """A closed enforcer denies a filter of anything, and of nothing."""

    def script(scene: World) -> None:
        by_alice(scene, some()[:2])
        scene.enforcer.close() if world != "suspending" else asyncio.run(scene.enforcer.aclose())
        by_alice(scene, some()[:2])
        by_alice(scene, [])

    alike(script, world=world)


@pytest.mark.parametrize("count", [LISTED, LISTED + 1, 3 * LISTED])
def test_many_are_told_by_their_digest(count: int) -> None:
    """The ids of many are told alike: by their number and digest."""

    def script(scene: World) -> None:
        scene.answer = lambda request: int(request.resource.id) % 7 != 0
        items = [Resource("document", str(number)) for number in range(1, count)]
        by_alice(scene, items + items[:5])
        scene.touches = {"recorded": scene.enforcer._core.wiring().generations.revoke_all}
        by_alice(scene, items)

    alike(script, quick=True)


def test_filters_nest_as_deep_as_calls() -> None:
    """A filter too deep among guarded calls is refused alike."""

    def script(scene: World) -> None:
        @scene.enforcer.guard("document:write", resource=ONE)
        def deep(left: int) -> None:
            by_alice(scene, some()[:2])
            if left:
                deep(left - 1)

        with acting_as(ALICE):
            with pytest.raises(AccessDenied):
                deep(9)
            scene.kept[:] = [one for one in scene.kept if one.get("entry") == "filter"]

    alike(script)


MIXED: Final = st.lists(st.integers(0, 15), max_size=6)
ANSWERED: Final = st.sampled_from([True, True, True, False, None, "log", "redact", "unknown", "indeterminate"])


@settings(max_examples=times(100, 4_000))
@given(
    st.lists(st.tuples(MIXED, st.lists(ANSWERED, min_size=1, max_size=4)), max_size=4),
    st.sampled_from([None, "ask", "record", "recorded"]),
    st.sampled_from(["revoke", "raise", "wait", "stop"]),
    st.sampled_from(["whole", "short", "late"]),
    st.sampled_from(WORLDS),
)
def test_any_mixture(asked: Any, touch: str | None, does: str, batch: str, world: str) -> None:
    """Any items with any answers, with anything going wrong, come to the same."""
    decisions = {
        "log": Decision(Effect.PERMIT, obligations=[Obligation("log")]),
        "redact": Decision(Effect.PERMIT, obligations=[Obligation("redact")]),
        "unknown": Decision(Effect.PERMIT, obligations=[Obligation("unknown")]),
        "indeterminate": Decision(Effect.INDETERMINATE),
    }

    def script(scene: World) -> None:
        def do() -> None:
            if does == "revoke":
                scene.enforcer._core.wiring().generations.revoke(("resource", "document", "1"))
            elif does == "raise":
                raise OSError
            elif does == "wait":
                scene.clock.advance(0.7)
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
            items = some()

            def answer(request: Any, answers: Any = answers) -> Any:
                told_of = answers[sum(map(ord, str(request.resource.id))) % len(answers)]
                return decisions.get(told_of, told_of)

            scene.answer = answer
            by_alice(scene, [items[at] for at in which])

    alike(script, world=world)


def test_an_item_that_is_something_else_when_it_is_converted_again_stays_in() -> None:
    """Where sifting cannot go on, an item that no longer is what was asked about is withheld."""
    scene = World()
    turn = itertools.count()
    scene.enforcer.resources.register(dict, lambda _: Resource("document", f"other {next(turn)}"))
    log = Decision(Effect.PERMIT, obligations=[Obligation("log")])
    scene.answer = lambda request: log if request.resource.id == "1" else True
    by_alice(scene, [ONE, {}])
    assert scene.came == [[0]]


def test_what_can_be_read_only_once_is_no_item() -> None:
    """An iterator is refused, registered or not, as everywhere."""

    def script(scene: World) -> None:
        scene.enforcer.resources.register(type(iter([])), lambda _: Resource("document", "2"))
        by_alice(scene, [ONE, iter([]), Resource("document", "3")])

    assert alike(script)["came"] == [[0, 2]]


def test_a_converter_that_runs_out_of_memory_is_no_item_s_fault() -> None:
    """What is out of memory says so, and releases nothing."""
    alike(lambda scene: by_alice(scene, [ONE, Page("2"), Page("exhausted")]))


def test_what_is_revoked_while_it_is_compared_is_compared_again() -> None:
    """A look at the generations that somebody else moves on meanwhile is not the last."""
    generations = pep.sift.Generations()

    class Moving:
        epoch = property(lambda self: next(epochs))

        def holds(self, request: Any, epoch: int) -> bool:
            return generations.holds(request, epoch)

    epochs = iter([0, 1, 2, 2])
    assert pep.sift._holding(Moving(), [], [], 0) == []  # type: ignore[arg-type]
    assert list(epochs) == []


def test_no_memory_is_nobody_s_denial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running out of memory while requests are made ends the filter, as it ends every call."""
    enforcer = Enforcer(PolicySet([permit("all")]), audit=MemorySink())

    def exhausted(*_parts: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pep.sift, "_first", exhausted)
    with acting_as(Subject("user", "alice")), pytest.raises(MemoryError):
        enforcer.filter("read", [Resource("document", "1")])
