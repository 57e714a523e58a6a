"""
`guard`: every kind of callable is guarded properly, or refused with the mend.

Imports the other guards.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, NoReturn, TypeVar

from pep.core import Core
from pep.errors import ConfigurationError
from pep.guard.calls import guard_coroutine, guard_function
from pep.guard.exempt import exemption_of
from pep.guard.generators import guard_async_generator, guard_generator
from pep.guard.shape import Shape
from pep.guard.site import Options, Site, action_of, extend_site, make_site, site_of
from pep.guard.wrap import partial_of

F = TypeVar("F", bound=Callable[..., Any])

_GUARDS: Final[Mapping[Shape, Callable[[Site], Any]]] = {
    Shape.FUNCTION: guard_function,
    Shape.COROUTINE: guard_coroutine,
    Shape.GENERATOR: guard_generator,
    Shape.ASYNC_GENERATOR: guard_async_generator,
}

_CACHED: Final = type(functools.lru_cache(lambda: None))


def decorate(core: Core, options: Options) -> Callable[[F], F]:
    """
    Make the decorator of one guard.

    Args:
        core: The enforcer's core.

        options: What was written into the guard.

    Returns:
        A decorator, typed as identity.

    Raises:
        ConfigurationError: On an action that is none.
    """
    action_of(options.action)
    return lambda target: guard_any(core, target, options)


def guard_any(core: Core, target: Any, options: Options) -> Any:  # noqa: ANN401  any kind of callable
    """
    Guard a callable or descriptor, and return one of the same kind.

    Raises:
        ConfigurationError: Where that cannot be done properly.
    """
    if isinstance(target, (staticmethod, classmethod)):
        return type(target)(guard_any(core, target.__func__, options))
    if isinstance(target, property):
        return _guard_property(core, target, options)
    if isinstance(target, (functools.partial, functools.partialmethod)) and not isinstance(target.func, type):
        return partial_of(target, guard_any(core, target.func, options))
    if isinstance(target, MethodType) and not isinstance(target.__func__, type):
        return MethodType(guard_any(core, target.__func__, options), target.__self__)
    if isinstance(target, _CACHED):
        return _guard_function(core, _calling(target), options)
    if isinstance(target, type):
        from pep.guard.construction import guard_class  # noqa: PLC0415  only who guards a class pays for it

        return guard_class(core, target, options)
    if isinstance(target, FunctionType):
        return _guard_function(core, target, options)
    return _refuse(target)


def _guard_function(core: Core, fn: Any, options: Options) -> Any:  # noqa: ANN401  the function's own kind
    if exemption_of(fn) is not None:
        message = f"`{fn.__qualname__}` is exempt; drop `exempt`, or the guard"
        raise ConfigurationError(message)
    from pep.guard.lint import look_around  # noqa: PLC0415  it is for decoration

    look_around(fn)
    known = site_of(fn)
    if known is None or known.entry != "guard":
        site = make_site(core, fn, options)
        return _GUARDS[site.shape](site)
    if known.wrapper is not fn:
        message = f"another decorator stands between two guards of `{known.name}`; put the guards next to each other"
        raise ConfigurationError(message)
    site = extend_site(known, core, options)
    made = _GUARDS[site.shape](site)
    # The guard underneath stays as it is for whoever holds it, but the enforcer has one site of them.
    core.sites[:] = [one for one in core.sites if one is not known]
    return made


def _calling(cached: Any) -> Any:  # noqa: ANN401  a function
    """Make a function of a cache, which then lies below the guard."""

    @functools.wraps(cached)
    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  whatever was cached
        return cached(*args, **kwargs)

    for name in ("cache_info", "cache_clear", "cache_parameters"):
        setattr(call, name, getattr(cached, name))
    return call


def _guard_property(core: Core, target: property, options: Options) -> property:
    accessors = (target.fget, target.fset, target.fdel)
    if sum(accessor is not None for accessor in accessors) != 1:
        message = (
            "a property with several accessors is guarded one by one; put the guard directly above each `def`, "
            "below `@property`, `@name.setter` and `@name.deleter`"
        )
        raise ConfigurationError(message)
    get, put, delete = (None if one is None else guard_any(core, one, options) for one in accessors)
    made = type(target)(get, put, delete)
    if made.__doc__ != target.__doc__:
        made.__doc__ = target.__doc__
    return made


def _refuse(target: object) -> NoReturn:
    kind = type(target).__name__
    if isinstance(target, functools.cached_property):
        mend = "a cached property would serve the revoked; use `property` above the guard"
    elif isinstance(target, functools.singledispatchmethod):
        mend = "guard the method that calls it, or each implementation"
    elif isinstance(target, BuiltinFunctionType):
        mend = "wrap it in a `def` and guard that"
    elif isinstance(target, (functools.partial, functools.partialmethod, MethodType)):
        mend = "guard the class it makes, or a factory function"
    elif callable(target):
        mend = "put the guard on the function it was made from, below what made it, or on its class's `__call__`"
    else:
        mend = "guard a function, a method, a property or a class"
    message = f"a `{kind}` cannot be guarded; {mend}"
    raise ConfigurationError(message)
