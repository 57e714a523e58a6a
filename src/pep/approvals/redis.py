"""
A store of approvals in Redis; needs the extra ``redis``. Imports sealing and the store's protocol only.

redis-py is imported when a store is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from pep.approvals.sealing import Row, Seal
from pep.approvals.store import Full
from pep.errors import ConfigurationError, ObligationError

if TYPE_CHECKING:
    import redis

T = TypeVar("T")

_FIELDS: Final = ("id", "key", "owner", "open", "expires", "version", "body", "mac")

# KEYS: rows (id -> row), open ones (key -> id), expiries (id by time), open ones of the owner (id by expiry).
# ARGV: id, key, expiry, row, time, most.
_ADD: Final = """
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[5])) do
  local found = redis.call('HGET', KEYS[1], id)
  if found then
    local key = cjson.decode(found)['key']
    if redis.call('HGET', KEYS[2], key) == id then redis.call('HDEL', KEYS[2], key) end
  end
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[3], id)
end
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', ARGV[5])
local same = redis.call('HGET', KEYS[2], ARGV[2])
local kept = same and redis.call('HGET', KEYS[1], same)
if kept then return kept end
if redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[6]) then
  return {redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')[2]}
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
redis.call('ZADD', KEYS[4], ARGV[3], ARGV[1])
return ARGV[4]
"""

# KEYS as above. ARGV: id, the row as it was read, the new row, its key, whether that is open.
_SWAP: Final = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[5] == '0' then
  redis.call('ZREM', KEYS[4], ARGV[1])
  if redis.call('HGET', KEYS[2], ARGV[4]) == ARGV[1] then redis.call('HDEL', KEYS[2], ARGV[4]) end
end
return 1
"""


class RedisStore:
    """
    Keeps approvals in Redis, for all who use one server; time is the server's.

    Each method is one script, and so atomic. Redis may forget what it acknowledged when it crashes or fails over,
    a use too: where that matters, set ``appendonly yes`` and ``appendfsync always``, or use `SQLiteStore`.

    Args:
        client: A URL, for a client of its own that never tries twice; or a `redis.Redis` with a ``socket_timeout``.
            Yours is not closed with the store.

        secret: What rows are sealed with, at least 16 bytes; the same for all who use the store.

        prefix: What the names of its keys begin with.

        timeout: How long a command may take where the client is its own, in seconds.

    Raises:
        ConfigurationError: When an argument is out of range, or the extra is missing.
    """

    #: Whether it is asked on a thread of its own.
    threaded = True

    def __init__(
        self, client: str | redis.Redis, *, secret: bytes, prefix: str = "pep:approvals", timeout: float = 1.0
    ) -> None:
        self.seal = Seal(secret)
        if type(prefix) is not str or not prefix:
            message = "`prefix` of a store of approvals must be a `str` that is not empty"
            raise ConfigurationError(message)
        self.prefix = prefix
        self._errors = _errors()
        self._own = type(client) is str
        self._client: Any = _connectable(client, timeout) if self._own else _synchronous(client)
        self._add, self._swap = self._client.register_script(_ADD), self._client.register_script(_SWAP)

    def now(self) -> float:
        """Return the server's time."""
        whole, micro = self._asked(self._client.time)
        return int(whole) + int(micro) / 1_000_000

    def add(self, row: Row, now: float, most: int) -> Row:
        """Keep a row, or return the open one of the same key; see `Store`."""
        given = [row.id, row.key, repr(row.expires), _packed(row), repr(now), most]
        kept = self._asked(lambda: self._add(keys=self._keys(row.owner), args=given))
        if type(kept) is list:
            raise Full(float(kept[0]))
        return _row(kept)

    def get(self, name: str) -> Row | None:
        """Return a row by its id."""
        found = self._asked(lambda: self._client.hget(self._keys("")[0], name))
        return None if found is None else _row(found)

    def swap(self, old: Row, new: Row) -> bool:
        """Replace a row, if it is still the one that was read."""
        given = [old.id, _packed(old), _packed(new), new.key, int(new.open)]
        return bool(self._asked(lambda: self._swap(keys=self._keys(new.owner), args=given)) == 1)

    def rows(self) -> list[Row]:
        """Return every row."""
        return [_row(found) for found in self._asked(lambda: self._client.hvals(self._keys("")[0]))]

    def close(self) -> None:
        """Close the client, if it is the store's own."""
        if self._own:
            self._client.close()

    def __repr__(self) -> str:
        return f"RedisStore({self.prefix!r})"

    def _keys(self, owner: str) -> list[str]:
        # The braces keep them on one server of a cluster.
        return [f"{{{self.prefix}}}:{name}" for name in ("rows", "open", "expiries", f"owner:{owner}")]

    def _asked(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except self._errors as error:
            # A client's own text may hold a password, a server's the command.
            message = f"cannot use the approvals in Redis `{self.prefix}`: {type(error).__name__}"
            raise ObligationError(message) from error


def _packed(row: Row) -> bytes:
    told = {name: getattr(row, name) for name in _FIELDS}
    told |= {"body": row.body.decode(), "mac": row.mac.hex()}
    return orjson.dumps(told)


def _row(packed: bytes) -> Row:
    """Read a row; what is none becomes one that no seal opens."""
    try:
        told = orjson.loads(packed)
        body, mac = told["body"].encode(), bytes.fromhex(told["mac"])
        row = Row(**{**{name: told[name] for name in _FIELDS}, "body": body, "mac": mac})
    except (ValueError, TypeError, KeyError, AttributeError):
        return Row("", "", "", True, 0.0, 0, b"", b"")  # noqa: FBT003  nothing of it counts
    # INVARIANT: what is compared with the server's row is that very row.
    return row if _packed(row) == packed else Row(row.id, "", "", True, 0.0, 0, b"", b"")  # noqa: FBT003


def _errors() -> tuple[type[Exception], ...]:
    try:
        from redis.exceptions import RedisError  # noqa: PLC0415  what the extra brings is imported when it is needed
    except ModuleNotFoundError as error:
        message = "a Redis store needs an extra; install `pep[redis]`"
        raise ConfigurationError(message) from error
    return (RedisError, OSError)


def _connectable(url: Any, timeout: float) -> Any:  # noqa: ANN401  a str; a client
    import redis  # noqa: PLC0415  what the extra brings is imported when it is needed
    from redis.backoff import NoBackoff  # noqa: PLC0415  the same
    from redis.retry import Retry  # noqa: PLC0415  the same

    if type(timeout) not in {int, float} or not 0 < timeout < float("inf"):
        message = "`timeout` must be a number of seconds, greater than 0 and finite"
        raise ConfigurationError(message)
    try:
        # Trying again would find its own first try, and take it for somebody else's.
        return redis.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
    except ValueError as error:
        message = "that is no URL of a Redis server; write `redis://host:6379/0`, `rediss://` or `unix://`"
        raise ConfigurationError(message) from error


def _synchronous(client: Any) -> Any:  # noqa: ANN401  whatever a user hands over
    import redis  # noqa: PLC0415  what the extra brings is imported when it is needed

    if not isinstance(client, redis.Redis):
        message = f"`{type(client).__name__}` is no `redis.Redis`; pass one, or a URL"
        raise ConfigurationError(message)
    settings = client.connection_pool.connection_kwargs
    if settings.get("socket_timeout") is None or settings.get("decode_responses"):
        message = "a Redis client of a store has a `socket_timeout`, and does not decode responses"
        raise ConfigurationError(message)
    return client
