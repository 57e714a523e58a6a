"""
Stores of nonces: in memory, in SQLite, in Redis. Imports L0, checks and the exclusion only.

redis-py is imported when a store in Redis is made.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from pep.asynchronous import is_asynchronous
from pep.clock import SystemClock
from pep.errors import ConfigurationError, ObligationError
from pep.obligations.checks import named, positive_count, positive_seconds
from pep.obligations.exclusive import Exclusive
from pep.protocols import Clock

if TYPE_CHECKING:
    import redis
    import redis.asyncio

#: How many nonces are kept in memory.
MAX_NONCES: Final = 100_000

#: How many that are over are taken out of a database at each claim.
_SWEPT: Final = 16

# "pep2" in ASCII: what tells a database of nonces from any other.
_APPLICATION: Final = 0x70657032
_FLAGS: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_LAYOUT: Final = (
    "CREATE TABLE nonces (key TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX nonces_until ON nonces (until)",
    f"PRAGMA application_id={_APPLICATION}",
)


@final
class MemoryNonces:
    """
    Remembers nonces in this process, until it ends.

    Args:
        entries: How many; past them a new one is refused, rather than an old one forgotten.

        clock: What time it is; its reading that includes suspend counts.

    Raises:
        ConfigurationError: When *entries* is no whole number, at least 1.
    """

    blocking = False

    def __init__(self, entries: int = MAX_NONCES, *, clock: Clock | None = None) -> None:
        self._entries = positive_count(entries, "entries")
        self._clock = SystemClock() if clock is None else clock
        self._exclusive = Exclusive()
        self._known: set[str] = set()
        self._ends: list[tuple[float, str]] = []

    def claim(self, key: str, ttl: float) -> bool:
        """
        Remember a key for so many seconds; tell whether it was new.

        Raises:
            ObligationError: When there is no room for another.
        """
        with self._exclusive:
            now = self._clock.boottime()
            while self._ends and self._ends[0][0] <= now:
                self._known.discard(heappop(self._ends)[1])
            if key in self._known:
                return False
            if len(self._known) >= self._entries:
                message = f"all {self._entries} nonces in memory are in use; keep them in SQLite or Redis"
                raise ObligationError(message)
            heappush(self._ends, (now + ttl, key))
            self._known.add(key)
            return True


@final
class SQLiteNonces:
    """
    Remembers nonces in an SQLite database, for every process of this machine that opens it.

    Each claim is one transaction of a connection of its own, on disk before it is answered: several processes,
    forked ones too, never let one through twice. A database that was moved or deleted refuses every claim.

    Args:
        path: The database; made with mode 0600 where it does not exist. On a local file system.

        timeout: How long to wait for another's lock, in seconds.

        clock: What time it is; its wall clock counts, which processes share.

    Raises:
        ConfigurationError: When the path is a symbolic link, writable by everybody, or no database of nonces.
    """

    blocking = True

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 1.0, clock: Clock | None = None) -> None:
        self.path = Path(path).absolute()
        self._timeout = positive_seconds(timeout, "timeout")
        self._clock = SystemClock() if clock is None else clock
        try:
            _prepare(self.path)
            self._transact(_lay_out)
        except (OSError, sqlite3.Error) as error:
            message = f"cannot keep nonces in `{self.path}`: {error}; name a new file in a folder that exists"
            raise ConfigurationError(message) from error

    def claim(self, key: str, ttl: float) -> bool:
        """
        Remember a key for so many seconds; tell whether it was new.

        Raises:
            sqlite3.Error: When the database cannot be written.
        """
        now = self._clock.wall()
        return self._transact(lambda connection: _insert(connection, key, now, now + ttl))

    def _transact(self, act: Callable[[sqlite3.Connection], bool]) -> bool:
        # Not made anew where it was deleted: every nonce would be new again.
        address = f"{self.path.as_uri()}?mode=rw"
        opened = sqlite3.connect(address, uri=True, timeout=self._timeout, isolation_level=None)
        with closing(opened) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN IMMEDIATE")
            done = act(connection)
            connection.execute("COMMIT")
            return done


@final
class RedisNonces:
    """
    Remembers nonces in Redis, for every process that asks the same server.

    A server that evicts keys for want of memory forgets nonces: set ``maxmemory-policy noeviction`` there. One that
    is restarted without its append-only file forgets all.

    Args:
        client: A URL, for a client of its own that never tries twice; or a client of redis-py. One of
            `redis.asyncio` serves asynchronous callers only. Yours is not closed with the store; it needs a
            ``socket_timeout``, and no retries: what is claimed twice is refused.

        prefix: What all keys begin with.

        timeout: How long the server may take to connect or answer, in seconds.

    Raises:
        ConfigurationError: When an argument is out of range, or the extra is missing.
    """

    blocking = True

    def __init__(
        self, client: str | redis.Redis | redis.asyncio.Redis, *, prefix: str = "pep:once", timeout: float = 1.0
    ) -> None:
        self._prefix = named(prefix, "prefix")
        self._own = type(client) is str
        seconds = positive_seconds(timeout, "timeout")
        self._client: Any = _connectable(client, seconds) if self._own else _bounded(client)
        #: Whether it can only be awaited.
        self.asynchronous = is_asynchronous(self._client.execute_command)

    def claim(self, key: str, ttl: float) -> Any:  # noqa: ANN401  a bool, or what is to be awaited
        """
        Remember a key for so many seconds; tell whether it was new.

        Raises:
            redis.exceptions.RedisError: When the server did not answer.
        """
        # Rounded up: never forgotten before its time.
        milliseconds = int(ttl * 1000) + 1
        answer = self._client.set(f"{self._prefix}:{key}", b"1", nx=True, px=milliseconds)
        return _first_awaited(answer) if self.asynchronous else _first(answer)

    def close(self) -> None:
        """Close the client, if it is the store's own."""
        if self._own:
            self._client.close()


async def _first_awaited(answer: Any) -> bool:  # noqa: ANN401  any awaitable
    return _first(await answer)


def _first(answer: object) -> bool:
    if answer is True or answer is None:
        return answer is True
    message = f"Redis answered with `{type(answer).__name__}`"
    raise ObligationError(message)


def _prepare(path: Path) -> None:
    file = os.open(path, _FLAGS, 0o600)
    try:
        if os.fstat(file).st_mode & 0o002:
            message = "it is writable by everybody"
            raise OSError(message)
    finally:
        os.close(file)


def _lay_out(connection: sqlite3.Connection) -> bool:
    # Another process may have done it meanwhile.
    if connection.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION:
        return False
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None:
        message = "it holds something else"
        raise sqlite3.DatabaseError(message)
    for statement in _LAYOUT:
        connection.execute(statement)
    return True


def _insert(connection: sqlite3.Connection, key: str, now: float, until: float) -> bool:
    connection.execute("DELETE FROM nonces WHERE key = ? AND until <= ?", (key, now))
    over = "SELECT key FROM nonces WHERE until <= ? ORDER BY until LIMIT ?"
    connection.execute(f"DELETE FROM nonces WHERE key IN ({over})", (now, _SWEPT))  # noqa: S608  values are bound
    return connection.execute("INSERT OR IGNORE INTO nonces VALUES (?, ?)", (key, until)).rowcount == 1


def _connectable(url: Any, timeout: float) -> redis.Redis:  # noqa: ANN401  a str
    try:
        package: Any = importlib.import_module("redis")
        backoff, retry = importlib.import_module("redis.backoff"), importlib.import_module("redis.retry")
    except ModuleNotFoundError as error:
        message = "nonces in Redis need an extra; install `pep[redis]`"
        raise ConfigurationError(message) from error
    try:
        # Trying again would find its own claim where only the answer was lost.
        never = retry.Retry(backoff.NoBackoff(), 0)
        made: redis.Redis = package.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=never
        )
    except ValueError:
        # Without its message: a URL may hold a password.
        message = "that is no URL of a Redis server; write `redis://host:6379/0`, `rediss://` or `unix://`"
        raise ConfigurationError(message) from None
    return made


def _bounded(client: Any) -> Any:  # noqa: ANN401  a client of either world
    pool = getattr(client, "connection_pool", None)
    if pool is None or not hasattr(client, "execute_command"):
        message = f"`{type(client).__name__}` is no Redis client; pass one, or a URL"
        raise ConfigurationError(message)
    if pool.connection_kwargs.get("socket_timeout") is None:
        message = "a Redis client without `socket_timeout` may wait for ever; make it with one"
        raise ConfigurationError(message)
    return client
