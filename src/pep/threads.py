"""
Threads for callables that a deadline must be able to cut short.

Daemon threads, bounded in number, in copied contexts. Imports the error tree and plans only.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from pep.errors import PDPError, PDPOverloaded
from pep.plan import Raised, Reply

#: How many calls may be on threads at once, those that nobody waits for any longer among them.
MAX_THREADS: Final = 64


class Threads:
    """Runs callables on threads of their own; hands what they come to to a callback."""

    def __init__(self, limit: int = MAX_THREADS) -> None:
        # Reentrant, unlike a semaphore: a signal handler may guard calls too.
        self._room = deque([None] * limit)

    def start(self, work: Callable[[], Reply], landed: Callable[[Reply], None]) -> None:
        """
        Run *work* on a thread, in a copy of this context.

        Args:
            work: What to do.

            landed: Called on that thread with the reply; at once, where there is no room for another.
        """
        try:
            self._room.pop()
        except IndexError:
            landed(Raised(PDPOverloaded("too many calls are on threads; lower the load or their deadlines")))
            return
        context = contextvars.copy_context()
        try:
            threading.Thread(target=self._run, args=(context, work, landed), daemon=True).start()
        except BaseException as error:
            self._room.append(None)
            if not isinstance(error, RuntimeError):
                raise
            landed(Raised(PDPOverloaded("the system has no room for another thread")))

    def _run(self, context: contextvars.Context, work: Callable[[], Reply], landed: Callable[[Reply], None]) -> None:
        try:
            reply = context.run(work)
        except Exception as error:  # noqa: BLE001  crosses as a value
            reply = Raised(error)
        except BaseException as error:  # noqa: BLE001  nothing may end a thread without a reply
            reply = Raised(PDPError(f"a thread ended by {type(error).__name__}"))
        finally:
            self._room.append(None)
        landed(reply)
