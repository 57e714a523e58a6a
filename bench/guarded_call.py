"""
What a guarded call costs, beside the check a careful hand would write.

The floor is that check: who acts from a context variable, the time, one dict hit with its expiry, one
record appended. All kinds take turns in one run, so that a busy machine slows every one of them;
medians are compared. Prints, never asserts. Figures go to `build/bench/guarded_call.json`.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

from pep import Enforcer, Profile, Resource, Subject, acting_as
from pep.audit import MemorySink
from pep.pdp.function import FunctionPDP
from pep.policy import PolicySet, permit, resource, subject

ROUNDS: Final = 15
CALLS: Final = 1_000
FLOOR: Final = "floor"
RESULT: Final = Path(__file__).resolve().parent.parent / "build" / "bench" / "guarded_call.json"

ALICE: Final = Subject("user", "alice")
DOCUMENTS: Final = {"42": Resource("document", "42", {"owner": "alice"})}
TITLES: Final = {"42": "old"}

# Kind → calls it so many times, and returns the seconds that took.
Timed = Callable[[int], float]


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

    async def several(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            await call()
        return time.perf_counter() - start

    return lambda count: asyncio.run(several(count))


def document(document_id: str) -> Resource:
    """Return the document of an id, as an extractor does."""
    return DOCUMENTS[document_id]


def rename(document_id: str, title: str) -> None:
    """Do next to nothing: the code that is guarded."""
    TITLES[document_id] = title


def by_hand() -> tuple[Callable[[], object], list[object]]:
    """Write the floor, and return it with the list of its records."""
    acting = contextvars.ContextVar[Subject]("acting")
    acting.set(ALICE)
    known = {("user", "alice", "edit", "document", "42"): (True, time.monotonic() + 1e6)}
    records: list[object] = []

    def checked(document_id: str, title: str) -> None:
        who, found = acting.get(), document(document_id)
        now = time.monotonic()
        permitted, expires = known.get((who.type, who.id, "edit", found.type, found.id or ""), (False, 0.0))
        if not permitted or now >= expires:
            raise PermissionError(document_id)
        records.append({"time": now, "subject": who.id, "action": "edit", "resource": found.id, "allowed": True})
        rename(document_id, title)

    return lambda: checked("42", "new"), records


def guarded() -> tuple[dict[str, Timed], list[MemorySink]]:
    """Guard every kind of code; all are warm but the last, whose policies are asked at every call."""
    warm_sink, cold_sink = MemorySink(), MemorySink()
    warm = Enforcer(FunctionPDP(lambda _request: True, name="pure", pure=True), audit=warm_sink)
    owners = permit("owners", action="edit", resource="document", when=resource.owner == subject.id)
    cold = Enforcer(PolicySet([owners]), audit=cold_sink, profiles={"**": Profile(permit_ttl=0, deny_ttl=0)})

    async def arename(document_id: str, title: str) -> None:
        TITLES[document_id] = title

    def titles(document_id: str) -> Iterator[str]:
        yield TITLES[document_id]

    def within() -> None:
        with warm.enforcing("edit", DOCUMENTS["42"]):
            rename("42", "new")

    guard = warm.guard("edit", resource=document)
    sync, coroutine, generator = guard(rename), guard(arename), guard(titles)
    asked = cold.guard("edit", resource=document)(rename)
    kinds = {
        "guarded, warm": repeated(lambda: sync("42", "new")),
        "guarded coroutine, warm": awaited(lambda: coroutine("42", "new")),
        "guarded generator, consumed": repeated(lambda: list(generator("42"))),
        "with enforcing, warm": repeated(within),
        "guarded, cold, PolicySet": repeated(lambda: asked("42", "new")),
    }
    return kinds, [warm_sink, cold_sink]


def measured() -> dict[str, float]:
    """Let every kind take its turns; return kind → median microseconds of one call."""
    floor, records = by_hand()
    kinds, sinks = guarded()
    kinds = {"bare call": repeated(lambda: rename("42", "new")), FLOOR: repeated(floor), **kinds}
    rounds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(ROUNDS + 1):
        for kind, seconds in kinds.items():
            gc.collect()
            taken = seconds(CALLS) / CALLS * 1e6
            records.clear()
            for sink in sinks:
                sink.records.clear()
            if number:  # the first is for warming up
                rounds[kind].append(taken)
    return {kind: statistics.median(taken) for kind, taken in rounds.items()}


def main() -> None:
    """Measure, print one table, and write the figures down."""
    with acting_as(ALICE):
        medians = measured()
    ratios = {kind: taken / medians[FLOOR] for kind, taken in medians.items()}
    figures = {
        "python": platform.python_version(),
        "rounds": ROUNDS,
        "calls_per_round": CALLS,
        "median_microseconds": {kind: round(taken, 3) for kind, taken in medians.items()},
        "ratio_to_floor": {kind: round(ratio, 2) for kind, ratio in ratios.items()},
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"{'kind':<28} {'µs per call':>12} {'times the floor':>16}")
    for kind, taken in medians.items():
        print(f"{kind:<28} {taken:>12.2f} {ratios[kind]:>16.1f}")


if __name__ == "__main__":
    main()
