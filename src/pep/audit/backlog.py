"""
The backlog of a buffered sink: what waits to be written, what it weighs, and exact books of it.

Adding a note of the hot path takes no lock. Imports the record, locks and the error tree only.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Any, Final, TypeAlias

import attrs

from pep.audit.record import Kind, Record, masked, new_id
from pep.errors import AuditError
from pep.locks import Lock
from pep.protocols import Clock
from pep.verdict import ALLOWING, Outcome

#: What is said of a record that comes too late.
CLOSED: Final = "the audit buffer is closed"

#: What a note, or what surrounds a record, is reckoned to weigh, in bytes.
NOTE: Final = 1024

#: How many bytes in memory one byte of a record's JSON is reckoned to stand for.
PER_BYTE: Final = 8

# How many entries leave for the sink at once.
_BATCH: Final = 64
# What the hot path takes notes of.
_NOTED: Final = "decision permitted"
_OUTCOMES: Final = frozenset(outcome.value for outcome in Outcome)
_TOO_GREAT: Final = "a record is greater than the whole audit buffer; raise its `bytes`"
_RUNS: Final = frozenset(outcome.value for outcome in ALLOWING)

Note: TypeAlias = "tuple[Any, ...]"


class Overflow(Enum):
    """What gives way when a backlog is full; never a record of code about to run."""

    #: Every record waits for room until its call's deadline, and is refused then.
    WAIT = "wait"
    #: The oldest denial or check is dropped.
    DROP_OLDEST = "drop-oldest"
    #: The newest denial or check is dropped.
    DROP_NEWEST = "drop-newest"


@attrs.define(eq=False)
class Parcel:
    """
    A record in the backlog.

    Attributes:
        record: The record.

        extra: What it weighs beyond a note, in bytes.

        place: How many of what is never dropped were added before it.
    """

    record: Record
    extra: int
    place: int = 0


@attrs.define(eq=False)
class Gap:
    """
    A record of what was lost, and the numbers it tells of.

    Attributes:
        record: The ``gap`` record.

        told: Each loss with how many of it the record tells.
    """

    record: Record
    told: list[tuple[Loss, int]]


@attrs.define(eq=False)
class Loss:
    """
    How many records of one sort came to nothing.

    Attributes:
        total: All of them.

        untold: Those that no ``gap`` record has told of yet.
    """

    total: int = 0
    untold: int = 0


Entry: TypeAlias = "Note | Parcel | Gap"


class Backlog:
    """
    Two queues, of what is never dropped and of what may be, which leave in the order they were filled.

    It bears being entered again by a signal handler of the thread that is in it: appending to a
    queue and adding to a number are each one step, and nothing else has to hold in between.

    Args:
        entries: How many notes and records it holds at most.

        size: How many bytes it holds at most, as `NOTE` and `PER_BYTE` reckon them.

        overflow: What gives way when it is full.

        clock: What time a ``gap`` record is of.
    """

    def __init__(self, entries: int, size: int, overflow: Overflow, clock: Clock) -> None:
        self._entries, self._size, self._overflow, self._clock = entries, size, overflow, clock
        # Before anything in it: a forked child renews its lock first, then the books.
        self._lock = Lock()
        self._shut = False
        self.clear()

    def clear(self) -> None:
        """Forget everything: in a forked child, it is the parent's."""
        self._kept: deque[Note | Parcel] = deque()
        self._spare: deque[Parcel] = deque()
        #: On its way to the sink, and not acknowledged yet.
        self._flying: deque[Note | Parcel] = deque()
        self._dropped: dict[str, Loss] = {}
        self._rejected: dict[str, Loss] = {}
        self._left = self._flown = self._failed = self._extra = self._errors = 0
        self._due: int | None = None
        self._gap: Gap | None = None
        self._limit = self._reckoned()

    # Adding.

    def push(self, note: Note) -> bool:
        """Add a note, which is never dropped; return whether there was room, without waiting."""
        # INVARIANT: the bound is kept but for one note of each other thread that is between these two lines.
        if len(self._kept) + len(self._spare) + len(self._flying) < self._limit:
            self._kept.append(note)
            return True
        with self._lock:
            if not self._shut and self._room_for(0, spare=False):
                self._kept.append(note)
                return True
            self._lose(self._rejected, _NOTED)
            return False

    def offer(self, parcel: Parcel) -> bool:
        """
        Add a record, or drop it, or what has to give way to it.

        Returns:
            Whether that is settled; else it has to wait for room.

        Raises:
            AuditError: When there will never be room for it; it is counted as rejected.
        """
        spare = may_be_dropped(parcel.record)
        with self._lock:
            if self._shut or NOTE + parcel.extra > self._size:
                self._lose(self._rejected, _sort(parcel))
                raise AuditError(CLOSED if self._shut else _TOO_GREAT)
            if self._room_for(parcel.extra, spare=spare):
                self._add(parcel, self._spare if spare else self._kept)
                return True
            if not spare or self._overflow is Overflow.WAIT:
                return False
            self._lose(self._dropped, _sort(parcel))
            return True

    def refuse(self, parcel: Parcel) -> None:
        """Count a record that waited for room in vain."""
        with self._lock:
            self._lose(self._rejected, _sort(parcel))

    def shut(self) -> None:
        """Take nothing more."""
        with self._lock:
            self._shut = True
            self._reckon()

    # Leaving.

    def head(self) -> Entry | None:
        """Return what is to be written next; it stays in the books until it has landed or failed."""
        if self._due is None and self._gap is None and self._flying:
            return self._flying[0]
        with self._lock:
            if self._gap is None and self._untold_is_due():
                self._gap = self._told()
            if self._gap is not None:
                return self._gap
            if not self._flying:
                self._fly()
            return self._flying[0] if self._flying else None

    def landed(self, entry: Entry) -> None:
        """Count what the sink has taken: the head."""
        if isinstance(entry, Parcel):
            with self._lock:
                self._flying.popleft()
                self._lighten(entry)
        elif isinstance(entry, Gap):
            self._settle(entry)
        else:
            # The one step in which a note goes over from buffered to durable.
            self._flying.popleft()

    def stumbled(self) -> None:
        """Count that the sink raised."""
        with self._lock:
            self._errors += 1

    def failed(self) -> None:
        """Count the head as lost: the sink does not take it."""
        with self._lock:
            self._fail(self._flying.popleft())
            # Nothing else is tried until this is told of: in an outage, one record is lost, and the rest wait.
            self._due = 0

    def abandon(self) -> None:
        """Count everything that is left as lost."""
        with self._lock:
            while self._flies():
                pass
            while self._flying:
                self._fail(self._flying.popleft())

    @property
    def closed(self) -> bool:
        """Whether nothing more is taken."""
        return self._shut

    @property
    def empty(self) -> bool:
        """Whether nothing is left to write."""
        return not (self._kept or self._spare or self._flying or self._gap or self._due is not None)

    @property
    def untold(self) -> int:
        """How many records were lost that no ``gap`` record has told of."""
        with self._lock:
            return sum(loss.untold for loss in list(self._dropped.values()))

    def stats(self) -> dict[str, int]:
        """
        Count notes and records, all at one moment.

        Returns:
            ``submitted``, which is the sum of the next four: ``durable`` (the sink took it), ``buffered``,
            ``dropped`` (lost), ``rejected`` (its caller was told); and ``errors``, how often the sink raised.
        """
        with self._lock:
            # Each is read once: a note may be added, or land, between two readings.
            flying, waiting = len(self._flying), len(self._kept) + len(self._spare)
            counts = {
                "durable": self._flown - flying - self._failed,
                "buffered": flying + waiting,
                "dropped": sum(loss.total for loss in list(self._dropped.values())),
                "rejected": sum(loss.total for loss in list(self._rejected.values())),
            }
            return {"submitted": sum(counts.values()), **counts, "errors": self._errors}

    # What holds the lock.

    def _room_for(self, extra: int, *, spare: bool) -> bool:
        while len(self._kept) + len(self._spare) + len(self._flying) >= self._reckoned(extra):
            newest = self._overflow is Overflow.DROP_NEWEST
            if not self._spare or self._overflow is Overflow.WAIT or (spare and newest):
                return False
            evicted = self._spare.pop() if newest else self._spare.popleft()
            self._lose(self._dropped, _sort(evicted))
            self._lighten(evicted)
        return True

    def _add(self, parcel: Parcel, queue: deque[Any]) -> None:
        parcel.place = self._left + len(self._kept)
        queue.append(parcel)
        self._extra += parcel.extra
        self._reckon()

    def _lighten(self, parcel: Parcel) -> None:
        self._extra -= parcel.extra
        self._reckon()

    def _reckon(self) -> None:
        # A signal handler may have added something between reckoning and storing.
        while self._limit != (limit := self._reckoned()):
            self._limit = limit

    def _reckoned(self, extra: int = 0) -> int:
        return 0 if self._shut else min(self._entries, (self._size - self._extra - extra) // NOTE)

    def _fly(self) -> None:
        while len(self._flying) < _BATCH and self._flies():
            pass

    def _flies(self) -> bool:
        """Have the next one leave, in the order they came."""
        if self._spare and (not self._kept or self._spare[0].place <= self._left):
            self._flying.append(self._spare.popleft())
        elif self._kept:
            self._flying.append(self._kept.popleft())
            self._left += 1
        else:
            return False
        self._flown += 1
        return True

    def _fail(self, entry: Note | Parcel) -> None:
        self._failed += 1
        self._lose(self._dropped, _sort(entry))
        if isinstance(entry, Parcel):
            self._lighten(entry)

    def _lose(self, losses: dict[str, Loss], sort: str) -> None:
        loss = losses.setdefault(sort, Loss())
        loss.total += 1
        loss.untold += 1
        if self._due is None:
            # After what is there now: it is told of where it was, and not again before all of that was written.
            self._due = self._flown + len(self._kept) + len(self._spare)

    def _untold_is_due(self) -> bool:
        if self._due is None:
            return False
        written = self._flown - len(self._flying)
        return written >= self._due or not (self._kept or self._spare or self._flying)

    def _told(self) -> Gap:
        self._due = None
        told: list[tuple[Loss, int]] = []
        fields: dict[str, Any] = {"cause": "audit buffer"}
        for name, losses in (("dropped", self._dropped), ("rejected", self._rejected)):
            untold = {sort: loss.untold for sort, loss in list(losses.items()) if loss.untold}
            told += [(losses[sort], count) for sort, count in untold.items()]
            if untold:
                fields[name] = untold
        fields["lost"] = sum(fields.get("dropped", {}).values())
        now = self._clock.wall()
        return Gap(Record(Kind.GAP, new_id(now), now, masked(fields)), told)

    def _settle(self, gap: Gap) -> None:
        with self._lock:
            self._gap = None
            for loss, count in gap.told:
                loss.untold -= count


def parcel_of(record: Record) -> Parcel:
    """Weigh a record by its JSON."""
    return Parcel(record, PER_BYTE * len(record.to_json()))


def may_be_dropped(record: Record) -> bool:
    """Tell whether a record is of a question that was only asked, or of code that does not run."""
    if record.kind is Kind.DECISION:
        return record.outcome not in _RUNS
    return record.kind is Kind.CHECK


def _sort(entry: Note | Parcel) -> str:
    """Name what a record is: its kind, and its outcome where it has one of ours."""
    if not isinstance(entry, Parcel):
        return _NOTED
    kind, outcome = entry.record.kind.value, entry.record.outcome
    return f"{kind} {outcome}" if type(outcome) is str and outcome in _OUTCOMES else kind
