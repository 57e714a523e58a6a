from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from pep.errors import ConfigurationError, ObligationError
from pep.model import Obligation, Resource, Subject
from pep.obligations.nonces import MemoryNonces, RedisNonces, SQLiteNonces
from pep.obligations.once import NonceStore, Once
from pep.obligations.worlds import on_a_loop
from pep.protocols import Call, ObligationHandler, Phase, Rank
from pep.testing import FakeClock
from tests.obligations.calling import (
    ALICE,
    BOB,
    CANARY,
    NAN,
    call_of,
    discharged,
    forged,
    permit,
    refused,
    worked,
    worlds,
)
from tests.proving import times
from tests.redis_server import RedisServer, redis_server
from tests.scenes import Scene

__all__ = ["redis_server"]

ONCE = Obligation("once", {"key": "context.nonce", "ttl": 60})
STORES = ("memory", "sqlite", "redis")


def with_nonce(nonce: Any, subject: Subject = ALICE, **parts: Any) -> Call:
    return call_of(subject, context={"nonce": nonce}, **parts)


def passes(handler: Any, call: Call, world: str = "sync", obligation: Obligation = ONCE) -> bool:
    try:
        return discharged(handler, obligation, call, world) is call
    except Exception as error:
        if "used before" in str(error):
            return False
        raise


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Make stores of one kind, all of one place."""
    with ExitStack() as stack:

        def make(kind: str, **options: Any) -> Any:
            if kind == "memory":
                return MemoryNonces(**options)
            if kind == "sqlite":
                return SQLiteNonces(tmp_path / "nonces", **options)
            server = request.getfixturevalue("server")
            return stack.enter_context(closing(RedisNonces(server.url, **options)))

        yield make


@pytest.fixture
def server(redis_server: Callable[..., RedisServer]) -> RedisServer:
    return redis_server()


def test_it_is_a_handler_that_counts() -> None:
    """It acts before the code, among those that consume."""
    handler = Once()
    assert isinstance(handler, ObligationHandler)
    assert (set(handler.types), handler.phase, handler.rank) == ({"once"}, Phase.BEFORE, Rank.COUNT)
    assert not handler.asynchronous


@pytest.mark.parametrize("kind", STORES)
@worlds
def test_a_nonce_passes_once(made: Any, kind: str, world: str) -> None:
    """The first call passes, its replay does not, another nonce does."""
    handler = Once(made(kind))
    assert passes(handler, with_nonce("a"), world)
    assert not passes(handler, with_nonce("a"), world)
    assert passes(handler, with_nonce("A"), world)
    assert passes(handler, with_nonce("a "), world)


@pytest.mark.parametrize("kind", STORES)
def test_whose_nonce_it_is(made: Any, kind: str) -> None:
    """Another subject's, tenant's or action's is another nonce, unless the obligation says otherwise."""
    handler = Once(made(kind))
    assert passes(handler, with_nonce("a"))
    assert passes(handler, with_nonce("a", BOB))
    assert passes(handler, with_nonce("a", Subject("service", "alice")))
    assert passes(handler, with_nonce("a", tenant="t"))
    assert passes(handler, with_nonce("a", action="read"))
    assert not passes(handler, with_nonce("a", Subject("user", "alice", {"x": 1})))
    assert not passes(handler, with_nonce("a", resource=Resource("account", "2")))
    everybody = Obligation("once", {"key": "context.nonce", "ttl": 60, "scope": "global", "name": "n"})
    assert passes(handler, with_nonce("a"), obligation=everybody)
    assert not passes(handler, with_nonce("a", BOB, tenant="t", action="read"), obligation=everybody)


def test_separators_do_not_run_together() -> None:
    """Ids and nonces with separators do not collide."""
    handler, names = Once(), ["a", "b", "a/b", 'a","b', "a\n", "\u00e1", "a\u0301"]
    calls = [with_nonce(nonce, Subject(kind, who)) for nonce in names for kind in names for who in names]
    assert all(passes(handler, call) for call in calls)
    assert not any(passes(handler, call) for call in calls)


def test_a_nonce_may_be_an_argument() -> None:
    """An idempotency key comes with the call, or with its circumstances."""
    handler, obligation = Once(), Obligation("once", {"key": "arguments.request.id", "ttl": 60})
    call = call_of(arguments={"request": {"id": "r-1"}})
    assert passes(handler, call, obligation=obligation)
    assert not passes(handler, call, obligation=obligation)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_nonce_is_remembered_as_long_as_said(made: Any, kind: str) -> None:
    """Until its time is up, and no longer."""
    clock = FakeClock()
    handler = Once(made(kind, clock=clock))
    assert passes(handler, with_nonce("a"))
    clock.advance(59.9)
    assert not passes(handler, with_nonce("a"))
    assert passes(handler, with_nonce("b"))
    clock.advance(0.1)
    assert passes(handler, with_nonce("a"))
    assert not passes(handler, with_nonce("b"))


def test_redis_forgets_by_itself(server: RedisServer) -> None:
    """A key there ends by its own time, never before it."""
    with closing(RedisNonces(server.url, prefix="n")) as store, closing(redis.Redis.from_url(server.url)) as client:
        assert passes(Once(store), with_nonce("a"))
        (key,) = client.keys()
        assert key.startswith(b"n:")
        assert 59_000 < client.pttl(key) <= 60_001


def test_memory_is_bounded_and_forgets_nothing_for_it() -> None:
    """Where there is no room a new nonce fails, and an old one is still known."""
    clock = FakeClock()
    handler = Once(MemoryNonces(2, clock=clock))
    assert passes(handler, with_nonce("a"))
    clock.advance(30)
    assert passes(handler, with_nonce("b"))
    assert "could not be checked" in refused(handler, ONCE, with_nonce("c"))
    assert not passes(handler, with_nonce("a"))
    clock.advance(30)
    assert passes(handler, with_nonce("c"))
    assert not passes(handler, with_nonce("b"))


def test_what_is_over_leaves_the_database(tmp_path: Path) -> None:
    """Each claim takes some out that are over: the file does not grow for ever."""
    clock = FakeClock()
    store = SQLiteNonces(tmp_path / "n", clock=clock)
    for number in range(40):
        assert store.claim(str(number), 10)
    clock.advance(10)
    # Its own end counts, whatever else is to be taken out before it.
    assert store.claim("39", 10)
    for number in range(2):
        assert store.claim(f"new {number}", 10)
    with closing(sqlite3.connect(tmp_path / "n")) as connection:
        assert connection.execute("SELECT count(*) FROM nonces").fetchone() == (3,)


def test_nobody_claims_in_the_midst_of_a_claim() -> None:
    """Code that interrupts its own thread in a claim is refused there, and the claim goes on."""
    tries = []

    class Interrupting(FakeClock):
        def boottime(self) -> float:
            if not tries:
                tries.append(None)
                with pytest.raises(ObligationError, match="interrupted"):
                    store.claim("a", 60)
            return super().boottime()

    store = MemoryNonces(clock=Interrupting())
    assert store.claim("a", 60)
    assert not store.claim("a", 60)


@pytest.mark.parametrize("nonce", [None, "", 1, True, 1.5, ["a"], {"a": 1}, "x" * 257])
@worlds
def test_a_nonce_is_a_short_text(nonce: Any, world: str) -> None:
    """Whatever else is there is no nonce, and so is nothing."""
    assert "`key`" in refused(Once(), ONCE, with_nonce(nonce), world)
    assert "`key`" in refused(Once(), ONCE, call_of(), world)
    assert passes(Once(), with_nonce("x" * 256))


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"ttl": 60}, "key"),
    ({"key": "context.nonce"}, "ttl"),
    *[
        ({"key": wrong, "ttl": 60}, "key")
        for wrong in (None, "", 1, CANARY, "context", "nonce", "context.", "context..nonce", ("context.nonce",), NAN)
    ],
    *[
        ({"key": "context.nonce", "ttl": wrong}, "ttl")
        for wrong in (None, 0, 0.5, -60, NAN, float("inf"), "60", True, CANARY, (60,))
    ],
    *[
        ({"key": "context.nonce", "ttl": 60, "scope": wrong}, "scope")
        for wrong in (None, "", "all", CANARY, 1, True, ("global",))
    ],
    *[({"key": "context.nonce", "ttl": 60, "name": wrong}, "name") for wrong in (None, "", 1, (CANARY,))],
    ({"key": "context.nonce", "ttl": 60, "nonce": CANARY}, "nonce"),
]


@pytest.mark.parametrize(("properties", "named"), MALFORMED)
@worlds
def test_malformed_properties_fail_closed(properties: dict[str, Any], named: str, world: str) -> None:
    """What cannot be read lets nothing through, and names no value."""
    assert f"`{named}`" in refused(Once(), forged("once", properties), with_nonce(CANARY), world)


def test_a_replay_tells_no_nonce() -> None:
    """The message names the property, never the nonce."""
    handler = Once()
    assert passes(handler, with_nonce(CANARY))
    assert "`key`" in refused(handler, ONCE, with_nonce(CANARY))


@pytest.mark.parametrize("answer", [None, 1, 0, "OK", b"", [True]])
@worlds
def test_a_store_answers_true_or_false(answer: Any, world: str) -> None:
    """Any other answer is no permission."""

    class Odd:
        def claim(self, key: str, ttl: float) -> Any:
            return answer

    assert isinstance(Odd(), NonceStore)
    assert "answered" in refused(Once(Odd()), ONCE, with_nonce("a"), world)


@worlds
def test_a_store_that_fails_closes(world: str) -> None:
    """Whatever a store raises denies, and is not told."""

    class Broken:
        def claim(self, key: str, ttl: float) -> bool:
            raise OSError(CANARY)

    assert "OSError" in refused(Once(Broken()), ONCE, with_nonce("a"), world)


def test_a_store_of_ones_own_may_be_awaited() -> None:
    """An asynchronous store serves asynchronous callers only; nobody else gets as far as a call."""

    class Awaited:
        def __init__(self) -> None:
            self.known: set[str] = set()

        async def claim(self, key: str, ttl: float) -> bool:
            await asyncio.sleep(0)
            new = key not in self.known
            self.known.add(key)
            return new

    handler = Once(Awaited())
    assert handler.asynchronous
    assert passes(handler, with_nonce("a"), "async")
    assert not passes(handler, with_nonce("a"), "async")
    with pytest.raises(ConfigurationError, match="only be awaited"):
        Scene("sync", obligations=[handler])


@pytest.mark.parametrize("store", [object(), MemoryNonces, "redis://localhost", 5])
def test_a_store_has_to_be_one(store: Any) -> None:
    """What cannot remember is found where it is written."""
    with pytest.raises(ConfigurationError, match="store of nonces"):
        Once(store)


@pytest.mark.parametrize("entries", [0, -1, True, 1.0, None])
def test_memory_has_room_for_some(entries: Any) -> None:
    """A size that is none is found where it is written."""
    with pytest.raises(ConfigurationError, match="`entries`"):
        MemoryNonces(entries)


# SQLite.


def test_a_database_that_is_gone_closes(tmp_path: Path) -> None:
    """Deleted, it is not made anew: every nonce would be new again."""
    handler = Once(SQLiteNonces(tmp_path / "n"))
    assert passes(handler, with_nonce("a"))
    (tmp_path / "n").unlink()
    assert "OperationalError" in refused(handler, ONCE, with_nonce("a"))
    assert not (tmp_path / "n").exists()


@worlds
def test_a_database_that_is_locked_closes(tmp_path: Path, world: str) -> None:
    """Another's lock is waited for so long, and then it is a failure."""
    handler = Once(SQLiteNonces(tmp_path / "n", timeout=0.01))
    with closing(sqlite3.connect(tmp_path / "n", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "OperationalError" in refused(handler, ONCE, with_nonce("a"), world)
        other.execute("ROLLBACK")
    assert passes(handler, with_nonce("a"), world)


def test_a_database_is_this_library_s(tmp_path: Path) -> None:
    """It is the owner's alone; another's, a link, one for everybody or no place at all is refused."""
    SQLiteNonces(tmp_path / "n")
    assert (tmp_path / "n").stat().st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "n")
    (tmp_path / "text").write_text("nonces, but none of a database's")
    (tmp_path / "open").touch()
    (tmp_path / "open").chmod(0o666)
    with closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("CREATE TABLE accounts (id)")
    for name in ("link", "text", "open", "other", "missing/n", "."):
        with pytest.raises(ConfigurationError, match="cannot keep nonces"):
            SQLiteNonces(tmp_path / name)
    for timeout in (0, NAN, "1"):
        with pytest.raises(ConfigurationError, match="`timeout`"):
            SQLiteNonces(tmp_path / "n", timeout=timeout)  # type: ignore[arg-type]


def test_a_database_outlives_its_process(tmp_path: Path) -> None:
    """What another process used up is used up here."""
    code = "import sys; from pep.obligations.nonces import SQLiteNonces;assert SQLiteNonces(sys.argv[1]).claim('a', 60)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "n?%41#")], check=True)
    store = SQLiteNonces(tmp_path / "n?%41#")
    assert not store.claim("a", 60)
    assert store.claim("b", 60)


def test_processes_race_for_a_nonce(tmp_path: Path) -> None:
    """Of several processes that claim the same nonces, exactly one gets each."""
    rounds, path = times(20, 2_500), tmp_path / "n"
    SQLiteNonces(path)
    code = (
        "import sys; from pep.obligations.nonces import SQLiteNonces;"
        "store = SQLiteNonces(sys.argv[1], timeout=60); sys.stdin.read(1);"
        "print(sum(store.claim(str(number), 600) for number in range(int(sys.argv[2]))))"
    )
    command = [sys.executable, "-c", code, str(path), str(rounds)]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    claimed = [int(worker.communicate()[0]) for worker in workers]
    assert sum(claimed) == rounds


# Redis.


@worlds
def test_redis_down_closes(server: RedisServer, made: Any, world: str) -> None:
    """A server that is gone denies, and its address is not told; back again, it answers again."""
    handler = Once(made("redis"))
    assert passes(handler, with_nonce("a"), world)
    server.kill()
    assert str(server.port) not in refused(handler, ONCE, with_nonce("b"), world)
    server.start()
    assert passes(handler, with_nonce("b"), world)


@worlds
def test_redis_that_hangs_closes_in_time(server: RedisServer, made: Any, world: str) -> None:
    """A server that never answers is waited for so long and no longer."""
    handler = Once(made("redis", timeout=0.05))
    os.kill(server.pid, signal.SIGSTOP)
    try:
        assert "Timeout" in refused(handler, ONCE, with_nonce("b"), world)
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_a_client_of_ones_own(server: RedisServer) -> None:
    """A client is used as it is and left open, of either half of redis-py."""
    with closing(redis.Redis.from_url(server.url, socket_timeout=5)) as client:
        store = RedisNonces(client)
        assert passes(Once(store), with_nonce("a"))
        store.close()
        assert client.ping()

    async def main() -> list[bool]:
        async with redis.asyncio.Redis.from_url(server.url, socket_timeout=5) as client:
            handler = Once(RedisNonces(client))
            assert handler.asynchronous
            return [await claimed(handler, nonce) for nonce in ("a", "b", "b")]

    assert asyncio.run(main()) == [False, True, False]


async def claimed(handler: Any, nonce: str) -> bool:
    try:
        await worked(handler, ONCE, with_nonce(nonce), "async")()
    except ObligationError as error:
        return str(error).partition("used before")[1] == ""
    return True


def test_a_reply_of_redis_is_yes_or_no(server: RedisServer) -> None:
    """A client that answers with something else, as in a pipeline, is no permission."""
    with closing(redis.Redis.from_url(server.url, socket_timeout=5)) as client, client.pipeline() as pipeline:
        refused(Once(RedisNonces(pipeline)), ONCE, with_nonce("a"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"client": f"http://:{CANARY}@localhost"}, "URL"),
        ({"client": f"redis://:{CANARY}@localhost:port"}, "URL"),
        ({"client": object()}, "no Redis client"),
        ({"client": redis.ConnectionPool()}, "no Redis client"),
        ({"client": redis.Redis(socket_timeout=None)}, "socket_timeout"),
        ({"client": "redis://localhost", "prefix": ""}, "prefix"),
        ({"client": "redis://localhost", "timeout": 0}, "timeout"),
    ],
)
def test_what_a_store_in_redis_is_made_of_is_checked(arguments: dict[str, Any], named: str) -> None:
    """A wrong argument is found where it is written; a password in a URL is never told."""
    with pytest.raises(ConfigurationError, match=named) as error:
        RedisNonces(**arguments)
    assert CANARY not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize("missing", ["redis", "redis.backoff", "redis.retry"])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Without redis-py it says what to install."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=r"install `pep\[redis\]`"):
        RedisNonces("redis://localhost")


# Races, and loops.


@pytest.mark.parametrize("kind", STORES)
def test_of_two_at_once_one_gets_the_nonce(made: Any, kind: str) -> None:
    """Two calls race with one nonce: exactly one passes, every time."""
    store = made(kind)
    handler, gate = Once(store), threading.Barrier(2)
    rounds = times(20 if kind == "sqlite" else 100, 10_000)
    calls = [with_nonce(str(number)) for number in range(rounds)]

    def racing(_thread: int) -> list[bool]:
        passed = []
        for call in calls:
            gate.wait()
            passed.append(passes(handler, call))
        return passed

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(racing, range(2))
    finally:
        sys.setswitchinterval(before)
    assert [a + b for a, b in zip(one, other, strict=True)] == [1] * rounds


def test_a_loop_does_not_wait_for_a_store() -> None:
    """A store that blocks is asked on a thread of its own where a loop runs, on the caller's where none does."""
    seen = []

    class Blocking:
        blocking = True

        def claim(self, key: str, ttl: float) -> bool:
            seen.append((threading.current_thread() is threading.main_thread(), on_a_loop()))
            return True

    for world in ("sync", "async"):
        assert passes(Once(Blocking()), with_nonce("a"), world)
        assert passes(Once(), with_nonce("a"), world)
    assert seen == [(True, False), (False, False)]


# Under an enforcer.


@worlds
@pytest.mark.parametrize("kind", STORES)
def test_a_replay_does_not_run(made: Any, kind: str, world: str) -> None:
    """The code runs once for each nonce; asking uses none up."""
    once = Obligation("once", {"key": "arguments.title", "ttl": 60})
    scene = Scene(world, permit(once), obligations=[Once(made(kind))])
    assert scene.do("check", "edit", Resource("document", "1")).allowed
    assert [scene.edit(title).told for title in ("a", "a", "b")] == [
        ("returned", None),
        ("denied", "obligation"),
        ("returned", None),
    ]
    assert scene.ran == ["a", "b"]


@worlds
def test_a_call_that_is_refused_anyway_uses_nothing_up(world: str) -> None:
    """A nonce is left for the call that is permitted."""
    once, unknown = Obligation("once", {"key": "arguments.title", "ttl": 60}), Obligation("unheard-of")
    answers = [permit(once, unknown)]
    scene = Scene(world, lambda _request: answers[0], obligations=[Once()])
    assert scene.edit("a").told == ("denied", "obligation")
    answers[0] = permit(once)
    assert scene.edit("a").told == ("returned", None)
