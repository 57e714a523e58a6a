"""
Group commit: callers that wait together share one write and one sync.

The first to come leads: it commits what all of them brought, wakes them, and hands the lead on. Threads wait;
tasks are led by a thread of their own, so that nothing holds up their loop. Imports plans and the error tree
only; asyncio where a task waits.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from pep.errors import AuditError, PDPReplyError
from pep.forking import after_fork
from pep.plan import Invoke, Plan, Raised, Reply

if TYPE_CHECKING:
    import asyncio


#: For how much of the time a commit takes those who were just woken are waited for, and for how long at most.
SHARE: Final = 0.6
LONGEST: Final = 0.005


def loop_runs() -> bool:
    """Tell whether an event loop runs on this thread."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@final
@attrs.define(eq=False, repr=False)
class _Ticket:
    """
    A record that waits.

    Attributes:
        gate: Shut until there is something to do for the thread that waits.

        future: What a task waits for; None where a thread does.

        settled: Whether its fate is known.

        leads: Whether it was handed the lead.

        error: What went wrong.
    """

    json: bytes
    gate: threading.Lock = attrs.field(factory=threading.Lock)
    future: asyncio.Future[None] | None = None
    settled: bool = False
    leads: bool = False
    error: BaseException | None = None

    def __attrs_post_init__(self) -> None:
        self.gate.acquire()

    def open_gate(self) -> None:
        try:
            self.gate.release()
        except RuntimeError:  # it is open
            return

    def check(self) -> None:
        if self.error is not None:
            raise AuditError(str(self.error)) from self.error


@final
class Group:
    """
    Those who wait for one file.

    Args:
        commit: Has several records written and on disk, or raises.
    """

    def __init__(self, commit: Callable[[Sequence[bytes]], None]) -> None:
        self._commit = commit
        # Thread -> what it waits for.
        self._inside: dict[int, _Ticket] = {}
        self._renew()
        after_fork(self._renew)

    def submit(self, json: bytes) -> None:
        """
        Have one record committed, and wait for it on this thread.

        Raises:
            AuditError: When it was not, or this very thread waits already, under a signal handler or finaliser.
        """
        ticket = _Ticket(json)
        self._await(ticket, self._queue_up)
        ticket.check()

    def boarded(self, json: bytes) -> asyncio.Future[None]:
        """
        Have one record committed.

        Returns:
            What a task waits for, on the running loop; it raises `AuditError` when it was not.
        """
        return self._boarded(_Ticket(json))

    def plan(self, json: bytes) -> Plan[None]:
        """
        Have one record committed, and wait for it in whichever world performs the plan.

        Raises:
            AuditError: When it was not.
        """
        ticket = _Ticket(json)
        reply: Reply = yield Invoke(self._boarded, (ticket,))
        if type(reply) is Raised and isinstance(reply.error, PDPReplyError):
            # A synchronous call on a loop's own thread awaits nothing: it waits right here.
            reply = yield Invoke(self._await, (ticket, lambda _ticket: None))
            ticket.check()
        if type(reply) is Raised:
            raise reply.error

    def _renew(self) -> None:
        """Start with nothing; in a forked child, those who wait wait in vain, and are told so."""
        for ticket in list(self._inside.values()):
            ticket.error, ticket.settled = AuditError("the process was forked meanwhile"), True
            ticket.open_gate()
        self._lock = threading.RLock()
        self._queue: deque[_Ticket] = deque()
        self._led = False
        self._inside = {}
        # How many are likely to come, for how many seconds they are waited for, and what is opened when all are there.
        self._expected, self._patience = 0, 0.0
        self._quorum: threading.Lock | None = None

    def _await(self, ticket: _Ticket, queue_up: Callable[[_Ticket], None]) -> None:
        """Wait for a ticket on this thread, and lead when it is its turn."""
        me, inside = threading.get_ident(), self._inside
        if me in inside:
            # INVARIANT: a thread that is to lead never waits for itself.
            message = "this very thread is writing a record already; guard no calls in signal handlers and finalisers"
            raise AuditError(message)
        try:
            inside[me] = ticket
            queue_up(ticket)
            ticket.gate.acquire()
            if ticket.leads:
                self._lead()
        except BaseException:
            self._leave(ticket)
            raise
        finally:
            inside.pop(me, None)

    def _boarded(self, ticket: _Ticket) -> asyncio.Future[None]:
        """Queue a ticket, and return what a task waits for."""
        import asyncio  # noqa: PLC0415  loaded only where there is a loop

        ticket.future = future = asyncio.get_running_loop().create_future()
        with self._lock:
            led, self._led = self._led, True
            self._joined(ticket)
            if not led:
                self._lead_on_thread()
        return future

    def _queue_up(self, ticket: _Ticket) -> None:
        """Queue a thread's ticket; where nobody leads, it does."""
        with self._lock:
            led, self._led = self._led, True
            self._joined(ticket)
            if not led:
                ticket.leads = True
                ticket.open_gate()

    def _joined(self, ticket: _Ticket) -> None:
        self._queue.append(ticket)
        if self._quorum is not None and len(self._queue) >= self._expected:
            self._quorum.release()
            self._quorum = None

    def _leave(self, ticket: _Ticket) -> None:
        """Wait no longer, and leave nobody without a lead."""
        with self._lock:
            if ticket in self._queue:
                self._queue.remove(ticket)
            if ticket.leads:
                self._hand_on()

    def _lead(self) -> None:
        try:
            self._commit_all()
        finally:
            self._hand_on()

    def _hand_on(self) -> None:
        with self._lock:
            heir = next((ticket for ticket in self._queue if ticket.future is None), None)
            if heir is not None:
                heir.leads = True
                heir.open_gate()
            elif self._queue:
                self._lead_on_thread()
            else:
                self._led = False

    def _lead_on_thread(self) -> None:
        try:
            threading.Thread(target=self._lead_all, name="pep-audit", daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            batch: list[_Ticket] = []
            with self._lock:
                self._take(batch)
                self._led = False
            _settle(batch, error)

    def _lead_all(self) -> None:
        """Lead until nobody waits."""
        while True:
            with self._lock:
                if not self._queue:
                    self._led = False
                    return
            with suppress(BaseException):  # those who wait were told
                self._commit_all()

    def _linger(self) -> None:
        """Give those who were just woken a moment to come back: a fuller batch is worth more than an early one."""
        with self._lock:
            if len(self._queue) >= self._expected:
                return
            quorum = self._quorum = threading.Lock()
            quorum.acquire()
        quorum.acquire(timeout=self._patience)

    def _take(self, batch: list[_Ticket]) -> None:
        # In this order: an interruption in between leaves nobody out, though it may write a record twice.
        batch.extend(self._queue)
        self._queue.clear()
        self._quorum = None

    def _commit_all(self) -> None:
        """Commit what was brought, and tell whoever waits."""
        batch: list[_Ticket] = []
        try:
            self._linger()
            with self._lock:
                self._take(batch)
            start = time.perf_counter()
            error = self._tried([ticket.json for ticket in batch])
            self._patience = min(LONGEST, (time.perf_counter() - start) * SHARE)
            self._expected = len(batch) + len(self._queue)
            _settle(batch, error)
        except BaseException:
            # INVARIANT: whoever leads, and however that ends, those of its batch are told.
            _settle(batch, AuditError("the thread that wrote the record was interrupted"))
            raise

    def _tried(self, jsons: Sequence[bytes]) -> AuditError | None:
        try:
            if jsons:
                self._commit(jsons)
        except AuditError as error:
            return error
        return None


def _settle(batch: Sequence[_Ticket], error: BaseException | None) -> None:
    """Tell those who wait; tasks of one loop together."""
    loops: dict[asyncio.AbstractEventLoop, list[_Ticket]] = {}
    for ticket in batch:
        if not ticket.settled:
            ticket.error, ticket.settled = error, True
        if ticket.future is not None:
            loops.setdefault(ticket.future.get_loop(), []).append(ticket)
        ticket.open_gate()
    for loop, tickets in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, tickets)
        except RuntimeError:  # the loop was closed meanwhile: nobody waits
            continue


def _resolve(tickets: Sequence[_Ticket]) -> None:
    for ticket in tickets:
        future = ticket.future
        if future is not None and not future.done():
            if ticket.error is None:
                future.set_result(None)
            else:
                future.set_exception(AuditError(str(ticket.error)))
