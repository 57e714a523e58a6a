"""What is sent later, and by somebody else: a bounded queue with a thread while there is something in it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, final

from pep.locks import Lock
from pep.plan import awaitable, discard


@final
class Outbox:
    """
    Hands what is put in to a callable, in order, on a thread of its own; best-effort.

    Args:
        send: Takes one of them; whatever it raises is counted.

        limit: How many may wait; more are dropped, and counted.

    Attributes:
        sent, failed, dropped: How many were, so far.
    """

    def __init__(self, send: Callable[[Any], Any], limit: int) -> None:
        self._send, self._limit = send, limit
        self._lock = Lock()
        self._waiting: deque[Any] = deque()
        #: The process whose thread is at work; 0 is none.
        self._working = 0
        self._idle = threading.Event()
        self.sent = self.failed = self.dropped = 0

    def put(self, item: Any) -> None:  # noqa: ANN401  whatever is sent
        """Take one, or drop it; never waits for its delivery, never raises."""
        with self._lock:
            if self._working not in {0, os.getpid()}:
                # Forked: what waits is the parent's to send.
                self._waiting.clear()
                self._working = 0
            if len(self._waiting) >= self._limit:
                self.dropped += 1
                return
            self._waiting.append(item)
            self._start()

    def drain(self, seconds: float) -> bool:
        """Wait until everything was sent, for so many seconds at most; tell whether it was."""
        with self._lock:
            idle, working = self._idle, self._working == os.getpid()
        return not working or idle.wait(seconds)

    def _start(self) -> None:
        if self._working:
            return
        self._working, self._idle = os.getpid(), threading.Event()
        try:
            threading.Thread(target=self._work, args=(self._idle,), name="pep-outbox", daemon=True).start()
        except RuntimeError:
            # No room for a thread, or the interpreter is ending.
            self._working = 0
            self.dropped += len(self._waiting)
            self._waiting.clear()

    def _work(self, idle: threading.Event) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._working = 0
                    idle.set()
                    return
                item = self._waiting.popleft()
            self._deliver(item)

    def _deliver(self, item: Any) -> None:  # noqa: ANN401  whatever is sent
        try:
            answer = self._send(item)
            if awaitable(answer):
                discard(answer)
                self.failed += 1
                return
        except Exception:  # noqa: BLE001  best-effort
            self.failed += 1
        else:
            self.sent += 1
