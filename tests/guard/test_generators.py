"""Guarded generators: decided once, walked step by step, ended in one record."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest

from pep import AccessDenied, Enforcer, Fault, Profile, acting_as, current_subject
from pep.audit import MemorySink
from pep.audit.record import Kind, Record
from pep.errors import ConfigurationError
from pep.profile import Guarantee
from pep.protocols import Phase
from pep.testing import FakeHandler
from tests.guard.rigs import ALICE, MALLORY, Rig, wait

Steps = Generator[Any, Any, Any]
ASteps = AsyncGenerator[Any, Any]


def counting(rig: Rig) -> Callable[[], Any]:
    """A generator that notes everything that happens to it, in either world's words."""

    @rig.enforcer.guard("read")
    def count() -> Steps:
        rig.ran.append("started")
        try:
            for number in range(3):
                try:
                    rig.ran.append((yield number))
                except ValueError as error:
                    rig.ran.append(error)
                    yield "caught"
            return "returned"
        finally:
            rig.ran.append("closed")

    return count


def acounting(rig: Rig) -> Callable[[], Any]:
    @rig.enforcer.guard("read")
    async def count() -> ASteps:
        rig.ran.append("started")
        try:
            for number in range(3):
                try:
                    rig.ran.append((yield number))
                except ValueError as error:
                    rig.ran.append(error)
                    yield "caught"
        finally:
            rig.ran.append("closed")

    return count


class Walker:
    """One interface to generators of both worlds; the asynchronous one has a loop of its own."""

    def __init__(self, rig: Rig, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
        self.make = (acounting if asynchronous else counting)(rig)
        self._loop = asyncio.new_event_loop() if asynchronous else None

    def begin(self) -> Walker:
        self.steps = self.make()
        return self

    def send(self, value: Any = None) -> Any:
        return self._done(self.steps.asend(value)) if self.asynchronous else self.steps.send(value)

    def throw(self, error: BaseException) -> Any:
        return self._done(self.steps.athrow(error)) if self.asynchronous else self.steps.throw(error)

    def close(self) -> None:
        self._done(self.steps.aclose()) if self.asynchronous else self.steps.close()

    @property
    def stop(self) -> type[Exception]:
        return StopAsyncIteration if self.asynchronous else StopIteration

    def _done(self, work: Coroutine[Any, Any, Any]) -> Any:
        assert self._loop is not None
        return self._loop.run_until_complete(work)

    def end(self) -> None:
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


@pytest.fixture(params=[False, True], ids=["generator", "async generator"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def walk(asynchronous: bool) -> Iterator[Callable[[Rig], Walker]]:
    """What makes walkers for a rig, in both worlds."""
    made: list[Walker] = []

    def make(rig: Rig) -> Walker:
        made.append(Walker(rig, asynchronous))
        return made[-1]

    yield make
    for walker in made:
        walker.end()


Walk = Callable[[Rig], Walker]


def test_a_generator_is_decided_at_the_call() -> None:
    """Nothing of the body runs at the call, but the decision is made, recorded, or raised there."""
    rig = Rig()
    with acting_as(ALICE):
        steps = counting(rig)()
        assert (rig.told(), rig.ran) == (["permitted"], [])
        assert next(steps) == 0
        rig.answer = False
        with pytest.raises(AccessDenied):
            counting(rig)()
    steps.close()


def test_an_async_generator_is_decided_before_its_first_step() -> None:
    """Nothing is decided at the call; the first step decides before the body starts."""
    rig = Rig(False)

    async def main() -> None:
        with acting_as(ALICE):
            steps = acounting(rig)()
            assert rig.records == []
            with pytest.raises(AccessDenied):
                await steps.__anext__()

    wait(main())
    assert (rig.told(), rig.ran) == (["denied"], [])


def test_what_is_sent_and_thrown_goes_in(walk: Walk) -> None:
    """`send` and `throw` reach the body where it stands, and its answers come back."""
    rig = Rig()
    with acting_as(ALICE):
        walker = walk(rig).begin()
        error = ValueError("thrown")
        assert [walker.send(), walker.send("a"), walker.throw(error), walker.send("b")] == [0, 1, "caught", 2]
        with pytest.raises(walker.stop):
            walker.send("c")
    assert rig.ran == ["started", "a", error, "c", "closed"]
    assert rig.told() == ["permitted"]


def test_the_return_value_comes_out() -> None:
    """What a generator returns is what `yield from` gives."""
    rig = Rig()

    def outer() -> Steps:
        return (yield from counting(rig)())

    with acting_as(ALICE):
        steps = outer()
        assert list(steps) == [0, 1, 2]
        steps = outer()
        with pytest.raises(StopIteration) as stopped:
            while True:
                next(steps)
    assert stopped.value.value == "returned"


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyError("x"), "raised"), (KeyboardInterrupt(), "cancelled"), (asyncio.CancelledError(), "cancelled")],
    ids=lambda value: type(value).__name__,
)
def test_what_it_raises_is_recorded_once(walk: Walk, error: BaseException, status: str) -> None:
    """An exception that leaves the body goes on, its cleanup runs, and one record tells of it."""
    rig = Rig()
    with acting_as(ALICE):
        walker = walk(rig).begin()
        walker.send()
        with pytest.raises(type(error)) as caught:
            walker.throw(error)
    # The loop of Python 3.10 makes a cancellation anew.
    assert caught.value is error or isinstance(error, asyncio.CancelledError)
    assert rig.ran == ["started", "closed"]
    assert rig.told() == ["permitted", status]
    assert rig.records[-1]["ran"] is True
    assert rig.records[-1].get("error") == ("KeyError" if status == "raised" else None)
    assert rig.records[-1]["decision"] == rig.records[0].id


def test_closing_it_early_is_recorded_once(walk: Walk) -> None:
    """A generator that its consumer leaves is closed, and recorded as cancelled once."""
    rig = Rig()
    with acting_as(ALICE):
        walker = walk(rig).begin()
        walker.send()
        walker.close()
        walker.close()
        with pytest.raises(walker.stop):
            walker.send()
    assert rig.ran == ["started", "closed"]
    assert rig.told() == ["permitted", "cancelled"]


def test_dropping_it_midway_is_recorded_once() -> None:
    """A suspended generator that nobody holds any more is closed and recorded."""
    rig = Rig()
    with acting_as(ALICE):
        steps = counting(rig)()
        next(steps)
        del steps
        gc.collect()
    assert rig.ran == ["started", "closed"]
    assert rig.told() == ["permitted", "cancelled"]


@pytest.mark.parametrize("drop", ["forget", "close", "throw", "send"])
def test_an_unstarted_generator_never_runs(drop: str) -> None:
    """A permitted generator that is never started is recorded as such; its body never runs."""
    rig = Rig()
    with acting_as(ALICE):
        steps = counting(rig)()
        if drop == "close":
            steps.close()
        elif drop == "throw":
            with pytest.raises(KeyError):
                steps.throw(KeyError())
        elif drop == "send":
            with pytest.raises(TypeError, match="can't send non-None value to a just-started generator"):
                steps.send("x")
        del steps
        gc.collect()
    status = "abandoned" if drop in {"forget", "close"} else "raised"
    assert (rig.told(), rig.ran, rig.records[-1]["ran"]) == (["permitted", status], [], False)


@pytest.mark.parametrize("drop", ["forget", "close", "throw"])
def test_an_unstarted_async_generator_decides_nothing(drop: str) -> None:
    """Before its first step, nothing of an asynchronous generator has happened."""
    rig = Rig()

    async def main() -> None:
        with acting_as(ALICE):
            steps = acounting(rig)()
            if drop == "close":
                await steps.aclose()
            elif drop == "throw":
                with pytest.raises(KeyError):
                    await steps.athrow(KeyError())
            del steps
            gc.collect()

    wait(main())
    assert (rig.asked, rig.records, rig.ran) == ([], [], [])


def test_cleanup_that_fails_is_still_recorded(asynchronous: bool) -> None:
    """The terminal record does not depend on what the body does when it is closed."""
    rig = Rig()

    @rig.enforcer.guard("read")
    def fail() -> Steps:
        try:
            yield 1
        finally:
            raise KeyError

    @rig.enforcer.guard("read")
    async def afail() -> ASteps:
        try:
            yield 1
        finally:
            raise KeyError

    async def main() -> None:
        steps = afail()
        await steps.__anext__()
        await steps.aclose()

    with acting_as(ALICE), pytest.raises(KeyError):
        if asynchronous:
            wait(main())
        else:
            steps = fail()
            next(steps)
            steps.close()
    assert rig.told() == ["permitted", "cancelled"]


def test_each_step_runs_for_who_called(asynchronous: bool) -> None:
    """The body, its cleanup too, acts for the caller, and leaves its consumer's subject alone."""
    rig = Rig()
    seen: list[Any] = []

    @rig.enforcer.guard("read")
    def look() -> Steps:
        try:
            while True:
                yield seen.append(current_subject())
        finally:
            seen.append(current_subject())

    @rig.enforcer.guard("read")
    async def alook() -> ASteps:
        try:
            while True:
                yield seen.append(current_subject())
        finally:
            seen.append(current_subject())

    async def main() -> None:
        with acting_as(ALICE):
            steps = alook()
            with acting_as(MALLORY):
                await steps.__anext__()
                assert current_subject() == MALLORY
                await steps.__anext__()
                await steps.aclose()
                assert current_subject() == MALLORY

    if asynchronous:
        wait(main())
    else:
        with acting_as(ALICE):
            steps = look()
            with acting_as(MALLORY):
                next(steps)
                assert current_subject() == MALLORY
                next(steps)
                steps.close()
                assert current_subject() == MALLORY
    assert seen == [ALICE] * 3


# Revocation and deciding again.


@pytest.mark.parametrize("after", [1, 2])
def test_a_revoked_permit_ends_it_at_the_next_step(walk: Walk, after: int) -> None:
    """Generations are compared before every step: a revoked permit lets none of them happen, another's goes on."""
    rig = Rig()
    with acting_as(ALICE):
        walker = walk(rig).begin()
        for _ in range(after):
            walker.send()
            rig.enforcer.invalidate(subject=MALLORY)
        begun = len(rig.ran)
        rig.enforcer.invalidate(subject=ALICE)
        with pytest.raises(AccessDenied) as caught:
            walker.send()
    assert (caught.value.fault, caught.value.ran) == (Fault.REVOKED, True)
    assert rig.ran[begun:] == ["closed"]
    assert [told for told in rig.told() if told != "invalidation"] == ["permitted", "withheld"]


def test_a_permit_revoked_before_the_first_step_starts_nothing() -> None:
    """A generator that was permitted, revoked and then started does not start."""
    rig = Rig()
    with acting_as(ALICE):
        steps = counting(rig)()
        rig.enforcer.invalidate(subject=ALICE)
        with pytest.raises(AccessDenied):
            next(steps)
    assert rig.ran == []


def revalidating(**parts: Any) -> Rig:
    return Rig(profiles={"application:read": Profile(revalidate=10)}, **parts)


def test_it_is_decided_again_when_it_is_time(walk: Walk) -> None:
    """Every so many seconds the next step asks again, and goes on under the new decision."""
    rig = revalidating()
    with acting_as(ALICE):
        walker = walk(rig).begin()
        assert walker.send() == 0
        rig.clock.advance(9)
        assert walker.send() == 1
        assert len(rig.asked) == 1
        rig.clock.advance(1)
        assert walker.send() == 2
        assert len(rig.asked) == 2
        walker.close()
    assert rig.told() == ["permitted", "permitted", "cancelled"]
    assert [record["entry"] for record in rig.records[:2]] == ["guard", "revalidate"]
    assert rig.records[2]["decision"] == rig.records[1].id


@pytest.mark.parametrize(
    ("answer", "fault"), [(False, None), (ConnectionError(), Fault.UNREACHABLE)], ids=["denied", "unreachable"]
)
def test_deciding_again_may_end_it(walk: Walk, answer: object, fault: Fault | None) -> None:
    """A new decision that denies, or is not had, ends the generator before its next step."""
    rig = revalidating()
    with acting_as(ALICE):
        walker = walk(rig).begin()
        walker.send()
        rig.clock.advance(10)
        rig.answer = answer
        with pytest.raises(AccessDenied) as caught:
            walker.send()
    assert (caught.value.fault, caught.value.ran) == (fault, True)
    assert rig.ran == ["started", "closed"]
    assert rig.told()[0::2] == ["permitted", "withheld"]


@pytest.mark.parametrize(("size", "goes_on"), [(5, True), (4, False)])
def test_deciding_again_may_not_change_the_arguments(size: int, goes_on: bool) -> None:
    """A new decision that demands other arguments than the body runs with ends it: they cannot be changed any more."""
    clamp = FakeHandler("clamp", does=lambda call: call.with_arguments(size=limit))
    rig = revalidating(obligations=[clamp])
    rig.oblige("clamp")
    limit = 5

    @rig.enforcer.guard("read")
    def read(size: int) -> Steps:
        rig.ran.append(size)
        yield from "ab"

    with acting_as(ALICE):
        steps = read(size=9)
        next(steps)
        rig.clock.advance(10)
        limit = size
        with contextlib.nullcontext() if goes_on else pytest.raises(AccessDenied) as caught:
            next(steps)
        steps.close()
    assert rig.ran == [5]
    assert rig.told() == ["permitted", "permitted", "cancelled" if goes_on else "withheld"]
    if caught is not None:
        assert caught.value.fault is Fault.OBLIGATION
    assert rig.records[2]["decision"] == rig.records[1].id


def test_being_cut_off_while_deciding_again_is_recorded(walk: Walk) -> None:
    """An interrupt in the second question is recorded for it, and ends the generator."""
    rig = revalidating()
    with acting_as(ALICE):
        walker = walk(rig).begin()
        walker.send()
        rig.clock.advance(10)
        rig.answer = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            walker.send()
    assert rig.ran == ["started", "closed"]
    assert [record.get("status") for record in rig.records] == [None, "cancelled", "cancelled"]
    assert [record.kind for record in rig.records] == [Kind.DECISION, Kind.DECISION, Kind.OUTCOME]


# Obligations on what comes out.


def redacting(**parts: Any) -> tuple[Rig, FakeHandler]:
    handler = FakeHandler("redact", phase=Phase.AFTER, does=lambda call: call.with_result(f"<{call.result}>"))
    rig = Rig(obligations=[handler], **parts)
    rig.oblige("redact")
    return rig, handler


def test_every_item_and_the_return_value_are_results(asynchronous: bool) -> None:
    """Obligations due on the result apply to each item, and to what a generator returns."""
    rig, handler = redacting()

    async def items() -> list[Any]:
        return [item async for item in acounting(rig)()]

    def outer() -> Steps:
        rig.ran.append((yield from counting(rig)()))

    with acting_as(ALICE):
        assert (wait(items()) if asynchronous else list(outer())) == ["<0>", "<1>", "<2>"]
    results = [call.result for _, call in handler.discharged]
    assert results == [0, 1, 2, None if asynchronous else "returned"]
    if not asynchronous:
        assert rig.ran[-1] == "<returned>"
    assert rig.told() == ["permitted", "completed"]


@pytest.mark.parametrize("at", [0, 2, 3])
def test_an_item_that_cannot_be_released_ends_it(walk: Walk, at: int) -> None:
    """Where an obligation fails on an item or the return value, it is withheld, recorded once, and the body closed."""
    rig, handler = redacting()
    with acting_as(ALICE):
        walker = walk(rig).begin()
        for _ in range(at):
            walker.send()
        handler._raises = RuntimeError("broken")
        with pytest.raises(AccessDenied) as caught:
            walker.send()
    assert (caught.value.fault, caught.value.ran) == (Fault.OBLIGATION, True)
    assert rig.ran[-1] == "closed"
    assert rig.told() == ["permitted", "withheld"]


def test_being_cut_off_in_a_release_is_recorded_once(walk: Walk) -> None:
    """An interrupt while an item is released leaves one record, and closes the body."""
    rig, handler = redacting()
    with acting_as(ALICE):
        walker = walk(rig).begin()
        walker.send()
        handler._raises = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            walker.send()
    assert rig.ran[-1] == "closed"
    assert rig.told() == ["permitted", "cancelled"]


def test_completion_is_recorded_where_the_guarantee_asks_for_it(walk: Walk) -> None:
    """Under `DURABLE`, a generator that ran to its end says so."""
    durable = Rig(guarantee=Guarantee.DURABLE, profiles={"application:read": Profile(audit=Guarantee.DURABLE)})
    with acting_as(ALICE):
        walker = walk(durable).begin()
        for _ in range(3):
            walker.send()
        with pytest.raises(walker.stop):
            walker.send()
    assert durable.told() == ["permitted", "completed"]


def test_on_denied_replaces_a_generator() -> None:
    """`on_denied` gives another iterable; asynchronous generators, which cannot, refuse it."""
    rig = Rig(False)
    instead = rig.enforcer.guard("read", on_denied=lambda _error: iter("no"))

    @instead
    def items() -> Iterator[str]:
        yield "yes"

    with acting_as(ALICE):
        assert list(items()) == ["n", "o"]
    with pytest.raises(ConfigurationError, match="which cannot return another result; drop `on_denied`"):

        @instead
        async def aitems() -> AsyncIterator[str]:
            yield "yes"


# The garbage collector and the event loop.


class Unraisable:
    """What Python could only report."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        monkeypatch.setattr(sys, "unraisablehook", lambda args: self.told.append(str(args.exc_value)))


@pytest.mark.parametrize("awaits", [False, True])
def test_collecting_one_without_a_loop_is_no_worse_than_any(awaits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Collected without a loop, it is recorded, and only a body that awaits in its cleanup is complained of."""
    rig = Rig()
    unraisable = Unraisable(monkeypatch)

    @rig.enforcer.guard("read")
    async def read() -> ASteps:
        try:
            yield 1
        finally:
            if awaits:
                await asyncio.sleep(0)
            rig.ran.append("closed")

    with acting_as(ALICE):
        steps = read()
        with pytest.raises(StopIteration, match="1"):
            steps.__anext__().send(None)
        del steps
        gc.collect()
    assert rig.told() == ["permitted", "cancelled"]
    assert unraisable.told == (["async generator ignored GeneratorExit"] if awaits else [])


@pytest.mark.parametrize("left", ["to the loop", "to the collector"])
def test_the_loop_closes_it_once(left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left suspended, it is closed by its loop without complaint, cleanup that awaits included."""
    rig = Rig()
    unraisable = Unraisable(monkeypatch)
    complaints: list[Any] = []
    kept: list[Any] = []

    @rig.enforcer.guard("read")
    async def read() -> ASteps:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            rig.ran.append("closed")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        with acting_as(ALICE):
            kept.append(read())
            await kept[0].__anext__()
            if left == "to the collector":
                kept.clear()
                gc.collect()
                for _ in range(5):
                    await asyncio.sleep(0)

    wait(main())
    assert (complaints, unraisable.told) == ([], [])
    assert rig.ran == ["closed"]
    assert rig.told() == ["permitted", "cancelled"]


def test_a_cancelled_step_is_recorded_before_its_cleanup() -> None:
    """Cancelled in a step, it is recorded although the cleanup is cancelled, too."""
    rig = Rig()

    @rig.enforcer.guard("read")
    async def read() -> ASteps:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            rig.ran.append("closing")
            await asyncio.Event().wait()

    async def main() -> None:
        with acting_as(ALICE):
            task = asyncio.ensure_future(anext_of(read()))
            for _ in range(3):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def anext_of(steps: ASteps) -> None:
        async for _ in steps:
            pass

    wait(main())
    assert rig.ran == ["closing"]
    assert rig.told() == ["permitted", "cancelled"]


class AsyncSink:
    """A sink that can only be awaited."""

    guarantee = MemorySink.guarantee

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def record(self, record: Record) -> None:
        await asyncio.sleep(0)
        self.records.append(record)


def test_an_awaited_sink_gets_the_last_record_too() -> None:
    """Closed early, the terminal record still reaches a sink that can only be awaited."""
    sink = AsyncSink()
    enforcer = Enforcer(lambda _request: True, audit=sink)

    @enforcer.guard("read")
    async def read() -> ASteps:
        yield 1

    async def main() -> None:
        with acting_as(ALICE):
            steps = read()
            await steps.__anext__()
            await steps.aclose()
        for _ in range(5):
            await asyncio.sleep(0)

    wait(main())
    assert [record.get("status") for record in sink.records] == [None, "cancelled"]


def test_a_guarded_generator_makes_a_context_manager() -> None:
    """Under `contextlib.contextmanager`, entering is decided and the body is left properly."""
    rig = Rig()

    @contextlib.contextmanager
    @rig.enforcer.guard("read")
    def opened() -> Iterator[int]:
        rig.ran.append("in")
        try:
            yield 1
        finally:
            rig.ran.append("out")

    with acting_as(ALICE):
        with opened() as value:
            assert value == 1
        with pytest.raises(KeyError), opened():
            raise KeyError
        rig.answer = False
        with pytest.raises(AccessDenied), opened():
            rig.ran.append("never")
    assert rig.ran == ["in", "out"] * 2
    assert rig.told() == ["permitted", "permitted", "raised", "denied"]
