"""
Rate limits and quotas: obligations that count calls, and refuse those that are too many.

Imports L0, the protocols, rates and counters only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, final

import attrs

from pep.clock import SystemClock
from pep.errors import ObligationError
from pep.frozen import canonical
from pep.model import Obligation
from pep.obligations.checks import named, positive_count, positive_seconds
from pep.obligations.counters import MAX_COUNTERS, Limit, MemoryCounters
from pep.obligations.lookups import FORM, Lookup, cost_of, quantity, value_at
from pep.obligations.properties import Properties, Reading
from pep.obligations.stored import StoredCounters, counters_at
from pep.plan import Plan
from pep.protocols import Call, Clock, Phase, Rank, Refusal
from pep.rate import Rate
from pep.verdict import Outcome

if TYPE_CHECKING:
    import limits.aio.storage
    import limits.storage

# Unit -> its length in seconds: of 24 hours, of 7 and of 30 days, whatever the calendar says.
_SPANS: Final = {"hour": 3_600, "day": 86_400, "week": 604_800, "month": 2_592_000}
_QUOTA: Final = re.compile(r"([1-9][0-9]{0,11})/([a-z]+)", re.ASCII)
_BY: Final = ("subject", "tenant")


@attrs.frozen(repr=False)
class _Terms:
    """What an obligation limits, and what is counted apart."""

    kind: str
    limit: Limit
    by: tuple[Lookup, ...]
    cost: int | Lookup
    name: str | None

    def key(self, call: Call, obligation: Obligation) -> bytes:
        # INVARIANT: typed and injective, and with the subject: no two callers share a counter by their names.
        request, limit = call.request, self.limit
        name = (1, self.name) if self.name is not None else (0, request.qualified_action)
        who = request.subject
        parts = [value_at(lookup, call, obligation, "by") for lookup in self.by]
        told = (self.kind, name, limit.count, limit.seconds, limit.moving, who.type, who.id, parts)
        return blake2b(canonical(told), digest_size=32).digest()


@final
class RateLimit:
    """
    Refuses a call when there were too many in some stretch of time; discharges ``rate-limit``.

    Properties of the obligation: ``limit``, such as ``"100/minute"``; ``by``, what is counted apart, a list of
    paths into the call (``["subject", "tenant"]``; the subject always is); ``cost``, what one call counts for, a
    whole number from 1 on or the path to one (1); ``window``, ``"moving"`` (in any stretch of that length) or
    ``"fixed"`` (in stretches that begin with the first call in each); ``name``, what counts together: without one,
    each action by itself.

    A refusal says in how many seconds another attempt is worth making. A cost above the whole limit is refused
    always. Counters in memory are this process's own; those of a server are shared. When the server is down, what
    was to be counted is denied.

    Args:
        storage: Where to count: None is in memory; the URL of a Redis or Valkey server, with ``async+`` before it
            for asynchronous callers only; or a storage of the library `limits`.

        clock: What time it is; in memory the reading that includes suspend counts.

        timeout: How long a server may take to connect or answer, in seconds.

        prefix: What all keys on a server begin with.

        entries: How many counters are kept in memory; past them, what has none yet is denied.

    Raises:
        ConfigurationError: When an argument is out of range, or an extra is missing.
    """

    types: Collection[str] = frozenset({"rate-limit"})
    phase = Phase.BEFORE
    rank = Rank.COUNT

    def __init__(
        self,
        storage: str | limits.storage.Storage | limits.aio.storage.Storage | None = None,
        *,
        clock: Clock | None = None,
        timeout: float = 1.0,
        prefix: str = "pep",
        entries: int = MAX_COUNTERS,
    ) -> None:
        counters = _counters(storage, clock, timeout=timeout, prefix=prefix, entries=entries)
        self._counting = _Counting(counters, _rate)
        #: Whether it can only be awaited.
        self.asynchronous = self._counting.asynchronous

    def discharge(self, obligation: Obligation, call: Call) -> Call | Refusal | Plan[Call | Refusal]:
        """
        Count one call.

        Raises:
            ObligationError: When a property is malformed, or the call could not be counted.
        """
        return self._counting.discharge(obligation, call)

    def close(self) -> None:
        """Close what was opened for a URL."""
        self._counting.close()

    async def aclose(self) -> None:
        """Close what was opened for a URL; see `close`."""
        await self._counting.aclose()


@final
class Quota:
    """
    Refuses a call when a long stretch of time has used up what it may; discharges ``quota``.

    Properties of the obligation: ``limit``, such as ``"10000/month"``, by ``hour``, ``day`` (24 hours), ``week`` or
    ``month`` (30 days); ``by``, ``cost`` and ``name`` as `RateLimit` has them. A stretch begins with the first
    call in it, and knows no calendar.

    Args:
        storage: Where to count, as for `RateLimit`. In memory a quota ends with the process.

        clock: What time it is; in memory the reading that includes suspend counts.

        timeout: How long a server may take to connect or answer, in seconds.

        prefix: What all keys on a server begin with.

        entries: How many counters are kept in memory; past them, what has none yet is denied.

    Raises:
        ConfigurationError: When an argument is out of range, or an extra is missing.
    """

    types: Collection[str] = frozenset({"quota"})
    phase = Phase.BEFORE
    rank = Rank.COUNT

    def __init__(
        self,
        storage: str | limits.storage.Storage | limits.aio.storage.Storage | None = None,
        *,
        clock: Clock | None = None,
        timeout: float = 1.0,
        prefix: str = "pep",
        entries: int = MAX_COUNTERS,
    ) -> None:
        counters = _counters(storage, clock, timeout=timeout, prefix=prefix, entries=entries)
        self._counting = _Counting(counters, _span)
        #: Whether it can only be awaited.
        self.asynchronous = self._counting.asynchronous

    def discharge(self, obligation: Obligation, call: Call) -> Call | Refusal | Plan[Call | Refusal]:
        """
        Count one call.

        Raises:
            ObligationError: When a property is malformed, or the call could not be counted.
        """
        return self._counting.discharge(obligation, call)

    def close(self) -> None:
        """Close what was opened for a URL."""
        self._counting.close()

    async def aclose(self) -> None:
        """Close what was opened for a URL; see `close`."""
        await self._counting.aclose()


class _Counting:
    """What rate limits and quotas have in common: all but how their properties are read."""

    def __init__(
        self, counters: MemoryCounters | StoredCounters, read: Callable[[Properties], tuple[str, Limit]]
    ) -> None:
        self._counters = counters
        self._terms = Reading(lambda properties: _terms(properties, *read(properties)))
        self.asynchronous = isinstance(counters, StoredCounters) and counters.asynchronous

    def discharge(self, obligation: Obligation, call: Call) -> Call | Refusal | Plan[Call | Refusal]:
        terms, counters = self._terms(obligation), self._counters
        cost = cost_of(terms.cost, call, obligation)
        if cost > terms.limit.count:
            return _limited(terms.limit.seconds)
        key = terms.key(call, obligation)
        if not isinstance(counters, MemoryCounters):
            return _stored(counters.take(key, terms.limit, cost), obligation, call)
        try:
            wait = counters.take(key, terms.limit, cost)
        except ObligationError as error:
            raise _uncounted(obligation, str(error)) from error
        return _limited(wait) if wait else call

    def close(self) -> None:
        if isinstance(self._counters, StoredCounters):
            self._counters.close()

    async def aclose(self) -> None:
        if isinstance(self._counters, StoredCounters):
            await self._counters.aclose()


def _stored(taking: Plan[float], obligation: Obligation, call: Call) -> Plan[Call | Refusal]:
    try:
        wait = yield from taking
    except Exception as error:
        # Only its kind: a client's own words may quote an address and a password.
        raise _uncounted(obligation, type(error).__name__) from error
    return _limited(wait) if wait else call


def _limited(wait: float) -> Refusal:
    return Refusal(Outcome.RATE_LIMITED, {"retry_after": max(1.0, float(wait))})


def _uncounted(obligation: Obligation, reason: str) -> ObligationError:
    return ObligationError(f"obligation `{obligation.type}` could not be counted: {reason}")


def _rate(properties: Properties) -> tuple[str, Limit]:
    rate = properties.parsed("limit", Rate.parse, "a rate such as `100/minute`")
    window = properties.choice("window", ("moving", "fixed"), "moving")
    return "rate-limit", Limit(rate.count, rate.seconds, window == "moving")


def _span(properties: Properties) -> tuple[str, Limit]:
    count, seconds = properties.parsed("limit", _quota, f"a count and one of {', '.join(_SPANS)}, such as `1000/day`")
    return "quota", Limit(count, seconds, moving=False)


def _quota(text: str) -> tuple[int, int]:
    form = _QUOTA.fullmatch(text)
    if form is None or form[2] not in _SPANS:
        raise ValueError
    return int(form[1]), _SPANS[form[2]]


def _terms(properties: Properties, kind: str, limit: Limit) -> _Terms:
    by = []
    for text in properties.texts("by", _BY):
        try:
            by.append(Lookup(text))
        except ValueError:
            malformed = properties.error("by", f"must be a list of paths; each is {FORM}")
            raise malformed from None
    name = properties.text("name") if "name" in properties else None
    return _Terms(kind, limit, tuple(by), quantity(properties, "cost"), name)


def _counters(
    storage: object, clock: Clock | None, *, timeout: float, prefix: str, entries: int
) -> MemoryCounters | StoredCounters:
    now = SystemClock() if clock is None else clock
    room, patience = positive_count(entries, "entries"), positive_seconds(timeout, "timeout")
    space = named(prefix, "prefix")
    if storage is None:
        return MemoryCounters(now, room)
    return counters_at(storage, now, prefix=space, timeout=patience)
