"""
Settlement: the tables that turn decisions and faults into outcomes. Pure.

Imports L0 and the values of L1 only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Final

from pep.fault import AVAILABILITY, Fault
from pep.model import Effect
from pep.profile import FailClosed, FailOpen, FailStale
from pep.protocols import Refusal
from pep.verdict import Outcome, Status

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

#: Every outcome, the one that prevails first, when several bear on one call.
PRECEDENCE: Final = (
    Outcome.DENIED,
    Outcome.UNAVAILABLE,
    Outcome.STEP_UP_REQUIRED,
    Outcome.RATE_LIMITED,
    Outcome.CONFIRMATION_REQUIRED,
    Outcome.FAILED_OPEN,
    Outcome.SHADOWED,
    Outcome.PERMITTED,
)

_RANKS: Final = {outcome: rank for rank, outcome in enumerate(PRECEDENCE)}


def settle_effect(effect: Effect) -> Outcome:
    """
    Turn an effect into an outcome, before its obligations are looked at.

    Source:
        XACML 3.0 §7.2.2 (a deny-biased PEP: only an exact permit permits).
    """
    match effect:
        case Effect.PERMIT:
            return Outcome.PERMITTED
        case Effect.DENY | Effect.NOT_APPLICABLE:
            return Outcome.DENIED
        case Effect.INDETERMINATE:
            return Outcome.UNAVAILABLE
        case _:
            assert_never(effect)


def settle_fault(fault: Fault) -> Outcome:
    """Turn a fault into an outcome, where no failure mode excuses it."""
    match fault:
        case Fault.EXTRACTION | Fault.OBLIGATION:
            return Outcome.DENIED
        case (
            Fault.TIMEOUT
            | Fault.UNREACHABLE
            | Fault.OVERLOADED
            | Fault.REJECTED
            | Fault.INSECURE
            | Fault.MALFORMED
            | Fault.MISMATCHED
            | Fault.ATTRIBUTES
            | Fault.AUDIT
            | Fault.REVOKED
            | Fault.UNBOUND
            | Fault.INTERNAL
        ):
            return Outcome.UNAVAILABLE
        case _:
            assert_never(fault)


def excuses(mode: FailClosed | FailOpen | FailStale, fault: Fault) -> bool:
    """
    Tell whether a failure mode may excuse a fault at all.

    Closed unless the mode names the fault: an outage must never widen access by itself.
    """
    if fault not in AVAILABILITY:
        return False
    match mode:
        case FailClosed():
            return False
        case FailOpen():
            return fault in mode.on
        case FailStale():
            return True
        case _:
            assert_never(mode)


def settle_duties(statuses: Iterable[Status], refusals: Sequence[Refusal]) -> tuple[Outcome, Fault | None]:
    """
    Turn what became of a permit's obligations into an outcome.

    Args:
        statuses: The status of every obligation that did not end in a refusal.

        refusals: What handlers demanded of the caller.

    Returns:
        The outcome that prevails, and the fault where an obligation was not discharged.

    Source:
        XACML 3.0 §7.18; AuthZEN obligations profile.
    """
    if any(status in {Status.FAILED, Status.UNSUPPORTED} for status in statuses):
        return Outcome.DENIED, Fault.OBLIGATION
    return prevailing(refusal.outcome for refusal in refusals), None


def prevailing(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcome that prevails over all; nothing to weigh is permitted."""
    return min(outcomes, key=_RANKS.__getitem__, default=Outcome.PERMITTED)
