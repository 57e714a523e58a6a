"""
What is known of each writer in a family: which of its lines there are, and which of them are proven.

Imports its own folder only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

from pep.audit.findings import Findings, Wrong
from pep.audit.merkle import Tree
from pep.audit.reading import Place

#: Where a line is that is not there.
NOWHERE: Final = Place(Path(), 0, 0)

# How many gaps of a writer are followed up.
_MANY: Final = 10_000


@attrs.frozen
class Head:
    """What a checkpoint says of a writer: the root over its first *size* lines."""

    size: int
    root: bytes


@attrs.frozen
class End:
    """
    A line that another may go on from.

    Attributes:
        place: Where it is.

        writer: Its writer's id.

        seq: Its number, from 0.

        loose: Whether what goes on from it knows its number only, not its hash.
    """

    place: Place
    writer: bytes
    seq: int
    loose: bool = False


@attrs.frozen
class Gap:
    """
    Numbers of one writer that no line had.

    Attributes:
        first: The first of them.

        last: The last of them.

        place: The line after it.

        explained: Whether unreadable lines stand in its place.
    """

    first: int
    last: int
    place: Place
    explained: bool


@attrs.define(eq=False)
class Writer:
    """
    One writer of a family.

    Attributes:
        id: Its id.

        next: The number its next line has.

        lines: How many of its lines there are.

        gaps: Numbers below that which no line had.

        parent: The line its first one goes on from.

        loose: Whether some line of it is linked to the one before it by its number only.

        last: Where its last line is; `NOWHERE` while it has none.

        proven: How many lines from its first on are proven, and up to where.
    """

    id: bytes
    findings: Findings
    #: What checkpoints say of it, the smallest first.
    heads: deque[Head] = attrs.field(factory=deque)
    next: int = 0
    lines: int = 0
    gaps: list[Gap] = attrs.field(factory=list)
    parent: End | None = None
    loose: bool = False
    last: Place = attrs.field(default=NOWHERE)
    proven: int = 0
    proven_to: Place | None = None
    _tree: Tree = attrs.field(factory=Tree)

    def number(self, seq: int, place: Place, *, explained: bool) -> None:
        """Take note of the number of its line at a place; *explained* if a gap before it is."""
        if seq >= self.next:
            if seq > self.next:
                self._miss(Gap(self.next, seq - 1, place, explained))
            self.next = seq + 1
            self.last = place
        elif not self._filled(seq):
            self.findings.add(Wrong.REPEATED, place, f"line {seq} of writer {self.id.decode()} is there already")
        else:
            self.findings.add(Wrong.REORDERED, place, f"line {seq} of writer {self.id.decode()} comes too late")

    def grow(self, lines: Sequence[bytes], first: Place) -> None:
        """Add lines that follow one another, the first of them at a place, to the tree that checkpoints tell of."""
        self.lines += len(lines)
        done = 0
        while self.heads and done < len(lines):
            upto = min(len(lines), done + self.heads[0].size - self._tree.size)
            self._tree.extend(lines[done:upto])
            done = upto
            if self.heads[0].size == self._tree.size:
                offset = first.offset + sum(map(len, lines[: done - 1])) + done - 1
                self._compare(Place(first.path, first.line + done - 1, offset))

    def prove(self, count: int, place: Place) -> None:
        """Take it for proven that more of its lines are as they were written: the first *count*, up to *place*."""
        self.proven, self.proven_to = count, place

    def finish(self) -> None:
        """Tell of what is not there."""
        for gap in self.gaps:
            self._tell(gap)
        if self.heads:
            # What the largest one counts, the others count too.
            self._fall_short(self.heads[-1].size)

    def _compare(self, place: Place) -> None:
        head = self.heads.popleft()
        if self._tree.root() == head.root:
            self.prove(head.size, place)
        else:
            detail = f"up to here these are not the {head.size} lines that were signed"
            self.findings.add(Wrong.FORGED, place, detail)

    def _fall_short(self, size: int) -> None:
        if self.next < size:
            wrong, what = Wrong.TRUNCATED, f"there are {self.next}"
        else:
            wrong, what = Wrong.FORGED, f"only {self.lines} of them fit"
        detail = f"a checkpoint counts {size} lines of writer {self.id.decode()}; {what}"
        self.findings.add(wrong, None if self.last is NOWHERE else self.last, detail)

    def _miss(self, gap: Gap) -> None:
        if len(self.gaps) < _MANY:
            self.gaps.append(gap)
        else:
            self._tell(gap)

    def _tell(self, gap: Gap) -> None:
        if not gap.explained:
            several = gap.last > gap.first
            which = f"lines {gap.first} to {gap.last}" if several else f"line {gap.first}"
            self.findings.add(Wrong.MISSING, gap.place, f"{which} of writer {self.id.decode()} before this one")

    def _filled(self, seq: int) -> bool:
        """Take a number out of the gap it was missing in; return whether there is one."""
        index = bisect_right(self.gaps, seq, key=lambda gap: gap.first) - 1
        if index < 0 or seq > self.gaps[index].last:
            return False
        gap = self.gaps[index]
        left = attrs.evolve(gap, last=seq - 1), attrs.evolve(gap, first=seq + 1)
        self.gaps[index : index + 1] = [part for part in left if part.first <= part.last]
        return True
