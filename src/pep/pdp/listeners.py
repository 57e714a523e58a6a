"""
Who is told when a decision point swaps its policies.

Imports locks and swaps of policies only.
"""

from __future__ import annotations

from pep.locks import Lock
from pep.policy.source import Listener, Swapped


class Listeners:
    """Those who want to know of every swap."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: tuple[Listener, ...] = ()

    def add(self, listener: Listener) -> None:
        """Tell *listener* of every later swap."""
        with self._lock:
            self._known = (*self._known, listener)

    def tell(self, event: Swapped) -> None:
        """
        Tell all of a swap, also if one fails.

        Raises:
            Exception: What the first that failed raised, once all were told.
        """
        failed: Exception | None = None
        for listener in self._known:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  the others have to know as well
                failed = failed or error
        if failed is not None:
            raise failed
