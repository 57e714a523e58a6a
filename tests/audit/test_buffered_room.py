from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pep.audit.backlog import NOTE, PER_BYTE, Overflow, may_be_dropped
from pep.audit.buffered import BufferedSink
from pep.audit.record import Kind, Record
from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.errors import AuditError
from pep.plan import Invoke, Raised, Returned, Sleep, attempt
from pep.testing import FakeClock
from pep.testing.performing import Stage
from tests.audit.buffers import (
    SHAPE,
    SOON,
    Keeping,
    Ticking,
    balanced,
    denial,
    gaps,
    names,
    record,
    stuck,
    until,
)

pytestmark = pytest.mark.usefixtures("measured")


# When there is no room.


@pytest.mark.parametrize(
    ("kind", "outcome", "gives_way"),
    [
        (Kind.DECISION, "permitted", False),
        (Kind.DECISION, "failed_open", False),
        (Kind.DECISION, "shadowed", False),
        (Kind.DECISION, "denied", True),
        (Kind.DECISION, "confirmation_required", True),
        (Kind.DECISION, "step_up_required", True),
        (Kind.DECISION, "rate_limited", True),
        (Kind.DECISION, "unavailable", True),
        (Kind.DECISION, None, True),
        (Kind.CHECK, "permitted", True),
        (Kind.CHECK, "denied", True),
        *[(kind, None, False) for kind in Kind if kind not in (Kind.DECISION, Kind.CHECK)],
    ],
)
def test_only_denials_and_checks_give_way(kind: Kind, outcome: str | None, gives_way: bool) -> None:
    """What tells of code that runs or ran, or of the enforcer itself, is never dropped."""
    assert may_be_dropped(record(outcome=outcome, kind=kind)) is gives_way


@pytest.mark.parametrize(
    ("overflow", "held", "comes", "left", "dropped"),
    [
        ("drop-oldest", [denial(1), denial(2)], denial(3), [2, 3], {"decision denied": 1}),
        ("drop-oldest", [denial(1), denial(2)], record(3), [2, 3], {"decision denied": 1}),
        ("drop-oldest", [record(1), denial(2)], denial(3), [1, 3], {"decision denied": 1}),
        ("drop-oldest", [record(1), record(2)], denial(3), [1, 2], {"decision denied": 1}),
        ("drop-newest", [denial(1), denial(2)], denial(3), [1, 2], {"decision denied": 1}),
        ("drop-newest", [denial(1), denial(2)], record(3), [1, 3], {"decision denied": 1}),
        ("drop-newest", [record(1), record(2)], denial(3), [1, 2], {"decision denied": 1}),
        ("drop-newest", [record(1), record(2, kind=Kind.CHECK)], record(3), [1, 3], {"check permitted": 1}),
    ],
)
def test_what_gives_way(
    overflow: str, held: list[Record], comes: Record, left: list[int], dropped: dict[str, int]
) -> None:
    """By policy, the oldest or the newest denial or check is dropped: for its like, and for a permit."""
    with stuck(entries=3, overflow=overflow) as (sink, inner):
        for each in held:
            assert sink.record(each) is None
        assert sink.record(comes) is None
        assert sink.stats() == {
            "submitted": 4, "durable": 0, "buffered": 3, "dropped": 1, "rejected": 0, "errors": 0
        }  # fmt: skip
    assert [name for name in names(inner) if name != "gap"] == ["first", *left]
    assert gaps(inner) == [{"lost": 1, "dropped": dropped}]


@pytest.mark.parametrize("overflow", list(Overflow))
def test_a_permit_waits_for_room_and_is_refused_at_the_deadline(overflow: Overflow) -> None:
    """In both worlds: a permit that finds nothing to give way is refused when its time is up, and counted."""
    with stuck(entries=2, overflow=overflow) as (sink, inner):
        sink.record(record(2))
        stage = Stage(FakeClock())
        plan = attempt(sink.record, record(3), deadline=stage.clock.monotonic() + 1)
        reply = run(plan, stage.performer)
        assert isinstance(reply, Raised)
        assert type(reply.error) is AuditError
        clock = Ticking()
        plan = attempt(sink.record, record(4), deadline=clock.monotonic() + 0.5)
        reply = asyncio.run(arun(plan, APerformer(clock)))
        assert isinstance(reply, Raised)
        assert str(reply.error) == "there was no room in the audit buffer by the deadline"
        plan = attempt(sink.record, record(5), deadline=clock.monotonic() + 0.5)
        assert isinstance(run(plan, Performer(clock)), Raised)
        assert sink.stats()["rejected"] == 3
        assert sink.stats()["buffered"] == 2
    assert names(inner) == ["first", 2, "gap"]
    assert gaps(inner) == [{"rejected": {"decision permitted": 3}}]


def test_where_nothing_gives_way_denials_wait_too() -> None:
    """With `wait`, a denial is refused at the deadline, and its caller told."""
    with stuck(entries=1) as (sink, inner):
        clock = Ticking()
        plan = attempt(sink.record, denial(2), deadline=clock.monotonic() + 0.5)
        assert isinstance(run(plan, Performer(clock)), Raised)
    assert gaps(inner) == [{"rejected": {"decision denied": 1}}]


def test_who_waits_goes_on_when_there_is_room() -> None:
    """A record that waits is written once the other sink takes one again."""
    with stuck(entries=1) as (sink, inner):
        plan = sink.record(record(2))
        assert plan is not None
        assert isinstance(next(plan), Sleep)
        assert isinstance(plan.send(Returned(None)), Invoke)
        assert isinstance(plan.send(Returned(None)), Sleep), "there is no room yet"
        inner.let()
        until(lambda: sink.stats()["durable"] == 1)
        plan.send(Returned(None))
        with pytest.raises(StopIteration):
            plan.send(Returned(None))
    assert names(inner) == ["first", 2]


def test_who_finds_room_need_not_wake_who_is_awake() -> None:
    """A drainer that is at work sees what was added."""
    sink = BufferedSink(Keeping(), entries=1)
    sink._drainer._turn.pop()
    sink.record(record(1))
    plan = sink.record(record(2))
    assert plan is not None
    next(plan)
    sink._drainer.pump()
    plan.send(Returned(None))
    with pytest.raises(StopIteration):
        plan.send(Returned(None))
    assert not sink._drainer.asleep
    sink._drainer._turn.append(None)
    sink.close()
    assert names(sink.sink) == [1, 2]


def test_what_comes_as_the_drainer_falls_asleep_is_seen() -> None:
    """Between its last look and saying that it sleeps, a record may have come: it looks again."""
    sink = BufferedSink(Keeping(), linger=0)
    drainer, backlog = sink._drainer, sink._backlog
    drainer._turn.pop()
    pump = drainer.pump

    def pumped() -> None:
        pump()
        if not backlog.stats()["submitted"]:
            backlog.push((SHAPE, 1))

    drainer.pump = pumped  # type: ignore[method-assign]
    assert drainer.rounds() is False
    assert names(sink.sink) == [1]
    assert drainer.asleep
    drainer._turn.append(None)
    sink.close()


def test_who_gives_up_waiting_is_counted() -> None:
    """A call that is cancelled while it waits has submitted what was rejected."""
    with stuck(entries=1) as (sink, _inner):
        plan = sink.record(record(2))
        assert plan is not None
        next(plan)
        plan.close()
        assert sink.stats()["rejected"] == 1
        assert balanced(sink.stats())


def test_nobody_waits_for_ever() -> None:
    """Without a deadline, waiting ends after a minute."""
    with stuck(entries=1) as (sink, _inner):
        stage = Stage(FakeClock())
        before = stage.clock.monotonic()
        reply = run(attempt(sink.record, record(2)), stage.performer)
        assert isinstance(reply, Raised)
        assert 60 <= stage.clock.monotonic() - before < 61


def test_waiting_does_not_block_the_loop() -> None:
    """In asyncio, other tasks go on while a record waits for room; one of them makes it."""
    with stuck(entries=1) as (sink, inner):

        async def main() -> Any:
            plan = attempt(sink.record, record(2), deadline=SystemClock().monotonic() + SOON)
            waiting = asyncio.ensure_future(arun(plan, APerformer(SystemClock())))
            await asyncio.sleep(0)
            assert not waiting.done()
            inner.let()
            return await waiting

        assert asyncio.run(main()) == Returned(None)
    assert names(inner) == ["first", 2]


def test_the_hot_path_never_waits() -> None:
    """A note that finds no room is refused at once, and counted; a denial gives way to it."""
    with stuck(entries=2, overflow="drop-newest") as (sink, inner):
        sink.record(denial(2))
        sink.take((SHAPE, 3))
        with pytest.raises(AuditError, match="no room in the audit buffer"):
            sink.take((SHAPE, 4))
        assert sink.stats()["dropped"] == sink.stats()["rejected"] == 1
    assert names(inner) == ["first", "gap", 3], "where it was"
    assert gaps(inner) == [{"lost": 1, "dropped": {"decision denied": 1}, "rejected": {"decision permitted": 1}}]


def test_bytes_are_bounded_too() -> None:
    """Records are weighed by their JSON; what is greater than the whole buffer is refused at once."""
    weight = NOTE + PER_BYTE * len(record("first").to_json())
    with stuck(bytes=2 * weight + NOTE) as (sink, _inner):
        assert sink.record(record("again")) is None
        assert sink.record(record("third")) is not None
        sink.take((SHAPE, 1))
        with pytest.raises(AuditError):
            sink.take((SHAPE, 2))
        with pytest.raises(AuditError, match="greater than the whole audit buffer; raise its `bytes`"):
            sink.record(record("x" * 1000))
        assert sink.stats()["buffered"] == 3
        assert sink.stats()["rejected"] == 2


def test_a_buffer_that_was_emptied_has_all_its_room_again() -> None:
    """What was written, dropped or given up weighs nothing any more."""
    weight = NOTE + PER_BYTE * len(denial("1").to_json())
    with stuck(bytes=3 * weight + 100, overflow="drop-oldest") as (sink, inner):
        for at in "23456":
            assert sink.record(denial(at)) is None
        inner.let(3)
        for _ in range(3):
            inner.asked.get(timeout=SOON)
        inner.let(1000)
    assert [name for name in names(inner) if name != "gap"] == ["first", "5", "6"]
    assert sink._backlog._extra == 0
