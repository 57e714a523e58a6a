"""
Counters in memory: exact, bounded, and read from the clock they are given. Imports L0 and the exclusion only.

The storage in memory of the library `limits` reads the wall clock, forgets by starting threads, and fails where two
of its callers do so at once; what is counted here needs neither.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import accumulate
from typing import Final

import attrs

from pep.errors import ObligationError
from pep.obligations.exclusive import Exclusive
from pep.protocols import Clock

#: How many counters are kept at any one time.
MAX_COUNTERS: Final = 100_000

# How often what is over is looked for at most, where there is no room, in seconds.
_PAUSE: Final = 1.0


@attrs.frozen(repr=False)
class Limit:
    """
    How much in how long.

    Args:
        count: How much.

        seconds: In how long.

        moving: Whether in any stretch of that length; else in stretches that begin with the first call in each.
    """

    count: int
    seconds: int
    moving: bool


@attrs.define(eq=False, repr=False)
class _Fixed:
    """What was used in one stretch of time."""

    end: float
    used: int = 0

    def take(self, limit: Limit, cost: int, now: float) -> float:
        if now >= self.end:
            self.end, self.used = now + limit.seconds, 0
        if self.used + cost > limit.count:
            return self.end - now
        self.used += cost
        return 0.0


@attrs.define(eq=False, repr=False)
class _Moving:
    """What was used, and when each part of it is given back."""

    end: float
    used: int = 0
    taken: deque[tuple[float, int]] = attrs.field(factory=deque)

    def take(self, limit: Limit, cost: int, now: float) -> float:
        taken = self.taken
        while taken and taken[0][0] <= now:
            self.used -= taken.popleft()[1]
        if self.used + cost > limit.count:
            return self._wait(limit, cost) - now
        self.end = now + limit.seconds
        taken.append((self.end, cost))
        self.used += cost
        return 0.0

    def _wait(self, limit: Limit, cost: int) -> float:
        # A cost is never above the limit, so that enough is given back at the latest with the last of it.
        excess = self.used + cost - limit.count
        given_back = accumulate(spent for _, spent in self.taken)
        return next(end for (end, _), sum_of in zip(self.taken, given_back, strict=True) if sum_of >= excess)


@attrs.define(eq=False, repr=False)
class MemoryCounters:
    """
    Counters of this process.

    Args:
        clock: Its reading that includes suspend counts.

        entries: How many counters are kept; past them, what has no counter yet is refused.
    """

    clock: Clock
    entries: int = MAX_COUNTERS
    _counters: dict[bytes, _Fixed | _Moving] = attrs.field(factory=dict, init=False)
    _exclusive: Exclusive = attrs.field(factory=Exclusive, init=False)
    _swept: float = attrs.field(default=-math.inf, init=False)

    def take(self, key: bytes, limit: Limit, cost: int) -> float:
        """
        Take from a counter what a call costs, or nothing at all.

        Args:
            key: Which counter; another limit has other keys.

            limit: How much in how long.

            cost: How much is taken, at most the whole limit.

        Returns:
            0 where it was taken; else in how many seconds it could be.

        Raises:
            ObligationError: When there is no room for another counter.
        """
        with self._exclusive:
            now = self.clock.boottime()
            counter = self._counters.get(key)
            if counter is None:
                counter = self._opened(key, limit, now)
            return counter.take(limit, cost, now)

    def _opened(self, key: bytes, limit: Limit, now: float) -> _Fixed | _Moving:
        if len(self._counters) >= self.entries:
            self._sweep(now)
        end = now + limit.seconds
        counter = self._counters[key] = _Moving(end) if limit.moving else _Fixed(end)
        return counter

    def _sweep(self, now: float) -> None:
        if now - self._swept >= _PAUSE:
            self._swept = now
            self._counters = {key: counter for key, counter in self._counters.items() if counter.end > now}
        if len(self._counters) >= self.entries:
            message = f"all {self.entries} counters in memory are in use; keep them in Redis, or count by less"
            raise ObligationError(message)
