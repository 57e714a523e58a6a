"""
Tallies: what came of the questions of a decision point, over a window, in bounded memory.

Imports the parts, windows and the decision's words only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import attrs

from pep.compose.parts import Outcome
from pep.compose.window import PARTS, Window
from pep.decision import Effect
from pep.plan import Raised

#: How many subjects are told apart in one part of a window; the others are as one.
MAX_SUBJECTS: Final = 10_000

#: A subject's type and id; the empty one is those that are not told apart.
_Who = tuple[str, ...]


@attrs.frozen
class Counts:
    """
    What came of questions, over the window.

    Attributes:
        asked: How many were asked.

        denials: How many were answered, and not with a permit.

        faults: How many had no answer.
    """

    asked: int
    denials: int
    faults: int


class Tally:
    """
    What came of the questions of one side; see `Window`.

    Args:
        window: For how many seconds a question counts, at most.

        per_subject: How many of one subject count in each part of the window; None counts all.
    """

    def __init__(self, window: float, per_subject: int | None = None) -> None:
        self._denials, self._faults = Window(window), Window(window)
        self._width, self._most = window / PARTS, per_subject
        self._part = -1
        self._heard: Counter[_Who] = Counter()

    def add(self, subjects: Sequence[tuple[str, str]], outcomes: Sequence[Outcome], now: float) -> None:
        """Count what came of some questions, each with its subject."""
        for subject, one in zip(subjects, outcomes, strict=True):
            if self._counts(subject, now):
                fault = isinstance(one, Raised)
                self._faults.add(now, bad=fault)
                self._denials.add(now, bad=not isinstance(one, Raised) and one.value.effect is not Effect.PERMIT)

    def total(self, now: float) -> Counts:
        """Return what was counted within the window."""
        asked, denials = self._denials.counts(now)
        return Counts(asked, denials, self._faults.counts(now)[1])

    def _counts(self, subject: _Who, now: float) -> bool:
        """Tell whether one more question of a subject counts."""
        if self._most is None:
            return True
        part = int(now // self._width)
        if part > self._part:
            self._part, self._heard = part, Counter()
        who = subject if subject in self._heard or len(self._heard) < MAX_SUBJECTS else ()
        self._heard[who] += 1
        return self._heard[who] <= self._most
