"""
Addresses of hosts, by a deadline: the system's own look-up cannot be interrupted, so it is left behind.

Imports the error tree and waits only.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any, Final, TypeAlias

from pep.errors import PDPError, PDPInsecure, PDPOverloaded, PDPTimeout, PDPUnavailable
from pep.transport.origin import Origin, is_loopback
from pep.transport.waits import Exchange, Landed

#: How many look-ups may be under way, those that nobody waits for any longer among them.
MAX_LOOKUPS: Final = 16

#: The family of an address, and the address as `socket.connect` takes it.
Address: TypeAlias = "tuple[int, Any]"


class Resolver:
    """Looks addresses up, on threads that are bounded in number."""

    def __init__(self, limit: int = MAX_LOOKUPS) -> None:
        # Reentrant, unlike a semaphore: a signal handler may ask too.
        self._room = deque([None] * limit)

    def addresses(self, origin: Origin, deadline: float) -> Exchange[list[Address]]:
        """
        Look up where an origin is.

        Raises:
            PDPTimeout: When that took too long.

            PDPUnavailable: When it is nowhere.

            PDPOverloaded: When too many look-ups are under way.

            PDPInsecure: When the name of this machine leads elsewhere.
        """
        try:
            return _looked_up(origin, socket.AI_NUMERICHOST)
        except socket.gaierror:  # it is a name
            pass
        found = self._begun(origin)
        if not (yield Landed(found, deadline)):
            message = "the decision point's name was not resolved in time"
            raise PDPTimeout(message)
        error = found.exception()
        if isinstance(error, OSError):
            message = "the decision point's name cannot be resolved"
            raise PDPUnavailable(message)
        if error is not None:
            message = f"the decision point's name cannot be looked up: {type(error).__name__}"
            raise PDPError(message)
        return _trusted(origin, found.result())

    def _begun(self, origin: Origin) -> Future[list[Address]]:
        found: Future[list[Address]] = Future()
        try:
            self._room.pop()
        except IndexError:
            message = "too many names are being looked up; is the name server down?"
            raise PDPOverloaded(message) from None
        try:
            threading.Thread(target=self._look_up, args=(origin, found), daemon=True).start()
        except RuntimeError:
            self._room.append(None)
            message = "the system has no room for another thread"
            raise PDPOverloaded(message) from None
        return found

    def _look_up(self, origin: Origin, found: Future[list[Address]]) -> None:
        try:
            addresses = _looked_up(origin, 0)
        except BaseException as error:  # noqa: BLE001  crosses as a value
            self._room.append(None)
            found.set_exception(error)
        else:
            self._room.append(None)
            found.set_result(addresses)


def _looked_up(origin: Origin, flags: int) -> list[Address]:
    found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _type, _protocol, _name, address in found]


def _trusted(origin: Origin, found: list[Address]) -> list[Address]:
    """Keep to this machine what is allowed in plain text only because it is."""
    if not origin.local:
        return found
    near = [address for address in found if is_loopback(str(address[1][0]))]
    if not near:
        message = "`localhost` leads to another machine"
        raise PDPInsecure(message)
    return near
