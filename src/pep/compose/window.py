"""A sliding window over what calls came to, in bounded memory. Imports nothing of the library."""

from __future__ import annotations

from collections import deque
from typing import Final

#: Into how many parts a window is divided; a call is forgotten with the part it was in.
PARTS: Final = 10


class _Part:
    """One part of the window: which one, how many calls there were in it, and how many of them were bad."""

    __slots__ = ("bad", "calls", "number")

    def __init__(self, number: int) -> None:
        self.number, self.calls, self.bad = number, 0, 0


class Window:
    """
    Counts calls, and bad ones among them.

    Args:
        length: For how many seconds a call counts, at most; nine tenths of that at least.
    """

    def __init__(self, length: float) -> None:
        self._width = length / PARTS
        self._parts: deque[_Part] = deque(maxlen=PARTS)

    def add(self, now: float, *, bad: bool) -> None:
        """Count a call that ended."""
        number = int(now // self._width)
        # Threads read the clock before they come here: a call may be late by a part.
        if not self._parts or self._parts[-1].number < number:
            self._parts.append(_Part(number))
        part = self._parts[-1]
        part.calls += 1
        part.bad += bad

    def counts(self, now: float) -> tuple[int, int]:
        """Return how many calls there were, and how many bad ones."""
        oldest = int(now // self._width) - PARTS
        while self._parts and self._parts[0].number <= oldest:
            self._parts.popleft()
        return sum(part.calls for part in self._parts), sum(part.bad for part in self._parts)

    def clear(self) -> None:
        """Forget every call."""
        self._parts.clear()
