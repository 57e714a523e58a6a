"""What a search found. Imports the model only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import attrs

from pep.model import Action, Resource, Subject


@final
@attrs.frozen
class Found:
    """
    What a search found: candidates, each to be checked before it is relied on.

    Args:
        items: Subjects, resources or actions, in the order they were found.

        complete: Whether there are no others.
    """

    items: tuple[Subject, ...] | tuple[Resource, ...] | tuple[Action, ...]
    complete: bool = True

    def __iter__(self) -> Iterator[Subject | Resource | Action]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)
