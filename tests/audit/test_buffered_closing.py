from __future__ import annotations

import asyncio
import threading
import weakref
from contextlib import suppress
from typing import Any

import pytest

from pep.audit.buffered import BufferedSink
from pep.audit.drainer import drained
from pep.audit.record import Record
from pep.errors import AuditError
from pep.testing import FakeClock
from tests.audit.buffers import (
    SHAPE,
    SOON,
    Gated,
    Keeping,
    Watched,
    denial,
    names,
    record,
    until,
    without_threads,
)

pytestmark = pytest.mark.usefixtures("measured")


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
