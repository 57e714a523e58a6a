"""Sinks behind a buffer, and what its tests look at it with."""

from __future__ import annotations

import _thread
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from pep.audit.buffered import BufferedSink
from pep.audit.record import Kind, Record, masked, new_id
from pep.profile import Guarantee
from pep.testing import FakeClock

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


@pytest.fixture
def measured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the thread of a drainer seen by what measures coverage."""
    if "unmeasured" not in request.fixturenames:

        def start(fn: Callable[..., object], args: tuple[Any, ...]) -> None:
            threading.Thread(target=fn, args=args, daemon=True).start()

        monkeypatch.setattr(_thread, "start_new_thread", start)


def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    monkeypatch.setattr(_thread, "start_new_thread", full)
