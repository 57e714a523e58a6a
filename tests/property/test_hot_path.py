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

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pep.asking
import pep.guard.calls
import pep.guard.generators
import pep.scope
from pep import (
    AccessDenied,
    Canary,
    Decision,
    Effect,
    Enforcer,
    FailStale,
    Guarantee,
    Obligation,
    Outcome,
    Profile,
    Resource,
    Shadow,
    Subject,
    Verdict,
    acting_as,
    approval,
)
from pep.audit.grouping import loop_runs
from pep.audit.record import Kind, Record, json_of, record_of
from pep.enforcement import denial
from pep.generations import Generations
from pep.pdp import FunctionPDP
from pep.protocols import Phase, Rank, Refusal
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


class Durable(Sink):
    """Has what it is given on disk when it returns."""

    durably = adurably = Sink.record


class Awaited(Durable):
    """Has it on disk a turn of the loop later, where one runs."""

    def record(self, record: Any) -> Any:
        return self._kept(record) if loop_runs() else super().record(record)

    def adurably(self, note: Any) -> Any:
        return asyncio.ensure_future(self._kept(note)) if loop_runs() else super().record(note)

    async def _kept(self, taken: Any) -> None:
        self.world.touched("record")
        await asyncio.sleep(0)
        self.kept.append(taken)
        self.world.touched("recorded")


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
        kept_by: type[Sink] = Sink,
        **parts: Any,
    ) -> None:
        self.way = way
        self.clock = FakeClock()
        self.answer: Any = True
        self.body: Callable[[Any], Any] | None = None
        self.ran: list[Any] = []
        self.came: list[Any] = []
        self.touches: dict[str, Any] = {}
        self.sink = kept_by(self, guarantee)
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

    def stats(self) -> dict[str, int]:
        """What is counted of records, which are as many on every path where each call leaves two."""
        counted = self.enforcer.stats()
        return {name: counted[name] for name in ("recorded", "unrecorded", "lost", "unobserved", "uncorrelated")}

    def report(self) -> dict[str, Any]:
        """Everything that can be seen of it."""
        records = [record_of(kept) for kept in self.sink.kept]
        places = {record.id: place for place, record in enumerate(records)}
        for kept, record in zip(self.sink.kept, records, strict=True):
            assert orjson.loads(json_of(kept)) == record.to_dict()
        return {
            "came": self.came,
            "ran": self.ran,
            "records": [comparable(record, places) for record in records],
            "owing": [self.enforcer._core.latest.journal.owing],
            "stats": [self.stats() if isinstance(self.sink, Durable) else None],
        }


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
            parts = {
                name: option() if callable(option) and name != "kept_by" else option for name, option in options.items()
            }
            world = World(way, *args, **parts)
            script(world)
        # What was not closed is: a generator that a script dropped is over.
        reports.append(world.report())
        assert (world.hits == 0) if way == "plan" else hot is None or world.hits >= hot, way
    compiled, closures, plan = reports
    for served_hot in (closures, compiled):
        for name in plan:
            for here, there in itertools.zip_longest(served_hot[name], plan[name]):
                assert here == there
    return plan


# What happens, as scripts: each takes a world and what calls its guarded function with an id.

Act = Callable[[World, Callable[[Any], Any]], Any]


def acts(world: World, invoke: Callable[[Any], Any], *ids: Any, subject: Any = ALICE, **scope: Any) -> None:
    with acting_as(subject, **scope):
        frame = pep.scope.hot_frame()
        for one in ids:
            world.call(invoke, one)
            # Whatever it came to, it counts no longer.
            assert frame.active == 0


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
    tenants, contexts = ({"tenant": "a"}, {"tenant": "b", "context": {"a": 1}}), ({"context": {"ip": "::1"}},)
    for scope in ({}, *tenants, *contexts, {"via": [BOB]}, {}):
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
    # What runs in a call has no approval, neither its own nor one that nobody used.
    confirmed = world.enforcer.guard("document:erase")(lambda: world.ran.append("confirmed"))
    world.answer = Decision(Effect.PERMIT, obligations=[Obligation("confirm")])
    with acting_as(ALICE):
        world.body = lambda _value: world.call(confirmed)
        world.call(invoke, "1")
        with approval("b"):
            world.call(invoke, "1")
            world.call(confirmed)
            world.call(confirmed)


def owing(world: World, invoke: Any) -> None:
    acts(world, invoke, "1", "1")
    journal = world.enforcer._core.latest.journal
    for due in (journal.owe, lambda: journal.announce(Kind.CONFIGURATION, {"change": "none"})):
        due()
        acts(world, invoke, "1", "1")
        due()
        world.touches = {"record": OSError("full")}
        acts(world, invoke, "1", "1")
        world.touches = {}
        acts(world, invoke, "1", "1")


def closed(world: World, invoke: Any) -> None:
    acts(world, invoke, "1", "1")
    world.enforcer.close()
    acts(world, invoke, "1", "2")


def overridden(world: World, invoke: Any) -> None:
    acts(world, invoke, "1", "1")
    with override(world.enforcer, lambda request: request.resource.id == "2") as inner:
        acts(world, invoke, "1", "2", "2")
        world.ran.append([record.get("outcome", record.get("status")) for record in inner.records])
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


def something_else_invalidated_while_recorded(world: World, invoke: Any) -> None:
    acts(world, invoke, "1", "1")
    generations = world.enforcer._core.wiring().generations
    for floor in (("subject", "user", "bob"), ("resource", "document", "2"), ("action", "erase")):
        for touch in ("record", "recorded"):
            world.touches = {touch: lambda floor=floor: generations.revoke(floor)}
            acts(world, invoke, "1")
            world.touches = {}
            acts(world, invoke, "1")


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
        refused = world.enforcer.guard("document:erase")(lambda _one: None)

        def fail(_value: Any, error: Any = error, refused: Any = refused) -> None:
            if error is AccessDenied:
                acts(world, refused, "1")
                world.enforcer.enforce("document:write", FIRST)
            raise error

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

    class Number(int):
        __slots__ = ()

    for one in (
        7,
        number,
        "7",
        str(number),
        "True",
        True,
        "1",
        1,
        Number(7),
        "",
        None,
        1.0,
        Text("7"),
        10**5000,
        "\ud800",
        [],
        number,
    ):
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
        owing,
        closed,
        overridden,
        invalidated,
        invalidated_while_recorded,
        invalidated_twice_while_recorded,
        something_else_invalidated_while_recorded,
        invalidated_by_the_code,
        unrecorded,
        stopped_while_recorded,
        failing,
        interrupted,
        odd_ids,
        nested,
    )
}


def confirm(call: Any) -> Any:
    refusal = Refusal(Outcome.CONFIRMATION_REQUIRED, {"approval": "a1"})
    return refusal if call.approval is None else call


def handlers() -> list[FakeHandler]:
    return [
        FakeHandler("log"),
        FakeHandler("redact", phase=Phase.AFTER, does=lambda call: call.with_result("redacted")),
        FakeHandler("confirm", rank=Rank.CONFIRM, does=confirm),
    ]


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


def raising(make: Callable[[], BaseException]) -> Callable[[Any], Any]:
    def fail(_document_id: Any) -> Any:
        raise make()

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


def denial_of_another() -> AccessDenied:
    return denial(Verdict("another", Outcome.DENIED))


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
    "raises": raising(lambda: ValueError("no")),
    "raises denial": raising(denial_of_another),
    "stops": raising(lambda: StopIteration(1)),
    "out of memory": raising(MemoryError),
    "interrupted": raising(KeyboardInterrupt),
    "cancelled": raising(asyncio.CancelledError),
    "exits": raising(GeneratorExit),
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
            with acting_as(ALICE):
                # What is only asked is kept, whatever the mode.
                world.enforcer.check("document:read", Resource("document", "1"))
            shaped("generator", warm)(world)
            shaped("function", warm)(world)
            assert world.hits == 0


class Silent(FakeProvider):
    """A provider that has nothing to add: keys are the same with it and without."""

    def __init__(self) -> None:
        super().__init__({"context.level": 3})

    def provide(self, _request: Any) -> Any:
        return {}


@pytest.mark.parametrize("shape", ["function", "coroutine_function", "generator"])
def test_providers(shape: str) -> None:
    """Where something is to be added to a request, the plan takes every call."""

    def script(world: World) -> None:
        for act in (warm, denied, by_nobody):
            shaped(shape, act)(world)
        assert world.hits == 0

    alike(script, Profile(permit_ttl=60), attributes=lambda: [FakeProvider({"context.level": 3})])
    alike(script, Profile(permit_ttl=60), attributes=lambda: [Silent()])


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
    "str, type, document_id, BaseException=1, id=2": [
        ((1, 2, "1"), {}),
        ((), {"str": 1, "type": 2, "document_id": "1"}),
    ],
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
@pytest.mark.parametrize(
    "resource", ["document:{document_id}", FIRST, "extractor"], ids=["id", "constant", "extractor"]
)
def test_every_signature(signature: str, body: str, resource: Any) -> None:
    """Arguments arrive as they were given, and what a function does not take it refuses itself, on every path."""
    alike(signed(signature, body, resource), Profile(permit_ttl=60), hot=1)


def signed(signature: str, body: str, resource: Any) -> Callable[[World], None]:
    """Call a function of one signature in every way."""

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

    return script


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


@pytest.mark.parametrize("event", [event for event in EVENTS if event != "odd_ids"])
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


def wait_for(work: Any) -> Any:
    """Await what has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value


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
            if name == "released" and how == "async with":

                async def released() -> list[Any]:
                    async with world.enforcer.enforcing("document:read", FIRST) as grant:
                        first = await grant.arelease(5)
                        world.call(lambda: wait_for(grant.arelease(6)))
                    return [first]

                acts(world, lambda _, released=released: wait(released()), 1)
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


# Generators.


def counting(world: World, *, guarded: Any = None, returns: Any = None, cleanup: Any = None) -> Any:
    """Make a guarded generator that counts, says what it is sent, and goes on after what is thrown into it."""

    def count(document_id: str) -> Iterator[Any]:
        world.append(f"began {document_id}")
        try:
            for number in range(4):
                try:
                    sent = yield number
                except LookupError as error:
                    world.append(f"caught {type(error).__name__}")
                    sent = yield "caught"
                world.append(f"{number} {sent} {pep.current_subject() and pep.current_subject().id}")
        finally:
            world.append("ended")
            if cleanup is not None:
                cleanup()
        return returns

    def plain(document_id: str) -> Iterator[Any]:
        world.append(f"began {document_id}")
        try:
            for number in range(4):
                yield number
                world.append(f"{number}")
        finally:
            world.append("ended")
            if cleanup is not None:
                cleanup()

    return world.guard()(plain if guarded == "plain" else count)


def sent(world: World, steps: Any) -> None:
    for value in (None, "a", None, "b"):
        world.call(steps.send, value)
    world.call(next, steps)
    world.call(next, steps)


def thrown(world: World, steps: Any) -> None:
    world.call(next, steps)
    world.call(steps.throw, KeyError("k"))
    world.call(next, steps)
    world.call(steps.throw, ValueError("v"))
    world.call(next, steps)


def dropped(world: World, steps: Any) -> None:
    world.call(next, steps)
    world.call(steps.close)
    world.call(next, steps)


def revoked(world: World, steps: Any) -> None:
    world.call(next, steps)
    world.enforcer.invalidate(subject=BOB)
    world.call(next, steps)
    world.enforcer.invalidate(resource=Resource("document", "1"))
    world.call(next, steps)
    world.call(next, steps)


def revoked_then_thrown(world: World, steps: Any) -> None:
    world.call(next, steps)
    world.enforcer.invalidate(subject=ALICE)
    world.call(steps.throw, KeyError("k"))


def revoked_then_sent(world: World, steps: Any) -> None:
    world.call(steps.send, None)
    world.call(steps.send, "x")
    world.enforcer.invalidate(action="document:read")
    world.call(steps.send, "y")


def revoked_unstarted(world: World, steps: Any) -> None:
    world.enforcer.invalidate_all()
    world.call(next, steps)


def revoked_then_dropped(world: World, steps: Any) -> None:
    world.call(next, steps)
    world.enforcer.invalidate_all()
    world.call(steps.close)


def elsewhere(world: World, steps: Any) -> None:
    world.call(next, steps)
    with acting_as(BOB):
        world.call(next, steps)
    contextvars.Context().run(world.call, next, steps)
    world.call(list, steps)


def closed_meanwhile(world: World, steps: Any) -> None:
    world.call(next, steps)
    world.enforcer.close()
    world.call(list, steps)


def overridden_meanwhile(world: World, steps: Any) -> None:
    world.call(next, steps)
    with override(world.enforcer, lambda _request: False):
        world.call(next, steps)
    world.call(list, steps)


def throwing(make: Callable[[], BaseException]) -> Act:
    def throw(world: World, steps: Any) -> None:
        world.call(next, steps)
        world.call(steps.throw, make())
        world.call(next, steps)

    return throw


STEPS: Final[dict[str, Act]] = {
    "consumed": lambda world, steps: world.call(list, steps),
    "delegated": lambda world, steps: world.call(lambda: list(delegated(steps))),
    "unstarted": lambda world, steps: None,
    "closed unstarted": lambda world, steps: world.call(steps.close),
    "sent at once": lambda world, steps: (world.call(steps.send, 1), world.call(next, steps)),
    "thrown at once": lambda world, steps: (world.call(steps.throw, KeyError("k")), world.call(next, steps)),
    "exited at once": lambda world, steps: (world.call(steps.throw, GeneratorExit()), world.call(next, steps)),
    "interrupted at once": lambda world, steps: world.call(steps.throw, KeyboardInterrupt()),
    "cancelled": throwing(asyncio.CancelledError),
    "interrupted": throwing(KeyboardInterrupt),
    "exited": throwing(GeneratorExit),
    "stopped": throwing(lambda: StopIteration(1)),
    "denied": throwing(denial_of_another),
    **{
        act.__name__: act
        for act in (
            sent,
            thrown,
            dropped,
            revoked,
            revoked_then_thrown,
            revoked_then_sent,
            revoked_unstarted,
            revoked_then_dropped,
            elsewhere,
            closed_meanwhile,
            overridden_meanwhile,
        )
    },
}


def delegated(steps: Any) -> Iterator[Any]:
    result = yield from steps
    yield ("result", result)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("within", [True, False], ids=["in its scope", "out of it"])
@pytest.mark.parametrize("body", ["plain", "returning", "failing", "failing at its end"])
def test_generators(name: str, body: str, within: bool) -> None:
    """However a generator is stepped through and left, it does the same and is recorded alike."""

    def script(world: World) -> None:
        cleanup = raising(lambda: OSError("cleanup")) if body == "failing at its end" else None
        count = counting(
            world,
            guarded="plain" if body == "plain" else None,
            returns=7,
            cleanup=cleanup and (lambda: cleanup(None)),
        )

        def left(world: World, steps: Any) -> None:
            STEPS[name](world, steps)
            if cleanup is not None:
                # Nobody would hear of what is raised where it is dropped.
                world.call(steps.close)

        with acting_as(ALICE):
            world.call(lambda: list(count("1")))
            world.call(lambda: list(count("1")))
            if body == "failing":
                ran = itertools.count()

                def fail(_value: Any) -> None:
                    if next(ran) == 2:
                        raise ValueError

                world.body = fail
            steps = count("1")
            assert inspect.isgenerator(steps)
            if within:
                left(world, steps)
                # Dropped while its scope is open; outside, after it.
                del steps
        if not within:
            left(world, steps)
            del steps

    alike(script, Profile(permit_ttl=60), hot=1)


@pytest.mark.parametrize(("created", "consumed"), list(itertools.product(range(4), range(4))))
@pytest.mark.parametrize("how", ["for", "send"])
def test_generators_run_as_deep_as_they_were_called(created: int, consumed: int, how: str) -> None:
    """A generator's code is as deep in guarded calls as the call that made it, wherever it is stepped through."""

    def script(world: World) -> None:
        @world.guard()
        def nest(document_id: str, depth: int, then: Any) -> Any:
            return then() if depth == 0 else nest(document_id, depth - 1, then)

        @world.guard()
        def deep(document_id: str, left: int) -> int:
            world.append(left)
            return deep(document_id, left - 1)

        @world.guard()
        def rows(document_id: str) -> Iterator[Any]:
            for _ in range(3):
                try:
                    deep(document_id, 20)
                except AccessDenied as denied:
                    got = yield denied.fault
                    world.append(got)

        def consume(steps: Any) -> list[Any]:
            return list(steps) if how == "for" else [steps.send(one) for one in (None, 1, 2)]

        def at(depth: int, then: Any) -> Any:
            return then() if depth == 0 else nest("1", depth - 1, then)

        with acting_as(ALICE):
            for _ in range(3):
                steps = world.call(lambda: at(created, lambda: rows("1")) and None)
                held: list[Any] = []
                at(created, lambda held=held: held.append(rows("1")))
                steps = held.pop()
                world.call(lambda steps=steps: at(consumed, lambda: consume(steps)))
                del steps

    alike(script, Profile(permit_ttl=60), hot=10)


@pytest.mark.parametrize("end", ["close", "throw", "drop"])
def test_a_generator_s_cleanup_is_as_deep_as_its_code(end: str) -> None:
    """What a generator calls when it is left nests as deep as what it calls otherwise."""

    def script(world: World) -> None:
        @world.guard()
        def deep(document_id: str) -> None:
            world.append("deep")
            deep(document_id)

        @world.guard()
        def rows(document_id: str) -> Iterator[Any]:
            try:
                yield 1
            finally:
                world.call(deep, document_id)

        with acting_as(ALICE):
            for _ in range(3):
                steps = rows("1")
                next(steps)
                if end == "close":
                    steps.close()
                elif end == "throw":
                    world.call(steps.throw, KeyError("k"))
                del steps

    alike(script, Profile(permit_ttl=60), hot=10)


def test_recursive_generators() -> None:
    """A generator that steps through itself nests as deep as any call."""

    def script(world: World) -> None:
        @world.guard()
        def rows(document_id: str, left: int) -> Iterator[Any]:
            world.append(left)
            yield left
            if left:
                yield from rows(document_id, left - 1)

        with acting_as(ALICE):
            for left in (2, 7, 8, 12):
                world.call(lambda left=left: list(rows("1", left)))
                world.call(lambda left=left: list(rows("1", left)))

    alike(script, Profile(permit_ttl=60), hot=10)


# Coroutines, tasks and threads.


def test_coroutines_within_coroutines() -> None:
    """Guarded coroutines that await one another nest as deep as any call, to eight and not to nine."""

    def script(world: World) -> None:
        @world.guard()
        async def deep(document_id: str, left: int) -> int:
            world.append(left)
            await asyncio.sleep(0)
            return left if not left else await deep(document_id, left - 1)

        with acting_as(ALICE):
            for left in (0, 1, 7, 8, 12):
                world.call(lambda left=left: wait(deep("1", left)))

    alike(script, Profile(permit_ttl=60), hot=8)


def test_depth_is_eight() -> None:
    """Eight guarded calls may surround another's code, counted over functions, blocks and both paths; not nine."""

    def script(world: World) -> None:
        @world.guard()
        def deep(document_id: str, left: int) -> int:
            return left if not left else deep(document_id, left - 1)

        with acting_as(ALICE):
            for left in (7, 8, 7, 8):
                world.call(deep, "1", left)

    came = alike(script, Profile(permit_ttl=60), hot=8)["came"]
    assert [one[0] for one in came] == ["returned", "DecisionUnavailable"] * 2


def test_a_coroutine_is_its_caller_s() -> None:
    """Who acts is captured at the call, however it is awaited; dropped, nothing happens."""

    def script(world: World) -> None:
        @world.guard()
        async def read(document_id: str) -> str:
            world.append(pep.current_subject() and pep.current_subject().id)
            return document_id

        async def among(work: Any) -> Any:
            with acting_as(BOB):
                return await work

        async def in_task(work: Any) -> Any:
            return await asyncio.ensure_future(work)

        for _ in range(3):
            with acting_as(ALICE):
                world.call(lambda: wait(among(read("1"))))
                world.call(lambda: wait(in_task(read("1"))))
                world.call(lambda: wait(read("1")))
                work = read("1")
                late = read("1")
            world.call(lambda work=work: wait(work))
            late.close()
        world.call(lambda: wait(read("1")))

    alike(script, Profile(permit_ttl=60), hot=4)


@pytest.mark.parametrize("at", range(4))
def test_a_task_cancelled_in_the_code(at: int) -> None:
    """A coroutine cancelled while it waits is recorded alike, and counts no longer."""

    def script(world: World) -> None:
        @world.guard()
        async def read(document_id: str) -> str:
            for _ in range(3):
                world.append("turn")
                await asyncio.sleep(0)
            return document_id

        async def main() -> None:
            task = asyncio.ensure_future(read("1"))
            for _ in range(at):
                await asyncio.sleep(0)
            task.cancel()
            await task

        with acting_as(ALICE):
            frame = pep.scope.current_frame()
            for _ in range(3):
                world.call(lambda: wait(main()))
                world.call(lambda: wait(read("1")))
        assert frame.active == 0

    alike(script, Profile(permit_ttl=60), hot=2)


def test_many_tasks_in_one_scope() -> None:
    """Twenty tasks in one scope do not count as nested in one another, and leave nothing counted."""

    def script(world: World) -> None:
        @world.guard()
        async def read(document_id: str, left: int) -> str:
            await asyncio.sleep(0)
            return document_id if not left else await read(document_id, left - 1)

        async def main() -> list[Any]:
            return await asyncio.gather(*[read("1", left % 10) for left in range(20)], return_exceptions=True)

        with acting_as(ALICE):
            frame = pep.scope.current_frame()
            for _ in range(3):
                ended = wait(main())
                world.came.append([getattr(one, "fault", one) for one in ended])
        assert frame.active == 0
        # Side by side they are recorded in no order that means anything.
        world.sink.kept.sort(key=lambda kept: str(comparable(record_of(kept), {})))

    came = alike(script, Profile(permit_ttl=60), hot=20)["came"]
    assert sum(one != "1" for one in came[0]) == 4


def test_many_threads_in_one_scope() -> None:  # noqa: C901  everything that goes on at once
    """Threads in one scope each get their own answer, each recorded; nothing is left counted."""
    rounds = times(50, 5_000)

    def script(world: World) -> None:
        @world.guard()
        def read(document_id: str, left: int) -> str:
            return document_id if not left else read(document_id, left - 1)

        @world.guard()
        def rows(document_id: str) -> Iterator[str]:
            for _ in range(3):
                yield document_id

        answers: list[Any] = []
        world.answer = lambda request: int(request.resource.id) % 2 == 0

        def work(number: int) -> None:
            for turn in range(rounds):
                one = str((number + turn) % 10)
                for fn in (lambda one=one, turn=turn: read(one, turn % 8), lambda one=one: "".join(rows(one))):
                    try:
                        answers.append((one, fn()))
                    except AccessDenied as denied:
                        answers.append((one, denied.outcome))

        with acting_as(ALICE):
            frame = pep.scope.current_frame()
            threads = [
                threading.Thread(target=contextvars.copy_context().run, args=(work, number)) for number in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert frame.active == 0
        world.came.append(sorted(map(str, answers)))
        world.ran.clear()
        assert len(world.sink.kept) > len(answers)
        world.sink.kept.clear()

    alike(script, Profile(permit_ttl=60), hot=100)


# An invalidation at every touch.


class TouchedGenerations(Generations):
    """Generations that tell of every look at the epoch."""

    __slots__ = ("_now", "world")

    def __init__(self, world: Touched) -> None:
        self.world = world
        super().__init__()

    @property
    def epoch(self) -> int:  # type: ignore[override]
        self.world.touched("epoch")
        return self._now

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._now = value


class TouchedPermits(dict[Any, Any]):
    """Permits that tell of every look at them."""

    world: Touched

    def get(self, key: Any, default: Any = None) -> Any:
        self.world.touched("permits")
        return super().get(key, default)


class TouchedClock(FakeClock):
    """A clock that tells of every look at it."""

    world: Any = None

    def boottime(self) -> float:
        if self.world is not None:
            self.world.touched("clock")
        return super().boottime()


class Touched(World):
    """A world in which something happens at the k-th touch of anything, once; and what ran is compared with it."""

    def __init__(self, way: str, floor: Any, profile: Profile | None = None, **parts: Any) -> None:
        self.at: int | None = None
        self.floor = floor
        self.seen: list[str] = []
        self.fired = False
        super().__init__(way, profile or Profile(permit_ttl=60), **parts)
        self.clock = TouchedClock()
        wiring = self.enforcer._core._wiring
        wiring.clock = wiring.journal.clock = wiring.journal.noting.clock = self.clock
        wiring.generations, permits = TouchedGenerations(self), TouchedPermits()
        permits.world = self.clock.world = self
        wiring.cache.permits = permits
        self.generations = wiring.generations

    def touched(self, what: str) -> None:
        super().touched(what)
        if self.at is None:
            return
        self.seen.append(what)
        if len(self.seen) == self.at:
            self.at = None
            self.fired = True
            self.answer = False
            if self.floor == "all":
                self.generations.revoke_all()
            elif self.floor == "swap":
                self.generations.swap()
            else:
                self.generations.revoke(self.floor)

    def append(self, value: Any) -> None:
        # INVARIANT: the last thing before protected code is a look at the epoch: whoever revokes before that is heard.
        assert not self.fired
        if self.at is not None:
            assert "epoch" in self.seen
        self.at = None
        super().append(value)


def stepped(world: Touched) -> Any:
    def rows(document_id: str) -> Iterator[int]:
        for one in range(3):
            world.append(one)
            yield one

    made = world.guard()(rows)
    return lambda one: list(made(one))


PATHS: Final[dict[str, Callable[[Any], Any]]] = {
    "function": lambda world: SHAPES["function"](world.guard(), world),
    "coroutine": lambda world: SHAPES["coroutine_function"](world.guard(), world),
    "extractor": lambda world: SHAPES["function"](
        world.guard(resource=extracted(world, EXTRACTORS["properties"])), world
    ),
    "coroutine with an extractor": lambda world: SHAPES["coroutine_function"](
        world.guard(resource=extracted(world, EXTRACTORS["resource"])), world
    ),
    "generator": stepped,
    "with": blocks("with"),
    "async with": blocks("async with"),
}
FLOORS: Final = (
    "all",
    "swap",
    ("resource", "document", "1"),
    ("resource", "document"),
    ("subject", "user", "alice"),
    ("action", "document:read"),
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("floor", FLOORS, ids=str)
@pytest.mark.parametrize("aged", [False, True], ids=["at its epoch", "at a later epoch"])
def test_an_invalidation_at_every_touch(path: str, floor: Any, aged: bool) -> None:
    """What is revoked at any touch of epoch, permits, clock or sink before the last comparison never runs."""
    for way in WAYS:
        touches = 0
        for at in itertools.count(1):
            with served(way):
                world = Touched(way, floor)
                invoke = PATHS[path](world)
                acts(world, invoke, "1", "1")
                if aged:
                    # Somebody else's: the next hit has to compare floors.
                    world.generations.revoke(("subject", "user", "bob"))
                world.ran.clear()
                world.at = at
                acts(world, invoke, "1")
            if not world.fired:
                assert world.came[-1][0] == "returned"
                break
            touches += 1
            if way != "plan":
                assert ("ran", "1") not in world.ran
            # A generator may be permitted, and revoked before its first step.
            assert world.came[-1][0] in {"AccessDenied"} | ({"DecisionUnavailable"} if path == "generator" else set())
            world.at = None
            told_of = [comparable(record_of(kept), {}) for kept in world.sink.kept]
            assert [one.get("outcome", one.get("status")) for one in told_of][-1] in {"denied", "withheld"}
        assert touches >= 4


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("at", range(1, 30))
def test_a_generator_revoked_at_every_touch(way: str, at: int) -> None:
    """Between any two steps of a generator, what is revoked ends it at the next."""
    with served(way):
        world = Touched(way, "all")

        @world.guard()
        def rows(document_id: str) -> Iterator[int]:
            for one in range(5):
                Touched.append(world, one)
                world.at = None if world.fired else left()
                yield one

        def left() -> int | None:
            return at - len(world.seen) if at > len(world.seen) else None

        acts(world, lambda one: list(rows(one)), "1", "1")
        world.seen.clear()
        world.at = at
        acts(world, lambda one: list(rows(one)), "1")
        assert world.fired is False or world.came[-1][0] != "returned" or world.ran[-1] == ("ran", "4")


# Never without a record.


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("touch", ["record", "recorded"])
@pytest.mark.parametrize("error", [OSError, TimeoutError, MemoryError, KeyboardInterrupt, GeneratorExit, SystemExit])
def test_never_without_a_recorded_permit(path: str, way: str, touch: str, error: type[BaseException]) -> None:
    """Whichever record the sink fails to take, or dies over, nothing runs that no recorded permit stands for."""
    for at in range(1, 7):
        with served(way):
            world = World(way, Profile(permit_ttl=60))
            count = itertools.count(1)
            permits: list[int] = []

            def fail(count: Any = count, at: int = at) -> None:
                if next(count) == at:
                    raise error

            def check(_value: Any, world: World = world, permits: list[int] = permits) -> None:
                told_of = [record_of(kept) for kept in world.sink.kept]
                permits.append(1)
                permitted = [one for one in told_of if one.kind is Kind.DECISION and one["outcome"] == "permitted"]
                assert len(permitted) >= len(permits)

            invoke = PATHS[path](world)
            if path == "generator":
                # Three steps under one permit.
                world.body = lambda value, check=check: check(value) if value == 0 else None
            else:
                world.body = check
            world.touches = {touch: fail}
            for _ in range(6):
                acts(world, invoke, "1")
            assert not any(came[0] is AssertionError for came in world.came if type(came) is tuple)
            assert permits


# Any order of events.


EVENT = st.one_of(
    st.tuples(st.just("call"), st.integers(0, 6), st.sampled_from(["1", "2"]), st.sampled_from([ALICE, BOB, None])),
    st.tuples(st.just("advance"), st.sampled_from([1, 29, 31, 61])),
    st.tuples(st.just("answer"), st.sampled_from(["yes", "no", "one", "log", "redact", "ttl", "fault"])),
    st.tuples(st.just("revoke"), st.sampled_from([None, *FLOORS[2:], ("subject", "user", "bob"), ("action", "x")])),
    st.tuples(
        st.just("sink"), st.sampled_from([None, "record", "recorded"]), st.sampled_from(["revoke", "raise", "stop"])
    ),
    st.tuples(st.just("code"), st.sampled_from([None, ValueError, KeyboardInterrupt, "revoke", "nest", "close"])),
    st.tuples(st.just("override"), st.integers(0, 6)),
    st.tuples(st.just("step"), st.sampled_from(["next", "send", "throw", "close", "drop", "exit"])),
    st.just(("owe",)),
    st.just(("close",)),
)
ANSWERS: Final[dict[str, Any]] = {
    "yes": True,
    "no": False,
    "one": lambda request: request.resource.id == "1",
    "log": Decision(Effect.PERMIT, obligations=[Obligation("log")]),
    "redact": Decision(Effect.PERMIT, obligations=[Obligation("redact")]),
    "ttl": Decision(Effect.PERMIT, ttl=30),
    "fault": lambda _request: 1 / 0,
}


class Story:
    """Does one event after the other in a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.invokes = [path(world) for path in PATHS.values()]
        self.rows = counting(world)
        self.steps: Any = None
        world.ran.clear()

    def do(self, event: tuple[Any, ...]) -> None:
        name, *args = event
        getattr(self, f"_{name}")(*args)

    def _call(self, which: int, one: str, subject: Subject | None) -> None:
        if subject is None:
            self.world.call(self.invokes[which], one)
        else:
            acts(self.world, self.invokes[which], one, subject=subject)

    def _advance(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    def _answer(self, name: str) -> None:
        self.world.answer = ANSWERS[name]

    def _revoke(self, floor: Any) -> None:
        generations = self.world.enforcer._core.latest.generations
        generations.revoke_all() if floor is None else generations.revoke(floor)

    def _sink(self, touch: str | None, how: str) -> None:
        def do() -> None:
            if how != "raise":
                self.world.touches.clear()
            if how == "revoke":
                self._revoke(None)
            else:
                raise OSError if how == "raise" else KeyboardInterrupt

        # What raises after it took a note is asked again by the plan: that is told twice.
        touch = "record" if how == "raise" and touch else touch
        self.world.touches = {} if touch is None else {touch: do}

    def _code(self, what: Any) -> None:
        def body(_value: Any) -> None:
            if what == "revoke":
                self._revoke(None)
            elif what == "close":
                self.world.enforcer.close()
            elif what == "nest":
                self.world.body = None
                self._call(0, "2", ALICE)
                self.world.body = body
            else:
                raise what

        self.world.body = None if what is None else body

    def _override(self, which: int) -> None:
        self.world.call(self._overridden, which)

    def _overridden(self, which: int) -> None:
        with override(self.world.enforcer, lambda request: request.resource.id == "2") as inner:
            self._call(which, "1", ALICE)
            self._call(which, "2", ALICE)
            self._call(which, "2", ALICE)
            self.world.ran.append(len(inner.records))

    def _step(self, how: str) -> None:
        world = self.world
        if self.steps is None:
            with acting_as(ALICE):
                self.steps = world.call(lambda: Opaque(self.rows("1")))
        elif how == "next":
            world.call(next, self.steps.held)
        elif how == "send":
            world.call(self.steps.held.send, "s")
        elif how == "throw":
            world.call(self.steps.held.throw, KeyError("k"))
        elif how == "exit":
            world.call(self.steps.held.throw, GeneratorExit())
        elif how == "close":
            world.call(self.steps.held.close)
        elif not (world.touches or world.body):
            self.steps = None

    def _owe(self) -> None:
        self.world.enforcer._core.latest.journal.owe()

    def _close(self) -> None:
        self.world.touches.clear()
        self.world.call(self.world.enforcer.close)


class Opaque:
    """A result that is not looked into."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return type(other) is Opaque

    __hash__ = None  # type: ignore[assignment]


def storied(events: list[tuple[Any, ...]]) -> Callable[[World], None]:
    """Have one event happen after the other."""

    def script(world: World) -> None:
        story = Story(world)
        # Some hits first, of whatever may be hit.
        for which in range(len(story.invokes)):
            story._call(which, "1", ALICE)
        for event in events:
            story.do(event)
        world.touches.clear()
        world.body = None
        if story.steps is not None:
            world.call(story.steps.held.close)
        world.call(story.invokes[0], "1")
        # What is due comes with the next record.
        if not world.enforcer._core.closed:
            acts(world, story.invokes[0], "1")

    return script


@settings(max_examples=times(150, 4_000))
@given(st.lists(EVENT, max_size=25))
def test_any_story(events: list[tuple[Any, ...]]) -> None:
    """Whatever happens in whatever order, it comes to the same, served either way."""
    alike(storied(events), Profile(permit_ttl=60), obligations=handlers)
