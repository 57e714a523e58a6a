from __future__ import annotations

from typing import Any

import pytest

from pep.errors import ObligationError
from pep.model import AccessRequest, Resource, Subject
from pep.protocols import REFUSALS, Call, Phase, Rank, Refusal
from pep.verdict import Outcome

REQUEST = AccessRequest(Subject("user", "alice"), "read", Resource("document", "1"))


@pytest.mark.parametrize("outcome", [*Outcome, "denied", None])
def test_refusals_are_of_three_kinds(outcome: Any) -> None:
    """A handler may demand something of the caller; it may neither deny nor permit that way."""
    if outcome in REFUSALS:
        assert Refusal(outcome).demands == {}
        return
    with pytest.raises(ObligationError, match="`STEP_UP_REQUIRED`, `RATE_LIMITED`, `CONFIRMATION_REQUIRED`"):
        Refusal(outcome)


@pytest.mark.parametrize(
    "demands",
    [
        {"acr_values": "mfa"},
        {"acr_values": [1]},
        {"max_age": "60"},
        {"max_age": -1},
        {"max_age": True},
        {"retry_after": None},
        {"retry_after": "soon"},
        {"retry_after": float("nan")},
        {"approval": 7},
        {"other": object()},
        [],
        None,
    ],
)
def test_demands_are_checked_where_they_are_made(demands: Any) -> None:
    """A demand of the wrong type is the handler's mistake, not one of whoever raises the denial."""
    with pytest.raises(ObligationError):
        Refusal(Outcome.RATE_LIMITED, demands)


def test_demands_are_frozen() -> None:
    """What is demanded does not change after it was said."""
    values = ["mfa"]
    refusal = Refusal(
        Outcome.STEP_UP_REQUIRED, {"acr_values": values, "max_age": 0, "retry_after": 1.5, "approval": "a"}
    )
    values.append("other")
    assert refusal.demands == {"acr_values": ("mfa",), "max_age": 0, "retry_after": 1.5, "approval": "a"}


def test_calls_are_changed_by_making_others() -> None:
    """A handler returns another call; the one it was given stays."""
    call = Call(REQUEST, {"a": 1, "b": 2}, result=3, phase=Phase.AFTER)
    assert dict(call.with_arguments(a=9).arguments) == {"a": 9, "b": 2}
    assert call.with_result(8).result == 8
    assert (dict(call.arguments), call.result) == ({"a": 1, "b": 2}, 3)


def test_ranks_are_in_this_order() -> None:
    """What verifies comes before what modifies, counts and confirms; after the code, filters before redactions."""
    assert [rank.name for rank in sorted(Rank)] == [
        "VERIFY",
        "MODIFY",
        "COUNT",
        "CONFIRM",
        "FILTER",
        "REDACT",
        "NOTIFY",
    ]
