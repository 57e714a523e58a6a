from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.errors import ConfigurationError
from pep.model import Obligation
from pep.obligations.window import Window
from pep.protocols import ObligationHandler, Phase, Rank
from pep.testing import FakeClock
from tests.obligations.calling import CANARY, NAN, call_of, discharged, forged, permit, refused, worlds
from tests.scenes import Scene

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc).timestamp()
CALL = call_of()


def inside(properties: dict[str, Any], now: float, world: str = "sync", skew: float = 0.0) -> bool:
    """Tell whether a call passes at a time, and check that what is asked later says the same."""
    handler, obligation = Window(skew=skew, clock=FakeClock(now)), Obligation("window", properties)
    holds = handler.holds(obligation, CALL, now)
    if holds:
        assert discharged(handler, obligation, CALL, world) is CALL
    else:
        refused(handler, obligation, CALL, world)
    return holds


def test_it_is_a_handler_that_verifies() -> None:
    """It acts before the code, and before anything is changed or counted."""
    handler = Window()
    assert isinstance(handler, ObligationHandler)
    assert (set(handler.types), handler.phase, handler.rank) == ({"window"}, Phase.BEFORE, Rank.VERIFY)


@pytest.mark.parametrize(
    ("properties", "now", "holds"),
    [
        ({"not_before": "2026-05-01T12:00:00Z"}, NOON, True),
        ({"not_before": "2026-05-01T12:00:00Z"}, NOON - 0.001, False),
        ({"not_before": "2026-05-01T14:00:00+02:00"}, NOON, True),
        ({"not_before": "2026-05-01T14:00:00+02:00"}, NOON - 1, False),
        ({"not_before": NOON}, NOON + 1e9, True),
        ({"not_after": "2026-05-01T12:00:00.5Z"}, NOON + 0.5, True),
        ({"not_after": int(NOON)}, NOON, True),
        ({"not_after": int(NOON)}, NOON + 0.001, False),
        ({"not_after": int(NOON)}, 0.0, True),
        ({"not_before": NOON, "not_after": NOON}, NOON, True),
        ({"not_before": NOON, "not_after": NOON + 60}, NOON + 30, True),
        ({"not_before": NOON, "not_after": NOON + 60}, NOON + 61, False),
        ({"not_before": NOON, "not_after": NOON + 60}, NOON - 1, False),
        ({"not_after": 0}, NOON, False),
        ({"not_after": -1}, NOON, False),
    ],
)
@worlds
def test_a_window_holds_between_its_ends(properties: dict[str, Any], now: float, holds: bool, world: str) -> None:
    """Both ends are inside; seconds since 1970 and RFC 3339 are the same moments."""
    assert inside(properties, now, world) is holds


@given(first=st.floats(0, 1e6), length=st.floats(0, 1e6), now=st.floats(-2e6, 3e6), skew=st.floats(0, 1e5))
def test_clocks_may_differ_by_the_skew_at_both_ends(first: float, length: float, now: float, skew: float) -> None:
    """The tolerance widens the window by itself, and by no more."""
    holds = inside({"not_before": first, "not_after": first + length}, now, skew=skew)
    assert holds == (first - skew <= now <= first + length + skew)


def test_no_time_at_all_is_outside() -> None:
    """A clock that tells no time opens no window."""
    assert not Window().holds(Obligation("window", {"not_before": 0}), CALL, NAN)


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({}, "not_before"),
    ({"not_before": 2, "not_after": 1}, "not_after"),
    *[
        ({name: wrong}, name)
        for name in ("not_before", "not_after")
        for wrong in (
            *(None, "", True, NAN, float("inf"), float("-inf"), (1,), CANARY, "2026-05-01", "2026-05-01T12:00:00"),
            *("2026-05-01T25:00:00Z", "12:00:00Z", "1777636800", "2026-13-01T12:00:00Z", "2026-05-01T12:00:00Z "),
        )
    ],
    ({"not_after": 1e12, "until": CANARY}, "until"),
]


@pytest.mark.parametrize(("properties", "named"), MALFORMED)
@worlds
def test_malformed_properties_fail_closed(properties: dict[str, Any], named: str, world: str) -> None:
    """A moment that cannot be read, or is nobody's, is no window; nor is one without an end, or upside down."""
    assert f"`{named}`" in refused(Window(skew=1e9), forged("window", properties), CALL, world)


@pytest.mark.parametrize("skew", [-1, NAN, float("inf"), True, "1", None])
def test_a_skew_is_some_seconds(skew: Any) -> None:
    """A tolerance that is none is found where it is written."""
    with pytest.raises(ConfigurationError, match="`skew`"):
        Window(skew=skew)


@worlds
def test_a_call_outside_is_denied(world: str) -> None:
    """Before its window and after it, the call does not run."""
    clock = FakeClock()
    obligation = Obligation("window", {"not_before": clock.wall() + 10, "not_after": clock.wall() + 20})
    scene = Scene(world, permit(obligation), obligations=[Window(clock=clock)], clock=clock)
    told = []
    for _ in range(4):
        told.append(scene.edit().told[0])
        clock.advance(8)
    assert told == ["denied", "denied", "returned", "denied"]
    assert len(scene.ran) == 1
