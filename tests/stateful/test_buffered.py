"""A buffered sink against a plain list: every order of adding, writing, failing and closing."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pep.audit.backlog import Backlog, Gap, Overflow, Parcel
from pep.audit.record import Kind, Record, masked
from pep.errors import AuditError
from pep.testing import FakeClock
from tests.proving import times

ENTRIES = 4


class Buffering(RuleBasedStateMachine):
    """
    What waits is a list; the drainer moves only when a rule moves it.

    In the model, an item is its number and whether it may be dropped. What left for the sink and was not
    acknowledged yet, `flying`, is out of reach of dropping.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[int, bool]] = []
        self.flying: list[int] = []
        self.written: list[int] = []
        self.lost: list[int] = []
        self.refused = self.told_lost = self.told_refused = 0
        self.number = 0
        self.shut = False

    @initialize(overflow=st.sampled_from(Overflow))
    def make(self, overflow: Overflow) -> None:
        self.overflow = overflow
        self.backlog = Backlog(ENTRIES, 1024 * 1024, overflow, FakeClock())

    # What the model says.

    def gives_way(self, spare: bool) -> bool:
        """Make room in the model; whether there is some."""
        if len(self.waiting) + len(self.flying) < ENTRIES:
            return True
        droppable = [item for item in self.waiting if item[1]]
        if self.overflow is Overflow.WAIT or not droppable or (spare and self.overflow is Overflow.DROP_NEWEST):
            return False
        victim = droppable[-1 if self.overflow is Overflow.DROP_NEWEST else 0]
        self.waiting.remove(victim)
        self.lost.append(victim[0])
        return True

    def record(self, outcome: str) -> Parcel:
        self.number += 1
        return Parcel(Record(Kind.DECISION, str(self.number), 1.0, masked({"outcome": outcome})), 10)

    # What can happen.

    @rule()
    def push(self) -> None:
        self.number += 1
        room = not self.shut and self.gives_way(spare=False)
        assert self.backlog.push((None, self.number)) is room
        if room:
            self.waiting.append((self.number, False))
        else:
            self.refused += 1

    @rule(spare=st.booleans())
    def offer(self, spare: bool) -> None:
        parcel = self.record("denied" if spare else "permitted")
        if self.shut:
            try:
                self.backlog.offer(parcel)
            except AuditError:
                self.refused += 1
                return
            raise AssertionError
        room = self.gives_way(spare)
        dropped = not room and spare and self.overflow is not Overflow.WAIT
        assert self.backlog.offer(parcel) is (room or dropped)
        if room:
            self.waiting.append((self.number, spare))
        elif dropped:
            self.lost.append(self.number)
        else:
            self.backlog.refuse(parcel)
            self.refused += 1

    def head(self) -> Any:
        """Look at what comes next: what the model would write, or a gap record."""
        entry = self.backlog.head()
        if not isinstance(entry, Gap) and not self.flying:
            self.flying = [number for number, _ in self.waiting]
            self.waiting = []
        return entry

    def number_of(self, entry: Any) -> int:
        return int(entry.record.id) if isinstance(entry, Parcel) else entry[1]

    @rule()
    def write(self) -> None:
        entry = self.head()
        if entry is None:
            assert not self.flying
            return
        if isinstance(entry, Gap):
            self.told_lost += entry.record["lost"]
            self.told_refused += sum(entry.record.get("rejected", {}).values())
        else:
            assert self.number_of(entry) == self.flying.pop(0)
            self.written.append(self.number_of(entry))
        self.backlog.landed(entry)

    @rule()
    def look(self) -> None:
        self.head()

    @rule()
    def fail(self) -> None:
        entry = self.head()
        if entry is not None and not isinstance(entry, Gap):
            self.backlog.failed()
            self.lost.append(self.flying.pop(0))
            assert isinstance(self.backlog.head(), Gap), "it is told of before anything else is tried"

    @precondition(lambda self: not self.shut)
    @rule()
    def close(self) -> None:
        self.backlog.shut()
        self.shut = True

    @precondition(lambda self: self.shut)
    @rule()
    def abandon(self) -> None:
        self.backlog.abandon()
        self.lost += self.flying + [number for number, _ in self.waiting]
        self.flying, self.waiting = [], []

    # What always holds.

    @invariant()
    def the_books_are_exact(self) -> None:
        assert self.backlog.stats() == {
            "submitted": self.number,
            "durable": len(self.written),
            "buffered": len(self.waiting) + len(self.flying),
            "dropped": len(self.lost),
            "rejected": self.refused,
            "errors": 0,
        }
        assert len(self.waiting) + len(self.flying) <= ENTRIES

    @invariant()
    def it_is_empty_when_everything_is_written_and_told(self) -> None:
        told = self.told_lost == len(self.lost) and self.told_refused == self.refused
        assert self.backlog.empty is (told and not self.waiting and not self.flying)

    def teardown(self) -> None:
        for _ in range(4 * ENTRIES):
            self.write()
        self.the_books_are_exact()
        assert (self.told_lost, self.told_refused) == (len(self.lost), self.refused)
        assert self.backlog.empty
        assert sorted(self.written + self.lost) == sorted(set(self.written + self.lost))
        assert self.written == sorted(self.written)


TestBuffering = Buffering.TestCase
TestBuffering.settings = settings(max_examples=times(100, 2_000), stateful_step_count=50, deadline=None)
