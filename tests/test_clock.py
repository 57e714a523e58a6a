from __future__ import annotations

import time

import pytest

from pep import clock
from pep.clock import SystemClock


def test_readings_go_forward() -> None:
    """Deadlines and expiry are read from clocks that never go back."""
    system = SystemClock()
    for read in (system.monotonic, system.boottime):
        assert read() <= read()


def test_records_have_the_time_of_day() -> None:
    """The wall clock is that of the machine."""
    before = time.time()
    assert before <= SystemClock().wall() <= time.time()


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no such clock here")
def test_expiry_includes_suspend_where_it_can() -> None:
    """Where the platform has a clock that runs through suspend, expiry is read from it."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= SystemClock().boottime() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_expiry_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere it is read from the monotonic clock."""
    monkeypatch.setattr(clock, "_BOOTTIME", None)
    before = time.monotonic()
    assert before <= SystemClock().boottime() <= time.monotonic()
