"""
Guarded functions and coroutine functions.

Imports sites, wrappers and the hot path.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pep.enforcement import Enforcement, Rebind
from pep.extract import NOT_GIVEN, Requirement
from pep.guard.closures import NOTHING, closed_coroutine, closed_function
from pep.guard.lookup import lookup_of
from pep.guard.site import Site
from pep.guard.socket import Socket
from pep.guard.wrap import compiled, rename, wrap, wrap_as
from pep.plan import unwrap
from pep.scope import Frame, hot_frame


def guard_function(site: Site) -> Any:  # noqa: ANN401  the function's own kind
    """Guard a plain function."""
    core = site.core

    def slow(args: tuple[Any, ...], kwargs: dict[str, Any], frame: Frame, given: Any = NOTHING, tries: int = 2) -> Any:  # noqa: ANN401  whatever it returns
        job, rebind = started(site, args, kwargs, frame, given, tries)
        reply = core.run(job, job.guarded(site.fn, rebind, site.on_denied))
        offered(site, job)
        return unwrap(reply)

    def again(args: tuple[Any, ...], kwargs: dict[str, Any], frame: Frame, given: Any) -> Any:  # noqa: ANN401  whatever it returns
        return slow(args, kwargs, frame, given, tries=1)

    lookup = lookup_of(site)
    if lookup is None:
        return wrap(site, lambda args, kwargs: slow(args, kwargs, hot_frame()))
    site.socket = Socket(site)
    if (made := compiled(site, lookup, slow, again)) is not None:
        return made
    wrapper, site.socket.rebind = closed_function(site, lookup, slow, again)
    return wrap_as(site, wrapper)


def guard_coroutine(site: Site) -> Any:  # noqa: ANN401  the function's own kind
    """Guard a coroutine function: who acts is captured at the call, the decision made when awaited."""
    core = site.core

    async def slow(
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        frame: Frame,
        given: Any = NOTHING,  # noqa: ANN401  what the extractor gave
        tries: int = 2,
    ) -> Any:  # noqa: ANN401  whatever it returns
        job, rebind = started(site, args, kwargs, frame, given, tries)
        reply = await core.arun(job, job.guarded(site.fn, rebind, site.on_denied))
        offered(site, job)
        return unwrap(reply)

    async def again(args: tuple[Any, ...], kwargs: dict[str, Any], frame: Frame, given: Any) -> Any:  # noqa: ANN401  whatever it returns
        return await slow(args, kwargs, frame, given, tries=1)

    def plainly(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401  a coroutine
        site.bind(args, kwargs)
        return rename(slow(args, kwargs, hot_frame()), site)

    lookup = lookup_of(site)
    if lookup is None:
        return wrap(site, plainly)
    site.socket = Socket(site)
    if (made := compiled(site, lookup, slow, again)) is not None:
        return made
    decided, site.socket.rebind = closed_coroutine(site, lookup, slow, again)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401  a coroutine
        site.bind(args, kwargs)
        return rename(decided(args, kwargs, hot_frame()), site)

    return wrap(site, begin)


def started(  # noqa: PLR0917  everything there is to a call
    site: Site,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    frame: Frame,
    given: Any = NOTHING,  # noqa: ANN401  what the extractor gave
    tries: int = 2,
) -> tuple[Enforcement, Rebind]:
    """
    Begin the enforcement of a call.

    Args:
        site: What is guarded.

        args: The call's own positional arguments.

        kwargs: The call's own keyword arguments.

        frame: The frame it was made in.

        given: What the extractor gave already, and when it was asked, if it was.

        tries: How often it is decided before it counts as revoked.

    Returns:
        The enforcement, and what turns effective arguments back into a call.
    """
    bound = site.bind(args, kwargs)
    needs: Sequence[Requirement] = site.needs
    if given is NOTHING:
        job = site.core.job(needs, bound.arguments, frame.exact(), site.entry)
    else:
        found, (began, epoch) = given
        if tries == 1:
            # What was revoked may be what was extracted.
            found, epoch = NOT_GIVEN, site.core.wiring().generations.epoch
        job = site.core.job(needs, bound.arguments, frame.exact(), site.entry, given=found, began=(began, epoch))
    job.tries, job.deciding.repeated = tries, tries == 1
    return job, rebinder(bound, args, kwargs)


def offered(site: Site, job: Enforcement) -> None:
    """Have the hot path serve the next call, where it may."""
    if site.socket is not None:
        site.socket.offer(job)


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
