"""
Any callable as a policy decision point.

Imports L0 and L1 only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from pep.errors import ConfigurationError
from pep.extract import is_asynchronous
from pep.frozen import fields_repr
from pep.model import AccessRequest, Decision
from pep.plan import Plan


@attrs.frozen(eq=False, init=False, repr=False)
class FunctionPDP:
    """
    A function, coroutine function or plan of one access request as a policy decision point.

    Args:
        fn: Takes an `AccessRequest`; answers a `Decision`, or exactly ``True`` or ``False``.

        name: Its identity, in records and cache keys.

        pure: Whether its answers depend on the request alone; they are cached by default then.

        threaded: Whether to call it on a thread of its own, so that a deadline can cut it short.

    Raises:
        ConfigurationError: When *fn* cannot be called, is a class, or is both threaded and asynchronous.
    """

    fn: Callable[[AccessRequest], Any]
    name: str
    pure: bool
    threaded: bool
    #: Whether it can only be awaited.

    __repr__ = fields_repr
    asynchronous: bool

    def __init__(
        self, fn: Callable[[AccessRequest], Any], *, name: str | None = None, pure: bool = False, threaded: bool = False
    ) -> None:
        given: object = fn
        shown = getattr(given, "__name__", type(given).__name__)
        if isinstance(given, type) or not callable(given):
            message = f"`{shown}` is no function of an access request"
            raise ConfigurationError(message)
        asynchronous = is_asynchronous(given)
        if threaded and asynchronous:
            message = f"`{shown}` can only be awaited; drop `threaded`"
            raise ConfigurationError(message)
        called = str(name or getattr(given, "__qualname__", type(given).__name__))
        self.__attrs_init__(given, called, pure, threaded, asynchronous)  # pyright: ignore[reportAttributeAccessIssue]

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        """Return whatever the function answers."""
        return self.fn(request)  # type: ignore[no-any-return]
