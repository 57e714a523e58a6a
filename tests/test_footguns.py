"""
The ways in which libraries like this one have been bypassed, each closed, in every shape.

One row per trap, numbered as in the catalogue of them; the checks are in `tests/footguns`.
"""

from __future__ import annotations

import inspect
from typing import Final

import pytest

# Before they are imported: assertions outside of test modules are gone under `-O`.
pytest.register_assert_rewrite("tests.footguns")

from tests.footguns import answers, around, kinds, permits, requests, setup, timing, trouble  # noqa: E402  see above
from tests.footguns.traps import Trap  # noqa: E402  see above

TRAPS: Final = {
    number: traps
    for part in (kinds, around, answers, timing, requests, permits, trouble, setup)
    for number, traps in part.TRAPS.items()
}
ROWS: Final = [
    pytest.param(trap, case, id=f"{number}-{trap.check.__name__}-{case}")
    for number in sorted(TRAPS)
    for trap in TRAPS[number]
    for case in trap.cases
]


@pytest.mark.parametrize(("trap", "case"), ROWS)
@pytest.mark.filterwarnings("ignore:.*iscoroutinefunction.*:DeprecationWarning")
def test_the_trap_is_closed(trap: Trap, case: str) -> None:
    """Each way such a library has been bypassed is closed here, in every shape it comes in."""
    trap.check(*trap.cases[case])


def test_every_trap_of_the_catalogue_is_here() -> None:
    """All 42 rows are checked, each once, and each check names its trap."""
    assert sorted(TRAPS) == list(range(1, 43))
    assert all(traps and all(trap.cases and inspect.getdoc(trap.check) for trap in traps) for traps in TRAPS.values())
