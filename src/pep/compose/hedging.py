"""
Hedging: a second attempt beside one that takes long; the first usable answer wins.

Imports plans and the parts of a composition only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import attrs

from pep.compose.parts import unavailable
from pep.errors import PDPUnavailable
from pep.frozen import fields_repr
from pep.plan import Plan, Raised, Reply, Returned, gather, sleep
from pep.profile_checks import seconds

#: How many of the latest answers their usual duration is told by, and how many there must be.
REMEMBERED: Final = 256
ENOUGH: Final = 20

# The duration that nineteen of twenty answers stay under.
_QUANTILE: Final = 0.95


@attrs.frozen(kw_only=True, repr=False)
class Hedge:
    """
    When a question that takes long is asked a second time, beside the first.

    Args:
        after: After how many seconds; None is what 19 of the last 20 answers stayed under, as measured.

    Raises:
        ConfigurationError: When it is no time.

    Source:
        J. Dean, L. A. Barroso, *The Tail at Scale* (hedged requests).
    """

    after: float | None = None

    __repr__ = fields_repr

    def __attrs_post_init__(self) -> None:
        if self.after is not None:
            seconds(self.after, "after", zero=True)

    def delay(self, latencies: Latencies) -> float | None:
        """Return after how many seconds to ask a second time; None where too little was measured."""
        return self.after if self.after is not None else latencies.usual()


class Latencies:
    """How long the latest answers took, in seconds."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, took: float) -> None:
        """Remember one."""
        self._latest.append(took)

    def usual(self) -> float | None:
        """Return what 95 in 100 of them stayed under; None where there are too few."""
        # Copied by one call, since others add while it is sorted.
        ordered = sorted(self._latest.copy())
        return ordered[int(_QUANTILE * len(ordered))] if len(ordered) >= ENOUGH else None


@attrs.frozen
class _Came:
    """What ends a race: an answer, or an error that no second answer may change."""

    reply: Reply


def hedged(ask: Callable[[], Plan[Reply]], delay: float, spend: Callable[[], bool]) -> Plan[Reply]:
    """
    Ask, and ask a second time when that takes long.

    Args:
        ask: Makes a plan of one attempt.

        delay: When it takes long, in seconds.

        spend: Pays for the second attempt; tells whether it could.

    Returns:
        The first reply that is an answer, or a fault of another kind than availability: it stands, whatever the other
        attempt would bring. Where there is none, what the first attempt came to.
    """
    begun: list[None] = []

    def leader() -> Plan[_Came]:
        reply = yield from ask()
        return _ended(reply) if begun else _Came(reply)

    def follower() -> Plan[_Came]:
        yield from sleep(delay)
        if not spend():
            message = "a second attempt was not paid for"
            raise PDPUnavailable(message)
        begun.append(None)
        return _ended((yield from ask()))

    replies: tuple[Any, ...] = yield from gather(leader(), follower(), first=True)
    won = next((one for one in replies if type(one) is Returned), None)
    return replies[0] if won is None else won.value.reply  # type: ignore[no-any-return]


def _ended(reply: Reply) -> _Came:
    """Take what ends a race; raise what the other attempt may still make good."""
    if isinstance(reply, Raised) and unavailable(reply):
        raise reply.error
    return _Came(reply)
