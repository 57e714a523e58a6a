from __future__ import annotations

from pep.audit.memory import MemorySink
from pep.audit.record import Kind, Record, masked
from pep.profile import Guarantee
from pep.protocols import Sink


def test_records_are_kept_in_order() -> None:
    """A sink in memory keeps what it is given, and finds it by kind."""
    sink = MemorySink()
    records = [
        Record(kind, str(at), 0.0, masked({})) for at, kind in enumerate([Kind.DECISION, Kind.OUTCOME, Kind.DECISION])
    ]
    for record in records:
        assert sink.record(record) is None  # type: ignore[func-returns-value]
    assert sink.records == records
    assert sink.of(Kind.DECISION) == [records[0], records[2]]
    assert repr(sink) == "<MemorySink of 3 records>"


def test_it_claims_no_more_than_it_gives() -> None:
    """What is in memory survives nothing."""
    assert isinstance(MemorySink(), Sink)
    assert MemorySink.guarantee is Guarantee.BUFFERED


def test_what_is_kept_is_a_list() -> None:
    """Records can be looked at, sliced, compared, changed and forgotten as those of a list."""
    sink = MemorySink()
    first, second, third = (Record(Kind.DECISION, str(at), 0.0, masked({})) for at in range(3))
    for record in (first, second):
        sink.take(record)
    records = sink.records
    assert (records[0], records[-1], records[:1], list(records)) == (first, second, [first], [first, second])
    assert records + [third] == [first, second, third]  # type: ignore[operator]  # noqa: RUF005
    assert records.copy() == [first, second]  # type: ignore[attr-defined]
    assert repr(records) == repr([first, second])
    assert records != 3
    records[0] = third
    records.insert(1, first)
    assert records == [third, first, second]
    del records[1]
    assert records == (third, second)
    records.clear()
    assert len(sink.records) == 0


def test_a_note_becomes_a_record_once_it_is_looked_at() -> None:
    """Whoever looks twice gets the same record."""

    class Teller:
        told = 0

        def record(self, _note: object) -> Record:
            self.told += 1
            return Record(Kind.DECISION, "1", 0.0, masked({}))

    teller, sink = Teller(), MemorySink()
    sink.take((teller,))
    assert sink.records[0] is sink.records[0]
    assert teller.told == 1
