"""A bulkhead: so many questions in the air, and not one more. Imports the error tree and locks only."""

from __future__ import annotations

import math

from pep.errors import PDPOverloaded
from pep.forking import after_fork
from pep.locks import Lock


class Seat:
    """A place that one question takes until it ends."""

    __slots__ = ()


class Bulkhead:
    """
    Bounds how many questions a decision point is asked at once; empty in a forked child.

    Args:
        name: What the decision point is called.

        limit: How many; None is no bound.
    """

    def __init__(self, name: str, limit: int | None) -> None:
        self._name = name
        self._limit = math.inf if limit is None else limit
        self._taken: set[Seat] = set()
        self._lock = Lock()
        #: How many questions were refused.
        self.refused = 0
        after_fork(self._renew)

    @property
    def taken(self) -> int:
        """How many questions are in the air."""
        return len(self._taken)

    def enter(self) -> Seat:
        """
        Take a place.

        Raises:
            PDPOverloaded: When all are taken.
        """
        with self._lock:
            if len(self._taken) < self._limit:
                seat = Seat()
                self._taken.add(seat)
                return seat
            self.refused += 1
        message = f"`{self._name}` is asked {self._limit} questions already; nothing waits for a place"
        raise PDPOverloaded(message)

    def leave(self, seat: Seat) -> None:
        """Give a place back; twice, or one that was taken before a fork, changes nothing."""
        with self._lock:
            self._taken.discard(seat)

    def _renew(self) -> None:
        self._taken = set()
        self.refused = 0
