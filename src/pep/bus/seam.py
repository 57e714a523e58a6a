"""
What an invalidation bus is to an enforcer: one to subscribe to, and what its subscribers are called with.

Imports the error tree only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, runtime_checkable

#: What an invalidation covers: a part and a type, perhaps an id too; an action; or `EVERYTHING`.
Floor: TypeAlias = tuple[str, ...]
#: Called with what was invalidated elsewhere.
OnFloor: TypeAlias = Callable[[Floor], object]
#: Called with why anything may have been missed, so that everything has to be dropped.
OnLost: TypeAlias = Callable[[str], object]

#: The floor that covers everything.
EVERYTHING: Final[Floor] = ("all",)


@runtime_checkable
class Subscription(Protocol):
    """One enforcer's place on a bus."""

    @property
    def state(self) -> str:
        """``connected``, or since when it is down and why; text for people."""
        ...

    def publish(self, floor: Floor, /) -> None:
        """
        Tell every other subscriber, in this process and in others; act locally first.

        Raises:
            PublishError: When it is not known that the others heard of it.
        """
        ...

    async def apublish(self, floor: Floor, /) -> None:
        """
        Tell every other subscriber, without holding up the event loop.

        Raises:
            PublishError: When it is not known that the others heard of it.
        """
        ...

    def lifetime(self) -> float | None:
        """
        Return how long an entry may live that is stored now, in seconds; None is no bound.

        Ask before each entry is stored: a forked child subscribes anew when it is asked.
        """
        ...

    def close(self) -> None:
        """Leave the bus: nothing is called from then on, but what is being called already."""
        ...


@runtime_checkable
class Bus(Protocol):
    """What carries invalidations between enforcers."""

    def subscribe(self, on_floor: OnFloor, on_lost: OnLost, /) -> Subscription:
        """
        Take part.

        Args:
            on_floor: Called with each floor that another subscriber published. Any thread.

            on_lost: Called with a reason whenever a floor may have been missed; drop everything. Any
                thread, also while the process forks; it must be quick, and must not publish.
        """
        ...
