"""A sink that hands each record to several. Imports plans, protocols and the error tree only."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from types import GeneratorType
from typing import Any

from pep.audit.delivery import recording
from pep.audit.record import Record
from pep.errors import AuditError, ConfigurationError, PartlyRecordedError
from pep.extract import is_asynchronous
from pep.locks import Lock
from pep.plan import Plan, Raised, Reply, attempt
from pep.profile import Guarantee


class FanOut:
    """
    Hands each record to several sinks, one after the other in the order given.

    Args:
        required: Sinks that must all take a record, or the call is refused.

        best_effort: Sinks that are handed what every required one has taken. One that fails is counted, and
            changes nothing. A slow one uses up the call's time: put it into a `BufferedSink`.

    Attributes:
        guarantee: The strongest that a required sink gives: the record survives what that one survives.

        take: Takes a note of the hot path; there only where every sink has one.

    Raises:
        ConfigurationError: When no sink is required, or a required one states no guarantee.
    """

    guarantee: Guarantee
    take: Callable[[tuple[Any, ...]], None]

    def __init__(self, required: Iterable[Any], best_effort: Iterable[Any] = ()) -> None:
        musts, mays = tuple(required), tuple(map(recording, best_effort))
        if not musts:
            message = "no sink is required, so that nothing would be proof; name at least one in `required`"
            raise ConfigurationError(message)
        self.guarantee = max([_guarantee(sink) for sink in musts])
        self._sinks, self._required = (*musts, *mays), len(musts)
        #: Whether a required sink can only be awaited.
        self.asynchronous = any(getattr(sink, "asynchronous", False) or is_asynchronous(sink.record) for sink in musts)
        self._missed = [0] * len(self._sinks)
        self._lock = Lock()
        if all(hasattr(sink, "take") for sink in self._sinks):
            self._takes = [sink.take for sink in self._sinks]
            self.take = self._take

    def record(self, record: Record) -> Plan[None] | None:
        """
        Hand one record to every sink.

        Returns:
            None when all of them answered at once; else a plan for the rest.

        Raises:
            PartlyRecordedError: When a required sink failed after another one had taken the record.
            Exception: What the first of the required sinks raised.
        """
        for at, sink in enumerate(self._sinks):
            try:
                answer = sink.record(record)
            except Exception as error:  # noqa: BLE001  a user's sink may raise anything
                self._fail(at, error)
            else:
                if answer is not None:
                    return self._planned(at, answer, record)
        return None

    def close(self) -> Plan[None] | None:
        """
        Close every sink that can be.

        Returns:
            None when all were closed at once; else a plan for the rest.

        Raises:
            AuditError: When some could not be closed; the others are.
        """
        errors: list[tuple[Any, Exception]] = []
        for at, sink in enumerate(self._sinks):
            try:
                answer = _end(sink, "close", "aclose")()
            except Exception as error:  # noqa: BLE001  a user's sink may raise anything
                errors.append((sink, error))
            else:
                if answer is not None:
                    return self._closing(at, answer, errors)
        _raise(errors)
        return None

    async def aclose(self) -> None:
        """Close every sink that can be, in this task; see `close`."""
        errors: list[tuple[Any, Exception]] = []
        for sink in self._sinks:
            try:
                answer = _end(sink, "aclose", "close")()
                if inspect.isawaitable(answer):
                    await answer
                elif type(answer) is GeneratorType:
                    answer.close()
                    message = "closing takes a plan; close the enforcer instead, or give the sink an `aclose`"
                    errors.append((sink, AuditError(message)))
            except Exception as error:  # noqa: BLE001  a user's sink may raise anything
                errors.append((sink, error))
        _raise(errors)

    def stats(self) -> dict[str, int]:
        """
        Count what sinks failed to take.

        Returns:
            ``refused``, by required sinks; ``missed``, by best-effort ones; and for each sink ``Type[place].missed``
            with whatever it counts itself.
        """
        counts = {"refused": sum(self._missed[: self._required]), "missed": sum(self._missed[self._required :])}
        for at, sink in enumerate(self._sinks):
            name = f"{type(sink).__name__}[{at}]"
            counts[f"{name}.missed"] = self._missed[at]
            own: dict[str, int] = sink.stats() if hasattr(sink, "stats") else {}
            counts.update({f"{name}.{what}": count for what, count in own.items()})
        return counts

    def __repr__(self) -> str:
        required, best_effort = self._sinks[: self._required], self._sinks[self._required :]
        return f"FanOut(required={list(required)!r}, best_effort={list(best_effort)!r})"

    def _take(self, note: tuple[Any, ...]) -> None:
        for at, take in enumerate(self._takes):
            try:
                take(note)
            except Exception as error:  # noqa: BLE001  a user's sink may raise anything
                self._fail(at, error)

    def _planned(self, at: int, answer: Any, record: Record) -> Plan[None]:  # noqa: ANN401  a plan or an awaitable
        self._judge(at, (yield from attempt(lambda: answer)))
        for later in range(at + 1, len(self._sinks)):
            self._judge(later, (yield from attempt(self._sinks[later].record, record)))

    def _judge(self, at: int, reply: Reply) -> None:
        if isinstance(reply, Raised):
            self._fail(at, reply.error)
        elif reply.value is not None:
            kind, answer = type(self._sinks[at]).__name__, type(reply.value).__name__
            message = f"`{kind}.record` must return None once the record is taken, not `{answer}`"
            self._fail(at, AuditError(message))

    def _fail(self, at: int, error: Exception) -> None:
        with self._lock:
            self._missed[at] += 1
        if at >= self._required:
            return
        if at == 0:
            raise error
        # INVARIANT: those before it have taken the record, since they are asked in order.
        message = f"`{type(self._sinks[at]).__name__}` did not take a record that {at} required sinks took before it"
        raise PartlyRecordedError(message, at) from error

    def _closing(self, at: int, answer: Any, errors: list[tuple[Any, Exception]]) -> Plan[None]:  # noqa: ANN401  see `_planned`
        reply = yield from attempt(lambda: answer)
        if isinstance(reply, Raised):
            errors.append((self._sinks[at], reply.error))
        for sink in self._sinks[at + 1 :]:
            reply = yield from attempt(_end(sink, "close", "aclose"))
            if isinstance(reply, Raised):
                errors.append((sink, reply.error))
        _raise(errors)


def _guarantee(sink: Any) -> Guarantee:  # noqa: ANN401  anything may be given
    guarantee = getattr(recording(sink), "guarantee", None)
    if isinstance(guarantee, Guarantee):
        return guarantee
    message = f"`{type(sink).__name__}` states no guarantee, so it is no proof; put it in `best_effort`"
    raise ConfigurationError(message)


def _end(sink: Any, *names: str) -> Callable[[], Any]:  # noqa: ANN401  some sinks have more than the protocol
    return next((end for name in names if callable(end := getattr(sink, name, None))), _nothing)


def _nothing() -> None:
    """Close what needs no closing."""


def _raise(errors: list[tuple[Any, Exception]]) -> None:
    if errors:
        names = ", ".join(f"`{type(sink).__name__}`" for sink, _ in errors)
        message = f"{names} could not be closed; their last records may be lost"
        raise AuditError(message) from errors[0][1]
