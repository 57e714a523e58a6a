"""Windows of time: an obligation that holds only between two moments. Imports L0, the protocols and properties only."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import final

from pep.clock import SystemClock
from pep.errors import ObligationError
from pep.model import Obligation
from pep.obligations.checks import tolerance
from pep.obligations.properties import Properties, Reading
from pep.protocols import Call, Clock, Phase, Rank


@final
class Window:
    """
    Denies a call before one moment, and after another; discharges ``window``.

    Properties of the obligation, at least one: ``not_before`` and ``not_after``, each a moment in RFC 3339 with its
    offset, or seconds since 1970; both are inside.

    Args:
        skew: By how many seconds this machine's clock may differ from the one that the moments were written by: the
            window is wider by that at both ends.

        clock: What time it is; its wall clock counts.

    Raises:
        ConfigurationError: When *skew* is no number of seconds, 0 or more.
    """

    types: Collection[str] = frozenset({"window"})
    phase = Phase.BEFORE
    rank = Rank.VERIFY

    def __init__(self, *, skew: float = 0.0, clock: Clock | None = None) -> None:
        self._skew = tolerance(skew, "skew")
        self._clock = SystemClock() if clock is None else clock
        self._bounds = Reading(_bounds)

    def discharge(self, obligation: Obligation, call: Call) -> Call:
        """
        Pass a call on inside of the window.

        Raises:
            ObligationError: Outside of it, or when a property is malformed.
        """
        if not self.holds(obligation, call, self._clock.wall()):
            message = f"obligation `{obligation.type}` permits the call at another time only"
            raise ObligationError(message)
        return call

    def holds(self, obligation: Obligation, _call: Call, now: float, /) -> bool:
        """
        Tell whether a permit still holds: asked again at every use of a grant, and every step of a generator.

        Args:
            obligation: What was discharged.

            now: The time, in seconds since 1970.

        Raises:
            ObligationError: When a property is malformed.
        """
        first, last = self._bounds(obligation)
        return first - self._skew <= now <= last + self._skew


def _bounds(properties: Properties) -> tuple[float, float]:
    first = properties.moment("not_before", -math.inf)
    last = properties.moment("not_after", math.inf)
    if math.isinf(first) and math.isinf(last):
        missing = properties.error("not_before", "is missing, and so is `not_after`; give one of them")
        raise missing
    if first > last:
        empty = properties.error("not_after", "must not be before `not_before`")
        raise empty
    return first, last
