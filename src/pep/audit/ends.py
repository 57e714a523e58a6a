"""
The open ends of a chain: lines that nothing goes on from yet, and lines whose predecessor is not there.

At the end, the ones tell what became of the others. Pure; imports its own folder only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Final

import attrs

from pep.audit.findings import Findings, Wrong
from pep.audit.reading import Place
from pep.audit.witness import End, Writer

#: What the very first line goes on from.
GENESIS: Final = "0" * 64

# How many of either are followed up at once.
_MANY: Final = 10_000


@attrs.frozen
class Wanting:
    """
    A line whose predecessor is not there.

    Attributes:
        end: The line.

        own: Its hash.

        prev: The hash it goes on from.

        before: The hash of the line that stands before it.

        mended: What its own hash were, if it went on from that one.

        first: Whether it is its file's first.

        told: Whether its number explains it already.
    """

    end: End
    own: str
    prev: str
    before: str
    mended: str
    first: bool
    told: bool


@attrs.define(eq=False, repr=False)
class Ends:
    """
    Keeps what is open, and tells of it at the end.

    Args:
        findings: Is told of what is wrong.
    """

    _findings: Findings
    # Hash of a line → that line.
    _open: dict[str, End] = attrs.field(factory=dict, init=False)
    # Hash that lines go on from → those lines, while there is none of that hash.
    _wanted: dict[str, list[Wanting]] = attrs.field(factory=dict, init=False)

    def __contains__(self, own: str) -> bool:
        return own in self._open

    def get(self, own: str) -> End | None:
        """Return the line of a hash, if nothing goes on from it yet."""
        return self._open.get(own)

    def take(self, own: str) -> End | None:
        """Return the line of a hash, if nothing goes on from it yet; something does from now on."""
        return self._open.pop(own, None)

    def put(self, own: str, end: End) -> None:
        """Let a line be gone on from."""
        self._open[own] = end
        if len(self._open) > _MANY:
            self._open.pop(next(iter(self._open)))

    def drop(self, writer: bytes, seq: int) -> None:
        """Let a line be gone on from by its number, where its hash was lost."""
        found = [own for own, end in self._open.items() if (end.writer, end.seq) == (writer, seq)]
        for own in found:
            del self._open[own]

    def want(self, wanting: Wanting) -> None:
        """Remember a line whose predecessor is not there, or not yet."""
        begins = wanting.first and wanting.end.seq == 0
        if len(self._wanted) >= _MANY or (wanting.prev in self._wanted and not begins):
            self._findings.add(Wrong.EDITED, wanting.end.place, "it goes on from a line that is not there")
        else:
            # Several files may go on from one line that is not there yet.
            self._wanted.setdefault(wanting.prev, []).append(wanting)

    def wants(self, hashes: Iterable[str]) -> bool:
        """Whether one of these is wanted."""
        return bool(self._wanted) and not self._wanted.keys().isdisjoint(hashes)

    def wanting(self, own: str) -> list[Wanting]:
        """Return the lines that go on from this one, and want nothing any more."""
        return self._wanted.pop(own, [])

    def settle(self, writers: Mapping[bytes, Writer]) -> None:
        """Tell of what is open at the end of everything."""
        self._settle_edits()
        self._settle_wanted()
        for writer in writers.values():
            writer.finish()
        self._settle_open(writers)

    def blame(self, wrong: Wrong, place: Place, detail: str) -> None:
        """Tell of one thing that is wrong, unless something is already at its place."""
        if not self._findings.blames(place):
            self._findings.add(wrong, place, detail)

    def _settle_edits(self) -> None:
        """Tell of lines of which only the hash of the line before was changed: the next one knows what it was."""
        for wanting in chain.from_iterable(list(self._wanted.values())):
            if wanting.mended in self._wanted:
                self._findings.add(Wrong.EDITED, wanting.end.place, "the hash of the line before it was changed")
                for done in (wanting.mended, wanting.prev):
                    self._wanted.pop(done, None)
                for known in (wanting.before, wanting.own):
                    self._open.pop(known, None)

    def _settle_wanted(self) -> None:
        """Tell of lines that go on from something that is not there."""
        there = {(end.writer, end.seq): own for own, end in self._open.items()}
        for wanting in chain.from_iterable(self._wanted.values()):
            end = wanting.end
            own = there.get((end.writer, end.seq - 1))
            if own is None and not wanting.first and wanting.prev != GENESIS and end.seq == 0:
                own = wanting.before
            before = self._open.pop(own or "", None)
            if before is not None:
                self.blame(Wrong.EDITED, before.place, "it is not the line that the next one goes on from")
            elif not wanting.told:
                self.blame(*_orphaned(wanting))

    def _settle_open(self, writers: Mapping[bytes, Writer]) -> None:
        """Tell of lines that nothing goes on from, though their writers went on."""
        known = {(writer.id, gap.first) for writer in writers.values() for gap in writer.gaps}
        for end in self._open.values():
            if end.seq + 1 != writers[end.writer].next and (end.writer, end.seq + 1) not in known:
                self.blame(Wrong.INSERTED, end.place, "nothing goes on from it, though its writer went on")


def _orphaned(wanting: Wanting) -> tuple[Wrong, Place, str]:
    place = wanting.end.place
    if wanting.end.seq == 0 and not wanting.first:
        return Wrong.INSERTED, place, "a chain begins in the midst of a file"
    if wanting.end.seq == 0:
        return Wrong.MISSING, place, "the line it goes on from is not there, or was changed"
    return Wrong.EDITED, place, "it goes on from a line that is not there"
