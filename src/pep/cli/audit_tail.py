"""
The end of an audit log, and what is appended to it: across rotation, and for several writers at once.

Imports the reading of audit files. Tells nobody anything itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import attrs

from pep.audit.reading import Damage, Entry, Harm, Place, judged, lines, opened
from pep.audit.record import SCHEMA

#: A line of an audit log.
Found = Entry | Damage

_BLOCK: Final = 1 << 18


def trouble(found: Found) -> str | None:
    """Tell what is wrong with a line; None for a record of the schema this library knows."""
    if isinstance(found, Damage):
        return f"{found.harm.value} ({found.detail})" if found.detail else found.harm.value
    return None if found.fields.get("schema") == SCHEMA else f"not a record of `{SCHEMA}`"


@attrs.define
class _Position:
    """How far a file was read, and a line in it whose number is known: its offset and number."""

    offset: int = 0
    counted: tuple[int, int] = (0, 1)


@attrs.define
class Tail:
    """
    Reads an audit log from its end.

    Args:
        path: The path that was given to the sink, or any one file.
    """

    path: Path
    # A file keeps its identity when it is renamed: device and inode → how far it was read.
    _positions: dict[tuple[int, int], _Position] = attrs.field(factory=dict, init=False)

    def last(self, count: int, *, growing: bool = False) -> list[Found]:
        """
        Read the last lines, of all writers together, by the time of their records.

        Args:
            count: How many.

            growing: Whether `more` is asked next; then a last line without its newline is left to it.

        Raises:
            AuditError: When there is no such file, or it cannot be read.
        """
        dated: list[tuple[str, Found]] = []
        for file, stream in opened(self.path):
            position = self._positions[_identity(stream)] = _Position(_start(stream, count))
            time = ""
            for found in _read(file, stream, position, growing=growing):
                # INVARIANT: lines of one file stay in their order, also where a clock was set back.
                time = max(time, _time(found))
                dated.append((time, found))
            dated = sorted(dated, key=_when)[max(0, len(dated) - count) :]
        return [found for _, found in dated]

    def more(self) -> Iterator[Found]:
        """
        Read what was appended since, in any file, whatever it is called now.

        Raises:
            AuditError: When there is no such file any more, or it cannot be read.
        """
        positions, self._positions = self._positions, {}
        for file, stream in opened(self.path):
            identity = _identity(stream)
            position = positions.get(identity, _Position())
            if os.fstat(stream.fileno()).st_size < position.offset:
                # It was emptied, or it is another file by now.
                position = _Position()
            self._positions[identity] = position
            yield from _read(file, stream, position, growing=True)

    def follow(self, wait: Callable[[], object]) -> Iterator[Found]:
        """
        Read what is appended, forever.

        Args:
            wait: Called when all was read; what it raises ends it.
        """
        while True:
            yield from self.more()
            wait()


def _read(file: Path, stream: BinaryIO, position: _Position, *, growing: bool) -> Iterator[Found]:
    start = position.offset
    stream.seek(start)
    for run in lines(stream):
        at = start + run.offset
        if growing and run.harm is Harm.TORN:
            position.offset = at
            return
        for line in run.content:
            found = judged(Place(file, 0, at), line, run.harm)
            yield found if trouble(found) is None else _numbered(found, stream, position)
            at += len(line) + 1
    position.offset = stream.tell()


def _numbered(found: Found, stream: BinaryIO, position: _Position) -> Found:
    """Count lines up to one that must be named; nobody else needs to know its number."""
    back, (offset, number), target = stream.tell(), position.counted, found.place.offset
    stream.seek(offset)
    while offset < target:
        block = stream.read(min(_BLOCK, target - offset))
        number, offset = number + block.count(b"\n"), offset + len(block)
    stream.seek(back)
    position.counted = (offset, number)
    return attrs.evolve(found, place=attrs.evolve(found.place, line=number))


def _start(stream: BinaryIO, count: int) -> int:
    """Find where the last lines begin, from the end of a file; one line early where the last has no newline."""
    at, left = stream.seek(0, os.SEEK_END), count + 1
    while at:
        begin = max(0, at - _BLOCK)
        stream.seek(begin)
        block = stream.read(at - begin)
        place = len(block)
        while (place := block.rfind(b"\n", 0, place)) >= 0:
            left -= 1
            if not left:
                return begin + place + 1
        at = begin
    return 0


def _identity(stream: BinaryIO) -> tuple[int, int]:
    status = os.fstat(stream.fileno())
    return status.st_dev, status.st_ino


def _time(found: Found) -> str:
    time = found.fields.get("time") if isinstance(found, Entry) else None
    return time if type(time) is str else ""


def _when(dated: tuple[str, Found]) -> str:
    return dated[0]
