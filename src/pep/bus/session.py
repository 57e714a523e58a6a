"""
A process's part in a bus between processes: one thread that listens, one that speaks.

Knows no server: a *wire* reaches one. Imports the bus's own files, locks and protocols only.

Both threads look at the time whenever they come by, so that either one notices what the other,
held up by the network, cannot. Only the speaker sends, so that messages keep their order, and a
caller of either world waits for it on a future.
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime, timezone
from typing import Final, Protocol, TypeAlias

from pep.bus.listening import Listening
from pep.bus.messages import Message
from pep.bus.seam import Floor
from pep.bus.subscribers import Subscribers
from pep.errors import PublishError
from pep.locks import Lock
from pep.protocols import Clock

#: How many heartbeats are sent in the time after which their silence counts as a loss.
BEATS: Final = 4

#: How long a thread waits at most before it looks whether it is to end, in seconds.
LOOK: Final = 1.0

#: How many invalidations are sent at once.
MAX_BATCH: Final = 256

#: What is to be published, and who waits for it.
_Letter: TypeAlias = "tuple[Floor, Future[None]]"


class Ear(Protocol):
    """A confirmed subscription to a channel."""

    def read(self, timeout: float, /) -> object | None:
        """Return one payload, or None where none came within some seconds; raise when the subscription is gone."""
        ...

    def close(self) -> None:
        """Close its connection."""
        ...


class Wire(Protocol):
    """What reaches the server; each operation is bounded in time, and raises when it failed."""

    def listen(self) -> Ear:
        """Subscribe, and return once the server confirmed it."""
        ...

    def send(self, payloads: Sequence[bytes], /) -> Sequence[int]:
        """Publish in order; return how many connections each payload reached."""
        ...

    def close(self) -> None:
        """Close the connection that sends."""
        ...


class Session:
    """
    What one process hears and says, from `start` to `close`.

    Args:
        wire: What reaches the server.

        subscribers: Who is told.

        clock: What time it is.

        heartbeat: How long nothing may be heard before everything is dropped, in seconds.

        timeout: How long an operation of the wire may take, in seconds.
    """

    def __init__(self, wire: Wire, subscribers: Subscribers, clock: Clock, *, heartbeat: float, timeout: float) -> None:
        self._wire, self._subscribers, self._clock = wire, subscribers, clock
        self._timeout, self._interval = timeout, heartbeat / BEATS
        self._pause = min(self._interval, LOOK)
        self._id = secrets.token_hex(8)
        self._listening = Listening(self._id, heartbeat, clock.boottime())
        self._lock = Lock()
        self._outbox: queue.SimpleQueue[_Letter | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._sequence, self._beat, self._due = 0, 0, clock.boottime()
        self._threads = [
            threading.Thread(target=target, name=f"pep-bus-{name}", daemon=True)
            for name, target in (("listen", self._listen), ("speak", self._speak))
        ]

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Say farewell, and end both threads; takes some timeouts at most."""
        self._stop.set()
        self._outbox.put(None)
        # A subscriber that closes it runs on one of them: they end once it returns.
        waits = threading.current_thread() not in self._threads
        for thread in self._threads:
            if waits and thread.is_alive():
                thread.join(self._pause + 4 * self._timeout)

    def publish(self, floor: Floor) -> Future[None]:
        """Have the speaker publish a floor; what the future raises is a `PublishError`."""
        if self._stop.is_set():
            return refused("the bus was closed")
        letter: Future[None] = Future()
        self._outbox.put((floor, letter))
        return letter

    @property
    def up(self) -> bool:
        """Whether whatever was published elsewhere a heartbeat ago was handed on, or everything dropped."""
        return self._listening.up(self._clock.boottime())

    @property
    def state(self) -> str:
        """``connected``, or since when it is down and why."""
        now = self._clock.boottime()
        if self._listening.up(now):
            return "connected"
        since = datetime.fromtimestamp(self._clock.wall() - (now - self._listening.since), timezone.utc)
        return f"down since {since.isoformat(timespec='seconds')}: {self._listening.why()}"

    # Listening.

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                self._hear()
            except Exception as error:  # noqa: BLE001  whatever it is, nothing is heard meanwhile
                self._broken(error)
                self._stop.wait(self._pause)

    def _hear(self) -> None:
        began = self._clock.boottime()
        ear = self._wire.listen()
        try:
            with self._lock:
                self._listening.subscribed(began)
                self._settle()
            # Until its own heartbeat comes back, it is not known that what is said here is heard here.
            self._outbox.put(None)
            while self._listening.linked and not self._stop.is_set():
                self._take(ear.read(self._pause))
        finally:
            ear.close()

    def _take(self, payload: object | None) -> None:
        with self._lock:
            if payload is not None:
                floor = self._listening.heard(payload, self._clock.boottime())
                if floor is not None and not self._subscribers.tell(floor):
                    self._listening.failed("a subscriber failed")
            self._look()

    def _broken(self, error: Exception) -> None:
        with self._lock:
            self._listening.broken(f"`{type(error).__name__}`", self._clock.boottime())
            self._settle()

    def _look(self) -> None:
        self._listening.tick(self._clock.boottime())
        self._settle()

    def _settle(self) -> None:
        owed = self._listening.owed
        # Until every subscriber has dropped everything, it is owed, and not up.
        if owed is not None and self._subscribers.drop(owed):
            self._listening.dropped()

    # Speaking.

    def _speak(self) -> None:
        while not self._stop.is_set():
            self._say(self._collect())
            with self._lock:
                self._look()
        self._say(self._pending(), bye=True)
        self._wire.close()

    def _collect(self) -> list[_Letter]:
        try:
            first = self._outbox.get(timeout=max(0.0, self._due - self._clock.boottime()))
        except queue.Empty:
            return []
        return self._pending(first)

    def _pending(self, *letters: _Letter | None) -> list[_Letter]:
        found = list(letters)
        while len(found) < MAX_BATCH and not self._outbox.empty():
            found.append(self._outbox.get())
        if None in found:
            self._due = self._clock.boottime()
        return [letter for letter in found if letter is not None]

    def _say(self, letters: Sequence[_Letter], *, bye: bool = False) -> None:
        sent, payloads = [], []
        for floor, letter in letters:
            # INVARIANT: it counts, sent or not: whoever does not hear it misses its number, and drops everything.
            self._sequence += 1
            if letter.set_running_or_notify_cancel():
                sent.append(letter)
                payloads.append(Message(self._id, self._sequence, floor=floor).encode())
        if bye:
            payloads.append(Message(self._id, self._sequence, bye=True).encode())
        elif self._clock.boottime() >= self._due:
            payloads.append(self._beaten().encode())
        self._send(payloads, sent)

    def _beaten(self) -> Message:
        now = self._clock.boottime()
        self._beat, self._due = self._beat + 1, now + self._interval
        with self._lock:
            self._listening.sent(self._beat, now)
        return Message(self._id, self._sequence, beat=self._beat)

    def _send(self, payloads: Sequence[bytes], letters: Sequence[Future[None]]) -> None:
        linked = self._listening.linked
        try:
            reached = self._wire.send(payloads) if payloads else ()
        except Exception as error:  # noqa: BLE001  whatever it is, nobody may have heard
            for letter in letters:
                letter.set_exception(unpublished(f"`{type(error).__name__}`"))
            return
        for letter, listeners in zip(letters, reached, strict=False):
            if listeners or not linked:
                letter.set_result(None)
            else:
                letter.set_exception(unpublished("not even this process heard it, so it went to another server"))


def unpublished(why: str) -> PublishError:
    """Return the error of an invalidation that may not have reached the others."""
    message = (
        f"invalidated in this process, but the others may not have heard of it: {why}; they drop everything "
        "once they hear of this process again, or miss it; mend the bus, and call again to be sure"
    )
    return PublishError(message)


def refused(why: str) -> Future[None]:
    """Return the future of an invalidation that is not even sent."""
    letter: Future[None] = Future()
    letter.set_exception(unpublished(why))
    return letter
