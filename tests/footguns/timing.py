"""When it is decided, and for whom."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from pep import (
    AccessDenied,
    Enforcer,
    Fault,
    Subject,
    acting_as,
    carry,
    current_subject,
)
from pep.audit import MemorySink
from pep.errors import (
    ConfigurationError,
)
from tests.footguns.traps import (
    BY_ID,
    DOC,
    Trap,
    a_resource,
    agread,
    apermit,
    aread,
    denied,
    each,
    gread,
    kind_is_kept,
)
from tests.guard.rigs import ALICE, MALLORY, Rig, collect, wait


def generators(consume: Callable[[Any], Any], status: list[str]) -> None:
    """Generators: decided at the first `next`, consumed later, never recorded."""
    rig = Rig()

    @rig.enforcer.guard("read")
    def count() -> Iterator[int]:
        with contextlib.suppress(KeyError):
            yield 1
        yield 2

    with acting_as(ALICE):
        steps = count()
        assert rig.told() == ["permitted"]
        with contextlib.suppress(ValueError):
            consume(steps)
        del steps
        gc.collect()
        assert rig.told() == ["permitted", *status]
        rig.answer = False
        with denied():
            count()


def async_generators(consume: Callable[[Any], Any], status: list[str]) -> None:
    """Asynchronous generators: no coroutine functions, awaited by mistake, or decided too late."""
    rig = Rig()

    @rig.enforcer.guard("read")
    async def count() -> AsyncIterator[int]:
        rig.ran.append(len(rig.records))
        with contextlib.suppress(KeyError):
            yield 1
        yield 2

    async def main() -> None:
        with acting_as(ALICE):
            steps = count()
            assert rig.told() == []
            with contextlib.suppress(ValueError):
                await consume(steps)
            await steps.aclose()

    wait(main())
    assert rig.ran == [1]
    assert rig.told() == ["permitted", *status]


def as_a_decorator(make: Callable[[Rig], Any]) -> None:
    """`ContextDecorator` on `async def`: entered and left before the body runs."""
    rig = Rig()
    block = make(rig)
    assert not isinstance(block, contextlib.ContextDecorator)
    assert not isinstance(block, contextlib.AsyncContextDecorator)
    with pytest.raises((ConfigurationError, TypeError)):
        block(aread)
    assert rig.records == []


def the_wrong_with() -> None:
    """`with` where only `async with` can decide."""
    sink = MemorySink()
    block = Enforcer(apermit, audit=sink).enforcing("read", DOC)
    with acting_as(ALICE), pytest.raises(ConfigurationError, match="use `async with`"), block:
        raise AssertionError
    assert sink.records == []


def never_awaited(make: Callable[[Rig], Any]) -> None:
    """A coroutine that is never awaited: recorded as permitted, although nothing ran."""
    rig = Rig()
    with acting_as(ALICE), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        dropped = make(rig)
        del dropped
        gc.collect()
    assert rig.asked == []
    assert not any(told in {"permitted", "completed"} for told in rig.told())


def captured(make: Callable[[Rig], Any], consume: Callable[[Any], Any]) -> None:
    """The subject is read when it is awaited or consumed: the wrong one."""
    rig = Rig()

    async def main() -> None:
        with acting_as(ALICE):
            begun = make(rig)
            with acting_as(MALLORY):
                consumed = consume(begun)
                if inspect.isawaitable(consumed):
                    await consumed

    wait(main())
    assert {request.subject for request in rig.asked} == {ALICE}


def other_threads(start: Callable[[Callable[[], Any]], Any], carried: bool, who: Subject | None) -> None:
    """Context variables in threads: nobody acts there, which is taken for anonymous, or for the last one."""
    rig = Rig()
    guarded = rig.enforcer.guard("read")(current_subject)
    with acting_as(ALICE):
        work = carry(guarded) if carried else guarded
        if who is None:
            with denied(Fault.EXTRACTION):
                start(work)
            assert rig.asked == []
        else:
            assert start(work) == who


def in_thread(work: Callable[[], Any]) -> Any:
    done: list[Any] = []

    def run() -> None:
        try:
            done.append(work())
        except AccessDenied as error:
            done.append(error)

    thread = threading.Thread(target=contextvars.Context().run, args=(run,))
    thread.start()
    thread.join()
    if isinstance(done[0], AccessDenied):
        raise done[0]
    return done[0]


def in_pool(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.Context().run, work).result()


def in_executor(work: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, contextvars.Context().run, work)

    return wait(main())


def after_its_block(work: Callable[[], Any]) -> Any:
    def later() -> Any:
        # A copied context in which the block has been left.
        return work()

    with acting_as(MALLORY):
        place = contextvars.copy_context()
    return place.run(later)


def leaks(body: Callable[[], Any]) -> None:
    """A subject bound in a suspended generator: the next request inherits it."""
    with contextlib.suppress(ConfigurationError):
        body()
    assert current_subject() is None
    with denied(Fault.EXTRACTION):
        Rig().enforcer.guard("read")(lambda: None)()


def in_generator() -> None:
    def steps() -> Iterator[int]:
        with acting_as(ALICE):
            yield 1

    kept = steps()
    with pytest.raises(ConfigurationError, match="would leak its subject"):
        next(kept)


def in_async_generator() -> None:
    async def steps() -> AsyncIterator[int]:
        with acting_as(ALICE):
            yield 1

    with pytest.raises(ConfigurationError, match="would leak its subject"):
        wait(collect(steps()))


def in_context_manager() -> None:
    @contextlib.contextmanager
    def bound() -> Iterator[None]:
        with acting_as(ALICE):
            yield

    with bound():
        assert current_subject() == ALICE


def in_error() -> None:
    with contextlib.suppress(KeyError), acting_as(ALICE):
        raise KeyError


def in_task() -> None:
    seen: list[Any] = []

    async def main() -> None:
        async def outliving() -> None:
            await asyncio.sleep(0)
            seen.append(current_subject())

        with acting_as(ALICE):
            task = asyncio.ensure_future(outliving())
        await task

    wait(main())
    assert seen == [None]


def _bound(rig: Rig) -> Any:
    return rig.enforcer.guard("read", resource=BY_ID)


def _stop(steps: Any) -> None:
    next(steps)
    steps.throw(ValueError())


async def _astop(steps: Any) -> None:
    await steps.__anext__()
    await steps.athrow(ValueError())


async def _asend(steps: Any) -> None:
    await steps.asend(None)
    await steps.athrow(KeyError())


def _begin_method(rig: Rig) -> Any:
    class Library:
        @_bound(rig)
        async def read(self, document_id: str) -> None: ...

    return Library().read("42")


TRAPS: Final[dict[int, list[Trap]]] = {
    6: [
        Trap(
            generators,
            {
                "exhausted": (list, []),
                "closed": (lambda steps: steps.close(), ["abandoned"]),
                "dropped": (lambda _steps: None, ["abandoned"]),
                "left": (next, ["cancelled"]),
                "thrown into": (_stop, ["raised"]),
                "caught": (lambda steps: (next(steps), steps.throw(KeyError()), list(steps)), []),
            },
        )
    ],
    7: [
        Trap(
            async_generators,
            {
                "exhausted": (collect, []),
                "left": (lambda steps: steps.__anext__(), ["cancelled"]),
                "thrown into": (_astop, ["raised"]),
                "caught": (_asend, ["cancelled"]),
            },
        ),
        Trap(kind_is_kept, each(agread)),
    ],
    8: [
        Trap(
            as_a_decorator,
            {
                "enforcing": (lambda rig: rig.enforcer.enforcing("read", DOC),),
                "acting_as": (lambda _rig: acting_as(ALICE),),
            },
        ),
        Trap(the_wrong_with, {"with": ()}),
    ],
    9: [
        Trap(
            never_awaited,
            {
                "function": (lambda rig: _bound(rig)(aread)("42"),),
                "method": (_begin_method,),
                "async generator": (lambda rig: _bound(rig)(agread)("42"),),
                "first step": (lambda rig: _bound(rig)(agread)("42").__anext__(),),
                "aenforce": (lambda rig: rig.enforcer.aenforce("read", DOC),),
                "acheck": (lambda rig: rig.enforcer.acheck("read", DOC),),
                "result": (lambda rig: rig.enforcer.guard_result("read", side_effects=False)(a_resource)(),),
            },
        )
    ],
    10: [
        Trap(
            captured,
            {
                "coroutine": (lambda rig: _bound(rig)(aread)("42"), lambda begun: begun),
                "generator": (lambda rig: _bound(rig)(gread)("42"), list),
                "async generator": (lambda rig: _bound(rig)(agread)("42"), collect),
                "aenforce": (lambda rig: rig.enforcer.aenforce("read", DOC), lambda begun: begun),
                "result": (
                    lambda rig: rig.enforcer.guard_result("read", side_effects=False)(a_resource)(),
                    lambda begun: begun,
                ),
            },
        )
    ],
    11: [
        Trap(
            other_threads,
            {
                f"{start.__name__}, {'carried' if carried else 'bare'}": (start, carried, ALICE if carried else None)
                for start in (in_thread, in_pool, in_executor, after_its_block)
                for carried in (False, True)
            },
        )
    ],
    12: [Trap(leaks, each(in_generator, in_async_generator, in_context_manager, in_error, in_task))],
}
