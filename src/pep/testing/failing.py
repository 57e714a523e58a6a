"""Decision points and sinks that fail in a chosen way. Imports the layers below only."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from pep.audit.record import Record
from pep.errors import ConfigurationError
from pep.model import AccessRequest
from pep.profile import Guarantee
from pep.testing.clock import FakeClock

_NOTHING: Final = object()


class FailingPDP:
    """
    A decision point that fails in a chosen way.

    Args:
        raises: The exception it raises, or the class of it.

        answers: What it answers instead; anything at all.

        hangs: How long it takes to, in seconds on *clock*.

        clock: The clock that its hanging moves.

        suspends: Whether it can only be awaited, and lets the loop go on before it fails.

        times: How often it fails before it answers *then*; without it, for ever.

        then: What it answers when it has failed often enough.

        pure: Whether its answers may be cached by default.

    Attributes:
        asked: Every request it was asked about, in order.

    Raises:
        ConfigurationError: When it is told to hang without a clock, or to fail in no way.
    """

    name = "failing"

    def __init__(
        self,
        *,
        raises: BaseException | type[BaseException] | None = None,
        answers: object = _NOTHING,
        hangs: float = 0.0,
        clock: FakeClock | None = None,
        suspends: bool = False,
        times: int | None = None,
        then: object = True,
        pure: bool = False,
    ) -> None:
        if raises is None and answers is _NOTHING and not hangs:
            message = "say how it fails: `raises=`, `answers=` or `hangs=`"
            raise ConfigurationError(message)
        if hangs and clock is None:
            message = "what hangs needs the clock it moves; pass `clock=`, the enforcer's own"
            raise ConfigurationError(message)
        self._raises = raises
        self._answers = then if answers is _NOTHING else answers
        self._hangs, self._clock = hangs, clock
        self._times, self._then = times, then
        self.pure = pure
        #: Whether it can only be awaited.
        self.asynchronous = suspends
        self.asked: list[AccessRequest] = []

    def decide(self, request: AccessRequest) -> Any:  # noqa: ANN401  anything at all
        """Fail."""
        self.asked.append(request)
        if self._times is not None and len(self.asked) > self._times:
            return _soon(self._then) if self.asynchronous else self._then
        return self._suspended() if self.asynchronous else self._failed()

    def _failed(self) -> Any:  # noqa: ANN401  anything at all
        if self._clock is not None:
            self._clock.advance(self._hangs)
        if self._raises is not None:
            raise self._raises
        return self._answers

    async def _suspended(self) -> Any:  # noqa: ANN401  anything at all
        await asyncio.sleep(0)
        return self._failed()


async def _soon(value: object) -> object:
    await asyncio.sleep(0)
    return value


class FailingSink:
    """
    A sink in memory that fails at a chosen record.

    Args:
        at: Which record it fails at, counted from 1; None never.

        once: Whether it takes the next one again; otherwise it fails for ever.

        raises: What it raises; an `OSError` unless given.

        guarantee: The guarantee it declares; the strongest unless given.

    Attributes:
        records: Every record it took, in order.

        refused: Every record it failed at.

    Raises:
        ConfigurationError: When *at* is below one.
    """

    def __init__(
        self,
        at: int | None = 1,
        *,
        once: bool = False,
        raises: BaseException | None = None,
        guarantee: Guarantee = Guarantee.DURABLE,
    ) -> None:
        if at is not None and at < 1:
            message = f"records are counted from 1, there is none `{at}`"
            raise ConfigurationError(message)
        self._at, self._once = at, once
        self._error = OSError("no space left on device") if raises is None else raises
        self.guarantee = guarantee
        self.records: list[Record] = []
        self.refused: list[Record] = []

    def record(self, record: Record) -> None:
        """Take one record, or fail at it."""
        number = len(self.records) + len(self.refused) + 1
        if self._at is not None and (number == self._at or (number > self._at and not self._once)):
            self.refused.append(record)
            raise self._error
        self.records.append(record)

    def __repr__(self) -> str:
        return f"<FailingSink of {len(self.records)} records, {len(self.refused)} refused>"
