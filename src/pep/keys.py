"""
Keys of cached decisions: everything a decision point is sent, and its identity; typed and injective.

A request is canonical once it is made: what has no canonical form never becomes one. Imports flights and the model
only.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Final, final

from pep.flights import Flights
from pep.locks import Lock
from pep.model import AccessRequest, Action

#: How many shapes are told apart by identity; the rest by value.
MAX_SHAPES: Final = 4096

#: How many consistency tokens that others came after are remembered.
MAX_TOKENS: Final = 1024

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

    __slots__ = (
        "_came",
        "_known",
        "_lock",
        "_past",
        "_rest",
        "consistent",
        "flights",
        "immediate",
        "owner",
        "revision",
        "swaps",
    )

    def __init__(self, owner: object = None) -> None:
        self.owner = owner
        #: Whether it answers at once, from memory: nobody waits for somebody else's question to it.
        self.immediate = getattr(owner, "immediate", False) is True
        #: Its questions in the air.
        self.flights = Flights()
        #: Whether it tells of new policies itself.
        self.swaps = callable(getattr(owner, "subscribe", None))
        #: Whether the revision of its answers is a consistency token: what another one decided is past.
        self.consistent = getattr(owner, "consistent", False) is True
        #: The revision that its last answer named; the newest, where it is a consistency token.
        self.revision: str | None = None
        self._came = -math.inf
        self._past: dict[str, None] = {}
        self._lock = Lock()
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

    def see(self, token: str, asked: float, now: float) -> None:
        """
        Take a consistency token for the newest, unless others came after it.

        Args:
            token: What an answer named; tokens have no order of their own.

            asked: When it was asked for, in seconds. Before the newest came, nothing tells which of them is newer.

            now: What time it is, on the same clock.
        """
        with self._lock:
            if token == self.revision or token in self._past or asked < self._came:
                return
            if self.revision is not None:
                self._past[self.revision] = None
            if len(self._past) > MAX_TOKENS:
                del self._past[next(iter(self._past))]
            self.revision, self._came = token, now

    def is_past(self, revision: str | None) -> bool:
        """Tell whether a decision of a revision has been overtaken by another consistency token."""
        return self.consistent and revision != self.revision

    def key(self, request: AccessRequest) -> Key:
        """Return the cache key of a request: the decision point's identity, and everything it is sent."""
        resource = request.resource
        # Text or bytes, which never are equal.
        return self.shape(request.action, resource.type), request.who, resource.face
