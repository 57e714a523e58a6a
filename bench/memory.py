"""
What the decision cache takes: bytes for each decision beyond the request's own attributes, and a million distinct ids.

Each id is asked once, so every call is a miss that comes into the cache; once it is full, each pushes another out.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Final

import attrs
from footprint import resident
from harness import MICRO, Bench, Row, at_most, figure, main
from scene import TEMPLATE, Nowhere, Pure, expect

from pep import Enforcer, Subject, acting_as
from pep.cache import DecisionCache

#: No subject holds over a sixteenth of a cache, so it takes some to fill one.
SUBJECTS: Final = 100
CHUNK: Final = 100


def fill(bench: Bench) -> None:
    """Add every row."""
    bench.once(lambda: each_entry(bench.size(200, 100_000)))
    bench.once(lambda: many_ids(bench.size(2_000, 1_000_000), bench.size(200, 100_000)))


def guarded(entries: int) -> tuple[Enforcer, Pure, Callable[[str], None]]:
    """Guard a function with an enforcer that keeps so many decisions, and no records."""
    pure = Pure()
    enforcer = Enforcer(pure.point, audit=Nowhere(), cache=DecisionCache(entries=entries))

    def read(document_id: str) -> None:
        """Do nothing: the code that is guarded."""

    return enforcer, pure, enforcer.guard("read", resource=TEMPLATE)(read)


def each_entry(ids: int) -> Iterable[Row]:
    """Measure what one decision takes; ids and subjects are there already."""
    enforcer, pure, read = guarded(ids * 2)
    people = [Subject("user", f"user-{number}") for number in range(SUBJECTS)]
    names = [f"document-{number}" for number in range(ids)]
    with acting_as(people[0]):
        read("warm")
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for at, who in enumerate(people):
        with acting_as(who):
            for name in names[at::SUBJECTS]:
                read(name)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    expect("decisions kept, questions", (enforcer.stats()["cached"], pure.asked), (ids + 1, ids + 1))
    return [figure("memory of one cached decision", taken / ids, "bytes", at_most(600), f"{ids:,} distinct keys")]


def many_ids(ids: int, entries: int) -> Iterable[Row]:
    """Ask about as many ids, a tenth at a time."""
    enforcer, pure, read = guarded(entries)
    people = [Subject("user", f"user-{number}") for number in range(SUBJECTS)]
    quick, sizes = [], []
    for tenth in range(10):
        taken = chunks(read, people, range(tenth * ids // 10, (tenth + 1) * ids // 10))
        gc.collect()
        quick.append(sorted(taken)[len(taken) // 10])
        sizes.append(resident())
        row = figure(f"a new id, {tenth + 1}. tenth", statistics.median(taken), "µs", note=f"{sizes[-1]:,.0f} MB")
        yield attrs.evolve(row, minimum=min(taken))
    expect("questions", pure.asked, ids)
    # From the second on the cache is full. What else the machine did is not in the quickest calls of a tenth.
    flat = max(quick[1:]) / min(quick[1:])
    note = "the quickest calls of each; 1.5 taken for flat"
    yield figure("slowest tenth over the quickest, cache full", flat, "", at_most(1.5), note)
    yield figure("decisions kept at the end", enforcer.stats()["cached"], "", at_most(entries), f"{ids:,} ids")
    grown = sizes[-1] / sizes[1]
    yield figure("resident memory, last tenth over second", grown, "", at_most(1.1), "1.1 taken for bounded")


def chunks(read: Callable[[str], None], people: list[Subject], numbers: range) -> list[float]:
    """Time calls in small groups; return the microseconds of one call of each."""
    found = []
    for at in range(numbers.start, numbers.stop, CHUNK):
        names = [f"document-{number}" for number in range(at, min(at + CHUNK, numbers.stop))]
        with acting_as(people[at // CHUNK % SUBJECTS]):
            begun = time.perf_counter()
            for name in names:
                read(name)
            found.append((time.perf_counter() - begun) / len(names) * MICRO)
    return found


if __name__ == "__main__":
    main("memory", fill, rounds=1, quick=1)
