"""
What an audit file needs of the operating system, in one place, so that a test can make any of it fail.

Imports the standard library only; `fcntl` where a file is locked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from pep.errors import ConfigurationError

# Data and size only, where the platform tells them from the rest.
_SYNC: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)


def lock(file: int) -> bool:
    """
    Take the exclusive lock of an open file, without waiting.

    Returns:
        Whether it was free.

    Raises:
        ConfigurationError: Where the platform has no such locks.
    """
    try:
        import fcntl  # noqa: PLC0415  POSIX only
    except ImportError as error:
        message = "audit files need the file locks of POSIX; use another sink on this platform"
        raise ConfigurationError(message) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_folder(folder: str) -> None:
    """Have the names in a folder on disk."""
    file = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(file)
    finally:
        os.close(file)


@attrs.frozen(eq=False)
class Disk:
    """
    The operations of a disk, as the operating system has them.

    Attributes:
        open, close, write, read, fstat, lstat, rename, names: As in `os`; ``read`` is ``pread``,
            ``names`` is ``listdir``.

        sync: Have what was written to an open file on disk.

        sync_folder: Have the names in a folder on disk.

        lock: Take a file's lock and return whether it was free.
    """

    open: Callable[[str, int, int], int] = os.open
    close: Callable[[int], None] = os.close
    write: Callable[[int, bytes], int] = os.write
    read: Callable[[int, int, int], bytes] = os.pread
    fstat: Callable[[int], os.stat_result] = os.fstat
    lstat: Callable[[str], os.stat_result] = os.lstat
    rename: Callable[[str, str], None] = os.rename
    names: Callable[[str], Sequence[str]] = os.listdir
    sync: Callable[[int], None] = _SYNC
    sync_folder: Callable[[str], None] = sync_folder
    lock: Callable[[int], bool] = lock
