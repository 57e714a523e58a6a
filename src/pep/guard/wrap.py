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

from pep.audit.noting import OWED
from pep.guard import source
from pep.guard.closures import NOTHING
from pep.guard.hot import UNPLUGGED
from pep.guard.lookup import Kind, Lookup, plain_id
from pep.guard.site import SITE, Site, namespace_of
from pep.guard.source import PREFIX, compilable
from pep.model import Resource
from pep.plan import Raised
from pep.scope import hot_frame
from pep.sources import PLAIN

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

    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  any function
        return begin(args, kwargs)

    return wrap_as(site, wrapper)


def wrap_as(site: Site, wrapper: Callable[..., Any]) -> Any:  # noqa: ANN401  the function's own kind
    """Make the wrapper of a site of a function that takes anything, and whose names are all cells; see `wrap`."""
    fn: Any = site.fn
    flags = fn.__code__.co_flags & _KINDS
    code = wrapper.__code__.replace(co_name=fn.__code__.co_name)
    if flags and FLAGGABLE:
        code = code.replace(co_flags=code.co_flags | flags)
    return _finished(site, FunctionType(code, namespace_of(fn), fn.__name__, None, wrapper.__closure__))


def compiled(
    site: Site,
    lookup: Lookup,
    slow: Callable[..., Any],
    again: Callable[..., Any],
    **more: Any,  # noqa: ANN401  our names
) -> Any:  # noqa: ANN401  the function's own kind
    """
    Make the wrapper of a site with its hot path written out; None where that cannot be, or is not wanted.

    Args:
        site: What is guarded.

        lookup: Where the hot path finds its resource.

        slow: Takes a call's positional and keyword arguments, its frame and what the extractor gave: the plan.

        again: The same, where a recorded permit was revoked already.

        more: Our other names, without their prefix → what they stand for.
    """
    if not site.core.compiled or not compilable(site.fn, site.signature):
        return None
    cells = _cells(site, lookup) | {"slow": slow, "again": again} | more
    name = f"{site.fn.__module__}.{site.name}"
    made, rebind = source.made(
        site.fn, site.signature, lookup, {f"{PREFIX}{cell}": cells[cell] for cell in cells}, name
    )
    site.socket.rebind = rebind
    flags = site.fn.__code__.co_flags & _KINDS
    return _finished(site, _flagged(made, flags) if flags and FLAGGABLE else made)


def _flagged(made: FunctionType, flags: int) -> FunctionType:
    """Return a function with its code flagged as another kind; the code of a function may not change its kind."""
    code = made.__code__.replace(co_flags=made.__code__.co_flags | flags)
    flagged = FunctionType(code, made.__globals__, made.__name__, made.__defaults__, made.__closure__)
    flagged.__kwdefaults__ = made.__kwdefaults__
    return flagged


def _cells(site: Site, lookup: Lookup) -> dict[str, Any]:
    constant = lookup.source.value if lookup.kind is Kind.CONSTANT else None

    def names(made: Any) -> None:  # noqa: ANN401  a coroutine function
        made.__name__, made.__qualname__ = site.fn.__name__, site.name

    return {
        "BaseException": BaseException,
        "Raised": Raised,
        "Resource": Resource,
        "constant": constant,
        "current": hot_frame,
        "extract": getattr(lookup.source, "fn", None),
        "fn": site.fn,
        "id": plain_id,
        "names": names,
        "nothing": NOTHING,
        "owed": OWED,
        "plain": PLAIN,
        "str": str,
        "type": type,
        "unplugged": UNPLUGGED,
    }


def _finished(site: Site, made: Any) -> Any:  # noqa: ANN401  the function's own kind
    functools.update_wrapper(made, site.fn)
    del made.__wrapped__
    made.__signature__ = site.signature
    setattr(made, SITE, site)
    disguised = bool(site.fn.__code__.co_flags & _KINDS) and not FLAGGABLE
    site.wrapper = _Disguised(made, site.fn.__code__) if disguised else made
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
