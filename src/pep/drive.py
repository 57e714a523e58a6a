"""
Drivers: all that exists twice. Each sends a plan the replies to its steps.

Imports L0, clocks, scopes, replies and flights only; asyncio where it is used.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from pep.abreast import SideBySide, side_by_side
from pep.errors import PDPError, PDPReplyError
from pep.flying import alaunch, await_landing, launch, wait
from pep.plan import (
    Dispatch,
    Gather,
    Invoke,
    Launch,
    Plan,
    Raised,
    Remaining,
    Reply,
    Returned,
    Send,
    Sleep,
    Step,
    Wait,
    Write,
    awaitable,
    discard,
)
from pep.protocols import Clock
from pep.replies import advance, brought, close, late, sent, settled, within
from pep.scope import NOBODY, Frame, enter_frame, leave_frame
from pep.threads import Threads

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

if TYPE_CHECKING:
    import asyncio

#: The longest time a thread can wait, in seconds.
LONGEST: Final = 1e6

# How often the loop goes round for what was cut short to end in.
_TURNS: Final = 3

T = TypeVar("T")


class Job(Protocol):
    """What a plan belongs to: told when the world went on, and asked for a last record when cut off."""

    suspended: bool

    def closing(self, error: BaseException) -> Plan[None]:
        """Submit the record that is pending, if any."""
        ...


def run(plan: Plan[T], performer: Performer, frame: Frame = NOBODY, job: Job | None = None) -> T:
    """Run a plan to its end on this thread; see `arun` for the other world."""
    token = enter_frame(frame)
    try:
        reply: Any = None
        while True:
            try:
                step = plan.send(reply)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            reply = performer.perform(step)
            if job is not None and reply.suspended:
                job.suspended = True
    except BaseException as error:
        _cut_off(plan, performer, job, error)
        raise
    finally:
        leave_frame(token)


async def arun(plan: Plan[T], performer: APerformer, frame: Frame = NOBODY, job: Job | None = None) -> T:
    """Run a plan to its end in this task; see `run` for the other world."""
    token = enter_frame(frame)
    try:
        reply: Any = None
        while True:
            try:
                step = plan.send(reply)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            reply = await performer.perform(step)
            if job is not None and reply.suspended:
                job.suspended = True
    except BaseException as error:
        _cut_off(plan, performer.closing, job, error)
        raise
    finally:
        leave_frame(token)


def _cut_off(plan: Plan[Any], performer: Performer, job: Job | None, error: BaseException) -> None:
    """Close a plan, and submit its pending record before anything else can happen."""
    try:
        close(plan)
    finally:
        if job is not None:
            run(job.closing(error), performer)


class Performer:
    """
    Performs steps on the calling thread.

    Args:
        clock: What time it is.

        adopt: Takes over an awaitable that nobody here can await; None refuses it.
    """

    def __init__(self, clock: Clock, adopt: Callable[[Awaitable[Any]], None] | None = None) -> None:
        self._clock = clock
        self._adopt = adopt
        self._threads = Threads()

    def perform(self, step: Step) -> Reply:
        """Perform one step; what user code raised comes back as a value."""
        match step:
            case Invoke():
                return self._on_thread(step) if step.threaded else self._invoke(step)
            case Write():
                return self._called(None, step.sink.record, (step.record,), step.deadline)
            case Dispatch():
                return within(step.frame, step.fn, step.args, step.kwargs)
            case Send():
                left = self.left(step.deadline)
                return brought(self._called(None, sent, (step, left, False), step.deadline))
            case Remaining():
                return Returned(self.left(step.deadline))
            case Sleep():
                time.sleep(min(step.seconds, self.left(step.deadline)))
                return Returned(None, suspended=True)
            case Gather():
                return SideBySide(self, step).run()
            case Launch():
                return launch(self, step)
            case Wait():
                return wait(self, step)
            case _:
                assert_never(step)

    def left(self, deadline: float | None) -> float:
        """Return how many seconds are left; none is never negative, no deadline is a very long time."""
        return LONGEST if deadline is None else min(LONGEST, max(0.0, deadline - self._clock.monotonic()))

    def in_time(self, reply: Reply, deadline: float | None) -> Reply:
        """Discard an answer that came too late; an error stands, since it may only close what lateness would open."""
        if isinstance(reply, Raised) or not self.over(deadline):
            return reply
        return Raised(late(), suspended=reply.suspended)

    def over(self, deadline: float | None) -> bool:
        """Tell whether a deadline has passed."""
        return deadline is not None and self._clock.monotonic() > deadline

    def start(self, step: Step, landed: Callable[[Reply], None]) -> None:
        """Perform a step on a thread of its own."""
        plain = step._replace(threaded=False) if isinstance(step, Invoke) else step
        self._threads.start(lambda: self.perform(plain), landed)

    def _invoke(self, step: Invoke) -> Reply:
        return self._called(step.frame, step.fn, step.args, step.deadline)

    def _called(
        self, frame: object | None, fn: Callable[..., Any], args: tuple[Any, ...], deadline: float | None
    ) -> Reply:
        monotonic = self._clock.monotonic
        if deadline is not None and monotonic() > deadline:
            return Raised(late())
        reply = within(frame, fn, args, {})
        if type(reply) is Raised:
            return reply
        if reply.value is not None and awaitable(reply.value):
            return self._unawaitable(reply.value)
        return Raised(late()) if deadline is not None and monotonic() > deadline else reply

    def _unawaitable(self, value: Any) -> Reply:  # noqa: ANN401  any awaitable
        try:
            if self._adopt is not None:
                self._adopt(value)
                return Returned(None)
        except RuntimeError:  # there is no loop any more
            pass
        discard(value)
        return Raised(PDPReplyError("this can only be awaited; call it from async code, through the async half"))

    def _on_thread(self, step: Invoke) -> Reply:
        if self.over(step.deadline):
            return Raised(late())
        from queue import Empty, SimpleQueue  # noqa: PLC0415  loaded only where there are threads

        landed: SimpleQueue[Reply] = SimpleQueue()
        self._threads.start(lambda: self._invoke(step), landed.put)
        try:
            return brought(landed.get(timeout=self.left(step.deadline)))
        except Empty:
            return Raised(late(), suspended=True)


class APerformer:
    """
    Performs steps in the running asyncio task.

    Args:
        clock: What time it is.

        lost: Told when a record that had to be submitted without awaiting it did not arrive.
    """

    def __init__(self, clock: Clock, lost: Callable[[], None] = lambda: None) -> None:
        self._lost = lost
        self._left_behind: set[asyncio.Future[Any]] = set()
        self._threads = Performer(clock)
        #: Performs what must still happen when a task is cut off.
        self.closing = Performer(clock, self._adopt)

    async def perform(self, step: Step) -> Reply:
        """Perform one step; what user code raised comes back as a value."""
        match step:
            case Invoke():
                return await self._invoke(step)
            case Write():
                return await self._called(None, step.sink.record, (step.record,), step.deadline)
            case Dispatch():
                return await self._dispatch(step)
            case Send():
                left = self.closing.left(step.deadline)
                return await self._called(None, sent, (step, left, True), step.deadline)
            case Remaining():
                return Returned(self.closing.left(step.deadline))
            case Sleep():
                return await self._sleep(step)
            case Gather():
                return await side_by_side(self, step)
            case Launch():
                return alaunch(self, step)
            case Wait():
                return await await_landing(self, step)
            case _:
                assert_never(step)

    async def _invoke(self, step: Invoke) -> Reply:
        if not step.threaded:
            return await self._called(step.frame, step.fn, step.args, step.deadline, kept=step.kept)
        return Raised(late()) if self.closing.over(step.deadline) else await self._on_thread(step)

    async def _called(
        self,
        frame: object | None,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        deadline: float | None,
        *,
        kept: bool = False,
    ) -> Reply:
        if self.closing.over(deadline):
            return Raised(late())
        reply = within(frame, fn, args, {})
        if type(reply) is Returned and reply.value is not None and awaitable(reply.value):
            if kept:
                return reply
            reply = await self._awaited(settled(reply.value, frame), deadline)
        return self.closing.in_time(reply, deadline)

    async def _dispatch(self, step: Dispatch) -> Reply:
        reply = within(step.frame, step.fn, step.args, step.kwargs)
        if isinstance(reply, Returned) and awaitable(reply.value):
            return await settled(reply.value, step.frame)
        return reply

    async def _sleep(self, step: Sleep) -> Reply:
        import asyncio  # noqa: PLC0415  loaded only where there is a loop

        await asyncio.sleep(min(step.seconds, self.closing.left(step.deadline)))
        return Returned(None, suspended=True)

    async def _on_thread(self, step: Invoke) -> Reply:
        import asyncio  # noqa: PLC0415  loaded only where there is a loop

        loop = asyncio.get_running_loop()
        landed: asyncio.Future[Reply] = loop.create_future()

        def land(reply: Reply) -> None:
            if not landed.done():
                landed.set_result(reply)

        def hand_over(reply: Reply) -> None:
            try:
                loop.call_soon_threadsafe(land, reply)
            except RuntimeError:  # the loop was closed meanwhile: nobody waits
                return

        self._threads.start(step, hand_over)
        return brought(await self._awaited(landed, step.deadline))

    async def _awaited(self, work: Awaitable[Reply], deadline: float | None) -> Reply:
        """Await work by a deadline; what comes later is discarded, and its exception with it."""
        if deadline is None:
            return await work
        import asyncio  # noqa: PLC0415  loaded only where there is a loop

        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task}, timeout=self.closing.left(deadline))
        except BaseException:
            self.abandon([task])
            raise
        if not task.done():
            await self.cut_short([task])
            return Raised(late(), suspended=True)
        if task.cancelled():
            return Raised(PDPError("the call cancelled itself"), suspended=True)
        return task.result()

    async def to_end(self, plan: Plan[Any], reply: Any = None) -> Reply:  # noqa: ANN401  None starts a plan
        """Run a plan to its end in this task; what it returned or raised comes back as a value."""
        try:
            while True:
                ended, step = advance(plan, reply)
                if step is None:
                    return ended
                reply = await self.perform(step)
        finally:
            close(plan)

    async def cut_short(self, tasks: Sequence[asyncio.Future[Any]]) -> None:
        """Cancel what is late, and let it end; nobody waits for what does not."""
        import asyncio  # noqa: PLC0415  loaded only where there is a loop

        self.abandon(tasks)
        for _turn in range(_TURNS):
            if all(task.done() for task in tasks):
                return
            await asyncio.sleep(0)

    def abandon(self, tasks: Sequence[asyncio.Future[Any]]) -> None:
        """Cancel what nobody waits for any longer."""
        for task in tasks:
            task.cancel()
            self.keep(task)

    def keep(self, task: asyncio.Future[Any]) -> None:
        """Hold on to a task until it ends; the loop does not."""
        self._left_behind.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._left_behind.discard(task)
        # Looked at, so that the loop does not report what nobody is interested in.
        _ = task.cancelled() or task.exception()

    def _adopt(self, value: Awaitable[Any]) -> None:
        import asyncio  # noqa: PLC0415  loaded only where there is a loop

        task = asyncio.get_running_loop().create_task(settled(value, None))
        self._left_behind.add(task)
        task.add_done_callback(self._submitted)

    def _submitted(self, task: asyncio.Future[Reply]) -> None:
        self._left_behind.discard(task)
        if task.cancelled() or task.exception() is not None or isinstance(task.result(), Raised):
            self._lost()
