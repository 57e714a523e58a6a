"""
What was decided before: the decision cache, and the store of stale decisions.

Imports keys, generations and the model only. Times are seconds on a clock that includes suspend.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable
from operator import attrgetter
from typing import Any, Final

import cachetools

from pep.bus.seam import Bus
from pep.errors import ConfigurationError
from pep.frozen import canonical
from pep.generations import Floor, Generations, floors_of
from pep.keys import Key, Shape, Shapes
from pep.locks import Lock
from pep.model import Decision, Effect

__all__ = [
    "DecisionCache",
    "Entry",
    "Floor",
    "Generations",
    "Key",
    "Shape",
    "Shapes",
    "StaleStore",
    "expiry",
    "floors_of",
]

#: What part of a cache one subject may hold at most.
SHARE: Final = 16

#: The estimate of what an entry costs beside its key's texts and its decision's words, in bytes; see `bench/`.
OVERHEAD: Final = 500

#: The estimate of what an obligation costs beside its properties, in bytes.
DUTY: Final = 500

_FOREVER: Final = float("inf")
# How many entries each that comes in looks at, for what has expired.
_SWEPT: Final = 2


class Entry:
    """
    A decision that was had.

    Attributes:
        decision: The decision.

        started: When its question started.

        expires: When it may no longer be served.

        epoch: The epoch read before its question, or a later one up to which nothing it rests on was revoked.

        tail: Who told the record of a hit last, and what of it all hits share; None until then.
    """

    __slots__ = (
        "decision",
        "elder",
        "epoch",
        "expires",
        "junior",
        "key",
        "newer",
        "older",
        "share",
        "size",
        "started",
        "tail",
    )

    # Its places in the order of all entries and in that of its subject's; set while a cache holds it.
    older: Any
    newer: Any
    elder: Any
    junior: Any
    share: _Share
    key: Key
    size: int

    def __init__(self, decision: Decision, started: float, expires: float, epoch: int) -> None:
        self.decision, self.started, self.expires, self.epoch = decision, started, expires, epoch
        self.tail: tuple[Any, bytes] | None = None


class _Ends:
    """Both ends of the order of all entries: the newest is older than it, the oldest newer."""

    __slots__ = ("newer", "older")

    def __init__(self) -> None:
        self.older: Any = self
        self.newer: Any = self


class _Share:
    """What one subject holds of a cache: both ends of its entries' order, how many there are, and their bytes."""

    __slots__ = ("count", "elder", "holder", "junior", "size")

    def __init__(self, holder: Hashable) -> None:
        self.elder: Any = self
        self.junior: Any = self
        self.holder = holder
        self.count = self.size = 0


class DecisionCache:
    """
    Decisions by a key of everything the decision point was sent; see `Shapes.key`.

    Reads take no lock. Entries never slide: they expire at the start of their question plus their time to live. Faults
    are never in it. Each entry that comes in looks at two others, and drops what has expired.

    Args:
        entries: How many decisions it holds; the oldest leave first. No subject holds over a sixteenth.

        bytes: How much memory they may take, by an estimate: what their keys' texts and their decisions' words take,
            and `OVERHEAD` each. No subject holds over a sixteenth.

        bus: What carries invalidations to and from other enforcers and processes, if anything does.

    Raises:
        ConfigurationError: When a bound is no positive number, or the bus is none.
    """

    def __init__(self, *, entries: int = 100_000, bytes: int = 256 * 1024 * 1024, bus: Bus | None = None) -> None:  # noqa: A002  the unit
        if type(entries) is not int or entries < 1:
            message = "a decision cache holds one entry or more; set a profile's ttl to 0 to not cache"
            raise ConfigurationError(message)
        if type(bytes) is not int or bytes < SHARE * OVERHEAD:
            message = f"a decision cache takes `bytes` of {SHARE * OVERHEAD} or more, or it has no room for an entry"
            raise ConfigurationError(message)
        if bus is not None and (isinstance(bus, type) or not isinstance(bus, Bus)):
            message = f"`bus` takes a bus, such as `pep.bus.redis.RedisBus`, not `{type(bus).__name__}`"
            raise ConfigurationError(message)
        self.bus = bus
        #: Permits without obligations; the hot path reads here. One dict for the cache's whole life.
        self.permits: dict[Key, Entry] = {}
        #: How long an entry may live that is stored now, in seconds, whatever else is said; None is no bound.
        self.lifetime: Callable[[], float | None] = _unbounded
        self._rest: dict[Key, Entry] = {}
        self._limit, self._bytes = entries, bytes
        self._lock = Lock()
        # The process that changes it now, and whether all of it is to be forgotten then.
        self._busy, self._void = 0, False
        self._begin()
        self._weighed: tuple[Decision | None, int] = (None, 0)
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        #: Decisions that were had and could not be kept.
        self.uncacheable = 0
        #: Outages that no earlier decision could bridge, although the profile would have let one.
        self.stale_refusals = 0

    def get(self, key: Key, now: float, *, again: bool = False) -> Entry | None:
        """Return the entry of a key, unless it has expired; a miss is counted only at the first look."""
        entry = self.permits.get(key) or self._rest.get(key)
        if entry is None or now >= entry.expires:
            self.misses += not again
            return None
        self.hits += 1
        return entry

    def put(self, key: Key, entry: Entry, holder: Hashable = None) -> None:
        """
        Hold an entry until it expires or is the oldest of too many.

        Args:
            key: What it is found by.

            entry: The entry.

            holder: Whose it is; None is nobody's in particular, who has a share too.
        """
        size = entry.size = self._weigh(key, entry.decision)
        entry.key = key
        with self._lock:
            # A signal handler may get here in the middle of this: what it decided is not kept.
            if not self._may_change() or size * SHARE > self._bytes:
                self.uncacheable += 1
                return
            self._busy, done = os.getpid(), False
            try:
                self._hold(entry, holder)
                done = not self._void
            finally:
                self._changed(done)

    def refuse(self, entry: Entry) -> None:
        """Drop an entry that was found but no longer holds: it was no hit."""
        self.hits -= 1
        self.misses += 1
        with self._lock:
            if self._may_change():
                self._busy, done = os.getpid(), False
                try:
                    self._drop(entry)
                    done = not self._void
                finally:
                    self._changed(done)

    def clear(self) -> None:
        """Forget every entry."""
        with self._lock:
            # A signal handler may get here in the middle of a change: it is carried out once that has ended.
            self._void = self._busy == os.getpid()
            if not self._void:
                self._forget()

    def fresh(self) -> DecisionCache:
        """Return an empty cache of the same bounds, that hears and tells nothing."""
        return DecisionCache(entries=self._limit, bytes=self._bytes)

    def stats(self) -> dict[str, int]:
        """Count hits, misses, evictions, what could not be kept, and outages that nothing could bridge."""
        names = ("hits", "misses", "evictions", "uncacheable", "stale_refusals")
        return {**{name: getattr(self, name) for name in names}, "cached": len(self), "cached_bytes": self._size}

    def __len__(self) -> int:
        return len(self.permits) + len(self._rest)

    def __repr__(self) -> str:
        return f"<DecisionCache of {len(self)} of {self._limit} entries>"

    def _forget(self) -> None:
        self.permits.clear()
        self._rest.clear()
        self._begin()

    def _begin(self) -> None:
        self._busy, self._void = 0, False
        self._ends = _Ends()
        self._cursor: Any = self._ends
        self._shares: dict[Hashable, _Share] = {}
        self._size = 0

    def _may_change(self) -> bool:
        """Tell whether nobody is in the middle of a change; what a fork left half-done is forgotten."""
        if self._busy:
            if self._busy == os.getpid():
                return False
            self._forget()
        return True

    def _changed(self, done: bool) -> None:
        """End a change; what an exception left half-done, or was cleared meanwhile, is forgotten."""
        self._busy = 0
        if not done:
            self._forget()

    def _hold(self, entry: Entry, holder: Hashable) -> None:
        known = self.permits.get(entry.key) or self._rest.get(entry.key)
        if known is not None:
            if known.started > entry.started:
                # What was asked later is the later word, whichever came first.
                return
            self._drop(known)
        self._sweep(entry.started)
        share = self._shares.get(holder)
        if share is None:
            share = self._shares[holder] = _Share(holder)
        self._append(entry, share)
        (self.permits if _plain(entry.decision) else self._rest)[entry.key] = entry
        while share.count * SHARE > max(self._limit, SHARE) or share.size * SHARE > self._bytes:
            self.evictions += 1
            self._drop(share.junior)
        while len(self.permits) + len(self._rest) > self._limit or self._size > self._bytes:
            self.evictions += 1
            self._drop(self._ends.newer)

    def _weigh(self, key: Key, decision: Decision) -> int:
        weighed, size = self._weighed
        if weighed is not decision:
            # Many entries share a decision.
            size = _words(decision)
            self._weighed = decision, size
        return size + _texts(key)

    def _append(self, entry: Entry, share: _Share) -> None:
        ends = self._ends
        entry.share, entry.older, entry.newer = share, ends.older, ends
        entry.elder, entry.junior = share.elder, share
        ends.older.newer = ends.older = entry
        share.elder.junior = share.elder = entry
        share.count += 1
        share.size += entry.size
        self._size += entry.size

    def _sweep(self, now: float) -> None:
        """Look at the next few entries, and drop what has expired."""
        for _turn in range(_SWEPT):
            entry = self._cursor
            self._cursor = entry.newer
            if entry is not self._ends and entry.expires <= now:
                self._drop(entry)

    def _drop(self, entry: Entry) -> None:
        held = self.permits if self.permits.get(entry.key) is entry else self._rest
        if held.get(entry.key) is not entry:
            return
        del held[entry.key]
        share = entry.share
        if self._cursor is entry:
            self._cursor = entry.newer
        entry.older.newer, entry.newer.older = entry.newer, entry.older
        entry.elder.junior, entry.junior.elder = entry.junior, entry.elder
        # Whoever still holds the entry holds it alone.
        del entry.older, entry.newer, entry.elder, entry.junior, entry.share
        share.count -= 1
        share.size -= entry.size
        self._size -= entry.size
        if not share.count:
            del self._shares[share.holder]


class StaleStore:
    """The last real decision per key, for outages only: never a hit. Those not used for longest leave first."""

    def __init__(self, *, entries: int = 10_000, bytes: int = 64 * 1024 * 1024) -> None:  # noqa: A002  the unit
        self._entries: cachetools.LRUCache[Key, Entry] = cachetools.LRUCache(bytes, attrgetter("size"))
        self._limit = entries
        self._lock = Lock()

    def get(self, key: Key, now: float, max_age: float) -> Entry | None:
        """Return the last decision of a key, where neither *max_age* seconds nor its own ttl have passed."""
        with self._lock:
            entry = self._entries.get(key)
        if entry is None or now - entry.started > max_age or now >= entry.expires:
            return None
        return entry

    def put(self, key: Key, entry: Entry) -> None:
        """Remember a real decision, unless one is remembered that was asked for later."""
        entry.size = _texts(key) + _words(entry.decision)
        with self._lock:
            known = self._entries.get(key)
            if entry.size <= self._entries.maxsize and (known is None or known.started <= entry.started):
                self._entries[key] = entry
                while len(self._entries) > self._limit:
                    self._entries.popitem()


def expiry(started: float, *ttls: float | None) -> float:
    """Return when something expires that may live for the shortest of some seconds; None is no bound."""
    return started + min((ttl for ttl in ttls if ttl is not None), default=_FOREVER)


def _unbounded() -> None:
    """Return no bound."""


def _plain(decision: Decision) -> bool:
    return decision.effect is Effect.PERMIT and not decision.obligations and not decision.advice


def _texts(key: Key) -> int:
    return OVERHEAD + sys.getsizeof(key[1]) + sys.getsizeof(key[2])


def _words(decision: Decision) -> int:
    size = sum([sys.getsizeof(text) for text in (*decision.reasons, *decision.policies)])
    for duty in (*decision.obligations, *decision.advice):
        size += DUTY + 4 * len(canonical(duty.properties))
    return size
