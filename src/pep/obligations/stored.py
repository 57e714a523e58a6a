"""
Counters that several processes share, in Redis or Valkey; needs the extra ``limits``. Imports L0 and counters only.

The library `limits` is imported when such counters are made.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

import attrs

from pep.errors import ConfigurationError, ObligationError
from pep.obligations.counters import Limit
from pep.obligations.worlds import on_a_loop
from pep.plan import Plan, call
from pep.protocols import Clock

if TYPE_CHECKING:
    import limits

_PARTS: Final = (
    *("limits.errors", "limits.storage", "limits.strategies"),
    *("limits.aio.storage", "limits.aio.strategies"),
)
_ASYNC: Final = "async+"
# The scheme of a URL -> the library that its client comes from.
_CLIENTS: Final = {
    "redis": "redis",
    "rediss": "redis",
    "redis+unix": "redis",
    "valkey": "valkey",
    "valkeys": "valkey",
    "valkey+unix": "valkey",
}


@attrs.define(eq=False, repr=False)
class StoredCounters:
    """
    Counters in a storage of the library `limits`.

    Args:
        storage: The storage.

        clock: Its wall clock tells how long to wait.

        prefix: What all keys begin with.

        own: Whether to close it.
    """

    storage: Any
    clock: Clock
    prefix: str
    own: bool
    #: Whether it can only be awaited.
    asynchronous: bool = attrs.field(init=False)
    _fixed: Any = attrs.field(init=False)
    _moving: Any = attrs.field(init=False)
    _item: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        package = _limits()
        self.asynchronous = isinstance(self.storage, package.aio.storage.Storage)
        if not self.asynchronous and not isinstance(self.storage, package.storage.Storage):
            message = f"`{type(self.storage).__name__}` is no storage; give a URL, or a storage of `limits`"
            raise ConfigurationError(message)
        strategies = package.aio.strategies if self.asynchronous else package.strategies
        self._fixed = strategies.FixedWindowRateLimiter(self.storage)
        self._moving = strategies.MovingWindowRateLimiter(self.storage)
        self._item = package.RateLimitItemPerSecond

    def take(self, key: bytes, limit: Limit, cost: int) -> Plan[float]:
        """
        Take from a counter what a call costs, or nothing at all.

        Where several take from a stretch of fixed length at once, what was refused may have been counted too.

        Args:
            key: Which counter; another limit has other keys.

            limit: How much in how long.

            cost: How much is taken, at most the whole limit.

        Returns:
            0 where it was taken; else in how many seconds it could be, at least 1.

        Raises:
            Exception: When the storage did not answer.
        """
        counting = self._moving if limit.moving else self._fixed
        item = self._item(limit.count, limit.seconds, namespace=self.prefix)
        name = key.hex()
        # A hit on what has too little left uses that up all the same, without letting anybody through.
        enough = limit.moving or cost == 1 or (yield from self._asked(counting.test, item, name, cost))
        if enough and (yield from self._asked(counting.hit, item, name, cost)):
            return 0.0
        stats = yield from self._done(counting.get_window_stats, item, name)
        return max(1.0, float(stats.reset_time) - self.clock.wall())

    def close(self) -> None:
        """Close the client, if it is the counters' own."""
        if self.own and not self.asynchronous:
            self.storage.storage.close()

    async def aclose(self) -> None:
        """Close the client, if it is the counters' own; see `close`."""
        if self.own and self.asynchronous:
            await self.storage.bridge.storage.aclose()
        self.close()

    def _asked(self, question: Any, item: limits.RateLimitItem, name: str, cost: int) -> Plan[bool]:  # noqa: ANN401  of either world
        answer = yield from self._done(lambda: question(item, name, cost=cost))
        if type(answer) is not bool:
            message = f"the storage answered with `{type(answer).__name__}`"
            raise ObligationError(message)
        return answer

    def _done(self, fn: Any, *args: Any) -> Plan[Any]:  # noqa: ANN401  of either world
        return (yield from call(fn, *args, threaded=not self.asynchronous and on_a_loop()))


def counters_at(storage: object, clock: Clock, *, prefix: str, timeout: float) -> StoredCounters:
    """
    Make counters in a storage.

    Args:
        storage: The URL of a Redis or Valkey server, with ``async+`` before it for asynchronous callers only; or a
            storage of `limits`.

        clock: Its wall clock tells how long to wait.

        prefix: What all keys begin with.

        timeout: How long the server may take to connect or answer, in seconds.

    Raises:
        ConfigurationError: When it is neither, or an extra is missing.
    """
    if type(storage) is not str:
        return StoredCounters(storage, clock, prefix, own=False)
    package = _limits()
    scheme = storage.partition("://")[0]
    client = _CLIENTS.get(scheme.removeprefix(_ASYNC))
    if client is None:
        message = "that is no URL of Redis or Valkey; write `redis://host:6379/0`, or pass a storage of `limits`"
        raise ConfigurationError(message)
    options = _options(client, timeout, asynchronous=scheme.startswith(_ASYNC))
    try:
        made = package.storage.storage_from_string(storage, **options)
    except (ValueError, TypeError, package.errors.ConfigurationError):
        # Without its message: a URL may hold a password.
        message = "the URL of the counters cannot be read; write `redis://host:6379/0`"
        raise ConfigurationError(message) from None
    return StoredCounters(made, clock, prefix, own=True)


def _options(client: str, timeout: float, *, asynchronous: bool) -> dict[str, Any]:
    try:
        backoff = importlib.import_module(f"{client}.backoff")
        retry = importlib.import_module(f"{client}.asyncio.retry" if asynchronous else f"{client}.retry")
    except ModuleNotFoundError as error:
        message = f"counters in {client.capitalize()} need an extra; install `pep[{client}]`"
        raise ConfigurationError(message) from error
    options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    # Trying again would count twice where only the answer was lost.
    options["retry"] = retry.Retry(backoff.NoBackoff(), 0)
    if asynchronous:
        options["implementation"] = "valkey" if client == "valkey" else "redispy"
    return options


def _limits() -> Any:  # noqa: ANN401  a module that may not be there
    try:
        for name in _PARTS:
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        message = "counters outside of memory need an extra; install `pep[limits]`"
        raise ConfigurationError(message) from error
    return importlib.import_module("limits")
