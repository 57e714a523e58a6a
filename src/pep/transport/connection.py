"""
One connection: bytes out, bytes in, by a deadline; and how one is made.

Imports the error tree and waits only. h11, which the extra ``httpx`` brings, reads and writes HTTP/1.1.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pep.errors import PDPError, PDPInsecure, PDPReplyError, PDPTimeout, PDPUnavailable
from pep.protocols import Clock
from pep.transport.origin import Origin
from pep.transport.resolver import Address, Resolver
from pep.transport.tls import check_context
from pep.transport.waits import Exchange, Ready, ready

if TYPE_CHECKING:
    import h11

T = TypeVar("T")

# How much is read at once, in bytes: as much as a record of TLS holds, so that none stays behind in it (RFC 8446 §5.1),
# and so little that the deadline is looked at often enough.
_PIECE: Final = 16384
_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK})
# Without IPv6, say, an address of it is nowhere.
_UNREACHABLE: Final = frozenset({
    errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT,
})  # fmt: skip


class BrokenError(Exception):
    """The connection ended before its time."""


class Connection:
    """
    A connection that was made.

    Attributes:
        origin: Where it leads.

        http: The state of the conversation.

        received: How many bytes of the reply that is awaited came so far.

        kept_at: Since when nobody uses it.
    """

    def __init__(self, sock: socket.socket, origin: Origin, http: h11.Connection) -> None:
        self._sock, self.origin, self.http = sock, origin, http
        self.received = 0
        self.kept_at = 0.0

    def write(self, data: bytes, deadline: float) -> Exchange[None]:
        """
        Send bytes, all of them.

        Raises:
            BrokenError: When the other side is gone.

            PDPTimeout: When it did not take them in time.

            PDPInsecure: When TLS failed.
        """
        view = memoryview(data)
        while view:
            sent = yield from _done(self._sock, self._sock.send, view, deadline=deadline)
            view = view[sent:]

    def read(self, deadline: float) -> Exchange[bytes]:
        """
        Receive some bytes; none are the end.

        Raises:
            BrokenError: When the other side is gone without a farewell.

            PDPTimeout: When none came in time.

            PDPInsecure: When TLS failed.
        """
        yield from _in_time(self._sock, False, deadline)  # noqa: FBT003  not writing
        data = yield from _done(self._sock, self._sock.recv, _PIECE, deadline=deadline)
        self.received += len(data)
        return data

    def readable(self) -> bool:
        """Tell whether there is something to read: of a connection that nobody uses, its end."""
        return ready(self._sock, False, 0)  # noqa: FBT003  not writing

    def renewed(self) -> bool:
        """Make it ready for another request; tell whether it can serve one."""
        import h11  # noqa: PLC0415  brought by the extra

        _more, ended = self.http.trailing_data
        if ended or self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
            return False
        self.http.start_next_cycle()
        self.received = 0
        return True

    def close(self) -> None:
        """Close it."""
        self._sock.close()


def connected(
    origin: Origin, context: ssl.SSLContext, resolver: Resolver, deadline: float, clock: Clock
) -> Exchange[socket.socket]:
    """
    Connect to the first address of an origin that takes it, each within its share of the time, and secure that.

    Raises:
        PDPUnavailable: When none does.

        PDPTimeout: When the time is over.

        PDPInsecure: When the server cannot prove who it is.
    """
    addresses = yield from resolver.addresses(origin, deadline)
    sock = yield from _first(addresses, deadline, clock)
    return (yield from _secured(sock, context, origin.host, deadline)) if origin.secure else sock


def _first(addresses: Sequence[Address], deadline: float, clock: Clock) -> Exchange[socket.socket]:
    *others, last = addresses
    for number, address in enumerate(others):
        now = clock.monotonic()
        try:
            return (yield from _reached(address, now + (deadline - now) / (len(addresses) - number)))
        except PDPUnavailable:
            continue
    return (yield from _reached(last, deadline))


def _reached(address: Address, deadline: float) -> Exchange[socket.socket]:
    family, where = address
    sock = _opened(family)
    failure = errno.EINPROGRESS
    try:
        failure = yield from _begun(sock, where, deadline)
    finally:
        if failure:
            sock.close()
    if failure:
        raise unreached(OSError(failure, os.strerror(failure)))
    return sock


def _begun(sock: socket.socket, where: Any, deadline: float) -> Exchange[int]:  # noqa: ANN401  as sockets take it
    failure = sock.connect_ex(where)
    if failure not in _UNDER_WAY:
        return failure
    yield from _in_time(sock, True, deadline)  # noqa: FBT003  writing
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _opened(family: int) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise unreached(error) from error
    sock.setblocking(False)  # noqa: FBT003  as the standard library has it
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def unreached(error: OSError) -> PDPError:
    """Name what it means that no connection came about: that nobody is there, or a fault of this process."""
    message = f"the decision point could not be reached: {type(error).__name__}"
    if isinstance(error, TimeoutError):
        return PDPTimeout(message)
    if isinstance(error, (ConnectionError, socket.gaierror)) or error.errno in _UNREACHABLE:
        return PDPUnavailable(message)
    return PDPError(f"{message} ({errno.errorcode.get(error.errno or 0, 'unknown')})")


def _secured(sock: socket.socket, context: ssl.SSLContext, host: str, deadline: float) -> Exchange[socket.socket]:
    wrapped, secure = sock, False
    try:
        check_context(context, PDPInsecure)
        wrapped = context.wrap_socket(
            sock, server_hostname=host, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        yield from _done(wrapped, wrapped.do_handshake, deadline=deadline)
        _check_protocol(wrapped)
        secure = True
    finally:
        if not secure:
            wrapped.close()
    return wrapped


def _check_protocol(sock: ssl.SSLSocket) -> None:
    if sock.selected_alpn_protocol() not in {None, "http/1.1"}:
        message = "the server chose another protocol than HTTP/1.1; offer no other in `tls`"
        raise PDPReplyError(message)


def _done(sock: socket.socket, act: Callable[..., T], *args: Any, deadline: float) -> Exchange[T]:  # noqa: ANN401  as it takes them
    """Do something to a socket as soon as it lets us."""
    while True:
        try:
            return act(*args)
        except ssl.SSLWantReadError:
            writing = False
        except (ssl.SSLWantWriteError, BlockingIOError):
            # Whoever reads has waited for it; so it is one who writes.
            writing = True
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise BrokenError from error
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", "") or error.reason or type(error).__name__
            message = f"the connection is not secure: {why}"
            raise PDPInsecure(message) from error
        except OSError as error:
            raise BrokenError from error
        yield from _in_time(sock, writing, deadline)


def _in_time(sock: socket.socket, writing: bool, deadline: float) -> Exchange[None]:
    if not (yield Ready(sock, writing, deadline)):
        message = "the decision point did not answer in time"
        raise PDPTimeout(message)
