"""A sink in memory. Imports L1 only."""

from __future__ import annotations

from pep.audit.record import Kind, Record
from pep.profile import Guarantee


class MemorySink:
    """
    Keeps records in a list; for tests and demonstrations.

    Attributes:
        records: Every record taken, in order.
    """

    guarantee = Guarantee.BUFFERED

    def __init__(self) -> None:
        self.records: list[Record] = []

    def record(self, record: Record) -> None:
        """Keep one record."""
        self.records.append(record)

    def of(self, kind: Kind) -> list[Record]:
        """Return the records of one kind."""
        return [record for record in self.records if record.kind is kind]

    def __repr__(self) -> str:
        return f"<MemorySink of {len(self.records)} records>"
