"""
What a table of figures consists of: rows with their bounds, one table, and how it changed since a saved run.

Imports the standard library and attrs only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs


@attrs.frozen
class Bound:
    """What a row is to reach: at most, or at least, so much."""

    limit: float
    least: bool = False

    def met(self, value: float) -> bool:
        """Tell whether a value reaches it."""
        return value >= self.limit if self.least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.least else '<='} {self.limit:,g}"


def at_most(limit: float) -> Bound:
    """Make an upper bound."""
    return Bound(limit)


def at_least(limit: float) -> Bound:
    """Make a lower bound."""
    return Bound(limit, least=True)


@attrs.frozen(kw_only=True)
class Row:
    """
    One line of a table.

    Attributes:
        name: What was measured.

        median, minimum: Over the rounds; None where nothing was measured.

        unit: Of both.

        ratio: Within the run; the value that is bounded, where there is one.

        to: What the ratio is to.

        bound: What is to be reached; the median's, where there is no ratio.

        met: Whether it is.

        note: What a reader should know.
    """

    name: str
    median: float | None = None
    minimum: float | None = None
    unit: str = "µs"
    ratio: float | None = None
    to: str = ""
    bound: str = ""
    met: bool | None = None
    note: str = ""

    @property
    def value(self) -> float | None:
        """What a saved run is compared by: the ratio, or the figure where there is none."""
        return self.median if self.ratio is None else self.ratio


def figure(name: str, value: float, unit: str, bound: Bound | None = None, note: str = "") -> Row:
    """Make the row of what is measured once, not in rounds."""
    met = None if bound is None else bound.met(value)
    return Row(name=name, median=value, minimum=value, unit=unit, bound=str(bound or ""), met=met, note=note)


def missing(name: str, why: str) -> Row:
    """Make the row of what could not be measured."""
    return Row(name=name, note=why)


def table(rows: Iterable[Row]) -> str:
    """Lay rows out as one table."""
    lines = [("", "median", "minimum", "", "ratio", "to", "bound", "", ""), *map(_cells, rows)]
    wide = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    right = {1, 2, 4}
    told = [
        "  ".join(cell.rjust(size) if at in right else cell.ljust(size) for at, (cell, size) in enumerate(pairs))
        for pairs in (list(zip(line, wide, strict=True)) for line in lines)
    ]
    return "\n".join(line.rstrip() for line in told)


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {None: "", True: "met", False: "MISSED"}[row.met]
    unit = row.unit if row.median is not None else ""
    numbers = (_number(row.median), _number(row.minimum), unit, _number(row.ratio))
    return (row.name, *numbers, row.to, row.bound, verdict, row.note)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.2f}"  # noqa: PLR2004  digits


def compared(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Lay out how each ratio changed since a saved run; a figure where there is no ratio."""
    before = {row["name"]: Row(**row) for row in saved["rows"]}
    after = {row["name"]: Row(**row) for row in now["rows"]}
    lines = [("", "saved", "now", "change")]
    for name, row in after.items():
        was = before.get(name)
        lines.append((name, *_change(was.value if was else None, row.value)))
    lines += [(name, _number(row.value), "", "gone") for name, row in before.items() if name not in after]
    wide = [max(len(line[at]) for line in lines) for at in range(4)]
    told = [f"{line[0]:<{wide[0]}}  {line[1]:>{wide[1]}}  {line[2]:>{wide[2]}}  {line[3]:>{wide[3]}}" for line in lines]
    return "\n".join(told)


def _change(was: float | None, value: float | None) -> tuple[str, str, str]:
    if was is None or value is None:
        return _number(was), _number(value), "new" if was is None and value is not None else ""
    change = f"{(value / was - 1) * 100:+.0f} %" if was else ""
    return _number(was), _number(value), change
