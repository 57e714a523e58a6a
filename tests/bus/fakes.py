"""A server in memory that loses whatever it is told to, for buses that run on no network."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Sequence


class Server:
    """Hands every payload to every subscriber in order, over links that may break and lose."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        #: How many of the next operations of a wire fail, before or after the server took them.
        self.refusing = False
        self.forgetful = False

    def take(self, payload: bytes) -> int:
        for link in self.links:
            link.payloads.append(payload)
        return len(self.links)

    def restart(self) -> None:
        for link in list(self.links):
            link.close()


class Link:
    """One subscription, read without waiting."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.payloads: deque[bytes] = deque()
        self.broken = False
        server.links.append(self)

    def read(self, timeout: float, /) -> bytes | None:
        if self.broken:
            raise ConnectionResetError
        return self.payloads.popleft() if self.payloads else None

    def close(self) -> None:
        self.broken = True
        self.payloads.clear()
        if self in self.server.links:
            self.server.links.remove(self)


class Pipe:
    """One process's way to the server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.closed = False

    def listen(self) -> Link:
        if self.server.refusing:
            raise ConnectionRefusedError
        return Link(self.server)

    def send(self, payloads: Sequence[bytes], /) -> list[int]:
        if self.server.refusing:
            raise ConnectionRefusedError
        reached = [self.server.take(payload) for payload in payloads]
        if self.server.forgetful:
            raise TimeoutError
        return reached

    def close(self) -> None:
        self.closed = True


class GatedLink:
    """One subscription that is read from a thread: a read waits until the test says what comes of it."""

    def __init__(self) -> None:
        #: What is read next: a payload, None for a read that timed out, an error to raise, or an event
        #: that is set once everything before it was taken.
        self.next: queue.SimpleQueue[bytes | Exception | threading.Event | None] = queue.SimpleQueue()
        self.closed = False

    def read(self, timeout: float, /) -> bytes | None:
        found = self.next.get(timeout=30)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, threading.Event):
            found.set()
            return None
        return found

    def close(self) -> None:
        self.closed = True


class GatedPipe:
    """A way to a server of one: whatever is sent comes back, unless it is held."""

    def __init__(self) -> None:
        #: What `listen` does next: a link to give, or an error to raise.
        self.links: queue.SimpleQueue[GatedLink | Exception] = queue.SimpleQueue()
        self.sent: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.link: GatedLink | None = None
        self.error: Exception | None = None
        self.reached = 1
        self.closed = False

    def listen(self) -> GatedLink:
        found = self.links.get(timeout=30)
        if isinstance(found, Exception):
            raise found
        self.link = found
        return found

    def send(self, payloads: Sequence[bytes], /) -> list[int]:
        if self.error is not None:
            raise self.error
        for payload in payloads:
            self.sent.put(payload)
            if self.link is not None:
                self.link.next.put(payload)
        return [self.reached] * len(payloads)

    def close(self) -> None:
        self.closed = True
