"""Rigs for fault injection: one entry point under one setup, in every world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from pep import AccessDenied, AccessRequest, Decision, Effect, Enforcer, Guarantee, Profiles, Resource, acting_as
from pep.assemble import assemble
from pep.plan import Plan, call
from pep.testing import FakeClock, FakeProvider, Mishap, Stage, comparable
from tests.property.setups import ALICE, Setup, handlers

SECRET: Final = b"0123456789abcdef"

#: What a part is called by.
METHODS: Final = frozenset({"decide", "decide_many", "record", "provide", "discharge"})

#: The worlds: user code that returns, in a thread and in a loop, and user code that must be awaited.
WORLDS: Final = ("sync", "async", "suspending")


class RigPDP:
    """Answers as the setup says."""

    name = "rig"

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.pure = rig.setup.pure
        self.threaded = rig.setup.threaded

    def decide(self, request: AccessRequest) -> Any:
        self._rig.answered += 1
        return self._rig.setup.answer(self._rig, request)


class RigBatchPDP(RigPDP):
    """The same, for many at once."""

    def decide_many(self, requests: Iterable[AccessRequest]) -> Any:
        return [
            answer if type(answer) is Decision else Decision(Effect.PERMIT if answer else Effect.DENY)
            for answer in map(self.decide, requests)
        ]


class RigSink:
    """Takes everything, at once or as a plan."""

    guarantee = Guarantee.DURABLE

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def record(self, record: Any) -> Any:
        return self._planned(record) if self._rig.setup.plan_sink else None

    def _planned(self, record: Any) -> Plan[None]:
        yield from call(lambda: None)
        self._rig.stage.note("acknowledged", record)


class Suspending:
    """A part whose methods can only be awaited, and let the loop go on."""

    def __init__(self, part: Any) -> None:
        # On the instance: protocols are looked up without `__getattr__` from Python 3.12 on.
        for name in dir(part):
            if not name.startswith("_"):
                value = getattr(part, name)
                setattr(self, name, suspended(value) if name in METHODS else value)


def suspended(method: Callable[..., Any]) -> Callable[..., Any]:
    async def later(*args: Any) -> Any:
        await asyncio.sleep(0)
        return method(*args)

    return later


@attrs.frozen
class Report:
    """What a run came to."""

    result: tuple[Any, ...]
    stage: Stage

    @property
    def records(self) -> list[dict[str, Any]]:
        """What the sink acknowledged, without what varies."""
        return comparable([event.about for event in self.stage.timeline if event.what == "acknowledged"])


class Loop:
    """A loop that outlives whatever is raised through it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda *_: None)

    def run(self, coroutine: Any) -> Any:
        task = self._loop.create_task(coroutine)
        try:
            return self._loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                task.cancel()
                self._settle(task)
            raise
        finally:
            rest = asyncio.all_tasks(self._loop)
            if rest:
                self._settle(asyncio.wait(rest))

    def close(self) -> None:
        self._loop.close()

    def _settle(self, work: Any) -> None:
        async def waited() -> None:
            await asyncio.wait({asyncio.ensure_future(work)})

        self._loop.run_until_complete(waited())


async def _cancelled(call: Callable[[], Any], after: int, again: int | None) -> tuple[Any, ...] | None:
    task = asyncio.ensure_future(call())
    await _turned(after)
    if task.done():
        return None
    task.cancel()
    if again is not None:
        await _turned(again)
        task.cancel()
    try:
        return ("returned", repr(await task))
    except asyncio.CancelledError:
        return ("raised", "CancelledError")
    except AccessDenied as denied:
        return ("denied", type(denied).__name__, denied.outcome, denied.fault, denied.ran)


async def _turned(turns: int) -> None:
    for _turn in range(turns):
        await asyncio.sleep(0)


class Rig:
    """
    One entry point under one setup, in every world.

    Args:
        entry: Makes the entry point: given the rig, returns its sync and its async form.

        setup: What bears on it.
    """

    def __init__(self, entry: Callable[[Rig], tuple[Any, Any]], setup: Setup, loop: Loop) -> None:
        self.setup = setup
        self.enforcer = Enforcer.unbound("rig")
        self.stage = Stage(FakeClock())
        self.answered = 0
        self.primed = False
        self._profiles = Profiles({"document:**": setup.profile, "audit:**": setup.profile})
        self._loop = loop
        self._sync, self._async = entry(self)

    def run(
        self, world: str, at: int | None = None, mishap: Mishap | None = None, *, pdp: Any = None, sink: Any = None
    ) -> Report:
        """Make the call in a world, with one step gone wrong."""
        clock = FakeClock()
        wiring = self._wiring(clock, pdp, sink, suspending=world == "suspending")
        self.answered, self.primed = 0, False
        core = self.enforcer._core
        core._wiring = wiring
        if self.setup.primes:
            self._staged(Stage(clock, lost=wiring.journal.owe))
            self._called(world)
            self.primed = True
        if self.setup.owes:
            wiring.journal.owe()
        self._staged(Stage(clock, at, mishap, lost=wiring.journal.owe))
        return Report(self._called(world), self.stage)

    def run_cancelled(self, after: int, again: int | None = None) -> Report | None:
        """
        Make the call in a task, and cancel it.

        Args:
            after: How many turns of the loop it is given first.

            again: How many more until it is cancelled a second time; None never.

        Returns:
            What it came to; None when it was over before it could be cancelled.
        """
        clock = FakeClock()
        wiring = self._wiring(clock, None, None, suspending=True)
        self.answered, self.primed = 0, False
        self.enforcer._core._wiring = wiring
        self._staged(Stage(clock, lost=wiring.journal.owe))
        with acting_as(ALICE, via=self.setup.via):
            result = self._loop.run(_cancelled(self._async, after, again))
        return None if result is None else Report(result, self.stage)

    def note(self, what: str, about: Any = None) -> None:
        """Note what happened, as protected code."""
        self.stage.note(what, about)

    def revoke(self) -> None:
        """Revoke everything."""
        self.enforcer._core.wiring().generations.revoke_all()

    def resource(self, document_id: str) -> Any:
        """The extractor: one resource, or two."""
        one = Resource("document", document_id)
        return [one, Resource("document", "2")] if self.setup.several else one

    def _staged(self, stage: Stage) -> None:
        core = self.enforcer._core
        self.stage = stage
        core._performers = (core.wiring(), stage.performer, stage.aperformer)

    def _called(self, world: str) -> tuple[Any, ...]:
        try:
            with acting_as(ALICE, via=self.setup.via):
                return ("returned", repr(self._sync() if world == "sync" else self._loop.run(self._async())))
        except AccessDenied as denied:
            return ("denied", type(denied).__name__, denied.outcome, denied.fault, denied.ran)
        except (StopIteration, StopAsyncIteration, RuntimeError):
            return ("raised", "what no coroutine may raise")
        except BaseException as error:  # noqa: BLE001  what is raised is what is compared
            return ("raised", type(error).__name__)

    def _wiring(self, clock: FakeClock, pdp: Any, sink: Any, *, suspending: bool) -> Any:
        setup, core = self.setup, self.enforcer._core
        wrapped: Any = Suspending if suspending else lambda part: part
        asked = pdp or (RigBatchPDP(self) if setup.batches else RigPDP(self))
        kept = sink or RigSink(self)
        return assemble(
            wrapped(asked),
            kept if setup.plan_sink else wrapped(kept),
            core.name,
            core.registries,
            profiles=self._profiles,
            attributes=[wrapped(FakeProvider(values)) for values in setup.providers],
            obligations=[wrapped(handler) for handler in handlers()] if setup.owing else (),
            clock=clock,
            secret=SECRET,
        )
