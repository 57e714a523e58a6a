"""A call that is cancelled, at any turn of the loop, once or twice: nothing runs unrecorded, and what ended is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from pep.enforcement import Enforcement
from pep.testing import complaints
from pep.testing.laws import unended
from tests.property.entries import ENTRIES
from tests.property.rigs import Loop, Report, Rig
from tests.property.setups import SETUPS, Setup

#: What there is to wait for: decision point, sink, providers and handlers, one after another and side by side.
WAITED: Final = [
    setup
    for setup in SETUPS
    if setup.name
    in {"plain", "denied", "two providers", "obligations around", "several resources", "revoked once", "shadow"}
]

#: Entry points whose permits must be told an end when nothing ran under them; a grant is the caller's to use.
ENDED: Final = frozenset({"guard", "stacked", "nested", "generator", "dropped generator", "enforcing"})

AWAITED: Final = [entry for entry in ENTRIES if entry != "construction"]

#: More turns than any of these calls takes.
TURNS: Final = 400


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def cancelled(rig: Rig, again: int | None = None) -> Iterator[tuple[int, Report]]:
    """Cancel a call after every number of turns of the loop, until it is over before."""
    for after in range(TURNS):
        report = rig.run_cancelled(after, again)
        if report is None:
            return
        yield after, report
    pytest.fail("the call never ended")


def check(entry: str, report: Report, told: str) -> None:
    timeline = report.stage.timeline
    assert complaints(timeline) == [], told
    if entry in ENDED and report.result == ("raised", "CancelledError"):
        assert list(unended(timeline)) == [], f"{told}: {report.records}"


@pytest.mark.parametrize("setup", WAITED, ids=lambda setup: setup.name)
@pytest.mark.parametrize("entry", AWAITED)
def test_cancelled_at_every_turn(entry: str, setup: Setup, loop: Loop) -> None:
    """Wherever a call is cancelled, its permit has been used, or its end is on record."""
    turns = 0
    for after, report in cancelled(Rig(ENTRIES[entry], setup, loop)):
        check(entry, report, f"cancelled after {after} turns")
        turns += 1
    assert turns > 2


@pytest.mark.parametrize("setup", [SETUPS[0], WAITED[3]], ids=lambda setup: setup.name)
@pytest.mark.parametrize("entry", AWAITED)
def test_cancelled_twice(entry: str, setup: Setup, loop: Loop) -> None:
    """A second cancellation, while the first is being told, loses nothing."""
    rig = Rig(ENTRIES[entry], setup, loop)
    for again in (0, 1, 2, 3):
        for after, report in cancelled(rig, again):
            check(entry, report, f"cancelled after {after} and {again} turns")


def test_cancelled_before_anything_was_decided_is_told(loop: Loop) -> None:
    """A call that is cancelled while it waits for its decision leaves one record, and it says so."""
    reports = dict(cancelled(Rig(ENTRIES["guard"], SETUPS[0], loop)))
    first = reports[2]
    assert [record.get("status") for record in first.records] == ["cancelled"]
    assert first.result == ("raised", "CancelledError")


def test_a_lost_end_is_noticed(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgetting the pending record of a call that is cut off turns the law of told ends red."""

    def forgetful(_self: Enforcement, _error: BaseException) -> Any:
        return None
        yield

    monkeypatch.setattr(Enforcement, "closing", forgetful)
    rig = Rig(ENTRIES["guard"], SETUPS[0], loop)
    assert any(list(unended(report.stage.timeline)) for _, report in cancelled(rig))
