"""
Several decision points as one, by a combining algorithm.

Imports plans, the decision's words and the algorithms only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, Final

from pep.compose.combine import Algorithm, Extended, combine, extended
from pep.compose.parts import awaited_part, checked_part, decided, part_name
from pep.decision import Decision, Effect
from pep.errors import ConfigurationError
from pep.model import AccessRequest
from pep.plan import Plan, Raised, Returned, contain, gather
from pep.protocols import PDP

# These look at their parts in order, and stop at what decides.
_IN_ORDER: Final = {
    Algorithm.FIRST_APPLICABLE: frozenset(Effect) - {Effect.NOT_APPLICABLE},
    Algorithm.ORDERED_DENY_OVERRIDES: frozenset({Effect.DENY}),
    Algorithm.ORDERED_PERMIT_OVERRIDES: frozenset({Effect.PERMIT}),
}

# No algorithm tells more failed parts from so many.
_GUESSED: Final = 3


class CombinedPDP:
    """
    Several decision points that answer together.

    A part that fails might have said anything: where that leaves the answer open, its failure is the
    answer, and no algorithm takes an outage for a permit.

    Args:
        algorithm: Whose word counts. The ordered ones and first-applicable ask in order and stop at
            what decides; the others ask side by side.

        pdps: The decision points, in order.

        name: Its identity, in records and cache keys; by default of the algorithm and the parts.

    Raises:
        ConfigurationError: When there is nothing to combine, or something is no decision point.

    Source:
        XACML 3.0 Appendix C.
    """

    def __init__(self, algorithm: Algorithm, pdps: Iterable[PDP], *, name: str | None = None) -> None:
        self._algorithm = algorithm
        self._pdps = tuple(pdps)
        stated: object = algorithm
        if not isinstance(stated, Algorithm) or not self._pdps:
            message = "combine at least one decision point by an `Algorithm`; nothing must never be an answer"
            raise ConfigurationError(message)
        for pdp in self._pdps:
            checked_part(pdp)
        #: Its identity.
        self.name = name or f"{algorithm.value}({','.join(map(part_name, self._pdps))})"
        #: Whether it can only be awaited.
        self.asynchronous = awaited_part(self._pdps)

    @property
    def pure(self) -> bool:
        """Whether every part's answers depend on the request and its policy revision alone."""
        return all(getattr(pdp, "pure", False) is True for pdp in self._pdps)

    def subscribe(self, listener: Any) -> None:  # noqa: ANN401  whatever the parts take
        """Tell *listener* of every policy swap of every part that can tell."""
        for pdp in self._pdps:
            subscribe = getattr(pdp, "subscribe", None)
            if callable(subscribe):
                subscribe(listener)

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        """
        Ask the parts, and combine what they say.

        Raises:
            Exception: What the first failing part raised, where another answer of it could have mattered.
        """
        replies = yield from (self._in_order if self._algorithm in _IN_ORDER else self._side_by_side)(request)
        failed = [reply.error for reply in replies if isinstance(reply, Raised)]
        decisions = [reply.value for reply in replies if isinstance(reply, Returned)]
        if failed and self._matters(decisions, len(failed)):
            raise failed[0]
        return combine(self._algorithm, decisions)

    def _in_order(self, request: AccessRequest) -> Plan[Sequence[Returned[Decision] | Raised]]:
        replies: list[Returned[Decision] | Raised] = []
        for pdp in self._pdps:
            reply = yield from contain(decided(pdp, request))
            replies.append(reply)
            if self._algorithm is Algorithm.FIRST_APPLICABLE and isinstance(reply, Raised):
                break
            if isinstance(reply, Returned) and reply.value.effect in _IN_ORDER[self._algorithm]:
                break
        return replies

    def _side_by_side(self, request: AccessRequest) -> Plan[Sequence[Returned[Decision] | Raised]]:
        return (yield from gather(*[decided(pdp, request) for pdp in self._pdps]))

    def _matters(self, decisions: Sequence[Decision], failed: int) -> bool:
        """Whether the failed parts could have said what changes the effect."""
        known = [extended(one.effect) for one in decisions]
        guesses = product(Extended, repeat=min(failed, _GUESSED))
        return len({self._algorithm.of([*known, *guess]).collapse() for guess in guesses}) > 1
