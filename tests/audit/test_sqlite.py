from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pep import Enforcer, Guarantee, Profile, Resource, Subject
from pep.audit import Kind, Record
from pep.audit import tables as tables_module
from pep.audit.sqlite import SQLiteSink
from pep.errors import AuditError, ConfigurationError
from pep.testing import permit_all
from tests.proving import times

SOURCE = Path(__file__).resolve().parent.parent.parent / "src"
IDS = (f"id{number}" for number in itertools.count())


def record(kind: Kind = Kind.DECISION, time: float = 1.0, **fields: Any) -> Record:
    return Record(kind, next(IDS), time, fields)


def entity(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "id": name}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.sqlite3"


@pytest.fixture
def sink(path: Path) -> Iterator[SQLiteSink]:
    made = SQLiteSink(path)
    yield made
    made.close()


def rows(path: Path, query: str = "SELECT json FROM records ORDER BY position") -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def test_a_record_is_a_row(path: Path, sink: SQLiteSink) -> None:
    """Its JSON is kept as it is, and everybody sees it once `record` returns."""
    given = [record(subject=entity("user", "\x00é'\u2028")), record(Kind.GAP, lost=1)]
    for at, one in enumerate(given, 1):
        sink.record(one)
        assert [text.encode() for (text,) in rows(path)] == [one.to_json() for one in given[:at]]
    assert sink.query() == [one.to_dict() for one in given]
    assert repr(sink) == f"SQLiteSink({str(path)!r}, guarantee=Guarantee.WRITTEN)"


@pytest.mark.parametrize(("guarantee", "waits"), [(Guarantee.WRITTEN, 1), (Guarantee.DURABLE, 2)])
def test_the_guarantee_says_whether_the_disk_is_waited_for(path: Path, guarantee: Guarantee, waits: int) -> None:
    """`WRITTEN` commits to the kernel in a write-ahead log, `DURABLE` to the disk."""
    sink = SQLiteSink(path, guarantee=guarantee)
    connection = sink._connection
    assert connection is not None
    settings = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", waits]
    assert sink.guarantee is guarantee
    Enforcer(permit_all(), audit=sink, profiles={"*:pay": Profile(audit=guarantee)}).close()


def test_no_other_guarantee_is_given(path: Path) -> None:
    """A table is no queue."""
    with pytest.raises(ConfigurationError, match="wrap it to buffer"):
        SQLiteSink(path, guarantee=Guarantee.BUFFERED)


KILLED = """
import os, signal, sys
from pep.audit.sqlite import SQLiteSink
from pep.audit.record import Kind, Record
sink = SQLiteSink(sys.argv[1])
number = 0
while True:
    sink.record(Record(Kind.DECISION, str(number), 1.0, {"filler": "x" * (number % 7 * 1000)}))
    print(number, flush=True)
    number += 1
"""


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_was_acknowledged_survives_being_killed(path: Path) -> None:
    """Processes that are killed while they write lose nothing they acknowledged, and damage nothing."""
    known: Counter[str] = Counter()
    for _ in range(times(1, 200)):
        children = [started(KILLED, path) for _ in range(2)]
        acknowledged: list[str] = []
        for child in children:
            assert child.stdout is not None
            acknowledged += [child.stdout.readline() for _ in range(20)]
        for child in children:
            child.send_signal(signal.SIGKILL)
            assert child.stdout is not None
            acknowledged += child.stdout
            child.communicate(timeout=60)
        held = Counter(json.loads(text)["id"] for (text,) in rows(path))
        known += Counter(line.strip() for line in acknowledged if line.endswith("\n"))
        assert known <= held
        assert held.total() <= known.total() + 2 * len(children)
        known = held
    sink = SQLiteSink(path)
    sink.record(record())
    sink.close()
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_processes_start_together(path: Path) -> None:
    """Several processes that make a database at once all get the one."""
    code = KILLED.replace("while True", "for _ in range(20)")
    children = [started(code, path) for _ in range(3)]
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
    assert len(rows(path)) == 60


# Modes and folders.


def test_a_new_database_is_its_owners(path: Path) -> None:
    """A log names who did what: nobody else may read or write it, its journal neither."""
    before = os.umask(0)
    try:
        sink = SQLiteSink(path)
        sink.record(record())
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        sink.close()
    finally:
        os.umask(before)
    assert modes == {path.name + end: 0o600 for end in ("", "-wal", "-shm")}


def test_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    """A symbolic link may lead anywhere."""
    path.symlink_to(tmp_path / "other")
    (tmp_path / "other").touch()
    with pytest.raises(ConfigurationError, match="is a symbolic link"):
        SQLiteSink(path)
    with pytest.raises(ConfigurationError, match="no regular file"):
        SQLiteSink(tmp_path)


def test_what_everybody_may_write_is_refused(path: Path, tmp_path: Path) -> None:
    """Neither the file nor its folder may be open to all; a sticky folder may, as nobody can replace the file."""
    path.touch()
    path.chmod(0o602)
    with pytest.raises(ConfigurationError, match="writable by everybody"):
        SQLiteSink(path)
    path.unlink()
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match="everybody may replace what is in folder"):
        SQLiteSink(path)
    tmp_path.chmod(0o1777)
    SQLiteSink(path).close()


def test_a_folder_must_exist(tmp_path: Path) -> None:
    """A typo in a path does not make folders."""
    with pytest.raises(ConfigurationError, match=r"No such file or directory; name a file in a folder that exists"):
        SQLiteSink(tmp_path / "missing" / "audit.sqlite3")


def test_no_name_is_special(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SQLite takes for a database in memory is a file's name here; and the working directory may change."""
    monkeypatch.chdir(tmp_path)
    sink = SQLiteSink(":memory:")
    monkeypatch.chdir("/")
    sink.record(record())
    sink.close()
    assert len(rows(tmp_path / ":memory:")) == 1


def test_another_database_is_left_alone(path: Path) -> None:
    """Neither another program's database nor any other file is written to."""
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE orders (id)")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="it holds something else; name one of this library's, or a new file"):
        SQLiteSink(path)
    assert path.read_bytes() == before
    path.write_bytes(b"text" * 1000)
    with pytest.raises(ConfigurationError, match="file is not a database"):
        SQLiteSink(path)


def test_a_database_is_gone_on_with(path: Path) -> None:
    """What is in it already stays there."""
    for _ in range(2):
        sink = SQLiteSink(str(path))
        sink.record(record())
        sink.close()
    assert len(rows(path)) == 2


def test_no_journal_no_sink(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there can be no write-ahead log, or its turn does not come, the sink refuses to start."""

    class Connection(sqlite3.Connection):
        answer = "SELECT 'delete'"

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            return super().execute(self.answer if "journal_mode" in statement else statement, *values)

    class Stubborn(Connection):
        answer = "SELECT * FROM nowhere"

    connect = sqlite3.connect
    for kind, told in ((Connection, "local file system"), (Stubborn, "no such table")):
        monkeypatch.setattr(sqlite3, "connect", lambda *args, kind=kind, **kw: connect(*args, factory=kind, **kw))
        with pytest.raises(ConfigurationError, match=told):
            SQLiteSink(path, timeout=0.01)


def test_a_half_made_layout_is_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails while the tables are made leaves none of them."""
    layout = tables_module._LAYOUT
    monkeypatch.setattr(tables_module, "_LAYOUT", (*layout, "CREATE nonsense"))
    with pytest.raises(ConfigurationError, match="syntax error"):
        SQLiteSink(path)
    assert rows(path, "SELECT name FROM sqlite_master") == []
    monkeypatch.setattr(tables_module, "_LAYOUT", layout)
    SQLiteSink(path).close()


# Failures.


def test_a_moved_database_refuses(path: Path, sink: SQLiteSink) -> None:
    """What is written to a deleted file nobody finds: refused until it is back, and one put in its place too."""
    sink.record(record())
    away = path.rename(path.with_suffix(".away"))
    with pytest.raises(AuditError, match="No such file or directory"):
        sink.record(record())
    path.touch()
    with pytest.raises(AuditError, match="was replaced while in use"):
        sink.record(record())
    path.unlink()
    away.rename(path)
    sink.record(record())
    assert len(sink.query()) == 2


LIMITED = """
import resource, signal, sys
from pathlib import Path
from pep.audit.sqlite import SQLiteSink
from pep.audit.record import Kind, Record
from pep.errors import AuditError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = SQLiteSink(sys.argv[1])
def put(name):
    sink.record(Record(Kind.DECISION, name, 1.0, {"filler": "x" * 5000}))
put("before")
size = Path(sys.argv[1] + "-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 3000, resource.RLIM_INFINITY))
for name in ("full", "still full"):
    try:
        put(name)
        print("acknowledged")
    except AuditError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put("after")
print(*[told["id"] for told in sink.query()])
sink.close()
"""


def test_a_full_disk_refuses_and_recovers(path: Path) -> None:
    """A record the disk did not take is refused; once there is room, the next one is taken, by the same sink."""
    child = started(LIMITED, path)
    out, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    *refused, held = out.splitlines()
    assert all(line.startswith("cannot write to audit database") for line in refused), refused
    assert held == "before after"


class Failing:
    """A connection whose disk fails."""

    def __init__(self, message: str) -> None:
        self.message, self.closed = message, False

    def execute(self, *_arguments: object) -> None:
        raise sqlite3.OperationalError(self.message)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("guarantee", [Guarantee.WRITTEN, Guarantee.DURABLE])
def test_what_was_not_synced_is_never_taken_for_synced(path: Path, guarantee: Guarantee) -> None:
    """After the disk failed, nothing durable is acknowledged on that file again; what is in the kernel can be."""
    sink = SQLiteSink(path, guarantee=guarantee)
    sink._disconnect()
    failing: Any = Failing("disk I/O error")
    sink._connection = failing
    with pytest.raises(AuditError, match=f"cannot write to audit database `{path}`: disk I/O error"):
        sink.record(record())
    assert failing.closed
    if guarantee is Guarantee.DURABLE:
        with pytest.raises(AuditError, match="failed to reach its disk; make a sink on another file"):
            sink.record(record())
    else:
        sink.record(record())
    sink.close()


def test_no_connection_is_inherited(path: Path, sink: SQLiteSink) -> None:
    """A fork finds the connection closed; parent and child each open their own."""
    sink.record(record())
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if sink._connection is None else 2
            sink.record(record())
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert sink._connection is None
    sink.record(record())
    assert len(rows(path)) == 3


def test_what_a_parent_was_using_is_left_alone(path: Path) -> None:
    """A sink that was torn by a fork refuses, and does not even close what is its parent's."""
    sink = SQLiteSink(path)
    connection = sink._connection
    assert connection is not None
    sink._writing.torn = True
    with pytest.raises(AuditError, match="was in use when this process was forked"):
        sink.record(record())
    sink.close()
    connection.execute("SELECT 1")
    connection.close()


def test_who_comes_second_finds_the_tables_made(path: Path, sink: SQLiteSink) -> None:
    """Two processes that lay out one database at once do it once."""
    with contextlib.closing(sqlite3.connect(path)) as other:
        tables_module._lay_out(other)
    sink.record(record())


def test_a_lock_is_waited_for_only_so_long(path: Path) -> None:
    """Another process that does not finish refuses the record; the connection stays."""
    sink = SQLiteSink(path, timeout=0.01)
    connection = sink._connection
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(AuditError, match="database is locked"):
            sink.record(record())
    sink.record(record())
    assert sink._connection is connection
    sink.close()


def test_closed_is_closed(path: Path) -> None:
    """After `close` nothing is written; it may still be read, and closed again."""
    sink = SQLiteSink(path)
    sink.record(record())
    sink.close()
    sink.close()
    with pytest.raises(AuditError, match="is closed"):
        sink.record(record())
    assert len(sink.query()) == 1


def test_a_child_of_a_busy_parent_refuses(path: Path) -> None:
    """Where a connection could not be closed before a fork, the child refuses, and leaves it alone."""
    sink = SQLiteSink(path, timeout=0.01)
    connection, held, done = sink._connection, threading.Event(), threading.Event()

    def hold() -> None:
        with sink._writing:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with contextlib.suppress(AuditError):
                sink.record(record())
                os._exit(2)
            sink.close()
            assert connection is sink._connection is not None
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    done.set()
    thread.join()
    sink.record(record())
    assert sink._connection is connection
    sink.close()


# Queries.


WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def filled(sink: SQLiteSink) -> SQLiteSink:
    """A few records that differ in everything."""
    for number, (who, what) in enumerate(itertools.product(("alice", "bob"), ("read", "edit"))):
        told = {"subject": entity("user", who), "action": what, "resource": entity("page", str(number))}
        outcome = "denied" if (who, what) == ("bob", "edit") else "permitted"
        time = (WHEN + timedelta(hours=number)).timestamp()
        sink.record(Record(Kind.DECISION, f"d{number}", time, {**told, "outcome": outcome}))
    sink.record(Record(Kind.OUTCOME, "o1", WHEN.timestamp() + 9e4, {"decision": "d1", "status": "raised"}))
    sink.record(Record(Kind.DECISION, "n1", 0.0, {"resource": {"type": "page"}, "subject": entity("robot", "bob")}))
    several = [{"resource": entity("page", name)} for name in ("7", "8")]
    sink.record(Record(Kind.DECISION, "s1", 0.0, {"resource": entity("page", "7"), "requests": several}))
    return sink


FOUND: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["d0", "d1", "d2", "d3", "o1", "n1", "s1"]),
    ({"subject": "bob"}, ["d2", "d3", "n1"]),
    ({"subject": Subject("user", "bob")}, ["d2", "d3"]),
    ({"subject": "' OR 1=1 --"}, []),
    ({"action": "edit"}, ["d1", "d3"]),
    ({"outcome": "denied"}, ["d3"]),
    ({"kind": "outcome"}, ["o1"]),
    ({"kind": Kind.OUTCOME}, ["o1"]),
    ({"decision": "d1"}, ["o1"]),
    ({"resource": "1"}, ["d1"]),
    ({"resource": Resource("page", "8")}, ["s1"]),
    ({"resource": "7"}, ["s1"]),
    ({"resource": Resource("robot", "7")}, []),
    ({"resource": Resource.new("page")}, ["n1"]),
    ({"since": WHEN + timedelta(hours=2)}, ["d2", "d3", "o1"]),
    ({"until": WHEN + timedelta(hours=2)}, ["d0", "d1", "n1", "s1"]),
    ({"since": WHEN.timestamp() + 3600, "until": int(WHEN.timestamp()) + 7200}, ["d1"]),
    ({"subject": "alice", "action": "edit", "outcome": None}, ["d1"]),
    ({"limit": 2}, ["d0", "d1"]),
    ({"limit": 2, "after": "d1"}, ["d2", "d3"]),
    ({"limit": 2, "newest_first": True}, ["s1", "n1"]),
    ({"limit": 2, "newest_first": True, "after": "n1"}, ["o1", "d3"]),
    ({"after": "nothing"}, []),
]


@pytest.mark.parametrize(("asked", "found"), FOUND, ids=[str(asked) for asked, _ in FOUND])
def test_records_are_found(filled: SQLiteSink, asked: dict[str, Any], found: list[str]) -> None:
    """Every filter finds what it names, all of them together what they have in common, in order."""
    assert [told["id"] for told in filled.query(**asked)] == found


@pytest.mark.parametrize("name", ["time", "subject_id", "action", "resource_id", "outcome", "kind", "decision", "id"])
def test_what_is_searched_by_is_indexed(filled: SQLiteSink, name: str) -> None:
    """A search looks at no row it does not need."""
    query = f"EXPLAIN QUERY PLAN SELECT json FROM records WHERE {name} = 'x'"  # noqa: S608  a column
    ((*_, plan),) = rows(filled.path, query)
    assert "USING INDEX" in plan


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=times(15, 300))
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("cd"), st.integers(0, 3)), max_size=8), st.data())
def test_a_query_is_a_filter(tmp_path: Path, made: list[tuple[str, str, int]], data: st.DataObject) -> None:
    """Whatever was recorded and asked, what is found is what a loop over all of it would find."""
    sink = SQLiteSink(tmp_path / f"{next(IDS)}.sqlite3")
    given = [record(time=float(at), action=what, subject=entity("user", who)) for who, what, at in made]
    for one in given:
        sink.record(one)
    who, what, since = (
        data.draw(st.none() | pick) for pick in (st.sampled_from("ab"), st.sampled_from("cd"), st.just(2))
    )
    limit, newest = data.draw(st.integers(1, 5)), data.draw(st.booleans())
    found = sink.query(subject=who, action=what, since=since, limit=limit, newest_first=newest)
    sink.close()
    expected = [
        one.to_dict()
        for one, (has_who, has_what, at) in zip(given, made, strict=True)
        if who in {None, has_who} and what in {None, has_what} and (since is None or at >= since)
    ]
    assert found == (expected[::-1] if newest else expected)[:limit]


def test_any_text_is_searched_by(sink: SQLiteSink) -> None:
    """Text is found whatever it holds; what is no text is in no index."""
    for action in ("\x00é'\u2028", "\x00é'", "\ud800"):
        sink.record(record(action=action))
    assert len(sink.query(action="\x00é'\u2028")) == 1
    with pytest.raises(ConfigurationError, match="half a character"):
        sink.query(action="\ud800")


def test_strange_fields_are_no_obstacle(sink: SQLiteSink) -> None:
    """What is no text is not searched by, and kept all the same."""
    given = [record(subject=[1], action=2, resource="x", outcome={}), record(requests="none"), record(requests=[1, {}])]
    for one in given:
        sink.record(one)
    assert sink.query() == [one.to_dict() for one in given]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"limit": 0}, "`limit` must be a whole number from 1 to 10000"),
        ({"limit": 10_001}, "page with `after`"),
        ({"limit": True}, "`limit`"),
        ({"user": "alice"}, "cannot be searched by `user`"),
        ({"actions": "read"}, "did you mean `action`"),
        ({"action": 1}, "`action` must be a `str`, not `int`"),
        ({"subject": 1}, "`subject` must be a `str`"),
        ({"since": "today"}, "`since` must be a datetime with a time zone"),
        ({"until": datetime(2026, 1, 1)}, "`until` must be a datetime with a time zone"),  # noqa: DTZ001  on purpose
        ({"since": float("nan")}, "`since` must be"),
        ({"since": True}, "`since` must be"),
    ],
)
def test_a_wrong_question_is_told_so(sink: SQLiteSink, asked: dict[str, Any], told: str) -> None:
    """Nothing is found by a filter that does not mean what it seems to."""
    with pytest.raises(ConfigurationError, match=told):
        sink.query(**asked)


def test_a_damaged_row_is_told_and_passed(path: Path, sink: SQLiteSink) -> None:
    """A row that somebody spoilt is named by its position; those around it are found."""
    for _ in range(4):
        sink.record(record())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE records SET json = '{\"cut' WHERE position = 2")
        other.execute("UPDATE records SET json = x'ff' WHERE position = 3")
        other.execute("UPDATE records SET json = '[]' WHERE position = 4")
    found = sink.query()
    assert found[1:] == [{"damaged": 2}, {"damaged": 3}, {"damaged": 4}]
    assert found[0]["kind"] == "decision"


def test_a_position_is_used_once(path: Path, sink: SQLiteSink) -> None:
    """A row that was taken out leaves a gap, even the last one."""
    for _ in range(2):
        sink.record(record())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DELETE FROM records WHERE position = 2")
    sink.record(record())
    assert rows(path, "SELECT position FROM records") == [(1,), (3,)]


def test_an_unreadable_database_is_told_so(path: Path, sink: SQLiteSink) -> None:
    """A query that the database cannot answer raises, and says why."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DROP TABLE records")
    with pytest.raises(AuditError, match=f"cannot read audit database `{path}`: no such table"):
        sink.query()


def test_a_long_query_holds_up_no_record(sink: SQLiteSink) -> None:
    """Reading takes turns of its own."""
    with sink._reading:
        thread = threading.Thread(target=sink.record, args=(record(),))
        thread.start()
        thread.join()
    assert len(sink.query()) == 1
