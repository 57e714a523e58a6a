from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import pytest

from pep import errors
from pep.errors import AccessDenied, ObligationError
from pep.model import Obligation
from pep.verdict import ALLOWING, Discharge, Grant, Outcome, Status, Verdict

RAISED = {
    Outcome.PERMITTED: None,
    Outcome.DENIED: errors.AccessDenied,
    Outcome.CONFIRMATION_REQUIRED: errors.ConfirmationRequired,
    Outcome.STEP_UP_REQUIRED: errors.StepUpRequired,
    Outcome.RATE_LIMITED: errors.RateLimited,
    Outcome.UNAVAILABLE: errors.DecisionUnavailable,
    Outcome.FAILED_OPEN: None,
    Outcome.SHADOWED: None,
}


@pytest.mark.parametrize("outcome", Outcome)
def test_what_an_outcome_raises(outcome: Outcome) -> None:
    """A verdict is allowed exactly when it raises nothing; otherwise it raises the one error that fits, chained."""
    verdict = Verdict("r", outcome, cause=OSError("down"))
    assert verdict.allowed is (RAISED[outcome] is None) is (outcome in ALLOWING)
    if RAISED[outcome] is None:
        verdict.raise_if_denied()
        return
    with pytest.raises(AccessDenied) as caught:
        verdict.raise_if_denied()
    assert type(caught.value) is RAISED[outcome]
    assert caught.value.verdict is verdict
    assert caught.value.__cause__ is verdict.cause


@pytest.mark.parametrize("outcome", Outcome)
def test_hidden_denials_all_look_alike(outcome: Outcome) -> None:
    """In a hidden profile every denial looks like absence, and tells no cause."""
    verdict = Verdict("r", outcome, hidden=True, cause=OSError("down"))
    if verdict.allowed:
        verdict.raise_if_denied()
        return
    with pytest.raises(errors.NotVisible, match=r"^access denied \(record r\)$") as caught:
        verdict.raise_if_denied()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("outcome", Outcome)
def test_a_verdict_has_no_truth_value(outcome: Outcome) -> None:
    """A verdict that is truthy has let people in elsewhere: it refuses to be asked."""
    with pytest.raises(TypeError, match=r"ask `verdict\.allowed`"):
        bool(Verdict("r", outcome))


def test_demands_do_not_change() -> None:
    """What a caller must bring is as it was when the verdict was reached."""
    demands = {"approval": "a"}
    verdict = Verdict("r", Outcome.CONFIRMATION_REQUIRED, demands=demands)
    demands["approval"] = "b"
    assert dict(verdict.demands) == {"approval": "a"}
    assert verdict.demands is not demands
    with pytest.raises(TypeError):
        verdict.demands["approval"] = "c"  # type: ignore[index]


def grant(**changes: Any) -> Grant:
    return Grant(Verdict("r", Outcome.PERMITTED), {"a": 1}, **{"redeem": lambda _grant: None, **changes})


@pytest.mark.parametrize(
    ("make", "mend"),
    [(lambda: Verdict("r", Outcome.PERMITTED), r"send `verdict\.id` instead"), (grant, "ask again over there")],
)
def test_verdicts_and_grants_stay_where_they_are(make: Any, mend: str) -> None:
    """Neither pickles nor copies: a permit elsewhere is one that nobody gave."""
    value = make()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=mend):
            pickle.dumps(value, protocol)
    for copied in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=mend):
            copied(value)
    assert not hasattr(value, "__setstate__")


def test_verdicts_are_equal_by_identity() -> None:
    """Two conclusions are two, whatever they say."""
    one, other = Verdict("r", Outcome.PERMITTED), Verdict("r", Outcome.PERMITTED)
    assert one != other
    assert attrs.evolve(one, outcome=Outcome.DENIED).allowed is False


def test_using_a_grant_redeems_that_very_one() -> None:
    """Spending goes to the enforcer that gave the grant, with the grant itself."""
    spent: list[Grant] = []
    given = grant(redeem=spent.append)
    given.use()
    assert spent == [given]
    assert given.verdict.allowed
    assert dict(given.arguments) == {"a": 1}
    assert repr(given) == "<Grant of record r>"


def test_nothing_is_released_outside_a_block() -> None:
    """Where no result can be let out, releasing says where it can."""
    with pytest.raises(ObligationError, match="use `with enforcing"):
        grant().release(1)
    coroutine = grant().arelease(1)
    with pytest.raises(ObligationError, match="use `with enforcing"):
        coroutine.send(None)


def test_releasing_goes_through_what_was_given() -> None:
    """A block's result is what its obligations make of it, in both worlds."""

    class Block:
        def release(self, value: int) -> int:
            return value + 1

        async def arelease(self, value: int) -> int:
            return value * 2

    given = grant(block=Block())
    assert given.release(1) == 2
    with pytest.raises(StopIteration) as ended:
        given.arelease(4).send(None)
    assert ended.value.value == 8


def test_a_line_of_the_ledger_is_a_value() -> None:
    """A discharge names its obligation and ends in one status."""
    line = Discharge(Obligation("log"), Status.DISCHARGED)
    assert line == Discharge(Obligation("log"), Status.DISCHARGED)
    assert line != Discharge(Obligation("log"), Status.FAILED)
