"""
The layout of an audit database: its tables, what a record is searched by, and how it is found again.

Imports L1 only.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from stat import S_ISREG, S_ISVTX
from typing import Any, Final

import attrs
import orjson

from pep.audit.record import Kind, Record
from pep.errors import ConfigurationError
from pep.model import Resource, Subject
from pep.profile_checks import nearest

#: The most records one query returns.
MOST: Final = 10_000

# "pep1" in ASCII: what tells an audit database from any other, and its layout from later ones.
_APPLICATION: Final = 0x70657031
_SAFELY: Final = ("O_CLOEXEC", "O_NOFOLLOW", "O_NOCTTY")
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | sum(getattr(os, name, 0) for name in _SAFELY)
# Between two attempts to become a journal's first user, in seconds.
_PAUSE: Final = 0.005

_COLUMNS: Final = (
    *("id", "time", "kind", "outcome", "action", "subject_type", "subject_id"),
    *("resource_type", "resource_id", "decision", "several", "json"),
)
INSERT: Final = f"INSERT INTO records ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608  names of its own

# A position is never used twice, so that a row taken out leaves a gap.
_LAYOUT: Final = (
    """CREATE TABLE records (
        position INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, time REAL NOT NULL, kind TEXT NOT NULL,
        outcome TEXT, action TEXT, subject_type TEXT, subject_id TEXT, resource_type TEXT, resource_id TEXT,
        decision TEXT, several INTEGER NOT NULL, json TEXT NOT NULL)""",
    "CREATE TABLE resources (position INTEGER NOT NULL, type TEXT, id TEXT)",
    """CREATE TRIGGER several AFTER INSERT ON records WHEN NEW.several BEGIN
        INSERT INTO resources
        SELECT NEW.position, json_extract(value, '$.resource.type'), json_extract(value, '$.resource.id')
        FROM json_each(NEW.json, '$.requests') WHERE type = 'object'; END""",
    "CREATE INDEX records_id ON records (id)",
    "CREATE INDEX records_time ON records (time)",
    "CREATE INDEX records_kind ON records (kind)",
    "CREATE INDEX records_outcome ON records (outcome) WHERE outcome IS NOT NULL",
    "CREATE INDEX records_action ON records (action) WHERE action IS NOT NULL",
    "CREATE INDEX records_subject ON records (subject_id, subject_type) WHERE subject_id IS NOT NULL",
    "CREATE INDEX records_resource ON records (resource_id, resource_type) WHERE resource_id IS NOT NULL",
    "CREATE INDEX records_decision ON records (decision) WHERE decision IS NOT NULL",
    "CREATE INDEX resources_id ON resources (id, type)",
    f"PRAGMA application_id={_APPLICATION}",
)

# Filter → the condition it is, where it is one of text.
_TEXTS: Final = {
    "action": "action = ?",
    "outcome": "outcome = ?",
    "kind": "kind = ?",
    "decision": "decision = ?",
}
_FILTERS: Final = (*_TEXTS, "subject", "resource", "since", "until", "after")


def prepared(path: Path) -> tuple[int, int]:
    """
    Make a database's file where there is none, and check it and its folder.

    Returns:
        Its device and its number there.

    Raises:
        ConfigurationError: When it is no regular file, writable by all, or in a folder that is.
    """
    try:
        _check_folder(path.parent)
        with contextlib.suppress(FileExistsError):
            _create(path)
        # Never opened here: closing it again would take SQLite's locks away from this process.
        status = path.lstat()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        message = f"cannot open audit database `{path}`: {reason}; name a file in a folder that exists"
        raise ConfigurationError(message) from error
    if not S_ISREG(status.st_mode):
        message = f"audit database `{path}` is a symbolic link or no regular file; name one"
        raise ConfigurationError(message)
    if status.st_mode & 0o002:
        message = f"audit database `{path}` is writable by everybody; take that away with `chmod o-w`"
        raise ConfigurationError(message)
    return status.st_dev, status.st_ino


def laid_out(connection: sqlite3.Connection, patience: float) -> None:
    """
    Make the tables where there are none.

    Raises:
        sqlite3.Error: When it is another's database, or cannot be written.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
        connection.execute("BEGIN IMMEDIATE")
        try:
            _lay_out(connection)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    _journalled(connection, patience)


def row_of(record: Record, line: bytes) -> tuple[Any, ...]:
    """Return a record's row: what it is searched by, and its JSON."""
    fields = record.fields
    return (
        *(record.id, record.time, record.kind.value, _text(fields.get("outcome")), _text(fields.get("action"))),
        *_entity(fields.get("subject")),
        *_entity(fields.get("resource")),
        *(_text(fields.get("decision")), "requests" in fields, line.decode()),
    )


@attrs.frozen
class Filters:
    """What to look for: conditions with their values, and how many at most."""

    where: tuple[str, ...]
    values: tuple[Any, ...]
    limit: int
    newest_first: bool

    @classmethod
    def of(cls, limit: int, *, newest_first: bool, **filters: Any) -> Filters:  # noqa: ANN401  checked here
        """
        Check filters.

        Raises:
            ConfigurationError: On one that is unknown, or a value of the wrong type.
        """
        if type(limit) is not int or not 1 <= limit <= MOST:
            message = f"`limit` must be a whole number from 1 to {MOST}; page with `after`"
            raise ConfigurationError(message)
        where: list[str] = []
        values: list[Any] = []
        for name, value in filters.items():
            if value is not None:
                condition, wanted = _condition(name, value, newest_first=newest_first)
                where.append(condition)
                values += wanted
        return cls(tuple(where), tuple(values), limit, newest_first)


def found(connection: sqlite3.Connection, asked: Filters) -> list[dict[str, Any]]:
    """Read what is asked for; a row whose JSON is damaged is told by its position."""
    connection.execute("PRAGMA query_only=1")
    where = " AND ".join(asked.where) or "1"
    order = "DESC" if asked.newest_first else "ASC"
    query = f"SELECT position, json FROM records WHERE {where} ORDER BY position {order} LIMIT ?"  # noqa: S608  values are bound
    return [_told(position, line) for position, line in connection.execute(query, (*asked.values, asked.limit))]


def _told(position: int, line: object) -> dict[str, Any]:
    try:
        told = orjson.loads(line)  # type: ignore[arg-type]
    except (orjson.JSONDecodeError, TypeError):
        told = None
    return told if isinstance(told, dict) else {"damaged": position}


def _condition(name: str, value: Any, *, newest_first: bool) -> tuple[str, list[Any]]:  # noqa: ANN401  checked here
    if isinstance(value, Kind):
        value = value.value
    if name in _TEXTS:
        return _TEXTS[name], [_wanted(name, value)]
    if name == "subject":
        return _of_entity("subject", value)
    if name == "resource":
        condition, wanted = _of_entity("resource", value)
        several = condition.replace("resource_", "")
        return f"({condition} OR position IN (SELECT position FROM resources WHERE {several}))", wanted * 2  # noqa: S608  names of its own
    if name in {"since", "until"}:
        return f"time {'>=' if name == 'since' else '<'} ?", [_moment(name, value)]
    if name == "after":
        side = "< (SELECT min(position)" if newest_first else "> (SELECT max(position)"
        return f"position {side} FROM records WHERE id = ?)", [_wanted(name, value)]
    message = f"audit records cannot be searched by `{name}`; {nearest(name, _FILTERS)}"
    raise ConfigurationError(message)


def _of_entity(what: str, value: object) -> tuple[str, list[Any]]:
    if isinstance(value, (Subject, Resource)):
        if value.id is None:
            return f"({what}_id IS NULL AND {what}_type = ?)", [_wanted(what, value.type)]
        return f"({what}_id = ? AND {what}_type = ?)", [_wanted(what, value.id), _wanted(what, value.type)]
    return f"{what}_id = ?", [_wanted(what, value)]


def _wanted(name: str, value: object) -> str:
    if type(value) is not str:
        message = f"`{name}` must be a `str`, not `{type(value).__name__}`"
        raise ConfigurationError(message)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        message = f"`{name}` holds half a character, which no record has; search by something else"
        raise ConfigurationError(message) from error
    return value


def _moment(name: str, value: object) -> float:
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return value.timestamp()
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return float(value)
    message = f"`{name}` must be a datetime with a time zone, or seconds since 1970"
    raise ConfigurationError(message)


def _entity(value: object) -> tuple[str | None, str | None]:
    if isinstance(value, Mapping):
        return _text(value.get("type")), _text(value.get("id"))
    return None, None


def _text(value: object) -> str | None:
    return value if type(value) is str else None


def _check_folder(folder: Path) -> None:
    mode = folder.stat().st_mode
    if mode & 0o002 and not mode & S_ISVTX:
        message = f"everybody may replace what is in folder `{folder}`; take that away with `chmod o-w`"
        raise ConfigurationError(message)


def _create(path: Path) -> None:
    os.close(os.open(path, _FLAGS, 0o600))
    # Its name has to be on disk as well.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _journalled(connection: sqlite3.Connection, patience: float) -> None:
    """Have a write-ahead log; SQLite does not wait its turn to start one, so that is done here."""
    deadline = time.monotonic() + patience
    mode = None
    while mode is None:
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
    if mode != "wal":
        message = "it cannot have a write-ahead log there; put it on a local file system"
        raise sqlite3.OperationalError(message)


def _lay_out(connection: sqlite3.Connection) -> None:
    # Another process may have done it meanwhile.
    if connection.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION:
        return
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None:
        message = "it holds something else"
        raise sqlite3.DatabaseError(message)
    for statement in _LAYOUT:
        connection.execute(statement)
