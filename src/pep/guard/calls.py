"""
Guarded functions and coroutine functions.

Imports sites and wrappers.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from pep.guard.site import Site
from pep.guard.wrap import rename, wrap
from pep.plan import unwrap
from pep.scope import Frame, current_frame


def guard_function(site: Site) -> Any:  # noqa: ANN401  the function's own kind
    """Guard a plain function."""
    core = site.core

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401  whatever it returns
        bound = site.bind(args, kwargs)
        job = core.job(site.needs, bound.arguments, current_frame(), "guard")
        return unwrap(core.run(job, job.guarded(site.fn, rebinder(bound, args, kwargs), site.on_denied)))

    return wrap(site, begin)


def guard_coroutine(site: Site) -> Any:  # noqa: ANN401  the function's own kind
    """Guard a coroutine function: who acts is captured at the call, the decision made when awaited."""
    core = site.core

    async def decided(
        args: tuple[Any, ...], kwargs: dict[str, Any], bound: inspect.BoundArguments, frame: Frame
    ) -> Any:  # noqa: ANN401  whatever it returns
        job = core.job(site.needs, bound.arguments, frame, "guard")
        return unwrap(await core.arun(job, job.guarded(site.fn, rebinder(bound, args, kwargs), site.on_denied)))

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401  a coroutine
        return rename(decided(args, kwargs, site.bind(args, kwargs), current_frame()), site)

    return wrap(site, begin)


def rebinder(
    bound: inspect.BoundArguments, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[Mapping[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]:
    """
    Return what turns effective arguments back into a call.

    Args:
        bound: The call's arguments as bound.

        args: The call's own positional arguments, used again where nothing was changed.

        kwargs: The call's own keyword arguments.
    """

    def rebind(effective: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if effective is bound.arguments:
            return args, kwargs
        changed = inspect.BoundArguments(bound.signature, OrderedDict(effective))
        return changed.args, changed.kwargs

    return rebind
