"""The two drivers: the same answers in both worlds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from pep.clock import SystemClock
from pep.transport.waits import Exchange, Landed, Ready, Wait, _wake, aperform, perform
from tests.transport.asking import NEVER, SOON, WORLDS

worlds = pytest.mark.parametrize("world", WORLDS)


def once(wait: Wait) -> Exchange[bool]:
    return (yield wait)


def driven(exchange: Exchange[Any], world: str) -> Any:
    if world == "sync":
        return perform(exchange, SystemClock())
    return asyncio.run(aperform(exchange, SystemClock()))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        yield one, two


def after(seconds: float) -> float:
    return SystemClock().monotonic() + seconds


@worlds
def test_a_socket_is_waited_for(world: str, pair: tuple[socket.socket, socket.socket]) -> None:
    """What can be read or written comes about; what cannot is too late, also where no time is left at all."""
    one, two = pair
    assert driven(once(Ready(one, True, after(SOON))), world) is True
    assert driven(once(Ready(one, False, after(NEVER))), world) is False
    two.send(b"x")
    assert driven(once(Ready(one, False, after(SOON))), world) is True
    assert driven(once(Ready(one, False, after(-1))), world) is False


@worlds
def test_a_future_is_waited_for(world: str) -> None:
    """One that landed comes about, with a value or an error; one that does not is too late."""
    landed, failed, pending = Future[None](), Future[None](), Future[None]()
    landed.set_result(None)
    failed.set_exception(LookupError())
    found = [driven(once(Landed(future, after(0.05))), world) for future in (landed, failed, pending)]
    assert found == [True, True, False]
    # Nobody waits any longer, and the loop is closed.
    pending.set_result(None)


@worlds
def test_the_longest_deadline_is_taken(world: str, pair: tuple[socket.socket, socket.socket]) -> None:
    """No system call overflows, whatever the deadline."""
    assert driven(once(Ready(pair[0], True, float("inf"))), world) is True


@worlds
def test_an_error_of_the_exchange_is_the_drivers(world: str) -> None:
    """What an exchange raises comes out, and it is closed whatever happens."""
    ended = []

    def failing() -> Exchange[None]:
        try:
            yield Landed(Future(), after(-1))
            raise LookupError
        finally:
            ended.append(True)

    with pytest.raises(LookupError):
        driven(failing(), world)
    assert ended == [True]


def test_whoever_was_woken_is_not_woken_again() -> None:
    """A future may land just when its time is over: the first of both counts."""

    async def main() -> bool:
        woken = asyncio.get_running_loop().create_future()
        _wake(woken, False)
        _wake(woken, True)
        return bool(await woken)

    assert asyncio.run(main()) is False


class Proactor(asyncio.SelectorEventLoop):
    """A loop that cannot watch sockets, as that of Windows."""

    def add_reader(self, *args: Any) -> Any:
        if isinstance(args[0], int) and getattr(self, "ready", False):
            raise NotImplementedError
        return super().add_reader(*args)


def test_a_loop_that_cannot_watch_sockets_waits_on_a_thread(pair: tuple[socket.socket, socket.socket]) -> None:
    """There is an answer on every loop."""
    one, two = pair
    two.send(b"x")
    loop = Proactor()
    loop.ready = True  # type: ignore[attr-defined]
    try:
        assert loop.run_until_complete(aperform(once(Ready(one, False, after(SOON))), SystemClock())) is True
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
