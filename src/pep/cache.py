"""
What was decided before: generations, the decision cache, and the store of stale decisions.

Imports the model only. Times are seconds on a clock that includes suspend.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Final, final

import cachetools

from pep.errors import ConfigurationError
from pep.locks import Lock
from pep.model import AccessRequest, Action, Decision, Effect

#: How many separate floors are remembered before they collapse into one over everything.
MAX_FLOORS: Final = 10_000

#: How many shapes are told apart by identity; the rest by value.
MAX_SHAPES: Final = 4096

#: The shape, who asks in which circumstances, and the resource: its id where that is all there is of it.
Key = tuple[Hashable, bytes, "bytes | str"]

_FOREVER: Final = float("inf")


class Entry:
    """
    A decision that was had.

    Attributes:
        decision: The decision.

        started: When its question started.

        expires: When it may no longer be served.

        epoch: The epoch read before its question, or a later one up to which nothing it rests on was revoked.

        tail: What a sink remembers of the record of a hit, if anything.
    """

    __slots__ = ("decision", "epoch", "expires", "started", "tail")

    def __init__(self, decision: Decision, started: float, expires: float, epoch: int) -> None:
        self.decision, self.started, self.expires, self.epoch = decision, started, expires, epoch
        self.tail: bytes | None = None


@final
class Shape:
    """What many requests share, by identity: decision point, action, and the resource's type."""

    __slots__ = ()


class Shapes:
    """
    The shapes of one decision point's requests, and the keys made of them.

    Two of them never make an equal key: a shape is equal to itself alone.

    Args:
        owner: The decision point.
    """

    __slots__ = ("_known", "_rest", "owner")

    def __init__(self, owner: object = None) -> None:
        self.owner = owner
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
        what = resource.key if resource.id is None or resource.properties else resource.id
        return self.shape(request.action, resource.type), request.who, what


class Generations:
    """
    One epoch, with floors per subject, resource, action, type and all.

    What was decided at an epoch below a floor that touches it no longer holds. Raising is O(1).
    It may drop more than asked, never less.
    """

    __slots__ = ("_all", "_everything_revoked", "_floors", "_lock", "epoch")

    def __init__(self) -> None:
        #: Rises with every invalidation; read it *before* asking a question.
        self.epoch = 0
        self._all = 0
        self._everything_revoked = False
        self._floors: dict[tuple[str, ...], int] = {}
        self._lock = Lock()

    def revoke(self, floor: tuple[str, ...]) -> None:
        """Drop what touches a floor: see `floors_of` for their names."""
        with self._lock:
            epoch = self.epoch + 1
            if len(self._floors) >= MAX_FLOORS and floor not in self._floors:
                self._collapse(epoch)
            else:
                self._floors[floor] = epoch
            # INVARIANT: floors first, then the epoch, so that whoever reads the new epoch sees the floor.
            self.epoch = epoch

    def revoke_all(self) -> None:
        """Drop everything that was decided, and trust no outage with it either."""
        with self._lock:
            self._collapse(self.epoch + 1)
            self.epoch = self._all

    def swap(self) -> None:
        """Drop everything that was decided, because the policies changed."""
        with self._lock:
            self._all = self.epoch + 1
            self.epoch = self._all

    def holds(self, request: AccessRequest, epoch: int) -> bool:
        """Tell whether nothing that touches *request* was revoked since *epoch*."""
        if epoch == self.epoch:
            return True
        # INVARIANT: the floors before the one over everything, since a collapse replaces them after raising that.
        floors = self._floors
        return epoch >= self._all and all(floors.get(floor, 0) <= epoch for floor in floors_of(request))

    def revoked(self, request: AccessRequest) -> bool:
        """Tell whether anything that touches *request* was ever revoked."""
        floors = self._floors
        return self._everything_revoked or any(floor in floors for floor in floors_of(request))

    def _collapse(self, epoch: int) -> None:
        self._all = epoch
        self._everything_revoked = True
        # Readers take no lock: whoever holds the old floors still sees what they forbid.
        self._floors = {}


def floors_of(request: AccessRequest) -> Iterator[tuple[str, ...]]:
    """Name every floor that touches a request, actors included."""
    for who in (request.subject, *request.actors):
        yield "subject", who.type
        yield "subject", who.type, who.id
    yield "resource", request.resource.type
    if request.resource.id is not None:
        yield "resource", request.resource.type, request.resource.id
    yield "action", request.action.name
    yield "action", request.qualified_action


class DecisionCache:
    """
    Decisions by a key of everything the decision point was sent; see `Shapes.key`.

    Reads take no lock. Entries never slide: they expire at the start of their question plus their
    time to live. Faults are never in it.

    Args:
        entries: How many decisions it holds; the oldest leave first.
    """

    def __init__(self, *, entries: int = 100_000) -> None:
        if type(entries) is not int or entries < 1:
            message = "a decision cache holds one entry or more; set a profile's ttl to 0 to not cache"
            raise ConfigurationError(message)
        #: Permits without obligations; the hot path reads here.
        self.permits: dict[Key, Entry] = {}
        self._rest: dict[Key, Entry] = {}
        self._order: deque[Key] = deque()
        self._limit = entries
        self._lock = Lock()
        self.hits = 0
        self.misses = 0
        self.evictions = 0

    def get(self, key: Key, now: float) -> Entry | None:
        """Return the entry of a key, unless it has expired."""
        entry = self.permits.get(key) or self._rest.get(key)
        if entry is None or now >= entry.expires:
            self.misses += 1
            return None
        self.hits += 1
        return entry

    def put(self, key: Key, entry: Entry) -> None:
        """Hold an entry until it expires or is the oldest of too many."""
        decision = entry.decision
        plain = decision.effect is Effect.PERMIT and not decision.obligations and not decision.advice
        mine, other = (self.permits, self._rest) if plain else (self._rest, self.permits)
        with self._lock:
            if key not in mine and other.pop(key, None) is None:
                self._order.append(key)
            mine[key] = entry
            while len(self) > self._limit:
                oldest = self._order.popleft()
                self.evictions += (self.permits.pop(oldest, None) or self._rest.pop(oldest, None)) is not None

    def clear(self) -> None:
        """Forget every entry."""
        with self._lock:
            self.permits.clear()
            self._rest.clear()
            self._order.clear()

    def fresh(self) -> DecisionCache:
        """Return an empty cache of the same bounds."""
        return DecisionCache(entries=self._limit)

    def __len__(self) -> int:
        return len(self.permits) + len(self._rest)

    def __repr__(self) -> str:
        return f"<DecisionCache of {len(self)} of {self._limit} entries>"


class StaleStore:
    """The last real decision per key, for outages only: never a hit."""

    def __init__(self, *, entries: int = 10_000) -> None:
        self._entries: cachetools.LRUCache[Key, Entry] = cachetools.LRUCache(entries)
        self._lock = Lock()

    def get(self, key: Key, now: float, max_age: float) -> Entry | None:
        """Return the last decision of a key, where neither *max_age* seconds nor its own ttl have passed."""
        with self._lock:
            entry = self._entries.get(key)
        if entry is None or now - entry.started > max_age or now >= entry.expires:
            return None
        return entry

    def put(self, key: Key, entry: Entry) -> None:
        """Remember a real decision."""
        with self._lock:
            self._entries[key] = entry


def expiry(started: float, *ttls: float | None) -> float:
    """Return when something expires that may live for the shortest of some seconds; None is no bound."""
    return started + min((ttl for ttl in ttls if ttl is not None), default=_FOREVER)
