"""A sink in memory. Imports L1 only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableSequence
from typing import Any, overload

from pep.audit.record import Kind, Record, record_of
from pep.profile import Guarantee


class MemorySink:
    """
    Keeps records in a list; for tests and demonstrations.

    Attributes:
        records: Every record taken, in order.

        take: Takes a note of the hot path.
    """

    guarantee = Guarantee.BUFFERED
    #: Taking a note takes no time that would have to be looked at.
    instant = True

    def __init__(self) -> None:
        kept: list[Any] = []
        self.records: MutableSequence[Record] = _Kept(kept)
        self.take: Callable[[Any], None] = kept.append

    def record(self, record: Record) -> None:
        """Keep one record."""
        self.take(record)

    def of(self, kind: Kind) -> list[Record]:
        """Return the records of one kind."""
        return [record for record in self.records if record.kind is kind]

    def __repr__(self) -> str:
        return f"<MemorySink of {len(self.records)} records>"


class _Kept(MutableSequence[Record]):
    """Records, of which those that nobody has looked at yet are notes."""

    __slots__ = ("_kept",)

    def __init__(self, kept: list[Any]) -> None:
        self._kept = kept

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self._kept)))]
        taken = self._kept[index]
        if type(taken) is not Record:
            taken = self._kept[index] = record_of(taken)
        return taken

    def __setitem__(self, index: Any, value: Any) -> None:  # noqa: ANN401  as a list takes them
        self._kept[index] = value

    def __delitem__(self, index: int | slice) -> None:
        del self._kept[index]

    def __len__(self) -> int:
        return len(self._kept)

    def insert(self, index: int, value: Record) -> None:
        """Put a record in before the one at *index*."""
        self._kept.insert(index, value)

    def clear(self) -> None:
        """Forget every record."""
        self._kept.clear()

    def copy(self) -> list[Record]:
        """Return the records as a list of their own."""
        return self[:]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Iterable):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: Iterable[Record]) -> list[Record]:
        return [*self, *other]

    def __repr__(self) -> str:
        return repr(list(self))
