from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import pytest

from pep import forking
from pep.audit.turns import Turns
from pep.errors import AuditError
from pep.forking import Forks


@contextlib.contextmanager
def held(turns: Turns) -> Iterator[None]:
    """Another thread has the turn."""
    has, done = threading.Event(), threading.Event()

    def hold() -> None:
        with turns:
            has.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    has.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_turn_is_waited_for_only_so_long() -> None:
    """Who comes while another has the turn is refused in time; its own thread is not kept out."""
    turns = Turns(0.01)
    with held(turns), pytest.raises(AuditError, match=r"busy for 0.01 s; nothing was written"), turns:
        pytest.fail("two had the turn at once")
    with turns, turns:
        pass
    with held(turns):
        pass


def test_who_waits_comes_first() -> None:
    """A thread that takes turn after turn, without a pause, lets one that waits in between."""
    turns, waiting, order = Turns(20), threading.Event(), list[str]()

    class Gate:
        """Tells when the other thread has passed the gate, and waits for the turn itself."""

        def __init__(self) -> None:
            self.lock = threading.RLock()

        def acquire(self, timeout: float) -> bool:
            taken = self.lock.acquire(timeout=timeout)
            if threading.current_thread() is thread:
                waiting.set()
            return taken

        def release(self) -> None:
            self.lock.release()

    def wait() -> None:
        with turns:
            order.append("waiting")

    thread = threading.Thread(target=wait)
    turns._gate = Gate()  # type: ignore[assignment]
    with turns:
        thread.start()
        waiting.wait()
    with turns:
        order.append("greedy")
    thread.join()
    assert order == ["waiting", "greedy"]


def test_one_at_the_gate_holds_up_nobody_for_ever() -> None:
    """Who waits behind another that waits is refused in time as well."""
    turns = Turns(0.01)
    entered, done = threading.Event(), threading.Event()

    def block() -> None:
        with turns._gate:
            entered.set()
            done.wait()

    thread = threading.Thread(target=block)
    thread.start()
    entered.wait()
    with pytest.raises(AuditError, match="busy"), turns:
        pytest.fail("passed a gate that was shut")
    done.set()
    thread.join()


def test_a_fork_happens_in_nobodys_turn() -> None:
    """What is guarded is readied before a fork, and free in the child and the parent afterwards."""
    readied: list[str] = []
    turns = Turns(1, lambda: readied.append("before"))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with turns:
                status = 0 if readied == ["before"] and not turns.torn else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    with turns:
        assert readied == ["before"]
    with held(turns):
        assert not turns.torn


def test_what_is_guarded_is_readied_before_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the turn that the fork takes, and once; what was readied is given up in the parent."""
    forks, readied = Forks(), []
    monkeypatch.setattr(forking, "FORKS", forks)
    turns = Turns(1, lambda: readied.append(turns._depth))
    forks.before()
    assert readied == [1]
    forks.in_parent()
    assert (turns._depth, turns.torn) == (0, False)


def test_a_fork_waits_only_so_long() -> None:
    """A fork while another thread does not give the turn up happens all the same; its child knows, for good."""
    readied: list[str] = []
    turns = Turns(0.01, lambda: readied.append("before"))
    with held(turns):
        turns._before()
        turns._in_parent()
    assert (turns.torn, readied) == (False, [])
    turns._in_child()
    assert turns.torn
    turns._before()
    turns._in_child()
    assert (turns.torn, readied) == (True, [])
    with turns:
        pass
