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

from pep.audit.ends import GENESIS, Ends, Wanting
from pep.audit.family import HEAD, counts
from pep.audit.findings import Findings, Wrong
from pep.audit.reading import Damage, Entry, Harm, Lines, Place, judged
from pep.audit.witness import End, Writer

# Small enough that little is read again where one of them is wrong.
_RUN: Final = 64
# Where a line carries the hash of the one before it.
_PREV: Final = slice(32, 96)
_ASTRAY: Final = "it goes on from a line elsewhere, but is not the first of its file"


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

        branches: The hashes that files go on from, in their first line or after lines that were cut short there.
            Another writer may go on from there too.

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
    _ends: Ends = attrs.field(init=False)
    # Whose next line is expected; None where anything may come.
    _at: Writer | None = attrs.field(default=None, init=False)
    # How many lines could not be read since the last one that could.
    _unread: int = attrs.field(default=0, init=False)
    _branched: dict[str, End] = attrs.field(factory=dict, init=False)
    _fragments: list[_Fragment] = attrs.field(factory=list, init=False)
    # Hash of a fragment that names no line before it, and that another file goes on from → what it stood after.
    _cuts: dict[str, set[str]] = attrs.field(factory=dict, init=False)
    # The line before, where a file starts with lines that are there already.
    _replayed: End | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._ends = Ends(self.findings)

    def begin(self, file: Path) -> None:
        """Go on to the next file."""
        self._settle_fragments(None)
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
        self._ends.settle(self.writers)

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
        if self._ends.wants(hashes):
            return False
        self._ends.take(self._last)
        self._last, self._first = hashes[-1], False
        writer.next += len(run)
        writer.last = Place(place.path, place.line + len(run) - 1, place.offset + size - 1 - len(run[-1]))
        writer.grow(run, place)
        self._ends.put(self._last, End(writer.last, writer.id, writer.next - 1))
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
        before = self._before(end, prev)
        if before is not None:
            if prev != self._last and not self._first and before.place.path != self._file:
                self.findings.add(Wrong.INSERTED, place, _ASTRAY)
            end = self._joined(end, before)
        elif not self._starts(end, prev):
            self._miss(Wanting(end, own, prev, self._last, _mended(line, self._last), self._first, self._tells(end)))
        writer = self._writer(end.writer)
        writer.number(end.seq, place, explained=end.seq - writer.next <= self._unread)
        writer.grow([line], place)
        self._unread, self._last, self._first = 0, own, False
        self._at = writer if writer.next == end.seq + 1 else None
        self._answer(own, end)

    def _before(self, end: End, prev: str) -> End | None:
        """Find the line that a line goes on from."""
        if self._first and end.seq == 0:
            # Another file may go on from there too, and be the one that is that writer's next.
            return self._ends.get(prev)
        return self._ends.take(prev)

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
            elif prev != self._last and not first:
                self._unlike(replayed)
            self._first, self._last, self._at = False, own, self._writer(end.writer)
            return True
        before = self._branched.get(prev) if first else replayed if prev == self._last else None
        follows = before is not None and (end.writer, end.seq) == (before.writer, before.seq + 1)
        follows |= first and prev in self._cuts
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
        if before.loose and before.writer == end.writer:
            # Only numbers lead across: what they leave out is missing.
            writer.loose = True
            return end
        if (end.writer, end.seq) != (before.writer, before.seq + 1):
            self.findings.add(Wrong.EDITED, end.place, "its writer or number is not the one after the line before it")
        joined = End(end.place, before.writer, before.seq + 1)
        self._writer(joined.writer).loose |= before.loose
        return joined

    def _starts(self, end: End, prev: str) -> bool:
        """Tell whether a line may stand first in its file, with no line before it that is known by its hash."""
        if not self._first:
            return False
        if prev in self._cuts:
            # INVARIANT: nothing before it is proven by what comes after: no hash leads across.
            self._writer(end.writer).loose = True
            self._ends.drop(end.writer, end.seq - 1)
            return True
        writer = self._writer(end.writer)
        if end.seq != 0 or writer.next != 0:
            return False
        if prev == GENESIS:
            self.chains += 1
            return True
        writer.parent = self._branched.get(prev)
        return writer.parent is not None

    def _tells(self, end: End) -> bool:
        """Whether the number of a line explains that the line before it is not there."""
        return end.seq != self._writer(end.writer).next or self._unread > 0

    def _miss(self, wanting: Wanting) -> None:
        self._writer(wanting.end.writer).loose = True
        self._ends.want(wanting)

    def _answer(self, own: str, end: End) -> None:
        """Let a line be gone on from."""
        waiting = self._ends.wanting(own)
        for one in waiting:
            if one.end.seq == 0:
                self._writer(one.end.writer).parent = end
                if not one.first:
                    self._ends.blame(Wrong.INSERTED, one.end.place, _ASTRAY)
        if all(one.end.seq == 0 for one in waiting):
            self._ends.put(own, end)
        if own in self._branches:
            self._branched[own] = end

    def _writer(self, name: bytes) -> Writer:
        writer = self.writers.get(name)
        if writer is None:
            writer = self.writers[name] = Writer(name, self.findings)
        return writer

    def _settle_fragments(self, follower: re.Match[bytes] | None) -> None:
        """Tell of lines that are in no chain, now that it is known which line comes next in the file, if any."""
        fragments, self._fragments = self._fragments, []
        if not fragments:
            return
        last = fragments[-1].digest
        bound = last in self._branches if follower is None else last == follower[1].decode()
        for fragment in fragments:
            found, head = fragment.found, HEAD.match(fragment.line)
            whole = head is not None and fragment.digest == last and _well_formed([fragment.line])
            if isinstance(found, Entry):
                self.findings.add(Wrong.INSERTED, found.place, "a line that is in no chain")
                self._unread += 1
            if bound and (whole or not counts(head, follower)):
                self._bridge(fragment, head, follower, whole=whole)
            elif isinstance(found, Damage):
                torn = found.harm is Harm.TORN
                self.findings.add(Wrong.TORN if torn else Wrong.DAMAGED, found.place, found.told)
                self._unread += head is None or torn
                if head is not None and not torn:
                    self._link(found.place, head)

    def _bridge(
        self, fragment: _Fragment, head: re.Match[bytes] | None, follower: re.Match[bytes] | None, *, whole: bool
    ) -> None:
        """Let the next line go on from one that is in no chain, as its writer did."""
        digest, place = fragment.digest, fragment.found.place
        copied = self._replayed is not None or (self._first and (digest in self._cuts or digest in self._branched))
        if not copied and isinstance(fragment.found, Damage):
            self._remark(fragment.found)
        if head is None:
            self._cross(digest, within=follower is not None)
        elif whole and digest not in self._ends:
            self._link(place, head)
            return
        else:
            self._lead(place, head, digest)
        self._last, self._at = digest, None

    def _cross(self, digest: str, *, within: bool) -> None:
        """Let a line, *within* this file or in another, go on from one that was cut before it named its predecessor."""
        after, known = "" if self._first else self._last, self._cuts.get(digest, set())
        if self._replayed is not None:
            if after not in known:
                self._unlike(self._replayed)
                self._replayed = None
        elif within and not self._first and (before := self._ends.take(after)) is not None:
            # INVARIANT: nothing before it is proven by what comes after: no hash leads across.
            self._ends.put(digest, attrs.evolve(before, loose=True))
        if digest in self._branches:
            self._cuts[digest] = known | {after}

    def _lead(self, place: Place, head: re.Match[bytes], digest: str) -> None:
        """Let a line go on from one that was cut after it named its predecessor."""
        prev, end = _headed(place, head)
        if self._replayed is not None:
            if prev != self._last:
                self._unlike(self._replayed)
            if prev != self._last or digest in self._ends:
                self._replayed = None
        elif digest not in self._ends and not (self._first and digest in self._branched):
            before = self._before(end, prev)
            if before is None:
                if prev in self._cuts:
                    self._ends.drop(end.writer, end.seq - 1)
                before = End(place, self._writer(end.writer).id, end.seq - 1, loose=True)
            self._ends.put(digest, before)
            if digest in self._branches:
                self._branched[digest] = before


def _headed(place: Place, head: re.Match[bytes]) -> tuple[str, End]:
    """Read the head of a chained line: the hash it goes on from, and the line itself."""
    return head[1].decode(), End(place, head[3], int(head[2]))


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
