"""
The journal: how the enforcement plan writes records, and remembers what it could not write.

Imports plans, protocols and the record only.
"""

from __future__ import annotations

import itertools
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from pep.audit.ids import standing
from pep.audit.noting import Note, Noting
from pep.audit.record import Kind, Record, Telling, masked, new_id
from pep.errors import AuditError
from pep.frozen import EMPTY
from pep.locks import Lock
from pep.plan import Plan, Raised, Reply, Write, bounded, contain
from pep.protocols import Clock, Observer, Sink

if TYPE_CHECKING:
    from pep.audit.correlation import Correlation


class Plugged(Protocol):
    """The hot path of one function."""

    def unplug(self) -> None:
        """Leave every call to the plan."""
        ...


@attrs.define(eq=False, repr=False)
class Journal:
    """
    Writes records to one sink, in order of asking.

    A record lost *after* protected code ran is owed: nothing else is written, and so nothing is
    permitted, until a ``gap`` record has told of it.
    """

    sink: Sink
    clock: Clock
    enforcer: str
    observers: Sequence[Observer] = ()
    #: Tells what a record belongs to, where it is made; None tells nothing.
    correlation: Callable[[], Correlation | None] | None = None
    #: How notes of the hot path are told.
    noting: Noting = attrs.field(init=False)
    #: What to unplug when something is due before the next record: the hot path stands back until it is written.
    plugged: weakref.WeakSet[Plugged] = attrs.field(factory=weakref.WeakSet)
    _due: deque[Record] = attrs.field(factory=deque)
    _lost: int = 0
    _counts: Counter[str] = attrs.field(factory=Counter, init=False)
    # How many records were written: counted by every call, and so without the lock.
    _recorded: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    _lock: Lock = attrs.field(factory=Lock)

    def __attrs_post_init__(self) -> None:
        self.noting = Noting(self.clock, self._told)

    def make(self, kind: Kind, fields: Mapping[str, Any] | Telling, *, record_id: str | None = None) -> Record:
        """Make a record; fields that are None are left out. What tells them may be asked later."""
        now = self.clock.wall()
        belongs = EMPTY if self.correlation is None else self.belongs()
        if callable(fields):
            return Record(kind, record_id or new_id(now), now, partial(self._told, fields, belongs))
        return Record(kind, record_id or new_id(now), now, masked({"enforcer": self.enforcer, **belongs, **fields}))

    def belongs(self) -> Mapping[str, Any]:
        """Tell what a record that is made now belongs to; what fails is counted, and tells nothing."""
        try:
            found = None if self.correlation is None else self.correlation()
            return EMPTY if found is None else found.fields()
        except Exception:  # noqa: BLE001  telemetry never fails a call
            self.count("uncorrelated")
            return EMPTY

    def _told(self, telling: Telling, belongs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"enforcer": self.enforcer, **belongs, **telling()}

    def announce(self, kind: Kind, fields: Mapping[str, Any] | Telling) -> None:
        """Have a record written before the next one, when there is a world to write it in."""
        record = self.make(kind, fields)
        with self._lock:
            self._due.append(record)
        self.stand_back()

    def owe(self) -> None:
        """Note that a record was lost for good."""
        with self._lock:
            self._lost += 1
        self.count("lost")
        self.stand_back()

    def stand_back(self) -> None:
        """Unplug the hot path of every function."""
        for socket in list(self.plugged):
            socket.unplug()

    @property
    def owing(self) -> bool:
        """Whether something is due before the next record."""
        return bool(self._lost or self._due)

    def count(self, what: str) -> None:
        """Count something for `Enforcer.stats`."""
        with self._lock:
            self._counts[what] += 1

    @property
    def counts(self) -> Counter[str]:
        """What was counted so far: what → how often."""
        with self._lock:
            counted = self._counts.copy()
        if recorded := standing(self._recorded):
            counted["recorded"] = recorded
        return counted

    def write(self, record: Record, deadline: float | None) -> Plan[Exception | None]:
        """
        Write what is due, then one record.

        Args:
            record: The record.

            deadline: When an acknowledgement is too late, on the monotonic clock, in seconds.

        Returns:
            None once the sink's guarantee holds for it; else what went wrong.
        """
        error = (yield from self.settle_due(deadline)) if self._due or self._lost else None
        if error is None:
            error = yield from self._submit(record, deadline)
        if error is not None:
            self.count("unrecorded")
        return error

    def settle_due(self, deadline: float | None) -> Plan[Exception | None]:
        """Write announcements and the gap record that are due, if any; return what went wrong."""
        while (notice := self._next_due()) is not None:
            error = yield from self._submit(notice, deadline)
            if error is not None:
                return error
            self._settled(notice)
        return None

    def _next_due(self) -> Record | None:
        if not self._lost and not self._due:
            return None
        with self._lock:
            if self._lost:
                self._due.appendleft(self.make(Kind.GAP, {"lost": self._lost}))
                self._lost = 0
            # INVARIANT: it is due until it is acknowledged, to every thread: one that comes meanwhile writes
            # it too, under the same id, and does not overtake it.
            return self._due[0] if self._due else None

    def _settled(self, notice: Record) -> None:
        with self._lock:
            if self._due and self._due[0] is notice:
                self._due.popleft()

    def _submit(self, record: Record, deadline: float | None) -> Plan[Exception | None]:
        reply: Reply = yield Write(self.sink, record, deadline)
        if type(reply) is not Raised and type(reply.value) is GeneratorType:
            reply = yield from contain(bounded(reply.value, deadline))
        if type(reply) is Raised:
            return reply.error
        if reply.value is not None:
            kind, answer = type(self.sink).__name__, type(reply.value).__name__
            message = f"`{kind}.record` must return None once the record is taken, not `{answer}`"
            return AuditError(message)
        next(self._recorded)
        if self.observers:
            self.observe(record)
        return None

    def observe(self, record: Record) -> None:
        """Show a record to every observer; one that fails is counted."""
        for observer in self.observers:
            try:
                observer.observe(record)
            except Exception:  # noqa: BLE001  telemetry never fails a call
                self.count("unobserved")

    def taking(self) -> Callable[[Note], None] | None:
        """Return what takes a note of the hot path with the sink's guarantee; None where only a plan can."""
        take: Callable[[Note], None] | None = getattr(self.sink, "take", None)
        if take is None or (not self.observers and self.correlation is None):
            return take
        return partial(self._take_and_show, take)

    def submitting(self, *, awaited: bool) -> Callable[[Note], Any] | None:
        """
        Return what has the sink take a note of the hot path on disk; None where only a plan can.

        Args:
            awaited: Whether it returns what has to be awaited; otherwise it waits itself.
        """
        submit: Callable[[Note], Any] | None = getattr(self.sink, "adurably" if awaited else "durably", None)
        return submit

    def belonging(self, note: Note) -> Note:
        """Return a note with what its record belongs to, where anything tells that."""
        return note if self.correlation is None else (*note, self.belongs())

    def show(self, note: Note) -> None:
        """Show the record of a note to every observer."""
        if self.observers:
            self.observe(note[0].record(note))

    def tick(self, note: Note) -> None:
        """Count and show the record of a note of how a call ended."""
        next(self._recorded)
        self.show(note)

    def _take_and_show(self, take: Callable[[Note], None], note: Note) -> None:
        told = self.belonging(note)
        take(told)
        self.show(told)
