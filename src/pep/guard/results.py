"""
Guards that look at results: `guard_result` decides about one, `filter_result` keeps what may be seen.

For functions without side effects only. Imports sites, wrappers and the plan.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

from pep.bulk import keep_permitted
from pep.collecting import COLLECTOR, aside
from pep.core import Core
from pep.enforcement import Enforcement
from pep.errors import ConfigurationError, ExtractionError
from pep.guard.exempt import exemption_of
from pep.guard.generators import aframed, begun, framed
from pep.guard.lint import look_around
from pep.guard.shape import Shape, shape_of
from pep.guard.site import Options, Site, action_of, requirement, signature_of, site_of
from pep.guard.wrap import rename, wrap
from pep.plan import Dispatch, Plan, Raised, Reply, Returned, unwrap
from pep.scope import Frame, current_frame

F = TypeVar("F", bound=Callable[..., Any])

#: The name under which `resource=` finds the result, or one item of it.
RESULT: Final = "result"

_CONTAINERS: Final = (list, tuple, set, frozenset)


@attrs.frozen(eq=False, repr=False)
class _Looked:
    """
    One call whose result is decided about.

    Args:
        site: The function, and what is demanded of its result.

        batch: How many items are decided together; None where the result itself is.

        arguments: The call's arguments, name → value.

        frame: The frame it was made in.
    """

    site: Site
    batch: int | None
    arguments: Mapping[str, Any]
    frame: Frame

    def job(self, result: object) -> Enforcement:
        """Begin to decide about a result or an item."""
        arguments = {**self.arguments, RESULT: result}
        options = {"modifiable": False, "openable": False, "ran": True}
        return self.site.core.job(self.site.needs, arguments, self.frame, self.site.entry, **options)

    def code(self, job: Enforcement, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan[Reply]:
        """Run the function."""
        reply: Reply = yield Dispatch(self.site.fn, args, kwargs, job.inner)
        return reply

    def decided(self, job: Enforcement, value: Any) -> Plan[Reply]:  # noqa: ANN401  any result
        """Decide about what the function returned."""
        if self.batch is not None:
            return (yield from self.filtered(value))
        if not (yield from job.permit()).allowed:
            return (yield from job.denied(self.site.on_denied))
        return (yield from job.release(value))

    def filtered(self, container: Any) -> Plan[Reply]:  # noqa: ANN401  any result
        """Keep what may be seen, in a new container of the same type."""
        if type(container) not in _CONTAINERS:
            looked = self.job(None)
            name = type(container).__name__
            error = ExtractionError(f"`{name}` cannot be filtered; return a list, tuple, set or generator")
            looked.halted(error)
            yield from looked.record()
            return (yield from looked.denied())
        reply = yield from self.kept(list(container))
        return reply if type(reply) is Raised else Returned(type(container)(reply.value))

    def kept(self, items: Sequence[Any]) -> Plan[Reply]:
        """Keep those of some items that may be seen, batch by batch."""
        found: list[Any] = []
        size = self.batch or 1
        for start in range(0, len(items), size):
            few = items[start : start + size]
            reply = yield from keep_permitted([self.job(item) for item in few], few)
            if type(reply) is Raised:
                return reply
            found += reply.value
        return Returned(found)


def decorate_result(core: Core, options: Options, *, side_effects: object) -> Callable[[F], F]:
    """
    Make the decorator that decides about a function's result.

    Raises:
        ConfigurationError: Unless the function is declared to have no side effects.
    """
    _refuse_side_effects(side_effects, "guard_result")
    action_of(options.action)
    return lambda fn: _decorated(core, fn, options, None)


def decorate_filter(core: Core, options: Options, *, side_effects: object, batch: object) -> Callable[[F], F]:
    """
    Make the decorator that keeps those items of a function's result that may be seen.

    Raises:
        ConfigurationError: Unless the function is declared to have no side effects; on a batch below one.
    """
    _refuse_side_effects(side_effects, "filter_result")
    action_of(options.action)
    if type(batch) is not int or batch < 1:
        message = "`batch` must be a whole number of items, at least one"
        raise ConfigurationError(message)
    size: int = batch
    return lambda fn: _decorated(core, fn, options, size)


def _refuse_side_effects(side_effects: object, what: str) -> None:
    if side_effects is not False:
        message = (
            f"`{what}` decides after the function ran; declare `side_effects=False`, "
            "or use `guard`, which decides before"
        )
        raise ConfigurationError(message)


def _decorated(core: Core, fn: Any, options: Options, batch: int | None) -> Any:  # noqa: ANN401  the function's own kind
    if not inspect.isfunction(fn):
        message = f"a guard of results takes a function, not `{type(fn).__name__}`; put it below other decorators"
        raise ConfigurationError(message)
    look_around(fn)
    _refuse_others(core, fn)
    shape = shape_of(fn)
    if batch is None and shape in {Shape.GENERATOR, Shape.ASYNC_GENERATOR}:
        message = f"`{fn.__qualname__}` is a generator; use `filter_result`, which decides about its items"
        raise ConfigurationError(message)
    signature = signature_of(fn)
    seen = options._replace(resource=RESULT if options.resource is None else options.resource)
    need = requirement(core, fn, _with_result(fn, signature), seen)
    entry = "guard_result" if batch is None else "filter_result"
    site = Site(core, fn, (need,), signature, shape, options.on_denied, entry)
    site.check()
    return wrap(site, _BEGINNINGS[shape](site, functools.partial(_Looked, site, batch)))


def _refuse_others(core: Core, fn: Any) -> None:  # noqa: ANN401  any function
    if exemption_of(fn) is not None:
        message = f"`{fn.__qualname__}` is exempt; drop `exempt`, or the guard"
        raise ConfigurationError(message)
    inner = site_of(fn)
    if inner is not None and inner.core is not core:
        message = f"`{inner.name}` is guarded by enforcer `{inner.core.name}` already; guard it by one"
        raise ConfigurationError(message)


def _with_result(fn: Any, signature: inspect.Signature) -> inspect.Signature:  # noqa: ANN401  any function
    if RESULT in signature.parameters:
        message = f"`{fn.__qualname__}` takes a parameter `{RESULT}`, which is what its result is called; rename it"
        raise ConfigurationError(message)
    result = inspect.Parameter(RESULT, inspect.Parameter.KEYWORD_ONLY)
    ordered = sorted([*signature.parameters.values(), result], key=lambda parameter: parameter.kind)
    return inspect.Signature(ordered)


_Look = Callable[[Mapping[str, Any], Frame], _Looked]
_Begin = Callable[[tuple[Any, ...], dict[str, Any]], Any]


def _function(site: Site, looked: _Look) -> _Begin:
    core = site.core

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401  whatever it returns
        look = looked(site.bind(args, kwargs).arguments, current_frame())
        running = look.job(None)
        value = unwrap(core.run(running, look.code(running, args, kwargs)))
        job = look.job(value)
        return unwrap(core.run(job, look.decided(job, value)))

    return begin


def _coroutine(site: Site, looked: _Look) -> _Begin:
    core = site.core

    async def awaited(look: _Looked, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401  whatever it returns
        running = look.job(None)
        value = unwrap(await core.arun(running, look.code(running, args, kwargs)))
        job = look.job(value)
        return unwrap(await core.arun(job, look.decided(job, value)))

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401  a coroutine
        return rename(awaited(looked(site.bind(args, kwargs).arguments, current_frame()), args, kwargs), site)

    return begin


def _generator(site: Site, looked: _Look) -> _Begin:
    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401  a generator
        look = looked(site.bind(args, kwargs).arguments, current_frame())
        return rename(_items(look, site.fn(*args, **kwargs)), site)

    return begin


def _async_generator(site: Site, looked: _Look) -> _Begin:
    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401  an asynchronous generator
        look = looked(site.bind(args, kwargs).arguments, current_frame())
        return rename(_aitems(look, site.fn(*args, **kwargs)), site)

    return begin


_BEGINNINGS: Final[Mapping[Shape, Callable[[Site, _Look], _Begin]]] = {
    Shape.FUNCTION: _function,
    Shape.COROUTINE: _coroutine,
    Shape.GENERATOR: _generator,
    Shape.ASYNC_GENERATOR: _async_generator,
}


def _items(look: _Looked, inner: Generator[Any, Any, Any]) -> Generator[Any, None, Any]:
    core, frame, few, ended, result = look.site.core, look.job(None).inner, list[Any](), False, None
    try:
        while not ended:
            try:
                few.append(framed(frame, inner.__next__))
            except StopIteration as stop:
                ended, result = True, stop.value
            if ended or len(few) == look.batch:
                job = look.job(None)
                for kept in unwrap(core.run(job, look.kept(few))):  # noqa: UP028  what is sent in has nowhere to go
                    yield kept
                few = []
    finally:
        aside(framed, frame, inner.close)
    if result is None:
        return None
    # What a generator returns is a result, too: decided about like an item.
    job = look.job(None)
    return next(iter(unwrap(core.run(job, look.kept([result])))), None)


async def _aitems(look: _Looked, inner: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, None]:
    core, frame, few, ended = look.site.core, look.job(None).inner, list[Any](), False
    step: Callable[[], Awaitable[Any]] = functools.partial(begun, inner)
    try:
        while not ended:
            try:
                few.append(await aframed(frame, step))
                step = inner.__anext__
            except StopAsyncIteration:
                ended = True
            if ended or len(few) == look.batch:
                job = look.job(None)
                for kept in unwrap(await core.arun(job, look.kept(few))):
                    yield kept
                few = []
    finally:
        await (inner.aclose() if COLLECTOR.at_work else aframed(frame, inner.aclose))
