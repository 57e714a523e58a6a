"""A store of approvals in memory, for one process. Imports sealing, the store's protocol and clocks only."""

from __future__ import annotations

import os
from typing import Final

from pep.approvals.sealing import Row, Seal
from pep.approvals.store import Full
from pep.clock import SystemClock
from pep.forking import after_fork
from pep.locks import Lock
from pep.protocols import Clock

# The secret of what never leaves the process.
_OWN: Final = 32


class MemoryStore:
    """
    Keeps approvals in memory: for one process, until it ends. A forked child has none of them.

    Args:
        secret: What rows are sealed with; one of its own, unless it is given.

        clock: What time it is; the machine's, unless it is given.
    """

    def __init__(self, *, secret: bytes | None = None, clock: Clock | None = None) -> None:
        self.seal = Seal(os.urandom(_OWN) if secret is None else secret)
        self._clock = SystemClock() if clock is None else clock
        self._rows: dict[str, Row] = {}
        self._lock = Lock()
        # INVARIANT: what may be used once is not used by parent and child both.
        after_fork(self._forget)

    def now(self) -> float:
        """Return the time of its clock."""
        return self._clock.wall()

    def add(self, row: Row, now: float, most: int) -> Row:
        """Keep a row, or return the open one of the same key; see `Store`."""
        with self._lock:
            self._rows = {name: kept for name, kept in self._rows.items() if kept.expires > now}
            opened = [kept for kept in self._rows.values() if kept.open]
            for kept in opened:
                if kept.key == row.key:
                    return kept
            own = [kept.expires for kept in opened if kept.owner == row.owner]
            if len(own) >= most:
                raise Full(min(own))
            self._rows[row.id] = row
            return row

    def get(self, name: str) -> Row | None:
        """Return a row by its id."""
        return self._rows.get(name)

    def swap(self, old: Row, new: Row) -> bool:
        """Replace a row, if it is still the one that was read."""
        with self._lock:
            if self._rows.get(old.id) != old:
                return False
            self._rows[old.id] = new
            return True

    def rows(self) -> list[Row]:
        """Return every row."""
        with self._lock:
            return list(self._rows.values())

    def _forget(self) -> None:
        self._rows = {}

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._rows)} approvals>"
