"""
What every benchmark shares: kinds that take turns, ratios within one run, one table, one JSON file, a comparison.

A topic is one file with a function that adds its rows to a `Bench`, and `main`. All kinds of a topic run in one process
and take turns, a round each, so that a busy machine slows every one of them; garbage is collected between. A ratio is
the median of the ratios within each round. Prints, never asserts: only a kind that did not do what its name says, by
its own `settle`, ends the run. Imports the standard library and attrs only.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import attrs
from rows import Bound, Row, at_least, at_most, compared, figure, missing, table

__all__ = [
    "MICRO",
    "RESULTS",
    "Bench",
    "Bound",
    "Kind",
    "Row",
    "Taken",
    "Timed",
    "WrongError",
    "arguments",
    "at_least",
    "at_most",
    "awaited",
    "figure",
    "main",
    "missing",
    "repeated",
    "whole",
]

RESULTS: Final = Path(__file__).resolve().parent.parent / "build" / "bench"
MICRO: Final = 1e6

# Calls it so many times, and returns the seconds that took.
Timed = Callable[[int], float]
# Kind → microseconds of one call, by round.
Taken = Mapping[str, Sequence[float]]


@attrs.frozen(kw_only=True)
class Kind:
    """
    One way to do a thing, that takes turns with the others.

    Attributes:
        name: What the row is called.

        seconds: Does it so many times, and returns the seconds that took.

        calls: How many times a round.

        over: The kind its ratio is to; the floor of the topic, unless given.

        less, over_less: The kind whose time is subtracted from its own, and from *over*'s, before.

        faster: Whether the ratio is one of throughput: how many times as fast as *over*.

        bound: What the ratio is to reach; or the time itself, in microseconds, if *absolute*.

        absolute: Whether it is.

        settle: Checks that so many were done, and forgets them; not timed.

        note: What a reader should know.
    """

    name: str
    seconds: Timed
    calls: int
    over: str | None = None
    less: str | None = None
    over_less: str | None = None
    faster: bool = False
    bound: Bound | None = None
    absolute: bool = False
    settle: Callable[[int], object] | None = None
    note: str = ""

    def ratio(self, taken: Taken) -> float:
        """Return the median of its ratios to what it is over, round by round."""
        own, over = _without(taken, self.name, self.less), _without(taken, self.over or "", self.over_less)
        pairs = [(two, one) if self.faster else (one, two) for one, two in zip(own, over, strict=True)]
        found = [top / bottom for top, bottom in pairs if bottom > 0]
        return statistics.median(found) if found else math.nan


class WrongError(Exception):
    """A kind did not do what its name says."""


@attrs.define
class Bench:
    """
    One topic of one run.

    Attributes:
        topic: Its name; also of its JSON file.

        pace: ``quick`` for tests of the benchmarks themselves, ``usual``, or ``full`` with the numbers of a promise.

        results: Where the JSON file and temporary files go.

        floor: The kind that ratios are to unless a kind says otherwise.

        stack: What is closed at the end.
    """

    topic: str
    pace: str
    results: Path
    stack: ExitStack
    floor: str | None = None
    rounds: int = 0
    _parts: list[Kind | Row | Callable[[], Iterable[Row]]] = attrs.field(factory=list)

    def size(self, quick: int, usual: int, full: int | None = None) -> int:
        """Choose a number by the pace."""
        return {"quick": quick, "usual": usual, "full": usual if full is None else full}[self.pace]

    def folder(self) -> Path:
        """Make a folder that is removed at the end, beside the results: one for temporary files may be in memory."""
        return Path(self.stack.enter_context(tempfile.TemporaryDirectory(dir=self.results)))

    def time(self, name: str, seconds: Timed, calls: int, **told: Any) -> None:  # noqa: ANN401  as `Kind` takes them
        """Add a kind; see `Kind`."""
        self._parts.append(Kind(name=name, seconds=seconds, calls=calls, **{"over": self.floor, **told}))

    def add(self, row: Row) -> None:
        """Add a row as it is."""
        self._parts.append(row)

    def once(self, measure: Callable[[], Iterable[Row]]) -> None:
        """Add what is measured once, when the rounds are over."""
        self._parts.append(measure)

    def rows(self) -> Iterator[Row]:
        """Measure everything, in rounds where it takes turns, and make the rows in the order they were added."""
        kinds = [part for part in self._parts if isinstance(part, Kind)]
        taken = in_turns(kinds, self.rounds)
        for part in self._parts:
            if isinstance(part, Kind):
                yield _row(part, taken, {kind.name: kind for kind in kinds})
            elif isinstance(part, Row):
                yield part
            else:
                yield from part()


def in_turns(kinds: Sequence[Kind], rounds: int) -> Taken:
    """
    Let every kind take its turn in each round; another one begins each time.

    Returns:
        Kind → microseconds of one call by round, without the first, which warms up.
    """
    taken: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    # What was set up is not garbage of any kind.
    gc.collect()
    gc.freeze()
    for number in range(rounds + 1 if kinds else 0):
        turn = number % len(kinds)
        for kind in [*kinds[turn:], *kinds[:turn]]:
            gc.collect()
            seconds = kind.seconds(kind.calls)
            if kind.settle is not None:
                kind.settle(kind.calls)
            if number:
                taken[kind.name].append(seconds / kind.calls * MICRO)
    gc.unfreeze()
    return taken


def repeated(call: Callable[[], object]) -> Timed:
    """Time a call of the synchronous world."""

    def seconds(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            call()
        return time.perf_counter() - start

    return seconds


def awaited(call: Callable[[], Awaitable[object]]) -> Timed:
    """Time a call of the asynchronous world, without the loop's own start."""
    import asyncio  # noqa: PLC0415  not every topic has a loop

    async def several(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            await call()
        return time.perf_counter() - start

    return lambda count: asyncio.run(several(count))


def whole(call: Callable[[int], object]) -> Timed:
    """Time one call that does so many at once."""

    def seconds(count: int) -> float:
        start = time.perf_counter()
        call(count)
        return time.perf_counter() - start

    return seconds


def _without(taken: Taken, name: str, less: str | None) -> list[float]:
    if less is None:
        return list(taken[name])
    return [one - other for one, other in zip(taken[name], taken[less], strict=True)]


def _row(kind: Kind, taken: Taken, kinds: Mapping[str, Kind]) -> Row:
    median, minimum = statistics.median(taken[kind.name]), min(taken[kind.name])
    ratio = kind.ratio(taken) if kind.over in kinds and kind.over != kind.name else None
    to = "" if ratio is None else _to(kind)
    row = Row(name=kind.name, median=median, minimum=minimum, ratio=ratio, to=to, note=kind.note)
    bounded = median if kind.absolute else ratio
    if kind.bound is None or bounded is None:
        return row
    return attrs.evolve(row, bound=f"{kind.bound}{' µs' if kind.absolute else ''}", met=kind.bound.met(bounded))


def _to(kind: Kind) -> str:
    less = f", over {kind.less}" if kind.less else ""
    over = f"{kind.over} over {kind.over_less}" if kind.over_less else kind.over
    return f"{'faster than ' if kind.faster else ''}{over}{less}"


def load() -> float:
    """Return how many processes want this machine, over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else math.nan


def measured(bench: Bench) -> dict[str, Any]:
    """Measure one topic; return what its JSON file holds."""
    before, started = load(), time.perf_counter()
    rows = list(bench.rows())
    return {
        "topic": bench.topic,
        "pace": bench.pace,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cores": os.cpu_count(),
        "load": [before, load()],
        "rounds": bench.rounds,
        "seconds": round(time.perf_counter() - started, 1),
        "rows": [attrs.asdict(row) for row in rows],
    }


def main(topic: str, fill: Callable[[Bench], None], rounds: int = 25, quick: int = 2) -> None:
    """
    Run one topic as a command: measure, print one table, write the figures down, compare with a saved run.

    Args:
        topic: Its name.

        fill: Adds its rows.

        rounds: How many turns each kind takes.

        quick: The same with ``--quick``.
    """
    told = arguments(f"Measure {topic}.").parse_args()
    told.into.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        bench = Bench(topic, told.pace, told.into, stack, rounds=quick if told.pace == "quick" else rounds)
        fill(bench)
        figures = measured(bench)
    header = "{topic}: {python}, {cores} cores, load {load[0]} to {load[1]}, {rounds} rounds, {seconds} s"
    print(header.format(**figures))
    print(table(Row(**row) for row in figures["rows"]), flush=True)
    if told.compare is not None:
        _compare(told.compare, figures)
    (told.into / f"{topic}.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _compare(saved: Path, figures: Mapping[str, Any]) -> None:
    file = saved / f"{figures['topic']}.json" if saved.is_dir() else saved
    if not file.exists():
        print(f"\nthere is no saved run of {figures['topic']} to compare with")
        return
    told = json.loads(file.read_text(encoding="utf-8"))
    print("\nsaved: {python}, {pace}, load {load[0]} to {load[1]}".format(**told))
    print(compared(told, figures), flush=True)


def arguments(description: str) -> argparse.ArgumentParser:
    """Make the parser of what every topic takes."""
    parser = argparse.ArgumentParser(description=description)
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--quick", dest="pace", action="store_const", const="quick", help="tiny numbers, to try it out")
    pace.add_argument("--full", dest="pace", action="store_const", const="full", help="the numbers of the promises")
    parser.add_argument("--compare", type=Path, metavar="SAVED", help="a JSON file of an earlier run, or their folder")
    parser.add_argument("--into", type=Path, default=RESULTS, metavar="FOLDER", help="where JSON files go")
    parser.set_defaults(pace="usual")
    return parser
