"""
A sink that appends JSON lines to a file. Imports L1 only.

A record is acknowledged once the kernel has it, so it survives the process being killed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from stat import S_ISREG
from typing import Final

from pep.audit.record import Kind, Record, masked, new_id
from pep.errors import AuditError, ConfigurationError
from pep.locks import Lock
from pep.profile import Guarantee

_SAFELY: Final = ("O_CLOEXEC", "O_NOFOLLOW", "O_NOCTTY", "O_NONBLOCK")
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | sum(getattr(os, name, 0) for name in _SAFELY)
_CLOSED: Final = -1


class FileSink:
    """
    Appends each record as one line to a file, with one ``write``.

    What a crash left of a last line is closed with a newline at open, and told of in a ``gap``
    record, so that it cannot damage the next one; so is what a full disk leaves of one. A file
    that was renamed is written on; one that was deleted is made anew.

    Args:
        path: The file; made with mode 0600 where it does not exist.

    Raises:
        ConfigurationError: When the path is a symbolic link, no regular file, or writable by all.
    """

    guarantee = Guarantee.WRITTEN

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = Lock()
        self._file = self._opened()
        try:
            self._repair()
        except (OSError, AuditError) as error:
            self.close()
            reason = _reason(error) if isinstance(error, OSError) else "a record was cut short"
            message = f"cannot append to audit file `{self.path}`: {reason}; make room on its disk"
            raise ConfigurationError(message) from error

    def record(self, record: Record) -> None:
        """
        Append one record.

        Raises:
            AuditError: When the kernel did not take the whole line, or the sink is closed.
        """
        line = record.to_json() + b"\n"
        with self._lock:
            if self._file == _CLOSED:
                message = "the audit file is closed"
                raise AuditError(message)
            try:
                self._append(line)
            except OSError as error:
                message = f"cannot append to audit file `{self.path}`: {_reason(error)}"
                raise AuditError(message) from error
            except ConfigurationError as error:
                raise AuditError(str(error)) from error

    def close(self) -> None:
        """Close the file; later records are refused."""
        with self._lock:
            if self._file != _CLOSED:
                os.close(self._file)
                self._file = _CLOSED

    def __repr__(self) -> str:
        return f"FileSink({str(self.path)!r})"

    def _append(self, line: bytes) -> None:
        if os.fstat(self._file).st_nlink == 0:
            # Nobody would find what is written to a deleted file.
            deleted, self._file = self._file, self._opened()
            os.close(deleted)
        if self._torn():
            # INVARIANT: a fragment never runs into the next record, whoever left it.
            os.write(self._file, b"\n")
        written = os.write(self._file, line)
        if written != len(line):
            message = f"the disk took {written} of {len(line)} bytes of a record for audit file `{self.path}`"
            raise AuditError(message)

    def _repair(self) -> None:
        if self._torn():
            os.write(self._file, b"\n")
            now = time.time()
            self.record(Record(Kind.GAP, new_id(now), now, masked({"torn": True})))

    def _torn(self) -> bool:
        size = os.fstat(self._file).st_size
        if size == 0 or os.pread(self._file, 1, size - 1) == b"\n":
            return False
        # A long line of another process may be seen half written: then the file is still growing.
        return os.fstat(self._file).st_size == size

    def _opened(self) -> int:
        try:
            file = os.open(self.path, _FLAGS, 0o600)
        except OSError as error:
            reason = "it is a symbolic link" if self.path.is_symlink() else _reason(error)
            message = f"cannot open audit file `{self.path}`: {reason}; name a regular file in a folder that exists"
            raise ConfigurationError(message) from error
        try:
            self._check(os.fstat(file).st_mode)
        except BaseException:
            os.close(file)
            raise
        return file

    def _check(self, mode: int) -> None:
        if not S_ISREG(mode):
            message = f"audit file `{self.path}` is no regular file; name one"
            raise ConfigurationError(message)
        if mode & 0o002:
            message = f"audit file `{self.path}` is writable by everybody; take that away with `chmod o-w`"
            raise ConfigurationError(message)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0)
