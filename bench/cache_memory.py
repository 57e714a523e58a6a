"""What the decision cache costs: bytes for each decision beyond the request's own, and time for many distinct ids."""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from pathlib import Path

from pep.cache import DecisionCache, Entry, Shapes
from pep.model import Action, Decision, Effect, Subject

ENTRIES = 100_000
IDS = 1_000_000
#: Each may hold a sixteenth, so it takes some to fill the cache.
SUBJECTS = 1_000
OUT = Path(__file__).resolve().parent.parent / "build" / "bench" / "cache_memory.json"


def fill(cache: DecisionCache, subjects: list[Subject], names: list[str], start: int) -> None:
    """Put one decision for each name."""
    shape, decision = Shapes().shape(Action("read"), "document"), Decision(Effect.PERMIT, policies=["readers"])
    for number, name in enumerate(names, start):
        who = subjects[number % SUBJECTS]
        now = float(number)
        cache.put((shape, who.key, name), Entry(decision, now, now + 1e9, number), (who.type, who.id))


def memory(subjects: list[Subject]) -> float:
    """Return how many bytes each entry takes beside its id and its subject."""
    names = [f"document-{number}" for number in range(ENTRIES)]
    gc.collect()
    tracemalloc.start()
    cache = DecisionCache(entries=ENTRIES)
    before = tracemalloc.get_traced_memory()[0]
    fill(cache, subjects, names, 0)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken / len(cache)


def latency(subjects: list[Subject]) -> list[float]:
    """Return the microseconds of one put, for each tenth of a million distinct ids."""
    cache, tenth, found = DecisionCache(entries=ENTRIES), IDS // 10, []
    for number in range(10):
        names = [f"document-{number}-{at}" for at in range(tenth)]
        begun = time.perf_counter()
        fill(cache, subjects, names, number * tenth)
        found.append((time.perf_counter() - begun) / tenth * 1e6)
    return found


def main() -> None:
    """Measure, print one line, and write it down."""
    subjects = [Subject("user", f"user-{number}") for number in range(SUBJECTS)]
    each, times = memory(subjects), latency(subjects)
    print(
        f"decision cache: {each:.0f} bytes an entry at {ENTRIES} ids; "
        f"{times[0]:.2f} µs a put while it fills, {times[1]:.2f} to {times[-1]:.2f} µs up to {IDS} ids"
    )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"bytes_per_entry": each, "put_us_by_tenth": times}, indent=2) + "\n")


if __name__ == "__main__":
    main()
