"""
Delivery: handing records to a sink of any sort on a thread of one's own, whoever drives plans elsewhere.

A sink may answer with a plan or an awaitable. Both are brought to their end here, by the few steps
that a sink has use for; no driver is needed, nor any caller's deadline known. Imports plans, replies
and the record only; asyncio where it is used.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Final

from pep.audit.record import Record, record_of
from pep.errors import AuditError, ConfigurationError
from pep.plan import (
    Dispatch,
    Gather,
    Invoke,
    Launch,
    Plan,
    Raised,
    Remaining,
    Reply,
    Returned,
    Send,
    Sleep,
    Step,
    Wait,
    Write,
)
from pep.protocols import Clock

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

if TYPE_CHECKING:
    import asyncio

#: How long a request of a sink may take that states no deadline, in seconds.
PATIENCE: Final = 30.0


class Delivery:
    """
    Hands records to one sink, always on one thread at a time.

    Args:
        sink: The sink: its ``record`` returns nothing, a plan or an awaitable.

        clock: What deadlines of its steps are read by.
    """

    def __init__(self, sink: Any, clock: Clock) -> None:  # noqa: ANN401  some sinks have more than the protocol
        self._sink, self._clock = sink, clock
        self._take: Callable[[Any], None] | None = getattr(sink, "take", None)
        self._loop: asyncio.AbstractEventLoop | None = None

    def note(self, note: tuple[Any, ...]) -> None:
        """Hand over a note of the hot path; see `record`."""
        if self._take is not None:
            self._take(note)
        else:
            self.record(record_of(note))

    def record(self, record: Record) -> None:
        """
        Hand over a record; return once the sink's guarantee holds.

        Raises:
            Exception: Whatever the sink raised.
        """
        answer = self._ended(self._sink.record(record))
        if answer is not None:
            message = f"`{type(self._sink).__name__}.record` must return None once the record is taken"
            raise AuditError(message)

    def close(self) -> None:
        """
        Close the sink, where it can be, and what was needed to await it.

        Raises:
            Exception: Whatever the sink raised.
        """
        try:
            end = getattr(self._sink, "close", None) or getattr(self._sink, "aclose", None)
            if end is not None:
                self._ended(end())
        finally:
            self.leave()

    def leave(self) -> None:
        """Close what was needed to await the sink."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def forget(self) -> None:
        """Leave what awaits to the parent, in a forked child."""
        self._loop = None

    def _ended(self, answer: Any) -> Any:  # noqa: ANN401  a plan, an awaitable or the plain value
        if type(answer) is GeneratorType:
            return self._run(answer)
        return self._awaited(answer) if inspect.isawaitable(answer) else answer

    def _awaited(self, answer: Any) -> Any:  # noqa: ANN401  any awaitable
        if self._loop is None:
            import asyncio  # noqa: PLC0415  loaded only where a sink is awaited

            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(_awaiting(answer))

    def _run(self, plan: Plan[Any]) -> Any:  # noqa: ANN401  whatever the plan returns
        reply: Any = None
        while True:
            try:
                step = plan.send(reply)
            except StopIteration as stop:
                return stop.value
            reply = self._perform(step)

    def _perform(self, step: Step) -> Reply:
        match step:
            case Invoke():
                return self._invoke(step.fn, step.args, step.deadline)
            case Write():
                return self._invoke(step.sink.record, (step.record,), step.deadline)
            case Dispatch():
                return self._invoke(partial(step.fn, **step.kwargs), step.args, None)
            case Sleep():
                time.sleep(step.seconds)
                return Returned(None, suspended=True)
            case Gather():
                return self._one_by_one(step)
            case Send():
                sending = partial(step.transport.send, timeout=self._left(step.deadline), awaiting=False)
                return _outcome(sending, step.request)
            case Remaining():
                return Returned(self._left(step.deadline))
            case Launch() | Wait():
                return Raised(AuditError("a sink's plan cannot share a decision with other callers"))
            case _:
                assert_never(step)

    def _one_by_one(self, step: Gather) -> Reply:
        replies: list[Reply] = []
        for plan in step.plans:
            over = step.first and any(type(one) is Returned and type(one.value) is not Raised for one in replies)
            late = Raised(TimeoutError("no answer by the deadline"))
            replies.append(late if over else _outcome(self._run, plan))
        return Returned(tuple(replies), suspended=True)

    def _left(self, deadline: float | None) -> float:
        return PATIENCE if deadline is None else max(0.0, deadline - self._clock.monotonic())

    def _invoke(self, fn: Callable[..., Any], args: tuple[Any, ...], deadline: float | None) -> Reply:
        if deadline is not None and self._clock.monotonic() > deadline:
            return Raised(TimeoutError("no answer by the deadline"))
        reply = _outcome(fn, *args)
        if isinstance(reply, Returned) and inspect.isawaitable(reply.value):
            return _outcome(self._awaited, reply.value)
        return reply


def recording(sink: Any) -> Any:  # noqa: ANN401  some sinks have more than the protocol, or no guarantee
    """
    Take what records can be handed to.

    Raises:
        ConfigurationError: When it has no ``record``, or is the class of one.
    """
    if isinstance(sink, type) or not callable(getattr(sink, "record", None)):
        shown = sink.__name__ if isinstance(sink, type) else type(sink).__name__
        message = f"`{shown}` is no audit sink; it needs `record(record)`"
        raise ConfigurationError(message)
    return sink


def _outcome(fn: Callable[..., Any], *args: Any) -> Reply:  # noqa: ANN401  whatever it takes
    try:
        return Returned(fn(*args))
    except Exception as error:  # noqa: BLE001  user code may raise anything
        return Raised(error)


async def _awaiting(answer: Any) -> Any:  # noqa: ANN401  any awaitable
    return await answer
