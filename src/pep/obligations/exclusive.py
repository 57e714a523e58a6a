"""An exclusion that is never entered twice, not even by a signal handler. Imports the error tree and locks only."""

from __future__ import annotations

from os import getpid
from typing import final

from pep.errors import ObligationError
from pep.locks import Lock


@final
class Exclusive:
    """
    A mutual exclusion for what is counted: whoever interrupts its own thread in it is refused.

    A signal handler or finaliser that counted in the midst of a count would let one too many through. A forked
    child begins outside.
    """

    __slots__ = ("_inside", "_lock")

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0

    def __enter__(self) -> None:
        self._lock.__enter__()
        if self._inside == getpid():
            self._lock.__exit__()
            message = "a count was interrupted by code of its own thread that counts too; count elsewhere"
            raise ObligationError(message)
        self._inside = getpid()

    def __exit__(self, *_exception: object) -> None:
        self._inside = 0
        self._lock.__exit__()
