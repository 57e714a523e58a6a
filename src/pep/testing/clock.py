"""A clock that is moved, not waited for. Imports nothing of the library."""

from __future__ import annotations

from typing import Final

#: Where a fake wall clock stands at first: seconds since 1970 in UTC, in November 2023.
EPOCH: Final = 1_700_000_000.0


class FakeClock:
    """
    Three readings of time that only go on when they are told to.

    Args:
        wall: What the wall clock reads at first, in seconds since 1970 in UTC.
    """

    def __init__(self, wall: float = EPOCH) -> None:
        self._wall = wall
        self._monotonic = 1000.0
        self._suspended = 0.0

    def monotonic(self) -> float:
        """Return seconds that leave out `suspend`."""
        return self._monotonic

    def boottime(self) -> float:
        """Return seconds that include `suspend`."""
        return self._monotonic + self._suspended

    def wall(self) -> float:
        """Return seconds since 1970 in UTC."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """
        Let time pass on every reading.

        Raises:
            ValueError: When it would go back.
        """
        self._check(seconds)
        self._monotonic += seconds
        self._wall += seconds

    def suspend(self, seconds: float) -> None:
        """
        Let time pass while the machine sleeps: the monotonic reading stands still.

        Raises:
            ValueError: When it would go back.
        """
        self._check(seconds)
        self._suspended += seconds
        self._wall += seconds

    def set_wall(self, wall: float) -> None:
        """Set the wall clock alone, forth or back, as an administrator does; in seconds since 1970 in UTC."""
        self._wall = wall

    def __repr__(self) -> str:
        return f"<FakeClock at {self._monotonic:g} s>"

    @staticmethod
    def _check(seconds: float) -> None:
        if not 0 <= seconds < float("inf"):
            message = f"time goes forward by a finite number of seconds, not by `{seconds}`"
            raise ValueError(message)
