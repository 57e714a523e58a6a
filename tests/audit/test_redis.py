from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from pep import Enforcer, Guarantee, Resource, Subject
from pep.assemble import awaited_parts
from pep.audit import Kind, Record
from pep.audit.redis import RedisStreamSink
from pep.errors import AccessDenied, AuditError, ConfigurationError
from pep.testing import permit_all
from tests.audit.backends import Resp, resp
from tests.redis_server import RedisServer, durable_redis

URL = "redis://127.0.0.1:1/0"


def record(**fields: Any) -> Record:
    return Record(Kind.DECISION, "0190-id", 1.0, fields)


server = durable_redis


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    """A client to look with, on an empty server."""
    with contextlib.closing(redis.Redis.from_url(server.url, socket_timeout=1)) as made:
        made.flushall()
        yield made


# With a real server.


def test_a_record_is_an_entry(server: RedisServer, client: redis.Redis) -> None:
    """Its id, kind and JSON are the fields of one entry, there once `record` returns."""
    sink = RedisStreamSink(server.url, "audit")
    given = record(subject={"id": "\x00é'\u2028"})
    sink.record(given)
    ((_, fields),) = client.xrange("audit")
    assert fields == {b"id": b"0190-id", b"kind": b"decision", b"record": given.to_json()}
    assert sink.guarantee is Guarantee.BUFFERED
    assert not sink.asynchronous
    assert repr(sink) == "RedisStreamSink('audit', guarantee=Guarantee.BUFFERED)"
    sink.close()


def test_a_stream_may_be_kept_short(server: RedisServer, client: redis.Redis) -> None:
    """The newest entries stay, a few more than were asked for, since exactly so many cost more."""
    sink = RedisStreamSink(server.url, maxlen=10)
    for number in range(250):
        sink.record(record(at=number))
    entries = client.xrange("pep:audit")
    assert 10 <= len(entries) <= 210
    assert f'"at":{249}'.encode() in entries[-1][1][b"record"]
    sink.close()


def test_written_means_an_append_only_file(server: RedisServer, client: redis.Redis) -> None:
    """Whether the server keeps one is asked at every record; one that does not refuses."""
    sink = RedisStreamSink(server.url, guarantee=Guarantee.WRITTEN)
    sink.record(record())
    client.config_set("appendonly", "no")
    with pytest.raises(AuditError, match="it keeps no append-only file; set `appendonly yes` there"):
        sink.record(record())
    with server.away(sink):
        pass
    sink.record(record())
    sink.close()


def test_written_survives_the_server_being_killed(server: RedisServer, client: redis.Redis) -> None:
    """What was acknowledged is there after a SIGKILL of Redis itself, with `appendfsync always`."""
    sink = RedisStreamSink(server.url, guarantee=Guarantee.WRITTEN)
    for number in range(10):
        sink.record(record(at=number))
    with server.away(sink), pytest.raises(AuditError, match="stream `pep:audit`: ConnectionError"):
        sink.record(record())
    sink.record(record(at=10))
    assert [fields[b"record"].count(b'"at"') for _, fields in client.xrange("pep:audit")] == [1] * 11
    sink.close()


def test_replicas_are_waited_for(server: RedisServer, client: redis.Redis) -> None:
    """A server without replicas does not pass for one that has them."""
    for guarantee in (Guarantee.BUFFERED, Guarantee.WRITTEN):
        sink = RedisStreamSink(server.url, guarantee=guarantee, replicas=1, timeout=1)
        with pytest.raises(AuditError, match="0 of 1 replicas had it in time"):
            sink.record(record())
        sink.close()


def test_what_the_server_refuses_is_not_quoted(server: RedisServer, client: redis.Redis) -> None:
    """Only the first word of an error is told, since the rest may hold what was recorded."""
    client.set("audit", "text")
    sink = RedisStreamSink(server.url, "audit")
    with pytest.raises(
        AuditError, match=r"^cannot add an audit record to Redis stream `audit`: ResponseError WRONGTYPE$"
    ):
        sink.record(record(subject={"id": "secret"}))
    sink.close()


def test_an_asyncio_client_is_awaited(server: RedisServer, client: redis.Redis) -> None:
    """It serves asynchronous callers, in an enforcer too; and it is not the sink's to close."""

    async def use() -> None:
        async with redis.asyncio.Redis.from_url(server.url, socket_timeout=1) as asynchronous:
            sink = RedisStreamSink(asynchronous, guarantee=Guarantee.WRITTEN)
            enforcer = Enforcer(permit_all(), audit=sink)
            await enforcer.aenforce("read", Resource("page", "1"), subject=Subject("user", "alice"))
            assert list(awaited_parts(enforcer._core.wiring())) == ["RedisStreamSink.record"]
            await asyncio.gather(*[sink.record(record()) for _ in range(20)])
            sink.close()
            with pytest.raises(AuditError, match="closed"):
                sink.record(record())
            await asynchronous.ping()

    asyncio.run(use())
    assert client.xlen("pep:audit") == 21


def test_a_client_of_ones_own_stays_open(server: RedisServer, client: redis.Redis) -> None:
    """The sink closes what it made, and nothing else."""
    sink = RedisStreamSink(client)
    sink.record(record())
    sink.close()
    with pytest.raises(AuditError, match="closed"):
        sink.record(record())
    assert client.xlen("pep:audit") == 1


# With what a server may say.


XADD = b"$3\r\n1-1\r\n"


@pytest.fixture
def lookalike() -> Iterator[Resp]:
    with resp(XADD=XADD) as made:
        yield made


def test_durable_waits_for_the_disk(lookalike: Resp) -> None:
    """Every record waits for the append-only file, here and where replicas are asked for."""
    sink = RedisStreamSink(lookalike.url, guarantee=Guarantee.DURABLE, replicas=2, timeout=2)
    lookalike.answers["WAITAOF"] = b"*2\r\n:1\r\n:2\r\n"
    sink.record(record())
    assert lookalike.commands[-1] == [b"WAITAOF", b"1", b"2", b"1600"]
    lookalike.answers["WAITAOF"] = b"*2\r\n:0\r\n:2\r\n"
    with pytest.raises(AuditError, match="it was not on its disk in time; set `appendfsync always` there"):
        sink.record(record())
    lookalike.answers["WAITAOF"] = b"*2\r\n:1\r\n:1\r\n"
    with pytest.raises(AuditError, match="1 of 2 replicas had it in time"):
        sink.record(record())
    lookalike.answers["WAITAOF"] = b"-ERR unknown command\r\n"
    with pytest.raises(AuditError, match=r"ResponseError$"):
        sink.record(record())
    sink.close()


def test_a_file_that_cannot_be_written_is_none(lookalike: Resp) -> None:
    """A server whose disk is full keeps an append-only file in name only."""
    sink = RedisStreamSink(lookalike.url, guarantee=Guarantee.WRITTEN)
    for status in ("ok", "err"):
        told = f"aof_enabled:1\r\naof_last_write_status:{status}\r\n"
        lookalike.answers["INFO"] = f"${len(told)}\r\n{told}\r\n".encode()
        if status == "ok":
            sink.record(record())
    with pytest.raises(AuditError, match="could not write to its append-only file"):
        sink.record(record())
    sink.close()


def test_a_record_is_never_sent_twice(lookalike: Resp) -> None:
    """A server that never answers is asked once, and waited for no longer than said."""
    lookalike.answers["XADD"] = b""
    sink = RedisStreamSink(lookalike.url, timeout=0.05)
    with pytest.raises(AuditError, match="TimeoutError"):
        sink.record(record())
    assert [command[0] for command in lookalike.commands].count(b"XADD") == 1
    sink.close()


def test_an_asyncio_client_is_not_waited_for_either(lookalike: Resp) -> None:
    """The sink's own time holds, whatever the client's is."""
    lookalike.answers["XADD"] = b""

    async def use() -> None:
        async with redis.asyncio.Redis.from_url(lookalike.url, socket_timeout=30) as asynchronous:
            sink = RedisStreamSink(asynchronous, timeout=0.05)
            with pytest.raises(AuditError, match="TimeoutError"):
                await sink.record(record())

    asyncio.run(use())


def test_a_timeout_is_one_on_every_python(lookalike: Resp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Python 3.11 asyncio had a class of its own for it, which was no `OSError`."""

    class OwnTimeoutError(Exception):
        pass

    async def late(coroutine: Any, _timeout: float) -> None:
        coroutine.close()
        raise OwnTimeoutError

    monkeypatch.setattr(asyncio, "TimeoutError", OwnTimeoutError)
    monkeypatch.setattr(asyncio, "wait_for", late)

    async def use() -> None:
        async with redis.asyncio.Redis.from_url(lookalike.url, socket_timeout=30) as asynchronous:
            with pytest.raises(AuditError, match="OwnTimeoutError"):
                await RedisStreamSink(asynchronous).record(record())

    asyncio.run(use())


def test_a_permit_waits_for_redis() -> None:
    """Nobody there refuses the call."""
    sink = RedisStreamSink(URL, timeout=0.5)
    with pytest.raises(AccessDenied):
        Enforcer(permit_all(), audit=sink).enforce("read", Resource("page", "1"), subject=Subject("user", "alice"))
    sink.close()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"client": "http://localhost"}, "no URL of a Redis server"),
        ({"client": 1}, "`int` is no Redis client"),
        ({"stream": ""}, "needs a key"),
        ({"stream": b"audit"}, "needs a key"),
        ({"guarantee": "written"}, "`guarantee` must be"),
        ({"maxlen": 0}, "`maxlen` must be"),
        ({"maxlen": 1.5}, "`maxlen` must be"),
        ({"replicas": -1}, "`replicas` must be"),
        ({"replicas": True}, "`replicas` must be"),
        ({"timeout": 0}, "`timeout` must be"),
    ],
)
def test_what_cannot_be_is_refused_at_once(wrong: dict[str, Any], told: str) -> None:
    """A mistake in the wiring is told when the sink is made."""
    with pytest.raises(ConfigurationError, match=told):
        RedisStreamSink(**{"client": URL, **wrong})


def test_a_client_must_not_wait_for_ever() -> None:
    """Without a timeout of its own, a hung server would hang the call."""
    with (
        contextlib.closing(redis.Redis(socket_timeout=None)) as endless,
        pytest.raises(ConfigurationError, match="without `socket_timeout` may wait for ever"),
    ):
        RedisStreamSink(endless)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where redis-py is missing, the message says what to install."""
    monkeypatch.setitem(sys.modules, "redis.exceptions", None)
    with pytest.raises(ConfigurationError, match=r"install `pep\[redis\]`"):
        RedisStreamSink(URL)
