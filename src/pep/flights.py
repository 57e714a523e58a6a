"""
Flights: questions in the air that others wait for instead of asking the same.

Who boards first leads: it asks, and lands what came of it. Imports generations and the model only.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from pep.forking import after_fork
from pep.generations import Generations
from pep.locks import Lock
from pep.model import AccessRequest

if TYPE_CHECKING:
    import asyncio

_ABOARD: Final[contextvars.ContextVar[bool]] = contextvars.ContextVar("pep.aboard", default=False)


class Ended(Enum):
    """What waiting for a flight comes to, where it brings no answer."""

    #: Its leader was cut off: board again.
    ABANDONED = "abandoned"
    #: The time of the one who waited is up, not that of the flight.
    TIMED_OUT = "timed out"
    #: It cannot land while its own thread waits for it.
    ALONE = "alone"


@final
class Flight:
    """
    One question in the air.

    Args:
        epoch: The epoch read before the question was asked.

        deadline: When its leader gives up, in seconds on the monotonic clock.

        ended: Told when it has landed.

    Attributes:
        thread: The thread it is led on.

        loop: The event loop its task runs in; None where it is led in place.

        task: That task.

        landed: What came of it; None while it is in the air.

        launched: Whether somebody else than the plan that leads sees to it that it lands.
    """

    __slots__ = ("_ended", "_waiting", "deadline", "epoch", "landed", "launched", "loop", "task", "thread")

    def __init__(self, epoch: int, deadline: float, ended: Callable[[Flight], None]) -> None:
        self.epoch, self.deadline, self._ended = epoch, deadline, ended
        self.thread = threading.get_ident()
        self.loop: object = None
        self.task: asyncio.Task[None] | None = None
        self.landed: Any = None
        self.launched = False
        self._waiting: deque[Callable[[], None]] = deque()

    def is_down(self) -> bool:
        """Tell whether it has landed."""
        return self.landed is not None

    def is_empty(self) -> bool:
        """Tell whether nobody waits for it."""
        return not self._waiting

    def land(self, what: object) -> None:
        """Land what came of it, and wake all who wait; only the first landing counts."""
        if self.landed is None:
            self.landed = what
            self._ended(self)
        self._wake()

    def listen(self, wake: Callable[[], None]) -> None:
        """Have *wake* called when it lands, on whichever thread; at once, where it has."""
        self._waiting.append(wake)
        if self.landed is not None:
            self._wake()

    def leave(self, wake: Callable[[], None]) -> None:
        """Wait no longer."""
        try:
            self._waiting.remove(wake)
        except ValueError:  # it was called
            return

    def _wake(self) -> None:
        while True:
            try:
                wake = self._waiting.popleft()
            except IndexError:
                return
            wake()

    def __repr__(self) -> str:
        return f"<Flight {'in the air' if self.landed is None else 'landed'}>"


class Flights:
    """What is in the air now; nothing in a forked child, whose leaders stayed with the parent."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, Flight] = {}
        self._lock = Lock()
        #: How many questions were answered by somebody else's.
        self.joined = 0
        after_fork(self._forget)

    def board(  # noqa: PLR0917  all of it is what a question is known by
        self, key: Hashable, request: AccessRequest, epoch: int, deadline: float, generations: Generations, now: float
    ) -> tuple[Flight, bool]:
        """
        Board the flight of a key, or begin one where there is none, it is overdue, or something was revoked since.

        Args:
            key: Everything the decision point is sent, and its identity.

            request: What is asked.

            epoch: The epoch read before it was.

            deadline: When it is given up, in seconds on the monotonic clock.

            generations: What was revoked.

            now: What time it is, in seconds on the monotonic clock.

        Returns:
            The flight, and whether it is for its caller to lead, and to land.
        """
        with self._lock:
            there = self._flights.get(key)
            # INVARIANT: nobody waits for what was asked before a revocation that touches it.
            if there is not None and now < there.deadline and generations.holds(request, there.epoch):
                return there, False
            begun = self._flights[key] = Flight(epoch, deadline, partial(self._ended, key))
            return begun, True

    def _ended(self, key: Hashable, flight: Flight) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]

    def __len__(self) -> int:
        return len(self._flights)

    def __repr__(self) -> str:
        return f"<Flights: {len(self)} in the air>"

    def _forget(self) -> None:
        self._flights.clear()


def is_aboard() -> bool:
    """Tell whether this code is part of a flight: it must wait for no other."""
    return _ABOARD.get()


def step_aboard() -> contextvars.Token[bool]:
    """Make what runs in this context part of a flight; the token goes to `step_off`."""
    return _ABOARD.set(True)


def step_off(token: contextvars.Token[bool]) -> None:
    """Undo `step_aboard`; in another context there is nothing to undo."""
    with suppress(ValueError):
        _ABOARD.reset(token)
