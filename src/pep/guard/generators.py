"""
Guarded generators and asynchronous generators.

A generator is decided when it is called, an asynchronous one before its first step; both compare
generations at every step, are decided again as their profile says, and end in one record.
Imports sites, wrappers and the plan.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from types import FunctionType
from typing import Any

import attrs

from pep.audit.noting import Note
from pep.collecting import COLLECTOR, aside
from pep.enforcement import Enforcement, Stage, denial
from pep.errors import ConfigurationError
from pep.fault import Fault
from pep.generations import Generations
from pep.guard.calls import offered, rebinder, started
from pep.guard.closures import NOTHING, Closed
from pep.guard.hot import Hot
from pep.guard.lookup import lookup_of
from pep.guard.site import Site
from pep.guard.socket import Socket
from pep.guard.wrap import compiled, rename, wrap
from pep.plan import Plan, unwrap
from pep.scope import Frame, current_frame, enter_frame, hot_frame, leave_frame

_NOT_STARTED = "can't send non-None value to a just-started generator"


def guard_generator(site: Site) -> Any:  # noqa: ANN401  the function's own kind
    """Guard a generator function."""
    core = site.core

    def slow(args: tuple[Any, ...], kwargs: dict[str, Any], frame: Frame, given: Any = NOTHING, tries: int = 2) -> Any:  # noqa: ANN401  a generator
        job, rebind = started(site, args, kwargs, frame, given, tries)
        if not core.run(job, job.permit()).allowed:
            return unwrap(core.run(job, job.denied(site.on_denied)))
        offered(site, job)
        positional, keywords = rebind(job.effective)
        steps = rename(_stepped(Walk(site, job, job.effective), site.fn(*positional, **keywords)), site)
        # Primed up to its first bare yield: being dropped unstarted is then seen, and recorded.
        next(steps)
        return steps

    def again(args: tuple[Any, ...], kwargs: dict[str, Any], frame: Frame, given: Any) -> Any:  # noqa: ANN401  a generator
        return slow(args, kwargs, frame, given, tries=1)

    lookup = lookup_of(site)
    if lookup is None:
        return wrap(site, lambda args, kwargs: slow(args, kwargs, hot_frame()))
    site.socket = Socket(site)
    walked = named(walk, site)
    if (made := compiled(site, lookup, slow, again, walk=walked, next=next)) is not None:
        return made
    closed = Closed(site, lookup)
    site.socket.rebind = closed.rebind

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401  a generator
        frame = hot_frame()
        noted, given = closed.find(frame, args, kwargs)
        if noted is None:
            return slow(args, kwargs, frame, given)
        if noted.withheld:
            return again(args, kwargs, frame, given)
        hot, note = noted.hot, noted.note
        steps = walked(hot, note, note[3].epoch, hot.wiring.generations, frame, site.fn(*args, **kwargs))
        next(steps)
        return steps

    return wrap(site, begin)


def guard_async_generator(site: Site) -> Any:  # noqa: ANN401  the function's own kind
    """
    Guard an asynchronous generator function.

    Raises:
        ConfigurationError: When the guard takes `on_denied`: there is nothing to return instead.
    """
    core = site.core
    if site.on_denied is not None:
        message = f"`{site.name}` is an asynchronous generator, which cannot return another result; drop `on_denied`"
        raise ConfigurationError(message)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401  an asynchronous generator
        bound, frame = site.bind(args, kwargs), current_frame()

        async def permitted() -> tuple[Walk, AsyncGenerator[Any, Any]]:
            job = core.job(site.needs, bound.arguments, frame, "guard")
            if not (await core.arun(job, job.permit())).allowed:
                raise denial(job.verdict)
            positional, keywords = rebinder(bound, args, kwargs)(job.effective)
            return Walk(site, job, job.effective), site.fn(*positional, **keywords)

        return rename(_astepped(permitted), site)

    return wrap(site, begin)


@attrs.define(eq=False, repr=False)
class Walk:
    """
    One permitted generator, step by step.

    Args:
        site: What is guarded.

        job: The enforcement it runs under now.

        effective: The arguments it runs with.
    """

    site: Site
    job: Enforcement
    effective: Mapping[str, Any]

    def due(self) -> Enforcement | None:
        """
        Begin another enforcement where it is time to decide again.

        Raises:
            AccessDenied: Where the permit was revoked.
        """
        job = self.job
        if not job.holds():
            job.refuse(Fault.REVOKED, ran=True)
            raise denial(job.verdict)
        intervals = [profile.revalidate for profile in job.profiles() if profile.revalidate is not None]
        if not intervals or job.wiring.clock.monotonic() < job.timing.started + min(intervals):
            return None
        again = self.site.core.job(self.site.needs, job.arguments, job.frame, "revalidate", ran=True)
        again.deciding.inherit(job.deciding)
        return again

    def renewed(self, job: Enforcement) -> None:
        """
        Go on under another decision.

        Raises:
            AccessDenied: When it denies, or demands other arguments than those it runs with.
        """
        if not job.verdict.allowed:
            self.job.refuse(job.verdict.fault or Fault.REVOKED, ran=True)
            raise denial(job.verdict)
        self.job, job.stage = job, Stage.RUNNING
        if not _same(job.effective, self.effective):
            job.refuse(Fault.OBLIGATION, ran=True)
            raise denial(job.verdict)

    def ending(self, error: BaseException, *, started: bool) -> Plan[None]:
        """Record how it ended; once."""
        job = self.job
        if job.stage is Stage.DONE:
            return
        if not job.verdict.allowed:
            status = "withheld"
        elif not started and isinstance(error, GeneratorExit):
            status = "abandoned"
        else:
            status = "raised" if isinstance(error, Exception) else "cancelled"
        yield from job.finish(status, ran=started, error=error if status == "raised" else None)


def walk(  # noqa: C901, PLR0917  a call of a function costs as much as a step
    hot: Hot, note: Note, epoch: int, generations: Generations, frame: Frame, inner: Generator[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    """Step through a generator that was permitted on the hot path: no obligations, nothing to decide again."""
    is_begun, _pep_running, sent, thrown = False, None, None, None
    # Its code is as deep as the call that made it, wherever it is stepped through.
    called = frame.exact() if frame.active else frame
    try:
        if (yield) is not None:
            raise TypeError(_NOT_STARTED)  # noqa: TRY301  as the generator itself would
        is_begun = True
        if generations.epoch != epoch:
            epoch = hot.still(note)
        if hot_frame() is called and not called.active and hot.returns_nothing:
            # What is only iterated over is iterated over, which costs no exception at its end.
            _pep_running = frame
            frame.active += 1
            for item in inner:
                frame.active -= 1
                _pep_running = None
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001  whatever is thrown in goes on in
                    thrown = error
                    break
                if generations.epoch != epoch:
                    epoch = hot.still(note)
                if sent is not None or hot_frame() is not frame or frame.active:
                    break
                _pep_running = frame
                frame.active += 1
            else:
                frame.active -= 1
                return None
        return (yield from _sent(hot, note, generations, called.inner(), inner, sent, thrown))
    except BaseException as error:
        if _pep_running is not None:
            frame.active -= 1
        # Recorded before its own cleanup, which may raise.
        aside(hot.dropped, note, error, started=is_begun)
        aside(framed, called.inner(), inner.close)
        raise


def _sent(  # noqa: PLR0917  everything that a walk has
    hot: Hot,
    note: Note,
    generations: Generations,
    frame: Frame,
    inner: Generator[Any, Any, Any],
    sent: Any,  # noqa: ANN401  any item
    thrown: BaseException | None,
) -> Generator[Any, Any, Any]:
    """Go on with a walk, with whatever is sent or thrown in; return what the generator returns."""
    epoch = note[3].epoch
    while True:
        if generations.epoch != epoch:
            epoch = hot.still(note)
        step = functools.partial(inner.send, sent) if thrown is None else functools.partial(inner.throw, thrown)
        try:
            item = framed(frame, step)
        except StopIteration as stop:
            return stop.value
        thrown = None
        try:
            sent = yield item
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  whatever is thrown in goes on in
            thrown = error


def named(fn: Any, site: Site) -> Any:  # noqa: ANN401  a generator function
    """Return a copy of a function that calls what it makes as the guarded function is called."""
    made = FunctionType(fn.__code__, fn.__globals__, getattr(site.fn, "__name__", "guarded"))
    made.__qualname__ = site.name
    return made


def _stepped(walk: Walk, inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    core, started, result = walk.site.core, False, None
    try:
        if (yield) is not None:
            raise TypeError(_NOT_STARTED)  # noqa: TRY301  as the generator itself would
        started, walk.job.stage = True, Stage.RUNNING
        step = functools.partial(inner.send, None)
        while True:
            again = walk.due()
            if again is not None:
                core.run(again, again.permit())
                walk.renewed(again)
            try:
                item = framed(walk.job.inner, step)
            except StopIteration as stop:
                result = stop.value
                break
            if walk.job.owes_release:
                item = _let_out(walk.job, core.run(walk.job, walk.job.released(item)))
            try:
                step = functools.partial(inner.send, (yield item))
            except GeneratorExit:
                raise
            except BaseException as thrown:  # noqa: BLE001  whatever is thrown in goes on in
                step = functools.partial(inner.throw, thrown)
    except BaseException as error:
        # Recorded before its own cleanup, which may raise.
        aside(core.run, walk.job, walk.ending(error, started=started))
        aside(framed, walk.job.inner, inner.close)
        raise
    return unwrap(core.run(walk.job, walk.job.release(result)))


async def _astepped(
    permitted: Callable[[], Awaitable[tuple[Walk, AsyncGenerator[Any, Any]]]],
) -> AsyncGenerator[Any, Any]:
    walk, inner = await permitted()
    core, walk.job.stage = walk.site.core, Stage.RUNNING
    try:
        step: Callable[[], Awaitable[Any]] = functools.partial(begun, inner)
        while True:
            again = walk.due()
            if again is not None:
                await core.arun(again, again.permit())
                walk.renewed(again)
            try:
                item = await aframed(walk.job.inner, step)
            except StopAsyncIteration:
                break
            if walk.job.owes_release:
                item = _let_out(walk.job, await core.arun(walk.job, walk.job.released(item)))
            try:
                step = functools.partial(inner.asend, (yield item))
            except GeneratorExit:
                raise
            except BaseException as thrown:  # noqa: BLE001  whatever is thrown in goes on in
                step = functools.partial(inner.athrow, thrown)
    except BaseException as error:
        # Recorded before anything is awaited: a second cancellation finds it done.
        aside(core.run_closing, walk.job, walk.ending(error, started=True))
        # The collector waits for nothing: what it closes closes in its own frame.
        await (inner.aclose() if COLLECTOR.at_work else aframed(walk.job.inner, inner.aclose))
        raise
    unwrap(await core.arun(walk.job, walk.job.release(None)))


def framed(frame: Frame, step: Callable[[], Any]) -> Any:  # noqa: ANN401  any item
    """Take one step of a generator in the frame it was called in, not its consumer's."""
    token = enter_frame(frame)
    try:
        return step()
    finally:
        leave_frame(token)


async def aframed(frame: Frame, step: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401  any item
    """Take one step of an asynchronous generator; see `framed`."""
    token = enter_frame(frame)
    try:
        return await step()
    finally:
        leave_frame(token)


def begun(inner: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """
    Begin the first step of an asynchronous generator, unknown to the event loop.

    Its guard closes it. The loop, which knows the guard, would otherwise close both side by side.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return inner.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _let_out(job: Enforcement, released: tuple[Any, ...]) -> Any:  # noqa: ANN401  any item
    if not released:
        raise denial(job.verdict)
    return released[0]


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(one[name] is other[name] or one[name] == other[name] for name in one)
