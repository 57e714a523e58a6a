"""Cut off: interrupts and cancellation at every point leave no permit without its record, and no record unsaid."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from pep import Fault, Outcome, acting_as
from pep.audit import Kind, MemorySink
from pep.errors import ExtractionError
from pep.plain import need
from pep.protocols import Phase
from pep.scope import current_frame
from pep.testing import FakeHandler, drive
from tests.scenes import ALICE, DOCUMENT, PERMIT, Scene, Strong, owing, raising

# --- cut off ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, GeneratorExit])
@pytest.mark.parametrize("where", ["decide", "record", "body", "after"])
def test_what_cuts_a_call_off_propagates(error: type[BaseException], where: str) -> None:
    """An interrupt is never eaten, never a permit, and leaves the record that was pending."""

    def strike(*_anything: Any) -> Any:
        raise error

    class Struck(Strong):
        def record(self, record: Any) -> None:
            if where == "record" and not self.records and not struck:
                struck.append(1)
                raise error
            super().record(record)

    struck: list[int] = []
    scene = Scene(
        "sync",
        strike if where == "decide" else owing(PERMIT, "late"),
        sink=Struck(),
        body=strike if where == "body" else None,
        obligations=[FakeHandler("late", phase=Phase.AFTER, does=strike if where == "after" else lambda seen: seen)],
    )
    with pytest.raises(error):
        scene.edit()
    ran = where in {"body", "after"}
    told = {
        "decide": ["decision"],
        "record": ["outcome cancelled"],
        "body": ["decision", "outcome raised" if error is MemoryError else "outcome cancelled"],
        "after": ["decision", "outcome withheld"],
    }
    assert (scene.ran, scene.kinds) == (["new"] if ran else [], told[where])
    assert scene.last["ran"] is ran if where != "decide" else scene.last["status"] == "cancelled"


def suspension_points() -> list[str]:
    return ["extract", "provide", "decide", "before", "record", "body", "after", "outcome"]


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("point", suspension_points())
def test_cancellation_at_every_suspension_point(point: str, twice: bool) -> None:
    """Cancelled before the record nothing runs; after it the outcome is told; the result is withheld; none is lost."""
    reached: list[str] = []

    async def main() -> tuple[Scene, bool]:
        stop, arrived = asyncio.Event(), asyncio.Event()

        async def at(name: str, value: Any) -> Any:
            reached.append(name)
            if name == point and reached.count(name) == 1:
                arrived.set()
                await stop.wait()
            return value

        class Sink(Strong):
            def record(self, record: Any) -> Any:
                return self._taken(record)

            async def _taken(self, record: Any) -> None:
                await at("record" if record.kind is Kind.DECISION else "outcome", None)
                self.records.append(record)

        scene = Scene(
            "async",
            lambda _request: at("decide", owing(PERMIT, "early", "late")),
            sink=Sink(),
            resource=lambda title: at("extract", DOCUMENT),
            body=lambda title: at("body", title),
            attributes=[Provider(at)],
            obligations=[
                FakeHandler("early", does=lambda seen: at("before", seen)),
                FakeHandler("late", phase=Phase.AFTER, does=lambda seen: at("after", seen)),
            ],
        )
        # The body is awaited by the protected function itself.
        scene._async = scene.enforcer.guard("edit", resource=lambda: at("extract", DOCUMENT))(awaiting(scene, at))
        with acting_as(ALICE):
            task = asyncio.create_task(scene._async())
            await arrived.wait()
            task.cancel()
            if twice:
                await asyncio.sleep(0)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for _turn in range(5):
                await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return scene, "ran" in reached

    scene, ran = asyncio.run(main())
    gc.collect()
    expected = {
        "body": ["decision", "outcome cancelled"],
        "after": ["decision", "outcome withheld"],
        "outcome": ["decision", "outcome withheld"],
        "record": ["outcome cancelled"],
    }
    assert scene.kinds == expected.get(point, ["decision"])
    assert ran is (point in {"body", "after", "outcome"})
    if point not in expected:
        assert scene.last["status"] == "cancelled"


class Provider:
    """An attribute provider that can be stopped."""

    provides = frozenset({"subject.roles"})
    types = None

    def __init__(self, at: Callable[[str, Any], Any]) -> None:
        self._at = at

    def provide(self, _request: Any) -> Any:
        return self._at("provide", {"subject.roles": ["editor"]})


def awaiting(scene: Scene, at: Callable[[str, Any], Any]) -> Any:
    async def edit() -> Any:
        await at("ran", None)
        return await at("body", "new")

    return edit


def test_a_denial_cut_off_while_it_is_recorded_is_recorded_all_the_same() -> None:
    """A denial whose record was under way is submitted again, as it was."""

    async def main() -> Scene:
        started = asyncio.Event()

        class Sink(Strong):
            def record(self, record: Any) -> Any:
                return self._taken(record)

            async def _taken(self, record: Any) -> None:
                if not started.is_set():
                    started.set()
                    await asyncio.Event().wait()
                self.records.append(record)

        scene = Scene("async", False, sink=Sink())
        with acting_as(ALICE):
            task = asyncio.create_task(scene._async())
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
        return scene

    scene = asyncio.run(main())
    assert scene.kinds == ["decision"]
    assert (scene.last["outcome"], scene.last.get("status")) == ("denied", None)


def test_an_interrupt_before_a_permit_is_handed_over_leaves_no_permit() -> None:
    """Cut off while an earlier loss is being told, the permit was never recorded: it is cancelled."""

    class Struck(MemorySink):
        def record(self, record: Any) -> None:
            if record.kind is Kind.GAP and not struck:
                struck.append(1)
                raise KeyboardInterrupt
            super().record(record)

    struck: list[int] = []
    scene = Scene("sync", sink=Struck())
    scene.core.wiring().journal.owe()
    with pytest.raises(KeyboardInterrupt):
        scene.edit()
    assert scene.kinds == ["gap", "decision"]
    assert scene.last["status"] == "cancelled"


def test_a_record_lost_while_being_cut_off_is_owed() -> None:
    """What could not be submitted at the end closes what comes next until it is told."""

    class Struck(Strong):
        def record(self, record: Any) -> None:
            if not struck:
                raise OSError
            super().record(record)

    struck: list[int] = []
    scene = Scene("sync", raising(KeyboardInterrupt()), sink=Struck())
    with pytest.raises(KeyboardInterrupt):
        scene.edit()
    struck.append(1)
    scene._answer = True
    assert scene.edit().told == ("returned", None)
    assert scene.kinds == ["gap", "decision"]


def test_an_enforcement_that_is_done_has_nothing_pending() -> None:
    """Cut off after its last record, nothing is told twice."""
    scene = Scene("sync", False)
    job = scene.core.job([need("application", "edit", DOCUMENT)], {}, current_frame(), "guard")
    drive(job.permit())
    recorded = len(scene.sink.records)
    drive(job.closing(KeyboardInterrupt()))
    assert len(scene.sink.records) == recorded == 1


def test_a_block_that_is_cancelled_is_recorded_without_awaiting() -> None:
    """Its end is submitted before anything else can happen, by way of the loop where it must be."""

    async def main() -> Scene:
        class Sink(Strong):
            def record(self, record: Any) -> Any:
                return self._taken(record)

            async def _taken(self, record: Any) -> None:
                await asyncio.sleep(0)
                self.records.append(record)

        scene, inside = Scene("async", sink=Sink()), asyncio.Event()

        async def work() -> None:
            async with scene.enforcer.enforcing("edit", DOCUMENT):
                inside.set()
                await asyncio.Event().wait()

        with acting_as(ALICE):
            task = asyncio.create_task(work())
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return scene

    assert asyncio.run(main()).kinds == ["decision", "outcome cancelled"]


def test_a_call_halted_before_it_was_taken_is_an_extraction_fault() -> None:
    """Who finds that a call cannot be asked about says so, and it is recorded like any denial."""
    scene, error = Scene("sync"), ExtractionError("cannot be filtered")
    job = scene.core.job([need("application", "edit", DOCUMENT)], {"title": "new"}, current_frame(), "filter_result")
    job.halted(error)
    drive(job.record())
    assert (job.verdict.outcome, job.verdict.fault, job.verdict.cause) == (Outcome.DENIED, Fault.EXTRACTION, error)
    assert (scene.last["outcome"], scene.last["action"], scene.last["cause"]) == ("denied", "edit", "ExtractionError")
    assert job.arguments == {"title": "new"}
