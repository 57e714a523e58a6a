"""Threads for calls: bounded, in copied contexts, and never without a reply."""

from __future__ import annotations

import contextvars
import threading
from queue import SimpleQueue
from typing import Any, Final

import pytest

from pep.errors import PDPError, PDPOverloaded
from pep.plan import Raised, Reply, Returned
from pep.threads import Threads

#: A bound on what should happen at once, in seconds.
SOON: Final = 5.0

VARIABLE: Final = contextvars.ContextVar("VARIABLE", default="unset")


def landed(threads: Threads, work: Any) -> Reply:
    replies: SimpleQueue[Reply] = SimpleQueue()
    threads.start(work, replies.put)
    return replies.get(timeout=SOON)


def test_work_runs_elsewhere_in_a_copy_of_the_context() -> None:
    """What is bound here is bound there; what is bound there stays there."""
    token = VARIABLE.set("here")

    def work() -> Reply:
        seen = VARIABLE.get()
        VARIABLE.set("there")
        return Returned((seen, threading.current_thread() is threading.main_thread()))

    try:
        assert landed(Threads(), work) == Returned(("here", False))
        assert VARIABLE.get() == "here"
    finally:
        VARIABLE.reset(token)


@pytest.mark.parametrize(
    ("raised", "kind"), [(KeyError(), KeyError), (MemoryError(), MemoryError), (SystemExit(), PDPError)]
)
def test_no_thread_ends_without_a_reply(raised: BaseException, kind: type[Exception]) -> None:
    """Whatever ends the work, whoever waits is told."""

    def work() -> Reply:
        raise raised

    reply = landed(Threads(), work)
    assert isinstance(reply, Raised)
    assert type(reply.error) is kind


def test_there_is_room_for_so_many() -> None:
    """Past the bound a call is refused at once, and room is given back when one ends."""
    threads, gate, started = Threads(1), threading.Event(), threading.Event()
    ended: SimpleQueue[Reply] = SimpleQueue()

    def work() -> Reply:
        started.set()
        gate.wait(SOON)
        return Returned(1)

    threads.start(work, ended.put)
    assert started.wait(SOON)
    refused = landed(threads, lambda: Returned(2))
    assert isinstance(refused, Raised)
    assert isinstance(refused.error, PDPOverloaded)
    gate.set()
    assert ended.get(timeout=SOON) == Returned(1)
    assert landed(threads, lambda: Returned(3)) == Returned(3)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_a_thread_that_cannot_be_started_gives_its_room_back(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without room for threads is an overload; memory that ran out propagates; no room leaks away."""
    threads = Threads(1)

    def start(_self: threading.Thread) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        if isinstance(error, MemoryError):
            with pytest.raises(MemoryError):
                landed(threads, lambda: Returned(1))
        else:
            reply = landed(threads, lambda: Returned(1))
            assert isinstance(reply, Raised)
            assert isinstance(reply.error, PDPOverloaded)
    assert landed(threads, lambda: Returned(2)) == Returned(2)
