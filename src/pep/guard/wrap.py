"""
Wrappers that keep a function's kind, signature, annotations, documentation and globals.

A wrapper is a plain function that returns at once, so that who acts is captured at the call; its
code is flagged as the kind it stands for. It has the guarded function's globals, so that string
annotations resolve without ``__wrapped__``. Imports sites only.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import CodeType, FunctionType, MethodType
from typing import Any, Final

from pep.guard.site import SITE, Site, namespace_of

#: Whether a function's code can be flagged as another kind; before Python 3.11 that wraps it again.
FLAGGABLE: Final = sys.version_info >= (3, 11)

_KINDS: Final = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def wrap(site: Site, begin: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> Any:  # noqa: ANN401  the function's own kind
    """
    Make the wrapper of a site, and enter the site in the enforcer's list.

    Args:
        site: What is guarded.

        begin: Takes a call's positional and keyword arguments; its result is the wrapper's.

    Returns:
        A function of the same kind.
    """
    fn: Any = site.fn

    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  any function
        return begin(args, kwargs)

    flags = fn.__code__.co_flags & _KINDS
    code = wrapper.__code__.replace(co_name=fn.__code__.co_name)
    if flags and FLAGGABLE:
        code = code.replace(co_flags=code.co_flags | flags)
    made: Any = FunctionType(code, namespace_of(fn), fn.__name__, None, wrapper.__closure__)
    functools.update_wrapper(made, fn)
    del made.__wrapped__
    made.__signature__ = site.signature
    setattr(made, SITE, site)
    site.wrapper = _Disguised(made, fn.__code__) if flags and not FLAGGABLE else made
    site.core.sites.append(site)
    return site.wrapper


def rename(made: Any, site: Site) -> Any:  # noqa: ANN401  a coroutine or generator
    """Give a coroutine or generator the name of the function that was called."""
    made.__name__ = getattr(site.fn, "__name__", "guarded")
    made.__qualname__ = site.name
    return made


def partial_of(part: Any, guarded: Any) -> Any:  # noqa: ANN401  a partial of either kind
    """Rebuild a ``partial`` or ``partialmethod`` around a guarded function."""
    made = type(part)(guarded, *part.args, **part.keywords)
    kept = part.__dict__.keys() - made.__dict__.keys() - {"__wrapped__"}
    made.__dict__.update({name: part.__dict__[name] for name in kept})
    return made


class _Disguised:
    """
    A function of a kind that is told by its code alone, where code cannot be flagged.

    Passes for a function with the original code; calling it never runs that code.
    """

    __slots__ = ("__weakref__", "_code", "_made")

    def __init__(self, made: FunctionType, code: CodeType) -> None:
        object.__setattr__(self, "_made", made)
        object.__setattr__(self, "_code", code)

    def __getattribute__(self, name: str) -> Any:  # noqa: ANN401  any attribute of a function
        own = functools.partial(object.__getattribute__, self)
        if name == "__code__":
            return own("_code")
        return own(name) if name == "__reduce_ex__" else getattr(own("_made"), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(object.__getattribute__(self, "_made"), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(object.__getattribute__(self, "_made"), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  any function
        return object.__getattribute__(self, "_made")(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:  # noqa: ANN401  the descriptor protocol
        return self if instance is None else MethodType(self, instance)

    def __reduce_ex__(self, _protocol: object) -> str:
        return str(self.__qualname__)

    def __repr__(self) -> str:
        return repr(object.__getattribute__(self, "_made"))
