"""
A bus between processes, over any wire: one session per process, shared by its subscribers.

Imports the bus's own files, locks and protocols only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotDone

from pep.bus.seam import Floor, OnFloor, OnLost
from pep.bus.session import Session, Wire, refused, unpublished
from pep.bus.subscribers import Subscriber, Subscribers
from pep.errors import PublishError
from pep.forking import after_fork
from pep.locks import Lock
from pep.protocols import Clock


class SharedBus:
    """
    Carries invalidations between processes.

    Args:
        wire: Makes what reaches the server, one for every process.

        clock: What time it is.

        heartbeat: How long nothing may be heard before everything is dropped, in seconds.

        timeout: How long an operation of the wire, and publishing, may take, in seconds.

        ttl: How long an entry may live while the bus is up, in seconds.
    """

    def __init__(self, wire: Callable[[], Wire], clock: Clock, *, heartbeat: float, timeout: float, ttl: float) -> None:
        self._wire, self._clock = wire, clock
        self._heartbeat, self.timeout, self.ttl = heartbeat, timeout, ttl
        self._subscribers = Subscribers()
        self._lock = Lock()
        self._session: tuple[int, Session] | None = None

    def subscribe(self, on_floor: OnFloor, on_lost: OnLost, /) -> SharedSubscription:
        """Take part; see `Bus.subscribe`. Connects in the background."""
        subscriber = Subscriber(on_floor, on_lost)
        self._subscribers.add(subscriber)
        self._running(subscriber)
        return SharedSubscription(self, subscriber)

    @property
    def state(self) -> str:
        """``connected``, or since when it is down and why."""
        session = self._own()
        return "down: not subscribed in this process" if session is None else session.state

    def holds(self, subscriber: Subscriber) -> bool:
        """Tell whether a subscriber takes part still."""
        return subscriber in self._subscribers

    def publish(self, floor: Floor, subscriber: Subscriber) -> Future[None]:
        """Tell the other subscribers of this process, and have other processes told."""
        session = self._running(subscriber)
        letter = refused("the subscription is closed") if session is None else session.publish(floor)
        self._subscribers.publish(floor, subscriber)
        return letter

    def lifetime(self, subscriber: Subscriber) -> float:
        """Return how long an entry may live that a subscriber stores now, in seconds."""
        session = self._running(subscriber)
        return self.ttl if session is not None and session.up else min(self.ttl, self._heartbeat)

    def leave(self, subscriber: Subscriber) -> None:
        """Let a subscriber leave; the last one ends the session."""
        with self._lock:
            last = self._subscribers.remove(subscriber)
            session = self._own() if last else None
            self._session = None if last else self._session
        if session is not None:
            session.close()

    def _own(self) -> Session | None:
        # A forked child has none until it makes one: its parent's threads and sockets are not its own.
        session = self._session
        return session[1] if session is not None and session[0] == os.getpid() else None

    def _running(self, subscriber: Subscriber) -> Session | None:
        session = self._own()
        if session is not None and self.holds(subscriber):
            return session
        with self._lock:
            session = self._own()
            # INVARIANT: who has left is not let in again, so that a session ends with its last subscriber.
            if session is None and self.holds(subscriber):
                session = self._started()
            return session if self.holds(subscriber) else None

    def _started(self) -> Session | None:
        session = Session(self._wire(), self._subscribers, self._clock, heartbeat=self._heartbeat, timeout=self.timeout)
        try:
            session.start()
        except RuntimeError:
            # No thread is to be had, such as when the interpreter ends: it stays down.
            session.close()
            return None
        self._session = os.getpid(), session
        return session


class SharedSubscription:
    """One enforcer's place on a bus between processes; `subscribe` makes it."""

    def __init__(self, bus: SharedBus, subscriber: Subscriber) -> None:
        self._bus, self._subscriber = bus, subscriber
        after_fork(self._forked)

    @property
    def state(self) -> str:
        """``connected``, or since when it is down and why."""
        return self._bus.state if self._bus.holds(self._subscriber) else "down: closed"

    def publish(self, floor: Floor, /) -> None:
        """
        Tell every other subscriber, in this process and in others; act locally first.

        Raises:
            PublishError: When it is not known that the server took it.
        """
        letter = self._bus.publish(floor, self._subscriber)
        try:
            letter.result(self._bus.timeout)
        except NotDone:
            letter.cancel()
            raise self._late() from None

    async def apublish(self, floor: Floor, /) -> None:
        """
        Tell every other subscriber, without holding up the event loop.

        Raises:
            PublishError: When it is not known that the server took it.
        """
        import asyncio  # noqa: PLC0415  takes longer to load than all the rest

        letter = asyncio.wrap_future(self._bus.publish(floor, self._subscriber))
        try:
            await asyncio.wait_for(letter, self._bus.timeout)
        except asyncio.TimeoutError:
            raise self._late() from None

    def lifetime(self) -> float:
        """
        Return how long an entry may live that is stored now, in seconds.

        Ask before each entry is stored: a forked child subscribes anew when it is asked.
        """
        return self._bus.lifetime(self._subscriber)

    def close(self) -> None:
        """Leave the bus; the last one to leave ends its threads and closes its connections."""
        self._bus.leave(self._subscriber)

    def _late(self) -> PublishError:
        return unpublished(f"no answer in {self._bus.timeout:g} s")

    def _forked(self) -> None:
        if self._bus.holds(self._subscriber):
            self._subscriber.on_lost("this process was forked")
