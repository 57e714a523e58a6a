from __future__ import annotations

import _thread
import asyncio
import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from pep import AccessDenied, Enforcer, Fault, Profile, Resource, Subject
from pep.audit import buffered as buffered_module
from pep.audit.backlog import NOTE, PER_BYTE, Backlog, Overflow, may_be_dropped
from pep.audit.buffered import BufferedSink
from pep.audit.drainer import TRIES, drained
from pep.audit.record import Kind, Record, masked, new_id
from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.errors import AuditError, ConfigurationError
from pep.plan import Invoke, Raised, Returned, Sleep, attempt
from pep.policy import PolicySet, permit
from pep.profile import Guarantee
from pep.protocols import Sink
from pep.testing import FakeClock, check_sink
from pep.testing.performing import Stage
from tests.proving import times

SOURCE = Path(__file__).resolve().parent.parent.parent / "src"
#: How long a test waits for what has to come, in seconds.
SOON = 20.0
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def record(name: object = 0, outcome: str | None = "permitted", kind: Kind = Kind.DECISION, **fields: Any) -> Record:
    return Record(kind, new_id(1.0), 1.0, masked({"name": name, "outcome": outcome, **fields}))


def denial(name: object = 0) -> Record:
    return record(name, "denied")


class Shape:
    """What a note of the hot path says how to read."""

    def record(self, note: tuple[Any, ...]) -> Record:
        return record(note[1])

    def json(self, note: tuple[Any, ...]) -> bytes:
        return self.record(note).to_json()


SHAPE = Shape()


class Keeping:
    """A plain sink, which takes no notes."""

    guarantee = Guarantee.BUFFERED

    def __init__(self) -> None:
        self.records: list[Record] = []

    def record(self, record: Record) -> Any:
        self.records.append(record)

    def of(self, kind: Kind) -> list[Record]:
        return [each for each in self.records if each.kind is kind]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.records)} records>"


class Gated(Keeping):
    """Takes a record when it is let to; says when it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: SimpleQueue[Record] = SimpleQueue()
        self._let: SimpleQueue[Exception | None] = SimpleQueue()

    def record(self, record: Record) -> None:
        self.asked.put(record)
        error = self._let.get(timeout=SOON)
        if error is not None:
            raise error
        super().record(record)

    def let(self, times: int = 1, error: Exception | None = None) -> None:
        for _ in range(times):
            self._let.put(error)


class Watched(Keeping):
    """Tells when it has as many records as are waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._came = threading.Condition()

    def record(self, record: Record) -> None:
        with self._came:
            super().record(record)
            self._came.notify_all()

    def wait_for(self, count: int) -> None:
        with self._came:
            assert self._came.wait_for(lambda: len(self.records) >= count, SOON)


class Ticking(FakeClock):
    """A clock that goes on by a fiftieth of a second whenever it is looked at."""

    def monotonic(self) -> float:
        self.advance(0.02)
        return super().monotonic()


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    deadline, moment = time.monotonic() + SOON, threading.Event()
    while not holds():
        assert time.monotonic() < deadline
        moment.wait(0.0005)


def names(sink: Keeping) -> list[Any]:
    return [each["kind"] if each.kind is Kind.GAP else each["name"] for each in sink.records]


def gaps(sink: Keeping) -> list[dict[str, Any]]:
    told = ("lost", "dropped", "rejected")
    return [{name: gap.get(name) for name in told if gap.get(name)} for gap in sink.of(Kind.GAP)]


def balanced(counts: dict[str, int]) -> bool:
    parts = ("durable", "buffered", "dropped", "rejected")
    return counts["submitted"] == sum(counts[part] for part in parts) and min(counts.values()) >= 0


@contextmanager
def stuck(**options: Any) -> Iterator[tuple[BufferedSink, Gated]]:
    """A sink with one record on its way to another one that does not take it yet."""
    inner = Gated()
    sink = BufferedSink(inner, linger=0, pause=0, **options)
    sink.record(record("first"))
    assert inner.asked.get(timeout=SOON)["name"] == "first"
    yield sink, inner
    inner.let(1000)
    sink.close()


@pytest.fixture
def unmeasured() -> None:
    """For a test that needs the threads that a drainer really starts."""


@pytest.fixture(autouse=True)
def measured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the thread of a drainer seen by what measures coverage."""
    if "unmeasured" not in request.fixturenames:

        def start(fn: Callable[..., object], args: tuple[Any, ...]) -> None:
            threading.Thread(target=fn, args=args, daemon=True).start()

        monkeypatch.setattr(_thread, "start_new_thread", start)


# What it takes, in which order.


def test_what_it_took_reaches_the_other_sink_in_order() -> None:
    """Notes and records, permits and denials: all are written, in the order they came."""
    inner = Keeping()
    sink = BufferedSink(inner)
    for at in range(300):
        if at % 3:
            sink.record(denial(at) if at % 2 else record(at))
        else:
            sink.take((SHAPE, at))
    sink.close()
    assert names(inner) == list(range(300))
    assert sink.stats() == {"submitted": 300, "durable": 300, "buffered": 0, "dropped": 0, "rejected": 0, "errors": 0}


def test_it_promises_what_a_buffer_can() -> None:
    """What is in memory survives a clean exit only, whatever the other sink gives."""
    inner = Keeping()
    inner.guarantee = Guarantee.DURABLE
    sink = BufferedSink(inner)
    assert isinstance(sink, Sink)
    assert sink.guarantee is Guarantee.BUFFERED
    assert repr(sink) == "BufferedSink(<Keeping of 0 records>)"
    sink.close()


class NoProof:
    """A sink that states no guarantee."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def record(self, record: Record) -> None:
        self.records.append(record)


def test_buffering_makes_no_proof_of_what_is_none() -> None:
    """A sink that states no guarantee, since it leaves records out, has none behind a buffer either."""
    sink = BufferedSink(NoProof())
    assert not hasattr(sink, "guarantee")
    with pytest.raises(ConfigurationError, match="`guarantee`"):
        Enforcer(PolicySet([]), audit=sink)
    sink.record(record())
    sink.close()
    assert len(sink.sink.records) == 1


def test_it_conforms() -> None:
    """It keeps what it acknowledged, in both worlds and from many threads; a closed one refuses."""

    def read(sink: BufferedSink) -> list[bytes]:
        sink.sink.wait_for(sink.stats()["durable"] + sink.stats()["buffered"])
        return [each.to_json() for each in sink.sink.records]

    made: list[BufferedSink] = []

    def make() -> BufferedSink:
        made.append(BufferedSink(Watched()))
        return made[-1]

    check_sink(make, read=read)
    for sink in made:
        sink.close()


def test_a_note_goes_on_as_a_note_where_it_can() -> None:
    """A sink that takes notes is handed them as they are."""

    class Noting(Keeping):
        def __init__(self) -> None:
            super().__init__()
            self.notes: list[Any] = []

        def take(self, note: Any) -> None:
            self.notes.append(note)

    inner = Noting()
    sink = BufferedSink(inner)
    sink.take((SHAPE, 1))
    sink.close()
    assert inner.notes == [(SHAPE, 1)]


def test_it_starts_no_thread_before_there_is_something_to_write() -> None:
    """A server may fork after it has been made."""
    before = _thread._count()
    sink = BufferedSink(Keeping())
    assert _thread._count() == before
    sink.close()


def test_an_idle_sink_that_nobody_has_goes() -> None:
    """Its thread keeps it alive only while there is something to write."""
    inner = Watched()
    sink = BufferedSink(inner, linger=0)
    sink.record(record())
    inner.wait_for(1)
    gone = weakref.ref(sink._drainer)
    turn = sink._drainer._turn
    del sink
    until(lambda: gc.collect(0) >= 0 and gone() is None and bool(turn))


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


# When the other sink fails.


def test_what_is_refused_is_tried_again() -> None:
    """A record that the other sink refuses once or twice is written all the same."""
    with stuck() as (sink, inner):
        inner.let(TRIES - 1, OSError())
        inner.let(1)
        for _ in range(TRIES - 1):
            assert inner.asked.get(timeout=SOON)["name"] == "first"
    assert names(inner) == ["first"]
    assert sink.stats()["errors"] == TRIES - 1
    assert sink.stats()["dropped"] == 0


def test_in_an_outage_one_record_is_lost_and_the_rest_wait() -> None:
    """After a record was given up, nothing is tried but to tell of it; then everything goes on."""
    with stuck() as (sink, inner):
        for at in range(5):
            sink.record(record(at))
        inner.let(TRIES, OSError())
        for _ in range(TRIES - 1):
            assert inner.asked.get(timeout=SOON)["name"] == "first"
        asked = [inner.asked.get(timeout=SOON)]
        for _ in range(10):
            inner.let(1, OSError())
            asked.append(inner.asked.get(timeout=SOON))
        assert {each.kind for each in asked} == {Kind.GAP}
        assert len({each.id for each in asked}) == 1, "it is one and the same, however often it is tried"
        assert sink.stats()["dropped"] == 1
        assert sink.stats()["buffered"] == 5
    assert names(inner) == ["gap", *range(5)]
    assert gaps(inner) == [{"lost": 1, "dropped": {"decision permitted": 1}}]


def test_a_note_that_is_refused_is_told_of() -> None:
    """What the hot path took is counted like any other record."""
    with stuck() as (sink, inner):
        sink.take((SHAPE, 1))
        sink.record(record(2, "no outcome of ours", Kind.OUTCOME))
        inner.let(1)
        inner.let(TRIES, OSError())
        inner.let(1)
        inner.let(TRIES, OSError())
        until(lambda: sink.stats()["dropped"] == 2)
    assert names(inner) == ["first", "gap", "gap"]
    assert gaps(inner) == [
        {"lost": 1, "dropped": {"decision permitted": 1}},
        {"lost": 1, "dropped": {"outcome": 1}},
    ]


def test_what_is_no_answer_is_a_failure() -> None:
    """A sink that answers with something has not said that it took the record."""

    class Chatty(Keeping):
        def record(self, record: Record) -> Any:
            return True

    sink = BufferedSink(Chatty(), linger=0, pause=0, patience=0.05)
    sink.record(record())
    with pytest.raises(AuditError, match="1 audit records were not written"):
        sink.close()
    assert sink.stats()["dropped"] == 1


@pytest.mark.usefixtures("unmeasured")
def test_a_sink_that_ends_its_thread_does_not_end_writing() -> None:
    """The next record starts another thread."""

    class Exiting(Watched):
        tries = 0

        def record(self, record: Record) -> None:
            self.tries += 1
            if self.tries == 1:
                raise SystemExit
            super().record(record)

    inner = Exiting()
    sink = BufferedSink(inner, linger=0)
    sink.record(record(1))
    until(lambda: bool(sink._drainer._turn) and sink._drainer.asleep)
    sink.record(record(2))
    inner.wait_for(2)
    sink.close()
    assert names(inner) == [1, 2]


# Closing.


def test_a_closed_sink_takes_nothing() -> None:
    """Closing twice is closing once; later records are refused and counted, and the other sink is closed."""

    class Closing(Keeping):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    inner = Closing()
    sink = BufferedSink(inner)
    sink.record(record())
    sink.close()
    sink.close()
    assert inner.closed == 1
    with pytest.raises(AuditError, match="closed"):
        sink.record(record())
    with pytest.raises(AuditError):
        sink.take((SHAPE, 1))
    assert sink.stats() == {"submitted": 3, "durable": 1, "buffered": 0, "dropped": 0, "rejected": 2, "errors": 0}


def test_what_comes_at_the_very_moment_of_closing_is_refused() -> None:
    """A note that was added after the last look is not acknowledged, and not forgotten in the books."""

    class Closing(Keeping):
        closed = 0

        def record(self, record: Record) -> None:
            if self.closed:
                raise OSError
            super().record(record)

        def close(self) -> None:
            self.closed += 1

    sink = BufferedSink(Closing(), linger=0, pause=0, patience=0)
    backlog, checked = sink._backlog, sink._backlog.push
    with suppress(AuditError):
        sink.close()
    until(lambda: sink.sink.closed == 1)

    def checked_before(note: tuple[Any, ...]) -> bool:
        backlog._kept.append(note)
        return True

    backlog.push = checked_before  # type: ignore[method-assign]
    with pytest.raises(AuditError, match="closed"):
        sink.take((SHAPE, 1))
    until(lambda: sink.stats()["dropped"] == 1)
    assert sink.sink.closed == 1, "not twice"
    backlog.push = checked  # type: ignore[method-assign]


def test_the_last_look_is_taken_after_saying_so() -> None:
    """What is added between the last look and the end is never acknowledged: nobody would write it."""
    refused: list[AuditError] = []

    class Racing(Keeping):
        def close(self) -> None:
            sink._backlog.push = lambda _note: True  # type: ignore[method-assign]
            with pytest.raises(AuditError) as caught:
                sink.take((SHAPE, "late"))
            refused.append(caught.value)

    sink = BufferedSink(Racing(), linger=0)
    sink.record(record())
    sink.close()
    assert [str(error) for error in refused] == ["the audit buffer is closed"]


def test_closing_in_asyncio() -> None:
    """`aclose` does what `close` does, off the loop."""
    inner = Keeping()

    async def main() -> None:
        sink = BufferedSink(inner)
        sink.record(record(1))
        await sink.aclose()

    asyncio.run(main())
    assert names(inner) == [1]


def test_closing_waits_only_so_long() -> None:
    """A stuck sink does not keep a program from ending; what was not written is told."""
    inner = Gated()
    sink = BufferedSink(inner, linger=0, patience=0.01)
    for at in range(3):
        sink.record(record(at))
    with pytest.raises(
        AuditError, match=r"^3 audit records were not written in 0.01 s; look after `Gated`, or raise `patience`"
    ):
        sink.close()
    inner.let(1000)


def test_closing_with_a_sink_that_fails_ends_too() -> None:
    """When the time for closing is over, what a failing sink still refuses is counted as lost."""
    clock = FakeClock()

    class Failing(Keeping):
        def record(self, record: Record) -> None:
            clock.advance(1)
            raise OSError

    sink = BufferedSink(Failing(), entries=200, linger=SOON, pause=0, patience=5, clock=clock)
    for at in range(100):
        sink.take((SHAPE, at))
        sink.record(denial(at))
    with pytest.raises(AuditError, match="200 audit records were not written"):
        sink.close()
    assert sink.stats() == {"submitted": 200, "durable": 0, "buffered": 0, "dropped": 200, "rejected": 0, "errors": 6}
    assert sink._backlog._extra == 0


def test_a_sink_that_cannot_be_closed_is_told_of() -> None:
    """What the other sink raises when it is closed comes out where that was asked."""

    class Unclosable(Keeping):
        def close(self) -> None:
            raise OSError

    sink = BufferedSink(Unclosable())
    with pytest.raises(AuditError, match="`Unclosable` could not be closed; its last records may be lost"):
        sink.close()


def test_without_another_thread_it_is_written_by_whoever_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, records wait, and closing writes them."""
    inner = Keeping()
    sink = BufferedSink(inner)
    without_threads(monkeypatch)
    for at in range(3):
        sink.record(record(at))
    assert names(inner) == []
    sink.close()
    assert names(inner) == [0, 1, 2]


def test_without_another_thread_errors_come_out_of_closing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the thread that closes does the work."""

    class Unclosable(Keeping):
        def close(self) -> None:
            raise OSError

    without_threads(monkeypatch)
    with pytest.raises(AuditError):
        BufferedSink(Unclosable()).close()


def test_the_rounds_of_a_drainer() -> None:
    """Its thread writes when it is rung for, and ends when the sink is closed."""
    inner = Watched()
    sink = BufferedSink(inner, linger=SOON, pause=0)
    drainer = sink._drainer
    drainer._turn.pop()
    thread = threading.Thread(target=drained, args=(weakref.ref(drainer), drainer._bell, drainer._turn))
    thread.start()
    for at in range(5):
        sink.record(record(at))
    until(lambda: drainer._lingers)
    drainer.hurry()
    drainer.hurry()
    inner.wait_for(5)
    sink.close()
    thread.join(SOON)
    assert names(inner) == list(range(5))


# Many threads, a stuck sink, signals, forks.


def test_the_books_are_exact_under_threads() -> None:
    """No silent loss: 8 threads submit at once, of what nothing is lost but what is counted; at every moment."""
    threads, each = 8, times(4_000, 100_000)
    inner = Watched()
    sink = BufferedSink(inner, entries=500, overflow="drop-oldest", linger=0.001)
    refused: list[int] = [0] * threads

    def submit(thread: int) -> None:
        for at in range(each):
            try:
                if at % 2:
                    sink.take((SHAPE, at))
                elif (plan := sink.record(denial(at))) is not None:
                    plan.close()
            except AuditError:
                refused[thread] += 1

    crowd = [threading.Thread(target=submit, args=(thread,)) for thread in range(threads)]
    for thread in crowd:
        thread.start()
    seen = 0
    while any(thread.is_alive() for thread in crowd):
        counts = sink.stats()
        assert balanced(counts)
        assert counts["buffered"] <= 500 + threads
        assert counts["submitted"] >= seen
        seen = counts["submitted"]
    sink.close()
    counts, told = sink.stats(), gaps(inner)
    taken = len(inner.records) - len(told)
    assert counts["submitted"] == threads * each
    assert counts["durable"] == taken
    assert counts["rejected"] == sum(refused)
    assert counts["dropped"] == threads * each - taken - sum(refused) == sum(gap.get("lost", 0) for gap in told)
    assert sum(refused) == sum(sum(gap.get("rejected", {}).values()) for gap in told)
    assert counts["dropped"], "it was too small for them"


def test_a_note_that_lands_while_it_is_counted_is_counted_once() -> None:
    """Landing takes no lock: each number is read once, so that nothing is seen twice or not at all."""

    class Landing(deque[Any]):
        """Has its first item land whenever it is measured."""

        def __len__(self) -> int:
            before = super().__len__()
            if before:
                self.popleft()
            return before

    backlog = Backlog(10, 1024 * 1024, Overflow.WAIT, FakeClock())
    for at in range(3):
        assert backlog.push((SHAPE, at))
    assert backlog.head() == (SHAPE, 0)
    backlog._flying = Landing(backlog._flying)
    for durable in range(3):
        counts = backlog.stats()
        assert (counts["submitted"], counts["durable"]) == (3, durable)


def test_memory_is_bounded_while_the_sink_is_stuck() -> None:
    """However much is submitted, no more is held than was allowed; afterwards a gap record tells what was lost."""
    size, many = 256 * 1024, times(3_000, 100_000)
    with stuck(bytes=size, overflow="drop-oldest") as (sink, inner):
        for at in range(500):
            sink.record(denial(at))
        tracemalloc.start()
        try:
            for at in range(many):
                sink.record(denial(at))
                if at % 8 == 0:
                    with pytest.raises(AuditError):
                        for _ in range(1000):
                            sink.take((SHAPE, at))
            held, _peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 4 * size
        assert balanced(sink.stats())
    dropped = sink.stats()["dropped"]
    assert dropped >= many
    assert sum(gap.get("lost", 0) for gap in gaps(inner)) == dropped


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers here")
def test_a_signal_handler_may_submit() -> None:
    """A handler that interrupts its own thread in the middle of submitting neither hangs nor spoils the books."""
    inner = Watched()
    sink = BufferedSink(inner, entries=50, overflow="drop-oldest", linger=0)
    handled = 0

    def handler(*_: object) -> None:
        nonlocal handled
        handled += 2
        sink.record(denial("handler"))
        plan = sink.record(record("handler"))
        if plan is not None:
            plan.close()
            handled -= 1

    before = signal.signal(signal.SIGALRM, handler)
    submitted, wanted = 0, times(200, 5_000)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        while handled < wanted:
            sink.record(denial("main"))
            submitted += 1
            sink.stats()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    sink.close()
    counts = sink.stats()
    assert balanced(counts)
    assert counts["submitted"] - counts["rejected"] >= submitted + handled - counts["rejected"]
    assert counts["durable"] == len(inner.records) - len(gaps(inner))
    assert counts["dropped"] == sum(gap.get("lost", 0) for gap in gaps(inner))
    assert sink._backlog._extra == 0


def in_child(work: Callable[[], object]) -> bool:
    """Whether work in a forked child came to a true end; one that hangs is killed."""
    child = os.fork()
    if child == 0:  # pragma: no cover  what a child runs is not measured
        done = False
        try:
            signal.alarm(int(SOON))
            done = bool(work())
        finally:
            os._exit(0 if done else 1)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.usefixtures("unmeasured")
@forks
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_with_an_empty_one() -> None:
    """Nothing is inherited: neither records nor counts; a thread of its own writes what comes."""
    with stuck() as (sink, inner):
        sink.take((SHAPE, "parent's"))
        empty = dict.fromkeys(sink.stats(), 0)

        def child() -> bool:
            started = sink.stats() == empty
            inner.let(5)
            sink.record(record("child's"))
            sink.close()
            return started and names(inner) == ["child's"] and sink.stats()["durable"] == 1

        assert in_child(child)
        assert sink.stats()["buffered"] == 2
    assert names(inner) == ["first", "parent's"]


@pytest.mark.usefixtures("unmeasured")
@forks
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_no_child_hangs_on_a_lock_of_its_parent() -> None:
    """Forked while other threads submit, and one holds the lock for good, every child goes on by itself."""
    inner = Keeping()
    sink = BufferedSink(inner, entries=100, overflow="drop-oldest", linger=0)
    held, over = threading.Event(), threading.Event()

    def submit() -> None:
        while not over.is_set():
            sink.record(denial())

    def hold() -> None:
        with sink._backlog._lock:
            held.set()
            over.wait(SOON * 10)

    def child() -> bool:
        inner.records.clear()
        for at in range(5):
            sink.take((SHAPE, at))
            sink.record(record(at))
        sink.close()
        return names(inner) == [at // 2 for at in range(10)]

    crowd = [threading.Thread(target=submit) for _ in range(2)]
    for thread in crowd:
        thread.start()
    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(SOON)
        assert [in_child(child) for _ in range(times(20, 200))] == [True] * times(20, 200)
    finally:
        over.set()
        for thread in [*crowd, holder]:
            thread.join(SOON)
    sink.close()


def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    monkeypatch.setattr(_thread, "start_new_thread", full)


def test_what_a_child_does_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It forgets what the parent holds, and starts anew."""
    with monkeypatch.context() as alone:
        without_threads(alone)
        inner = Keeping()
        sink = BufferedSink(inner)
        sink.record(record("parent's"))
        sink._forked()
        assert set(sink.stats().values()) == {0}
    sink.record(record("child's"))
    sink.close()
    assert names(inner) == ["child's"]


def test_where_there_is_no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is registered for what cannot happen."""
    monkeypatch.setattr(buffered_module, "_AT_FORK", None)
    BufferedSink(Keeping()).close()


def test_at_the_end_everything_is_written_and_the_other_sink_left_open() -> None:
    """Others may still record with it while the interpreter ends."""

    class Closing(Keeping):
        def close(self) -> None:
            raise OSError

    inner = Closing()
    sink = BufferedSink(inner, linger=SOON)
    sink.record(record())
    sink._exit()
    assert names(inner) == [0]
    with pytest.raises(AuditError, match="closed"):
        sink.record(record())


def test_what_ends_without_its_sink_is_not_called() -> None:
    """A sink that is gone has nothing to do at the end."""
    sink = BufferedSink(Keeping())
    exits, gone = sink._exits, weakref.ref(sink)
    del sink
    gc.collect()
    assert gone() is None
    exits()
    atexit.unregister(exits)


EXITS = {
    # how a program ends -> its status, and whether what was buffered is written
    "pass": (0, True),
    "sys.exit(3)": (3, True),
    "raise ValueError": (1, True),
    "threading.Thread(target=sink.record, args=(record,)).start()": (0, True),
    "os._exit(4)": (4, False),
    "os.kill(os.getpid(), signal.SIGTERM)": (-signal.SIGTERM, False),
    "os.kill(os.getpid(), 9)": (-9, False),
}
PROGRAM = """
import atexit, os, signal, sys, threading
from pep.audit.buffered import BufferedSink
from pep.audit.record import Kind, Record, masked
class Printing:
    from pep.profile import Guarantee
    guarantee = Guarantee.WRITTEN
    def record(self, record):
        os.write(1, record.to_json() + b"\\n")
record = Record(Kind.DECISION, "id", 1.0, masked({"outcome": "permitted"}))
sink = BufferedSink(Printing(), linger=60)
for _ in range(500):
    sink.record(record)
"""


def ended(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments, "-c", program],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("ending", "expected"), EXITS.items(), ids=EXITS)
def test_each_way_to_end_does_what_is_documented(ending: str, expected: tuple[int, bool]) -> None:
    """A program that ends by itself has written everything; one that is ended has not."""
    done = ended(PROGRAM + ending)
    status, written = expected
    assert done.returncode == status
    assert len(done.stdout.splitlines()) == (500 + ending.startswith("threading") if written else 0)


def test_after_the_last_record_nothing_is_taken() -> None:
    """What comes once everything was written out at the end is refused, not lost."""
    late = "def late():\n try: sink.record(record)\n except Exception as error: os.write(2, str(error).encode())\n"
    program = PROGRAM.replace("sink =", late + "atexit.register(late)\nsink =")
    done = ended(program)
    assert done.stderr == "the audit buffer is closed"
    assert len(done.stdout.splitlines()) == 500


def test_a_stuck_sink_does_not_keep_a_program_from_ending() -> None:
    """It waits as long as it may, and says what is lost."""
    stuck = "os.write(1, record.to_json()"
    program = PROGRAM.replace(stuck, "threading.Event().wait(); " + stuck).replace("linger=60", "patience=0.1")
    done = ended(program)
    assert done.returncode == 0
    assert "500 audit records were not written in 0.1 s" in done.stderr


# In an enforcer.


@pytest.fixture
def ran() -> list[str]:
    return []


def test_code_never_runs_without_room_for_its_record(ran: list[str]) -> None:
    """With a stuck sink, permits are refused by the deadline with fault `audit`; denials stay denials."""
    with stuck(entries=2, overflow="drop-oldest") as (sink, inner):
        policies = PolicySet([permit("alice", action="read", when=None, subject="user")])
        enforcer = Enforcer(policies, audit=sink, profiles={"**": Profile(deadline=2.0)}, clock=Ticking())

        def read() -> None:
            enforcer.enforce("read", Resource("page", "1"), subject=Subject("user", "alice"))
            ran.append("ran")

        read()
        with pytest.raises(AccessDenied) as caught:
            read()
        assert caught.value.fault is Fault.AUDIT
        assert ran == ["ran"]
        with pytest.raises(AccessDenied) as caught:
            enforcer.enforce("write", Resource("page", "1"), subject=Subject("user", "alice"))
        assert caught.value.fault is None
        inner.let(1000)
        enforcer.close()
    kinds = [each.kind for each in inner.records]
    assert kinds == [Kind.DECISION, Kind.DECISION, Kind.GAP, Kind.CLOSE]
    assert gaps(inner) == [{"lost": 1, "dropped": {"decision denied": 1}, "rejected": {"decision permitted": 1}}]


# What it is made with.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entries": 0}, "`entries` is out of range; give a finite number, 1 or more"),
        ({"entries": True}, "`entries` is out of range"),
        ({"bytes": 1023}, "`bytes` is out of range; give a finite number, 1024 or more"),
        ({"patience": -1}, "`patience` is out of range; give a finite number, 0 or more"),
        ({"patience": float("nan")}, "`patience` is out of range"),
        ({"linger": float("inf")}, "`linger` is out of range"),
        ({"pause": "1"}, "`pause` is out of range"),
        ({"overflow": "drop"}, "unknown overflow `drop`; choose from `wait`, `drop-oldest`, `drop-newest`"),
    ],
)
def test_what_is_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    """A typo is an error at the start."""
    with pytest.raises(ConfigurationError, match=message):
        BufferedSink(Keeping(), **options)


@pytest.mark.parametrize("sink", [object(), Keeping])
def test_what_is_no_sink_is_refused(sink: Any) -> None:
    """Neither something else nor a class is a sink."""
    with pytest.raises(ConfigurationError, match="is no audit sink; it needs `record"):
        BufferedSink(sink)


def test_each_gap_is_a_line_like_any_other() -> None:
    """A gap record tells why, and of how many of what."""
    with stuck(entries=1, overflow="drop-newest", clock=FakeClock()) as (sink, inner):
        sink.record(denial())
    told = json.loads(inner.of(Kind.GAP)[0].to_json())
    assert told.pop("id")
    assert told == {
        "schema": "pep.audit/1",
        "kind": "gap",
        "time": "2023-11-14T22:13:20.000000Z",
        "cause": "audit buffer",
        "lost": 1,
        "dropped": {"decision denied": 1},
    }
