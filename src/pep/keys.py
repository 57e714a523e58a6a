"""
Keys of cached decisions: everything a decision point is sent, and its identity; typed and injective.

A request is canonical once it is made: what has no canonical form never becomes one. Imports flights and the model
only.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, final

from pep.flights import Flights
from pep.model import AccessRequest, Action

#: How many shapes are told apart by identity; the rest by value.
MAX_SHAPES: Final = 4096

#: The shape, who asks in which circumstances, and the resource: its id where that is all there is of it.
Key = tuple[Hashable, bytes, "bytes | str"]


@final
class Shape:
    """What many requests share, by identity: decision point, action, and the resource's type."""

    __slots__ = ()


class Shapes:
    """
    The shapes of one decision point's requests, the keys made of them, and its flights.

    Two of them never make an equal key: a shape is equal to itself alone.

    Args:
        owner: The decision point.
    """

    __slots__ = ("_known", "_rest", "flights", "immediate", "owner", "revision", "swaps")

    def __init__(self, owner: object = None) -> None:
        self.owner = owner
        #: Whether it answers at once, from memory: nobody waits for somebody else's question to it.
        self.immediate = getattr(owner, "immediate", False) is True
        #: Its questions in the air.
        self.flights = Flights()
        #: Whether it tells of new policies itself.
        self.swaps = callable(getattr(owner, "subscribe", None))
        #: The revision that its last answer named.
        self.revision: str | None = None
        self._known: dict[tuple[bytes, str], Shape] = {}
        self._rest = Shape()

    def shape(self, action: Action, kind: str) -> Hashable:
        """Return the shape of an action on resources of a type."""
        wanted = action.key, kind
        known = self._known.get(wanted)
        if known is None:
            if len(self._known) >= MAX_SHAPES:
                return (self._rest, *wanted)
            known = self._known.setdefault(wanted, Shape())
        return known

    def key(self, request: AccessRequest) -> Key:
        """Return the cache key of a request: the decision point's identity, and everything it is sent."""
        resource = request.resource
        # Text or bytes, which never are equal.
        return self.shape(request.action, resource.type), request.who, resource.face
