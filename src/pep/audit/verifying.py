"""
Verifies a family of audit files: what is wrong with it and where, and how far it is proven.

A chain shows edits, reorderings and gaps. Only a checkpoint that was held elsewhere shows that the end was cut
off, or that everything was written anew. Imports its own folder only.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import attrs

from pep.audit.checkpoint import Checkpoint
from pep.audit.ends import GENESIS
from pep.audit.family import Member, members
from pep.audit.findings import Finding, Findings, Wrong
from pep.audit.links import Links
from pep.audit.reading import Damage, Place, lines
from pep.audit.witness import Head, Writer

__all__ = ["MAX_KEPT", "Chain", "Finding", "Report", "Wrong", "verify"]

#: How many findings a report keeps; the others are counted.
MAX_KEPT: Final = 1000


@attrs.frozen
class Chain:
    """
    What there is of one writer.

    Attributes:
        writer: Its id.

        records: How many lines it has.

        proven: How many of them, from the first on, a checkpoint proves.

        proven_to: Where the last of those is.

        last: Where its last line is.
    """

    writer: str
    records: int
    proven: int
    proven_to: Place | None
    last: Place

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        told: dict[str, Any] = {"writer": self.writer, "records": self.records, "proven": self.proven}
        return {**told, "proven_to": str(self.proven_to) if self.proven_to else None, "last": str(self.last)}


@attrs.frozen
class Report:
    """
    What verifying came to.

    Attributes:
        files: The files, in order.

        chains: What there is of each writer, in order.

        begun: How many chains begin with nothing before them; more than one is unusual.

        findings: What is wrong, at most `MAX_KEPT`.

        found: How many things are wrong.

        torn: How many lines were cut short, and gone on from by their writer.
    """

    files: tuple[Path, ...]
    chains: tuple[Chain, ...]
    begun: int
    findings: tuple[Finding, ...]
    found: int
    torn: int

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.found

    @property
    def records(self) -> int:
        """How many chained lines there are."""
        return sum(chain.records for chain in self.chains)

    @property
    def proven(self) -> int:
        """How many of them a checkpoint proves."""
        return sum(chain.proven for chain in self.chains)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "intact": self.intact,
            "files": [str(file) for file in self.files],
            "records": self.records,
            "proven": self.proven,
            "chains": [chain.to_dict() for chain in self.chains],
            "begun": self.begun,
            "torn": self.torn,
            "found": self.found,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def verify(
    path: str | os.PathLike[str],
    *,
    checkpoints: Iterable[Checkpoint] = (),
    tell: Callable[[Finding], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """
    Verify a family of audit files.

    Args:
        path: The path that was given to the sink, or any one file.

        checkpoints: What was signed, each with its signature verified.

        tell: Is told of everything that is wrong as it is found.

        progress: Is told how many bytes are done, of how many.

    Returns:
        What is wrong, and how far it is proven; however damaged the files are.

    Raises:
        AuditError: When there is no such file, or it cannot be read.
    """
    found = _Found(tell)
    findings = Findings(found.take)
    writers = _witnessed(checkpoints, findings)
    with ExitStack() as stack:
        files = members(path, stack)
        gone_on_from = [{member.follows, *member.cuts} for member in files if member.follows]
        branches = frozenset(one.decode() for one in frozenset().union(*gone_on_from))
        links = Links(findings, found.remark, branches - {GENESIS}, writers)
        _follow(files, links, progress)
    _prove(writers)
    chains = tuple(_chain(writer) for writer in writers.values() if writer.lines)
    names = tuple(member.file for member in files)
    return Report(names, chains, links.chains, tuple(found.kept), found.count, found.torn)


@attrs.define
class _Found:
    """Keeps findings, and counts what is too many."""

    _tell: Callable[[Finding], None] | None
    kept: list[Finding] = attrs.field(factory=list)
    count: int = 0
    torn: int = 0

    def take(self, finding: Finding) -> None:
        self.count += 1
        if len(self.kept) < MAX_KEPT:
            self.kept.append(finding)
        if self._tell is not None:
            self._tell(finding)

    def remark(self, _damage: Damage) -> None:
        self.torn += 1


def _follow(files: list[Member], links: Links, progress: Callable[[int, int], None] | None) -> None:
    done, total = 0, sum(member.size for member in files)
    for member in files:
        links.begin(member.file)
        with member.opened() as stream:
            for run in lines(stream):
                links.feed(run)
                if progress is not None:
                    progress(done + stream.tell(), total)
        done += member.size
    links.finish()


def _witnessed(checkpoints: Iterable[Checkpoint], findings: Findings) -> dict[bytes, Writer]:
    """Make the writers that checkpoints tell of, each with what they say of it, the smallest first."""
    heads: dict[bytes, set[Head]] = {}
    for checkpoint in checkpoints:
        heads.setdefault(checkpoint.writer.encode(), set()).add(Head(checkpoint.size, checkpoint.root))
    return {
        writer: Writer(writer, findings, deque(sorted(said, key=lambda head: head.size)))
        for writer, said in heads.items()
    }


def _prove(writers: dict[bytes, Writer]) -> None:
    """Take for proven what proven lines go on from, as far back as hashes lead."""
    due = [writer for writer in writers.values() if writer.proven]
    while due:
        parent = due.pop().parent
        if parent is None or writers[parent.writer].loose or writers[parent.writer].proven > parent.seq:
            continue
        writers[parent.writer].prove(parent.seq + 1, parent.place)
        due.append(writers[parent.writer])


def _chain(writer: Writer) -> Chain:
    return Chain(writer.id.decode(), writer.lines, writer.proven, writer.proven_to, writer.last)
