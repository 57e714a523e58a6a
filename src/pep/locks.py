"""A lock that neither a forked child nor a signal handler waits for in vain. Imports forks only."""

from __future__ import annotations

import threading
from typing import final

from pep.forking import after_fork


@final
class Lock:
    """
    A mutual exclusion that is free again in a forked child, and that its own thread may take twice.

    A signal handler or a finaliser may run while its thread holds it; it must not wait for itself.

    Whoever held it in the parent is a thread the child does not have, and would be waited for
    forever. What it guards must therefore bear being left half-done.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        after_fork(self._renew)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_exception: object) -> None:
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()
