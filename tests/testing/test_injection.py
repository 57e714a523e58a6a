"""A fault is injected at one step, in either world, and nowhere else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pep import AccessDenied, Enforcer, Fault, Resource, Subject, acting_as
from pep.audit import MemorySink
from pep.clock import SystemClock
from pep.errors import ConfigurationError, PDPTimeout
from pep.plan import Dispatch, Gather, Invoke, Plan, Raised, Returned, Sleep, Write, call, gather, sleep
from pep.testing import LATE, MISHAPS, FakeClock, Mishap, Stage, adrive, drive, inject
from pep.testing.mishaps import CUT_OFF, HANGING, answering, hanging, raising

ALICE = Subject("user", "alice")
DOCUMENT = Resource("document", "1")
DOWN = raising(PDPTimeout)


def add(one: int, two: int) -> Plan[int]:
    """Call, wait and call."""
    first = yield from call(lambda: one)
    yield from sleep(60)
    return first + (yield from call(lambda: two))


def both(plan: Any, **options: Any) -> list[Any]:
    """What a plan comes to in either world, with a fault injected."""
    found = []
    for drives in (drive, lambda *args, **kwargs: asyncio.run(adrive(*args, **kwargs))):
        try:
            found.append(drives(plan(), **options))
        except BaseException as error:  # noqa: BLE001  what is raised is what is compared
            found.append(type(error))
    return found


def test_any_plan_is_driven_in_both_worlds() -> None:
    """With nothing going wrong, a plan returns what it returns, and nobody sleeps."""
    assert both(lambda: add(1, 2)) == [3, 3]


def test_a_fault_hits_one_step() -> None:
    """An exception is raised in the plan where its step was; beyond the last step there is none."""
    found = [both(lambda: add(1, 2), at=at, mishap=raising(ValueError)) for at in range(4)]
    # The second step sleeps: what calls no user code cannot raise.
    assert found == [[ValueError] * 2, [3, 3], [ValueError] * 2, [3, 3]]


def test_an_answer_is_replaced() -> None:
    """What a step answers may be anything."""
    assert both(lambda: add(1, 2), at=2, mishap=answering("40", lambda: 40)) == [41, 41]


@pytest.mark.parametrize("mishap", CUT_OFF, ids=str)
def test_a_plan_is_cut_off(mishap: Mishap) -> None:
    """What ends a call ends it at any step, a sleeping one too."""
    kind = both(lambda: add(1, 2), at=0, mishap=mishap)[0]
    assert issubclass(kind, BaseException)
    assert both(lambda: add(1, 2), at=1, mishap=mishap) == [kind, kind]


def test_the_clock_moves_instead_of_sleeping() -> None:
    """Time passes as the plan meant it to, and what hangs moves it past every deadline."""
    clock = FakeClock()
    start = clock.monotonic()
    drive(add(1, 2), clock=clock)
    assert clock.monotonic() == start + 60
    drive(add(1, 2), at=0, mishap=hanging(), clock=clock)
    assert clock.monotonic() == start + 120 + HANGING


def test_a_sleep_ends_at_its_deadline() -> None:
    """A step that would sleep past its deadline sleeps until then."""
    clock = FakeClock()
    stage = Stage(clock)
    assert stage.performer.perform(Sleep(60, clock.monotonic() + 5)) == Returned(None, suspended=True)
    assert clock.monotonic() == 1005


def test_a_late_mishap_happens_after_the_step() -> None:
    """The step is performed, and its answer is lost."""
    done: list[int] = []
    assert both(lambda: call(done.append, 1), at=0, mishap=DOWN) == [PDPTimeout, PDPTimeout]
    assert done == []
    assert both(lambda: call(done.append, 1), at=0, mishap=DOWN.after()) == [PDPTimeout, PDPTimeout]
    assert done == [1, 1]
    assert str(DOWN.after()) == "raises PDPTimeout, late"


def test_steps_within_a_gather_are_counted() -> None:
    """Every step of plans side by side has an index of its own."""

    def abreast() -> Plan[Any]:
        return (yield from gather(call(lambda: 1), call(lambda: 2)))

    for found in both(abreast, at=2, mishap=DOWN):
        assert found[0] == Returned(1)
        assert isinstance(found[1], Raised)
        assert isinstance(found[1].error, PDPTimeout)


def test_what_a_mishap_strikes() -> None:
    """Only what calls user code can raise or answer; everything can be cut off."""
    code = [Invoke(print), Write(None, None), Dispatch(print, (), {})]
    rest = [Sleep(1), Gather(())]
    assert [DOWN.strikes(step) for step in (*code, *rest)] == [True] * 3 + [False] * 2
    assert all(CUT_OFF[0].strikes(step) for step in (*code, *rest))


def test_mishaps_are_all_different() -> None:
    """Each has a name of its own to be reported by."""
    names = [str(mishap) for mishap in (*MISHAPS, *LATE)]
    assert len(set(names)) == len(names)


def test_a_clock_that_cannot_be_moved_is_refused() -> None:
    """What goes wrong may hang, and nobody waits for it."""
    stage = Stage(SystemClock(), 0, DOWN)
    with pytest.raises(TypeError, match="FakeClock"):
        stage.performer.perform(Invoke(print))


def guarded(clock: Any = None) -> tuple[Enforcer, MemorySink, list[str]]:
    """An enforcer that permits, its sink, and what happened."""
    sink, happened = MemorySink(), []  # type: ignore[var-annotated]
    enforcer = Enforcer(lambda _request: True, audit=sink, **({"clock": clock} if clock else {}))

    def edit() -> None:
        happened.append("ran")

    enforcer.edit = enforcer.guard("edit", resource=DOCUMENT)(edit)  # type: ignore[attr-defined]
    return enforcer, sink, happened


def test_a_dry_run_counts_the_steps() -> None:
    """Without a mishap, the stage tells which steps there are."""
    enforcer, _, happened = guarded()
    with inject(enforcer) as stage, acting_as(ALICE):
        enforcer.edit()  # type: ignore[attr-defined]
    assert [type(step) for step in stage.steps] == [Invoke, Write, Dispatch]
    assert [event.what for event in stage.timeline] == ["acknowledged"]
    assert not stage.struck
    assert happened == ["ran"]


@pytest.mark.parametrize(("at", "fault"), [(0, Fault.TIMEOUT), (1, Fault.AUDIT)])
def test_a_fault_in_an_enforcer(at: int, fault: Fault) -> None:
    """The decision point or the sink fails, and only within the block."""
    enforcer, _, happened = guarded(FakeClock())
    with inject(enforcer, at=at, mishap=DOWN) as stage, acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        enforcer.edit()  # type: ignore[attr-defined]
    assert (stage.struck, caught.value.fault, happened) == (True, fault, [])
    with acting_as(ALICE):
        enforcer.edit()  # type: ignore[attr-defined]
    assert happened == ["ran"]


@pytest.mark.parametrize("make", [lambda: Enforcer.unbound("library"), lambda: _closed()])
def test_nothing_can_be_injected_into_what_enforces_nothing(make: Any) -> None:
    """An unbound or closed enforcer performs no steps."""
    with pytest.raises(ConfigurationError, match="bind it first"), inject(make()):
        pytest.fail("entered")


def _closed() -> Enforcer:
    enforcer, _, _ = guarded()
    enforcer.close()
    return enforcer


def test_a_record_left_to_the_loop_is_acknowledged_there() -> None:
    """What nobody awaits is noted once it has arrived; what fails is lost."""
    lost: list[int] = []
    stage = Stage(FakeClock(), lost=lambda: lost.append(1))

    class Sink:
        def __init__(self, error: Exception | None) -> None:
            self.error = error

        async def record(self, _record: object) -> None:
            if self.error is not None:
                raise self.error

    async def left() -> list[int]:
        counts = []
        for error in (None, OSError()):
            stage.aperformer.closing.perform(Write(Sink(error), "record"))
            counts.append(len(stage.timeline))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            counts.append(len(stage.timeline))
        return counts

    assert asyncio.run(left()) == [0, 1, 1, 1]
    assert lost == [1]


def test_nothing_is_left_to_a_loop_that_is_over() -> None:
    """Outside every loop, what can only be awaited is refused, and closed."""

    async def record(_record: object) -> None: ...

    class Sink:
        pass

    sink: Any = Sink()
    sink.record = record
    stage = Stage(FakeClock())
    assert isinstance(stage.aperformer.closing.perform(Write(sink, "record")), Raised)
    assert isinstance(stage.performer.perform(Write(sink, "record")), Raised)
    assert stage.timeline == []


def test_a_plan_that_asks_is_no_acknowledgement() -> None:
    """A sink that answers with a plan has acknowledged nothing before the plan is through."""

    class Sink:
        def record(self, _record: object) -> Plan[None]:
            yield from call(lambda: None)

    stage = Stage(FakeClock())
    stage.performer.perform(Write(Sink(), "record"))
    assert stage.timeline == []
