"""
Where a database of approvals lies: its file and folder, which nobody else may read or write.

Imports the error tree only.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from stat import S_ISREG, S_ISVTX
from typing import Final

from pep.errors import ConfigurationError, ObligationError

_SAFELY: Final = ("O_CLOEXEC", "O_NOFOLLOW", "O_NOCTTY")
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | sum(getattr(os, name, 0) for name in _SAFELY)
_WORLD: Final = 0o007
_WORLD_WRITES: Final = 0o002


def prepared(path: Path, *, make: bool) -> tuple[int, int]:
    """
    Check a database's file and folder, and make the file where there is none.

    Returns:
        Its device and its number there.

    Raises:
        ConfigurationError: When it is no regular file, the world has access to it, or may replace it.
    """
    try:
        mode = path.parent.stat().st_mode
        if mode & _WORLD_WRITES and not mode & S_ISVTX:
            message = f"everybody may replace what is in folder `{path.parent}`; take that away with `chmod o-w`"
            raise ConfigurationError(message)
        if make:
            with contextlib.suppress(FileExistsError):
                # Never opened where it exists: closing it again would take SQLite's locks away from this process.
                os.close(os.open(path, _FLAGS, 0o600))
        return _checked(path)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        message = f"cannot open database of approvals `{path}`: {reason}; name a file in a folder that exists"
        raise ConfigurationError(message) from error


def still(path: Path, identity: tuple[int, int]) -> None:
    """
    Check that a database is the one it was, and nobody else's business either.

    Raises:
        ObligationError: When it was replaced, moved, or opened to the world.
    """
    try:
        same = _checked(path) == identity
    except (OSError, ConfigurationError) as error:
        message = f"database of approvals `{path}` is no longer usable"
        raise ObligationError(message) from error
    if not same:
        # An earlier copy of it would bring back what was used.
        message = f"database of approvals `{path}` was replaced while in use; put it back, or make another store"
        raise ObligationError(message)


def _checked(path: Path) -> tuple[int, int]:
    status = path.lstat()
    if not S_ISREG(status.st_mode):
        message = f"database of approvals `{path}` is a symbolic link or no regular file; name one"
        raise ConfigurationError(message)
    if status.st_mode & _WORLD:
        message = f"everybody has access to database of approvals `{path}`; take that away with `chmod o=`"
        raise ConfigurationError(message)
    return status.st_dev, status.st_ino
