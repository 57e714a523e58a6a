from __future__ import annotations

import os
import signal
import threading
import tracemalloc
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from pep.audit.backlog import Backlog, Overflow
from pep.audit.buffered import BufferedSink
from pep.errors import AuditError
from pep.testing import FakeClock
from tests.audit.buffers import (
    SHAPE,
    SOON,
    Keeping,
    Watched,
    balanced,
    denial,
    forks,
    gaps,
    names,
    record,
    stuck,
    without_threads,
)
from tests.proving import times

pytestmark = pytest.mark.usefixtures("measured")


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
