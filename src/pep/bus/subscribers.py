"""
Those who take part in a bus within one process.

Imports the seam and locks only.
"""

from __future__ import annotations

from collections.abc import Callable

from pep.bus.seam import Floor, OnFloor, OnLost
from pep.errors import PublishError
from pep.locks import Lock

# Absent where there is no fork.


class Subscriber:
    """
    What one subscriber is called with.

    Args:
        on_floor: Called with what was invalidated elsewhere.

        on_lost: Called with why everything has to be dropped.
    """

    __slots__ = ("__weakref__", "on_floor", "on_lost")

    def __init__(self, on_floor: OnFloor, on_lost: OnLost) -> None:
        self.on_floor = on_floor
        self.on_lost = on_lost


class Subscribers:
    """Everybody in this process who takes part in one bus."""

    __slots__ = ("_everybody", "_lock")

    def __init__(self) -> None:
        self._everybody: tuple[Subscriber, ...] = ()
        self._lock = Lock()

    def add(self, subscriber: Subscriber) -> None:
        """Let somebody take part."""
        with self._lock:
            self._everybody = (*self._everybody, subscriber)

    def remove(self, subscriber: Subscriber) -> bool:
        """Let somebody leave; tell whether that was the last one."""
        with self._lock:
            before = self._everybody
            self._everybody = tuple(one for one in before if one is not subscriber)
            return bool(before) and not self._everybody

    def __contains__(self, subscriber: object) -> bool:
        return any(one is subscriber for one in self._everybody)

    def tell(self, floor: Floor, besides: Subscriber | None = None) -> bool:
        """Hand a floor on to everybody, but whoever published it; tell whether all took it."""
        # Nobody is left out because somebody failed before.
        told = [_taken(one.on_floor, floor) for one in self._everybody if one is not besides]
        return all(told)

    def drop(self, reason: str, besides: Subscriber | None = None) -> bool:
        """Have everybody drop everything; tell whether all did."""
        dropped = [_taken(one.on_lost, reason) for one in self._everybody if one is not besides]
        return all(dropped)

    def publish(self, floor: Floor, publisher: Subscriber) -> None:
        """
        Hand a floor on to everybody else, or have them drop everything.

        Raises:
            PublishError: When one of them could do neither.
        """
        if self.tell(floor, publisher) or self.drop("a subscriber failed", publisher):
            return
        message = "a subscriber in this process could neither invalidate nor drop everything; mend it, and call again"
        raise PublishError(message)


def _taken(callback: Callable[[Floor], object] | Callable[[str], object], value: Floor | str) -> bool:
    try:
        callback(value)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001  a subscriber may raise anything; whoever asks has everything dropped
        return False
    return True
