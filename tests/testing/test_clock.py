"""The fake clock only goes where it is told to."""

from __future__ import annotations

import pytest

from pep.testing import FakeClock


def readings(clock: FakeClock) -> tuple[float, float, float]:
    return clock.monotonic(), clock.boottime(), clock.wall()


def test_time_stands_still() -> None:
    """Reading a clock does not move it."""
    clock = FakeClock(wall=100.0)
    assert readings(clock) == readings(clock)
    assert clock.wall() == 100.0


def test_advance_moves_every_reading() -> None:
    """What passes, passes for deadlines, expiry and records alike."""
    clock = FakeClock()
    before = readings(clock)
    clock.advance(1.5)
    assert readings(clock) == tuple(reading + 1.5 for reading in before)


def test_suspend_leaves_the_monotonic_reading() -> None:
    """A machine that slept lets entries expire, and extends deadlines."""
    clock = FakeClock()
    monotonic, boottime, wall = readings(clock)
    clock.suspend(3600)
    assert readings(clock) == (monotonic, boottime + 3600, wall + 3600)


def test_the_wall_clock_may_be_set_back() -> None:
    """Setting the wall clock moves no other reading."""
    clock = FakeClock()
    monotonic, boottime, _ = readings(clock)
    clock.set_wall(5.0)
    assert readings(clock) == (monotonic, boottime, 5.0)


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
def test_time_goes_forward(seconds: float) -> None:
    """Neither back, nor to the end of time."""
    clock = FakeClock()
    before = readings(clock)
    for move in (clock.advance, clock.suspend):
        with pytest.raises(ValueError, match="forward"):
            move(seconds)
    assert readings(clock) == before


def test_repr_tells_the_time() -> None:
    """A clock shows where it stands."""
    assert repr(FakeClock()) == "<FakeClock at 1000 s>"
