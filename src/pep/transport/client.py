"""
The transport: one object for both worlds. Imports the error tree, the values that cross and its own folder only.

What it does over the wire is written once, as exchanges that wait; see `pep.transport.waits`.
"""

from __future__ import annotations

import os
import ssl
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final

from typing_extensions import Self

from pep.clock import SystemClock
from pep.errors import ConfigurationError, PDPError, PDPInsecure, PDPTimeout, PDPUnavailable
from pep.exchange import HTTPReply, HTTPRequest
from pep.locks import Lock
from pep.protocols import Clock
from pep.transport.connection import BrokenError, Connection, connected
from pep.transport.credentials import SECRET, checked_credentials, checked_headers, shown_headers
from pep.transport.origin import Origin, located, may_be_plain, plain_hosts
from pep.transport.pool import Pool
from pep.transport.resolver import Resolver
from pep.transport.tls import client_context
from pep.transport.waits import Exchange, aperform, perform

if TYPE_CHECKING:
    from pep.transport.conversation import Message

# What share of its time a request does not wait for its turn: so that it is told why there was none, before whoever
# waits for the reply gives up.
_SPARE: Final = 0.02

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HTTPTransport:
    """
    Sends HTTP/1.1 requests, from threads and tasks alike, over connections that are kept.

    The time a request may take is the time all of it may take: looking the name up, waiting for a connection,
    connecting to one address after the other, TLS, writing, and a reply that trickles in. TLS is always verified.
    There are no proxies, cookies, ``.netrc`` files or redirects. A request is sent a second time only where a
    connection that was kept died before a byte of the reply came: asking for a decision twice changes nothing.

    Args:
        credentials: A bearer token; or a function that is called for each request, which returns the value of
            ``Authorization`` or a mapping of headers, name → value, from memory. They never go over plain HTTP,
            except to this machine.

        tls: A TLS context of your own, which must verify; None makes one that trusts what the system does.

        ca: The file of the certificates to trust instead of the system's.

        certificate: The client's own: paths of the certificate and of its key, and perhaps a function that returns
            the key's password.

        plain: Hosts that may be asked over ``http``, as ``"host"`` or ``"host:port"``, besides this machine.

        max_bytes: How long a body may be once it is decompressed.

        max_head: How long the headers of a reply may be, in bytes.

        connections: How many requests may be under way at once; others wait for their turn.

        idle: For how many seconds a connection is kept that nobody needs.

        clock: What time it is.

    Raises:
        ConfigurationError: When an option will not do, or the extra is missing.
    """

    def __init__(
        self,
        *,
        credentials: str | Callable[[], str | Mapping[str, str]] | None = None,
        tls: ssl.SSLContext | None = None,
        ca: str | os.PathLike[str] | None = None,
        certificate: tuple[object, ...] | None = None,
        plain: Collection[str] = (),
        max_bytes: int = 1_048_576,
        max_head: int = 65_536,
        connections: int = 32,
        idle: float = 15.0,
        clock: Clock | None = None,
    ) -> None:
        _check_extra()
        from pep.transport.conversation import Caps  # noqa: PLC0415  needs the extra

        self._credentials = checked_credentials(credentials)
        self._tls = client_context(tls, ca, certificate)
        self._plain = plain_hosts(plain)
        self._caps = Caps(_count(max_head, "max_head"), _count(max_bytes, "max_bytes"))
        self._connections, self._idle = _count(connections, "connections"), _seconds(idle)
        self._clock: Clock = SystemClock() if clock is None else clock
        self._closed = False
        self._lock = Lock()
        self._begin()

    def send(self, request: HTTPRequest, /, *, timeout: float, awaiting: bool) -> HTTPReply | Awaitable[HTTPReply]:
        """
        Send one request, and return the whole reply, whatever its status; a task gets something to await.

        Raises:
            PDPTimeout: When the time was over.

            PDPUnavailable: When there was no connection, or it broke.

            PDPOverloaded: When all connections were in use until then.

            PDPInsecure: When the server could not prove who it is, or a secret would have gone over plain HTTP.

            PDPReplyError: When what came back is no reply, or over the caps.

            PDPError: When the request cannot be sent, or the transport is closed.
        """
        exchange = self._exchanged(request, self._clock.monotonic() + timeout)
        return aperform(exchange, self._clock) if awaiting else perform(exchange, self._clock)

    def admit(self, url: str) -> None:
        """
        Check that a URL may be asked.

        Raises:
            ConfigurationError: Unless it is ``https``; or ``http`` on this machine, or on a host of `plain`, to
                which no credentials go.
        """
        origin, _named, _target = located(url)
        if origin.secure:
            return
        if not may_be_plain(origin, self._plain):
            message = f"`{origin}` is not secure; use `https`, or name its host in `plain`"
            raise ConfigurationError(message)
        if self._credentials is not None and not origin.local:
            message = f"credentials must not go to `{origin}`, which is not secure; use `https`"
            raise ConfigurationError(message)

    def close(self) -> None:
        """Close every connection; later requests are refused. Needs no event loop."""
        self._closed = True
        self._end()

    async def aclose(self) -> None:
        """Close every connection; the same as `close`."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        used, kept = self._pool.counts()
        return f"HTTPTransport(<{used} of {self._connections} connections in use, {kept} kept>)"

    def _begin(self) -> None:
        """Make the pool of this process; a forked child leaves its parent's connections alone."""
        self._resolver = Resolver()
        self._pool = Pool(self._connections, self._idle, self._clock)
        self._end = weakref.finalize(self, self._pool.close)

    def _here(self) -> Pool:
        if self._pool.process != os.getpid():
            with self._lock:
                if self._pool.process != os.getpid():
                    self._end()
                    self._begin()
        return self._pool

    def _exchanged(self, request: HTTPRequest, deadline: float) -> Exchange[HTTPReply]:
        message, pool = self._message(request), self._here()
        left = self._checked_time(deadline)
        yield from pool.enter(deadline - _SPARE * left)
        try:
            return (yield from self._sent(pool, message, deadline))
        except BrokenError:
            told = "the connection broke before the reply was whole"
            raise PDPUnavailable(told) from None
        finally:
            pool.leave()

    def _checked_time(self, deadline: float) -> float:
        if self._closed:
            message = "the transport is closed"
            raise PDPError(message)
        left = deadline - self._clock.monotonic()
        if left <= 0:
            message = "there was no time left to ask"
            raise PDPTimeout(message)
        return left

    def _sent(self, pool: Pool, message: Message, deadline: float) -> Exchange[HTTPReply]:
        kept = pool.take(message.origin)
        if kept is not None:
            try:
                return (yield from self._over(kept, pool, message, deadline))
            except BrokenError:
                if kept.received:
                    raise
        fresh = yield from self._connection(message.origin, deadline)
        return (yield from self._over(fresh, pool, message, deadline))

    def _connection(self, origin: Origin, deadline: float) -> Exchange[Connection]:
        from pep.transport.conversation import begun  # noqa: PLC0415  needs the extra

        sock = yield from connected(origin, self._tls, self._resolver, deadline, self._clock)
        return Connection(sock, origin, begun(self._caps))

    def _over(self, connection: Connection, pool: Pool, message: Message, deadline: float) -> Exchange[HTTPReply]:
        from pep.transport.conversation import conversed  # noqa: PLC0415  needs the extra

        whole = False
        try:
            reply = yield from conversed(connection, message, self._caps, deadline)
            whole = True
        finally:
            if not whole:
                connection.close()
        pool.keep(connection)
        return reply

    def _message(self, request: HTTPRequest) -> Message:
        from pep.transport.conversation import Message  # noqa: PLC0415  needs the extra

        origin, named, target = _located(request.url)
        headers = checked_headers(request.headers)
        secret = self._credentials is not None or not SECRET.isdisjoint(headers)
        self._check_secure(origin, secret)
        if request.method not in _METHODS or type(request.body) is not bytes:
            message = "a request needs a usual method, in capitals, and bytes as its body"
            raise PDPError(message)
        if self._credentials is not None:
            headers.update(shown_headers(self._credentials))
        own = {"host": named, "accept-encoding": "gzip", "content-length": str(len(request.body))}
        return Message(origin, request.method, target, [*own.items(), *headers.items()], request.body)

    def _check_secure(self, origin: Origin, secret: bool) -> None:
        if origin.secure or (origin.local or (may_be_plain(origin, self._plain) and not secret)):
            return
        message = f"`{origin}` is not secure enough for this request"
        raise PDPInsecure(message)


def _located(url: object) -> tuple[Origin, str, str]:
    try:
        return located(url)
    except ConfigurationError as error:
        raise PDPError(str(error)) from None


def _check_extra() -> None:
    try:
        import h11  # noqa: PLC0415, F401  brought by the extra
    except ImportError as error:
        message = "an HTTP transport needs an extra; install `pep[httpx]`"
        raise ConfigurationError(message) from error


def _count(value: object, name: str) -> int:
    if type(value) is not int or value < 1:
        message = f"`{name}` must be an `int` from 1 on"
        raise ConfigurationError(message)
    return value


def _seconds(value: object) -> float:
    if type(value) not in {int, float} or not 0 <= value < float("inf"):  # type: ignore[operator]
        message = "`idle` must be a number of seconds from 0 on"
        raise ConfigurationError(message)
    return float(value)  # type: ignore[arg-type]
