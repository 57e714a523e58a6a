"""
The links of a chain, followed line by line: what each goes on from, and what does not fit.

A line is linked by the hash of the one before it, wherever that stands, so that lines out of order are told
from lines that are missing or were changed. Pure; imports its own folder only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import attrs
import orjson

from pep.audit.family import HEAD
from pep.audit.findings import Findings, Wrong
from pep.audit.reading import Damage, Entry, Harm, Lines, Place, judged
from pep.audit.witness import End, Writer

#: What the very first line goes on from.
GENESIS: Final = "0" * 64

# Small enough that little is read again where one of them is wrong.
_RUN: Final = 64
# How many breaks are followed up at once.
_MANY: Final = 10_000
# Where a line carries the hash of the one before it.
_PREV: Final = slice(32, 96)
_ASTRAY: Final = "it goes on from a line elsewhere, but is not the first of its file"


@attrs.frozen
class _Wanting:
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


@attrs.frozen
class _Fragment:
    """
    A line that is in no chain; a later one may still go on from it.

    Attributes:
        found: What it is, and where.

        line: The line.

        digest: Its hash.
    """

    found: Damage | Entry
    line: bytes
    digest: str


@attrs.define(eq=False, repr=False)
class Links:
    """
    Follows the lines of a family, file by file.

    Args:
        findings: Is told of what is wrong.

        remark: Is told of lines that were cut short, and that their writer went on from.

        branches: The hashes that files go on from. Another writer may go on from there too.

        writers: The writers that checkpoints tell of, by id; the others are added.

    Attributes:
        chains: How many chains begin with nothing before them.
    """

    findings: Findings
    _remark: Callable[[Damage], None]
    _branches: frozenset[str]
    writers: dict[bytes, Writer]
    chains: int = attrs.field(default=0, init=False)
    _file: Path = attrs.field(factory=Path, init=False)
    _first: bool = attrs.field(default=True, init=False)
    _last: str = attrs.field(default="", init=False)
    # Whose next line is expected; None where anything may come.
    _at: Writer | None = attrs.field(default=None, init=False)
    # How many lines could not be read since the last one that could.
    _unread: int = attrs.field(default=0, init=False)
    # Hash of a line that nothing goes on from yet → that line.
    _ends: dict[str, End] = attrs.field(factory=dict, init=False)
    # Hash that a line goes on from → that line, while there is none of that hash.
    _wanted: dict[str, _Wanting] = attrs.field(factory=dict, init=False)
    _branched: dict[str, End] = attrs.field(factory=dict, init=False)
    _fragments: list[_Fragment] = attrs.field(factory=list, init=False)
    # The line before, where a file starts with lines that are there already.
    _replayed: End | None = attrs.field(default=None, init=False)

    def begin(self, file: Path) -> None:
        """Go on to the next file."""
        self._unlike(self._replayed)
        self._replayed = None
        self._file, self._first = file, True

    def feed(self, lines: Lines) -> None:
        """Follow lines of the file."""
        offset = lines.offset
        for start in range(0, len(lines.content), _RUN):
            run = lines.content[start : start + _RUN]
            place, size = Place(self._file, lines.number + start, offset), sum(map(len, run)) + len(run)
            if lines.harm is not None or not self._quickly(place, run, size):
                self._slowly(place, run, lines.harm)
            offset += size

    def finish(self) -> None:
        """Tell of what is still open at the end."""
        self.begin(self._file)
        self._settle_fragments(None)
        self._settle_edits()
        self._settle_wanted()
        for writer in self.writers.values():
            writer.finish()
        self._settle_ends()

    def _quickly(self, place: Place, run: Sequence[bytes], size: int) -> bool:
        """Follow lines of so many bytes that all are as they should be; return False if they are not."""
        writer = self._at
        if writer is None or self._fragments:
            return False
        hashes = [sha256(line).hexdigest() for line in run]
        name = writer.id.decode()
        heads = [
            f'{{"schema":"pep.audit/1","prev":"{prev}","seq":{seq},"writer":"{name}",'.encode()
            for seq, prev in enumerate([self._last, *hashes[:-1]], writer.next)
        ]
        if not all(map(bytes.startswith, run, heads)) or not _well_formed(run):
            return False
        if self._branches and not self._branches.isdisjoint(hashes):
            return False
        if self._wanted and not self._wanted.keys().isdisjoint(hashes):
            return False
        self._ends.pop(self._last)
        self._last, self._first = hashes[-1], False
        writer.next += len(run)
        writer.last = Place(place.path, place.line + len(run) - 1, place.offset + size - 1 - len(run[-1]))
        writer.grow(run, place)
        self._ends[self._last] = End(writer.last, writer.id, writer.next - 1)
        return True

    def _slowly(self, place: Place, run: Sequence[bytes], harm: Harm | None) -> None:
        offset = place.offset
        for index, line in enumerate(run):
            self._follow(Place(place.path, place.line + index, offset), line, harm)
            offset += len(line) + 1

    def _follow(self, place: Place, line: bytes, harm: Harm | None) -> None:
        head = HEAD.match(line)
        if head is not None or len(self._fragments) >= _RUN:
            self._settle_fragments(head)
        if head is not None and harm is None and _well_formed([line]):
            self._link(place, head)
        else:
            self._fragments.append(_Fragment(judged(place, line, harm), line, sha256(line).hexdigest()))

    def _link(self, place: Place, head: re.Match[bytes]) -> None:
        """Link a line to the one it goes on from, or remember that it is not there."""
        line, (prev, end) = head.string, _headed(place, head)
        own = sha256(line).hexdigest()
        if self._again(end, prev, own):
            return
        writer, before = self._writer(end.writer), self._ends.pop(prev, None)
        if before is not None:
            if prev != self._last and not self._first and before.place.path != self._file:
                self.findings.add(Wrong.INSERTED, place, _ASTRAY)
            end = self._joined(end, before)
            writer = self._writer(end.writer)
        elif not self._starts(writer, end, prev):
            self._miss(_Wanting(end, own, prev, self._last, _mended(line, self._last), self._first, self._tells(end)))
        writer.number(end.seq, place, explained=end.seq - writer.next <= self._unread)
        writer.grow([line], place)
        # What ended the file before may be linked only now.
        self._first = self._first and place.path != self._file
        self._unread, self._last = 0, own
        self._at = writer if writer.next == end.seq + 1 else None
        self._answer(own, end)

    def _again(self, end: End, prev: str, own: str) -> bool:
        """
        Pass over lines that are there twice.

        A writer whose file fails to sync starts a new one with the lines that may be lost. They are
        the same if their last one is: its hash leads back to the first.
        """
        first, replayed, self._replayed = self._first, self._replayed, None
        if own in self._ends:
            if not first and replayed is None:
                self.findings.add(Wrong.REPEATED, end.place, "the same line as before")
            self._first, self._last, self._at = False, own, self._writer(end.writer)
            return True
        before = self._branched.get(prev) if first else replayed if prev == self._last else None
        follows = before is not None and (end.writer, end.seq) == (before.writer, before.seq + 1)
        if follows and end.seq < self._writer(end.writer).next:
            self._first, self._last, self._at, self._replayed = False, own, None, end
            return True
        self._unlike(replayed)
        return False

    def _unlike(self, replayed: End | None) -> None:
        if replayed is not None:
            detail = "lines that are there already, up to here, but not the same"
            self.findings.add(Wrong.REPEATED, replayed.place, detail)

    def _joined(self, end: End, before: End) -> End:
        """Take a line for the next after the one it goes on from, and check that it says so."""
        writer = self._writer(end.writer)
        if end.seq == 0 and writer.next == 0:
            writer.parent = None if before.loose else before
            return end
        if (end.writer, end.seq) != (before.writer, before.seq + 1):
            self.findings.add(Wrong.EDITED, end.place, "its writer or number is not the one after the line before it")
        joined = End(end.place, before.writer, before.seq + 1)
        self._writer(joined.writer).loose |= before.loose
        return joined

    def _starts(self, writer: Writer, end: End, prev: str) -> bool:
        """Tell whether a line may be the first of its writer, with nothing before it in its file."""
        if end.seq != 0 or writer.next != 0 or not self._first:
            return False
        if prev == GENESIS:
            self.chains += 1
            return True
        writer.parent = self._branched.get(prev)
        return writer.parent is not None

    def _tells(self, end: End) -> bool:
        """Whether the number of a line explains that the line before it is not there."""
        return end.seq != self._writer(end.writer).next or self._unread > 0

    def _miss(self, wanting: _Wanting) -> None:
        self._writer(wanting.end.writer).loose = True
        if wanting.prev in self._wanted or len(self._wanted) >= _MANY:
            self.findings.add(Wrong.EDITED, wanting.end.place, "it goes on from a line that is not there")
        else:
            self._wanted[wanting.prev] = wanting

    def _answer(self, own: str, end: End) -> None:
        """Let a line be gone on from."""
        waiting = self._wanted.pop(own, None)
        if waiting is not None and waiting.end.seq == 0:
            self._writer(waiting.end.writer).parent = end
            if not waiting.first:
                self._blame(Wrong.INSERTED, waiting.end.place, _ASTRAY)
        if waiting is None or waiting.end.seq == 0:
            self._ends[own] = end
        if own in self._branches:
            self._branched[own] = end
        if len(self._ends) > _MANY:
            self._ends.pop(next(iter(self._ends)))

    def _writer(self, name: bytes) -> Writer:
        writer = self.writers.get(name)
        if writer is None:
            writer = self.writers[name] = Writer(name, self.findings)
        return writer

    def _settle_fragments(self, follower: re.Match[bytes] | None) -> None:
        """Tell of lines that are in no chain, now that it is known which line of one comes next, if any."""
        fragments, self._fragments = self._fragments, []
        bound = follower is not None and bool(fragments) and fragments[-1].digest == follower[1].decode()
        for index, fragment in enumerate(fragments):
            found, head = fragment.found, HEAD.match(fragment.line)
            gone_on_from = bound and not _counts(head, follower)
            if isinstance(found, Entry):
                self.findings.add(Wrong.INSERTED, found.place, "a line that is in no chain")
                self._unread += 1
            elif gone_on_from or (bound and index + 1 == len(fragments) and _well_formed([fragment.line])):
                self._remark(found)
            else:
                torn = found.harm is Harm.TORN
                self.findings.add(Wrong.TORN if torn else Wrong.DAMAGED, found.place, found.told)
                self._unread += head is None or torn
                if head is not None and not torn:
                    self._link(found.place, head)
        if bound:
            self._bridge(fragments[-1])

    def _bridge(self, fragment: _Fragment) -> None:
        """Let the next line go on from one that is in no chain, as its writer did."""
        place, head = fragment.found.place, HEAD.match(fragment.line)
        if fragment.digest in self._ends:
            return
        if head is not None and _well_formed([fragment.line]):
            self._link(place, head)
            return
        if head is None:
            # INVARIANT: nothing before it is proven by what comes after: no hash leads across.
            before = self._ends.pop(self._last, End(place, b"", -1))
            self._ends[fragment.digest] = attrs.evolve(before, loose=True)
        else:
            prev, end = _headed(place, head)
            before = self._ends.pop(prev, End(place, end.writer, end.seq - 1, loose=True))
            self._ends[fragment.digest] = before
        self._last, self._at = fragment.digest, None

    def _settle_edits(self) -> None:
        """Tell of lines of which only the hash of the line before was changed: the next one knows what it was."""
        for wanting in list(self._wanted.values()):
            if wanting.mended in self._wanted:
                self.findings.add(Wrong.EDITED, wanting.end.place, "the hash of the line before it was changed")
                for done in (wanting.mended, wanting.prev):
                    self._wanted.pop(done, None)
                for known in (wanting.before, wanting.own):
                    self._ends.pop(known, None)

    def _settle_wanted(self) -> None:
        """Tell of lines that go on from something that is not there."""
        there = {(end.writer, end.seq): own for own, end in self._ends.items()}
        for wanting in self._wanted.values():
            end = wanting.end
            own = there.get((end.writer, end.seq - 1))
            if own is None and not wanting.first and wanting.prev != GENESIS and end.seq == 0:
                own = wanting.before
            before = self._ends.pop(own or "", None)
            if before is not None:
                self._blame(Wrong.EDITED, before.place, "it is not the line that the next one goes on from")
            elif not wanting.told:
                self._blame(*_orphaned(wanting))

    def _settle_ends(self) -> None:
        """Tell of lines that nothing goes on from, though their writers went on."""
        known = {(writer.id, gap.first) for writer in self.writers.values() for gap in writer.gaps}
        for end in self._ends.values():
            if end.seq + 1 != self._writer(end.writer).next and (end.writer, end.seq + 1) not in known:
                self._blame(Wrong.INSERTED, end.place, "nothing goes on from it, though its writer went on")

    def _blame(self, wrong: Wrong, place: Place, detail: str) -> None:
        if not self.findings.blames(place):
            self.findings.add(wrong, place, detail)


def _orphaned(wanting: _Wanting) -> tuple[Wrong, Place, str]:
    place = wanting.end.place
    if wanting.end.seq == 0 and not wanting.first:
        return Wrong.INSERTED, place, "a chain begins in the midst of a file"
    if wanting.end.seq == 0:
        return Wrong.MISSING, place, "the line it goes on from is not there, or was changed"
    return Wrong.EDITED, place, "it goes on from a line that is not there"


def _headed(place: Place, head: re.Match[bytes]) -> tuple[str, End]:
    """Read the head of a chained line: the hash it goes on from, and the line itself."""
    return head[1].decode(), End(place, head[3], int(head[2]))


def _counts(head: re.Match[bytes] | None, follower: re.Match[bytes] | None) -> bool:
    """Whether the line after a line that is no record counts it as one."""
    if head is None or follower is None:
        return False
    return follower[3] == head[3] and int(follower[2]) == int(head[2]) + 1


def _mended(line: bytes, prev: str) -> str:
    """Return the hash that a chained line had, if it went on from *prev*."""
    return sha256(line[: _PREV.start] + prev.encode() + line[_PREV.stop :]).hexdigest()


def _well_formed(run: Sequence[bytes]) -> bool:
    """Whether all of these lines, which start like objects, are JSON."""
    try:
        for _ in map(orjson.loads, run):
            pass
    except ValueError:
        return False
    return True
