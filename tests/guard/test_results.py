"""Guards of results: decided after the code ran, withheld without a recorded permit."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import pep.guard.wrap
from pep import AccessDenied, Enforcer, Fault, Profile, Resource, acting_as, current_subject
from pep.errors import ConfigurationError
from pep.profile import FailOpen, FailStale
from pep.protocols import Phase
from pep.testing import FakeHandler
from tests.guard.rigs import ALICE, MALLORY, Rig, collect, wait


def item(name: str) -> Resource:
    return Resource("item", name)


ITEMS = [item(name) for name in "abcde"]


def owners(rig: Rig, *kept: str) -> None:
    """Answer by the item's name from now on."""
    rig.answer = lambda request: request.resource.id in kept


@pytest.fixture(params=["sync", "async"])
def world(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def returning(value: object, world: str, ran: list[Any]) -> Any:
    """A function of either world that returns or raises *value*."""

    def find() -> Any:
        ran.append(current_subject())
        if isinstance(value, BaseException):
            raise value
        return value

    async def afind() -> Any:
        await asyncio.sleep(0)
        return find()

    return find if world == "sync" else afind


def call(fn: Any, world: str) -> Any:
    return fn() if world == "sync" else wait(fn())


# One result.


def test_a_permitted_result_is_released(world: str) -> None:
    """The function runs for who called it, then its result is decided about, recorded and released."""
    rig = Rig()
    find = rig.enforcer.guard_result("read", side_effects=False)(returning(ITEMS[0], world, rig.ran))
    with acting_as(ALICE):
        assert call(find, world) is ITEMS[0]
    assert [(request.resource, request.subject) for request in rig.asked] == [(ITEMS[0], ALICE)]
    assert rig.told() == ["permitted"]
    assert rig.records[0]["entry"] == "guard_result"
    assert rig.ran == [ALICE]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [(False, None), (None, Fault.MALFORMED), (ConnectionError(), Fault.UNREACHABLE)],
    ids=["denied", "malformed", "unreachable"],
)
def test_a_result_without_a_permit_is_withheld(world: str, answer: object, fault: Fault | None) -> None:
    """On a denial or fault the result is withheld, and the denial says that the code ran."""
    rig = Rig(answer)
    find = rig.enforcer.guard_result("read", side_effects=False)(returning(ITEMS[0], world, rig.ran))
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        call(find, world)
    assert (caught.value.fault, caught.value.ran) == (fault, True)
    assert rig.records[0]["ran"] is True
    assert len(rig.ran) == 1


def test_a_result_whose_record_is_lost_is_withheld(world: str) -> None:
    """A result is not released without a prior record."""
    rig = Rig()
    rig.lost = True
    find = rig.enforcer.guard_result("read", side_effects=False)(returning(ITEMS[0], world, rig.ran))
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        call(find, world)
    assert (caught.value.fault, caught.value.ran) == (Fault.AUDIT, True)


def test_an_outage_never_opens_a_result(world: str) -> None:
    """FailOpen does not apply to results, FailStale does."""
    opening = FailOpen(on={Fault.UNREACHABLE}, limit="10/minute")
    rig = Rig(profiles={"item:read": Profile(on_failure=opening), "item:see": Profile(on_failure=FailStale(60))})
    read = rig.enforcer.guard_result("read", side_effects=False)(returning(ITEMS[0], world, rig.ran))
    see = rig.enforcer.guard_result("see", side_effects=False)(returning(ITEMS[0], world, rig.ran))
    with acting_as(ALICE):
        assert call(see, world) is ITEMS[0]
        rig.answer = ConnectionError()
        assert call(see, world) is ITEMS[0]
        with pytest.raises(AccessDenied):
            call(read, world)


def test_what_the_function_raises_goes_on(world: str) -> None:
    """An exception is no result: it goes on, and nothing is decided."""
    rig = Rig()
    find = rig.enforcer.guard_result("read", side_effects=False)(returning(KeyError("x"), world, rig.ran))
    with acting_as(ALICE), pytest.raises(KeyError):
        call(find, world)
    assert (rig.asked, rig.records) == ([], [])


def test_a_function_that_is_cut_off_is_recorded(world: str) -> None:
    """An interrupt in the function leaves a cancelled decision behind."""
    rig = Rig()
    find = rig.enforcer.guard_result("read", side_effects=False)(returning(KeyboardInterrupt(), world, rig.ran))
    with acting_as(ALICE), pytest.raises(KeyboardInterrupt):
        call(find, world)
    assert rig.records[0]["status"] == "cancelled"


def test_a_result_that_changed_while_it_was_decided_is_withheld() -> None:
    """Where the question let the world go on, the result is looked at again before it is released."""
    rig = Rig()
    found = {"owner": "alice"}

    async def decide(request: Any) -> bool:
        await asyncio.sleep(0)
        found["owner"] = "mallory"
        return bool(request.resource.properties["owner"] == "alice")

    enforcer = Enforcer(decide, audit=rig)

    @enforcer.guard_result(
        "read", side_effects=False, resource=lambda result: Resource("item", "a", {"owner": result["owner"]})
    )
    async def find() -> dict[str, str]:
        return found

    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        wait(find())
    assert caught.value.fault is Fault.EXTRACTION
    assert rig.told() == ["permitted", "withheld"]


def test_obligations_on_a_result_are_discharged(world: str) -> None:
    """What is due on the result is done before it is released."""
    redact = FakeHandler("redact", phase=Phase.AFTER, does=lambda call: call.with_result("redacted"))
    rig = Rig(obligations=[redact])
    rig.oblige("redact")
    find = rig.enforcer.guard_result("read", side_effects=False)(returning(ITEMS[0], world, rig.ran))
    with acting_as(ALICE):
        assert call(find, world) == "redacted"


def test_on_denied_replaces_a_result(world: str) -> None:
    """`on_denied` gives another result for this denial."""
    rig = Rig(False)
    instead = rig.enforcer.guard_result("read", side_effects=False, on_denied=lambda _error: None)
    with acting_as(ALICE):
        assert call(instead(returning(ITEMS[0], world, rig.ran)), world) is None


# Many items.


@pytest.mark.parametrize("container", [list, tuple, set, frozenset])
def test_items_without_a_permit_are_left_out_of_a_new_container(container: Any, world: str) -> None:
    """A container keeps its type and the permitted items; the function's own is left alone."""
    rig = Rig()
    owners(rig, "a", "c", "e")
    whole = container(ITEMS)
    find = rig.enforcer.filter_result("read", side_effects=False, batch=2)(returning(whole, world, rig.ran))
    with acting_as(ALICE):
        kept = call(find, world)
    assert type(kept) is container
    assert sorted(one.id for one in kept) == ["a", "c", "e"]
    assert len(whole) == 5
    assert kept is not whole
    assert [record["entry"] for record in rig.records] == ["filter_result"] * 3
    assert sum(record["withheld"] for record in rig.records) == 2


@pytest.mark.parametrize(
    "found", [None, {"a": 1}, "abc", ITEMS[0], map(str, "ab")], ids=lambda found: type(found).__name__
)
def test_an_unknown_container_is_withheld(found: object, world: str) -> None:
    """What cannot be filtered into a new container is withheld as a whole."""
    rig = Rig()
    find = rig.enforcer.filter_result("read", side_effects=False)(returning(found, world, rig.ran))
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        call(find, world)
    assert (caught.value.fault, caught.value.ran) == (Fault.EXTRACTION, True)
    assert "cannot be filtered; return a list, tuple, set or generator" in str(caught.value.__cause__)
    assert rig.asked == []
    assert rig.told() == ["denied"]


def test_an_outage_releases_no_part_of_a_result(world: str) -> None:
    """Where one batch has no answer, there is no partial list."""
    rig = Rig()
    find = rig.enforcer.filter_result("read", side_effects=False, batch=2)(returning(ITEMS, world, rig.ran))
    rig.answer = ConnectionError()
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        call(find, world)
    assert caught.value.fault is Fault.UNREACHABLE


def test_an_empty_result_asks_nothing(world: str) -> None:
    """Nothing to release is nothing to decide."""
    rig = Rig(False)
    find = rig.enforcer.filter_result("read", side_effects=False)(returning([], world, rig.ran))
    with acting_as(ALICE):
        assert call(find, world) == []
    assert rig.asked == []


# Generators.


def test_a_generator_is_filtered_lazily() -> None:
    """Items are decided about batch by batch, as they are asked for."""
    rig = Rig()
    owners(rig, "a", "b", "d")

    @rig.enforcer.filter_result("read", side_effects=False, batch=2)
    def find() -> Iterator[Resource]:
        for one in ITEMS:
            rig.ran.append(one.id)
            yield one

    with acting_as(ALICE):
        steps = find()
        assert (rig.ran, rig.asked) == ([], [])
        assert next(steps).id == "a"
        assert rig.ran == ["a", "b"]
        assert [one.id for one in steps] == ["b", "d"]
    assert len(rig.records) == 3


def test_an_async_generator_is_filtered_lazily() -> None:
    """The same with `async for`."""
    rig = Rig()
    owners(rig, "a", "b", "d")

    @rig.enforcer.filter_result("read", side_effects=False, batch=2)
    async def find() -> AsyncIterator[Resource]:
        for one in ITEMS:
            rig.ran.append(one.id)
            yield one

    async def main() -> None:
        with acting_as(ALICE):
            steps = find()
            assert (rig.ran, rig.asked) == ([], [])
            assert (await steps.__anext__()).id == "a"
            assert rig.ran == ["a", "b"]
            assert [one.id for one in await collect(steps)] == ["b", "d"]

    wait(main())
    assert len(rig.records) == 3


def test_a_filtered_generator_acts_for_who_called_it() -> None:
    """Its steps and its decisions are the caller's, whoever consumes it."""
    rig = Rig()

    @rig.enforcer.filter_result("read", side_effects=False, batch=1)
    def find() -> Iterator[Resource]:
        rig.ran.append(current_subject())
        yield ITEMS[0]

    @rig.enforcer.filter_result("read", side_effects=False, batch=1)
    async def afind() -> AsyncIterator[Resource]:
        rig.ran.append(current_subject())
        yield ITEMS[0]

    with acting_as(ALICE):
        steps, asteps = find(), afind()
        with acting_as(MALLORY):
            assert list(steps) == wait(collect(asteps)) == [ITEMS[0]]
    assert rig.ran == [ALICE, ALICE]
    assert [request.subject for request in rig.asked] == [ALICE, ALICE]


@pytest.mark.parametrize(("kept", "returned"), [("ae", "e"), ("a", None)])
def test_what_a_filtered_generator_returns_is_decided_about(kept: str, returned: str | None) -> None:
    """The return value is a result like any item."""
    rig = Rig()
    owners(rig, *kept)

    @rig.enforcer.filter_result("read", side_effects=False)
    def find() -> Any:
        yield ITEMS[0]
        return ITEMS[-1]

    def outer() -> Any:
        rig.ran.append((yield from find()))

    with acting_as(ALICE):
        assert list(outer()) == [ITEMS[0]]
    assert rig.ran == [None if returned is None else item(returned)]


def test_a_filtered_generator_that_is_left_is_closed() -> None:
    """Closed or dropped early, the function's own generator is closed, too."""
    rig = Rig()

    @rig.enforcer.filter_result("read", side_effects=False, batch=1)
    def find() -> Iterator[Resource]:
        try:
            yield from ITEMS
        finally:
            rig.ran.append("closed")

    @rig.enforcer.filter_result("read", side_effects=False, batch=1)
    async def afind() -> AsyncIterator[Resource]:
        try:
            for one in ITEMS:
                yield one
        finally:
            await asyncio.sleep(0)
            rig.ran.append("closed")

    async def main() -> None:
        with acting_as(ALICE):
            steps = afind()
            await steps.__anext__()
            await steps.aclose()

    with acting_as(ALICE):
        steps = find()
        next(steps)
        del steps
        gc.collect()
    wait(main())
    assert rig.ran == ["closed", "closed"]


# Kinds, and what is refused.


@pytest.mark.parametrize("flaggable", [False, True] if pep.guard.wrap.FLAGGABLE else [False])
def test_kinds_are_kept(flaggable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard of results keeps kind, name and signature."""
    monkeypatch.setattr(pep.guard.wrap, "FLAGGABLE", flaggable)
    rig = Rig()

    def plain(document_id: str) -> list[str]: ...
    async def coroutine(document_id: str) -> list[str]: ...
    def generator(document_id: str) -> Iterator[str]:
        yield document_id

    async def async_generator(document_id: str) -> AsyncIterator[str]:
        yield document_id

    looks: list[Callable[[Any], Any]] = [
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
        inspect.signature,
        lambda fn: fn.__qualname__,
    ]
    for fn in (plain, coroutine, generator, async_generator):
        guarded = rig.enforcer.filter_result("read", side_effects=False)(fn)
        assert [look(guarded) for look in looks] == [look(fn) for look in looks]


def test_a_guard_and_a_guard_of_results_go_together(world: str) -> None:
    """What the function may do and what its result may be are decided each at its time, in either order."""
    rig = Rig()
    guard = rig.enforcer.guard("list")
    guard_result = rig.enforcer.guard_result("read", side_effects=False)
    with acting_as(ALICE):
        for first, second in ((guard, guard_result), (guard_result, guard)):
            assert call(first(second(returning(ITEMS[0], world, rig.ran))), world) is ITEMS[0]
    assert [request.action.name for request in rig.asked] == ["list", "read"] * 2


@pytest.mark.parametrize("side_effects", [True, None, 0, "no"])
def test_side_effects_must_be_ruled_out(side_effects: Any) -> None:
    """Deciding after the code ran is refused unless the function is declared free of side effects."""
    enforcer = Rig().enforcer
    with pytest.raises(ConfigurationError, match="`guard_result` decides after the function ran"):
        enforcer.guard_result("read", side_effects=side_effects)
    with pytest.raises(ConfigurationError, match="`filter_result` decides after the function ran"):
        enforcer.filter_result("read", side_effects=side_effects)


@pytest.mark.parametrize("batch", [0, -1, True, 1.0, "1", None])
def test_a_batch_is_a_positive_number(batch: Any) -> None:
    """A batch of no items would decide about none."""
    with pytest.raises(ConfigurationError, match="`batch` must be a whole number of items, at least one"):
        Rig().enforcer.filter_result("read", side_effects=False, batch=batch)


def generator() -> Iterator[str]:
    yield "a"


async def async_generator() -> AsyncIterator[str]:
    yield "a"


def takes_result(result: str) -> str:
    return result


def exempted() -> None: ...


Rig().enforcer.exempt(reason="open")(exempted)

guarded_elsewhere = Rig().enforcer.guard("read")(returning(1, "sync", []))


@pytest.mark.parametrize(
    ("fn", "mend"),
    [
        (generator, "`generator` is a generator; use `filter_result`"),
        (async_generator, "`async_generator` is a generator; use `filter_result`"),
        (takes_result, "`takes_result` takes a parameter `result`, which is what its result is called; rename it"),
        (staticmethod(generator), "a guard of results takes a function, not `staticmethod`; put it below"),
        (42, "a guard of results takes a function, not `int`"),
        (exempted, "`exempted` is exempt; drop `exempt`, or the guard"),
        (guarded_elsewhere, "is guarded by enforcer `application` already; guard it by one"),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__) if callable(value) else "",
)
def test_what_cannot_be_decided_about_is_refused(fn: Any, mend: str) -> None:
    """A guard of results is refused where it could not do what it says."""
    with pytest.raises(ConfigurationError) as caught:
        Rig().enforcer.guard_result("read", side_effects=False)(fn)
    assert mend in str(caught.value)


def test_the_result_stands_beside_the_arguments() -> None:
    """An extractor may name `result` and the function's parameters, whatever their kinds."""
    rig = Rig()

    def both(result: str, folder: str) -> Resource:
        return Resource("item", f"{folder}/{result}")

    @rig.enforcer.guard_result("read", side_effects=False, resource=both)
    def find(folder: str, *more: str, deep: bool = False, **rest: str) -> str:
        return "a"

    with acting_as(ALICE):
        assert find("f", "x", deep=True, y="z") == "a"
    assert rig.asked[0].resource.id == "f/a"
