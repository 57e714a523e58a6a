from __future__ import annotations

import _thread
import asyncio
import collections
import contextlib
import contextvars
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from pep import scope
from pep.errors import ConfigurationError, ExtractionError
from pep.model import ANONYMOUS, Subject
from pep.scope import (
    MAX_NESTING,
    NOBODY,
    Frame,
    Scope,
    acting_as,
    carry,
    current_frame,
    current_scope,
    current_subject,
    enter_frame,
    leave_frame,
    within,
)

ALICE, BOB, AGENT = Subject("user", "alice"), Subject("user", "bob"), Subject("agent", "a1")


def test_nobody_acts_by_default() -> None:
    """Outside of every block there is no subject: nobody, never anonymous."""
    assert current_subject() is None
    assert current_scope() is None
    assert current_frame() is NOBODY
    with acting_as(ANONYMOUS):
        assert current_subject() is ANONYMOUS


def test_a_block_binds_and_unbinds() -> None:
    """Who acts is bound for a block, blocks nest, and leaving one by an error unbinds too."""
    with acting_as(ALICE, via=[AGENT], tenant="acme", context={"ip": ["::1"]}):
        bound = current_scope()
        assert bound is not None
        assert (bound.subject, bound.actors, bound.tenant) == (ALICE, (AGENT,), "acme")
        assert bound.context == {"ip": ("::1",)}
        with contextlib.suppress(KeyError), acting_as(BOB):
            assert current_subject() is BOB
            raise KeyError
        assert current_subject() is ALICE
    assert current_frame() is NOBODY
    assert not bound.is_open


def test_objects_that_are_registered_later_are_nobody_yet() -> None:
    """Any object may be bound; as a subject it counts once an enforcer knows how."""
    with acting_as({"name": "alice"}):
        assert current_subject() is None
        assert current_scope() is not None


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        ({"subject": None}, r"`pep\.ANONYMOUS` is explicit"),
        ({"subject": ALICE, "via": "a1"}, "`via` takes a list"),
        ({"subject": ALICE, "via": AGENT}, "`via` takes a list"),
        ({"subject": ALICE, "via": None}, "`via` takes a list"),
        ({"subject": ALICE, "tenant": ""}, "the tenant must not be empty"),
        ({"subject": ALICE, "tenant": 7}, "the tenant must be exactly a `str`"),
        ({"subject": ALICE, "context": []}, "the context must be a mapping"),
        ({"subject": ALICE, "context": {"a": object()}}, "no attribute value"),
    ],
)
def test_what_cannot_be_part_of_a_request_is_refused_at_once(arguments: dict[str, Any], mend: str) -> None:
    """A scope that could never be asked about is refused where it was written."""
    with pytest.raises(ExtractionError, match=mend):
        acting_as(**arguments)


def test_a_block_is_entered_once() -> None:
    """A scope that has ended is not opened again, and no scope is two blocks."""
    block = acting_as(ALICE)
    with block, pytest.raises(ConfigurationError, match="make a new one for each block"):
        block.__enter__()
    with pytest.raises(ConfigurationError, match="make a new one for each block"):
        block.__enter__()
    assert current_subject() is None


def test_leaving_a_block_that_was_never_entered_closes_it() -> None:
    """An exit without an entry binds nobody, and leaves nothing to enter."""
    block = acting_as(ALICE)
    block.__exit__(None, None, None)
    with pytest.raises(ConfigurationError):
        block.__enter__()


def test_acting_as_is_no_decorator() -> None:
    """A block that decorates would act when it is defined, or not at all."""
    assert not callable(acting_as(ALICE))


def test_leaving_ends_the_scope_in_every_copied_context() -> None:
    """A context that was copied in the block and outlives it acts for nobody."""
    with acting_as(ALICE):
        copied = contextvars.copy_context()
        assert copied.run(current_subject) is ALICE
    assert copied.run(current_subject) is None
    assert copied.run(current_scope) is None


def test_threads_act_for_nobody() -> None:
    """A thread of one's own, or of a pool, does not inherit who acts: nobody, never anonymous."""
    with acting_as(ALICE), ThreadPoolExecutor(1) as pool:
        assert pool.submit(current_subject).result() is None
        assert pool.submit(contextvars.copy_context().run, current_subject).result() is ALICE


def test_a_task_that_outlives_the_block_acts_for_nobody() -> None:
    """A task started in a block acts for its subject until the block is left."""

    async def main() -> list[Subject | None]:
        go, found = asyncio.Event(), []

        async def work() -> None:
            found.append(current_subject())
            await go.wait()
            found.append(current_subject())

        with acting_as(ALICE):
            task = asyncio.create_task(work())
            await asyncio.sleep(0)
        go.set()
        await task
        return found

    assert asyncio.run(main()) == [ALICE, None]


def test_a_block_left_in_another_context_unbinds_there() -> None:
    """Leaving where the block was not entered leaves nobody, and no error hides the one in flight."""
    block = acting_as(ALICE)
    block.__enter__()
    copied = contextvars.copy_context()
    copied.run(block.__exit__, None, None, None)
    assert copied.run(current_frame) is NOBODY
    assert current_subject() is None
    leave_frame(enter_frame(NOBODY))
    contextvars.copy_context().run(leave_frame, enter_frame(NOBODY))


def test_a_block_left_in_a_stranger_s_context_leaves_the_stranger_alone() -> None:
    """Closing somebody else's suspended coroutine, in one's own context, does not make one nobody."""

    async def other() -> None:
        with acting_as(ALICE):
            await asyncio.sleep(0)

    coroutine = other()
    contextvars.copy_context().run(coroutine.send, None)
    with acting_as(BOB):
        coroutine.close()
        assert current_subject() is BOB


def plain_generator() -> Iterator[Subject | None]:
    with acting_as(ALICE):
        yield current_subject()


def through_exit_stack() -> Iterator[Subject | None]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(acting_as(ALICE))
        yield current_subject()


@contextlib.contextmanager
def as_alice() -> Iterator[None]:
    with acting_as(ALICE):
        yield


@contextlib.contextmanager
def stacked() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(as_alice())
        yield


def through_manager() -> Iterator[Subject | None]:
    with stacked():
        yield current_subject()


def delegating() -> Iterator[Subject | None]:
    yield from plain_generator()


@pytest.mark.parametrize("generator", [plain_generator, through_exit_stack, through_manager, delegating])
def test_a_generator_may_not_bind(generator: Callable[[], Iterator[Subject | None]]) -> None:
    """From a suspended generator the subject would leak to whoever iterates, by whatever way it was entered."""
    with pytest.raises(ConfigurationError, match="would leak its subject to whoever iterates it; enter it around"):
        next(generator())
    assert current_subject() is None


@contextlib.asynccontextmanager
async def later_as_alice() -> AsyncIterator[None]:
    with acting_as(ALICE):
        yield


def test_an_async_generator_may_not_bind() -> None:
    """The same holds of asynchronous generators, and of asynchronous context managers entered in one."""

    async def plain() -> AsyncIterator[None]:
        with acting_as(ALICE):
            yield

    async def through() -> AsyncIterator[None]:
        async with later_as_alice():
            yield

    async def main() -> None:
        for generator in (plain(), through()):
            with pytest.raises(ConfigurationError, match="would leak"):
                await generator.__anext__()
        assert current_subject() is None

    asyncio.run(main())


def test_context_managers_may_bind() -> None:
    """A generator that only is a context manager, of either world, binds for its block."""

    async def main() -> None:
        async with later_as_alice():
            assert current_subject() is ALICE
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(later_as_alice())
            assert current_subject() is ALICE
        assert current_subject() is None

    with as_alice():
        assert current_subject() is ALICE
    with stacked():
        assert current_subject() is ALICE
    asyncio.run(main())
    assert current_subject() is None


@pytest.fixture
def acting() -> Iterator[None]:
    with acting_as(ALICE):
        yield


@pytest.mark.usefixtures("acting")
def test_fixtures_may_bind() -> None:
    """A fixture that yields binds for its test."""
    assert current_scope() is not None


def test_a_generator_at_the_bottom_of_a_thread_may_not_bind() -> None:
    """Where nobody is known to drive a generator, it is not trusted; a context manager still is."""
    found: list[object] = []
    done = threading.Event()

    def refused() -> Iterator[None]:
        try:
            with acting_as(ALICE):
                yield
        except ConfigurationError as error:
            found.append(type(error))
        yield

    @contextlib.contextmanager
    def trusted() -> Iterator[None]:
        with acting_as(ALICE):
            found.append(current_subject())
            done.set()
            yield

    # No frame of Python is below these: the interpreter's own thread calls functions written in C.
    manager = trusted()
    _thread.start_new_thread(collections.deque, (map(next, [refused()]),))
    _thread.start_new_thread(manager.__enter__, ())
    assert done.wait(10)
    while len(found) < 2:
        done.wait(0)
    assert set(found) == {ConfigurationError, ALICE}


def frames(*described: tuple[str, int]) -> Any:
    """A stack of frames, the innermost first: the module each is in, and the flags of its code."""
    frame = None
    for module, flags in reversed(described):
        code = SimpleNamespace(co_flags=flags, co_name="gen")
        frame = SimpleNamespace(f_globals={"__name__": module}, f_code=code, f_back=frame)
    return frame


GEN, AGEN, PLAIN = inspect.CO_GENERATOR, inspect.CO_ASYNC_GENERATOR, 0


@pytest.mark.parametrize(
    ("stack", "refused"),
    [
        ([("app", PLAIN)], False),
        ([("app", PLAIN), ("app", GEN)], False),
        ([("app", GEN)], True),
        ([("app", AGEN), ("asyncio.tasks", PLAIN)], True),
        ([("app", GEN), ("contextlib", PLAIN)], False),
        ([("app", GEN), ("contextlib", PLAIN), ("app", PLAIN)], False),
        ([("app", GEN), ("contextlib", PLAIN), ("app", GEN)], True),
        ([("app", GEN), ("contextlib", PLAIN), ("contextlib", PLAIN), ("app", AGEN), ("x", PLAIN)], True),
        (
            [("contextlib", PLAIN), ("app", GEN), ("contextlib", PLAIN), ("app", GEN), ("_pytest.fixtures", PLAIN)],
            False,
        ),
        ([("contextlib", PLAIN)], False),
        ([("contextlib", PLAIN), ("app", GEN), ("app", PLAIN)], True),
        ([("app", GEN), ("pytest_asyncio.plugin", PLAIN)], False),
        ([("app", AGEN), ("anyio.pytest_plugin", PLAIN)], False),
        ([("app", GEN), ("contextlib2", PLAIN)], True),
    ],
)
def test_who_may_enter_from_where(stack: list[tuple[str, int]], refused: bool) -> None:
    """A generator may bind only where what drives it is a context manager's machinery, or a test's."""
    if refused:
        with pytest.raises(ConfigurationError, match="in the generator `gen`"):
            scope._refuse_generators(frames(*stack), "acting_as", "subject")
    else:
        scope._refuse_generators(frames(*stack), "acting_as", "subject")


def test_frames_nest() -> None:
    """A frame is bound for a block of code, and the one before comes back, also after an error."""
    frame = Frame(Scope(ALICE), MAX_NESTING)
    with contextlib.suppress(KeyError), within(frame):
        assert current_frame() is frame
        assert current_subject() is ALICE
        raise KeyError
    assert current_frame() is NOBODY


def test_carrying_takes_who_acts_along() -> None:
    """A carried function acts for whoever `carry` was called for, in an executor and after the block."""
    with acting_as(ALICE, tenant="acme"):
        carried = carry(lambda: current_scope())
    scopes: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        scopes = [pool.submit(carried).result() for _ in range(2)]
    assert [(one.subject, one.tenant) for one in scopes] == [(ALICE, "acme")] * 2
    assert scopes[0] is not scopes[1]
    assert not any(one.is_open for one in scopes)


def test_each_carried_call_has_a_scope_that_ends_with_it() -> None:
    """What a carried call leaves behind acts for nobody."""
    with acting_as(ALICE):
        carried = carry(contextvars.copy_context)
    assert carried().run(current_subject) is None


def test_carrying_nobody_carries_nobody() -> None:
    """Where nobody acted when it was carried, nobody acts when it is called, whoever calls."""
    carried = carry(current_subject)
    with acting_as(ALICE):
        assert carried() is None
        assert current_subject() is ALICE


def test_a_carried_call_unbinds_on_errors() -> None:
    """A carried function that fails leaves who acted before."""
    with acting_as(ALICE):
        carried = carry(lambda: 1 / 0)
    with acting_as(BOB):
        with pytest.raises(ZeroDivisionError):
            carried()
        assert current_subject() is BOB


class Awaited:
    async def __call__(self) -> Subject | None:
        await asyncio.sleep(0)
        return current_subject()


async def awaited(subject: object = None) -> Subject | None:
    await asyncio.sleep(0)
    return current_subject()


@pytest.mark.parametrize("fn", [awaited, Awaited(), functools.partial(awaited, 1)])
def test_coroutine_functions_are_carried_to_their_end(fn: Any) -> None:
    """A carried coroutine function acts for the subject until it returns, whatever kind of callable it is."""
    with acting_as(ALICE):
        carried = carry(fn)
    assert asyncio.run(carried()) is ALICE


class Generating:
    def __call__(self) -> Iterator[int]:
        yield 1


async def agen() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("fn", [plain_generator, agen, Generating(), functools.partial(plain_generator)])
def test_generators_are_not_carried(fn: Any) -> None:
    """A carried generator would leak its subject between its steps."""
    with pytest.raises(ConfigurationError, match="takes a function or coroutine function"):
        carry(fn)


def test_what_is_carried_keeps_its_name_and_no_marks() -> None:
    """The new function looks like the old one, but does not claim to be guarded as it is."""

    def work() -> None:
        """Work."""

    work.__pep_site__ = "a site"  # type: ignore[attr-defined]
    carried = carry(work)
    assert (carried.__name__, carried.__doc__) == ("work", "Work.")
    assert not hasattr(carried, "__pep_site__")


def test_who_is_known_where_no_plan_is_needed_to_know() -> None:
    """A scope knows who asks as cache keys do, while it is open and one subject acts alone."""
    alice = Subject("user", "alice")
    assert Scope(alice).who == alice.key
    assert Scope(alice, tenant="a").who not in {None, alice.key, Scope(alice, tenant="b").who}
    assert Scope(alice, (alice,)).who is None
    assert Scope("alice").who is None
    assert Scope(alice, tenant="\ud800").who is None
    assert Scope(alice, is_open=False).who is None
    scope = Scope(alice)
    scope.close()
    assert scope.who is None
