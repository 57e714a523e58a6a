"""A sink that hands each record to a callable. Imports L1 only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from types import GeneratorType
from typing import Any

from pep.audit.record import Record
from pep.errors import AuditError, ConfigurationError
from pep.extract import is_asynchronous
from pep.profile import Guarantee


class CallableSink:
    """
    Hands each record to a callable, as a dict of JSON values that is the callable's own.

    What it raises refuses the call, as with any sink. It bounds no time by itself: a callable that
    hangs needs a timeout of its own.

    Args:
        fn: Takes the dict and returns nothing; a function, a coroutine function, or one that returns a plan.

        guarantee: What holds once it has returned. Only you can know, so there is no default.

    Raises:
        ConfigurationError: When *fn* cannot be called, or *guarantee* is none.
    """

    def __init__(self, fn: Callable[[dict[str, Any]], Any], *, guarantee: Guarantee) -> None:
        # What a user hands over may be anything.
        given: object = fn
        stated: object = guarantee
        if not callable(given) or isinstance(given, type):
            message = "a callable sink needs a function of the record's dict"
            raise ConfigurationError(message)
        if type(stated) is not Guarantee:
            message = "`guarantee` must be a `Guarantee`; state what holds once the callable has returned"
            raise ConfigurationError(message)
        self.guarantee = guarantee
        #: Whether it can only be awaited.
        self.asynchronous = is_asynchronous(fn)
        self._fn = fn
        self._closed = False

    def record(self, record: Record) -> Any:  # noqa: ANN401  None, an awaitable or a plan
        """
        Hand over one record.

        Returns:
            None; or what has to be awaited or run, where the callable returned that.

        Raises:
            AuditError: When the callable returned something else, or the sink is closed.
        """
        if self._closed:
            message = "the audit sink is closed"
            raise AuditError(message)
        answer = self._fn(record.to_dict())
        if isawaitable(answer):
            return _nothing_from(answer)
        return answer if isinstance(answer, GeneratorType) else _nothing(answer)

    def close(self) -> None:
        """Refuse later records."""
        self._closed = True

    def __repr__(self) -> str:
        return f"CallableSink({getattr(self._fn, '__qualname__', type(self._fn).__name__)}, guarantee={self.guarantee})"


async def _nothing_from(answer: Awaitable[Any]) -> None:
    _nothing(await answer)


def _nothing(answer: object) -> None:
    if answer is not None:
        message = (
            f"the callable of an audit sink must return None once the record is taken, not `{type(answer).__name__}`"
        )
        raise AuditError(message)
