"""
A sink that adds records to a Redis stream; needs the extra ``redis``. Imports L1 and turns only.

redis-py is imported when a sink is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pep.audit.record import Record
from pep.audit.turns import seconds
from pep.errors import AuditError, ConfigurationError
from pep.extract import is_asynchronous
from pep.profile import Guarantee

if TYPE_CHECKING:
    import redis
    import redis.asyncio

# How much of the time a server may spend on waiting for others; the rest is for the way there and back.
_SHARE: Final = 0.8


class RedisStreamSink:
    """
    Adds each record to a Redis stream, as one entry with the fields ``id``, ``kind`` and ``record``, its JSON.

    An acknowledgement of Redis says that the record is in its memory. What that is worth depends on the server,
    so a guarantee is stated here, and the server asked at every record whether it holds:

    * ``BUFFERED``: it is in Redis; this process may be killed, Redis may not.
    * ``WRITTEN``: and Redis keeps an append-only file. With ``appendfsync everysec`` a Redis that is killed
      may still lose the last seconds; with ``always``, none.
    * ``DURABLE``: and that file is on disk (``WAITAOF``, Redis 7.2). Every record waits for it, so set
      ``appendfsync always``: with ``everysec`` that takes up to a second.

    A record that was refused may be in the stream all the same, where only its acknowledgement was lost.

    Args:
        client: A URL, for a client of its own that never tries twice; or a client of redis-py. One of
            `redis.asyncio` serves asynchronous callers only. Yours is not closed with the sink; it needs a
            ``socket_timeout``, and its retries are its own.

        stream: The stream's key.

        guarantee: What is promised, and checked.

        maxlen: About how many entries the stream keeps, the newest ones; None all of them.

        replicas: How many replicas must have the record too; on disk, where it is ``DURABLE``.

        timeout: How long a record may take, in seconds.

    Raises:
        ConfigurationError: When an argument is out of range, or the extra is missing.
    """

    def __init__(
        self,
        client: str | redis.Redis | redis.asyncio.Redis,
        stream: str = "pep:audit",
        *,
        guarantee: Guarantee = Guarantee.BUFFERED,
        maxlen: int | None = None,
        replicas: int = 0,
        timeout: float = 1.0,
    ) -> None:
        self._timeout = seconds(timeout)
        _check(stream, guarantee, maxlen, replicas)
        self.stream, self.guarantee = stream, guarantee
        self._maxlen, self._replicas = maxlen, replicas
        self._errors = _errors()
        self._own = type(client) is str
        self._client: Any = _connectable(client, self._timeout) if self._own else _bounded(client)
        #: Whether it can only be awaited.
        self.asynchronous = is_asynchronous(self._client.execute_command)
        self._closed = False

    def record(self, record: Record) -> Any:  # noqa: ANN401  None, or what is to be awaited
        """
        Add one record.

        Raises:
            AuditError: When Redis did not acknowledge it as promised, or the sink is closed.
        """
        if self._closed:
            message = "the audit sink is closed"
            raise AuditError(message)
        commands = self._commands(record)
        if self.asynchronous:
            return self._awaited(commands)
        try:
            # Not raised by the client, which would quote the whole command.
            replies = commands.execute(raise_on_error=False)
        except self._errors as error:
            raise self._refusal(error) from error
        return self._check(replies)

    def close(self) -> None:
        """Refuse later records, and close the client, if it is the sink's own."""
        self._closed = True
        if self._own:
            self._client.close()

    def __repr__(self) -> str:
        return f"RedisStreamSink({self.stream!r}, guarantee={self.guarantee})"

    def _commands(self, record: Record) -> Any:  # noqa: ANN401  a pipeline of either world
        # One round trip, and one connection: `WAIT` asks for what this very connection wrote.
        commands = self._client.pipeline(transaction=False)
        entry = {"id": record.id, "kind": record.kind.value, "record": record.to_json()}
        commands.xadd(self.stream, entry, maxlen=self._maxlen, approximate=True)
        milliseconds = max(1, int(self._timeout * 1000 * _SHARE))
        if self.guarantee is Guarantee.DURABLE:
            commands.waitaof(1, self._replicas, milliseconds)
            return commands
        if self.guarantee is Guarantee.WRITTEN:
            commands.info("persistence")
        if self._replicas:
            commands.wait(self._replicas, milliseconds)
        return commands

    def _check(self, replies: list[Any]) -> None:
        """Refuse what was not acknowledged, or not as promised."""
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._refusal(reply) from reply
        if self.guarantee is Guarantee.DURABLE:
            local, replicas = replies[1]
            if local < 1:
                self._fail("it was not on its disk in time; set `appendfsync always` there")
            self._check_replicas(replicas)
        else:
            if self.guarantee is Guarantee.WRITTEN:
                self._check_file(replies[1])
            if self._replicas:
                self._check_replicas(replies[-1])

    def _check_file(self, persistence: Mapping[str, Any]) -> None:
        if not persistence.get("aof_enabled"):
            self._fail("it keeps no append-only file; set `appendonly yes` there, or ask for `buffered`")
        if persistence.get("aof_last_write_status") != "ok":
            self._fail("it could not write to its append-only file; make room on its disk")

    def _check_replicas(self, count: int) -> None:
        if count < self._replicas:
            self._fail(f"{count} of {self._replicas} replicas had it in time")

    def _fail(self, why: str) -> None:
        message = f"Redis stream `{self.stream}` did not keep an audit record as promised: {why}"
        raise AuditError(message)

    async def _awaited(self, commands: Any) -> None:  # noqa: ANN401  a pipeline of redis.asyncio
        import asyncio  # noqa: PLC0415  loaded only where there is a loop

        try:
            replies = await asyncio.wait_for(commands.execute(raise_on_error=False), self._timeout)
        except self._errors as error:
            raise self._refusal(error) from error
        except asyncio.TimeoutError as error:  # no `OSError` before Python 3.11
            raise self._refusal(error) from error
        self._check(replies)

    def _refusal(self, error: Exception) -> AuditError:
        # Of what a server says only the first word: the rest may quote the record. A client's own errors may hold
        # a password.
        reason = type(error).__name__
        code = str(error).partition(" ")[0]
        if code.isalpha() and code.isupper():
            reason = f"{reason} {code}"
        return AuditError(f"cannot add an audit record to Redis stream `{self.stream}`: {reason}")


def _check(stream: object, guarantee: object, maxlen: object, replicas: object) -> None:
    if type(stream) is not str or not stream:
        message = "a Redis stream needs a key: a `str` that is not empty"
        raise ConfigurationError(message)
    if type(guarantee) is not Guarantee:
        message = "`guarantee` must be a `Guarantee`"
        raise ConfigurationError(message)
    if maxlen is not None and (type(maxlen) is not int or maxlen < 1):
        message = "`maxlen` must be a whole number of entries, at least 1; leave it out to keep all"
        raise ConfigurationError(message)
    if type(replicas) is not int or replicas < 0:
        message = "`replicas` must be a whole number, 0 or more"
        raise ConfigurationError(message)


def _errors() -> tuple[type[Exception], ...]:
    try:
        from redis.exceptions import RedisError  # noqa: PLC0415  what the extra brings is imported when it is needed
    except ModuleNotFoundError as error:
        message = "a Redis sink needs an extra; install `pep[redis]`"
        raise ConfigurationError(message) from error
    return (RedisError, OSError)


def _connectable(url: Any, timeout: float) -> redis.Redis:  # noqa: ANN401  a str
    import redis  # noqa: PLC0415  what the extra brings is imported when it is needed
    from redis.backoff import NoBackoff  # noqa: PLC0415  the same
    from redis.retry import Retry  # noqa: PLC0415  the same

    try:
        # Trying again would write a record twice whose acknowledgement was lost.
        return redis.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
    except ValueError as error:
        message = "that is no URL of a Redis server; write `redis://host:6379/0`, `rediss://` or `unix://`"
        raise ConfigurationError(message) from error


def _bounded(client: Any) -> Any:  # noqa: ANN401  a client of either world
    pool = getattr(client, "connection_pool", None)
    if pool is None or not hasattr(client, "execute_command"):
        message = f"`{type(client).__name__}` is no Redis client; pass one, or a URL"
        raise ConfigurationError(message)
    if pool.connection_kwargs.get("socket_timeout") is None:
        message = "a Redis client without `socket_timeout` may wait for ever; make it with one"
        raise ConfigurationError(message)
    return client
