"""What the hot path looks at."""

from __future__ import annotations

import uuid
from enum import IntEnum

import pytest

from pep.guard.lookup import plain_id


class Odd(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (7, "7"),
        (-7, "-7"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (True, None),
        (Odd.ONE, None),
        (1.0, None),
        (None, None),
        (b"7", None),
        pytest.param(10**5000, None, id="huge"),
    ],
)
def test_ids_that_are_no_text(value: object, name: str | None) -> None:
    """Only an exact `int` or `UUID` is an id; the plan judges everything else, and what Python will not write."""
    assert plain_id(value) == name
