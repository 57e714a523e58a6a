"""
What every conformance suite rests on: the verdict, hostile ids, and a call in each world.

Imports the drivers and what is below them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.extract import is_asynchronous
from pep.plan import Reply, attempt

#: Ids that have broken a line, a terminal, a path or a comparison.
HOSTILE: Final = (
    "\x00",
    "\r\n{}\n",
    "\u2028",
    "\x1b[31m",
    "\u202e",
    '"',
    "\\",
    "../..",
    "é",
    "e\u0301",
    " a",
    "x" * 999,
)

#: How long a step may take, in seconds.
PATIENCE: Final = 10.0


class NotConforming(AssertionError):  # noqa: N818  reads as a verdict
    """A rule of the protocol did not hold."""


def hold(holds: bool, rule: str) -> None:
    """Raise `NotConforming` unless a rule holds."""
    if not holds:
        message = f"does not conform: {rule}"
        raise NotConforming(message)


def worlds(part: object, method: Callable[..., Any], *args: Any) -> list[Reply]:  # noqa: ANN401  whatever it takes
    """Call an extension point in every world it serves."""
    clock = SystemClock()
    deadline = clock.monotonic() + PATIENCE
    reply = asyncio.run(arun(attempt(method, *args, deadline=deadline), APerformer(clock)))
    if awaited(part, method):
        return [reply]
    return [run(attempt(method, *args, deadline=deadline), Performer(clock)), reply]


def awaited(part: object, method: Callable[..., Any]) -> bool:
    """Tell whether an extension point can only be awaited."""
    return getattr(part, "asynchronous", False) is True or is_asynchronous(method)
