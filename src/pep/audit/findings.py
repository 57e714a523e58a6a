"""What can be wrong with a chain of records, and where. Imports its own folder only."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import attrs

from pep.audit.reading import Place

# How many places are remembered.
_MANY: Final = 100_000


class Wrong(Enum):
    """What is wrong with a chain."""

    #: A line is not the one that the next line goes on from.
    EDITED = "edited"
    #: A line is whole, but not where it was written.
    REORDERED = "reordered"
    #: A line, or its number, is there twice.
    REPEATED = "repeated"
    #: A line that its writer did not write there.
    INSERTED = "inserted"
    #: Lines are not there that others tell of.
    MISSING = "missing"
    #: A line is no record.
    DAMAGED = "damaged"
    #: A line was cut short.
    TORN = "torn"
    #: What is there is not what was signed.
    FORGED = "forged"
    #: A checkpoint counts more lines than there are.
    TRUNCATED = "truncated"


@attrs.frozen
class Finding:
    """
    Something that is wrong.

    Attributes:
        wrong: What kind of thing.

        place: Where; None where it concerns no line that is there.

        detail: More on it, in words; never what a line says.
    """

    wrong: Wrong
    place: Place | None
    detail: str

    def __str__(self) -> str:
        return f"{f'{self.place}: ' if self.place else ''}{self.wrong.value}: {self.detail}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        place = self.place
        where = {"file": str(place.path), "line": place.line, "offset": place.offset} if place else {}
        return {"wrong": self.wrong.value, **where, "detail": self.detail}


@attrs.define(eq=False)
class Findings:
    """
    Takes findings, at most one of a kind for a place.

    Args:
        tell: Is told of each.
    """

    _tell: Callable[[Finding], None]
    _places: set[Place] = attrs.field(factory=set)

    def add(self, wrong: Wrong, place: Place | None, detail: str) -> None:
        """Tell of one thing that is wrong."""
        if place is not None and len(self._places) < _MANY:
            self._places.add(place)
        self._tell(Finding(wrong, place, detail))

    def blames(self, place: Place) -> bool:
        """Whether something was found at a place already."""
        return place in self._places
