"""
Replies: what user code comes to, as values that cross into plans, and what is done about late ones.

Imports plans and scopes only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any

import attrs

from pep.plan import Plan, Raised, Reply, Returned, Send, Step
from pep.scope import Frame, enter_frame, leave_frame


def within(frame: object, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reply:
    """Call user code in a frame, if one is given; what it raises comes back as a value."""
    token = enter_frame(frame) if isinstance(frame, Frame) else None
    try:
        return Returned(fn(*args, **kwargs))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  user code may raise anything
        return Raised(error)
    finally:
        if token is not None:
            leave_frame(token)


async def settled(value: Awaitable[Any], frame: object) -> Reply:
    """Await user code in a frame, if one is given; what it raises comes back as a value."""
    token = enter_frame(frame) if isinstance(frame, Frame) else None
    try:
        return Returned(await value, suspended=True)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  user code may raise anything
        return Raised(error, suspended=True)
    finally:
        if token is not None:
            leave_frame(token)


def advance(plan: Plan[Any], reply: Any) -> tuple[Reply, Step | None]:  # noqa: ANN401  None starts it
    """Send a plan a reply; return what it ended with, or the step it yields instead."""
    try:
        return Returned(None), plan.send(reply)
    except StopIteration as stop:
        return Returned(stop.value), None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  crosses as a value
        return Raised(error), None


def brought(reply: Reply) -> Reply:
    """
    Take over a reply from another thread: the world went on meanwhile.

    Raises:
        MemoryError: When memory ran out over there.
    """
    if isinstance(reply, Raised) and isinstance(reply.error, MemoryError):
        raise reply.error
    return attrs.evolve(reply, suspended=True)


def close(plan: Generator[Any, Any, Any]) -> None:
    """Close a plan; one that yields or fails while it closes is left as it is."""
    with suppress(Exception):
        plan.close()


def sent(step: Send, timeout: float, awaiting: bool) -> Any:  # noqa: ANN401  a reply, or what has to be awaited
    """Have a transport send a request, in so many seconds."""
    return step.transport.send(step.request, timeout=timeout, awaiting=awaiting)


def late() -> TimeoutError:
    """Return the error of an answer that came too late, or not at all."""
    return TimeoutError("no answer by the deadline")
