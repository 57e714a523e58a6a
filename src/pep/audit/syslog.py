"""
A sink that sends records to a syslog collector. Imports L1, turns and syslog's wire format only.

Over UDP, over TCP, or to a Unix socket of this machine.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from typing import Any, Final
from urllib.parse import urlsplit

from pep.audit.record import Record
from pep.audit.turns import Turns, seconds
from pep.audit.wire import FACILITIES, Header, framed
from pep.errors import AuditError, ConfigurationError
from pep.profile import Guarantee
from pep.profile_checks import nearest

# RFC 5424 §6.1: what every receiver should take.
_LEAST: Final = 2048
# What fits into one UDP datagram, with room for longer headers of IP.
_MOST: Final = 65_000
# RFC 5424 §7.3.1: it starts again at 1.
_LAST_NUMBER: Final = 2**31 - 1
_SCHEMES: Final = ("udp", "tcp", "unix")


class SyslogSink:
    """
    Sends each record to syslog: its JSON as the message, at a severity of its outcome.

    No transport of syslog acknowledges anything, so no more than ``BUFFERED`` is promised, and of UDP not
    even that is true: datagrams get lost. ``meta sequenceId`` counts what was sent, so that the collector can
    tell. What is known to have failed is refused: an unreachable host, a connection that was lost and could
    not be made again, a socket that takes no more in time.

    A message longer than *longest* is sent as a shorter record, with the same ``id``, ``kind``, ``time``
    and ``outcome``, and ``omitted``, the length in bytes of the one it stands for.

    Args:
        address: ``"udp://host:514"``, ``"tcp://host:601"`` or ``"unix:/dev/log"``, a datagram socket. Over TCP
            messages are framed by counting octets (RFC 6587 §3.4.1), unencrypted. A name is looked up once.

        facility: The name of the facility, such as ``"local0"``.

        app_name: What sends; 48 characters of printable ASCII at most.

        hostname: This machine, in the messages; None asks the machine.

        enterprise: Your private enterprise number at IANA. With one, kind, id, outcome, action, subject and
            resource are structured data too, under ``pep@<number>``.

        longest: The longest message the collector takes, in bytes; 2048 to 65,000. Many stop at 8192.

        timeout: How long to wait for a turn, and again for connecting and sending, in seconds.

    Raises:
        ConfigurationError: When an argument is out of range, or the host's name is not found.

    Source:
        RFC 5424; RFC 5426 (UDP); RFC 6587 (TCP).
    """

    guarantee = Guarantee.BUFFERED

    def __init__(
        self,
        address: str = "unix:/dev/log",
        *,
        facility: str = "authpriv",
        app_name: str = "pep",
        hostname: str | None = None,
        enterprise: int | None = None,
        longest: int = _MOST,
        timeout: float = 1.0,
    ) -> None:
        if facility not in FACILITIES:
            message = f"unknown syslog facility `{facility}`; {nearest(str(facility), FACILITIES)}"
            raise ConfigurationError(message)
        if type(longest) is not int or not _LEAST <= longest <= _MOST:
            message = f"`longest` must be a number of bytes from {_LEAST} to {_MOST}"
            raise ConfigurationError(message)
        self.address = address
        self._family, self._kind, self._target = _place(address)
        host = socket.gethostname() if hostname is None else hostname
        self._header = Header(FACILITIES[facility], host, app_name, enterprise)
        self._longest, self._timeout = longest, seconds(timeout)
        self._turns = Turns(self._timeout)
        self._socket: socket.socket | None = None
        self._process = os.getpid()
        self._numbers = itertools.count()
        self._counts = {"sent": 0, "refused": 0, "shortened": 0}
        self._closed = self._sending = False

    def record(self, record: Record) -> None:
        """
        Send one record.

        Raises:
            AuditError: When it could not be sent in time, or the sink is closed.
        """
        with self._turns:
            if self._process != os.getpid():
                # A stream that a parent and its child both wrote to would be garbled.
                self._process, self._sending = os.getpid(), False
                self._hang_up()
            if self._closed or self._sending:
                # What interrupts a message, such as a signal handler, must not write into it.
                message = f"the audit sink is {'closed' if self._closed else 'in the middle of a message'}"
                raise AuditError(message)
            number = next(self._numbers) % _LAST_NUMBER + 1
            content, shortened = self._header.message(record, number, self._longest)
            self._sending = True
            try:
                self._send(framed(content) if self._kind is socket.SOCK_STREAM else content)
            except OSError as error:
                self._counts["refused"] += 1
                reason = "it took too long" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0)
                message = f"cannot send an audit record to `{self.address}`: {reason}"
                raise AuditError(message) from error
            finally:
                self._sending = False
            self._counts["sent"] += 1
            self._counts["shortened"] += shortened

    def stats(self) -> dict[str, int]:
        """Count the records sent, refused, and sent in short."""
        return dict(self._counts)

    def close(self) -> None:
        """Close the connection; later records are refused."""
        with self._turns:
            self._closed = True
            self._hang_up()

    def __repr__(self) -> str:
        return f"SyslogSink({self.address!r})"

    def _send(self, frame: bytes) -> None:
        deadline = time.monotonic() + self._timeout
        connection = self._socket
        if connection is None or _gone(connection):
            connection = self._connected(deadline)
        try:
            self._deliver(connection, frame, deadline)
        except TimeoutError:
            raise
        except OSError:
            # The collector was restarted, perhaps: once more, on a new connection.
            self._deliver(self._connected(deadline), frame, deadline)

    def _deliver(self, connection: socket.socket, frame: bytes, deadline: float) -> None:
        try:
            connection.settimeout(_left(deadline))
            connection.sendall(frame)
        except BaseException:
            # INVARIANT: nothing follows a message that was cut short.
            self._hang_up()
            raise

    def _connected(self, deadline: float) -> socket.socket:
        self._hang_up()
        made = self._socket = socket.socket(self._family, self._kind)
        try:
            made.settimeout(_left(deadline))
            made.connect(self._target)
        except BaseException:
            self._hang_up()
            raise
        return made

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _place(address: object) -> tuple[socket.AddressFamily, socket.SocketKind, Any]:
    """Read an address: which family of sockets, of which kind, and where to."""
    mend = "write `udp://host:514`, `tcp://host:601` or `unix:/dev/log`"
    message = f"`{address}` is no address of a syslog collector; {mend}"
    try:
        parts = urlsplit(address if type(address) is str else "")
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(message) from error
    if scheme == "unix" and parts.path:
        return socket.AF_UNIX, socket.SOCK_DGRAM, parts.path
    if scheme not in _SCHEMES or not host or not port or parts.path or parts.query:
        raise ConfigurationError(message)
    kind = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
    try:
        family, _, _, _, target = socket.getaddrinfo(host, port, type=kind)[0]
    except OSError as error:
        message = f"the host of `{address}` is not found; name another, or its address"
        raise ConfigurationError(message) from error
    return family, kind, target


def _gone(connection: socket.socket) -> bool:
    """Tell whether the other side has closed a connection: what is written into it then is lost without a word."""
    if connection.type is not socket.SOCK_STREAM:
        return False
    connection.settimeout(0)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
