"""
The hot path of one function as closures: for debugging, and where its own signature cannot be written out.

The same steps as in `pep.guard.source`, in the same order. Imports lookups, sockets and the plan's parts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pep.audit.noting import OWED
from pep.guard.hot import UNPLUGGED, Plug
from pep.guard.lookup import Kind, Lookup, plain_id
from pep.model import Resource
from pep.plan import Raised
from pep.scope import Frame, hot_frame
from pep.sources import PLAIN

if TYPE_CHECKING:
    from pep.guard.site import Site

#: What looks for a plain permit: a plug, the frame and the values of a call → the entry, what was found and given.
Look = Callable[[Plug, Frame, Sequence[Any]], "tuple[Any, Any, Any]"]

NOTHING: Any = inspect.Parameter.empty


def look_of(site: Site, lookup: Lookup) -> Look:
    """Make what looks for a plain permit in the values of a call, in the order of its parameters."""
    order = list(site.signature.parameters)
    at = [order.index(name) for name in lookup.names]
    if lookup.kind is Kind.ID:
        return _by_id(at[0])
    if lookup.kind is Kind.CONSTANT:
        return _by_constant(lookup.source.value)
    if lookup.kind is Kind.PARAMETER:
        return lambda plug, frame, values: _by_resource(plug, frame, values[at[0]])
    return _by_extractor(lookup, at)


def values_of(site: Site) -> Callable[[tuple[Any, ...], dict[str, Any]], Sequence[Any]]:
    """Make what turns a call into the values of its parameters, in their order."""
    plain = all(one.kind is one.POSITIONAL_OR_KEYWORD for one in site.signature.parameters.values())
    arity = len(site.signature.parameters) if plain else -1

    def values(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:
        if not kwargs and len(args) == arity:
            return args
        return tuple(site.bind(args, kwargs).arguments.values())

    return values


def position_of(site: Site, lookup: Lookup) -> tuple[int, int]:
    """Return which positional argument is the id, and how many there must be for that to hold; else -1 of them."""
    parameters = site.signature.parameters
    if lookup.kind is not Kind.ID or any(one.kind is not one.POSITIONAL_OR_KEYWORD for one in parameters.values()):
        return 0, -1
    return list(parameters).index(lookup.names[0]), len(parameters)


def _by_id(at: int) -> Look:
    def look(plug: Plug, frame: Frame, values: Sequence[Any]) -> tuple[Any, Any, Any]:
        value = values[at]
        thing = value if type(value) is str else plain_id(value)
        return plug.get((plug.shape, frame.scope.who, thing)), thing, NOTHING

    return look


def _by_constant(resource: Resource) -> Look:
    def look(plug: Plug, frame: Frame, _values: Sequence[Any]) -> tuple[Any, Any, Any]:
        return plug.get((plug.shape, frame.scope.who, resource.face)), resource, NOTHING

    return look


def _by_resource(plug: Plug, frame: Frame, thing: Any, given: Any = NOTHING) -> tuple[Any, Any, Any]:  # noqa: ANN401  anything
    if type(thing) is not Resource:
        return None, thing, given
    return plug.get((plug.shape(thing.type), frame.scope.who, thing.face)), thing, given


def _by_extractor(lookup: Lookup, at: Sequence[int]) -> Look:
    fn, positional = lookup.source.fn, len(lookup.source.positional)
    names = lookup.source.keywords

    def look(plug: Plug, frame: Frame, values: Sequence[Any]) -> tuple[Any, Any, Any]:
        seen = [values[index] for index in at]
        if plug.hot is None or not all(type(value) in PLAIN for value in seen):
            return None, None, NOTHING
        began = plug.clock(plug.which), plug.generations.epoch
        _pep_running = frame
        frame.active += 1
        try:
            found = fn(*seen[:positional], **dict(zip(names, seen[positional:], strict=True)))
        except BaseException as error:  # noqa: BLE001  raised again by the plan
            return None, None, (Raised(error), began)  # type: ignore[arg-type]
        finally:
            frame.active -= 1
        entry, thing, given = _by_resource(plug, frame, found, (found, began))
        return (None if plug.clock(plug.which) - began[0] > plug.hot.patience else entry), thing, given

    return look


class Noted:
    """One hit: what was recorded, whether another record is owed, and whether it was revoked meanwhile."""

    __slots__ = ("_epoch", "_generations", "hot", "note", "owed", "withheld")

    def __init__(self, plug: Plug, note: tuple[Any, ...], epoch: int, *, owed: bool) -> None:
        self.hot, self.note, self.owed, self.withheld = plug.hot, note, owed, False
        self._generations, self._epoch = plug.generations, epoch

    def compare(self) -> None:
        """Compare the generations, last of all."""
        if self._generations.epoch != self._epoch and not self.hot.stands(self.note):
            self.withheld = True
            self.hot.withheld(self.note)

    async def recorded(self) -> None:
        """Await that it is recorded, and compare the generations last."""
        await self.hot.recorded(self.note)
        self.compare()


def hit(plug: Plug, frame: Frame, entry: Any, thing: Any) -> Noted | None:  # noqa: ANN401  see `Look`
    """
    Record a hit on a plain permit, and compare the generations last; or leave that to `Noted.recorded`.

    Returns:
        None where it is no hit, or could not be recorded: then the plan takes the call.
    """
    hot = plug.hot
    now, epoch = plug.clock(plug.which), plug.generations.epoch
    if now >= entry.expires or (entry.epoch != epoch and not hot.moved(entry, epoch, frame.scope, thing)):
        return None
    note = (hot, now, plug.number(), entry, frame.scope, thing)
    try:
        taken = plug.take(note)
    except BaseException as error:  # noqa: BLE001  what is no `Exception` goes on
        hot.lost(note, error)
        return None
    noted = Noted(plug, note, epoch, owed=taken is OWED)
    if not noted.owed:
        noted.compare()
    return noted


class Closed:
    """
    The hot path of one site, by closures.

    Args:
        site: The site.

        lookup: Where its resource comes from.
    """

    __slots__ = ("_look", "_values", "plug")

    def __init__(self, site: Site, lookup: Lookup) -> None:
        self._look, self._values = look_of(site, lookup), values_of(site)
        self.plug: Plug = UNPLUGGED

    def rebind(self, plug: Plug) -> None:
        """Hold another plug."""
        self.plug = plug

    def find(self, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Noted | None, Any]:
        """
        Look for a plain permit, and record a hit on it.

        Returns:
            The hit, or None where the plan takes the call; and what the extractor gave, if it was asked.
        """
        plug = self.plug
        if plug is UNPLUGGED or not (frame.active < frame.room or frame.nested() < frame.room):
            return None, NOTHING
        entry, thing, given = self._look(plug, frame, self._values(args, kwargs))
        return (None if entry is None else hit(plug, frame, entry, thing)), given


def closed_function(
    site: Site, lookup: Lookup, slow: Callable[..., Any], again: Callable[..., Any]
) -> tuple[Callable[..., Any], Callable[[Plug], None]]:
    """
    Make the wrapper of a plain function, all in one: everything it uses is a cell, since its globals are the site's.

    Args:
        site: The site.

        lookup: Where its resource comes from.

        slow: Takes a call's positional and keyword arguments, its frame and what the extractor gave: the plan.

        again: The same, where a recorded permit was revoked already.

    Returns:
        The wrapper, and what plugs another wiring in.
    """
    held, look, values, current, fn = [UNPLUGGED], look_of(site, lookup), values_of(site), hot_frame, site.fn
    nothing, anything, kind, text, size, plain, owed = NOTHING, BaseException, type, str, len, plain_id, OWED
    at, arity = position_of(site, lookup)

    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  any function
        plugged, _pep_frame, given = held[0], current(), nothing
        get, generations, take, number, clock, which, shape, hot = plugged
        if hot is not None and (_pep_frame.active < _pep_frame.room or _pep_frame.nested() < _pep_frame.room):
            if size(args) == arity and not kwargs:  # the commonest by far, without a call of ours: an id by position
                thing = args[at] if kind(args[at]) is text else plain(args[at])
                entry = get((shape, _pep_frame.scope.who, thing))
            else:
                entry, thing, given = look(plugged, _pep_frame, values(args, kwargs))
            now, epoch, scope = clock(which), generations.epoch, _pep_frame.scope
            live = entry is not None and now < entry.expires
            if live and (entry.epoch == epoch or hot.moved(entry, epoch, scope, thing)):  # type: ignore[union-attr]
                note = (hot, now, number(), entry, scope, thing)
                try:
                    taken = take(note)
                except anything as error:
                    hot.lost(note, error)
                else:
                    if generations.epoch == epoch or hot.stands(note):
                        _pep_running = _pep_frame
                        _pep_frame.active += 1
                        try:
                            if taken is not owed:
                                return fn(*args, **kwargs)
                            value, _pep_running = fn(*args, **kwargs), None  # type: ignore[assignment]
                        except anything as error:
                            hot.raised(note, error)
                            raise
                        finally:
                            _pep_frame.active -= 1
                        return hot.completed(note, value)
                    hot.withheld(note)
                    return again(args, kwargs, _pep_frame, given)
        return slow(args, kwargs, _pep_frame, given)

    return wrapper, partial(held.__setitem__, 0)


def closed_coroutine(
    site: Site, lookup: Lookup, slow: Callable[..., Any], again: Callable[..., Any]
) -> tuple[Callable[..., Any], Callable[[Plug], None]]:
    """Make what decides about the call of a coroutine function and runs it; see `closed_function`."""
    closed = Closed(site, lookup)

    async def decided(args: tuple[Any, ...], kwargs: dict[str, Any], frame: Frame) -> Any:  # noqa: ANN401  whatever it returns
        # Awaited by somebody else, it takes the plan.
        noted, given = closed.find(frame, args, kwargs) if hot_frame() is frame else (None, NOTHING)
        if noted is None:
            return await slow(args, kwargs, frame, given)
        if noted.owed:
            await noted.recorded()
        if noted.withheld:
            return await again(args, kwargs, frame, given)
        _pep_running = frame
        frame.active += 1
        try:
            if not noted.owed:
                return await site.fn(*args, **kwargs)
            value = await site.fn(*args, **kwargs)
        except BaseException as error:
            if noted.owed:
                await noted.hot.araised(noted.note, error)
            else:
                noted.hot.raised(noted.note, error)
            raise
        finally:
            frame.active -= 1
        _pep_running = None  # type: ignore[assignment]
        return await noted.hot.acompleted(noted.note, value)

    return decided, closed.rebind
