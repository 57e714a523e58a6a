"""
The files of one audit log: what they are called, and how one is opened, checked, locked and read back.

Imports the error tree and the disk only.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Sequence
from stat import S_ISREG, S_ISVTX
from typing import Final

import attrs

from pep.audit.chain import GENESIS, digest
from pep.audit.disk import Disk
from pep.errors import ConfigurationError

_SAFELY: Final = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NOCTTY", "O_NONBLOCK"))
_APPEND: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | _SAFELY
_READ: Final = os.O_RDONLY | _SAFELY
_BY_EVERYBODY: Final = 0o002
_MISNAMED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO})
# How much is read at once, looking for the start of a line, in bytes.
_BLOCK: Final = 1 << 16
# How often the file may be renamed by others between opening and locking it.
_TRIES: Final = 8


@attrs.frozen(eq=False)
class Segment:
    """
    A file that is open, and locked.

    Attributes:
        path: Where it was opened.

        file: Its descriptor.

        size: How long it was then, in bytes.

        identity: Its device and inode.
    """

    path: str
    file: int
    size: int
    identity: tuple[int, int]


@attrs.frozen(eq=False)
class Names:
    """
    What the files of one log are called.

    Attributes:
        active: The path the log was asked for at, absolute.

        folder: Where they all are.
    """

    active: str
    folder: str
    _stem: str
    _suffix: str

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Names:
        """Derive them from the path of the log, absolute from now on."""
        active = os.path.abspath(path)  # noqa: PTH100  a link in it stays one
        folder, name = os.path.split(active)
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        return cls(active, folder, stem, suffix)

    def own(self, writer: bytes) -> str:
        """Return the path of a writer that found the active file taken."""
        return self._beside(f".{writer.decode()}")

    def rotated(self, writer: bytes, first: int, seconds: float) -> str:
        """Return the path of a file that is done with, by its writer's first line and when that was."""
        when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))
        return self._beside(f".{when}-{writer.decode()}-{first}")

    def latest(self, names: Sequence[str]) -> str | None:
        """Return the path of the file that was rotated last, where there is one among these names."""
        pattern = re.compile(
            re.escape(self._stem) + r"\.([0-9]{8}T[0-9]{6}Z)-[0-9a-f]{16}-([0-9]+)" + re.escape(self._suffix)
        )
        found = [(match[1], int(match[2]), name) for name in names if (match := pattern.fullmatch(name))]
        return os.path.join(self.folder, max(found)[2]) if found else None  # noqa: PTH118

    def others(self, names: Sequence[str]) -> list[str]:
        """Return the paths of files of writers that once found the active one taken, among these names."""
        pattern = re.compile(re.escape(self._stem) + r"\.[0-9a-f]{16}" + re.escape(self._suffix))
        return [os.path.join(self.folder, name) for name in sorted(names) if pattern.fullmatch(name)]  # noqa: PTH118

    def _beside(self, part: str) -> str:
        return os.path.join(self.folder, f"{self._stem}{part}{self._suffix}")  # noqa: PTH118


def check_folder(disk: Disk, folder: str) -> None:
    """
    Check the folder of a log: whoever may write in it may replace the log.

    Raises:
        ConfigurationError: When everybody may, or there is no such folder.
    """
    try:
        mode = disk.lstat(os.path.realpath(folder)).st_mode
    except OSError as error:
        message = f"cannot open audit folder `{folder}`: {reason(error)}; name a regular file in a folder that exists"
        raise ConfigurationError(message) from error
    if mode & _BY_EVERYBODY and not mode & S_ISVTX:
        message = f"audit folder `{folder}` is writable by everybody; take that away with `chmod o-w`"
        raise ConfigurationError(message)


def open_segment(disk: Disk, path: str) -> Segment | None:
    """
    Open a file to append to, made with mode 0600 where there is none, and lock it.

    Returns:
        None where somebody else holds its lock.

    Raises:
        ConfigurationError: When it cannot be opened, or is no file to keep a log in.
    """
    for _ in range(_TRIES):
        file = _opened(disk, path)
        try:
            found = _checked(disk, path, file)
            held = disk.lock(file)
            if held and _stands_at(disk, path, found):
                return Segment(path, file, disk.fstat(file).st_size, identity(found))
        except BaseException:
            disk.close(file)
            raise
        disk.close(file)
        if not held:
            return None
    message = f"audit file `{path}` is renamed again and again; let one process rotate it"
    raise ConfigurationError(message)


def identity(found: os.stat_result) -> tuple[int, int]:
    """Tell a file from every other: its device and inode."""
    return found.st_dev, found.st_ino


def tail_of(disk: Disk, file: int, end: int) -> tuple[bytes, bytes]:
    """
    Read the end of a file.

    Args:
        disk: Where it is.

        file: Its descriptor.

        end: Where to stop, in bytes.

    Returns:
        Its last whole line without the newline, and what comes after that; both empty where there is nothing.
    """
    read, start = b"", end
    while start > 0 and read.count(b"\n") < 2:  # noqa: PLR2004  one ends the last line, one the line before it
        size = min(max(_BLOCK, len(read)), start)
        start -= size
        read = _read(disk, file, size, start) + read
    *lines, fragment = read.split(b"\n")
    return (lines[-1] if lines else b""), fragment


def read_span(disk: Disk, file: int, start: int, end: int) -> bytes:
    """Read a part of a file, from *start* to *end* in bytes."""
    return _read(disk, file, end - start, start) if end > start else b""


def last_hash(disk: Disk, path: str) -> bytes | None:
    """Return the hash of the last whole line of a file of the family, or None where there is none."""
    try:
        file = disk.open(path, _READ, 0)
    except FileNotFoundError:
        return None
    try:
        found = disk.fstat(file)
        line, _ = tail_of(disk, file, found.st_size) if S_ISREG(found.st_mode) else (b"", b"")
    finally:
        disk.close(file)
    return digest(line) if line else None


def previous(disk: Disk, names: Names, segment: Segment) -> tuple[str | None, bytes]:
    """
    Find the line that a new writer in an empty file goes on from.

    Returns:
        The name of its file and the line's hash; no name and `GENESIS` where there is no line.
    """
    latest = names.latest(disk.names(names.folder))
    for path in (names.active, latest):
        if path is not None and path != segment.path and (found := last_hash(disk, path)) is not None:
            return os.path.basename(path), found  # noqa: PTH119
    return None, GENESIS


def reason(error: OSError) -> str:
    """Say what an operation failed of, in the system's words."""
    return os.strerror(error.errno or 0)


def _read(disk: Disk, file: int, size: int, start: int) -> bytes:
    """Read exactly so many bytes, or up to the end of the file."""
    pieces: list[bytes] = []
    while size and (piece := disk.read(file, size, start)):
        pieces.append(piece)
        size, start = size - len(piece), start + len(piece)
    return b"".join(pieces)


def _opened(disk: Disk, path: str) -> int:
    try:
        return disk.open(path, _APPEND, 0o600)
    except OSError as error:
        why = "it is a symbolic link" if os.path.islink(path) else reason(error)  # noqa: PTH114
        mend = "name a regular file in a folder that exists" if error.errno in _MISNAMED else "let the process open it"
        message = f"cannot open audit file `{path}`: {why}; {mend}"
        raise ConfigurationError(message) from error


def _checked(disk: Disk, path: str, file: int) -> os.stat_result:
    found = disk.fstat(file)
    if not S_ISREG(found.st_mode):
        message = f"audit file `{path}` is no regular file; name one"
        raise ConfigurationError(message)
    if found.st_mode & _BY_EVERYBODY:
        message = f"audit file `{path}` is writable by everybody; take that away with `chmod o-w`"
        raise ConfigurationError(message)
    return found


def _stands_at(disk: Disk, path: str, found: os.stat_result) -> bool:
    """Tell whether a path still names a file: another process may have rotated it before it was locked."""
    try:
        return identity(disk.lstat(path)) == identity(found)
    except FileNotFoundError:
        return False
