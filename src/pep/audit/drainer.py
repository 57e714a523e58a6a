"""
The drainer: one thread that empties a backlog into a sink.

Started when there is first something to write, also in a forked child. Nothing here takes a lock
that a thread could hold while a signal handler interrupts it. Imports the backlog and delivery only.
"""

from __future__ import annotations

import _thread
import weakref
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from pep.audit.backlog import Backlog, Entry, Gap, Parcel
from pep.audit.delivery import Delivery
from pep.protocols import Clock

#: How often a record is tried before it is given up and told of in a ``gap`` record.
TRIES: Final = 3

# How many times the first pause between two tries the longest is.
_LONGEST: Final = 32


class Drainer:
    """
    Empties a backlog into a sink, on a thread of its own or on one that has to end.

    Args:
        backlog: What to write.

        delivery: Where to.

        linger: How long to let more come after the first, in seconds.

        pause: How long to wait after the sink raised, in seconds; twice as long each time.

        clock: What the time allowed for closing is read by.

    Attributes:
        asleep: Whether it has to be woken for what was added.
    """

    def __init__(self, backlog: Backlog, delivery: Delivery, linger: float, pause: float, clock: Clock) -> None:
        self._backlog, self._delivery, self._clock = backlog, delivery, clock
        self._linger, self._pause = linger, pause
        self._until: float | None = None
        self._closing = False
        self.renew()

    def renew(self) -> None:
        """Start anew: in a forked child there is no thread, and nobody waits for one."""
        self.asleep = True
        self._lingers = False
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._ended: SimpleQueue[Exception | None] = SimpleQueue()
        # The right to run: whoever has it is the only one that takes from the backlog.
        self._turn = deque([None])

    def wake(self) -> None:
        """Have what was added written soon."""
        self.asleep = False
        if not self._turn_taken():
            self._bell.put(None)
        elif not self._started():
            self._turn.append(None)
            self.asleep = True

    def hurry(self) -> None:
        """End the wait for more to come."""
        if self._lingers:
            self._lingers = False
            self._bell.put(None)

    def finish(self, patience: float, *, closing: bool) -> bool:
        """
        Write what is left, and close the sink where that is asked.

        Args:
            patience: For how long, in seconds.

            closing: Whether the sink is closed then.

        Returns:
            Whether that came to its end in time.

        Raises:
            Exception: What the sink raised when it was closed.
        """
        self._closing, self._until = closing, self._clock.monotonic() + patience
        self.asleep = False
        if not self._turn_taken():
            self._bell.put(None)
        elif not self._started():
            # No thread can be started any more: this one has to do it.
            self._end()
            self._turn.append(None)
        try:
            error = self._ended.get(timeout=patience)
        except Empty:
            return False
        if error is not None:
            raise error
        return True

    def rounds(self) -> bool:
        """Write until nothing is left; return whether that was for good."""
        self.asleep = False
        self._wait_for_more()
        while True:
            self.pump()
            if self._until is not None:
                self._end()
                return True
            self.asleep = True
            # Looked at after that was said: who adds something now sees it, or is seen here.
            if self._backlog.empty:
                return False
            self.asleep = False

    def pump(self) -> None:
        """Write until nothing is left, or nothing can be done about it in the time allowed."""
        tries = 0
        while (entry := self._backlog.head()) is not None:
            try:
                self._hand_over(entry)
            except Exception:  # noqa: BLE001  a user's sink may raise anything
                tries += 1
                self._backlog.stumbled()
                if self._overdue():
                    self._backlog.abandon()
                    return
                if tries >= TRIES and not isinstance(entry, Gap):
                    self._backlog.failed()
                    tries = 0
                self._rest(tries)
            else:
                self._backlog.landed(entry)
                tries = 0

    def _hand_over(self, entry: Entry) -> None:
        if isinstance(entry, (Parcel, Gap)):
            self._delivery.record(entry.record)
        else:
            self._delivery.note(entry)

    def _rest(self, tries: int) -> None:
        seconds = self._pause * min(_LONGEST, 2 ** min(tries, _LONGEST))
        if self._until is not None:
            seconds = min(seconds, max(0.0, self._until - self._clock.monotonic()))
        with suppress(Empty):
            self._bell.get(timeout=seconds)

    def _wait_for_more(self) -> None:
        self._lingers = True
        if self._until is None:
            with suppress(Empty):
                self._bell.get(timeout=self._linger)
        self._lingers = False

    def _overdue(self) -> bool:
        return self._until is not None and self._clock.monotonic() >= self._until

    def _end(self) -> None:
        closing, self._closing = self._closing, False
        error: Exception | None = None
        # Said before the last look: who adds something later learns that it is too late.
        self.asleep = True
        try:
            self.pump()
            (self._delivery.close if closing else self._delivery.leave)()
        except Exception as raised:  # noqa: BLE001  told to who closes
            error = raised
        self._ended.put(error)

    def _turn_taken(self) -> bool:
        try:
            self._turn.pop()
        except IndexError:
            return False
        return True

    def _started(self) -> bool:
        """Start the thread; return whether that could be done."""
        bell = self._bell
        # Nobody else rings for a sink that was dropped.
        mine: weakref.ref[Drainer] = weakref.ref(self, lambda _gone: bell.put(None))
        try:
            # Not `threading.Thread`: it takes locks that an interrupted thread may hold.
            _thread.start_new_thread(drained, (mine, bell, self._turn))
        except RuntimeError:  # the system has no room for another thread, or the interpreter ends
            return False
        return True


def drained(mine: weakref.ref[Drainer], bell: SimpleQueue[None], turn: deque[None]) -> None:
    """Do the rounds of a drainer whenever the bell rings, as long as it is there; the body of its thread."""
    try:
        while True:
            drainer = mine()
            if drainer is None or drainer.rounds():
                return
            # A sink that nobody has any more can go while there is nothing to do.
            del drainer
            bell.get()
    finally:
        turn.append(None)
        if (left := mine()) is not None:
            left.asleep = True
