"""
A bus between processes, over the publish/subscribe channel of one Redis server.

The only file that knows redis-py, and loads it when a bus is made. Imports the bus's own files,
clocks and errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pep.bus.seam import OnFloor, OnLost
from pep.bus.shared import SharedBus, SharedSubscription
from pep.clock import SystemClock
from pep.errors import ConfigurationError
from pep.protocols import Clock

if TYPE_CHECKING:
    import redis

#: How many heartbeats an entry may live, if nothing else is said.
LIFETIME: Final = 12

# Settings that belong to the pool they were taken from, or that have a client try again unasked.
_OF_A_POOL: Final = ("maint_", "oss_cluster_", "orig_", "himport_", "event_dispatcher", "retry_on_error")


class RedisBus:
    """
    Carries invalidations between processes that subscribe to one channel of one Redis server.

    Args:
        server: A ``redis://``, ``rediss://`` or ``unix://`` URL, or a `redis.Redis` whose settings are taken.

        channel: The channel's name; enforcers of different applications need different ones.

        heartbeat: How long nothing may be heard before everything is dropped, in seconds.

        timeout: How long connecting, or publishing, may take, in seconds.

        ttl: How long an entry may live while the bus is up, in seconds; twelve heartbeats, unless
            it is given.

        clock: What time it is; the machine's, unless it is given.

    Raises:
        ConfigurationError: When redis-py is missing, or an argument is none.
    """

    def __init__(
        self,
        server: str | redis.Redis,
        *,
        channel: str = "pep",
        heartbeat: float = 5.0,
        timeout: float = 1.0,
        ttl: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        for name, value in (("heartbeat", heartbeat), ("timeout", timeout), ("ttl", 1 if ttl is None else ttl)):
            if type(value) not in {int, float} or not 0 < value < float("inf"):
                message = f"`{name}` of a bus is a number of seconds above zero"
                raise ConfigurationError(message)
        if type(channel) is not str or not channel:
            message = "`channel` of a bus is its name, a `str` that is not empty"
            raise ConfigurationError(message)
        settings = _Settings(server, timeout)
        self._channel = channel
        self._shared = SharedBus(
            lambda: _RedisWire(settings, channel, timeout),
            SystemClock() if clock is None else clock,
            heartbeat=float(heartbeat),
            timeout=float(timeout),
            ttl=float(LIFETIME * heartbeat if ttl is None else ttl),
        )

    @property
    def ttl(self) -> float:
        """How long an entry may live while the bus is up, in seconds."""
        return self._shared.ttl

    @property
    def state(self) -> str:
        """``connected``, or since when it is down and why."""
        return self._shared.state

    def subscribe(self, on_floor: OnFloor, on_lost: OnLost, /) -> SharedSubscription:
        """Take part; see `Bus.subscribe`. Connects in the background, on threads of its own."""
        return self._shared.subscribe(on_floor, on_lost)

    def __repr__(self) -> str:
        return f"<RedisBus on channel `{self._channel}`: {self.state}>"


class _RedisWire:
    """One process's connections to a Redis server."""

    def __init__(self, settings: _Settings, channel: str, timeout: float) -> None:
        self._settings, self._channel, self._timeout = settings, channel, timeout
        self._client = settings.client()

    def listen(self) -> _RedisEar:
        return _RedisEar(self._settings.client(), self._channel, self._timeout)

    def send(self, payloads: Sequence[bytes], /) -> list[int]:
        # One connection is kept; redis-py makes it anew where the server has closed it meanwhile.
        with self._client.pipeline(transaction=False) as batch:
            for payload in payloads:
                batch.publish(self._channel, payload)
            reached: list[int] = batch.execute()
        return reached

    def close(self) -> None:
        self._client.close()


class _RedisEar:
    """One confirmed subscription to a channel of a Redis server."""

    def __init__(self, client: redis.Redis, channel: str, timeout: float) -> None:
        self._client = client
        self._subscription: Any = client.pubsub()  # type: ignore[no-untyped-call]
        try:
            self._subscription.subscribe(channel)
            self._expected("subscribe", self._subscription.get_message(timeout=timeout))
        except BaseException:
            self.close()
            raise

    def read(self, timeout: float, /) -> object | None:
        found = self._subscription.get_message(timeout=timeout)
        return None if found is None else self._expected("message", found)

    def _expected(self, kind: str, found: dict[str, Any] | None) -> object:
        # A second confirmation would mean that the client has connected again, and what came between is lost.
        if found is None or found["type"] != kind:
            message = "the subscription was not confirmed, or did not last"
            raise ConnectionError(message)
        data: object = found["data"]
        return data

    def close(self) -> None:
        self._subscription.close()
        self._client.close()


class _Settings:
    """How to connect: a URL's or a client's settings, with every wait bounded and nothing tried twice."""

    def __init__(self, server: object, timeout: float) -> None:
        try:
            import redis  # noqa: PLC0415  an optional dependency, loaded where it is used
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.connection import AbstractConnection  # noqa: PLC0415
            from redis.retry import Retry  # noqa: PLC0415
        except ImportError as error:
            message = "a bus over Redis needs redis-py; install `pep[redis]`"
            raise ConfigurationError(message) from error
        pool = _pool(redis, server)
        kind, options = pool.connection_class, pool.connection_kwargs
        if not issubclass(kind, AbstractConnection) or "connection_pool" in options:
            message = "a bus over Redis takes a `redis.Redis` of one server: no `asyncio` client, Sentinel or cluster"
            raise ConfigurationError(message)
        self._redis, self._kind = redis, kind
        bounds = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": Retry(NoBackoff(), 0)}
        plain = {"decode_responses": False, "health_check_interval": 0, "protocol": 2, "retry_on_timeout": False}
        kept = {name: value for name, value in options.items() if not name.startswith(_OF_A_POOL)}
        self._options: dict[str, Any] = {**kept, **bounds, **plain}
        try:
            kind(**self._options)
        except (TypeError, ValueError, redis.RedisError):
            # Its text may hold the password.
            message = "redis-py does not take these settings; look at what follows the `?` in the URL"
            raise ConfigurationError(message) from None

    def client(self) -> redis.Redis:
        """Return a client with connections of its own."""
        pool = self._redis.ConnectionPool(connection_class=self._kind, **self._options)
        return self._redis.Redis.from_pool(pool)


def _pool(redis: Any, server: Any) -> Any:  # noqa: ANN401  the module, and whatever a user hands over
    if isinstance(server, redis.Redis):
        return server.connection_pool
    try:
        if isinstance(server, str):
            return redis.ConnectionPool.from_url(server)
    except ValueError:
        # Its text may hold the password.
        pass
    message = "a bus over Redis takes a `redis://`, `rediss://` or `unix://` URL, or a `redis.Redis`"
    raise ConfigurationError(message)
