"""Tallies: what counts, and for how much of it one subject can make up."""

from __future__ import annotations

import pytest

from pep import Decision, Effect
from pep.compose import tallies
from pep.compose.tallies import Counts, Tally
from pep.compose.window import PARTS
from pep.errors import PDPTimeout
from pep.plan import Raised, Returned

YES, NO, DOWN = Returned(Decision(Effect.PERMIT)), Returned(Decision(Effect.DENY)), Raised(PDPTimeout())
WINDOW = 10.0 * PARTS
ALICE, BOB, CAROL = (("user", name) for name in ("alice", "bob", "carol"))


def test_denials_and_faults_are_counted_apart() -> None:
    """Whatever is no permit is a denial, and what is no answer a fault; each is forgotten with the window."""
    tally = Tally(WINDOW)
    tally.add([ALICE] * 4, [YES, NO, Returned(Decision(Effect.NOT_APPLICABLE)), DOWN], 0.0)
    assert tally.total(0.0) == Counts(asked=4, denials=2, faults=1)
    assert tally.total(WINDOW) == Counts(asked=0, denials=0, faults=0)


@pytest.mark.parametrize("outcome", [YES, NO, DOWN])
def test_one_subject_counts_so_often_and_no_oftener(outcome: Returned[Decision] | Raised) -> None:
    """In each part of the window anew; others count beside it."""
    tally = Tally(WINDOW, per_subject=2)
    for _ in range(50):
        tally.add([ALICE, BOB], [outcome, YES], 0.0)
    assert tally.total(0.0).asked == 4
    assert tally.total(0.0).denials == (2 if outcome is NO else 0)
    tally.add([ALICE] * 3, [outcome] * 3, 10.0)
    # Threads read the clock before they come here.
    tally.add([ALICE], [outcome], 9.0)
    assert tally.total(10.0).asked == 6


def test_so_many_subjects_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come later are as one, so that memory is bounded."""
    monkeypatch.setattr(tallies, "MAX_SUBJECTS", 2)
    tally = Tally(WINDOW, per_subject=1)
    tally.add([ALICE, BOB, CAROL, ("user", "dave"), ALICE], [YES] * 5, 0.0)
    assert tally.total(0.0).asked == 3
    assert len(tally._heard) == 3
