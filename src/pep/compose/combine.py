"""
Combining algorithms: how several answers become one, over the six extended values of XACML 3.0.

Each algorithm is a pure function of values; `combine` lifts them to decisions, with their obligations.
Imports the model and the error tree only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Final

from pep.errors import ConfigurationError
from pep.model import Decision, Effect


class Extended(Enum):
    """
    An effect in which *indeterminate* says what it could have been.

    Source:
        XACML 3.0 §7.10 (extended indeterminate values).
    """

    PERMIT = "P"
    DENY = "D"
    NOT_APPLICABLE = "NA"
    #: Could have been a permit, or not applicable.
    INDETERMINATE_P = "IP"
    #: Could have been a denial, or not applicable.
    INDETERMINATE_D = "ID"
    #: Could have been either.
    INDETERMINATE_DP = "IDP"

    def collapse(self) -> Effect:
        """Return the effect that is told to the enforcement point, which knows one indeterminate only."""
        return _COLLAPSED.get(self, Effect.INDETERMINATE)


class Applicability(Enum):
    """Whether a policy's target matched; asked by only-one-applicable."""

    MATCH = "match"
    NO_MATCH = "no match"
    INDETERMINATE = "indeterminate"


class Algorithm(Enum):
    """
    How the answers of several policies, or of several decision points, become one.

    Source:
        XACML 3.0 Appendix C.
    """

    #: A denial wins, whatever else was said.
    DENY_OVERRIDES = "deny-overrides"
    #: The same, with the parts considered in order.
    ORDERED_DENY_OVERRIDES = "ordered-deny-overrides"
    #: A permit wins, whatever else was said.
    PERMIT_OVERRIDES = "permit-overrides"
    #: The same, with the parts considered in order.
    ORDERED_PERMIT_OVERRIDES = "ordered-permit-overrides"
    #: Permit if anything permits, deny in every other case; never indeterminate.
    DENY_UNLESS_PERMIT = "deny-unless-permit"
    #: Deny if anything denies, permit in every other case. Dangerous: a denial that could not be evaluated,
    #: an outage, or nothing at all that applies, permits.
    PERMIT_UNLESS_DENY = "permit-unless-deny"
    #: The first part that applies decides.
    FIRST_APPLICABLE = "first-applicable"
    #: The one part that applies decides; several are an error, hence indeterminate.
    ONLY_ONE_APPLICABLE = "only-one-applicable"

    def of(self, values: Sequence[Extended]) -> Extended:
        """
        Combine extended values.

        Args:
            values: One per part, in order; `NOT_APPLICABLE` for a part whose target does not match.
        """
        if self is Algorithm.FIRST_APPLICABLE:
            return next((value for value in values if value is not Extended.NOT_APPLICABLE), Extended.NOT_APPLICABLE)
        if self is Algorithm.ONLY_ONE_APPLICABLE:
            return only_one_applicable([(_applicability(value), value) for value in values])
        present = frozenset(values)
        return next(answer for among, answer in _TABLES[self] if among(present))


def only_one_applicable(parts: Iterable[tuple[Applicability, Extended]]) -> Extended:
    """
    Let the one part decide whose target matches.

    Args:
        parts: Whether each target matched, and what the part answers if it did.

    Returns:
        That part's answer; indeterminate when several match or a target cannot be evaluated.

    Source:
        XACML 3.0 §C.9.
    """
    matched = [(found, value) for found, value in parts if found is not Applicability.NO_MATCH]
    if not matched:
        return Extended.NOT_APPLICABLE
    if len(matched) > 1 or matched[0][0] is Applicability.INDETERMINATE:
        return Extended.INDETERMINATE_DP
    return matched[0][1]


def with_indeterminate_target(value: Extended) -> Extended:
    """
    Say what a policy answers whose own target could not be evaluated.

    Source:
        XACML 3.0 §7.14, table 7.
    """
    return {Extended.PERMIT: Extended.INDETERMINATE_P, Extended.DENY: Extended.INDETERMINATE_D}.get(value, value)


def extended(effect: Effect) -> Extended:
    """Return what is known of a decision point's effect; its indeterminate could have been either."""
    return _EXTENDED[effect]


def combine(algorithm: Algorithm, decisions: Sequence[Decision]) -> Decision:
    """
    Combine the decisions of several decision points into one.

    Args:
        algorithm: Whose word counts.

        decisions: One per part, in order.

    Returns:
        A decision with the obligations, advice, reasons and policies of those parts that had its effect (of the
        deciding part alone under first-applicable); an indeterminate one has no obligations. Its revision names
        those of the parts, its ttl is the shortest.

    Raises:
        ConfigurationError: When there is nothing to combine.

    Source:
        XACML 3.0 §7.18 (obligations are passed up where they match the final effect).
    """
    if not decisions:
        message = f"`{algorithm.value}` combines at least one decision; nothing must never be an answer"
        raise ConfigurationError(message)
    effect = algorithm.of([extended(one.effect) for one in decisions]).collapse()
    telling = [one for one in decisions if one.effect is effect]
    if algorithm is Algorithm.FIRST_APPLICABLE:
        telling = telling[:1]
    bound = telling if effect in {Effect.PERMIT, Effect.DENY} else []
    return Decision(
        effect,
        obligations=[duty for one in bound for duty in one.obligations],
        advice=[duty for one in bound for duty in one.advice],
        reasons=[reason for one in telling for reason in one.reasons],
        policies=[policy for one in telling for policy in one.policies],
        revision="+".join(one.revision for one in decisions if one.revision is not None) or None,
        ttl=min((one.ttl for one in decisions if one.ttl is not None), default=None),
    )


class _Among:
    """Whether any of some values is present, and any of some others."""

    __slots__ = ("_any", "_with")

    def __init__(self, any_of: Iterable[Extended], with_any_of: Iterable[Extended] = tuple(Extended)) -> None:
        self._any = frozenset(any_of)
        self._with = frozenset(with_any_of)

    def __call__(self, present: frozenset[Extended]) -> bool:
        return not self._any.isdisjoint(present) and not self._with.isdisjoint(present)


class _Otherwise:
    """Always."""

    __slots__ = ()

    def __call__(self, _present: frozenset[Extended]) -> bool:
        return True


def _applicability(value: Extended) -> Applicability:
    if value is Extended.NOT_APPLICABLE:
        return Applicability.NO_MATCH
    return Applicability.MATCH


_P, _D, _NA = Extended.PERMIT, Extended.DENY, Extended.NOT_APPLICABLE
_IP, _ID, _IDP = Extended.INDETERMINATE_P, Extended.INDETERMINATE_D, Extended.INDETERMINATE_DP
_Row = tuple[_Among | _Otherwise, Extended]

# First match wins, as in the prose of Appendix C.
_DENY_OVERRIDES: Final[tuple[_Row, ...]] = (
    (_Among({_D}), _D),
    (_Among({_IDP}), _IDP),
    (_Among({_ID}, {_IP, _P}), _IDP),
    (_Among({_ID}), _ID),
    (_Among({_P}), _P),
    (_Among({_IP}), _IP),
    (_Otherwise(), _NA),
)
_PERMIT_OVERRIDES: Final[tuple[_Row, ...]] = (
    (_Among({_P}), _P),
    (_Among({_IDP}), _IDP),
    (_Among({_IP}, {_ID, _D}), _IDP),
    (_Among({_IP}), _IP),
    (_Among({_D}), _D),
    (_Among({_ID}), _ID),
    (_Otherwise(), _NA),
)
_TABLES: Final[Mapping[Algorithm, tuple[_Row, ...]]] = {
    Algorithm.DENY_OVERRIDES: _DENY_OVERRIDES,
    Algorithm.ORDERED_DENY_OVERRIDES: _DENY_OVERRIDES,
    Algorithm.PERMIT_OVERRIDES: _PERMIT_OVERRIDES,
    Algorithm.ORDERED_PERMIT_OVERRIDES: _PERMIT_OVERRIDES,
    Algorithm.DENY_UNLESS_PERMIT: ((_Among({_P}), _P), (_Otherwise(), _D)),
    Algorithm.PERMIT_UNLESS_DENY: ((_Among({_D}), _D), (_Otherwise(), _P)),
}
_COLLAPSED: Final = {_P: Effect.PERMIT, _D: Effect.DENY, _NA: Effect.NOT_APPLICABLE}
_EXTENDED: Final = {
    Effect.PERMIT: _P,
    Effect.DENY: _D,
    Effect.NOT_APPLICABLE: _NA,
    Effect.INDETERMINATE: _IDP,
}
