"""Values that a careless test for truth takes for a permit. Imports nothing of the library."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any


class Lookalike:
    """An object that is true, has every attribute, and answers every call with itself, as a mock does."""

    def __getattr__(self, name: str) -> Lookalike:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_args: object, **_kwargs: object) -> Lookalike:
        """Answer any call with itself."""
        return self

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return "<Lookalike>"


class Agreeable:
    """An object that claims to equal everything."""

    def __eq__(self, _other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "<Agreeable>"


def unawaited() -> Coroutine[Any, Any, bool]:
    """Return a coroutine of ``True``, as a function does whose caller forgot to await it."""
    return _true()


async def _true() -> bool:
    return True
