"""
The kinds of function, as they matter to a guard.

Imports the error tree only.
"""

from __future__ import annotations

import dis
import inspect
import sys
from enum import Enum
from typing import Any

from pep.errors import ConfigurationError


class Shape(Enum):
    """The kinds of function; each has a guard of its own."""

    FUNCTION = "function"
    COROUTINE = "coroutine function"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "asynchronous generator"


def shape_of(fn: Any) -> Shape:  # noqa: ANN401  any function
    """
    Tell which kind of function one is.

    Raises:
        ConfigurationError: On a generator-based coroutine.
    """
    if inspect.isasyncgenfunction(fn):
        return Shape.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(fn) or _marked_coroutine(fn):
        return Shape.COROUTINE
    if not inspect.isgeneratorfunction(fn):
        return Shape.FUNCTION
    if fn.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE:
        message = f"`{fn.__qualname__}` is a generator-based coroutine; make it `async def`"
        raise ConfigurationError(message)
    return Shape.GENERATOR


def _marked_coroutine(fn: object) -> bool:
    # How a plain function says that it returns a coroutine, before `inspect.markcoroutinefunction`.
    marker = getattr(sys.modules.get("asyncio.coroutines"), "_is_coroutine", None)
    return marker is not None and getattr(fn, "_is_coroutine", None) is marker


def returns_nothing(fn: Any) -> bool:  # noqa: ANN401  any generator function
    """Tell whether a generator function never returns a value; False where that cannot be seen."""
    before: Any = None
    for instruction in dis.get_instructions(fn):
        if instruction.opname == "RETURN_CONST" and instruction.argval is not None:
            return False
        if instruction.opname == "RETURN_VALUE" and not _nothing(before):
            return False
        before = instruction
    return True


def _nothing(instruction: Any) -> bool:  # noqa: ANN401  an instruction, or none
    return instruction is not None and instruction.opname == "LOAD_CONST" and instruction.argval is None
