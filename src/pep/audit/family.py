"""
The files that hold the records of one path, and the order they were written in.

Imports L0 only.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, Final

import attrs

from pep.errors import AuditError

#: How a chained line starts: the previous line's hash, the sequence number and the writer's id.
HEAD: Final = re.compile(
    rb'\{"schema":"pep\.audit/1","prev":"([0-9a-f]{64})","seq":(0|[1-9][0-9]{0,17}),"writer":"([0-9a-f]{16})",'
)

_ACTIVE: Final = r"(?:\.[0-9a-f]{16})?"
_ROTATED: Final = r"\.[0-9]{8}T[0-9]{6}Z-[0-9a-f]{16}-[0-9]+"
_TIME: Final = re.compile(rb'"time":"([0-9TZ:.-]{20,32})"')
# Not to be waited for where a name is a pipe's.
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
# How much of either end of a file is looked at, in bytes.
_PEEKED: Final = 1 << 20


@attrs.frozen
class Member:
    """
    A file of the family, and what its ends say.

    Attributes:
        file: Where it was when it was found.

        size: How long it was then, in bytes.

        follows: The hash its first chained line goes on from, in hexadecimal digits.

        cuts: The hashes of lines near its start that were cut short, and that later ones in it go on from.
    """

    file: Path
    size: int
    follows: bytes | None
    cuts: frozenset[bytes]
    _stream: BinaryIO | None
    # When it began: the time of its first record and its name, so that what names none comes last.
    began: tuple[bytes, str]
    # Writer and number of its first chained line, and of its last one.
    first: tuple[bytes, int] | None
    last: tuple[bytes, int] | None
    # The hashes that a next file may go on from.
    ends: frozenset[bytes]

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """
        Read the file from its start.

        Raises:
            AuditError: When it is gone, or cannot be read.
        """
        if self._stream is not None:
            self._stream.seek(0)
            yield self._stream
            return
        with open_file(self.file) as stream:
            yield stream


def family(path: str | os.PathLike[str]) -> list[Path]:
    """
    Find the files that hold the records of one path, in the order they were written.

    Args:
        path: The path that was given to the sink, or any one file.

    Returns:
        Rotated files and those of other writers beside it, and the file itself. What cannot be
        ordered by its chain is ordered by the time of its first record.

    Raises:
        AuditError: When there is no such file, or it cannot be read.
    """
    with ExitStack() as stack:
        return [member.file for member in members(path, stack)]


def opened(path: str | os.PathLike[str]) -> Iterator[tuple[Path, BinaryIO]]:
    """
    Open the files of a family one after the other, as `family` orders them.

    Raises:
        AuditError: When there is no such file, or it cannot be read.
    """
    with ExitStack() as stack:
        for member in members(path, stack):
            with member.opened() as stream:
                yield member.file, stream


def members(path: str | os.PathLike[str], stack: ExitStack) -> list[Member]:
    """
    Look at every file of a family, and order them.

    Args:
        path: The path that was given to the sink, or any one file.

        stack: Keeps the files open that may be renamed meanwhile, so that a sink that rotates
            hides nothing.

    Raises:
        AuditError: When there is no such file, or it cannot be read.
    """
    path = Path(path)
    streams = {file: stack.enter_context(open_file(file)) for file in _named(path, _ACTIVE)}
    seen = {_identity(stream) for stream in streams.values()}
    found = [_peeked(file, stream, stream) for file, stream in streams.items()]
    for file in _named(path, _ROTATED):
        with open_file(file) as stream:
            # INVARIANT: a file that was renamed since it was opened is read once.
            if _identity(stream) not in seen:
                found.append(_peeked(file, stream, None))
    if not found:
        # That says why.
        open_file(path).close()
    return _ordered(found)


def counts(head: re.Match[bytes] | None, follower: re.Match[bytes] | None) -> bool:
    """Whether a line takes the one it goes on from for its writer's, by its number."""
    if head is None or follower is None:
        return False
    return follower[3] == head[3] and int(follower[2]) == int(head[2]) + 1


def open_file(path: Path) -> BinaryIO:
    """
    Open one file to read it.

    Raises:
        AuditError: When there is no such file, or it cannot be read.
    """
    try:
        number = os.open(path, _FLAGS)
    except OSError as error:
        raise _unreadable(path, error) from error
    if S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb")
    os.close(number)
    message = f"audit file `{path}` is no regular file; name one"
    raise AuditError(message)


def _named(path: Path, part: str) -> list[Path]:
    """Find the regular files beside a path whose names have *part* before their suffix."""
    name = re.compile(re.escape(path.stem) + part + re.escape(path.suffix))
    try:
        with os.scandir(path.parent) as entries:
            found = sorted(entry.name for entry in entries if name.fullmatch(entry.name))
    except OSError as error:
        raise _unreadable(path, error) from error
    return [file for file in map(path.with_name, found) if file.is_file()]


def _unreadable(path: Path, error: OSError) -> AuditError:
    return AuditError(f"cannot read audit file `{path}`: {os.strerror(error.errno or 0)}; name a file you may read")


def _identity(stream: BinaryIO) -> tuple[int, int]:
    status = os.fstat(stream.fileno())
    return status.st_dev, status.st_ino


def _peeked(file: Path, stream: BinaryIO, kept: BinaryIO | None) -> Member:
    """Look at both ends of a file."""
    head = stream.read(_PEEKED)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _PEEKED))
    tail = stream.read(_PEEKED)
    start = head.split(b"\n")
    first = next(_chained(start), None)
    last = next(_chained(reversed(tail.split(b"\n"))), None)
    time = _TIME.search(head, head.index(first[0])) if first else None
    return Member(
        file,
        size,
        first[1] if first else None,
        _cut(start),
        kept,
        (time[1] if time else b"~", file.name),
        _numbered(first),
        _numbered(last),
        frozenset(sha256(line).hexdigest().encode() for line in tail.removesuffix(b"\n").split(b"\n")[-2:]),
    )


def _chained(lines: Iterable[bytes]) -> Iterator[re.Match[bytes]]:
    return (found for line in lines if (found := HEAD.match(line)))


def _cut(lines: list[bytes]) -> frozenset[bytes]:
    """Find the lines that their followers go on from but do not count: what was left of lines, or of writers."""
    found: set[bytes] = set()
    follower, below = None, False
    for line in reversed(lines):
        head, own = HEAD.match(line), b""
        if below or (follower is not None and not counts(head, follower)):
            own = sha256(line).hexdigest().encode()
            if below or (follower is not None and own == follower[1]):
                found.add(own)
        # What stands above a line that names nothing can only be guessed.
        follower, below = head, head is None and own in found
    return frozenset(found)


def _numbered(head: re.Match[bytes] | None) -> tuple[bytes, int] | None:
    return None if head is None else (head[3], int(head[2]))


def _ordered(found: list[Member]) -> list[Member]:
    """Order files so that each comes after the one it goes on from, otherwise by when they began."""
    left = sorted(found, key=lambda member: member.began)
    ends: dict[bytes, list[Member]] = {}
    for member in left:
        for end in member.ends:
            ends.setdefault(end, []).append(member)
    before = {member.file: _before(member, ends, left) for member in left}
    done: list[Member] = []
    while left:
        waiting = {member.file for member in left}
        # Forged files may go on from one another in a circle: then the oldest comes first.
        ready = (member for member in left if before[member.file] not in waiting)
        done.append(following := next(ready, left[0]))
        left.remove(following)
    return done


def _before(member: Member, ends: Mapping[bytes, list[Member]], found: list[Member]) -> Path | None:
    """Find the file that a file goes on from: the one that comes before it by the same writer, or else by hash."""
    if member.first is None:
        return None
    writer, start = member.first
    stop = member.last[1] if member.last and member.last[0] == writer else math.inf
    # Short fragments of several writers may be the same, numbers are not; a file may begin with lines of another one.
    by_number = [(_reach(other), other.file) for other in found if other.last and other.last[0] == writer]
    numbered = [one for one in by_number if (-bool(start), 0) <= one[0] < (start, stop)]
    if numbered:
        return max(numbered)[1]
    return next((other.file for other in ends.get(member.follows or b"", ()) if other is not member), None)


def _reach(member: Member) -> tuple[int, int]:
    """Tell from which line of its last writer on, up to which one, a file has them, as far as its ends say."""
    first, last = member.first or (b"", -1), member.last or (b"", -1)
    return (first[1] if first[0] == last[0] else -1), last[1]
