"""
Turns: an exclusion that is waited for only so long. Imports the error tree only.

A sink whose backend hangs must not have its callers queue up behind one another, each for a time of its own.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import final

from pep.errors import AuditError, ConfigurationError
from pep.forking import around_fork


@final
class Turns:
    """
    A mutual exclusion with a longest wait; its own thread may take it twice.

    Whoever waits comes before whoever has just had the turn: a thread that records without a pause does not keep
    the others out until their time is up.

    A fork waits for its turn too, and so happens in nobody's: what is guarded is whole in the child.

    Args:
        patience: The longest wait, in seconds.

        at_fork: Called in the turn that a fork takes, before it; not where what it readies is torn already.

    Attributes:
        torn: Whether this process was forked all the same in the midst of somebody's turn, after waiting.
    """

    __slots__ = ("__weakref__", "_at_fork", "_depth", "_gate", "_lock", "_owner", "_patience", "_ready", "torn")

    def __init__(self, patience: float, at_fork: Callable[[], None] | None = None) -> None:
        self._patience, self._at_fork = patience, at_fork
        self._gate, self._lock = threading.RLock(), threading.RLock()
        self._owner, self._depth = 0, 0
        self._ready = False
        self.torn = False
        around_fork(before=self._before, in_parent=self._in_parent, in_child=self._in_child)

    def __enter__(self) -> None:
        if not self._take():
            message = f"the audit sink was busy for {self._patience:g} s; nothing was written"
            raise AuditError(message)

    def __exit__(self, *_exception: object) -> None:
        self._give()

    def _take(self) -> bool:
        me = threading.get_ident()
        if self._owner != me:
            deadline = time.monotonic() + self._patience
            # The next in turn waits at the gate's other side, and holds up those who come later.
            if not self._gate.acquire(timeout=self._patience):
                return False
            try:
                if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                    return False
            finally:
                self._gate.release()
            self._owner = me
        self._depth += 1
        return True

    def _give(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._owner = 0
            self._lock.release()

    def _before(self) -> None:
        self._ready = self._take()
        if self._ready and self._at_fork is not None and not self.torn:
            self._at_fork()

    def _in_parent(self) -> None:
        if self._ready:
            self._give()

    def _in_child(self) -> None:
        self._gate, self._lock = threading.RLock(), threading.RLock()
        self._owner, self._depth = 0, 0
        self.torn = self.torn or not self._ready


def seconds(value: object, name: str = "timeout") -> float:
    """
    Check how long a sink may take.

    Raises:
        ConfigurationError: When it is no finite number of seconds greater than 0.
    """
    if (type(value) is int or type(value) is float) and 0 < value <= min(threading.TIMEOUT_MAX, sys.maxsize):
        return float(value)
    message = f"`{name}` must be a number of seconds, greater than 0 and finite"
    raise ConfigurationError(message)
