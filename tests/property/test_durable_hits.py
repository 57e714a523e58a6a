"""Hits under `DURABLE` do what the plan does: two records each, on disk, whatever happens in between."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pep
from pep import AccessDenied, Canary, Fault, Guarantee, Profile, Resource, Shadow, acting_as
from pep.audit import Correlation
from pep.audit.masking import Masking
from pep.audit.record import Kind, json_of, record_of
from pep.errors import AuditError, PartlyRecordedError
from pep.guard.owing import _expire
from tests.guard.rigs import SHAPES, wait
from tests.property.test_hot_path import (
    ALICE,
    EVENT,
    EVENTS,
    FIRST,
    FLOORS,
    LATER,
    PATHS,
    SIGNATURES,
    WAYS,
    Awaited,
    Durable,
    Silent,
    Touched,
    World,
    acts,
    alike,
    comparable,
    handlers,
    served,
    shaped,
    signed,
    storied,
    warm,
)
from tests.proving import times


def profile_of(**more: Any) -> Profile:
    return Profile(permit_ttl=60, audit=Guarantee.DURABLE, **more)


DURABLE: Final = profile_of()
#: Who keeps the records of which kinds of function.
KEPT: Final = [("function", Durable), ("coroutine_function", Durable), ("coroutine_function", Awaited)]
kept = pytest.mark.parametrize(("shape", "kept_by"), KEPT, ids=["function", "coroutine", "coroutine that waits"])


def durably(script: Callable[[World], Any], kept_by: type, **options: Any) -> dict[str, Any]:
    return alike(script, options.pop("profile", DURABLE), guarantee=Guarantee.DURABLE, kept_by=kept_by, **options)


@pytest.mark.parametrize("event", EVENTS)
@kept
def test_every_event(shape: str, kept_by: type, event: str) -> None:
    """Whatever happens to a call, it comes to the same, does the same and is recorded alike, served either way."""
    if shape == "coroutine_function" and event in {"nested", "approved"}:
        pytest.skip("a loop runs no other")
    if kept_by is Awaited and event == "interrupted":
        pytest.skip("it ends the loop, and what the loop was left with")
    durably(shaped(shape, EVENTS[event]), kept_by, obligations=handlers)


@kept
def test_it_is_served_hot(shape: str, kept_by: type) -> None:
    """A hit leaves its decision before the code and its outcome after it, without a plan."""
    came = durably(shaped(shape, warm), kept_by, hot=3)
    assert [one.get("outcome", one.get("status")) for one in came["records"]] == ["permitted", "completed"] * 5
    assert [one["decision"] for one in came["records"][1::2]] == list(range(0, 10, 2))
    assert came["stats"] == [{"recorded": 10, "unrecorded": 0, "lost": 0, "unobserved": 0, "uncorrelated": 0}]


@pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES if "generator" not in shape and shape not in {"function", "coroutine_function"}]
)
def test_every_kind(shape: str) -> None:
    """Every kind of callable that ends with its call comes to the same, served either way."""

    def script(world: World, invoke: Any) -> None:
        for event in ("warm", "denied", "invalidated_while_recorded", "failing", "odd_ids"):
            world.answer, world.body = True, None
            EVENTS[event](world, invoke)

    for kept_by in (Durable, Awaited):
        durably(shaped(shape, script), kept_by, hot=1, obligations=handlers)


@kept
def test_a_constant_resource(shape: str, kept_by: type) -> None:
    """A constant resource is found without a look at the call."""
    durably(shaped(shape, warm, resource=FIRST), kept_by, hot=4)
    durably(shaped(shape, warm, resource=None), kept_by, hot=4)


OTHERS: Final[dict[str, Any]] = {
    "generator": {},
    "async_generator": {},
    "function": {"resource": "document_id"},
    "coroutine_function": {"resource": lambda document_id: Resource("document", document_id)},
    "method": {"resource": lambda document_id: Resource("document", document_id)},
}


@pytest.mark.parametrize("shape", OTHERS)
def test_the_rest_takes_the_plan(shape: str) -> None:
    """What is stepped through, or of whatever type, leaves its two records by a plan."""
    options = OTHERS[shape]
    for way in WAYS:
        with served(way):
            world = World(way, DURABLE, guarantee=Guarantee.DURABLE, kept_by=Durable)
            invoke = SHAPES[shape](world.guard(**options), world)
            things = [FIRST] * 3 if options.get("resource") == "document_id" else ["1"] * 3
            acts(world, invoke, *things)
            assert world.hits == 0
            assert [came[0] for came in world.came] == ["returned"] * 3


@kept
@pytest.mark.parametrize("sink", ["neither", "not its world's"])
def test_a_sink_that_cannot_takes_the_plan(shape: str, kept_by: type, sink: str) -> None:
    """Whoever offers records alone is handed records."""
    other = "adurably" if shape == "function" else "durably"
    gone = ["durably", "adurably"] if sink == "neither" else ["adurably" if other == "durably" else "durably"]
    for way in WAYS:
        with served(way):
            world = World(way, DURABLE, guarantee=Guarantee.DURABLE, kept_by=kept_by)
            for name in gone:
                setattr(world.sink, name, None)
            shaped(shape, warm)(world)
            assert world.hits == 0
            assert len(world.sink.kept) == 10


def test_a_coroutine_with_another_answer_to_denials_takes_the_plan() -> None:
    """Who acts may be gone once a record is on disk; what is returned then instead is the plan's."""
    world = World("compiled", DURABLE, guarantee=Guarantee.DURABLE, kept_by=Awaited)
    shaped("coroutine_function", warm, on_denied=lambda _denied: None)(world)
    assert world.hits == 0
    shaped("function", warm, on_denied=lambda _denied: None)(world)
    assert world.hits > 0


@pytest.mark.parametrize("body", ["function", "coroutine", "method"])
@pytest.mark.parametrize("signature", SIGNATURES)
@pytest.mark.parametrize("resource", ["document:{document_id}", FIRST], ids=["id", "constant"])
def test_every_signature(signature: str, body: str, resource: Any) -> None:
    """Arguments arrive as they were given, and what a function does not take it refuses itself, on every path."""
    durably(signed(signature, body, resource), Durable, hot=1)


STANDING_BACK: Final[dict[str, dict[str, Any]]] = {
    "shadow": {"profile": profile_of(mode=Shadow(until=LATER, reason="new"))},
    "canary": {"profile": profile_of(mode=Canary(0.5, until=LATER, reason="new"))},
    "pinned": {"profile": profile_of(pin_arguments=True)},
    "revalidated": {"profile": profile_of(revalidate=5)},
    "queried": {"profile": profile_of(record_query=True)},
    "not kept": {"profile": Profile(permit_ttl=0, audit=Guarantee.DURABLE)},
    "attributes": {"attributes": lambda: [Silent()]},
    "arguments shown": {"masking": Masking(as_is={"arguments:document:read": ["document_id"]})},
}


@pytest.mark.parametrize("why", STANDING_BACK)
@kept
def test_what_is_more_than_a_hit_is_the_plan_s(shape: str, kept_by: type, why: str) -> None:
    """What is not enforced, pinned, asked again, enriched, or recorded with more than a hit has, a plan serves."""

    def script(world: World) -> None:
        with acting_as(ALICE):
            world.enforcer.check("document:read", Resource("document", "1"))
        for event in (warm, EVENTS["failing"]):
            world.answer, world.body = True, None
            shaped(shape, event)(world)
        assert world.hits == 0

    durably(script, kept_by, **STANDING_BACK[why])


# Faults at every touch.


def stopping(world: World, error: BaseException | type[BaseException]) -> None:
    raise error


def left(world: World, _error: Any) -> None:
    world.scope.close()  # type: ignore[attr-defined]


def cancelled(world: World, _error: Any) -> None:
    world.task.cancel()  # type: ignore[attr-defined]


FAULTS: Final[dict[str, tuple[Callable[[World, Any], Any], Any]]] = {
    "failed": (stopping, OSError("full")),
    "refused": (stopping, AuditError("no")),
    "denied": (stopping, AccessDenied),
    "in time no more": (stopping, TimeoutError("late")),
    "recorded partly": (stopping, PartlyRecordedError("partly")),
    "out of memory": (stopping, MemoryError()),
    "late": (lambda world, _: world.clock.advance(2), None),
    "on the dot": (lambda world, _: world.clock.advance(1), None),
    "revoked": (lambda world, _: world.enforcer._core.wiring().generations.revoke_all(), None),
    "something else revoked": (
        lambda world, _: world.enforcer._core.wiring().generations.revoke(("subject", "user", "bob")),
        None,
    ),
    "due": (
        lambda world, _: world.enforcer._core.wiring().journal.announce(Kind.CONFIGURATION, {"change": "none"}),
        None,
    ),
    "owed": (lambda world, _: world.enforcer._core.wiring().journal.owe(), None),
    "left": (left, None),
    "cancelled": (cancelled, None),
    "interrupted": (stopping, KeyboardInterrupt()),
    "exited": (stopping, SystemExit(3)),
    "ended": (stopping, GeneratorExit()),
    "itself cancelled": (stopping, asyncio.CancelledError()),
}
#: What ends a loop, and whatever was left to it; or what a sink that waits never does.
ENDING: Final = {"interrupted", "exited", "ended", "itself cancelled"}


def faulted(shape: str, touch: str, fault: str, at: int, body: Any) -> Callable[[World], None]:
    """Have something happen at the n-th touch of a sink, once; call before and after."""
    do, error = FAULTS[fault]

    def script(world: World) -> None:
        async def turned(document_id: str) -> str:
            world.append(document_id)
            await asyncio.sleep(0)
            world.append("turned")
            return document_id

        made = world.guard()(turned) if shape == "coroutine_function" else None
        plain = None if made is not None else SHAPES[shape](world.guard(), world)

        async def main(one: str) -> Any:
            world.task = asyncio.ensure_future(made(one))  # type: ignore[attr-defined, misc]
            try:
                return await world.task  # type: ignore[attr-defined]
            finally:
                # What was left to the loop ends.
                for _ in range(8):
                    await asyncio.sleep(0)

        def invoke(one: str) -> Any:
            world.scope = pep.scope.hot_frame().scope  # type: ignore[attr-defined]
            return plain(one) if plain is not None else wait(main(one))

        acts(world, invoke, "1", "1")
        count = itertools.count(1)

        def once() -> None:
            if next(count) == at:
                do(world, error)

        world.touches, world.body = {touch: once}, body
        acts(world, invoke, "1")
        acts(world, invoke, "1")
        world.touches, world.body = {}, None
        acts(world, invoke, "1", "1")

    return script


def failing(_value: Any) -> None:
    raise LookupError


BODIES: Final = {"returns": None, "raises": failing}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("touch", ["record", "recorded"])
@kept
def test_a_fault_at_every_touch(shape: str, kept_by: type, touch: str, fault: str, body: str) -> None:
    """Whatever happens when whichever record is handed over, or was, comes to the same, and leaves the same."""
    if fault == "cancelled" and shape == "function":
        pytest.skip("nobody cancels a function")
    if kept_by is Awaited and fault in ENDING:
        pytest.skip("it ends the loop")
    for at in range(1, 6):
        durably(faulted(shape, touch, fault, at, BODIES[body]), kept_by)


@pytest.mark.parametrize("path", ["function", "coroutine"])
@pytest.mark.parametrize("floor", FLOORS, ids=str)
@pytest.mark.parametrize("kept_by", [Durable, Awaited])
@pytest.mark.parametrize("aged", [False, True], ids=["at its epoch", "at a later epoch"])
def test_an_invalidation_at_every_touch(path: str, floor: Any, kept_by: type, aged: bool) -> None:
    """What is revoked at any touch before the last comparison never runs, and its end is told."""
    for way in WAYS:
        touches = 0
        for at in itertools.count(1):
            with served(way):
                world = Touched(way, floor, DURABLE, guarantee=Guarantee.DURABLE, kept_by=kept_by)
                invoke = PATHS[path](world)
                acts(world, invoke, "1", "1")
                if aged:
                    world.generations.revoke(("subject", "user", "bob"))
                world.ran.clear()
                world.at = at
                acts(world, invoke, "1")
            if not world.fired:
                assert world.came[-1][0] == "returned"
                break
            touches += 1
            assert way == "plan" or ("ran", "1") not in world.ran
            assert world.came[-1][0] == "AccessDenied"
            world.at = None
            ended = comparable(record_of(world.sink.kept[-1]), {})
            assert ended.get("outcome", ended.get("status")) in {"denied", "withheld"}
        assert touches >= 4


@pytest.mark.parametrize("kept_by", [Durable, Awaited])
@settings(max_examples=times(60, 4_000))
@given(events=st.lists(EVENT, max_size=25))
def test_any_story(kept_by: type, events: list[tuple[Any, ...]]) -> None:
    """Whatever happens in whatever order, it comes to the same, served either way."""
    if kept_by is Awaited:
        # What ends a loop leaves the rest of it undone; what nests is synchronous, and awaits no record.
        events = [event for event in events if event[-1] not in {KeyboardInterrupt, "stop", "nest"}]
    durably(storied(events), kept_by, obligations=handlers)


# What records tell.


class Watching:
    """An observer that fails now and then."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def observe(self, record: Any) -> None:
        self.seen.append(comparable(record, {}))
        if len(self.seen) % 3 == 0:
            raise ValueError


@kept
def test_observers_and_what_records_belong_to(shape: str, kept_by: type) -> None:
    """Observers see the same records, each with what it belonged to when it was made; what fails is counted."""
    seen: list[list[Any]] = []

    def correlations() -> Callable[[], Correlation]:
        count = itertools.count()

        def correlation() -> Correlation:
            if (number := next(count)) == 5:
                raise OSError
            return Correlation(f"request {number}")

        return lambda: correlation()

    reports = []
    for way in WAYS:
        with served(way):
            watching = Watching()
            world = World(
                way,
                DURABLE,
                guarantee=Guarantee.DURABLE,
                kept_by=kept_by,
                telemetry=[watching],
                correlation=correlations(),
                masking=Masking(as_is={"subject:user": ["role"]}),
            )
            shaped(shape, warm)(world)
            # What is not recorded, or too late, nobody is shown.
            for trouble in (OSError(), lambda world=world: world.clock.advance(2)):
                invoke = SHAPES[shape](world.guard(), world)
                acts(world, invoke, "1", "1")
                world.touches = {"recorded": trouble}
                acts(world, invoke, "1")
                world.touches = {}
            shaped(shape, warm)(world)
            seen.append(watching.seen)
            reports.append(world.report())
    assert seen[0] == seen[1] == seen[2]
    assert reports[0] == reports[1] == reports[2]
    told = [one.get("correlation") for one in seen[0]]
    assert told[:4] == ["request 0", "request 1", "request 2", "request 3"]
    assert any("editor" in str(one) for one in seen[0] if one["kind"] == "outcome")
    assert reports[0]["stats"][0]["unobserved"] > 3
    assert reports[0]["stats"][0]["uncorrelated"] == 1


@kept
def test_every_record_has_an_id_of_its_own(shape: str, kept_by: type) -> None:
    """Records of hits before and after the code, and those of plans, share no id; every one of them is a UUIDv7."""
    world = World("compiled", DURABLE, guarantee=Guarantee.DURABLE, kept_by=kept_by)
    invoke = SHAPES[shape](world.guard(), world)
    acts(world, invoke, *"12" * 50)
    records = [record_of(one) for one in world.sink.kept]
    assert len({record.id for record in records}) == len(records) == 200
    assert all(uuid.UUID(record.id).version == 7 for record in records)
    assert [json_of(one) for one in world.sink.kept if record_of(one).kind is Kind.OUTCOME] == [
        record.to_json() for record in records if record.kind is Kind.OUTCOME
    ]


@pytest.mark.parametrize("hidden", [True, False])
@kept
def test_a_refusal_tells_where_it_comes_from_as_the_plan_s(shape: str, kept_by: type, hidden: bool) -> None:
    """What a sink raised is the cause of the refusal, and in a hidden profile is seen nowhere."""
    causes = []
    for way in WAYS:
        with served(way):
            profile = profile_of(hidden=hidden)
            world = World(way, profile, guarantee=Guarantee.DURABLE, kept_by=kept_by)
            invoke = SHAPES[shape](world.guard(), world)
            acts(world, invoke, "1", "1")
            world.touches = {"record": AuditError("full")}
            with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
                invoke("1")
            error = caught.value
            causes.append((type(error), str(error.__cause__), str(error.__context__), error.verdict.fault))
    assert causes[0] == causes[1] == causes[2]
    assert ("full" in str(causes[0])) is not hidden


# Waiting.


class Slow(Durable):
    """Has it on disk when the test says so; until then whoever waits waits."""

    def __init__(self, world: World, guarantee: Guarantee) -> None:
        super().__init__(world, guarantee)
        self.slow = False
        self.waiting: list[asyncio.Future[None]] = []

    def record(self, record: Any) -> Any:
        return self.adurably(record) if self.slow else super().record(record)

    def adurably(self, note: Any) -> Any:
        if not self.slow:
            return super().record(note)
        self.kept.append(note)
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]

    async def waited(self, number: int) -> None:
        """Let the loop go round until so many wait, or waited."""
        for _turn in range(100):
            await asyncio.sleep(0)
        assert len(self.waiting) == number


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("how", ["times out", "fails", "is cancelled", "comes"])
def test_a_task_that_waits(at: int, how: str) -> None:
    """A wait ends at its deadline, by an error, when the task is cancelled, or well; before the code and after it."""

    def script(world: World) -> None:
        @world.guard()
        async def read(document_id: str) -> str:
            world.append(document_id)
            return document_id

        async def main() -> Any:
            sink: Any = world.sink
            sink.slow = True
            task = asyncio.ensure_future(read("1"))
            for number in range(1, at + 1):
                await sink.waited(number)
                if number < at:
                    sink.waiting[-1].set_result(None)
            sink.slow = False
            if how == "fails":
                sink.waiting[-1].set_exception(AuditError("full"))
            elif how == "is cancelled":
                task.cancel()
            elif how == "comes":
                sink.waiting[-1].set_result(None)
            await asyncio.wait({task}, timeout=10)
            assert task.done()
            return await task

        acts(world, lambda one: wait(read(one)), "1", "1")
        acts(world, lambda _one: wait(main()), "1")
        acts(world, lambda one: wait(read(one)), "1", "1")

    durably(script, Slow, profile=profile_of(deadline=0.02 if how == "times out" else 5.0), hot=3)


def test_what_comes_after_its_deadline_changes_nothing() -> None:
    """A record that arrives after all is looked at by nobody."""
    world = World("compiled", profile_of(deadline=0.001), guarantee=Guarantee.DURABLE, kept_by=Slow)

    @world.guard()
    async def aread(document_id: str) -> None:
        world.append(document_id)

    acts(world, lambda one: wait(aread(one)), "1", "1")
    sink: Any = world.sink

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        done.set_result(None)
        _expire(done)
        assert done.result() is None

    wait(main())
    sink.slow = True
    acts(world, lambda one: wait(asyncio.wait_for(aread(one), 10)), "1")
    assert world.came[-1][3] is Fault.AUDIT
    assert all(one.done() for one in sink.waiting)
