"""
Sites: what a guard knows of the function it guards.

Imports the core and what is below it.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, Final, NamedTuple

import attrs

from pep.core import Core
from pep.errors import AccessDenied, ConfigurationError
from pep.extract import (
    Constant,
    Guarded,
    Requirement,
    ResourceId,
    context_source,
    marked_source,
    resource_source,
    subject_source,
)
from pep.guard.shape import Shape, shape_of
from pep.model import Action, application

#: The attribute under which a guarded function carries its site.
SITE: Final = "__pep_site__"

_MARKERS: Final = ("ResourceId", "Guarded")


class Options(NamedTuple):
    """What was written into one guard."""

    action: object
    resource: object = None
    subject: object = None
    context: object = None
    on_denied: Callable[[AccessDenied], Any] | None = None


@attrs.define(eq=False, repr=False)
class Site:
    """
    One guarded function.

    Args:
        core: The enforcer's core.

        fn: The function itself; never handed out.

        needs: What every guard on it demands, decided together.

        signature: What it takes.

        shape: Which kind of function it is.

        on_denied: Gives another result for its own denial.

        entry: Which kind of guard it is, as records call it.

        wrapper: What stands in the function's place.
    """

    core: Core
    fn: Callable[..., Any] = attrs.field(repr=False)
    needs: tuple[Requirement, ...]
    signature: inspect.Signature
    shape: Shape
    on_denied: Callable[[AccessDenied], Any] | None = None
    entry: str = "guard"
    wrapper: Any = attrs.field(default=None, repr=False)
    #: Where its hot path is plugged in, if it has one.
    socket: Any = attrs.field(default=None, repr=False, init=False)
    _repeatable: frozenset[str] = attrs.field(init=False, repr=False)
    #: The parameters, where each can be given by position and by name.
    _names: tuple[str, ...] | None = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # Names that `**kwargs` may repeat; before Python 3.13, `Signature.bind` does not know.
        parameters = self.signature.parameters.values()
        rest = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        positional = (parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_ONLY)
        self._repeatable = frozenset(positional if rest else ())
        plain = all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)
        self._names = tuple(self.signature.parameters) if plain else None

    @property
    def asynchronous(self) -> bool:
        """Whether its calls can wait for what can only be awaited."""
        return self.shape in {Shape.COROUTINE, Shape.ASYNC_GENERATOR}

    @property
    def name(self) -> str:
        """The function's qualified name."""
        return str(getattr(self.fn, "__qualname__", type(self.fn).__name__))

    @property
    def filename(self) -> str:
        """The file the function was written in."""
        code = getattr(inspect.unwrap(self.fn), "__code__", None)
        return "?" if code is None else str(code.co_filename)

    @property
    def lineno(self) -> int:
        """The line the function starts at."""
        code = getattr(inspect.unwrap(self.fn), "__code__", None)
        return 0 if code is None else int(code.co_firstlineno)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """
        Bind a call's arguments, defaults applied.

        Raises:
            TypeError: When the function does not take them.
        """
        if (whole := self._whole(args, kwargs)) is not None:
            return inspect.BoundArguments(self.signature, whole)
        repeated = self._repeatable.intersection(kwargs)
        given = {name: kwargs[name] for name in kwargs if name not in repeated} if repeated else kwargs
        try:
            bound = self.signature.bind(*args, **given)
        except TypeError as error:
            message = f"{self.name}() {error}"
            raise TypeError(message) from None
        bound.apply_defaults()
        if repeated:
            *_, rest = self.signature.parameters
            bound.arguments[rest] |= {name: kwargs[name] for name in repeated}
        return bound

    def _whole(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Bind a call that gives every parameter, without the signature's rules; None where they are needed."""
        names = self._names
        if names is None or len(args) + len(kwargs) != len(names):
            return None
        whole = dict(zip(names, args, strict=False))
        for name in names[len(args) :]:
            if name not in kwargs:
                return None
            whole[name] = kwargs[name]
        return whole

    def check(self) -> None:
        """
        Check the site against the enforcer's wiring, as far as there is one.

        Raises:
            ConfigurationError: On a synchronous function over what can only be awaited, and after `freeze()`.
        """
        sources = [source for need in self.needs for source in need.sources]
        problem = self.core.check_site(self)
        if not self.asynchronous and any(source.asynchronous for source in sources):
            problem = f"`{self.name}` is synchronous, but an extractor can only be awaited; make it `async def`"
        if self.core.frozen:
            problem = f"enforcer `{self.core.name}` is frozen; guard before `freeze()`"
        if problem is not None:
            raise ConfigurationError(problem)


def site_of(fn: object) -> Site | None:
    """Return the site of a guarded function, or of one that another decorator says it wraps."""
    found = getattr(fn, "__dict__", {}).get(SITE)
    return found if isinstance(found, Site) else None


def own_site(fn: object) -> Site | None:
    """Return the site of a guarded function itself: `functools.wraps` copies a site without its guard."""
    site = site_of(fn)
    return site if site is not None and site.wrapper is fn else None


def make_site(core: Core, fn: Callable[..., Any], options: Options) -> Site:
    """
    Check a guard against the function it is put on.

    Raises:
        ConfigurationError: Where the two do not fit, naming the mend.
    """
    if options.on_denied is not None and getattr(fn, "__name__", None) == "__init__":
        message = "construction cannot give another result; drop `on_denied`, or guard a factory function"
        raise ConfigurationError(message)
    signature = signature_of(fn)
    need = requirement(core, fn, signature, options)
    site = Site(core, fn, (need,), signature, shape_of(fn), options.on_denied)
    site.check()
    return site


def extend_site(site: Site, core: Core, options: Options) -> Site:
    """
    Stack another guard on a guarded function: one enforcement of both.

    Raises:
        ConfigurationError: When the other guard is another enforcer's, or both say what happens on denial.
    """
    if site.core is not core:
        message = f"`{site.name}` is guarded by enforcer `{site.core.name}` already; guard it by one"
        raise ConfigurationError(message)
    if site.on_denied is not None and options.on_denied is not None:
        message = f"two guards on `{site.name}` take `on_denied`; keep one"
        raise ConfigurationError(message)
    more = requirement(core, site.fn, site.signature, options)
    extended = attrs.evolve(site, needs=(more, *site.needs), on_denied=site.on_denied or options.on_denied)
    extended.check()
    return extended


def requirement(core: Core, fn: Callable[..., Any], signature: inspect.Signature, options: Options) -> Requirement:
    """
    Turn a guard's options into what it demands.

    Raises:
        ConfigurationError: On an action that is none, or a part that does not fit the signature.
    """
    act = action_of(options.action)
    resource = _resource(core, fn, signature, options.resource)
    subject = None if options.subject is None else subject_source(options.subject, signature, core.registries)
    context = None if options.context is None else context_source(options.context, signature)
    source = resource or Constant(application(core.name), "application")
    return Requirement(act, source, subject, context, application_level=resource is None)


def action_of(value: object) -> Action:
    """
    Take an action as it is written into a guard.

    Raises:
        ConfigurationError: When it is empty, no exact ``str``, or looks like a pattern or template.
    """
    if type(value) is Action:
        return value
    if type(value) is not str or not value:
        shown = "an empty `str`" if value == "" else f"`{type(value).__name__}`"
        message = f"an action must be a non-empty `str` or an `Action`, not {shown}; name what is done, such as `read`"
        raise ConfigurationError(message)
    if any(char in value for char in "*{}"):
        message = (
            f"action `{value}` looks like a pattern or a template; a guard names one action, such as `document:read`"
        )
        raise ConfigurationError(message)
    return Action(value)


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """
    Read what a function takes.

    Raises:
        ConfigurationError: When that cannot be read.
    """
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        name = getattr(fn, "__name__", type(fn).__name__)
        message = f"`{name}` has no readable signature; wrap it in a `def` and guard that"
        raise ConfigurationError(message) from None


def namespace_of(fn: Any) -> dict[str, Any]:  # noqa: ANN401  any function
    """Return the globals that a function's annotations are written in: those of what it says it wraps."""
    return getattr(inspect.unwrap(fn), "__globals__", fn.__globals__)  # type: ignore[no-any-return]


def _resource(core: Core, fn: Callable[..., Any], signature: inspect.Signature, spec: object) -> Any:  # noqa: ANN401  a source, or None
    if spec is not None:
        return resource_source(spec, signature, core.registries)
    return marked_source(_annotations(fn, signature), signature)


def _annotations(fn: Callable[..., Any], signature: inspect.Signature) -> Mapping[str, Any]:
    """Resolve annotations as far as they can be; one that cannot must not name a marker."""
    resolved: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        annotation = parameter.annotation
        if isinstance(annotation, str):
            annotation = _resolved(fn, name, annotation)
        inside = (annotation.__origin__,) if hasattr(annotation, "__metadata__") else typing.get_args(annotation)
        if any(_marks(part) for one in inside for part in _parts(one)):
            message = f"the marker of `{name}` is inside another type; put `Annotated[...]` outermost"
            raise ConfigurationError(message)
        resolved[name] = annotation
    return resolved


def _resolved(fn: Callable[..., Any], name: str, annotation: str) -> Any:  # noqa: ANN401  any annotation
    holder = FunctionType((lambda: None).__code__, namespace_of(fn))
    holder.__annotations__ = {name: annotation}
    try:
        return typing.get_type_hints(holder, include_extras=True)[name]
    except Exception as error:
        if not any(marker in annotation for marker in _MARKERS):
            return None
        message = f"the annotation of `{name}` cannot be resolved at decoration; use `resource=` instead"
        raise ConfigurationError(message) from error


def _parts(annotation: object) -> Iterator[object]:
    yield annotation
    for part in typing.get_args(annotation):
        yield from _parts(part)


def _marks(part: object) -> bool:
    return part is Guarded or isinstance(part, (Guarded, ResourceId))
