"""
A bus within one process: an invalidation has reached every enforcer on it before `publish` returns.

Imports the seam and the subscribers only.
"""

from __future__ import annotations

from pep.bus.seam import Floor, OnFloor, OnLost
from pep.bus.subscribers import Subscriber, Subscribers
from pep.forking import after_fork


class LocalBus:
    """
    Carries invalidations between the enforcers of one process, on the thread that invalidates.

    Nothing can be missed, so entries need no bound of their own. A forked child is another process:
    it drops everything once, and then has the bus to itself.
    """

    def __init__(self) -> None:
        self._subscribers = Subscribers()

    def subscribe(self, on_floor: OnFloor, on_lost: OnLost, /) -> LocalSubscription:
        """Take part; see `Bus.subscribe`."""
        return LocalSubscription(self._subscribers, Subscriber(on_floor, on_lost))

    def __repr__(self) -> str:
        return "<LocalBus>"


class LocalSubscription:
    """One enforcer's place on a bus within its process; `LocalBus.subscribe` makes it."""

    def __init__(self, everybody: Subscribers, subscriber: Subscriber) -> None:
        self._everybody, self._subscriber = everybody, subscriber
        everybody.add(subscriber)
        after_fork(self._forked)

    @property
    def state(self) -> str:
        """``connected``, or that it was closed."""
        return "connected" if self._subscriber in self._everybody else "down: closed"

    def publish(self, floor: Floor, /) -> None:
        """
        Tell every other subscriber.

        Raises:
            PublishError: When one could neither take the floor nor drop everything.
        """
        self._everybody.publish(floor, self._subscriber)

    async def apublish(self, floor: Floor, /) -> None:
        """
        Tell every other subscriber.

        Raises:
            PublishError: When one could neither take the floor nor drop everything.
        """
        self.publish(floor)

    def lifetime(self) -> None:
        """Return that entries need no bound: whatever is invalidated is heard of at once."""

    def close(self) -> None:
        """Leave the bus."""
        self._everybody.remove(self._subscriber)

    def _forked(self) -> None:
        # Another thread may have told some and not yet others.
        if self._subscriber in self._everybody:
            self._subscriber.on_lost("this process was forked")
