"""Every sink the library ships conforms; what does not is told so."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from pep import Guarantee
from pep.audit import FileSink, MemorySink, Record
from pep.audit.buffered import BufferedSink
from pep.audit.calling import CallableSink
from pep.audit.family import family
from pep.audit.fanout import FanOut
from pep.audit.logs import LoggingSink
from pep.audit.otlp import OTLPSink
from pep.audit.redis import RedisStreamSink
from pep.audit.sqlite import SQLiteSink
from pep.audit.syslog import SyslogSink
from pep.errors import AuditError
from pep.plan import Plan, call
from pep.testing import FailingSink, NotConforming, check_sink
from tests.audit.backends import collector, syslog
from tests.redis_server import RedisServer, durable_redis

CHAIN = re.compile(rb'"prev":"[0-9a-f]{64}","seq":\d+,"writer":"[0-9a-f]{16}",')


def held(sink: Any) -> list[bytes]:
    """What a sink in memory holds."""
    return [record.to_json() for record in sink.records]


class Keeping:
    """A sink that keeps records, and nothing else."""

    guarantee = Guarantee.BUFFERED

    def __init__(self) -> None:
        self.records: list[Record] = []

    def record(self, record: Record) -> None:
        """Keep one."""
        self.records.append(record)


class Planned(Keeping):
    """A sink whose method is a plan."""

    def record(self, record: Record) -> Plan[None]:  # type: ignore[override]
        yield from call(self.records.append, record)


class Awaited(Keeping):
    """A sink that can only be awaited."""

    async def record(self, record: Record) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.records.append(record)


class Switched(Keeping):
    """A sink whose backend can be away."""

    guarantee = Guarantee.WRITTEN
    away = False

    def record(self, record: Record) -> None:
        if self.away:
            raise AuditError
        super().record(record)


@contextlib.contextmanager
def switched(sink: Any) -> Iterator[None]:
    sink.away = True
    yield
    sink.away = False


@pytest.mark.parametrize("make", [MemorySink, Keeping, lambda: FailingSink(None), Planned, Awaited, Switched])
def test_sinks_in_memory_conform(make: Callable[[], Any]) -> None:
    """They keep what they acknowledged, in order."""
    check_sink(make, read=held, troubles=[switched] if make is Switched else [])


def test_what_is_not_read_is_not_compared() -> None:
    """A sink that nothing can be read from is checked for everything else."""
    check_sink(lambda: CallableSink(lambda _told: None, guarantee=Guarantee.BUFFERED))


def test_the_file_sink_conforms(tmp_path: Path) -> None:
    """Each record is one line of its family of files; a closed file refuses."""
    files: list[Path] = []

    def make() -> FileSink:
        files.append(tmp_path / f"{len(files)}.jsonl")
        return FileSink(files[-1])

    def read(sink: FileSink) -> Sequence[bytes]:
        lines = [line for path in family(sink.path) for line in path.read_bytes().splitlines()]
        return [CHAIN.sub(b"", line, count=1) for line in lines]

    check_sink(make, read=read)
    assert len(files) == 4


@pytest.mark.parametrize("guarantee", [Guarantee.WRITTEN, Guarantee.DURABLE])
def test_the_sqlite_sink_conforms(tmp_path: Path, guarantee: Guarantee) -> None:
    """Each record is one row; what another process locks is refused in time, and taken again afterwards."""
    numbers = itertools.count()

    def read(sink: SQLiteSink) -> Sequence[bytes]:
        with contextlib.closing(sqlite3.connect(sink.path)) as database:
            rows = database.execute("SELECT json FROM records ORDER BY position").fetchall()
        return [text.encode() for (text,) in rows]

    @contextlib.contextmanager
    def locked(sink: SQLiteSink) -> Iterator[None]:
        with contextlib.closing(sqlite3.connect(sink.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("COMMIT")

    @contextlib.contextmanager
    def moved(sink: SQLiteSink) -> Iterator[None]:
        elsewhere = sink.path.rename(sink.path.with_suffix(".moved"))
        yield
        elsewhere.rename(sink.path)

    def make() -> SQLiteSink:
        return SQLiteSink(tmp_path / f"{next(numbers)}.sqlite3", guarantee=guarantee, timeout=0.5)

    check_sink(make, read=read, troubles=[locked, moved])


def test_the_logging_sink_conforms(tmp_path: Path) -> None:
    """Each record is one line of what the application's handlers write."""
    files: dict[int, Path] = {}
    loggers: list[logging.Logger] = []

    def make() -> LoggingSink:
        logger = logging.getLogger(f"tests.conformance.{len(loggers)}")
        logger.setLevel(logging.DEBUG)
        loggers.append(logger)
        path = tmp_path / f"{len(loggers)}.log"
        logger.addHandler(logging.FileHandler(path, encoding="utf-8"))
        sink = LoggingSink(logger)
        files[id(sink)] = path
        return sink

    check_sink(make, read=lambda sink: files[id(sink)].read_bytes().splitlines())
    for logger in loggers:
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()


@pytest.mark.parametrize("scheme", ["udp", "tcp", "unix"])
def test_the_syslog_sink_conforms(tmp_path: Path, scheme: str) -> None:
    """Each record is one message; the collector may go and come back."""
    lost: list[int] = []
    with syslog(f"unix:{tmp_path / 'log'}" if scheme == "unix" else f"{scheme}://127.0.0.1:0") as receiver:

        def make() -> SyslogSink:
            receiver.messages.clear()
            return SyslogSink(receiver.address, timeout=2.0, longest=65_000)

        def read(sink: SyslogSink) -> Sequence[bytes]:
            messages = receiver.wait(sink.stats()["sent"] - sum(lost), os.getpid())
            return [message["message"].removeprefix(b"\xef\xbb\xbf") for message in messages]

        @contextlib.contextmanager
        def away(sink: SyslogSink) -> Iterator[None]:
            # What is still on its way when a collector goes is lost, over TCP too.
            read(sink)
            sent = sink.stats()["sent"]
            with receiver.away(sink):
                yield
            lost.append(sink.stats()["sent"] - sent)

        check_sink(make, read=read, troubles=[away], longest=64_000)
        # Nobody tells a sender of datagrams over the network that they arrived.
        assert lost == [1 if scheme == "udp" else 0]


def test_the_otlp_sink_conforms() -> None:
    """Each record is one log record; a collector that hangs or refuses refuses the record."""
    with collector() as receiver:

        def make() -> OTLPSink:
            receiver.requests.clear()
            return OTLPSink(receiver.endpoint, guarantee=Guarantee.WRITTEN, timeout=1.0)

        def read(_sink: OTLPSink) -> Sequence[bytes]:
            return [log.body.string_value.encode() for log in receiver.logs]

        check_sink(make, read=read, troubles=[receiver.hanging, lambda _sink: receiver.answering(503)])


server = durable_redis


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_redis_sink_conforms(server: RedisServer, asynchronous: bool) -> None:
    """Each record is one entry; a server that hangs, or is killed, refuses the record, and has the others."""
    numbers = itertools.count()

    class Owning(RedisStreamSink):
        """Closes a client that nothing else uses."""

        async def aclose(self) -> None:
            self.close()
            await self._client.aclose()

    def make() -> RedisStreamSink:
        stream = f"{asynchronous}:{next(numbers)}"
        if not asynchronous:
            return RedisStreamSink(server.url, stream, guarantee=Guarantee.WRITTEN, timeout=0.5)
        client = redis.asyncio.Redis.from_url(server.url, socket_timeout=0.5, socket_connect_timeout=0.5)
        return Owning(client, stream, guarantee=Guarantee.WRITTEN, timeout=0.5)

    def read(sink: RedisStreamSink) -> Sequence[bytes]:
        with contextlib.closing(redis.Redis.from_url(server.url)) as reader:
            return [fields[b"record"] for _, fields in reader.xrange(sink.stream)]

    check_sink(make, read=read, troubles=[server.hanging, server.away])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_callable_sink_conforms(asynchronous: bool) -> None:
    """A callable is given each record, in both worlds or in the one it serves."""
    ids: list[str] = []

    def make() -> CallableSink:
        def keep(fields: dict[str, Any]) -> None:
            ids.append(fields["id"])

        async def keep_soon(fields: dict[str, Any]) -> None:
            await asyncio.sleep(0)
            keep(fields)

        return CallableSink(keep_soon if asynchronous else keep, guarantee=Guarantee.BUFFERED)

    check_sink(make)
    assert len(set(ids)) > 100


def test_a_fan_out_conforms(tmp_path: Path) -> None:
    """Every sink that is required holds every record."""
    numbers, parts = itertools.count(), dict[int, tuple[SQLiteSink, Keeping]]()
    kept: list[FanOut] = []

    def make() -> FanOut:
        parts[len(kept)] = (SQLiteSink(tmp_path / f"{next(numbers)}.sqlite3"), Keeping())
        kept.append(FanOut(parts[len(kept)], best_effort=[FailingSink()]))
        return kept[-1]

    def read(sink: FanOut) -> Sequence[bytes]:
        table, memory = parts[kept.index(sink)]
        with contextlib.closing(sqlite3.connect(table.path)) as database:
            rows = database.execute("SELECT json FROM records ORDER BY position").fetchall()
        lines = [text.encode() for (text,) in rows]
        assert set(held(memory)) <= set(lines)
        return lines

    check_sink(make, read=read)


def test_a_buffered_sink_conforms() -> None:
    """What it took is held by the sink behind it, a little later."""

    def read(sink: BufferedSink) -> Sequence[bytes]:
        patience = threading.Event()
        for _ in range(2000):
            if sink.stats()["buffered"] == 0:
                break
            patience.wait(0.005)
        return held(sink.sink)

    check_sink(lambda: BufferedSink(Keeping()), read=read)


class Unsure(Keeping):
    guarantee = "buffered"  # type: ignore[assignment]


class Picky(Keeping):
    def record(self, record: Record) -> None:
        if "\x00" in record["resource"]["id"]:
            raise ValueError
        super().record(record)


class Chatty(Keeping):
    def record(self, record: Record) -> int:  # type: ignore[override]
        super().record(record)
        return 1


class Reversing(Keeping):
    def record(self, record: Record) -> None:
        self.records.insert(0, record)


class Dropping(Keeping):
    """Keeps a few, and acknowledges all."""

    def record(self, record: Record) -> None:
        if len(self.records) < 70:
            super().record(record)


class Reopening(Keeping):
    def close(self) -> None:
        """Close nothing."""


class Closing(Keeping):
    """Can be closed, and once only."""

    closed = False

    def record(self, record: Record) -> None:
        if self.closed:
            raise AuditError
        super().record(record)

    def close(self) -> None:
        if self.closed:
            raise AuditError
        self.closed = True


class Miscounting(Keeping):
    def stats(self) -> dict[str, int]:
        return {"submitted": len(self.records) + 1, "durable": len(self.records)}


class Uncounted(Keeping):
    def stats(self) -> dict[str, int]:
        return {"lost": -1}


class Editing(Keeping):
    """Changes what it was given."""

    def record(self, record: Record) -> None:
        super().record(record)
        object.__setattr__(record, "_fields", {"mine": "now"})
        object.__setattr__(record, "_line", None)


class Forgetful(Keeping):
    """Takes notes, and leaves them."""

    def take(self, note: object) -> None:
        """Take one."""


class Tireless(Keeping):
    """Takes notes after it was closed."""

    closed = False

    def record(self, record: Record) -> None:
        if self.closed:
            raise AuditError
        super().record(record)

    def take(self, note: Any) -> None:
        super().record(note[1])

    def close(self) -> None:
        self.closed = True


class Single(Keeping):
    """Serves the thread it was made on."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    def record(self, record: Record) -> None:
        if threading.get_ident() != self.thread:
            raise AuditError
        super().record(record)


class Childless(Keeping):
    """Refuses in a forked child."""

    def __init__(self) -> None:
        super().__init__()
        self.process = os.getpid()

    def record(self, record: Record) -> None:
        if os.getpid() != self.process:
            raise AuditError
        super().record(record)


NOT_CONFORMING: dict[str, Any] = {
    "has `record": object,
    "`guarantee`": Unsure,
    "takes every record": Picky,
    "returns nothing": Chatty,
    "in order": Reversing,
    "every thread": Dropping,
    "a closed sink refuses": Reopening,
    "closed, more than once": Closing,
    "submitted = ": Miscounting,
    "whole numbers": Uncounted,
    "leaves records as they are": Editing,
    "every record it acknowledged": Forgetful,
    "closed sink refuses notes": Tireless,
    "several threads at once": Single,
    "a forked child writes on": Childless,
}


@pytest.mark.parametrize(("rule", "make"), NOT_CONFORMING.items(), ids=NOT_CONFORMING)
def test_what_breaks_a_rule_is_told_which(rule: str, make: Callable[[], Any]) -> None:
    """Each rule is able to fail."""
    with pytest.raises(NotConforming, match=rule):
        check_sink(make, read=held)


class Hopeful(Switched):
    """Acknowledges what its backend did not take."""

    def record(self, record: Record) -> None:
        with contextlib.suppress(AuditError):
            super().record(record)


class Resigned(Switched):
    """Never tries again."""

    tired = False

    def record(self, record: Record) -> None:
        self.tired = self.tired or self.away
        if self.tired:
            raise AuditError
        super().record(record)


@pytest.mark.parametrize(("rule", "make"), [("it refuses", Hopeful), ("takes records again", Resigned)])
def test_trouble_is_neither_hidden_nor_the_end(rule: str, make: Callable[[], Any]) -> None:
    """A sink that hides that its backend is away, or does not recover, is told so."""
    with pytest.raises(NotConforming, match=rule):
        check_sink(make, read=held, troubles=[switched])


def test_a_sink_that_waits_for_ever_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs with its backend does not conform; nobody waits for it."""
    monkeypatch.setattr("pep.testing.sink_conformance.PATIENCE", 2.0)
    back = threading.Event()

    class Waiting(Switched):
        def record(self, record: Record) -> None:
            if self.away:
                back.wait()
            Keeping.record(self, record)

    try:
        with pytest.raises(NotConforming, match="never waits for ever"):
            check_sink(Waiting, read=held, troubles=[switched])
    finally:
        back.set()


def test_a_child_that_hangs_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that waits for a lock of its parent does not conform, and is ended."""
    monkeypatch.setattr("pep.testing.sink_conformance.PATIENCE", 0.2)

    class Waiting(Childless):
        def record(self, record: Record) -> None:
            if os.getpid() != self.process:
                threading.Event().wait()
            Keeping.record(self, record)

    with pytest.raises(NotConforming, match="does not hang"):
        check_sink(Waiting, read=held)


def test_a_record_is_one_line() -> None:
    """A sink that breaks a record over two lines does not conform, even if it holds all of it."""

    class Broken:
        guarantee = Guarantee.BUFFERED

        def __init__(self) -> None:
            self.records: list[Any] = []

        def record(self, record: Record) -> None:
            self.records.append(record)

    with pytest.raises(NotConforming, match="one record is one line"):
        check_sink(Broken, read=lambda sink: [line.replace(b",", b",\n", 1) for line in held(sink)])
