"""The clock of the machine. Imports nothing of the library."""

from __future__ import annotations

import time
from typing import Final

_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


class SystemClock:
    """
    The machine's own clocks.

    Expiry is read from the clock that includes suspend, where the platform has one.
    """

    __slots__ = ()

    def monotonic(self) -> float:
        """Return seconds that only run while the machine does."""
        return time.monotonic()

    def boottime(self) -> float:
        """Return seconds that include suspend, where the platform has such a clock."""
        return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)

    def wall(self) -> float:
        """Return seconds since 1970 in UTC."""
        return time.time()
