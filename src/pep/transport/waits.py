"""
What an exchange waits for, and the two drivers that wait: all of the transport that exists twice.

An exchange is a generator that does its own non-blocking I/O. It yields what it has to wait for, and is sent whether
that came about in time. Imports clocks only; asyncio where it is used.
"""

from __future__ import annotations

import concurrent.futures
import selectors
import socket
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

from pep.protocols import Clock

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

#: The longest time anything waits at once, in seconds: what every system's call can take.
LONGEST: Final = 1e6

# The selector that takes no descriptor of its own, and any number of them, where there is one.
_SELECTOR: Final[type[selectors.BaseSelector]] = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Ready(NamedTuple):
    """
    Wait until a socket can be read or written.

    Args:
        sock: The socket.

        writing: Which of the two.

        until: When it is too late, on the monotonic clock, in seconds.
    """

    sock: socket.socket
    writing: bool
    until: float


class Landed(NamedTuple):
    """Wait until somebody lands a future, by a moment on the monotonic clock."""

    future: concurrent.futures.Future[Any]
    until: float


Wait: TypeAlias = "Ready | Landed"
#: An exchange: sent True where what it waits for came about, False where it was too late.
Exchange: TypeAlias = Generator[Wait, bool, T]


def perform(exchange: Exchange[T], clock: Clock) -> T:
    """Run an exchange to its end on this thread; see `aperform` for the other world."""
    try:
        wait = next(exchange)
        while True:
            left = wait.until - clock.monotonic()
            wait = exchange.send(left > 0 and _waited(wait, min(left, LONGEST)))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        exchange.close()


async def aperform(exchange: Exchange[T], clock: Clock) -> T:
    """Run an exchange to its end in this task; see `perform` for the other world."""
    try:
        wait = next(exchange)
        while True:
            left = wait.until - clock.monotonic()
            wait = exchange.send(left > 0 and await _awaited(wait, min(left, LONGEST)))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        exchange.close()


def ready(sock: socket.socket, writing: bool, seconds: float) -> bool:
    """Tell whether a socket can be read or written within so many seconds."""
    with _SELECTOR() as selector:
        selector.register(sock, selectors.EVENT_WRITE if writing else selectors.EVENT_READ)
        return bool(selector.select(seconds))


def _waited(wait: Wait, left: float) -> bool:
    if isinstance(wait, Ready):
        return ready(wait.sock, wait.writing, left)
    try:
        wait.future.exception(left)
    except concurrent.futures.TimeoutError:
        return False
    return True


async def _awaited(wait: Wait, left: float) -> bool:
    import asyncio  # noqa: PLC0415  loaded only where there is a loop

    loop = asyncio.get_running_loop()
    woken: asyncio.Future[bool] = loop.create_future()
    forget = _watched(loop, wait, woken)
    if forget is None:
        return await loop.run_in_executor(None, _waited, wait, left)
    timer = loop.call_later(left, _wake, woken, False)  # noqa: FBT003  a positional callback's argument
    try:
        return await woken
    finally:
        timer.cancel()
        forget()


def _watched(loop: asyncio.AbstractEventLoop, wait: Wait, woken: asyncio.Future[bool]) -> Callable[[], object] | None:
    """Have a future woken; return what ends that, or None where the loop cannot watch sockets."""
    if isinstance(wait, Landed):
        wait.future.add_done_callback(lambda _future: _wake_from_afar(loop, woken))
        return _nothing
    number = wait.sock.fileno()
    add, remove = (loop.add_writer, loop.remove_writer) if wait.writing else (loop.add_reader, loop.remove_reader)
    try:
        add(number, _wake, woken, True)  # noqa: FBT003  the same
    except NotImplementedError:  # Windows' Proactor
        return None
    return lambda: remove(number)


def _wake(woken: asyncio.Future[bool], in_time: bool) -> None:
    if not woken.done():
        woken.set_result(in_time)


def _wake_from_afar(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[bool]) -> None:
    try:
        loop.call_soon_threadsafe(_wake, woken, True)  # noqa: FBT003  the same
    except RuntimeError:  # the loop was closed meanwhile: nobody waits
        return


def _nothing() -> None:
    """Leave a future alone: whoever lands it wakes nobody, once nobody waits."""
