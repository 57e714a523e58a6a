"""
An awaitable that notices when nobody awaits it.

Imports what a finaliser may do only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

from pep.collecting import aside

T = TypeVar("T")


class Asked(Coroutine[Any, Any, T]):
    """
    A question that is asked once it is awaited; dropped before that, it warns and says so.

    Args:
        name: What to call it in the warning.

        start: Makes the coroutine that asks.

        dropped: Called when it is dropped un-awaited.
    """

    __slots__ = ("__name__", "__qualname__", "_dropped", "_inner", "_start")

    def __init__(self, name: str, start: Callable[[], Coroutine[Any, Any, T]], dropped: Callable[[], None]) -> None:
        self.__name__ = self.__qualname__ = name
        self._start = start
        self._dropped = dropped
        self._inner: Coroutine[Any, Any, T] | None = None

    def send(self, value: Any) -> Any:  # noqa: ANN401  the coroutine protocol
        """Go on; the first step asks."""
        return self._begun().send(value)

    def throw(
        self,
        kind: Any,  # noqa: ANN401  the coroutine protocol
        value: Any = None,  # noqa: ANN401  the coroutine protocol
        traceback: TracebackType | None = None,
    ) -> Any:  # noqa: ANN401  the coroutine protocol
        """Raise inside."""
        if value is None and traceback is None:
            return self._begun().throw(kind)
        return self._begun().throw(kind, value, traceback)

    def close(self) -> None:
        """End it; unasked, it counts as dropped on purpose."""
        self._begun().close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._begun().__await__()

    def _begun(self) -> Coroutine[Any, Any, T]:
        if self._inner is None:
            self._inner = self._start()
        return self._inner

    def __del__(self) -> None:
        if getattr(self, "_inner", self) is not None:
            return
        try:
            aside(self._dropped)
        finally:
            warnings.warn(f"`{self.__name__}` was never awaited: nothing was decided", RuntimeWarning, stacklevel=2)
