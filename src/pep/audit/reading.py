"""
Audit files as they are read back: their lines, their records and their damages.

Reads in blocks, so that memory is bounded whatever lies in a file. What is damaged is told of and
read over. Imports L0 only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import attrs
import orjson

from pep.audit.family import family, open_file, opened

__all__ = [
    "MAX_LINE",
    "Damage",
    "Entry",
    "Harm",
    "Lines",
    "Place",
    "family",
    "judged",
    "lines",
    "opened",
    "read",
    "read_file",
    "read_stream",
    "repeats",
]

#: The longest line that is read whole, in bytes.
MAX_LINE: Final = 4 << 20

_BLOCK: Final = 1 << 18


class Harm(Enum):
    """What is the matter with a line that is no record."""

    NOT_JSON = "not JSON"
    NOT_OBJECT = "not an object"
    ENCODING = "not UTF-8"
    NUL = "holds NUL bytes"
    DUPLICATE = "has a key twice"
    TOO_LONG = "too long"
    TORN = "torn"


@attrs.frozen
class Place:
    """
    Where a line is.

    Attributes:
        path: The file.

        line: The number of the line, from 1.

        offset: Where the line begins, in bytes from the start of the file.
    """

    path: Path
    line: int
    offset: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.offset}"


@attrs.frozen
class Entry:
    """
    A line that is a record.

    Attributes:
        place: Where it is.

        fields: What it says: name → JSON value.

        line: The line itself, without its newline.
    """

    place: Place
    fields: dict[str, Any]
    line: bytes = attrs.field(repr=False)


@attrs.frozen
class Damage:
    """
    A line that is no record.

    Attributes:
        place: Where it is.

        harm: What is the matter with it.

        detail: More on that, in words; never what the line says.
    """

    place: Place
    harm: Harm
    detail: str = ""

    @property
    def told(self) -> str:
        """What is the matter, in words."""
        return f"{self.harm.value}, {self.detail}" if self.detail else self.harm.value

    def __str__(self) -> str:
        return f"{self.place}: {self.told}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        place = self.place
        told = {"file": str(place.path), "line": place.line, "offset": place.offset, "harm": self.harm.value}
        return {**told, "detail": self.detail} if self.detail else told


class Lines(NamedTuple):
    """
    Lines that follow one another in a file, without their newlines.

    Attributes:
        number: The number of the first, from 1.

        offset: Where the first begins, in bytes.

        content: The lines; what is torn or too long stands alone, the latter cut off.

        harm: None for whole lines.
    """

    number: int
    offset: int
    content: Sequence[bytes]
    harm: Harm | None = None


def read(path: str | os.PathLike[str]) -> Iterator[Entry | Damage]:
    """
    Read a family of audit files, the oldest records first.

    Args:
        path: The path that was given to the sink, or any one file.

    Returns:
        Records and damages as they come; a damaged line never ends it.

    Raises:
        AuditError: When there is no such file, or it cannot be read.
    """
    for file, stream in opened(path):
        yield from read_stream(file, stream)


def read_file(path: str | os.PathLike[str]) -> Iterator[Entry | Damage]:
    """
    Read one audit file, whatever else is in its family.

    Raises:
        AuditError: When there is no such file, or it cannot be read.
    """
    with open_file(Path(path)) as stream:
        yield from read_stream(Path(path), stream)


def read_stream(path: Path, stream: BinaryIO) -> Iterator[Entry | Damage]:
    """Read what is in an open file; *path* is what it is called."""
    for number, offset, content, harm in lines(stream):
        at = offset
        for index, line in enumerate(content):
            yield judged(Place(path, number + index, at), line, harm)
            at += len(line) + 1


def judged(place: Place, line: bytes, harm: Harm | None = None) -> Entry | Damage:
    """Tell whether a line, without its newline, is a record; *harm* is what is known to be wrong with it."""
    if harm is not None:
        return Damage(place, harm, "over 4 MiB" if harm is Harm.TOO_LONG else f"{len(line)} bytes without a newline")
    if b"\0" in line:
        return Damage(place, Harm.NUL, f"the first at byte {line.index(0)}")
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return _unreadable(place, line, error)
    if type(fields) is not dict:
        return Damage(place, Harm.NOT_OBJECT)
    try:
        return Damage(place, Harm.DUPLICATE) if repeats(line, fields) else Entry(place, fields, line)
    except orjson.JSONEncodeError:
        return Damage(place, Harm.NOT_JSON, "nested too deeply")


def repeats(line: bytes, fields: dict[str, Any]) -> bool:
    """
    Whether an object in a line of JSON, of which *fields* was read, has a key twice.

    Raises:
        orjson.JSONEncodeError: When it is nested deeper than any record.
    """
    # What is written back with the same length has lost nothing.
    if len(orjson.dumps(fields)) == len(line):
        return False
    try:
        json.loads(line, object_pairs_hook=_distinct, parse_int=str, parse_float=str)
    except _RepeatedError:
        return True
    return False


def lines(stream: BinaryIO) -> Iterator[Lines]:
    """
    Read the lines of an open file, many at a time.

    Args:
        stream: A file, at its start.

    Returns:
        Whole lines in runs; a line without its newline at the end of the file, and one longer
        than `MAX_LINE`, alone and with its harm.
    """
    number, offset, rest, more = 1, 0, b"", True
    while more:
        block = stream.read(_BLOCK)
        more = bool(block)
        size = len(rest) + len(block)
        content = (rest + block).split(b"\n")
        rest = content.pop()
        if content:
            yield Lines(number, offset, content)
            number, offset = number + len(content), offset + size - len(rest)
        if len(rest) > MAX_LINE:
            yield Lines(number, offset, [rest[:MAX_LINE]], Harm.TOO_LONG)
            length, rest = _skipped(stream, len(rest))
            number, offset = number + 1, offset + length
    if rest:
        yield Lines(number, offset, [rest], Harm.TORN)


def _skipped(stream: BinaryIO, length: int) -> tuple[int, bytes]:
    """Read over the rest of a line of which *length* bytes are read; return its length, and what was read after it."""
    while block := stream.read(_BLOCK):
        end, newline, rest = block.partition(b"\n")
        if newline:
            return length + len(end) + 1, rest
        length += len(block)
    return length, b""


def _unreadable(place: Place, line: bytes, error: orjson.JSONDecodeError) -> Damage:
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        return Damage(place, Harm.ENCODING, f"at byte {wrong.start}")
    return Damage(place, Harm.NOT_JSON, f"at character {error.pos}" if line else "an empty line")


class _RepeatedError(Exception):
    """A key came twice."""


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _RepeatedError
