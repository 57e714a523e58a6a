"""
Several decision points as one, by a combining algorithm.

Imports plans, the decision's words, the parts and the algorithms only; row filters where one is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from pep.compose.combine import Algorithm, Extended, combine, extended
from pep.compose.parts import (
    Outcome,
    awaited_part,
    checked_part,
    consistent_part,
    decided,
    decided_all,
    filters_rows,
    for_each,
    has,
    health_of,
    probed_all,
    pure_part,
    rows_of,
    told,
    whole_name,
)
from pep.compose.swaps import Swaps
from pep.decision import Decision, Effect
from pep.errors import ConfigurationError
from pep.fault import AVAILABILITY, fault_of
from pep.model import AccessRequest, Action, Subject
from pep.plan import Plan, Raised, Returned, contain, gather, unwrap
from pep.protocols import PDP

if TYPE_CHECKING:
    from pep.policy.partial import RowFilter

# These look at their parts in order, and stop at what decides.
_IN_ORDER: Final = {
    Algorithm.FIRST_APPLICABLE: frozenset(Effect) - {Effect.NOT_APPLICABLE},
    Algorithm.ORDERED_DENY_OVERRIDES: frozenset({Effect.DENY}),
    Algorithm.ORDERED_PERMIT_OVERRIDES: frozenset({Effect.PERMIT}),
}

# A row that every part permits is permitted, free of obligations. Of no other algorithm is the same to be told from
# what parts permit: they may deny, be silent, or permit with obligations elsewhere, and a filter does not say which.
_FILTERING: Final = frozenset({Algorithm.DENY_OVERRIDES, Algorithm.ORDERED_DENY_OVERRIDES})

# No algorithm tells more failed parts from so many.
_GUESSED: Final = 3


class CombinedPDP:
    """
    Several decision points that answer together.

    A part that fails might have said anything: where that leaves the answer open, its failure is the
    answer, and no algorithm takes an outage for a permit.

    Under deny-overrides it filters rows where every part does: to the rows that *every* part permits, which
    `decide` would all permit. Those that one part permits and another is silent about are left out.

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
        self.name = name or whole_name(algorithm.value, self._pdps)
        #: Whether it can only be awaited.
        self.asynchronous = awaited_part(self._pdps)
        #: Whether revisions of its decisions are consistency tokens.
        self.consistent = consistent_part(self._pdps)
        self._swaps = Swaps(self._pdps)
        if algorithm in _FILTERING and filters_rows(self._pdps):
            self.row_filter = self._rows
        if any(has(pdp, "probe") for pdp in self._pdps):
            self.probe = self._probe

    @property
    def pure(self) -> bool:
        """Whether every part's answers depend on the request and its policy revision alone."""
        return all(map(pure_part, self._pdps))

    def subscribe(self, listener: Callable[[Any], None]) -> None:
        """Tell *listener* of every policy swap of every part."""
        self._swaps.subscribe(listener)

    def health(self) -> Mapping[str, Any]:
        """Tell how the parts are: ``parts``, each with its name."""
        return {"parts": [health_of(pdp) for pdp in self._pdps]}

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        """
        Ask the parts, and combine what they say.

        Raises:
            Exception: What a failing part raised, where another answer of it could have mattered: the first of them
                that is no fault of availability, else the first.
        """
        if self._algorithm not in _IN_ORDER:
            return self._combined((yield from gather(*[decided(pdp, request) for pdp in self._pdps])))
        replies: list[Outcome] = []
        for pdp in self._pdps:
            replies.append((yield from contain(decided(pdp, request))))
            if self._decides(replies[-1]):
                break
        return self._combined(replies)

    def decide_many(self, requests: Sequence[AccessRequest]) -> Plan[list[Decision | Raised]]:
        """
        Ask the parts many questions, each part at once where it takes batches; see `decide`.

        Those that ask in order ask each part only about what is still open.
        """
        replies: list[list[Outcome]] = [[] for _ in requests]
        if self._algorithm in _IN_ORDER:
            yield from self._ask_in_order(requests, replies)
        else:
            batches = yield from gather(*[decided_all(pdp, requests) for pdp in self._pdps])
            for batch in batches:
                for found, one in zip(replies, for_each(batch, len(requests)), strict=True):
                    found.append(one)
        return told([_outcome(self._combined, found) for found in replies])

    def _ask_in_order(self, requests: Sequence[AccessRequest], replies: Sequence[list[Outcome]]) -> Plan[None]:
        still = list(range(len(requests)))
        for pdp in self._pdps:
            if not still:
                return
            batch = yield from contain(decided_all(pdp, [requests[at] for at in still]))
            for at, one in zip(still, for_each(batch, len(still)), strict=True):
                replies[at].append(one)
            still = [at for at in still if not self._decides(replies[at][-1])]

    def _decides(self, reply: Outcome) -> bool:
        """Tell whether the parts after this one have no say."""
        if isinstance(reply, Raised):
            return self._algorithm is Algorithm.FIRST_APPLICABLE
        return reply.value.effect in _IN_ORDER[self._algorithm]

    def _combined(self, replies: Sequence[Outcome]) -> Decision:
        for pdp, reply in zip(self._pdps, replies, strict=False):
            if isinstance(reply, Returned):
                self._swaps.watch(pdp, reply.value)
        failed = [reply.error for reply in replies if isinstance(reply, Raised)]
        decisions = [reply.value for reply in replies if isinstance(reply, Returned)]
        if failed and self._matters(decisions, len(failed)):
            # INVARIANT: an outage excuses itself, and nothing that failed otherwise.
            raise next((error for error in failed if fault_of(error) not in AVAILABILITY), failed[0])
        return combine(self._algorithm, decisions)

    def _matters(self, decisions: Sequence[Decision], failed: int) -> bool:
        """Whether the failed parts could have said what changes the effect."""
        known = [extended(one.effect) for one in decisions]
        guesses = product(Extended, repeat=min(failed, _GUESSED))
        return len({self._algorithm.of([*known, *guess]).collapse() for guess in guesses}) > 1

    def _rows(
        self,
        subject: Subject,
        action: Action | str,
        resource_type: str,
        *,
        context: Mapping[str, Any],
        actors: Sequence[Subject] = (),
        tenant: str | None = None,
    ) -> Plan[RowFilter]:
        """
        Say which resources of a type every part permits.

        Raises:
            Exception: What the first failing part raised.
        """
        asked = [rows_of(pdp, subject, action, resource_type, context, actors, tenant) for pdp in self._pdps]
        return _intersection([unwrap(reply) for reply in (yield from gather(*asked))])

    def _probe(self) -> Plan[None]:
        """
        Ask every part that can tell whether it is up.

        Raises:
            Exception: What the first of them raised that is not.
        """
        yield from probed_all(self._pdps)


def _outcome(combined: Callable[[Sequence[Outcome]], Decision], replies: Sequence[Outcome]) -> Outcome:
    try:
        return Returned(combined(replies))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  one question without an answer leaves the others theirs
        return Raised(error)


def _intersection(found: Sequence[RowFilter]) -> RowFilter:
    from pep.policy.condition import conjunction  # noqa: PLC0415  only who filters rows pays for policies
    from pep.policy.partial import AllowAll, Conditional, DenyAll  # noqa: PLC0415  only who filters rows pays for policies

    if any(isinstance(one, DenyAll) for one in found):
        return DenyAll()
    conditions = [one.condition for one in found if isinstance(one, Conditional)]
    return Conditional(conjunction(*conditions)) if conditions else AllowAll()
