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

    #: Returns seconds that only run while the machine does.
    monotonic = staticmethod(time.monotonic)
    #: Returns seconds since 1970 in UTC.
    wall = staticmethod(time.time)

    def boottime(self) -> float:
        """Return seconds that include suspend, where the platform has such a clock."""
        return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
