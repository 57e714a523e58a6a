"""Every kind of callable is guarded properly, or refused."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import sys
import types
import typing
import warnings
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse

import pep.guard.wrap
from pep import AccessDenied, Enforcer, Fault, Outcome, Subject, acting_as
from pep.audit import MemorySink
from pep.errors import ConfigurationError
from tests.guard.rigs import ALICE, MALLORY, SHAPES, Invoke, Rig, collect, logged, wait

# Both ways a wrapper passes for another kind; the older one works everywhere.
WAYS = [False, True] if pep.guard.wrap.FLAGGABLE else [False]

anyone = Enforcer(lambda _request: True, audit=MemorySink())
guard = anyone.guard("read")


class Paper:
    """What annotations name; resolved only in this module's globals."""


async def first(items: AsyncIterator[Any]) -> Any:
    return await items.__anext__()


@pytest.fixture(params=WAYS, ids=lambda flaggable: "flagged" if flaggable else "disguised")
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """One of the two ways to keep a kind."""
    monkeypatch.setattr(pep.guard.wrap, "FLAGGABLE", request.param)
    return bool(request.param)


def invoker(shape: str, rig: Rig) -> Invoke:
    return SHAPES[shape](rig.enforcer.guard("read", resource="document:{document_id}"), rig.ran)


every_shape = pytest.mark.parametrize("shape", SHAPES)


@every_shape
def test_runs_with_a_recorded_permit(shape: str, way: bool) -> None:
    """Protected code of every kind runs once, after one recorded permit for the resource that was named."""
    rig = Rig()
    invoke = invoker(shape, rig)
    rig.ran[:] = []
    with acting_as(ALICE):
        assert invoke("42") == "42"
    assert rig.ran == ["42"]
    assert rig.told() == ["permitted"]
    assert [(request.subject, request.resource.id) for request in rig.asked] == [(ALICE, "42")]


@every_shape
def test_runs_after_its_record(shape: str) -> None:
    """The record of the permit is with the sink before the first line of protected code."""
    rig = Rig()
    before: list[int] = []

    class Counting(list[Any]):
        def append(self, _item: object) -> None:
            before.append(len(rig.records))

        def extend(self, _items: object) -> None:
            before.append(len(rig.records))

    invoke = SHAPES[shape](rig.enforcer.guard("read", resource="document:{document_id}"), Counting())
    with acting_as(ALICE):
        invoke("42")
    assert before == [1]


@every_shape
@pytest.mark.parametrize(
    ("answer", "outcome", "fault"),
    [
        (False, Outcome.DENIED, None),
        (None, Outcome.UNAVAILABLE, Fault.MALFORMED),
        (ConnectionError(), Outcome.UNAVAILABLE, Fault.UNREACHABLE),
    ],
    ids=["denied", "malformed", "unreachable"],
)
def test_does_not_run_without_a_permit(shape: str, answer: object, outcome: Outcome, fault: Fault | None) -> None:
    """Protected code of no kind runs on a denial or a fault, which is recorded."""
    rig = Rig(answer)
    invoke = invoker(shape, rig)
    with acting_as(MALLORY), pytest.raises(AccessDenied) as caught:
        invoke("42")
    assert (caught.value.outcome, caught.value.fault) == (outcome, fault)
    assert rig.ran == []
    assert rig.told() == [outcome.value]


@every_shape
def test_does_not_run_for_nobody(shape: str) -> None:
    """Where nobody acts, nothing runs, and nobody is asked."""
    rig = Rig()
    with pytest.raises(AccessDenied) as caught:
        invoker(shape, rig)("42")
    assert caught.value.fault is Fault.EXTRACTION
    assert rig.ran == []
    assert rig.asked == []


@every_shape
def test_does_not_run_unrecorded(shape: str) -> None:
    """Protected code of no kind runs where its permit could not be recorded."""
    rig = Rig()
    rig.lost = True
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        invoker(shape, rig)("42")
    assert caught.value.fault is Fault.AUDIT
    assert rig.ran == []


# Kind and looks.


def a_function(paper: Paper, size: int = 3, *pages: int, strict: bool = True, **rest: str) -> Paper:
    """Read a paper."""
    return paper


async def a_coroutine_function(paper: Paper, size: int = 3) -> Paper:
    """Read a paper."""
    return paper


def a_generator(paper: Paper, size: int = 3) -> Iterator[Paper]:
    """Read a paper."""
    yield paper


async def an_async_generator(paper: Paper, size: int = 3) -> AsyncIterator[Paper]:
    """Read a paper."""
    yield paper


a_function.note = "kept"  # type: ignore[attr-defined]
KINDS = [a_function, a_coroutine_function, a_generator, an_async_generator]
KIND_TESTS: list[Callable[[Any], object]] = [
    inspect.isfunction,
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
    inspect.isroutine,
    inspect.ismethoddescriptor,
    callable,
    inspect.signature,
    typing.get_type_hints,
    inspect.getdoc,
    inspect.getmodule,
    inspect.getfullargspec,
    lambda fn: (fn.__name__, fn.__qualname__, fn.__module__, fn.__doc__),
    lambda fn: fn.__annotations__,
    lambda fn: fn.__globals__ is globals(),
    lambda fn: getattr(fn, "note", None),
    lambda fn: getattr(fn, "__type_params__", ()),
    lambda fn: inspect.ismethod(fn.__get__(Paper())),
    lambda fn: fn.__get__(Paper()).__self__.__class__,
]

every_kind = pytest.mark.parametrize("fn", KINDS, ids=lambda fn: fn.__name__)


def is_asyncio_coroutine_function(fn: object) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # since Python 3.14
        return asyncio.iscoroutinefunction(fn)


@every_kind
@pytest.mark.parametrize("look", [*KIND_TESTS, is_asyncio_coroutine_function], ids=lambda _look: "")
def test_looks_like_the_function_it_guards(fn: Any, look: Callable[[Any], object], way: bool) -> None:
    """A guarded function answers every question about its kind and signature as the function does."""
    assert look(guard(fn)) == look(fn)


@every_kind
def test_leads_to_nothing_unguarded(fn: Any, way: bool) -> None:
    """There is no `__wrapped__`, and unwrapping ends at the guard."""
    guarded = guard(fn)
    assert not hasattr(guarded, "__wrapped__")
    assert inspect.unwrap(guarded) is guarded
    assert fn not in vars(guarded).values()
    assert not hasattr(guard(logged(fn)), "__wrapped__")


def test_annotations_resolve_where_they_were_written() -> None:
    """Under another module's decorator, annotations still resolve in the module of the function itself."""
    text = (
        "import functools\ndef other(fn):\n    @functools.wraps(fn)\n    def call(*a): return fn(*a)\n    return call\n"
    )
    elsewhere: dict[str, Any] = {"__name__": "elsewhere"}
    exec(text, elsewhere)  # noqa: S102  a module that does not know `Paper`
    guarded = guard(elsewhere["other"](a_function))
    assert typing.get_type_hints(guarded)["paper"] is Paper


def test_what_runs_is_named_after_the_function(way: bool) -> None:
    """Coroutines and generators carry the name of the function that was called."""
    coroutine = guard(a_coroutine_function)(Paper())
    steps = guard(an_async_generator)(Paper())
    with acting_as(ALICE):
        items = guard(a_generator)(Paper())
    assert inspect.iscoroutine(coroutine)
    assert inspect.isasyncgen(steps)
    assert inspect.isgenerator(items)
    assert [one.__qualname__ for one in (coroutine, steps, items)] == [
        fn.__qualname__ for fn in (KINDS[1], KINDS[3], KINDS[2])
    ]
    coroutine.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters came with Python 3.12")
def test_type_parameters_are_kept() -> None:
    """A generic function stays one."""
    place: dict[str, Any] = {}
    exec("def same[T](value: T) -> T: return value", place)  # noqa: S102  a syntax error before 3.12
    assert guard(place["same"]).__type_params__ == place["same"].__type_params__ != ()


def test_the_disguise_can_be_written_to() -> None:
    """Attributes of a guarded function are set, seen and deleted like any function's."""
    pep_wrap = pytest.MonkeyPatch()
    pep_wrap.setattr(pep.guard.wrap, "FLAGGABLE", False)
    guarded: Any = guard(a_coroutine_function)
    pep_wrap.undo()
    guarded.colour = "red"
    assert guarded.colour == vars(guarded)["colour"] == "red"
    del guarded.colour
    assert not hasattr(guarded, "colour")
    assert repr(guarded).startswith("<function a_coroutine_function at ")
    assert isinstance(guarded, type(a_function))
    assert guarded.__code__ is a_coroutine_function.__code__


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`markcoroutinefunction` came with Python 3.12")
def test_functions_marked_as_coroutine_functions_are_awaited() -> None:
    """A plain function that is marked to return a coroutine is decided when awaited, and stays marked."""
    rig = Rig()
    marked = inspect.markcoroutinefunction(lambda: a_coroutine_function(Paper()))  # type: ignore[attr-defined]
    guarded = rig.enforcer.guard("read")(marked)
    assert inspect.iscoroutinefunction(guarded)
    with acting_as(ALICE):
        coroutine = guarded()
        assert rig.asked == []
        assert type(wait(coroutine)) is Paper


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the older mark is gone")
def test_functions_with_the_older_mark_are_awaited() -> None:
    """A plain function with asyncio's own mark is decided when awaited, and stays marked."""
    rig = Rig()

    def marked() -> Any:
        return a_coroutine_function(Paper())

    marked._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    guarded = rig.enforcer.guard("read")(marked)
    assert asyncio.iscoroutinefunction(guarded)
    with acting_as(ALICE):
        coroutine = guarded()
        assert rig.asked == []
        assert type(wait(coroutine)) is Paper


# Pickling.

p_function = guard(a_function)
p_coroutine_function = guard(a_coroutine_function)


@guard
def to_pickle(number: int) -> int:
    return number


@guard
async def to_pickle_async(number: int) -> int:
    return number


@guard
def to_pickle_generator(number: int) -> Iterator[int]:
    yield number


class Pickled:
    @guard
    async def method(self) -> None: ...


with pytest.MonkeyPatch.context() as _patch:
    _patch.setattr(pep.guard.wrap, "FLAGGABLE", False)

    @guard
    async def to_pickle_disguised(number: int) -> int:
        return number


@pytest.mark.parametrize(
    "fn",
    [to_pickle, to_pickle_async, to_pickle_generator, to_pickle_disguised, Pickled.method],
    ids=lambda fn: fn.__qualname__,
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_by_name_to_the_guarded_one(fn: Any, protocol: int) -> None:
    """A guarded function pickles by name; the name leads to the guarded function again."""
    assert pickle.loads(pickle.dumps(fn, protocol)) is fn  # noqa: S301  pickled here


@pytest.mark.parametrize("fn", [p_function, p_coroutine_function], ids=lambda fn: fn.__name__)
def test_never_pickles_to_the_unguarded_one(fn: Any) -> None:
    """Where the name leads to the function itself, pickling fails: the other end would run it unguarded."""
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(fn)


# When it is decided, and for whom.


def test_the_subject_is_captured_at_the_call() -> None:
    """A coroutine or generator acts for who called the function, not for who awaits or consumes it."""
    rig = Rig()
    shapes: list[Callable[[Any], Any]] = [
        lambda one: wait(one),
        lambda one: list(one),
        lambda one: wait(collect(one)),
    ]
    for fn, consume in zip(KINDS[1:], shapes, strict=True):
        guarded = rig.enforcer.guard("read")(fn)
        with acting_as(ALICE):
            begun = guarded(Paper())
            with acting_as(MALLORY):
                consume(begun)
    assert [request.subject for request in rig.asked] == [ALICE] * 3


def test_a_coroutine_awaited_after_its_scope_is_refused() -> None:
    """Who was captured no longer acts once the block is left."""
    rig = Rig()
    guarded = rig.enforcer.guard("read")(a_coroutine_function)
    with acting_as(ALICE):
        coroutine = guarded(Paper())
    with pytest.raises(AccessDenied) as caught:
        wait(coroutine)
    assert caught.value.fault is Fault.EXTRACTION
    assert rig.asked == []


@pytest.mark.parametrize("drop", ["close", "forget"])
def test_a_coroutine_that_is_never_awaited_decides_nothing(drop: str) -> None:
    """Nothing is asked, run or recorded for a coroutine that nobody awaits."""
    rig = Rig()
    invoke = rig.enforcer.guard("read")(a_coroutine_function)
    with acting_as(ALICE):
        coroutines = [invoke(Paper())]
        if drop == "close":
            coroutines[0].close()
        else:
            with pytest.warns(RuntimeWarning, match="'a_coroutine_function' was never awaited"):
                coroutines.clear()
    assert (rig.asked, rig.records) == ([], [])


@pytest.mark.parametrize("fn", KINDS, ids=lambda fn: fn.__name__)
def test_what_does_not_bind_is_the_functions_own_error(fn: Any) -> None:
    """A call that does not fit raises `TypeError` before anything is decided."""
    rig = Rig()
    with (
        acting_as(ALICE),
        pytest.raises(TypeError, match=rf"^{fn.__qualname__}\(\) missing .* required .*argument: 'paper'"),
    ):
        rig.enforcer.guard("read")(fn)()
    assert rig.records == []


# Descriptors and other makers of callables.


def test_properties_are_guarded_accessor_by_accessor() -> None:
    """Getting, setting and deleting are each decided under their own action."""
    rig = Rig()
    act = rig.enforcer.guard

    class Document:
        @property
        @act("read")
        def title(self) -> str:
            """What it is called."""
            return "title"

        @title.setter
        @act("write")
        def title(self, value: str) -> None:
            rig.ran.append(value)

        @title.deleter
        @act("delete")
        def title(self) -> None:
            rig.ran.append("gone")

    document = Document()
    with acting_as(ALICE):
        assert document.title == "title"
        document.title = "other"
        del document.title
        rig.answer = False
        for refused in (
            lambda: document.title,
            lambda: setattr(document, "title", "x"),
            lambda: delattr(document, "title"),
        ):
            with pytest.raises(AccessDenied):
                refused()
    assert rig.ran == ["other", "gone"]
    assert [request.action.name for request in rig.asked] == ["read", "write", "delete"] * 2
    assert inspect.getdoc(Document.title) == "What it is called."


def test_a_guard_above_a_property_guards_its_only_accessor() -> None:
    """Above a read-only property, a guard guards reading, and the result is the same kind of property."""
    rig = Rig()

    class Special(property):
        pass

    class Document:
        @rig.enforcer.guard("read")
        @Special
        def title(self) -> str:
            """What it is called."""
            return "title"

        @rig.enforcer.guard("write")
        def _put(self, value: str) -> None:
            rig.ran.append(value)

        body = rig.enforcer.guard("write")(property(None, _put, doc="What it says."))

    with acting_as(ALICE):
        assert Document().title == "title"
        Document().body = "x"
    assert type(vars(Document)["title"]) is Special
    assert inspect.getdoc(Document.title) == "What it is called."
    assert inspect.getdoc(Document.body) == "What it says."
    assert rig.told() == ["permitted", "permitted"]


def test_a_guard_above_several_accessors_is_refused() -> None:
    """Which accessor a guard above all of them means is not guessed."""
    with pytest.raises(ConfigurationError, match="one by one; put the guard directly above each `def`"):
        guard(property(lambda _self: 1, lambda _self, _value: None))


def test_descriptors_stay_what_they_are() -> None:
    """A guarded descriptor or partial is of the type it was."""

    class Special(staticmethod):  # type: ignore[type-arg]
        pass

    part = functools.partial(a_function, size=4)
    functools.update_wrapper(part, a_function)
    part.colour = "red"  # type: ignore[attr-defined]
    guarded = guard(part)
    assert type(guarded) is functools.partial
    assert (guarded.args, guarded.keywords) == ((), {"size": 4})
    assert (guarded.colour, guarded.__doc__) == ("red", "Read a paper.")
    assert not hasattr(guarded, "__wrapped__")
    assert type(guard(functools.partialmethod(a_function))) is functools.partialmethod
    assert type(guard(Special(a_function))) is Special
    assert type(guard(classmethod(a_function))) is classmethod
    bound = functools.partial(a_function).func.__get__(Paper())
    assert (type(guard(bound)), guard(bound).__self__) == (type(bound), bound.__self__)


def test_abstract_stays_abstract() -> None:
    """A guarded abstract method still has to be overridden."""

    class Library(ABC):
        @guard
        @abstractmethod
        def read(self) -> None: ...

        @abstractmethod
        @guard
        async def write(self) -> None: ...

    assert Library.__abstractmethods__ == {"read", "write"}
    with pytest.raises(TypeError, match="abstract"):
        Library()  # type: ignore[abstract]


def test_a_cache_under_the_guard_can_still_be_cleared() -> None:
    """Above a cache, every call is decided, and the cache keeps its methods."""
    rig = Rig()

    @rig.enforcer.guard("read")
    @functools.lru_cache(maxsize=5)
    def read(number: int) -> int:
        rig.ran.append(number)
        return number

    with acting_as(ALICE):
        assert read(1) == read(1) == 1
        rig.answer = False
        with pytest.raises(AccessDenied):
            read(1)
    assert rig.ran == [1]
    assert read.cache_info().hits == 1
    assert read.cache_parameters()["maxsize"] == 5
    read.cache_clear()
    assert read.cache_info().currsize == 0


def test_single_dispatch_keeps_its_registry() -> None:
    """A guarded generic function still takes implementations, and decides before it chooses one."""
    rig = Rig()

    @rig.enforcer.guard("read")
    @functools.singledispatch
    def read(thing: object) -> str:
        return "object"

    read.register(int)(lambda _thing: "int")
    with acting_as(ALICE):
        assert (read("x"), read(1)) == ("object", "int")
    assert len(rig.asked) == 2


class Instance:
    """A callable instance."""

    def __call__(self) -> None: ...


class Later:
    """Something with a cached property, and a method that dispatches."""

    @functools.cached_property
    def title(self) -> str:
        return "title"

    @functools.singledispatchmethod
    def read(self, thing: object) -> None: ...


@pytest.mark.parametrize(
    ("target", "mend"),
    [
        (Instance(), "a `Instance` cannot be guarded; put the guard on the function it was made from"),
        (functools.partial(Instance()), "a `Instance` cannot be guarded"),
        (functools.partial(Paper), "a `partial` cannot be guarded; guard the class it makes"),
        (len, "a `builtin_function_or_method` cannot be guarded; wrap it in a `def`"),
        (functools.partial(len), "wrap it in a `def`"),
        (vars(Later)["title"], "a `cached_property` cannot be guarded; a cached property would serve the revoked"),
        (vars(Later)["read"], "a `singledispatchmethod` cannot be guarded; guard the method that calls it"),
        (property(), "a property with several accessors"),
        (42, "a `int` cannot be guarded; guard a function, a method, a property or a class"),
        (None, "a `NoneType` cannot be guarded"),
    ],
    ids=lambda value: None if " at 0x" in repr(value) else repr(value),
)
def test_what_cannot_be_guarded_is_refused(target: object, mend: str) -> None:
    """What cannot be guarded properly is refused at decoration, with the mend."""
    with pytest.raises(ConfigurationError) as caught:
        guard(target)
    assert mend in str(caught.value)


def test_generator_based_coroutines_are_refused() -> None:
    """A generator that can be awaited is neither kind properly."""
    with pytest.raises(ConfigurationError, match="is a generator-based coroutine; make it `async def`"):
        guard(types.coroutine(a_generator.__get__(Paper()).__func__))


def test_a_guard_without_its_action_is_refused_at_once() -> None:
    """`@guard` without parentheses fails where it is written, not at the first call."""
    with pytest.raises(ConfigurationError, match="an action must be a non-empty `str`"):
        anyone.guard(a_function)
    with pytest.raises(ConfigurationError, match="an action must be a non-empty `str`"):
        anyone.guard_result(a_function, side_effects=False)
    with pytest.raises(ConfigurationError, match="an action must be a non-empty `str`"):
        anyone.filter_result(a_function, side_effects=False)


# A framework that reads annotations.

app = FastAPI()
routed = Rig()


def caller(user: str) -> Subject:
    return Subject("user", user)


route_guard = routed.enforcer.guard("read", resource="item:{item_id}", subject=caller)
User = Annotated[str, Header()]


@app.get("/sync/{item_id}")
@route_guard
def read_item(item_id: int, user: User, q: Annotated[list[str] | None, Query(max_length=3)] = None) -> dict[str, Any]:
    return {"item": item_id, "q": q, "user": user}


@app.get("/async/{item_id}")
@route_guard
async def read_item_async(item_id: int, user: User, request: Request, short: bool = False) -> dict[str, Any]:
    return {"item": item_id, "short": short, "path": request.url.path}


@app.post("/body/{item_id}")
@route_guard
async def put_item(item_id: int, user: User, size: Annotated[int, Body(embed=True, gt=0)]) -> dict[str, Any]:
    return {"item": item_id, "size": size}


@app.exception_handler(AccessDenied)
async def refused(_request: Request, error: AccessDenied) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=403)


async def ask(method: str, path: str, **parts: Any) -> tuple[int, Any]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers={"user": "alice"}) as client:
        reply = await client.request(method, path, **parts)
    return reply.status_code, reply.json()


@pytest.mark.parametrize(
    ("method", "path", "parts", "answer"),
    [
        ("GET", "/sync/42?q=a&q=b", {}, {"item": 42, "q": ["a", "b"], "user": "alice"}),
        ("GET", "/async/42?short=yes", {}, {"item": 42, "short": True, "path": "/async/42"}),
        ("POST", "/body/42", {"json": {"size": 7}}, {"item": 42, "size": 7}),
    ],
)
def test_a_route_over_a_guarded_function_parses_its_parameters(
    method: str, path: str, parts: dict[str, Any], answer: object
) -> None:
    """FastAPI resolves the string annotations of a guarded function, and still checks what they say."""
    routed.answer = True
    asked = len(routed.asked)
    assert wait(ask(method, path, **parts)) == (200, answer)
    assert [(one.subject.id, one.resource.id) for one in routed.asked[asked:]] == [("alice", "42")]
    assert wait(ask(method, path.replace("42", "x"), **parts))[0] == 422
    routed.answer = False
    status, body = wait(ask(method, path, **parts))
    assert (status, body["detail"].startswith("access denied (record ")) == (403, True)


def test_a_route_checks_the_body_it_declares() -> None:
    """A bound in an annotation refuses before anything is decided."""
    asked = len(routed.asked)
    assert wait(ask("POST", "/body/42", json={"size": -1}))[0] == 422
    assert len(routed.asked) == asked
