"""What the hot path looks at, and sources that were read already."""

from __future__ import annotations

import uuid
from enum import IntEnum
from typing import Any

import pytest

from pep import Resource
from pep.guard.lookup import Given, plain_id
from pep.plan import Raised, Returned
from pep.scope import NOBODY
from pep.sources import Computed
from pep.testing import drive


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


def test_a_source_that_was_read_is_read_again_only_later() -> None:
    """What was read is given once; whoever asks again asks the source, whose parts it has."""
    asked: list[str] = []

    def find(name: str) -> Resource:
        asked.append(name)
        return Resource("document", name)

    source = Computed(find, (), ("name",), asynchronous=False)
    given = Given(source, Returned(Resource("document", "given")))
    assert (given.parameters, given.asynchronous, given.type) == (("name",), False, None)
    assert drive(given.read({"name": "1"}, NOBODY)).id == "given"
    assert asked == []
    assert drive(given.read({"name": "1"}, NOBODY)).id == "1"
    assert asked == ["1"]


def test_a_source_that_raised_raises_once() -> None:
    """What reading came to is raised where it would have been."""
    source: Any = Computed(lambda name: name, (), ("name",), asynchronous=False)
    given = Given(source, Raised(ValueError("no")))
    with pytest.raises(ValueError, match="no"):
        drive(given.read({"name": "1"}, NOBODY))
    assert drive(given.read({"name": "1"}, NOBODY)) == "1"
