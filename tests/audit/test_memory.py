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
