"""
A sink that keeps records in a bounded queue, and writes them to another one in the background.

Imports the backlog, its drainer, plans and the error tree only.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable
from typing import Any, Final

from pep.audit.backlog import CLOSED, NOTE, Backlog, Overflow, Parcel, parcel_of
from pep.audit.delivery import Delivery, recording
from pep.audit.drainer import Drainer
from pep.audit.record import Record
from pep.clock import SystemClock
from pep.errors import AuditError, ConfigurationError
from pep.forking import after_fork
from pep.plan import Invoke, Plan, Sleep, unwrap
from pep.profile import Guarantee
from pep.protocols import Clock

#: How many notes and records are held at most, unless given.
ENTRIES: Final = 10_000

#: How many bytes are held at most, unless given.
BYTES: Final = 16 * 1024 * 1024

#: How long closing may take, unless given, in seconds.
PATIENCE: Final = 5.0

# The first and the longest pause of who waits for room, in seconds.
_FIRST: Final = 0.001
_LONGEST: Final = 0.02
# How long anybody waits for room who has no deadline, in seconds.
_AT_MOST: Final = 60.0


class BufferedSink:
    """
    Takes records into a bounded queue; a thread of its own writes them to another sink.

    A record of code about to run waits for room until its call's deadline, and is refused then.
    Denials and checks give way to it, if *overflow* says so. What was lost is counted, and told of
    in a ``gap`` record as soon as the other sink takes one. A record it refuses is tried again
    twice; when that fails too, it is lost, and nothing else is tried until a ``gap`` record was
    taken: in an outage one record is lost, and the rest wait.

    The queue is written out by `close`, and when the interpreter ends by itself: after the last
    statement, ``sys.exit`` or an uncaught exception. It is lost where the process is ended from
    outside, or by ``os._exit``. A forked child starts with an empty one.

    Args:
        sink: Where records go; its ``record`` may return nothing, a plan or an awaitable.

        entries: How many records are held at most, 10,000 unless given.

        bytes: How many bytes are held at most, 16 MiB unless given. A note of the hot path is reckoned as 1 KiB,
            any other record as 1 KiB and eight times its JSON.

        overflow: What gives way when it is full: ``"wait"``, nothing; ``"drop-oldest"`` and ``"drop-newest"``,
            the oldest or newest denial or check.

        patience: How long writing out may take when it is closed or the interpreter ends, in seconds.

        linger: How long more records are waited for after the first, in seconds.

        pause: How long to wait when the sink raised, in seconds; twice as long each time.

        clock: What time it is.

    Attributes:
        guarantee: `Guarantee.BUFFERED`; none where the sink itself has none, and is no proof.

    Raises:
        ConfigurationError: On what is no sink, or a number out of range.
    """

    guarantee: Guarantee

    def __init__(
        self,
        sink: Any,  # noqa: ANN401  a sink that leaves records out is no `Sink`, and may be buffered
        *,
        entries: int = ENTRIES,
        bytes: int = BYTES,  # noqa: A002  what it counts
        overflow: Overflow | str = Overflow.WAIT,
        patience: float = PATIENCE,
        linger: float = 0.01,
        pause: float = 0.1,
        clock: Clock | None = None,
    ) -> None:
        _check(entries=(entries, 1), bytes=(bytes, NOTE), patience=(patience, 0), linger=(linger, 0), pause=(pause, 0))
        self.sink = recording(sink)
        if isinstance(getattr(sink, "guarantee", None), Guarantee):
            self.guarantee = Guarantee.BUFFERED
        self._patience, self._closed = patience, False
        time = SystemClock() if clock is None else clock
        self._backlog = Backlog(entries, bytes, _overflow(overflow), time)
        self._delivery = Delivery(sink, time)
        self._drainer = Drainer(self._backlog, self._delivery, linger, pause, time)
        self._exits = _weakly(self._exit)
        atexit.register(self._exits)
        after_fork(self._forked)

    def take(self, note: tuple[Any, ...]) -> None:
        """
        Take a note of the hot path: of code about to run.

        Raises:
            AuditError: When there is no room for it now, or the sink is closed.
        """
        if not self._backlog.push(note):
            self._drainer.hurry()
            message = "there is no room in the audit buffer"
            raise AuditError(message)
        if self._drainer.asleep:
            self._rouse()

    def record(self, record: Record) -> Plan[None] | None:
        """
        Take one record.

        Returns:
            None when there was room for it, or it gave way; else a plan that waits for room until the deadline.

        Raises:
            AuditError: When it is greater than the whole buffer, or the sink is closed.
        """
        parcel = parcel_of(record)
        settled = self._backlog.offer(parcel)
        if self._drainer.asleep:
            self._rouse()
        return None if settled else self._waiting(parcel)

    def close(self) -> None:
        """
        Write what is left, and close the other sink; later records are refused.

        Raises:
            AuditError: When that took longer than it may, or the other sink could not be closed.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._exits)
        self._finish(closing=True)

    async def aclose(self) -> None:
        """Do what `close` does, without keeping the loop from anything else."""
        import asyncio  # noqa: PLC0415  loaded only where there is a loop

        await asyncio.to_thread(self.close)

    def stats(self) -> dict[str, int]:
        """
        Count records, all at one moment.

        Returns:
            ``submitted``, exactly the sum of the next four: ``durable`` (the other sink has it), ``buffered``,
            ``dropped`` (lost), ``rejected`` (its caller was told); and ``errors``, how often the other sink raised.
            What waits for room is not submitted yet. A forked child counts its own.
        """
        return self._backlog.stats()

    def __repr__(self) -> str:
        return f"BufferedSink({self.sink!r})"

    def _waiting(self, parcel: Parcel) -> Plan[None]:
        self._drainer.hurry()
        pause, waited = _FIRST, 0.0
        while not self._backlog.offer(parcel):
            try:
                yield from _pause(pause, waited)
            except TimeoutError as error:
                self._backlog.refuse(parcel)
                message = "there was no room in the audit buffer by the deadline"
                raise AuditError(message) from error
            except BaseException:
                self._backlog.refuse(parcel)
                raise
            pause, waited = min(2 * pause, _LONGEST), waited + pause
        if self._drainer.asleep:
            self._rouse()

    def _rouse(self) -> None:
        self._drainer.wake()
        if self._backlog.closed:
            # INVARIANT: what was added as the last look was taken is refused, whatever becomes of it.
            raise AuditError(CLOSED)

    def _finish(self, *, closing: bool) -> None:
        self._backlog.shut()
        try:
            ended = self._drainer.finish(self._patience, closing=closing)
        except Exception as error:
            message = f"`{type(self.sink).__name__}` could not be closed; its last records may be lost"
            raise AuditError(message) from error
        lost = self.stats()["buffered"] + self._backlog.untold
        if lost or not ended:
            behind = f"look after `{type(self.sink).__name__}`, or raise `patience`"
            message = f"{lost} audit records were not written in {self._patience:g} s; {behind}"
            raise AuditError(message)

    def _exit(self) -> None:
        self._finish(closing=False)

    def _forked(self) -> None:
        self._backlog.clear()
        self._delivery.forget()
        self._drainer.renew()


def _pause(seconds: float, waited: float) -> Plan[None]:
    if waited > _AT_MOST:
        raise TimeoutError
    unwrap((yield Sleep(seconds)))
    # A sleep is only cut short by the deadline; an invocation is refused past it.
    unwrap((yield Invoke(_in_time)))


def _in_time() -> None:
    """Do nothing, unless it is too late for that."""


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls a method as long as its object is there."""
    weak = weakref.WeakMethod(method)
    return lambda: (again := weak()) and again()


def _overflow(value: Overflow | str) -> Overflow:
    try:
        return Overflow(value)
    except ValueError:
        known = ", ".join(f"`{overflow.value}`" for overflow in Overflow)
        message = f"unknown overflow `{value}`; choose from {known}"
        raise ConfigurationError(message) from None


def _check(**numbers: tuple[float, float]) -> None:
    for name, (number, least) in numbers.items():
        if type(number) not in (int, float) or not least <= number < float("inf"):
            message = f"`{name}` is out of range; give a finite number, {least} or more"
            raise ConfigurationError(message)
