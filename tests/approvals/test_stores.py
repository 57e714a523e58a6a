"""Stores of approvals: each conforms, and what was changed behind its back is refused."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis

from pep.approvals import ApprovalRefused, MemoryStore, Reason, Status
from pep.approvals import store as looking
from pep.approvals.redis import RedisStore
from pep.approvals.sealing import Row, Seal
from pep.approvals.sqlite import SQLiteStore
from pep.approvals.store import Full, asked, found, listed, replaced
from pep.errors import ConfigurationError, ObligationError
from pep.testing import FakeClock, NotConforming
from pep.testing.approval_conformance import check_approval_store, draft
from tests.approvals.desks import BOB, LIFE, SECRET, Bank, why
from tests.redis_server import redis_server

__all__ = ["redis_server"]


def sqlite(path: Path, **options: Any) -> SQLiteStore:
    return SQLiteStore(path, secret=SECRET, **options)


def test_memory_conforms() -> None:
    """In memory, as everywhere."""
    check_approval_store(MemoryStore)


def test_sqlite_conforms(tmp_path: Path) -> None:
    """In a database, also for another one who opens it."""
    numbers = iter(range(100))
    check_approval_store(
        lambda: sqlite(tmp_path / f"{next(numbers)}.db"), again=lambda store: SQLiteStore(store.path, secret=SECRET)
    )


def test_redis_conforms(redis_server: Any) -> None:
    """In a real Redis, also for another client."""
    server = redis_server()
    numbers = iter(range(100))

    def make(prefix: str | None = None) -> RedisStore:
        return RedisStore(server.url, secret=SECRET, prefix=prefix or f"p{next(numbers)}")

    check_approval_store(make, again=lambda store: make(store.prefix))
    with redis.Redis.from_url(server.url, socket_timeout=1) as client:
        store = RedisStore(client, secret=SECRET, prefix="mine")
        check_approval_store(lambda: RedisStore(client, secret=SECRET, prefix=f"q{next(numbers)}"))
        store.close()
        assert repr(store) == "RedisStore('mine')"
        assert client.ping()


class Forgetful(MemoryStore):
    """A store that replaces whatever is there."""

    def swap(self, old: Row, new: Row) -> bool:
        self._rows[new.id] = new
        return True


class Bottomless(MemoryStore):
    """A store without a bound."""

    def add(self, row: Row, now: float, most: int) -> Row:
        return super().add(row, now, 10_000)


class Hoarding(MemoryStore):
    """A store that never drops anything."""

    def add(self, row: Row, now: float, most: int) -> Row:
        return super().add(row, 0.0, most)


class Greedy(MemoryStore):
    """A store that keeps every row."""

    def add(self, row: Row, now: float, most: int) -> Row:
        self._rows[row.id] = row
        return row


@pytest.mark.parametrize(
    ("rule", "make"),
    [
        ("not replaced", Forgetful),
        ("bounds", Bottomless),
        ("at its time", Hoarding),
        ("are one", Greedy),
        ("a store has", object),
    ],
)
def test_a_store_that_breaks_a_rule_does_not_conform(rule: str, make: Any) -> None:
    """Each rule is able to fail."""
    with pytest.raises(NotConforming, match=rule):
        check_approval_store(make)


# What was changed behind its back.


def sealed(path: Path) -> tuple[Bank, str]:
    """A bank whose approvals are in a database, with one that was approved."""
    bank = Bank(store=lambda clock: sqlite(path, clock=clock))
    name = bank.asked()
    bank.desk.approve(name, BOB)
    return bank, name


def edit(path: Path, statement: str, *values: Any) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def body_of(path: Path, name: str) -> Any:
    connection = sqlite3.connect(path)
    ((body,),) = connection.execute("SELECT body FROM approvals WHERE id = ?", (name,)).fetchall()
    connection.close()
    return json.loads(body)


FIELDS: dict[str, Any] = {
    "digest": "f" * 64,
    "key": "f" * 64,
    "expires": 1e12,
    "created": 0.0,
    "changed": 0.0,
    "status": "approved",
    "version": 0,
    "answers": [],
    "points": [],
    "shown": {"amount": 1},
    "message": "harmless",
    "rejection": None,
    "used": None,
    "id": "other",
}


def test_every_field_has_a_forgery() -> None:
    """A field that is added is tampered with too."""
    store = MemoryStore()
    assert FIELDS.keys() == draft(store).to_dict().keys()


@pytest.mark.parametrize("field", FIELDS)
def test_an_edited_field_is_detected(field: str, tmp_path: Path) -> None:
    """Whatever is changed in what is sealed, by somebody without the secret, the approval is worth nothing."""
    path = tmp_path / "approvals.db"
    bank, name = sealed(path)
    told = body_of(path, name)
    told[field] = FIELDS[field] if told[field] != FIELDS[field] else "used"
    edit(path, "UPDATE approvals SET body = ?", json.dumps(told).encode())
    assert why(bank.transfer("1", 5, brings=name)) is Reason.TAMPERED
    assert bank.refused(bank.desk.reject, name, BOB) is Reason.TAMPERED
    assert bank.refused(bank.desk.show, name) is Reason.TAMPERED
    assert (bank.desk.list(None), bank.desk.damaged()) == ([], [name])
    assert why(bank.transfer("1", 5)) is Reason.TAMPERED, "it is not asked for anew either"
    assert bank.ran == []
    assert bank.events[-3:] == [("refused", "tampered")] * 3


COLUMNS: dict[str, Any] = {
    "key": "f",
    "owner": "f",
    "open": 0,
    "expires": 1e12,
    "version": 7,
    "mac": b"\x00" * 32,
    "body": "text",
}


@pytest.mark.parametrize("column", COLUMNS)
def test_an_edited_column_is_detected(column: str, tmp_path: Path) -> None:
    """What a row is looked up by is checked against what is sealed."""
    path = tmp_path / "approvals.db"
    bank, name = sealed(path)
    edit(path, f"UPDATE approvals SET {column} = ?", COLUMNS[column])  # noqa: S608  names of its own
    assert why(bank.transfer("1", 5, brings=name)) is Reason.TAMPERED
    assert bank.ran == []


def test_swapped_rows_are_detected(tmp_path: Path) -> None:
    """An approved row under another's id, or among another's key, is none."""
    path = tmp_path / "approvals.db"
    bank, name = sealed(path)
    other = bank.asked("1", 1_000_000)
    edit(
        path,
        "UPDATE approvals SET (key, owner, open, expires, version, body, mac) = "
        "(SELECT key, owner, open, expires, version, body, mac FROM approvals WHERE id = ?) WHERE id = ?",
        name,
        other,
    )
    assert why(bank.transfer("1", 1_000_000, brings=other)) is Reason.TAMPERED
    assert why(bank.transfer("1", 1_000_000, brings=name)) is Reason.OTHER
    assert bank.ran == []


def test_an_earlier_row_put_back_is_detected(tmp_path: Path) -> None:
    """A process that saw it used does not use it again, though its seal is right."""
    path = tmp_path / "approvals.db"
    bank, name = sealed(path)
    before = bank.store.get(name)
    assert bank.transfer("1", 5, brings=name) == 5
    after = bank.store.get(name)
    assert before is not None
    assert after is not None
    assert bank.store.swap(after, before)
    assert why(bank.transfer("1", 5, brings=name)) is Reason.TAMPERED
    assert why(bank.transfer("1", 5)) is Reason.TAMPERED
    assert bank.desk.damaged() == [name]
    assert bank.ran == [5]


def test_a_row_that_is_older_than_seen_is_looked_at_again() -> None:
    """Somebody may have been quicker: only what stays behind went back."""
    store = MemoryStore()
    kept, _ = asked(store, one := draft(store), store.now(), 9)
    later = attrs.evolve(one, version=3)
    assert replaced(store, kept, later)
    assert looking._opened(store, kept) == found(store, "a")
    store._rows.clear()
    assert looking._opened(store, kept) is None


def test_what_was_used_meanwhile_is_asked_for_anew() -> None:
    """Nobody gets an approval that somebody else has used between two looks."""
    store = MemoryStore()
    row, one = asked(store, draft(store), store.now(), 9)
    replaced(store, row, one.used_for("d", store.now()))
    rows = [row, row]
    add = store.add
    store.add = lambda *args: rows.pop() if rows else add(*args)  # type: ignore[method-assign]
    assert asked(store, draft(store, id="b"), store.now(), 9)[1].id == "b"
    store.add = lambda *_args: row  # type: ignore[method-assign]
    with pytest.raises(ApprovalRefused) as refused:
        asked(store, draft(store, id="c"), store.now(), 9)
    assert refused.value.reason is Reason.USED
    other = store.seal.close(draft(store, id="x", key="another"))
    store.add = lambda *_args: other  # type: ignore[method-assign]
    with pytest.raises(ApprovalRefused) as refused:
        asked(store, draft(store, id="c"), store.now(), 9)
    assert refused.value.reason is Reason.TAMPERED


def test_another_secret_opens_nothing(tmp_path: Path) -> None:
    """Whoever has another secret is somebody without it."""
    _, name = sealed(tmp_path / "approvals.db")
    other = SQLiteStore(tmp_path / "approvals.db", secret=b"x" * 16)
    assert listed(other) == ([], [name])


@pytest.mark.parametrize("secret", [b"", b"x" * 15, "x" * 16, None, bytearray(16)])
def test_a_secret_is_long_enough(secret: Any) -> None:
    """Sixteen bytes at least, and bytes; nothing shows it."""
    with pytest.raises(ConfigurationError, match="at least 16 bytes"):
        Seal(secret)
    assert "0123" not in repr(Seal(SECRET))


def test_what_was_seen_is_forgotten_at_some_time() -> None:
    """So many approvals' versions are remembered, the latest."""
    store = MemoryStore()
    for number in range(10_001):
        store.seal.saw(attrs.evolve(draft(store), id=str(number), version=1))
    assert (store.seal.floor("0"), store.seal.floor("1"), store.seal.floor("10000")) == (0, 1, 1)


# The database.


def test_a_database_is_its_owners(tmp_path: Path) -> None:
    """It is made for its owner alone, and what the world may read or write is refused, also later."""
    path = tmp_path / "approvals.db"
    store = sqlite(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert repr(store) == f"SQLiteStore({str(path)!r})"
    for mode in (0o604, 0o602, 0o601):
        path.chmod(mode)
        with pytest.raises(ConfigurationError, match="everybody has access"):
            sqlite(path)
        with pytest.raises(ObligationError, match="no longer usable"):
            store.rows()
    path.chmod(0o660)
    assert sqlite(path).rows() == []


def test_a_database_that_was_replaced_is_refused(tmp_path: Path) -> None:
    """An earlier copy would bring back what was used."""
    path = tmp_path / "approvals.db"
    bank, name = sealed(path)
    copy = path.read_bytes()
    assert bank.transfer("1", 5, brings=name) == 5
    path.rename(tmp_path / "away.db")
    with pytest.raises(ObligationError, match="no longer usable"):
        bank.store.rows()
    path.write_bytes(copy)
    path.chmod(0o600)
    assert "was replaced while in use" in why(bank.transfer("1", 5, brings=name))
    assert bank.ran == [5]


def other_database(path: Path) -> None:
    edit(path, "CREATE TABLE other (id)")
    path.chmod(0o600)


PLACES: dict[str, Callable[[Path], Any]] = {
    "no regular file": lambda path: path.symlink_to(path.with_name("else")),
    "it holds something else": other_database,
    "not a database": lambda path: (path.write_bytes(b"text" * 1000), path.chmod(0o600)),
    "everybody may replace": lambda path: path.parent.chmod(0o777),
    "cannot open database of approvals": lambda path: path.parent.rmdir(),
}


@pytest.mark.parametrize(("message", "spoil"), PLACES.items(), ids=PLACES)
def test_where_a_database_lies_is_checked(message: str, spoil: Callable[[Path], Any], tmp_path: Path) -> None:
    """What is no such database, or could be exchanged by anybody, is refused when the store is made."""
    folder = tmp_path / "folder"
    folder.mkdir()
    spoil(folder / "approvals.db")
    with pytest.raises(ConfigurationError, match=message):
        sqlite(folder / "approvals.db")


def test_a_database_is_not_made_unasked(tmp_path: Path) -> None:
    """Whoever only looks makes none."""
    with pytest.raises(ConfigurationError, match="No such file"):
        sqlite(tmp_path / "approvals.db", make=False)
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_made_once(tmp_path: Path) -> None:
    """However many open it first at once, one lays it out, and the others wait for that."""
    for number in range(10):
        gate = threading.Barrier(4)
        opened: list[SQLiteStore] = []

        def open_it(path: Path = tmp_path / f"{number}.db", gate: threading.Barrier = gate, to: Any = opened) -> None:
            gate.wait()
            to.append(sqlite(path, timeout=30))

        threads = [threading.Thread(target=open_it) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [store.rows() for store in opened] == [[]] * 4


def test_a_locked_database_is_refused_in_time(tmp_path: Path) -> None:
    """Whoever holds it up for longer than the timeout holds up no call."""
    path = tmp_path / "approvals.db"
    store = sqlite(path, timeout=0.01)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ObligationError, match="cannot use database of approvals"):
        store.rows()
    connection.close()
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with store._turns:
            entered.set()
            leave.wait()

    holding = threading.Thread(target=hold)
    holding.start()
    entered.wait()
    with pytest.raises(ObligationError, match="cannot use database of approvals"):
        store.get("a")
    leave.set()
    holding.join()


def test_time_is_the_stores() -> None:
    """Each by its clock: the one it was given, or the machine's."""
    clock = FakeClock()
    assert MemoryStore(clock=clock).now() == clock.wall()
    assert MemoryStore().now() > clock.wall()


FORKING = """
import os, sys
from pep.approvals import MemoryStore
from pep.approvals.sqlite import SQLiteStore
from pep.testing.approval_conformance import draft
memory, sqlite = MemoryStore(), SQLiteStore(sys.argv[1], secret=b"x" * 16)
for store in (memory, sqlite):
    store.add(store.seal.close(draft(store)), store.now(), 9)
child = os.fork()
if child == 0:
    row = sqlite.get("a")
    used = sqlite.seal.close(sqlite.seal.open(row).used_for("d", sqlite.now()))
    os._exit(0 if memory.rows() == [] and sqlite.swap(row, used) else 1)
_, status = os.waitpid(child, 0)
print(status, len(memory.rows()), sqlite.seal.open(sqlite.get("a")).status.value)
"""


def test_a_forked_child_uses_nothing_twice(tmp_path: Path) -> None:
    """What is in memory is the parent's alone; a database is both's, and what one used the other sees."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(tmp_path / "a.db")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "1", "used"]


def test_memory_tells_how_much_it_holds() -> None:
    """Never what."""
    store = MemoryStore()
    store.add(store.seal.close(draft(store)), store.now(), 9)
    assert repr(store) == "<MemoryStore of 1 approvals>"
    store._forget()
    assert repr(store) == "<MemoryStore of 0 approvals>"


def test_a_full_store_says_until_when() -> None:
    """For whoever waits."""
    assert Full(7.0).until == 7.0


# Redis.


def test_redis_detects_what_was_changed(redis_server: Any) -> None:
    """In Redis, too; what is no row at all is none."""
    server = redis_server()
    bank = Bank(store=lambda _clock: RedisStore(server.url, secret=SECRET), properties={"expires_in": LIFE})
    name = bank.asked()
    with redis.Redis.from_url(server.url, socket_timeout=1) as client:
        key = "{pep:approvals}:rows"
        packed = client.hget(key, name)
        assert type(packed) is bytes
        forged = [b"", b"7", b"{}", packed.replace(b"pending", b"approved"), packed + b" ", packed[:-9] + packed[-8:]]
        for row in forged:
            client.hset(key, name, row)  # type: ignore[arg-type]
            assert why(bank.transfer("1", 5, brings=name)) is Reason.TAMPERED
        other = bank.asked("1", 6)
        client.hset(key, name, client.hget(key, other))  # type: ignore[arg-type]
        assert why(bank.transfer("1", 6, brings=name)) is Reason.TAMPERED, "another's row under its name"
        client.hset(key, name, packed)  # type: ignore[arg-type]
        assert bank.desk.approve(name, BOB).status is Status.APPROVED
        assert bank.transfer("1", 5, brings=name) == 5
        client.hset(key, name, packed)  # type: ignore[arg-type]
        assert why(bank.transfer("1", 5, brings=name)) is Reason.TAMPERED
    bank.store.close()  # type: ignore[attr-defined]


def test_redis_that_is_down_closes(redis_server: Any) -> None:
    """Its text tells neither the command nor a password."""
    server = redis_server()
    store = RedisStore(server.url.replace("127", "user:canary@127"), secret=SECRET)
    with pytest.raises(ObligationError) as refused:
        store.rows()
    assert "canary" not in str(refused.value)
    sound = RedisStore(server.url, secret=SECRET)
    server.kill()
    with pytest.raises(ObligationError, match="ConnectionError"):
        sound.now()
    for one in (store, sound):
        one.close()


CLIENTS: dict[str, Callable[[], Any]] = {
    "`prefix`": lambda: RedisStore("redis://127.0.0.1:1", secret=SECRET, prefix=""),
    "`timeout`": lambda: RedisStore("redis://127.0.0.1:1", secret=SECRET, timeout=0),
    "no URL": lambda: RedisStore("ftp://127.0.0.1", secret=SECRET),
    "is no `redis.Redis`": lambda: RedisStore(object(), secret=SECRET),  # type: ignore[arg-type]
    "has a `socket_timeout`": lambda: RedisStore(redis.Redis(socket_timeout=None), secret=SECRET),
    "does not decode": lambda: RedisStore(redis.Redis(socket_timeout=1, decode_responses=True), secret=SECRET),
}


@pytest.mark.parametrize(("message", "make"), CLIENTS.items(), ids=CLIENTS)
def test_a_client_of_redis_is_checked(message: str, make: Callable[[], Any]) -> None:
    """One that waits for ever, or reads something else than was written, is refused."""
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_redis_needs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is missing, that is said; and nothing else needs it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"install `pep\[redis\]`"):
        RedisStore("redis://127.0.0.1", secret=SECRET)


def test_nothing_is_loaded_unasked() -> None:
    """Approvals load neither SQLite nor Redis, and `import pep` loads no approvals."""
    check = (
        "import sys; before = set(sys.modules); import pep;"
        "assert not any('approvals' in name for name in sys.modules);"
        "import pep.approvals, pep.obligations.confirmation;"
        "assert not {'redis', 'sqlite3', 'pep.approvals.sqlite'} & (sys.modules.keys() - before)"
    )
    subprocess.run([sys.executable, "-c", check], check=True, env=dict(os.environ))
