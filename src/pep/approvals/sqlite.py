"""
A store of approvals in an SQLite database. Imports sealing, the store's protocol, clocks and turns only.

A connection is opened for each operation: nobody confirms that often, and none is ever inherited by a fork.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from pep.approvals.place import prepared, still
from pep.approvals.sealing import Row, Seal
from pep.approvals.store import Full
from pep.audit.turns import Turns, seconds
from pep.clock import SystemClock
from pep.errors import AuditError, ConfigurationError, ObligationError
from pep.protocols import Clock

T = TypeVar("T")

# "pepa" in ASCII: what tells a database of approvals from any other.
_APPLICATION: Final = 0x70657061
_COLUMNS: Final = "id, key, owner, open, expires, version, body, mac"
_LAYOUT: Final = (
    """CREATE TABLE approvals (id TEXT PRIMARY KEY, key TEXT NOT NULL, owner TEXT NOT NULL, open INTEGER NOT NULL,
        expires REAL NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL, mac BLOB NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX approvals_key ON approvals (key) WHERE open",
    "CREATE INDEX approvals_owner ON approvals (owner) WHERE open",
    f"PRAGMA application_id={_APPLICATION}",
)
# A loss of power must not bring back what was used: the journal's end is on disk before a commit returns.
_SETTINGS: Final = ("PRAGMA trusted_schema=OFF", "PRAGMA synchronous=EXTRA", "PRAGMA fullfsync=1")
# INVARIANT: what is read before a change is what is changed: no other process comes between.
_CHANGING: Final = "BEGIN IMMEDIATE"
_READING: Final = "BEGIN"

_INSERT: Final = f"INSERT INTO approvals ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  names of its own
_SELECT: Final = f"SELECT {_COLUMNS} FROM approvals"  # noqa: S608  the same
_UPDATE: Final = """UPDATE approvals SET key = ?, owner = ?, open = ?, expires = ?, version = ?, body = ?, mac = ?
    WHERE id = ? AND version = ? AND body = ? AND mac = ?"""


class SQLiteStore:
    """
    Keeps approvals in an SQLite database, for all processes of one machine, over restarts.

    A change is one transaction, on disk when it returns. A database that is replaced or opened to the world while
    in use is refused.

    Args:
        path: The database; made with mode 0600 where it does not exist. On a local file system.

        secret: What rows are sealed with, at least 16 bytes; the same for all who use the database.

        clock: What time it is; the machine's, unless it is given.

        timeout: How long to wait for another thread, and again for another process, in seconds.

        make: Whether to make the database where there is none.

    Raises:
        ConfigurationError: When the secret is too short, or the path is a symbolic link, no such database,
            accessible to the world, or in a folder the world may write to.
    """

    #: Whether it is asked on a thread of its own.
    threaded = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        secret: bytes,
        clock: Clock | None = None,
        timeout: float = 1.0,
        make: bool = True,
    ) -> None:
        self.seal = Seal(secret)
        # Absolute: SQLite takes some names for databases in memory, and the working directory may change.
        self.path = Path(path).absolute()
        self._clock = SystemClock() if clock is None else clock
        self._timeout = seconds(timeout)
        # A fork waits for whoever has the turn: no connection is open in the child.
        self._turns = Turns(self._timeout)
        self._identity = prepared(self.path, make=make)
        try:
            self._connected(_laid_out)
        except sqlite3.Error as error:
            message = f"cannot use database of approvals `{self.path}`: {error}; name one of them, or a new file"
            raise ConfigurationError(message) from error

    def now(self) -> float:
        """Return the time of its clock."""
        return self._clock.wall()

    def add(self, row: Row, now: float, most: int) -> Row:
        """Keep a row, or return the open one of the same key; see `Store`."""

        def adding(connection: sqlite3.Connection) -> Row:
            connection.execute("DELETE FROM approvals WHERE NOT expires > ?", (now,))
            same = connection.execute(f"{_SELECT} WHERE open AND key = ?", (row.key,)).fetchone()
            if same is not None:
                return _row(same)
            counted = "SELECT count(*), min(expires) FROM approvals WHERE open AND owner = ?"
            count, first = connection.execute(counted, (row.owner,)).fetchone()
            if count >= most:
                raise Full(first)
            connection.execute(_INSERT, _values(row))
            return row

        return self._asked(adding)

    def get(self, name: str) -> Row | None:
        """Return a row by its id."""

        def getting(connection: sqlite3.Connection) -> Row | None:
            found = connection.execute(f"{_SELECT} WHERE id = ?", (name,)).fetchone()
            return None if found is None else _row(found)

        return self._asked(getting, _READING)

    def swap(self, old: Row, new: Row) -> bool:
        """Replace a row, if it is still the one that was read."""

        def swapping(connection: sqlite3.Connection) -> bool:
            known = (old.id, old.version, old.body, old.mac)
            return connection.execute(_UPDATE, (*_values(new)[1:], *known)).rowcount == 1

        return self._asked(swapping)

    def rows(self) -> list[Row]:
        """Return every row."""
        return self._asked(lambda connection: [_row(found) for found in connection.execute(_SELECT)], _READING)

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self.path)!r})"

    def _asked(self, work: Callable[[sqlite3.Connection], T], begin: str = _CHANGING) -> T:
        try:
            return self._connected(work, begin)
        except (sqlite3.Error, AuditError) as error:
            message = f"cannot use database of approvals `{self.path}`: {type(error).__name__}"
            raise ObligationError(message) from error

    def _connected(self, work: Callable[[sqlite3.Connection], T], begin: str = _CHANGING) -> T:
        """Do some work in a transaction of its own."""
        with self._turns:
            still(self.path, self._identity)
            connection = sqlite3.connect(self.path, timeout=self._timeout, isolation_level=None)
            try:
                for setting in _SETTINGS:
                    connection.execute(setting)
                connection.execute(begin)
                done = work(connection)
                connection.execute("COMMIT")
                return done
            finally:
                # What was not committed is undone.
                connection.close()


def _laid_out(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION:
        return
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None:
        message = "it holds something else"
        raise sqlite3.DatabaseError(message)
    for statement in _LAYOUT:
        connection.execute(statement)


def _values(row: Row) -> tuple[Any, ...]:
    return (row.id, row.key, row.owner, int(row.open), row.expires, row.version, row.body, row.mac)


def _row(found: tuple[Any, ...]) -> Row:
    name, key, owner, is_open, expires, version, body, mac = found
    if type(body) is not bytes or type(mac) is not bytes:
        body, mac = b"", b""
    return Row(name, key, owner, bool(is_open), expires, version, body, mac)
