"""The hot path does what the plan does: one script, three enforcers, the same results, effects and records."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import itertools
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pep.asking
import pep.guard.calls
import pep.guard.generators
from pep import (
    AccessDenied,
    Canary,
    Decision,
    Effect,
    Enforcer,
    FailStale,
    Guarantee,
    Obligation,
    Profile,
    Resource,
    Shadow,
    Subject,
    acting_as,
    approval,
)
from pep.audit.record import Kind, Record, record_of
from pep.generations import Generations
from pep.pdp import FunctionPDP
from pep.protocols import Phase
from pep.testing import FakeClock, FakeHandler, FakeProvider, override
from tests.guard.rigs import SHAPES, wait
from tests.proving import times

#: Served by generated source, by closures, and by the plan alone.
WAYS: Final = ("compiled", "closures", "plan")
ALICE: Final = Subject("user", "alice", {"role": "editor"})
BOB: Final = Subject("user", "bob")
LATER: Final = datetime(2040, 1, 1, tzinfo=timezone.utc)
FIRST: Final = Resource("document", "1", {"owner": "alice"})

_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
# What differs between two runs of anything, and what only a plan or only a hit on its entry tells.
_VARYING: Final = ("id", "time", "latency", "age")


class Sink:
    """Keeps records and notes alike; does first what it is told to."""

    def __init__(self, world: World, guarantee: Guarantee) -> None:
        self.guarantee = guarantee
        self.kept: list[Any] = []
        self.world = world

    def record(self, record: Any) -> None:
        self.world.touched("record")
        self.kept.append(record)
        self.world.touched("recorded")

    take = record


class World:
    """
    One enforcer that is served in one way, and everything that happens to it.

    Attributes:
        answer: What the decision point answers; or a function of the request.

        body: What protected code does, given what it was called with; None is nothing.

        ran: What ran, in order.

        came: What calls came to, in order.

        touches: What to do at a touch, by its name; an exception is raised.
    """

    def __init__(
        self,
        way: str,
        profile: Profile | None = None,
        *,
        guarantee: Guarantee = Guarantee.BUFFERED,
        pure: bool = True,
        **parts: Any,
    ) -> None:
        self.way = way
        self.clock = FakeClock()
        self.answer: Any = True
        self.body: Callable[[Any], Any] | None = None
        self.ran: list[Any] = []
        self.came: list[Any] = []
        self.touches: dict[str, Any] = {}
        self.sink = Sink(self, guarantee)
        self.pdp = FunctionPDP(self._decide, name="world", pure=pure)
        self.enforcer = Enforcer(
            self.pdp,
            audit=self.sink,
            clock=self.clock,
            profiles={"document:**": profile or Profile()},
            compiled=way == "compiled",
            secret=b"0123456789abcdef",
            **parts,
        )

    def _decide(self, request: Any) -> Any:
        self.ran.append(("asked", request.subject.id, request.resource.id))
        return self.answer(request) if callable(self.answer) else self.answer

    def touched(self, what: str) -> None:
        does = self.touches.get(what)
        if isinstance(does, BaseException):
            raise does
        if does is not None:
            does()

    def append(self, value: Any) -> None:
        """Run, as protected code: see `tests.guard.rigs`."""
        self.ran.append(("ran", str(value)))
        if self.body is not None:
            self.body(value)

    def extend(self, values: Any) -> None:
        for value in values:
            self.append(value)

    def guard(self, **options: Any) -> Any:
        return self.enforcer.guard("document:read", **{"resource": "document:{document_id}"} | options)

    def call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call something; note what it came to."""
        try:
            value = fn(*args, **kwargs)
        except AccessDenied as denied:
            self.came.append((type(denied).__name__, told(str(denied)), denied.outcome, denied.fault, denied.ran))
        except TypeError:
            # Its message is the function's own only where its signature is written out.
            self.came.append(TypeError)
        except BaseException as error:  # noqa: BLE001  whatever it raises is compared
            self.came.append((type(error), told(str(error))))
        else:
            self.came.append(("returned", value))
            return value
        return None

    @property
    def hits(self) -> int:
        """How many notes the hot path took."""
        return self.enforcer._core.latest.journal.noting.count()

    def report(self) -> dict[str, Any]:
        """Everything that can be seen of it."""
        records = [record_of(kept) for kept in self.sink.kept]
        places = {record.id: place for place, record in enumerate(records)}
        return {"came": self.came, "ran": self.ran, "records": [comparable(record, places) for record in records]}


def told(message: str) -> str:
    return re.sub(r"at 0x[0-9a-f]+", "at", _ID.sub("<id>", message))


def comparable(record: Record, places: dict[str, int]) -> dict[str, Any]:
    fields = {name: value for name, value in record.to_dict().items() if name not in _VARYING}
    if "decision" in fields:
        fields["decision"] = places.get(fields["decision"], "unknown")
    return fields


@contextlib.contextmanager
def served(way: str) -> Iterator[None]:
    """Leave everything to the plan, where that is the way."""
    with pytest.MonkeyPatch.context() as patch:
        if way == "plan":
            patch.setattr(pep.guard.calls, "lookup_of", lambda _site: None)
            patch.setattr(pep.guard.generators, "lookup_of", lambda _site: None)
            patch.setattr(pep.asking, "block_of", lambda *_block: None)
        yield


def alike(script: Callable[[World], Any], *args: Any, hot: int | None = None, **options: Any) -> dict[str, Any]:
    """
    Run one script in three ways, and compare.

    Args:
        script: Takes a world.

        args: What the worlds are made of.

        hot: How many hits it has at least, where the hot path may serve; None does not say.

        options: What the worlds are made of, too; what is a function makes it, for each world.

    Returns:
        What all of them came to.
    """
    reports = []
    for way in WAYS:
        with served(way):
            parts = {name: option() if callable(option) else option for name, option in options.items()}
            world = World(way, *args, **parts)
            script(world)
        # What was not closed is: a generator that a script dropped is over.
        reports.append(world.report())
        assert (world.hits == 0) if way == "plan" else hot is None or world.hits >= hot, way
        assert world.enforcer._core.latest.journal.owing is False
    compiled, closures, plan = reports
    for served_hot in (closures, compiled):
        for name in ("came", "ran", "records"):
            for here, there in itertools.zip_longest(served_hot[name], plan[name]):
                assert here == there
    return plan


# What happens, as scripts: each takes a world and what calls its guarded function with an id.

Act = Callable[[World, Callable[[Any], Any]], Any]


def acts(world: World, invoke: Callable[[Any], Any], *ids: Any, subject: Any = ALICE, **scope: Any) -> None:
    with acting_as(subject, **scope):
        for one in ids:
            world.call(invoke, one)


def warm(world: World, invoke: Any) -> None:
    acts(world, invoke, "1", "1", "2", "1", "2")


def expired(world: World, invoke: Any) -> None:
    for _ in range(3):
        acts(world, invoke, "1", "1")
        world.clock.advance(30)


def denied(world: World, invoke: Any) -> None:
    world.answer = lambda request: request.resource.id == "1"
    acts(world, invoke, "1", "2", "1", "2")


def another_subject(world: World, invoke: Any) -> None:
    world.answer = lambda request: request.subject == ALICE
    acts(world, invoke, "1", "1")
    acts(world, invoke, "1", "1", subject=BOB)
    acts(world, invoke, "1", subject=Subject("user", "alice", {"role": "reader"}))


def obliged(world: World, invoke: Any) -> None:
    for kind in ("log", "redact", "unknown"):
        world.answer = Decision(Effect.PERMIT, obligations=[Obligation(kind)])
        acts(world, invoke, "1", "1")
        world.call(world.enforcer.invalidate_all)


def advised(world: World, invoke: Any) -> None:
    world.answer = Decision(Effect.PERMIT, advice=[Obligation("rest")], reasons=["so"], policies=["p"], revision="r")
    acts(world, invoke, "1", "1")


def explained(world: World, invoke: Any) -> None:
    world.answer = Decision(Effect.PERMIT, reasons=["so"], policies=["p"], ttl=20, id="d")
    acts(world, invoke, "1", "1")
    world.clock.advance(20)
    acts(world, invoke, "1")


def effects(world: World, invoke: Any) -> None:
    for effect in Effect:
        world.answer = Decision(effect)
        world.call(world.enforcer.invalidate_all)
        acts(world, invoke, "1", "1")


def faulty(world: World, invoke: Any) -> None:
    acts(world, invoke, "1")
    world.answer = lambda _request: 1 / 0
    acts(world, invoke, "1", "2", "2")


def scoped(world: World, invoke: Any) -> None:
    for scope in ({"tenant": "a"}, {"context": {"ip": "::1"}}, {"via": [BOB]}, {"tenant": "b", "context": {"a": 1}}, {}):
        acts(world, invoke, "1", "1", **scope)
        acts(world, invoke, "1", "1", **scope)


def outlived(world: World, invoke: Any) -> None:
    acts(world, invoke, "1", "1")
    with acting_as(ALICE):
        copied = contextvars.copy_context()
        copied.run(world.call, invoke, "1")
    copied.run(world.call, invoke, "1")


def by_nobody(world: World, invoke: Any) -> None:
    acts(world, invoke, "1", "1")
    world.call(invoke, "1")


def approved(world: World, invoke: Any) -> None:
    acts(world, invoke, "1")
    with acting_as(ALICE), approval("a"):
        world.call(invoke, "1")
        world.body = lambda _value: world.call(invoke, "2") if len(world.ran) < 9 else None
        world.call(invoke, "1")


def closed(world: World, invoke: Any) -> None:
    acts(world, invoke, "1", "1")
    world.enforcer.close()
    acts(world, invoke, "1", "2")


def overridden(world: World, invoke: Any) -> None:
    acts(world, invoke, "1", "1")
    with override(world.enforcer, lambda request: request.resource.id == "2") as inner:
        acts(world, invoke, "1", "2", "2")
        world.ran.append([record["outcome"] for record in inner.records])
    acts(world, invoke, "1", "2")


def invalidated(world: World, invoke: Any) -> None:
    for named in (
        {"resource": FIRST},
        {"resource": "document"},
        {"subject": ALICE},
        {"subject": "user"},
        {"action": "document:read"},
        {"resource": Resource("document", "2")},
        {"subject": BOB},
        {"action": "document:write"},
    ):
        acts(world, invoke, "1", "1")
        world.answer = not world.answer
        world.call(lambda named=named: world.enforcer.invalidate(**named))
        acts(world, invoke, "1", "1")
        world.answer = True
        world.call(world.enforcer.invalidate_all)


def invalidated_while_recorded(world: World, invoke: Any) -> None:
    acts(world, invoke, "1", "1")
    for touch in ("record", "recorded"):

        def revoke() -> None:
            world.touches.clear()
            world.enforcer._core.wiring().generations.revoke_all()

        world.touches = {touch: revoke}
        acts(world, invoke, "1")
        acts(world, invoke, "1")
        world.answer = False
        world.touches = {touch: revoke}
        acts(world, invoke, "1", "1")
        world.answer = True
        world.call(world.enforcer.invalidate_all)
        acts(world, invoke, "1")


def invalidated_twice_while_recorded(world: World, invoke: Any) -> None:
    acts(world, invoke, "1", "1")
    world.touches = {"recorded": world.enforcer._core.wiring().generations.revoke_all}
    acts(world, invoke, "1")
    world.touches = {}
    acts(world, invoke, "1", "1")


def invalidated_by_the_code(world: World, invoke: Any) -> None:
    acts(world, invoke, "1")
    world.body = lambda _value: world.enforcer.invalidate_all()
    acts(world, invoke, "1", "1")


def unrecorded(world: World, invoke: Any) -> None:
    acts(world, invoke, "1", "1")
    for error in (OSError("full"), MemoryError()):
        world.touches = {"record": error}
        acts(world, invoke, "1", "1")
        world.touches = {}
        acts(world, invoke, "1", "1")


def stopped_while_recorded(world: World, invoke: Any) -> None:
    acts(world, invoke, "1")
    for error in (KeyboardInterrupt(), SystemExit(3), GeneratorExit()):

        def stop(error: BaseException = error) -> None:
            world.touches.clear()
            raise error

        for touch in ("record", "recorded"):
            world.touches = {touch: stop}
            acts(world, invoke, "1")
            acts(world, invoke, "1")


def failing(world: World, invoke: Any) -> None:
    for error in (ValueError("no"), KeyError("k"), AccessDenied, MemoryError(), RecursionError("deep")):

        def fail(_value: Any, error: Any = error) -> None:
            if error is AccessDenied:
                acts(world, refused, "1")
                world.enforcer.enforce("document:write", FIRST)
            raise error

        refused = world.enforcer.guard("document:erase")(lambda _one: None)
        world.answer = lambda request: request.action.name == "document:read"
        world.body = fail
        acts(world, invoke, "1", "1")


def interrupted(world: World, invoke: Any) -> None:
    for error in (KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), SystemExit(1)):

        def stop(_value: Any, error: BaseException = error) -> None:
            raise error

        world.body = stop
        acts(world, invoke, "1", "1")
        world.body = None
        acts(world, invoke, "1")


def odd_ids(world: World, invoke: Any) -> None:
    class Text(str):
        __slots__ = ()

    number = uuid.UUID(int=7)
    for one in (7, number, "7", str(number), True, 1, "", None, 1.0, Text("7"), 10**5000, "\ud800", [], number):
        acts(world, invoke, one, one)


def nested(world: World, invoke: Any) -> None:
    deep = iter(range(40))
    acts(world, invoke, "1", "1")

    def again(_value: Any) -> None:
        if next(deep) % 12 < 10:
            world.call(invoke, "1")

    world.body = again
    acts(world, invoke, "1", "1")


EVENTS: Final[dict[str, Act]] = {
    act.__name__: act
    for act in (
        warm,
        expired,
        denied,
        another_subject,
        obliged,
        advised,
        explained,
        effects,
        faulty,
        scoped,
        outlived,
        by_nobody,
        approved,
        closed,
        overridden,
        invalidated,
        invalidated_while_recorded,
        invalidated_twice_while_recorded,
        invalidated_by_the_code,
        unrecorded,
        stopped_while_recorded,
        failing,
        interrupted,
        odd_ids,
        nested,
    )
}


def handlers() -> list[FakeHandler]:
    return [FakeHandler("log"), FakeHandler("redact", phase=Phase.AFTER, does=lambda call: call.with_result("redacted"))]


def shaped(shape: str, act: Act, **options: Any) -> Callable[[World], None]:
    def script(world: World) -> None:
        invoke = SHAPES[shape](world.guard(**options), world)
        world.ran.clear()
        act(world, invoke)

    return script


#: Those whose own signature is theirs, by kind; the rest differ in how they are reached.
PRINCIPAL: Final = ("function", "coroutine_function", "generator", "async_generator", "method", "decorated_function")


@pytest.mark.parametrize(
    ("shape", "event"),
    [
        (shape, event)
        for shape in PRINCIPAL
        for event in EVENTS
        # A loop runs no other; see `test_coroutines_within_coroutines`.
        if not (shape in {"coroutine_function", "async_generator"} and event in {"nested", "approved"})
    ],
)
def test_every_event(shape: str, event: str) -> None:
    """Whatever happens to a call, it comes to the same, does the same and is recorded alike, served either way."""
    alike(shaped(shape, EVENTS[event]), Profile(permit_ttl=60), obligations=handlers)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind(shape: str) -> None:
    """Every kind of callable comes to the same, served either way; and is served hot, where there is a signature."""

    def script(world: World, invoke: Any) -> None:
        warm(world, invoke)
        denied(world, invoke)
        world.call(world.enforcer.invalidate_all)
        invalidated_while_recorded(world, invoke)
        interrupted(world, invoke)
        odd_ids(world, invoke)

    served_hot = "async_generator" not in shape
    alike(shaped(shape, script), Profile(permit_ttl=60), hot=1 if served_hot else None, obligations=handlers)


# Where a resource comes from.


def extracted(world: World, found: Callable[[str], Any]) -> Any:
    def find(document_id: str) -> Any:
        subject = pep.current_subject()
        world.ran.append(("extracted", str(document_id), subject and subject.id))
        return found(document_id)

    return find


def raising(error: BaseException) -> Callable[[Any], Any]:
    def fail(_document_id: Any) -> Any:
        raise error

    return fail


class Page:
    """What a registry makes a resource of."""


def page(_document_id: Any) -> Page:
    return Page()


async def awaited(document_id: str) -> Resource:
    return Resource("document", document_id)


def planned(document_id: str) -> Any:
    yield from ()
    return Resource("document", document_id)


EXTRACTORS: Final[dict[str, Callable[[Any], Any]]] = {
    "resource": lambda one: Resource("document", one),
    "properties": lambda one: Resource("document", one, {"owner": "alice", "size": [1, {"a": None}]}),
    "new": lambda _one: Resource.new("document", {"owner": "alice"}),
    "new and plain": lambda _one: Resource.new("document"),
    "kinds": lambda one: Resource("document" if one == "1" else "letter", one),
    "list": lambda one: [Resource("document", one), FIRST],
    "nothing": lambda _one: None,
    "no resources": lambda _one: [],
    "object": page,
    "unknown object": lambda _one: object(),
    "subclass": lambda _one: type("Odd", (str,), {})("x"),
    "plan": planned,
    "raises": raising(ValueError("no")),
    "raises denial": raising(AccessDenied.__new__(AccessDenied)),
    "stops": raising(StopIteration(1)),
    "out of memory": raising(MemoryError()),
    "interrupted": raising(KeyboardInterrupt()),
    "cancelled": raising(asyncio.CancelledError()),
    "exits": raising(GeneratorExit()),
}


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize("shape", ["function", "coroutine_function", "generator", "method"])
def test_every_extractor(shape: str, name: str) -> None:
    """What an extractor returns or raises comes to the same, in the same frame, and it is asked as often."""

    def script(world: World) -> None:
        world.enforcer.resources.register(Page, lambda _page: Resource("document", "page"))
        find = extracted(world, EXTRACTORS[name])
        for act in (warm, denied, invalidated_while_recorded, scoped, by_nobody, closed):
            world.answer = True
            shaped(shape, act, resource=find)(world)

    alike(script, Profile(permit_ttl=60))


@pytest.mark.parametrize("shape", ["function", "generator", "method", "coroutine_function"])
@pytest.mark.parametrize("given", [str, uuid.UUID, Page, Resource, list, iter, object])
def test_every_argument_of_an_extractor(shape: str, given: type) -> None:
    """An extractor gets what the call got; what can be read only once it does not get."""
    values: dict[type, Callable[[], Any]] = {
        uuid.UUID: lambda: uuid.UUID(int=1),
        Resource: lambda: FIRST,
        iter: lambda: iter([1]),
        list: lambda: [1],
    }

    def script(world: World) -> None:
        find = extracted(world, lambda _one: FIRST)
        invoke = SHAPES[shape](world.guard(resource=find), world)
        world.came.clear()
        for _ in range(3):
            acts(world, lambda value: invoke(value) is None, values.get(given, given)())
        world.ran = [one if "0x" not in str(one) else one[0] for one in world.ran]

    alike(script, Profile(permit_ttl=60))


THINGS: Final = (
    FIRST,
    Resource("document", "1"),
    Resource("document", "2", {"owner": "bob"}),
    Resource.new("document"),
    Resource.new("document", {"a": 1}),
    Resource("letter", "1"),
    Page(),
    None,
    "1",
    type("Near", (), {"type": "document", "id": "1"})(),
)


@pytest.mark.parametrize("shape", ["function", "coroutine_function", "generator", "method", "async_generator"])
def test_every_object_in_a_parameter(shape: str) -> None:
    """A resource that a parameter holds is found by all it is; any other object is converted by the plan."""

    def script(world: World) -> None:
        world.enforcer.resources.register(Page, lambda _page: Resource("document", "page"))
        invoke = SHAPES[shape](world.guard(resource="document_id"), world)
        world.answer = lambda request: request.resource != THINGS[2]
        acts(world, lambda thing: invoke(thing) is None, *THINGS, *THINGS, *THINGS)
        world.ran = [told(str(one)) for one in world.ran]

    alike(script, Profile(permit_ttl=60), hot=None if shape == "async_generator" else 8)


@pytest.mark.parametrize("shape", ["function", "coroutine_function", "generator", "guard_above_class_method"])
@pytest.mark.parametrize("constant", [FIRST, Resource("document", "2"), Resource.new("document"), None])
def test_every_constant(shape: str, constant: Resource | None) -> None:
    """A constant resource, the application among them, is found without a look at the call."""

    def script(world: World) -> None:
        shaped(shape, warm, resource=constant)(world)
        shaped(shape, invalidated, resource=constant)(world)

    alike(script, Profile(permit_ttl=60), hot=5)


# How it is enforced.

PROFILES: Final[dict[str, Profile]] = {
    "default": Profile(),
    "kept": Profile(permit_ttl=60, deny_ttl=60),
    "not kept": Profile(permit_ttl=0),
    "hidden": Profile(permit_ttl=60, hidden=True),
    "durable": Profile(permit_ttl=60, audit=Guarantee.DURABLE),
    "written": Profile(permit_ttl=60, audit=Guarantee.WRITTEN),
    "shadow": Profile(permit_ttl=60, mode=Shadow(until=LATER, reason="new")),
    "canary": Profile(permit_ttl=60, mode=Canary(0.5, until=LATER, reason="new")),
    "pinned": Profile(permit_ttl=60, pin_arguments=True),
    "revalidated": Profile(permit_ttl=60, revalidate=5),
    "stale": Profile(permit_ttl=60, on_failure=FailStale(60)),
    "patient": Profile(permit_ttl=60, deadline=30),
}


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("shape", ["function", "coroutine_function", "generator", "async_generator"])
def test_every_profile(shape: str, name: str) -> None:
    """However an action is enforced, it comes to the same; the hot path serves what a hit needs nothing else for."""

    def script(world: World) -> None:
        for act in (warm, expired, another_subject, denied, failing, faulty):
            world.answer, world.body = True, None
            shaped(shape, act)(world)

    plain = name in {"default", "kept", "hidden", "written", "stale", "patient"} and shape != "async_generator"
    kept = name not in {"durable", "shadow", "pinned", "not kept", "revalidated", "canary"}
    alike(script, PROFILES[name], hot=1 if plain and kept else 0, guarantee=Guarantee.DURABLE)


@pytest.mark.parametrize("name", ["durable", "shadow", "pinned", "revalidated", "canary"])
def test_what_is_more_than_a_hit_is_the_plan_s(name: str) -> None:
    """The hot path never serves what is recorded twice, not enforced, pinned, or decided again."""
    for way in WAYS:
        with served(way):
            world = World(way, PROFILES[name], guarantee=Guarantee.DURABLE)
            shaped("generator", warm)(world)
            shaped("function", warm)(world)
            assert world.hits == 0


@pytest.mark.parametrize("shape", ["function", "coroutine_function", "generator"])
def test_providers(shape: str) -> None:
    """Where something is to be added to a request, the plan takes every call."""

    def script(world: World) -> None:
        for act in (warm, denied, by_nobody):
            shaped(shape, act)(world)
        assert world.hits == 0

    alike(script, Profile(permit_ttl=60), attributes=lambda: [FakeProvider({"context.level": 3})])


@pytest.mark.parametrize("shape", ["function", "generator"])
def test_observers(shape: str) -> None:
    """Observers are shown the same records, whoever made them."""
    seen: dict[str, list[Any]] = {}

    class Observer:
        def observe(self, record: Record) -> None:
            mine.append(comparable(record, {}))
            if len(mine) % 3 == 0:
                raise ValueError

    for way in WAYS:
        mine = seen[way] = []
        with served(way):
            world = World(way, Profile(permit_ttl=60), telemetry=[Observer()])
            shaped(shape, warm)(world)
            shaped(shape, failing)(world)
            stats = world.enforcer.stats()
            mine.append([stats[name] for name in ("recorded", "unobserved", "hits", "misses")])
    assert seen["compiled"] == seen["closures"] == seen["plan"]


def test_late_binding() -> None:
    """Unbound, bound, and behind another enforcer, calls come to the same."""
    reports = []
    for way in WAYS:
        with served(way):
            world = World(way, Profile(permit_ttl=60))
            late = Enforcer.unbound("late", compiled=way == "compiled")
            follower = Enforcer.unbound("follower", compiled=way == "compiled")
            invokes = [
                SHAPES[shape](one.guard("document:read", resource=extracted(world, EXTRACTORS["resource"])), world)
                for one in (late, follower)
                for shape in ("function", "generator", "coroutine_function")
            ]

            def everything(world: World = world, invokes: Any = invokes) -> None:
                for invoke in invokes:
                    acts(world, invoke, "1", "1")

            everything()
            follower.bind(late)
            everything()
            late.bind(world.pdp, audit=world.sink, clock=world.clock)
            everything()
            with override(late, lambda _request: False) as inner:
                everything()
                world.ran.append(len(inner.records))
            everything()
            late.close()
            everything()
            reports.append(world.report())
    assert reports[0]["came"] == reports[2]["came"]
    assert reports[0] == reports[1] == reports[2]


# Signatures.

SIGNATURES: Final = {
    "document_id": [(("1",), {}), ((), {"document_id": "1"}), ((), {}), (("1", "2"), {}), (("1",), {"a": 1})],
    "document_id, /": [(("1",), {}), ((), {"document_id": "1"}), (("1", 2), {})],
    "document_id, /, **rest": [(("1",), {"document_id": "2", "_pep_frame": 3}), ((), {"document_id": "1"})],
    "document_id='1'": [((), {}), (("2",), {}), ((), {"document_id": "3"})],
    "*, document_id": [((), {"document_id": "1"}), (("1",), {}), ((), {})],
    "*, document_id='1'": [((), {}), ((), {"document_id": "2"})],
    "*rest, document_id='1'": [((1, 2), {}), ((), {"document_id": "2"})],
    "document_id, *rest": [(("1", 2, 3), {}), ((), {}), ((), {"document_id": "1"})],
    "document_id, **rest": [(("1",), {"_pep_frame": 1, "_pep_x": 2}), (("1",), {"document_id": "2"}), ((), {})],
    "a, /, b, c=3, *d, document_id, e=5, **f": [
        ((1, 2), {"document_id": "1"}),
        ((1, 2, 4, 6, 7), {"document_id": "1", "e": 8, "a": 9, "g": 10}),
        ((1,), {"document_id": "1"}),
        ((1,), {"b": 2, "document_id": "1", "c": 4}),
    ],
    "str, type, document_id, BaseException=1, id=2": [((1, 2, "1"), {}), ((), {"str": 1, "type": 2, "document_id": "1"})],
    "self, cls, fn, plug, frame, document_id": [((1, 2, 3, 4, 5, "1"), {})],
    "args, kwargs, slow, again, document_id": [((1, 2, 3, 4, "1"), {})],
    "_pep_frame, document_id": [((1, "1"), {}), ((), {"_pep_frame": 1, "document_id": "1"})],
    "document_id, _pep_plug=1, *_pep_hot": [(("1", 2, 3), {})],
    "café, document_id, naïve=1": [((1, "1"), {}), ((), {"café": 1, "document_id": "1", "naïve": 2})],
}
BODIES: Final = {
    "function": "def {name}({signature}): return note(locals())",
    "coroutine": "async def {name}({signature}): return note(locals())",
    "generator": "def {name}({signature}): yield note(locals())",
    "method": "class A:\n def {name}({signature}): return note(locals())\n{name} = A.{name}",
    "lambda": "{name} = lambda {signature}: note(locals())",
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("signature", SIGNATURES)
@pytest.mark.parametrize("resource", ["document:{document_id}", FIRST, "extractor"], ids=["id", "constant", "extractor"])
def test_every_signature(signature: str, body: str, resource: Any) -> None:
    """Arguments arrive as they were given, and what a function does not take it refuses itself, however it is served."""

    def script(world: World) -> None:
        def note(values: dict[str, Any]) -> dict[str, Any]:
            world.ran.append(told(str(values)))
            return values

        # Its globals call what ours are called by, something else.
        place: dict[str, Any] = dict.fromkeys(["BaseException", "str", "type", "Resource", "hot_frame", "_pep_fn"], 1)
        place["note"] = note
        exec(BODIES[body].format(name="read", signature=signature), place)  # noqa: S102  any signature
        find = extracted(world, EXTRACTORS["resource"])
        read = world.guard(resource=find if resource == "extractor" else resource)(place["read"])
        assert inspect.signature(read) == inspect.signature(place["read"])

        def invoke(*args: Any, **kwargs: Any) -> Any:
            made = read(*args, **kwargs)
            return list(made) if body == "generator" else wait(made) if body == "coroutine" else made

        with acting_as(ALICE):
            for args, kwargs in SIGNATURES[signature] * 3:
                world.call(invoke, *args, **kwargs)

    alike(script, Profile(permit_ttl=60), hot=1)


# Blocks.


def block(world: World, one: Any, *, how: str = "with", use: Callable[[Any], Any] = lambda _grant: None) -> Any:
    """Do something in a block."""

    async def within() -> Any:
        async with world.enforcer.enforcing("document:read", one) as grant:
            world.append(one if isinstance(one, str) else getattr(one, "id", None))
            return use(grant)

    if how == "async with":
        return wait(within())
    with world.enforcer.enforcing("document:read", one) as grant:
        world.append(one if isinstance(one, str) else getattr(one, "id", None))
        return use(grant)


def blocks(how: str) -> Callable[[World], Any]:
    return lambda world: lambda one: block(world, Resource("document", one), how=how)


@pytest.mark.parametrize("event", [event for event in EVENTS if event not in {"odd_ids"}])
@pytest.mark.parametrize("how", ["with", "async with"])
def test_blocks(event: str, how: str) -> None:
    """Whatever happens to a block, it comes to the same, served either way."""
    if how == "async with" and event in {"nested", "approved"}:
        pytest.skip("a loop runs no other")
    alike(lambda world: EVENTS[event](world, blocks(how)(world)), Profile(permit_ttl=60), obligations=handlers)


def test_blocks_over_anything() -> None:
    """A block over what is at hand comes to the same, whatever that is."""

    def script(world: World) -> None:
        world.enforcer.resources.register(Page, lambda _page: Resource("document", "page"))
        for one in (*THINGS, [FIRST, THINGS[1]], *THINGS):
            acts(world, lambda one: block(world, one), one)
        world.ran = [told(str(one)) for one in world.ran]

    alike(script, Profile(permit_ttl=60), hot=6)


GRANTED: Final[dict[str, Callable[[Any], Any]]] = {
    "told": lambda grant: (grant.allowed, grant.verdict.outcome, grant.verdict.request.resource, grant.verdict.allowed),
    "arguments": lambda grant: dict(grant.arguments),
    "used": lambda grant: grant.use(),
    "used twice": lambda grant: (grant.use(), grant.use()),
    "released": lambda grant: grant.release(5),
    "released twice": lambda grant: (grant.release(5), grant.release(5)),
    "released, then failed": lambda grant: (grant.release(5), 1 / 0),
    "used, then failed": lambda grant: (grant.use(), 1 / 0),
    "failed": lambda _grant: 1 / 0,
}


@pytest.mark.parametrize("name", GRANTED)
@pytest.mark.parametrize("how", ["with", "async with"])
def test_grants_of_blocks(name: str, how: str) -> None:
    """The grant of a block does the same, in it and after it."""

    def script(world: World) -> None:
        held: list[Any] = []
        for _ in range(3):
            acts(world, lambda _: block(world, FIRST, how=how, use=lambda g: (held.append(g), GRANTED[name](g))[1]), 1)
        for grant in held:
            for late in ("told", "used", "released"):
                world.call(GRANTED[late], grant)

    alike(script, Profile(permit_ttl=60), hot=2)


def test_grants_of_blocks_revoked() -> None:
    """A grant that was revoked in its block, or whose enforcer was closed, is not to be used."""

    def revoked(world: World) -> None:
        for _ in range(2):
            acts(world, lambda _: block(world, FIRST, use=lambda g: (world.enforcer.invalidate_all(), g.use())), 1)
            acts(world, lambda _: block(world, FIRST, use=lambda _g: None), 1)
        acts(world, lambda _: block(world, FIRST, use=lambda g: (world.enforcer.invalidate(subject=BOB), g.use())), 1)
        acts(world, lambda _: block(world, FIRST, use=lambda g: (world.enforcer.close(), g.use())), 1)

    alike(revoked, Profile(permit_ttl=60), hot=2)


@pytest.mark.parametrize("how", ["with", "async with"])
def test_a_block_is_entered_once(how: str) -> None:
    """A block that was entered, on whichever path, is not entered again."""

    def script(world: World) -> None:
        async def again(one: Any) -> None:
            async with one:
                world.append("in")

        def enter(one: Any) -> None:
            if how == "async with":
                wait(again(one))
                return
            with one:
                world.append("in")

        with acting_as(ALICE):
            for _ in range(3):
                one = world.enforcer.enforcing("document:read", FIRST)
                world.call(enter, one)
                world.call(enter, one)

    alike(script, Profile(permit_ttl=60), hot=2)
