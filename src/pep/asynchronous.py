"""Whether a callable can only be awaited. Imports nothing of the library."""

from __future__ import annotations

import functools
import inspect


def is_asynchronous(fn: object) -> bool:
    """Tell whether a callable can only be awaited: partials and callable instances are looked into."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    called = getattr(type(fn), "__call__", None)  # noqa: B004  the method itself, for what it is
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(called)
