"""
Connections that are kept, and how many there may be: one pool for threads and tasks alike.

Sockets belong to no event loop between two requests, so that any loop and any thread may go on with them. Imports the
error tree, locks and connections only.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future

from pep.errors import PDPOverloaded
from pep.locks import Lock
from pep.protocols import Clock
from pep.transport.connection import Connection
from pep.transport.origin import Origin
from pep.transport.waits import Exchange, Landed


class Pool:
    """
    The connections of one process.

    Args:
        connections: How many requests may be under way at once.

        idle: For how many seconds a connection is kept that nobody needs.

        clock: What time it is.
    """

    def __init__(self, connections: int, idle: float, clock: Clock) -> None:
        self._clock, self._patience = clock, idle
        self._free, self._most = connections, connections
        self._waiting: deque[Future[None]] = deque()
        self._kept: dict[Origin, deque[Connection]] = {}
        self._lock = Lock()
        self._closed = False
        #: The process it belongs to: no other one may touch its connections.
        self.process = os.getpid()

    def enter(self, deadline: float) -> Exchange[None]:
        """
        Wait for one's turn; whoever has it has to `leave`.

        Raises:
            PDPOverloaded: When it did not come by the deadline.
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn: Future[None] = Future()
            self._waiting.append(turn)
        given = False
        try:
            given = yield Landed(turn, deadline)
        finally:
            if not given:
                self._withdraw(turn)
        if not given:
            message = f"all {self._most} connections are in use; raise `connections`, or lower the load"
            raise PDPOverloaded(message)

    def leave(self) -> None:
        """Give one's turn to whoever waits longest."""
        with self._lock:
            turn = self._waiting.popleft() if self._waiting else None
            if turn is None:
                self._free += 1
        if turn is not None:
            turn.set_result(None)

    def take(self, origin: Origin) -> Connection | None:
        """Take the connection that was used last, if there is one that is still good."""
        while True:
            with self._lock:
                kept = self._kept.get(origin)
                connection = kept.pop() if kept else None
            if connection is None or not (self._stale(connection) or connection.readable()):
                return connection
            # The server closed it, or spoke unasked: either way it is no use.
            connection.close()

    def keep(self, connection: Connection) -> None:
        """Keep a connection, if it can serve again, for the next who needs it; else close it."""
        connection.kept_at = self._clock.boottime()
        renewed = self.process == os.getpid() and connection.renewed()
        with self._lock:
            good = renewed and not self._closed
            if good:
                self._kept.setdefault(connection.origin, deque()).append(connection)
            surplus = self._surplus()
        for other in surplus if good else [*surplus, connection]:
            other.close()

    def close(self) -> None:
        """Close every connection that is kept; those in use are closed once they are not."""
        with self._lock:
            self._closed = True
            kept, self._kept = self._kept, {}
        for connections in kept.values():
            for connection in connections:
                connection.close()

    def counts(self) -> tuple[int, int]:
        """Return how many requests are under way, and how many connections are kept."""
        with self._lock:
            return self._most - self._free, sum(map(len, self._kept.values()))

    def _withdraw(self, turn: Future[None]) -> None:
        with self._lock:
            waiting = turn in self._waiting
            if waiting:
                self._waiting.remove(turn)
        if not waiting:
            # It was given meanwhile.
            self.leave()

    def _stale(self, connection: Connection) -> bool:
        return self._clock.boottime() - connection.kept_at >= self._patience

    def _surplus(self) -> list[Connection]:
        """Take out what was kept too long, and the oldest of what is too much."""
        found = []
        for origin, kept in list(self._kept.items()):
            while kept and self._stale(kept[0]):
                found.append(kept.popleft())
            if not kept:
                del self._kept[origin]
        while sum(map(len, self._kept.values())) > self._most:
            found.append(min(filter(None, self._kept.values()), key=_age).popleft())
        return found


def _age(kept: deque[Connection]) -> float:
    return kept[0].kept_at
