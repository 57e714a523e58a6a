from __future__ import annotations

import gc
import os
import threading
import weakref

import pytest

from pep import forking
from pep.forking import Forks
from pep.locks import Lock


def test_one_at_a_time() -> None:
    """Two threads are never inside together."""
    lock, order = Lock(), []
    inside, seen = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait()
        seen.set()
        with lock:
            order.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    with lock:
        inside.set()
        seen.wait()
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_errors_release_it() -> None:
    """Leaving by an error leaves the lock free."""
    lock = Lock()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), lock:
            _ = 1 / 0


def test_it_is_renewed_at_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the child the lock is another one, that is free; a lock that is gone is left alone."""
    forks = Forks()
    monkeypatch.setattr(forking, "FORKS", forks)
    lock = Lock()
    with lock:
        held = lock._lock
        forks.in_child()
        assert lock._lock is not held
        lock._lock.acquire()
    del lock
    forks.in_child()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_its_parents_threads() -> None:
    """What another thread held when the process forked is free in the child, and stays held in the parent."""
    lock = Lock()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        with lock:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not lock._lock.acquire(blocking=False)
    done.set()
    thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_locks_that_are_gone_do_not_keep_a_child_busy() -> None:
    """A lock does not live on for the sake of children to come."""
    lock = Lock()
    gone = weakref.ref(lock)
    del lock
    gc.collect()
    assert gone() is None
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
