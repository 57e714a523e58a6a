"""Of those who retry with one approval at once, one runs: across threads, and across processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from pep.approvals import MemoryStore
from pep.approvals.redis import RedisStore
from pep.approvals.sqlite import SQLiteStore
from tests.approvals.desks import BOB, SECRET, Bank
from tests.conftest import ROOT
from tests.proving import times
from tests.redis_server import redis_server

__all__ = ["redis_server"]

THREADS: Final = 8
PROCESSES: Final = 4


def approved(bank: Bank, count: int) -> list[str]:
    """Approve so many transfers, each of another amount."""
    names = [bank.asked("1", number) for number in range(count)]
    for name in names:
        bank.desk.approve(name, BOB)
    return names


def raced(bank: Bank, names: list[str]) -> None:
    """Retry each from several threads at once; every approval is used exactly once."""
    gate = threading.Barrier(THREADS)

    def retry() -> None:
        for number, name in enumerate(names):
            gate.wait()
            bank.transfer("1", number, brings=name)

    threads = [threading.Thread(target=retry) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(bank.ran) == dict.fromkeys(range(len(names)), 1)


def test_threads_use_each_approval_once_in_memory() -> None:
    """Not one double use in so many racing retries."""
    bank = Bank(most=10_000, deadline=1e6)
    raced(bank, approved(bank, times(50, 10_000 // THREADS)))


def test_threads_use_each_approval_once_in_sqlite(tmp_path: Path) -> None:
    """The same over a database."""
    store = SQLiteStore(tmp_path / "a.db", secret=SECRET, timeout=30)
    bank = Bank(most=10_000, deadline=1e6, store=lambda _clock: store, properties={"expires_in": 100_000})
    raced(bank, approved(bank, times(10, 10_000 // THREADS)))


def test_threads_use_each_approval_once_in_redis(redis_server: Any) -> None:
    """The same over a real Redis."""
    server = redis_server()
    store = RedisStore(server.url, secret=SECRET, timeout=30)
    bank = Bank(most=10_000, deadline=1e6, store=lambda _clock: store, properties={"expires_in": 100_000})
    raced(bank, approved(bank, times(10, 10_000 // THREADS)))
    store.close()


def test_processes_use_each_approval_once(tmp_path: Path) -> None:
    """Several processes retry with the same approvals, each once: every one of them runs in one process."""
    path = tmp_path / "a.db"
    bank = Bank(
        most=10_000, deadline=1e6, store=lambda clock: SQLiteStore(path, secret=SECRET, clock=clock, timeout=30)
    )
    names = approved(bank, times(10, 10_000 // PROCESSES))
    command = [sys.executable, "-m", "tests.approvals.racers", str(path), ",".join(names)]
    racers = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    told = [racer.communicate()[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * PROCESSES
    assert Counter(number for ran in told for number in ran) == {str(number): 1 for number in range(len(names))}


class Careless(MemoryStore):
    """A store whose compare and swap is two steps."""

    def swap(self, old: Any, new: Any) -> bool:
        if self._rows.get(old.id) != old:
            return False
        meet.wait()
        self._rows[old.id] = new
        return True


meet = threading.Barrier(THREADS)


def test_a_race_shows_what_is_not_atomic() -> None:
    """The races can fail: a careless store lets everybody run."""
    bank = Bank(deadline=1e6, store=lambda clock: Careless(clock=clock))
    swap = bank.store.swap
    bank.store.swap = MemoryStore.swap.__get__(bank.store)  # type: ignore[method-assign]
    names = approved(bank, 1)
    bank.store.swap = swap  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="Counter"):
        raced(bank, names)
