"""
Guarded construction: a class that is only instantiated with a permit.

The class stays the same class; subclasses inherit the guard. Imports sites and wrappers.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any, Final

from pep.core import Core
from pep.errors import ConfigurationError
from pep.guard.calls import guard_function
from pep.guard.site import Options, Site, make_site, own_site, site_of
from pep.guard.subclasses import watch_subclasses

# Under which a `__new__` of ours says that it is one.
_WATCH: Final = "__pep_watch__"


def guard_class(core: Core, cls: Any, options: Options) -> Any:  # noqa: ANN401  any class
    """
    Guard the construction of a class, in place.

    Subclasses inherit the guard; one whose own ``__init__`` has no guard is refused.

    Raises:
        ConfigurationError: When construction runs code that a guard on ``__init__`` does not cover.
    """
    name = cls.__qualname__
    made = cls.__new__ is object.__new__ or hasattr(cls.__new__, _WATCH)
    if not made or type(cls).__call__ is not type.__call__:
        message = f"`{name}` is made by a `__new__` or metaclass, which would run unguarded; guard a factory function"
        raise ConfigurationError(message)
    if cls.__init__ is object.__init__:
        cls.__init__ = _empty(cls)
    init = vars(cls).get("__init__")
    if not isinstance(init, FunctionType):
        message = f"`{name}` has no `__init__` of its own; define one, or guard a factory function"
        raise ConfigurationError(message)
    if site_of(init) is not None:
        message = f"the construction of `{name}` is guarded already; guard it once"
        raise ConfigurationError(message)
    site = make_site(core, init, options)
    cls.__init__ = guard_function(site)
    cls.__new__ = _watch_instances(site)
    watch_subclasses(cls, _check_subclass)
    return cls


def _empty(cls: type) -> Any:  # noqa: ANN401  a function
    def __init__(self: object) -> None:  # noqa: N807  it becomes one
        pass

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    __init__.__module__ = cls.__module__
    return __init__


def _watch_instances(site: Site) -> Any:  # noqa: ANN401  a static method
    def __new__(cls: type[Any], *_args: object, **_kwargs: object) -> Any:  # noqa: ANN401, N807  it becomes one
        # A decorator, such as `dataclass`, gives a subclass its `__init__` after it was looked at.
        if own_site(cls.__init__) is None:
            raise TypeError(_overridden(cls))
        return object.__new__(cls)

    __new__.__signature__ = site.signature  # type: ignore[attr-defined]
    setattr(__new__, _WATCH, True)
    return staticmethod(__new__)


def _check_subclass(sub: Any) -> None:  # noqa: ANN401  any class
    news = [base.__new__ for base in sub.__mro__ if base is not object and "__new__" in vars(base)]
    if own_site(sub.__init__) is None or not all(hasattr(new, _WATCH) for new in news):
        raise ConfigurationError(_overridden(sub))


def _overridden(cls: type) -> str:
    return (
        f"`{cls.__qualname__}` replaces the guarded construction it inherits; put a guard on its own "
        "`def __init__`, and leave `__new__` alone"
    )
