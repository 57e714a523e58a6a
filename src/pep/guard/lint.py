"""
What stands around a guard in the source: decorators that would undo it.

Reads the lines of the decorators only; where there is no source, or it is not clear which of them is
the guard, it says nothing. Imports sites and the error tree.
"""

from __future__ import annotations

import ast
import linecache
import re
import sys
import warnings
from collections.abc import Sequence
from types import CodeType, FrameType, FunctionType
from typing import Final, NamedTuple

from pep.errors import ConfigurationError, GuardWarning
from pep.guard.site import own_site

#: Last names of decorators that keep what a function returned.
CACHING: Final = frozenset({
    "alru_cache", "cache", "cache_on_arguments", "cached", "cached_property", "cachedmethod", "lru_cache",
    "memoize", "memoized", "ttl_cache",
})  # fmt: skip

#: Last names of methods that hand a function to a framework.
REGISTERING: Final = frozenset({
    "after_request", "api_route", "before_request", "callback", "command", "delete", "errorhandler",
    "exception_handler", "get", "head", "listens_for", "on_event", "options", "patch", "periodic_task", "post",
    "prompt", "put", "register", "resource", "route", "scheduled_job", "subscriber", "task", "teardown_request",
    "tool", "trace", "websocket", "websocket_route",
})  # fmt: skip

_DEF: Final = r"\s*(async\s+def|def)\b"

#: How many lines of decorators are read.
_LONGEST: Final = 200

# Opcodes of Python 3.10, and the argument of a call with one argument.
_CALL: Final = bytes([131, 1])
_MAKE: Final = 132


class _Header(NamedTuple):
    """
    The decorators of one function.

    Args:
        decorators: As written, topmost first.

        first: The line of the topmost.

        last: The line of the ``def``.
    """

    decorators: Sequence[ast.expr]
    first: int
    last: int


def look_around(fn: FunctionType) -> None:
    """
    Look at the decorators written around the guard that is being put on a function.

    Args:
        fn: What the guard was given.

    Raises:
        ConfigurationError: When one below the guard has handed the raw function to a framework.

    Warns:
        GuardWarning: When one above it caches what the guard let through.
    """
    raw, wrappers = _unwrapped(fn)
    header = _header(raw.__code__)
    if header is None:
        return
    frame = _decorating(raw.__code__, header)
    here = None if frame is None else _position(frame, header)
    if frame is None or here is None:
        return
    _refuse_registered(fn, header.decorators[here + 1 :], wrappers)
    _warn_of_caches(fn, header.decorators[:here], frame)


def _refuse_registered(fn: FunctionType, below: Sequence[ast.expr], wrappers: int) -> None:
    named = [_callee(one) for one in below]
    found = [one for one in named if isinstance(one, ast.Attribute) and one.attr in REGISTERING]
    # Where a decorator may be what wrapped the function, it may not have handed on the raw one.
    if not found or wrappers > len(named) - len(found):
        return
    written = ast.unparse(found[0])
    message = (
        f"`@{written}` below the guard registers the unguarded `{fn.__qualname__}`; "
        f"put the guard directly above the `def`, below `@{written}`"
    )
    raise ConfigurationError(message)


def _warn_of_caches(fn: FunctionType, above: Sequence[ast.expr], frame: FrameType) -> None:
    for one in above:
        callee = _callee(one)
        name = callee.attr if isinstance(callee, ast.Attribute) else getattr(callee, "id", None)
        if name in CACHING:
            written = ast.unparse(callee)
            message = (
                f"`@{written}` above the guard of `{fn.__qualname__}` serves the revoked what they were "
                f"permitted before; put the guard above `@{written}`, or drop the cache"
            )
            registry = frame.f_globals.setdefault("__warningregistry__", {})
            file = frame.f_code.co_filename
            warnings.warn_explicit(message, GuardWarning, file, one.lineno, module=fn.__module__, registry=registry)


def _unwrapped(fn: FunctionType) -> tuple[FunctionType, int]:
    """Return the function as written, and how many wrappers were around it."""
    wrappers = 0
    while isinstance(inner := _inner(fn), FunctionType) and wrappers < _LONGEST:
        fn, wrappers = inner, wrappers + 1
    return fn, wrappers


def _inner(fn: FunctionType) -> object:
    site = own_site(fn)
    return vars(fn).get("__wrapped__") if site is None else site.fn


def _header(code: CodeType) -> _Header | None:
    """Read the decorators of a function; None where there are fewer than two, or no source."""
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :][:_LONGEST]
    length = next((index for index, line in enumerate(lines) if re.match(_DEF, line)), 0)
    written = lines[:length]
    if sum(line.lstrip().startswith("@") for line in written) < 2:  # noqa: PLR2004  the guard and another
        return None
    indent = written[0][: len(written[0]) - len(written[0].lstrip())]
    text = "".join([f"{'if 1:' if indent else ''}\n", *written, f"{indent}def _(): pass\n"])
    try:
        (node,) = (one for one in ast.walk(ast.parse(text)) if isinstance(one, ast.FunctionDef))
    except (SyntaxError, ValueError):
        return None
    ast.increment_lineno(node, code.co_firstlineno - 2)
    return _Header(node.decorator_list, code.co_firstlineno, code.co_firstlineno + length)


def _decorating(code: CodeType, header: _Header) -> FrameType | None:
    """Find the frame that is putting decorators on a function."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  the way to ask who called
    while frame is not None:
        if frame.f_code.co_filename == code.co_filename and header.first <= frame.f_lineno <= header.last:
            return frame
        frame = frame.f_back
    return None


def _position(frame: FrameType, header: _Header) -> int | None:
    """Return which decorator a frame is calling, topmost first."""
    count = len(header.decorators)
    counted = sys.version_info < (3, 11)
    return counted_at(frame.f_code.co_code, frame.f_lasti, count) if counted else _written_at(frame.f_lineno, header)


def counted_at(code: bytes, at: int, count: int) -> int | None:
    """
    Tell which decorator is called by what was called before it; Python 3.10 tells a frame's line no nearer.

    Args:
        code: The byte code of the frame.

        at: The offset of the call, in bytes.

        count: How many decorators there are.

    Returns:
        Its index, topmost first; None where it is not a decorator that is called.
    """
    start = at
    while code[start - 2 : start] == _CALL:
        start -= 2
    called = code[at : at + 2] == _CALL and start > 0 and code[start - 2] == _MAKE
    return count - 1 - (at - start) // 2 if called else None


def _written_at(line: int, header: _Header) -> int | None:
    spans = [(one.lineno, one.end_lineno or one.lineno) for one in header.decorators]
    return next((index for index, (first, last) in enumerate(spans) if first <= line <= last), None)


def _callee(one: ast.expr) -> ast.expr:
    return one.func if isinstance(one, ast.Call) else one
