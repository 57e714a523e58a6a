"""The drivers: two worlds, the same replies, equal deadlines, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from typing_extensions import Self

from pep.drive import APerformer, Performer, arun, run
from pep.errors import PDPError, PDPReplyError
from pep.plan import (
    Dispatch,
    Gather,
    HTTPRequest,
    Invoke,
    Plan,
    Raised,
    Returned,
    Sleep,
    Write,
    attempt,
    call,
    contain,
    gather,
    send,
    unwrap,
)
from pep.scope import Frame, Scope, current_frame
from pep.testing import FakeClock
from tests.scenes import ALICE, WORLDS

worlds: Final = pytest.mark.parametrize("world", WORLDS)

#: A bound on what should happen at once, in seconds.
SOON: Final = 5.0


def once(step: Any) -> Plan[Any]:
    return (yield step)


def drive(world: str, plan: Plan[Any], clock: FakeClock | None = None, frame: Frame | None = None) -> Any:
    """Run a plan in a world, and see that no task is left behind."""
    time = clock or FakeClock()
    inside = frame or Frame()
    if world == "sync":
        return run(plan, Performer(time), inside)

    async def main() -> Any:
        found = await arun(plan, APerformer(time), inside)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return found

    return asyncio.run(main())


def raising(error: BaseException) -> Callable[..., Any]:
    def fn(*_args: object) -> Any:
        raise error

    return fn


# --- replies ------------------------------------------------------------------------------------


@worlds
@pytest.mark.parametrize("threaded", [False, True])
def test_what_is_returned_comes_back(world: str, threaded: bool) -> None:
    """A value crosses as a value; only what waited says that the world went on."""
    reply = drive(world, once(Invoke(lambda one: one + 1, (1,), threaded=threaded)))
    assert (reply.value, reply.suspended) == (2, threaded)


@worlds
@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize(
    "error", [StopIteration(3), StopAsyncIteration(), ValueError("no"), TimeoutError(), EOFError()]
)
def test_what_is_raised_comes_back_as_a_value(world: str, threaded: bool, error: Exception) -> None:
    """No exception of user code ends a plan, a user's `StopIteration` least of all."""
    reply = drive(world, once(Invoke(raising(error), threaded=threaded, deadline=2000.0)))
    assert type(reply) is Raised
    assert reply.error is error


@worlds
@pytest.mark.parametrize("threaded", [False, True])
def test_memory_that_ran_out_propagates(world: str, threaded: bool) -> None:
    """Running out of memory is nobody's answer, wherever it happened."""
    with pytest.raises(MemoryError):
        drive(world, once(Invoke(raising(MemoryError()), threaded=threaded, deadline=2000.0)))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_propagate(error: type[BaseException]) -> None:
    """Whatever is no `Exception` goes through."""
    with pytest.raises(error):
        drive("sync", once(Invoke(raising(error()))))


@worlds
def test_a_thread_that_is_ended_is_an_error(world: str) -> None:
    """What would end only a thread is an answer that failed."""
    reply = drive(world, once(Invoke(raising(SystemExit()), threaded=True)))
    assert isinstance(reply.error, PDPError)


def test_an_awaitable_is_awaited_in_one_world_and_refused_in_the_other() -> None:
    """What can only be awaited is closed where nobody can, and never warned about."""

    async def answer() -> int:
        await asyncio.sleep(0)
        return 7

    assert drive("async", once(Invoke(answer, deadline=2000.0))) == Returned(7, suspended=True)
    assert drive("async", once(Invoke(answer))) == Returned(7, suspended=True)
    for threaded in (False, True):
        refused = drive("sync", once(Invoke(answer, threaded=threaded)))
        assert isinstance(refused.error, PDPReplyError)
    assert isinstance(drive("async", once(Invoke(answer, threaded=True))).error, PDPReplyError)
    gc.collect()


def test_what_an_awaitable_raises_comes_back_as_a_value() -> None:
    """The same for what is raised while awaiting; memory apart."""

    async def failing(error: BaseException) -> None:
        await asyncio.sleep(0)
        raise error

    error = ValueError()
    for deadline in (None, 2000.0):
        assert drive("async", once(Invoke(failing, (error,), deadline))).error is error
        with pytest.raises(MemoryError):
            drive("async", once(Invoke(failing, (MemoryError(),), deadline)))


def test_an_awaitable_that_cancels_itself_has_failed() -> None:
    """A cancellation nobody asked for is an error of who raised it, not of the call."""

    async def cancelled() -> None:
        raise asyncio.CancelledError

    assert isinstance(drive("async", once(Invoke(cancelled, deadline=2000.0))).error, PDPError)


@worlds
def test_a_record_goes_to_its_sink(world: str) -> None:
    """A write is a call of the sink's method."""
    sink = Sink("at once")
    assert drive(world, once(Write(sink, "record", 2000.0))).value is None
    assert sink.taken == ["record"]


@worlds
def test_code_is_dispatched_in_the_caller_s_frame(world: str) -> None:
    """Protected code acts for whom it was called; everything else for nobody; afterwards all is as before."""
    frame = Frame(Scope(ALICE), 2)
    before = current_frame()

    def plan() -> Plan[Any]:
        ran = yield Dispatch(lambda one, *, two: (current_frame(), one, two), (1,), {"two": 2}, frame)
        asked = yield Invoke(current_frame)
        return ran.value, asked.value

    outer = Frame(depth=1)
    assert drive(world, plan(), frame=outer) == ((frame, 1, 2), outer)
    assert current_frame() is before


def test_protected_code_may_be_awaited() -> None:
    """A coroutine is awaited in the caller's frame, and its error comes back."""
    frame = Frame(Scope(ALICE), 2)

    async def code(error: Exception | None = None) -> Any:
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return current_frame()

    assert drive("async", once(Dispatch(code, (), {}, frame))).value is frame
    error = KeyError()
    assert drive("async", once(Dispatch(code, (error,), {}, frame))).error is error


@worlds
def test_sleep_ends_by_its_deadline(world: str) -> None:
    """Nobody sleeps past a deadline."""
    assert drive(world, once(Sleep(60.0, deadline=1000.0))) == Returned(None, suspended=True)
    assert drive(world, once(Sleep(0.0))).suspended


@worlds
def test_no_plan_may_yield_what_is_no_step(world: str) -> None:
    """A driver performs steps, and nothing else."""
    with pytest.raises(AssertionError):
        drive(world, once("no step"))


# --- deadlines ----------------------------------------------------------------------------------------


@worlds
def test_a_late_answer_is_discarded(world: str) -> None:
    """What comes after the deadline is a timeout, whatever it is."""
    clock = FakeClock()
    reply = drive(world, once(Invoke(clock.advance, (2,), deadline=1001.0)), clock)
    assert isinstance(reply.error, TimeoutError)


def test_a_late_awaited_answer_is_discarded() -> None:
    """The same, where it was awaited; the clock is the one that was given."""
    clock = FakeClock()

    async def slow() -> bool:
        clock.advance(2)
        return True

    assert isinstance(drive("async", once(Invoke(slow, deadline=1001.0)), clock).error, TimeoutError)


@worlds
def test_a_late_error_stands(world: str) -> None:
    """A fault that is known never becomes one that might be excused."""
    clock = FakeClock()

    def late(_request: object) -> None:
        clock.advance(2)
        raise PDPError

    assert type(drive(world, once(Invoke(late, (1,), deadline=1001.0)), clock).error) is PDPError


@worlds
@pytest.mark.parametrize("threaded", [False, True])
def test_nothing_is_called_after_its_deadline(world: str, threaded: bool) -> None:
    """What has no time left is not begun."""
    called: list[int] = []
    clock = FakeClock()
    clock.advance(5)
    reply = drive(world, once(Invoke(called.append, (1,), deadline=1001.0, threaded=threaded)), clock)
    assert isinstance(reply.error, TimeoutError)
    assert called == []


@worlds
def test_what_is_threaded_is_cut_short(world: str) -> None:
    """A deadline does not wait for a callable that is off the caller's thread."""
    gate, ended = threading.Event(), threading.Event()

    def stuck() -> None:
        gate.wait(SOON)
        ended.set()

    try:
        reply = drive(world, once(Invoke(stuck, deadline=1000.01, threaded=True)))
        assert isinstance(reply.error, TimeoutError)
        assert reply.suspended
    finally:
        gate.set()
    assert ended.wait(SOON)


def test_what_is_awaited_is_cut_short() -> None:
    """A coroutine is cancelled at the deadline, and has ended when its answer is given up."""
    ended: list[str] = []

    async def stuck() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    reply = drive("async", once(Invoke(stuck, deadline=1000.01)))
    assert isinstance(reply.error, TimeoutError)
    assert ended == ["cancelled"]


def test_what_resists_its_end_is_not_waited_for() -> None:
    """A coroutine that suppresses its cancellation delays nobody, and what it raises later is no news."""

    async def main() -> Any:
        gate = asyncio.Event()

        async def stubborn() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await gate.wait()
                raise MemoryError from None

        performer = APerformer(FakeClock())
        reply = await arun(once(Invoke(stubborn, deadline=1000.01)), performer)
        assert len(performer._left_behind) == 1
        gate.set()
        for _turn in range(3):
            await asyncio.sleep(0)
        assert performer._left_behind == set()
        return reply

    assert isinstance(asyncio.run(main()).error, TimeoutError)
    gc.collect()


def test_an_answer_from_a_thread_after_its_loop_is_gone() -> None:
    """A thread that outlives the loop that asked it ends in silence."""
    gate, seen = threading.Event(), []

    def stuck() -> None:
        gate.wait(SOON)

    hooked = threading.excepthook
    threading.excepthook = seen.append
    try:
        drive("async", once(Invoke(stuck, deadline=1000.01, threaded=True)))
        gate.set()
        for thread in workers():
            thread.join(SOON)
    finally:
        threading.excepthook = hooked
    assert seen == []


def test_an_answer_from_a_thread_after_its_deadline_is_dropped() -> None:
    """A loop that goes on does not care for it."""
    gate, ended = threading.Event(), threading.Event()

    async def main() -> Any:
        try:
            return await arun(once(Invoke(gate.wait, (SOON,), deadline=1000.01, threaded=True)), performer)
        finally:
            performer._threads.start(Invoke(gate.wait, (SOON,)), lambda _reply: ended.set())
            gate.set()
            await asyncio.to_thread(ended.wait, SOON)
            for thread in workers():
                await asyncio.to_thread(thread.join, SOON)
            await asyncio.sleep(0)

    performer = APerformer(FakeClock())
    assert isinstance(asyncio.run(main()).error, TimeoutError)


def workers() -> list[threading.Thread]:
    """The threads that calls run on."""
    return [thread for thread in threading.enumerate() if thread.daemon and thread.name.endswith("(_run)")]


# --- side by side --------------------------------------------------------------------------------------


@worlds
def test_replies_are_in_the_order_of_the_plans(world: str) -> None:
    """Arrival order never matters."""
    first, second = threading.Event(), threading.Event()

    def one() -> str:
        first.wait(SOON)
        second.set()
        return "one"

    def two() -> str:
        first.set()
        second.wait(SOON)
        return "two"

    def plan() -> Plan[Any]:
        return (
            yield from gather(attempt(one, threaded=True), attempt(two, threaded=True), attempt(raising(KeyError())))
        )

    replies = drive(world, plan())
    assert [reply.value.value for reply in replies[:2]] == ["one", "two"]
    assert isinstance(replies[2].value.error, KeyError)


@worlds
def test_plans_may_sleep_and_nest_side_by_side(world: str) -> None:
    """A plan among others is a whole plan."""

    def sleeper(value: int) -> Plan[int]:
        yield Sleep(0.0)
        inner = yield from gather(attempt(lambda: value), attempt(lambda: value + 1))
        return sum(unwrap(unwrap(reply)) for reply in inner)

    def plan() -> Plan[Any]:
        return (yield from gather(sleeper(1), sleeper(2)))

    assert [reply.value for reply in drive(world, plan())] == [3, 5]


@worlds
def test_nothing_side_by_side_is_nothing(world: str) -> None:
    """No plans, no replies."""
    assert drive(world, once(Gather(()))).value == ()


@worlds
def test_a_plan_that_raises_or_yields_no_step_is_an_error_among_others(world: str) -> None:
    """One bad plan is its own reply, and its neighbours go on."""

    def careless() -> Iterator[Any]:
        yield "no step"

    def failing() -> Plan[Any]:
        yield Sleep(0.0)
        raise KeyError

    replies = drive(world, once(Gather((careless(), failing(), attempt(lambda: 1))))).value  # type: ignore[arg-type]
    assert [type(getattr(reply, "error", None)) for reply in replies] == [PDPReplyError, KeyError, type(None)]


@worlds
def test_the_deadline_cuts_all_of_them_short(world: str) -> None:
    """What has not ended by then is late, and its plan is closed; what has ended counts."""
    gate, closed = threading.Event(), []

    def stuck() -> Plan[Any]:
        try:
            yield Invoke(gate.wait, (SOON,), threaded=True)
        finally:
            closed.append(1)

    try:
        replies = drive(world, once(Gather((stuck(), attempt(lambda: 1), stuck()), 1000.01))).value
    finally:
        gate.set()
    assert [isinstance(getattr(reply, "error", None), TimeoutError) for reply in replies] == [True, False, True]
    assert closed == [1, 1]


@worlds
def test_each_step_of_a_plan_side_by_side_is_bound_by_the_deadline(world: str) -> None:
    """A step without a deadline of its own inherits the common one, in both worlds."""
    clock, called = FakeClock(), []

    def slow() -> Plan[Any]:
        yield Invoke(clock.advance, (2,))
        return (yield Invoke(called.append, (1,)))

    reply = drive(world, once(Gather((slow(), attempt(called.append, 2)), 1001.0)), clock).value
    assert isinstance(reply[0].value.error, TimeoutError)
    assert called == []


@worlds
def test_the_first_value_ends_them_all(world: str) -> None:
    """What still runs is closed and late; what failed before, in either way, has ended nothing."""
    gate, closed = threading.Event(), []

    def stuck() -> Plan[Any]:
        try:
            yield Invoke(gate.wait, (SOON,), threaded=True)
        finally:
            closed.append(1)

    def soon() -> Plan[int]:
        yield Sleep(0.001)
        yield Sleep(0.0)
        return 7

    plans = stuck(), attempt(raising(KeyError())), attempt(raising(KeyError()), threaded=True), soon(), stuck()
    try:
        replies = drive(world, gather(*plans, deadline=2000.0, first=True))
    finally:
        gate.set()
    assert [type(getattr(reply, "error", None)) for reply in replies] == [
        TimeoutError,
        type(None),
        type(None),
        type(None),
        TimeoutError,
    ]
    assert [type(reply.value.error) for reply in replies[1:3]] == [KeyError, KeyError]
    assert replies[3].value == 7
    assert closed == [1, 1]


@worlds
def test_what_has_not_begun_when_one_has_won_never_does(world: str) -> None:
    """A value that is there at once leaves nothing to the others, not even a first step."""
    begun: list[int] = []
    replies = drive(world, gather(attempt(lambda: 1), attempt(begun.append, 2), first=True))
    assert replies[0].value.value == 1
    assert isinstance(replies[1].error, TimeoutError)
    assert begun == []


@worlds
def test_a_race_that_nobody_wins_ends_with_its_last_or_at_its_deadline(world: str) -> None:
    """Without a value, everybody is waited for, as far as there is time."""
    gate = threading.Event()

    def failing() -> Plan[Any]:
        yield Sleep(0.001)
        raise KeyError

    lost = drive(world, gather(failing(), attempt(raising(ValueError())), failing(), first=True))
    assert isinstance(lost[1].value.error, ValueError)
    assert [type(reply.error) for reply in (lost[0], lost[2])] == [KeyError, KeyError]
    try:
        stuck = call(gate.wait, SOON, threaded=True)
        late = drive(world, gather(stuck, attempt(raising(ValueError())), deadline=1000.01, first=True))
    finally:
        gate.set()
    assert isinstance(late[0].error, TimeoutError)


@worlds
def test_a_step_side_by_side_is_cut_at_its_own_deadline(world: str) -> None:
    """What has less time than all of them is late by then, and its plan goes on while the others run."""
    gate, closed = threading.Event(), []

    def hurried() -> Plan[Any]:
        try:
            late = yield Invoke(gate.wait, (SOON,), deadline=1000.01, threaded=True)
            # The others are still waiting.
            gate.set()
            return late
        finally:
            closed.append(1)

    replies = drive(world, once(Gather((hurried(), attempt(gate.wait, SOON, threaded=True)), 1000.0 + SOON))).value
    assert isinstance(replies[0].value.error, TimeoutError)
    assert replies[0].value.suspended
    assert replies[1].value.value is True
    assert closed == [1]


@worlds
def test_what_comes_after_its_own_deadline_is_nobody_s_reply(world: str) -> None:
    """A step that was given up brings nothing to a later step of its plan."""
    gate, given_up = threading.Event(), threading.Event()

    def slow() -> str:
        gate.wait(SOON)
        return "too late"

    def asked() -> str:
        gate.set()
        given_up.wait(0.05)
        return "in time"

    def plan() -> Plan[Any]:
        late = yield Invoke(slow, (), deadline=1000.01, threaded=True)
        return late, (yield Invoke(asked, (), threaded=True))

    (reply,) = drive(world, once(Gather((plan(),), 1000.0 + SOON))).value
    late, came = reply.value
    assert isinstance(late.error, TimeoutError)
    assert came.value == "in time"


@worlds
def test_a_request_side_by_side_is_cut_at_its_own_deadline(world: str) -> None:
    """A transport that does not keep time is late, and nobody waits for it."""
    gate = threading.Event()

    class Stuck:
        def send(self, _request: HTTPRequest, /, *, timeout: float, awaiting: bool) -> Any:
            assert 0 < timeout < SOON
            return asyncio.Event().wait() if awaiting else gate.wait(SOON)

    request = HTTPRequest("GET", "https://pdp.example.com/")
    plans = contain(send(Stuck(), request), 1000.01), attempt(lambda: 1)
    try:
        replies = drive(world, once(Gather(plans, 1000.0 + SOON))).value
    finally:
        gate.set()
    assert isinstance(replies[0].value.error, TimeoutError)
    assert replies[1].value.value == 1


@worlds
def test_plans_within_plans_run_side_by_side_too(world: str) -> None:
    """However deep they are nested, all of them wait at once."""
    barrier = threading.Barrier(5)

    def meet() -> Plan[Any]:
        return (yield from call(barrier.wait, SOON, threaded=True))

    def both() -> Plan[Any]:
        inner = yield from gather(meet(), meet())
        return sum(unwrap(one) for one in inner)

    def deep() -> Plan[Any]:
        (inner,) = yield from gather(both())
        return unwrap(inner)

    replies = drive(world, gather(both(), deep(), meet(), deadline=1000.0 + SOON))
    assert sum(unwrap(one) for one in replies) == 0 + 1 + 2 + 3 + 4


@worlds
def test_plans_within_plans_end_with_those_around_them(world: str) -> None:
    """What is cut short is closed from the inside out, whether by a deadline or by who came first."""
    gate, closed = threading.Event(), []

    def stuck(name: str) -> Plan[Any]:
        try:
            yield Invoke(gate.wait, (SOON,), threaded=True)
        finally:
            closed.append(name)

    def around(name: str) -> Plan[Any]:
        try:
            return (yield from gather(stuck(name + "1"), stuck(name + "2")))
        finally:
            closed.append(name)

    def soon() -> Plan[int]:
        yield Sleep(0.001)
        return 7

    def cut_short(step: Gather) -> Plan[Any]:
        reply = yield step
        # In tasks, the inner ones end a turn of the loop later.
        yield Sleep(0.0)
        yield Sleep(0.0)
        return reply

    try:
        for cut in (Gather((around("a"), soon()), 1000.0 + SOON, first=True), Gather((around("a"),), 1000.01)):
            closed.clear()
            replies = drive(world, cut_short(cut)).value
            assert isinstance(replies[0].error, TimeoutError)
            assert sorted(closed) == ["a", "a1", "a2"]
    finally:
        gate.set()


@worlds
def test_plans_within_plans_have_a_deadline_of_their_own(world: str) -> None:
    """Who gathers with less time goes on with what came by then, while the plans around it run."""
    gate = threading.Event()

    def hurried() -> Plan[Any]:
        inner = yield from gather(attempt(gate.wait, SOON, threaded=True), attempt(lambda: 1), deadline=1000.01)
        gate.set()
        return inner

    replies = drive(world, gather(hurried(), attempt(gate.wait, SOON, threaded=True), deadline=1000.0 + SOON))
    late, came = unwrap(replies[0])
    assert isinstance(late.error, TimeoutError)
    assert came.value.value == 1
    assert unwrap(replies[1]).value is True


@worlds
def test_a_race_within_a_race_is_its_own(world: str) -> None:
    """Who is first in one ends that one alone."""
    gate = threading.Event()

    def inner() -> Plan[Any]:
        found = yield from gather(attempt(lambda: 1), attempt(gate.wait, SOON, threaded=True), first=True)
        yield Sleep(0.0)
        return unwrap(unwrap(found[0]))

    def other() -> Plan[Any]:
        return (yield from call(gate.wait, SOON, threaded=True))

    try:
        replies = drive(world, gather(inner(), other(), deadline=1000.0 + SOON, first=True))
    finally:
        gate.set()
    assert unwrap(replies[0]) == 1
    assert isinstance(replies[1].error, TimeoutError)


@worlds
@pytest.mark.parametrize("threaded", [False, True])
def test_memory_that_ran_out_in_one_of_them_propagates(world: str, threaded: bool) -> None:
    """It is nobody's reply."""
    with pytest.raises(MemoryError):
        drive(world, once(Gather((attempt(lambda: 1), attempt(raising(MemoryError()), threaded=threaded)))))
    gc.collect()


def test_a_plan_that_cancels_itself_is_an_error_among_others() -> None:
    """A cancellation nobody asked for does not pass for a timeout."""

    async def cancelled() -> None:
        raise asyncio.CancelledError

    at_once = raising(asyncio.CancelledError())
    replies = drive("async", once(Gather((attempt(cancelled), attempt(at_once))))).value
    assert isinstance(replies[0].value.error, PDPError)
    assert isinstance(replies[1].error, PDPError)


def test_plans_that_are_interrupted_are_closed() -> None:
    """An interrupt leaves no plan open."""
    closed: list[int] = []

    def waiting() -> Plan[Any]:
        try:
            yield Invoke(threading.Event().wait, (0.01,), threaded=True)
        finally:
            closed.append(1)

    with pytest.raises(KeyboardInterrupt):
        drive("sync", once(Gather((waiting(), attempt(raising(KeyboardInterrupt()))))))
    assert closed == [1]


def test_plans_that_are_cancelled_leave_no_task_behind() -> None:
    """Cancelled while plans run side by side, twice even, everything ends and nothing is reported."""

    async def main() -> None:
        async def stuck() -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(
            arun(once(Gather((attempt(stuck), attempt(stuck, deadline=2000.0)))), APerformer(FakeClock()))
        )
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _turn in range(3):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    reported: list[Any] = []
    with asyncio.Runner() if hasattr(asyncio, "Runner") else Fallback() as runner:
        runner.get_loop().set_exception_handler(lambda _loop, told: reported.append(told))
        runner.run(main())
    gc.collect()
    assert reported == []


class Fallback:
    """What stands in for `asyncio.Runner` where there is none."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._loop.close()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)


# --- cut off ---------------------------------------------------------------------------------------------


class Job:
    """A job whose last record is a list entry, or an awaitable."""

    def __init__(self, sink: Any) -> None:
        self.suspended = False
        self.sink = sink
        self.errors: list[BaseException] = []

    def closing(self, error: BaseException) -> Plan[None]:
        self.errors.append(error)
        yield Write(self.sink, "last", 2000.0)


class Sink:
    """Takes a record at once, later, or never."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.taken: list[Any] = []

    def record(self, record: Any) -> Any:
        if self.mode == "at once":
            self.taken.append(record)
            return None
        return self._later(record)

    async def _later(self, record: Any) -> None:
        await asyncio.sleep(0)
        if self.mode == "fails":
            raise OSError
        if self.mode == "hangs":
            await asyncio.Event().wait()
        self.taken.append(record)


def stubborn() -> Plan[Any]:
    """A plan that yields while it closes."""
    try:
        yield Invoke(raising(KeyboardInterrupt()))
    finally:
        yield Sleep(1.0)


@pytest.mark.parametrize(
    "plan", [lambda: once(Invoke(raising(KeyboardInterrupt()))), stubborn], ids=["plain", "stubborn"]
)
def test_a_run_that_is_cut_off_submits_its_last_record(plan: Callable[[], Plan[Any]]) -> None:
    """Whether or not the plan closes as it should, the pending record is submitted, and the interrupt goes on."""
    sink = Sink("at once")
    job = Job(sink)
    with pytest.raises(KeyboardInterrupt):
        run(plan(), Performer(FakeClock()), job=job)
    assert (sink.taken, len(job.errors)) == (["last"], 1)


@pytest.mark.parametrize(("mode", "lost"), [("at once", 0), ("later", 0), ("fails", 1), ("hangs", 1)])
def test_a_cancelled_run_submits_its_last_record_without_awaiting(mode: str, lost: int) -> None:
    """What must be awaited is adopted by the loop; what does not arrive is reported as lost."""
    sink, missing = Sink(mode), []

    async def main() -> None:
        performer = APerformer(FakeClock(), lambda: missing.append(1))
        task = asyncio.create_task(arun(once(Invoke(asyncio.Event().wait)), performer, job=Job(sink)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert task.done()
        for _turn in range(3):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert (sink.taken, len(missing)) == ([] if lost else ["last"], lost)


def test_a_coroutine_closed_without_a_loop_loses_its_record_loudly() -> None:
    """Where no loop can adopt it, an awaitable is closed, and its record counted as lost."""
    replies: list[Any] = []

    class Watching(Job):
        def closing(self, error: BaseException) -> Plan[None]:
            replies.append((yield Write(self.sink, "last", 2000.0)))

    class Parked:
        def __await__(self) -> Iterator[None]:
            yield

    work = arun(once(Invoke(Parked)), APerformer(FakeClock()), job=Watching(Sink("later")))
    work.send(None)
    work.close()
    assert isinstance(replies[0].error, PDPReplyError)
    gc.collect()


@worlds
def test_a_job_is_told_when_the_world_went_on(world: str) -> None:
    """What suspended may have changed: the plan's job is told so."""
    for threaded in (False, True):
        job = Job(Sink("at once"))
        step = Invoke(lambda: 1, threaded=threaded)
        if world == "sync":
            run(once(step), Performer(FakeClock()), job=job)
        else:
            asyncio.run(arun(once(step), APerformer(FakeClock()), job=job))
        assert job.suspended is threaded


def test_who_acts_is_as_before_after_every_end() -> None:
    """However a run ends, the frame of the code around it is restored."""

    async def main() -> None:
        before = current_frame()
        performer = APerformer(FakeClock())
        with pytest.raises(MemoryError):
            await arun(once(Invoke(raising(MemoryError()))), performer, Frame(depth=3))
        assert current_frame() is before
        inner = asyncio.current_task()
        assert inner is not None
        asyncio.get_running_loop().call_soon(inner.cancel)
        with pytest.raises(asyncio.CancelledError):
            await arun(once(Invoke(asyncio.Event().wait)), performer, Frame(depth=3))
        assert current_frame() is before

    asyncio.run(main())


def test_a_deadline_far_away_is_waited_for_no_longer_than_a_thread_can() -> None:
    """An endless deadline is a very long time, and none is the same."""
    performer = Performer(FakeClock())
    assert performer.left(None) == performer.left(float("inf")) == 1e6
    assert performer.left(1000.5) == 0.5
    assert performer.left(1.0) == 0.0
