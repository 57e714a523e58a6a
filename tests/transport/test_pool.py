"""The pool: turns in order, none lost, and no more connections than there may be."""

from __future__ import annotations

import os
from typing import Any

import h11
import pytest

from pep.errors import PDPOverloaded
from pep.testing import FakeClock
from pep.transport.connection import Connection
from pep.transport.origin import Origin
from pep.transport.pool import Pool
from pep.transport.waits import Exchange


class Kept:
    """A connection of the pool's point of view."""

    def __init__(self, port: int, *, good: bool = True) -> None:
        self.origin = Origin(False, "127.0.0.1", port)
        self.kept_at = 0.0
        self.good, self.dead, self.closed = good, False, False

    def readable(self) -> bool:
        return self.dead

    def renewed(self) -> bool:
        return self.good

    def close(self) -> None:
        self.closed = True


def pool_of(size: int, clock: FakeClock | None = None) -> Any:
    return Pool(size, 10.0, clock or FakeClock())


def entered(exchange: Exchange[None]) -> bool:
    """Whether a turn came at once; else the exchange waits."""
    try:
        next(exchange)
    except StopIteration:
        return True
    return False


def test_turns_are_given_in_order() -> None:
    """Whoever waits longest is next, and a turn goes from hand to hand."""
    pool = pool_of(1)
    assert entered(pool.enter(1.0))
    waiting = [pool.enter(1.0) for _ in range(3)]
    turns = [next(exchange) for exchange in waiting]
    for at in range(3):
        pool.leave()
        assert [turn.future.done() for turn in turns] == [True] * (at + 1) + [False] * (2 - at)
    for exchange in waiting:
        with pytest.raises(StopIteration):
            exchange.send(True)
    pool.leave()
    assert pool.counts() == (0, 0)


def test_whoever_gives_up_loses_no_turn() -> None:
    """A turn that was given to somebody who went away meanwhile goes to the next."""
    pool = pool_of(1)
    assert entered(pool.enter(1.0))
    gone, late, patient = (pool.enter(1.0) for _ in range(3))
    turns = [next(exchange) for exchange in (gone, late, patient)]
    with pytest.raises(PDPOverloaded):
        late.send(False)
    pool.leave()
    assert turns[0].future.done()
    gone.close()
    assert turns[2].future.done()
    with pytest.raises(StopIteration):
        patient.send(True)
    pool.leave()
    assert pool.counts() == (0, 0)


def test_the_last_used_connection_is_taken_first() -> None:
    """So that those nobody needs grow old; dead and old ones are closed, never taken."""
    clock = FakeClock()
    pool, kept = pool_of(4, clock), [Kept(1) for _ in range(4)]
    for connection in kept:
        pool.keep(connection)
        clock.advance(3)
    kept[3].dead = True
    assert pool.take(kept[0].origin) is kept[2]
    assert pool.take(Origin(False, "127.0.0.1", 2)) is None
    clock.advance(1)
    assert pool.take(kept[0].origin) is None
    assert [connection.closed for connection in kept] == [True, True, False, True]


def test_no_more_are_kept_than_there_may_be() -> None:
    """Over all origins; the oldest one goes, and what serves no more is closed at once."""
    clock = FakeClock()
    pool, kept = pool_of(2, clock), [Kept(1), Kept(2), Kept(3), Kept(4, good=False)]
    for connection in kept:
        pool.keep(connection)
        clock.advance(1)
    assert [connection.closed for connection in kept] == [True, False, False, True]
    clock.advance(20)
    last = Kept(5)
    pool.keep(last)
    assert [connection.closed for connection in kept] == [True] * 4
    pool.close()
    assert last.closed
    assert pool.counts() == (0, 0)


def test_what_was_in_use_during_a_fork_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child closes its copy, and the parent goes on talking over its own."""
    pool, connection = pool_of(1), Kept(1)
    assert entered(pool.enter(1.0))
    monkeypatch.setattr(os, "getpid", lambda: 1)
    pool.keep(connection)
    pool.leave()
    assert connection.closed
    assert pool.counts() == (0, 0)


def test_a_conversation_that_is_not_over_is_not_renewed() -> None:
    """A connection is ready for another request once both sides are done with the last."""
    http = h11.Connection(h11.CLIENT)
    connection = Connection(None, Origin(False, "x", 1), http)  # type: ignore[arg-type]
    assert connection.renewed() is False
