from __future__ import annotations

from itertools import permutations, product
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.fault import Fault
from pep.model import Effect
from pep.profile import FailClosed, FailOpen, FailStale
from pep.protocols import Refusal
from pep.settle import PRECEDENCE, excuses, prevailing, settle_duties, settle_effect, settle_fault
from pep.verdict import ALLOWING, Outcome, Status

O = Outcome  # noqa: E741  the tables below are read more easily

EFFECTS = {
    Effect.PERMIT: O.PERMITTED,
    Effect.DENY: O.DENIED,
    Effect.NOT_APPLICABLE: O.DENIED,
    Effect.INDETERMINATE: O.UNAVAILABLE,
}

#: Every fault -> what it comes to; whether an opening that names it, and a stale decision, may excuse it.
FAULTS = {
    Fault.TIMEOUT: (O.UNAVAILABLE, True, True),
    Fault.UNREACHABLE: (O.UNAVAILABLE, True, True),
    Fault.OVERLOADED: (O.UNAVAILABLE, True, True),
    Fault.REJECTED: (O.UNAVAILABLE, False, False),
    Fault.INSECURE: (O.UNAVAILABLE, False, False),
    Fault.MALFORMED: (O.UNAVAILABLE, False, False),
    Fault.MISMATCHED: (O.UNAVAILABLE, False, False),
    Fault.EXTRACTION: (O.DENIED, False, False),
    Fault.ATTRIBUTES: (O.UNAVAILABLE, False, False),
    Fault.OBLIGATION: (O.DENIED, False, False),
    Fault.AUDIT: (O.UNAVAILABLE, False, False),
    Fault.REVOKED: (O.UNAVAILABLE, False, False),
    Fault.UNBOUND: (O.UNAVAILABLE, False, False),
    Fault.INTERNAL: (O.UNAVAILABLE, False, False),
}

#: Which outcomes one call's refusals come to.
REFUSED = {
    (): O.PERMITTED,
    (O.STEP_UP_REQUIRED,): O.STEP_UP_REQUIRED,
    (O.RATE_LIMITED,): O.RATE_LIMITED,
    (O.CONFIRMATION_REQUIRED,): O.CONFIRMATION_REQUIRED,
    (O.STEP_UP_REQUIRED, O.RATE_LIMITED): O.STEP_UP_REQUIRED,
    (O.STEP_UP_REQUIRED, O.CONFIRMATION_REQUIRED): O.STEP_UP_REQUIRED,
    (O.RATE_LIMITED, O.CONFIRMATION_REQUIRED): O.RATE_LIMITED,
    (O.STEP_UP_REQUIRED, O.RATE_LIMITED, O.CONFIRMATION_REQUIRED): O.STEP_UP_REQUIRED,
}


@pytest.mark.parametrize("effect", Effect)
def test_effects(effect: Effect) -> None:
    """Only an exact permit permits; what was indeterminate is unavailable."""
    assert settle_effect(effect) is EFFECTS[effect]


@pytest.mark.parametrize("fault", Fault)
def test_faults(fault: Fault) -> None:
    """Every fault closes: a call that cannot be understood is denied, an outage is told as one."""
    assert settle_fault(fault) is FAULTS[fault][0]
    assert settle_fault(fault) not in ALLOWING


AVAILABLE = [fault for fault in Fault if FAULTS[fault][1]]


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("named", AVAILABLE)
def test_openings_excuse_what_they_name(fault: Fault, named: Fault) -> None:
    """An opening excuses the faults it names and no other."""
    mode = FailOpen(on={named}, limit="1/minute")
    assert excuses(mode, fault) is (fault is named)


@pytest.mark.parametrize("fault", Fault)
def test_what_each_mode_excuses(fault: Fault) -> None:
    """Closed excuses nothing, stale every outage, an opening that names all of them the same."""
    _, opened, stale = FAULTS[fault]
    assert excuses(FailClosed(), fault) is False
    assert excuses(FailStale(max_age=60), fault) is stale
    assert excuses(FailOpen(on=set(AVAILABLE), limit="1/minute"), fault) is opened


@pytest.mark.parametrize("fault", Fault)
def test_an_opening_never_excuses_what_is_no_outage(fault: Fault) -> None:
    """Even a mode forged to name every fault excuses only outages."""
    forged: Any = FailOpen(on={Fault.TIMEOUT}, limit="1/minute")
    object.__setattr__(forged, "on", frozenset(Fault))
    assert excuses(forged, fault) is FAULTS[fault][1]


@pytest.mark.parametrize(
    "statuses", list(product(Status, repeat=2)), ids=lambda s: "+".join(status.value for status in s)
)
@pytest.mark.parametrize("refused", REFUSED, ids=lambda r: "+".join(outcome.value for outcome in r) or "none")
def test_duties(statuses: tuple[Status, ...], refused: tuple[Outcome, ...]) -> None:
    """One obligation that failed or is unknown denies, whatever else was demanded, in whatever order."""
    for order in permutations(refused):
        settled = settle_duties(iter(statuses), [Refusal(outcome) for outcome in order])
        if {Status.FAILED, Status.UNSUPPORTED} & set(statuses):
            assert settled == (O.DENIED, Fault.OBLIGATION)
        else:
            assert settled == (REFUSED[refused], None)


def test_precedence_is_this() -> None:
    """The order in which outcomes prevail, every one of them in it once."""
    assert [outcome.name for outcome in PRECEDENCE] == [
        "DENIED",
        "UNAVAILABLE",
        "STEP_UP_REQUIRED",
        "RATE_LIMITED",
        "CONFIRMATION_REQUIRED",
        "FAILED_OPEN",
        "SHADOWED",
        "PERMITTED",
    ]
    assert set(PRECEDENCE) == set(Outcome)


@given(st.lists(st.sampled_from(list(Outcome))))
def test_what_prevails_depends_on_no_order(outcomes: list[Outcome]) -> None:
    """The first in the order of precedence prevails; one that refuses is never outweighed."""
    found = prevailing(outcomes)
    assert found is prevailing(reversed(outcomes))
    assert (found in ALLOWING) == all(outcome in ALLOWING for outcome in outcomes)
    assert outcomes == [] or found is next(outcome for outcome in PRECEDENCE if outcome in outcomes)


def test_nothing_to_weigh_is_permitted() -> None:
    """Where nothing bears on a call, nothing stands in its way."""
    assert prevailing([]) is O.PERMITTED


@pytest.mark.parametrize("settle", [settle_effect, settle_fault, lambda mode: excuses(mode, Fault.TIMEOUT)])
def test_tables_are_closed(settle: Any) -> None:
    """A value that is in no row ends in an error, never in a permit."""
    with pytest.raises(AssertionError):
        settle(SimpleNamespace(on=frozenset(Fault)))
