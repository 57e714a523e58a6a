"""
A sink that keeps records in an SQLite database. Imports L1, turns and the database's layout only.

One connection in each process, taken in turns: SQLite has one writer at a time anyway, and waiting for
a turn is quicker than polling for its lock.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

from pep.audit.record import Record, json_of, record_of
from pep.audit.tables import INSERT, Filters, found, laid_out, prepared, row_of
from pep.audit.turns import Turns, seconds
from pep.errors import AuditError, ConfigurationError
from pep.profile import Guarantee

# Guarantee → when SQLite waits for the disk; in WAL mode, NORMAL writes to the kernel at every commit.
_SYNCHRONOUS: Final = {Guarantee.WRITTEN: "NORMAL", Guarantee.DURABLE: "FULL"}


class SQLiteSink:
    """
    Keeps each record in a table: its JSON as it is, and what it is searched by.

    Indexed by time, subject, action, resource, outcome, kind and decision; `query` reads. Several processes
    may write to one database. A record is one transaction: ``WRITTEN`` leaves it in the kernel, ``DURABLE`` on
    disk. Records are not chained: whoever may write to the file may change it, and nothing shows.

    A forked child opens the database for itself; before a fork, the connection is closed, since SQLite does
    not bear being inherited. A database that was moved or deleted refuses every record until it is back; and
    after the disk failed to write, a ``DURABLE`` sink refuses for good, as nobody knows what the disk has.

    Args:
        path: The database; made with mode 0600 where it does not exist. On a local file system.

        guarantee: ``WRITTEN``, or ``DURABLE``, which waits for the disk at every record.

        timeout: How long to wait for a turn, and again for another process's lock, in seconds.

    Raises:
        ConfigurationError: When the path is a symbolic link, no database, writable by all or in a folder that
            is, or when the guarantee cannot be given.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, guarantee: Guarantee = Guarantee.WRITTEN, timeout: float = 1.0
    ) -> None:
        if guarantee not in _SYNCHRONOUS:
            message = "an SQLite sink gives `Guarantee.WRITTEN` or `Guarantee.DURABLE`; wrap it to buffer"
            raise ConfigurationError(message)
        # Absolute: SQLite takes some names for databases in memory, and the working directory may change.
        self.path = Path(path).absolute()
        self.guarantee = guarantee
        self._timeout = seconds(timeout)
        self._writing, self._reading = Turns(self._timeout, self._disconnect), Turns(self._timeout)
        self._connection: sqlite3.Connection | None = None
        self._refusal: str | None = None
        self._identity = prepared(self.path)
        try:
            self._connection = self._connected()
        except sqlite3.Error as error:
            message = f"cannot use audit database `{self.path}`: {error}; name one of this library's, or a new file"
            raise ConfigurationError(message) from error

    def record(self, record: Record) -> None:
        """
        Insert one record.

        Raises:
            AuditError: When it is not there as promised, or the sink is closed.
        """
        self._insert(row_of(record, record.to_json()))

    def take(self, note: Record | tuple[Any, ...]) -> None:
        """Insert what a note of the hot path stands for; raises as `record` does."""
        self._insert(row_of(record_of(note), json_of(note)))

    def query(self, *, limit: int = 1000, newest_first: bool = False, **filters: Any) -> list[dict[str, Any]]:  # noqa: ANN401  see `Filters`
        """
        Find records, in the order in which they were written.

        Args:
            limit: How many at most; 1 to 10,000. For more, ask again with ``after=`` the last one's id.

            newest_first: Whether to go backwards; then ``after`` does too.

            filters: What all of them have in common. ``subject`` and ``resource``: an id, or a `Subject` or
                `Resource`; ``action``, ``outcome``, ``kind``; ``decision``: the id of the decision that an
                outcome belongs to; ``since`` (included) and ``until`` (not): seconds since 1970, or a datetime
                with a time zone; ``after``: the id of a record.

        Returns:
            Each record as a dict of JSON values. One that was damaged is ``{"damaged": position}``.

        Raises:
            ConfigurationError: On an unknown filter, or a value of the wrong type.

            AuditError: When the database cannot be read.
        """
        asked = Filters.of(limit, newest_first=newest_first, **filters)
        with self._reading:
            try:
                connection = self._open()
                try:
                    return found(connection, asked)
                finally:
                    connection.close()
            except sqlite3.Error as error:
                message = f"cannot read audit database `{self.path}`: {error}"
                raise AuditError(message) from error

    def close(self) -> None:
        """Close the database; later records are refused."""
        with self._writing:
            self._refusal = self._refusal or "is closed"
            if not self._writing.torn:
                self._disconnect()

    def __repr__(self) -> str:
        return f"SQLiteSink({str(self.path)!r}, guarantee={self.guarantee})"

    def _insert(self, row: tuple[Any, ...]) -> None:
        with self._writing:
            try:
                self._usable().execute(INSERT, row)
            except (sqlite3.Error, OSError) as error:
                self._give_up(error)
                reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else error
                message = f"cannot write to audit database `{self.path}`: {reason}"
                raise AuditError(message) from error

    def _usable(self) -> sqlite3.Connection:
        if self._writing.torn or self._reading.torn:
            # INVARIANT: a child never touches a connection, nor the locks, of its parent.
            self._refusal = "was in use when this process was forked; make another sink"
        if self._refusal is not None:
            message = f"audit database `{self.path}` {self._refusal}"
            raise AuditError(message)
        status = os.stat(self.path)  # noqa: PTH116  quicker, on every record
        if (status.st_dev, status.st_ino) != self._identity:
            # Nobody would find what is written to a deleted file, and its journal would spoil the new one.
            message = f"audit database `{self.path}` was replaced while in use; put it back, or make another sink"
            raise AuditError(message)
        if self._connection is None:
            self._connection = self._connected()
        return self._connection

    def _give_up(self, error: Exception) -> None:
        """Forget a connection that failed; for good where the disk may have lost what it took."""
        if "disk I/O" in str(error) and self.guarantee is Guarantee.DURABLE:
            # INVARIANT: what was not synced is never taken for synced: later records lie behind it in the journal.
            self._refusal = "failed to reach its disk; make a sink on another file"
        if "locked" not in str(error):
            self._disconnect()

    def _connected(self) -> sqlite3.Connection:
        connection = self._open()
        try:
            laid_out(connection, self._timeout)
            connection.execute(f"PRAGMA synchronous={_SYNCHRONOUS[self.guarantee]}")
            connection.execute("PRAGMA fullfsync=1")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
