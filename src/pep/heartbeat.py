"""
A heartbeat: asks a decision point whether it is up, before a caller has to find out.

One daemon thread, restarted in a forked child. Imports the drivers and what is below them; asyncio where it is used.
"""

from __future__ import annotations

import atexit
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

from pep.clock import SystemClock
from pep.compose.parts import awaited_part, checked_part, has, part_name
from pep.drive import APerformer, Performer, arun, run
from pep.errors import ConfigurationError
from pep.fault import Fault, fault_of
from pep.forking import after_fork
from pep.locks import Lock
from pep.plan import Plan, call
from pep.profile_checks import seconds
from pep.protocols import Clock

#: How often a decision point is asked, and how long it may take to answer, in seconds.
EVERY: Final = 5.0
TIMEOUT: Final = 1.0

#: Waits for so many seconds; tells whether it is to stop.
Waiting = Callable[[float], bool]


class Heartbeat:
    """
    Probes a decision point again and again, on a thread of its own.

    What comes of it is told by `health`, and counted by the circuit breaker of a `ResilientPDP`. The thread begins
    with `start`, ends with `close`, with its last reference and with the interpreter, and is there again in a forked
    child.

    Args:
        pdp: The decision point; it needs `probe`.

        every: How long to wait between two probes, in seconds.

        timeout: How long one may take, in seconds. What blocks without steps of its own cannot be cut short: it is
            late all the same.

        clock: What time it is.

        wait: Waits in place of the thread, for tests; None waits for real.

    Raises:
        ConfigurationError: When it is no decision point, cannot be probed, or a time is none.
    """

    def __init__(
        self,
        pdp: object,
        *,
        every: float = EVERY,
        timeout: float = TIMEOUT,
        clock: Clock | None = None,
        wait: Waiting | None = None,
    ) -> None:
        self._pdp = checked_part(pdp)
        if not has(self._pdp, "probe"):
            message = f"`{part_name(pdp)}` cannot be probed; bring a decision point with `probe`"
            raise ConfigurationError(message)
        self._every, self._timeout = seconds(every, "every"), seconds(timeout, "timeout")
        self._clock = clock or SystemClock()
        self._wait = wait
        self._awaited = awaited_part([self._pdp])
        self._lock = Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._at_exit = partial(_exiting, weakref.ref(self))
        self._begun: float | None = None
        self._fault: Fault | None = None
        self._beats = self._failed = 0
        self._ended = False
        after_fork(self._forked)

    def start(self) -> None:
        """Start the thread, unless it runs; a closed heartbeat stays closed."""
        with self._lock:
            if self._thread is None and not self._ended and not sys.is_finalizing():
                atexit.register(self._at_exit)
                self._begin(0.0)

    def beat(self) -> bool:
        """Probe once, on this thread; tell whether the decision point is up."""
        self._begun = self._clock.monotonic()
        fault: Fault | None = Fault.INTERNAL
        try:
            self._probe(self._begun + self._timeout)
            fault = None
        except Exception as error:  # noqa: BLE001  a probe may raise anything
            fault = fault_of(error)
        finally:
            self._beats += 1
            self._failed += fault is not None
            self._fault = fault
        return fault is None

    def health(self) -> Mapping[str, Any]:
        """
        Tell what the probes came to.

        Returns:
            ``state``: ``up``, ``down``, ``overdue`` where one should long have ended, ``unknown`` before the first,
            or ``closed``; ``beats`` and ``failed``, how many there were and how many of them failed; ``fault``, that
            of the last one, or None; ``age``, how long ago the last one began, in seconds, or None.
        """
        age = None if self._begun is None else self._clock.monotonic() - self._begun
        return {
            "state": self._state(age),
            "beats": self._beats,
            "failed": self._failed,
            "fault": None if self._fault is None else self._fault.value,
            "age": age,
        }

    def close(self) -> None:
        """End the thread, and wait for the probe that is under way, as long as one may take."""
        with self._lock:
            self._ended = True
            thread, self._thread = self._thread, None
            self._stop.set()
        atexit.unregister(self._at_exit)
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._timeout)

    def _state(self, age: float | None) -> str:
        if self._ended:
            return "closed"
        if self._thread is not None and age is not None and age > self._every + 2 * self._timeout:
            return "overdue"
        if not self._beats:
            return "unknown"
        return "up" if self._fault is None else "down"

    def _probe(self, deadline: float) -> None:
        threaded = getattr(self._pdp, "threaded", False) is True
        plan: Plan[None] = call(self._pdp.probe, deadline=deadline, threaded=threaded)  # type: ignore[attr-defined]
        if not self._awaited:
            run(plan, Performer(self._clock))
            return
        import asyncio  # noqa: PLC0415  loaded only where there is something to await

        asyncio.run(arun(plan, APerformer(self._clock)))

    def _begin(self, pause: float) -> None:
        """Start a thread that keeps nobody alive, and that probes after so many seconds."""
        # INVARIANT: a heartbeat that nobody has any more ends its thread.
        mine = weakref.ref(self, partial(_dropped, self._stop, self._at_exit))
        wait = self._wait or self._stop.wait
        args = mine, wait, pause, self._every
        thread = threading.Thread(target=_beating, args=args, name="pep-heartbeat", daemon=True)
        thread.start()
        self._thread = thread

    def _forked(self) -> None:
        """Go on in a forked child: the thread stayed in the parent."""
        running, self._thread = self._thread is not None, None
        self._stop = threading.Event()
        self._begun, self._fault, self._beats, self._failed = None, None, 0, 0
        if running:
            with suppress(RuntimeError):  # the system has no room for another thread
                # It waits before it asks: what else is renewed in the child is renewed by then.
                self._begin(self._every)


def _beating(mine: weakref.ref[Heartbeat], wait: Waiting, pause: float, every: float) -> None:
    """Beat until told to stop, or nobody is there; the body of the thread."""
    while not wait(pause) and not sys.is_finalizing():
        heartbeat = mine()
        if heartbeat is None:
            return
        # It is counted; and no probe ends the thread.
        with suppress(BaseException):
            heartbeat.beat()
        # Kept by nobody but its owner while this waits.
        del heartbeat
        pause = every


def _dropped(stop: threading.Event, at_exit: Callable[[], None], _gone: object) -> None:
    stop.set()
    atexit.unregister(at_exit)


def _exiting(mine: weakref.ref[Heartbeat]) -> None:
    heartbeat = mine()
    if heartbeat is not None:
        heartbeat.close()
