"""
What a finaliser may do while the garbage collector is at work. Imports nothing of the library.

Before Python 3.12 the collector runs wherever something is made, also within `ContextVar.set`; a finaliser that sets a
variable of the same context there takes away the ground it stands on, and the interpreter crashes.
"""

from __future__ import annotations

import contextvars
import gc
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar, final

T = TypeVar("T")


@final
class _Collector:
    """Whether the collector is at work, in any thread."""

    __slots__ = ("at_work",)

    def __init__(self) -> None:
        self.at_work = False

    def __call__(self, phase: str, _details: object) -> None:
        self.at_work = phase == "start"


# The one thing of its kind in a process, as the collector is.
COLLECTOR: Final = _Collector()
if sys.version_info < (3, 12):  # pragma: no cover  later ones collect between instructions only
    gc.callbacks.append(COLLECTOR)


def aside(fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:  # noqa: ANN401  any function
    """Call a function that sets context variables: in a context of its own, where the collector may be what calls."""
    if COLLECTOR.at_work:
        return contextvars.copy_context().run(fn, *args, **kwargs)
    return fn(*args, **kwargs)
