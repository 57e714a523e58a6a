"""
What a record in an audit file costs, and what waiting together saves.

One appended line beside its parts: the bare ``write`` of the same bytes, and one ``fdatasync``. Then records on disk by
one thread, by 16 threads and by 64 tasks, on this machine's disk and on one whose sync takes a millisecond more.
All take turns in one run; medians are compared. Prints, never asserts. Figures go to `build/bench/audit_file.json`.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pep import Guarantee
from pep.audit import FileSink, Kind, Record
from pep.audit.disk import Disk
from pep.audit.record import masked, new_id

ROUNDS: Final = 7
LINES: Final = 5_000
SYNCS: Final = 200
THREADS: Final = 16
TASKS: Final = 64
RESULT: Final = Path(__file__).resolve().parent.parent / "build" / "bench" / "audit_file.json"

# Kind → seconds of one record.
Timed = Callable[[], float]


def record() -> Record:
    """Make a record of some 300 bytes; 450 with its chain."""
    return Record(Kind.DECISION, new_id(1.0), 1.0, masked({"outcome": "permitted", "filler": "x" * 170}))


class Source:
    """Makes the JSON of notes: the same bytes for each, so that only the file is measured."""

    def __init__(self) -> None:
        self._json = record().to_json()

    def json(self, _note: tuple[Any, ...]) -> bytes:
        """Return the JSON of a note."""
        return self._json


def each(call: Callable[[], object], count: int) -> Timed:
    """Time one of so many calls."""

    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - start) / count

    return seconds


def together(sink: FileSink, made: Record) -> Timed:
    """Time one record of those that 16 threads write."""

    def write() -> None:
        for _ in range(SYNCS // 4):
            sink.record(made)

    def seconds() -> float:
        threads = [threading.Thread(target=write) for _ in range(THREADS)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (time.perf_counter() - start) / (THREADS * (SYNCS // 4))

    return seconds


def in_tasks(sink: FileSink, made: Record, tasks: int) -> Timed:
    """Time one record of those that so many tasks write."""
    count = SYNCS // 4

    async def write() -> None:
        for _ in range(count):
            plan: Any = sink.record(made)
            step = plan.send(None)
            await step.fn(*step.args)
            plan.close()

    async def measured() -> float:
        start = time.perf_counter()
        await asyncio.gather(*[write() for _ in range(tasks)])
        return (time.perf_counter() - start) / (tasks * count)

    return lambda: asyncio.run(measured())


def slow(file: int) -> None:
    """Sync as a disk does that takes a millisecond more."""
    time.sleep(0.001)
    os.fdatasync(file)


def kinds(folder: Path) -> tuple[dict[str, Timed], list[FileSink]]:
    """Set up what is measured."""
    written = FileSink(folder / "written.jsonl")
    disks = {"": Disk(), ", +1 ms": Disk(sync=slow)}
    durable = {
        name: FileSink(folder / f"durable{at}.jsonl", guarantee=Guarantee.DURABLE, disk=disk)
        for at, (name, disk) in enumerate(disks.items())
    }
    source, made = Source(), record()
    note = (source,)
    bare = os.open(folder / "bare", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    line = b"x" * 450 + b"\n"
    measured = {
        "bare write": each(lambda: os.write(bare, line), LINES),
        "written": each(lambda: written.take(note), LINES),
        "bare write and sync": each(lambda: (os.write(bare, line), os.fdatasync(bare)), SYNCS),
    }
    for name, sink in durable.items():
        measured |= {
            f"durable, 1 thread{name}": each(lambda sink=sink: sink.record(made), SYNCS),  # type: ignore[misc]
            f"durable, {THREADS} threads{name}": together(sink, made),
            f"durable, 1 task{name}": in_tasks(sink, made, 1),
            f"durable, {TASKS} tasks{name}": in_tasks(sink, made, TASKS),
        }
    return measured, [written, *durable.values()]


def ratios(medians: dict[str, float]) -> dict[str, float]:
    """Compare: what one line costs over its bare write, and throughput together over alone."""
    found = {"written / bare write": medians["written"] / medians["bare write"]}
    for name in ("", ", +1 ms"):
        thread, task = medians[f"durable, 1 thread{name}"], medians[f"durable, 1 task{name}"]
        found |= {
            f"{THREADS} threads over 1{name}": thread / medians[f"durable, {THREADS} threads{name}"],
            f"{TASKS} tasks over 1{name}": task / medians[f"durable, {TASKS} tasks{name}"],
            f"{TASKS} tasks over 1 thread{name}": thread / medians[f"durable, {TASKS} tasks{name}"],
        }
    return found


def main() -> None:
    """Measure, print one table, and write the figures down."""
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    # Beside the figures, since a temporary folder may be in memory.
    with tempfile.TemporaryDirectory(dir=RESULT.parent) as folder:
        measured, sinks = kinds(Path(folder))
        rounds: dict[str, list[float]] = {kind: [] for kind in measured}
        for _ in range(ROUNDS):
            for kind, seconds in measured.items():
                rounds[kind].append(seconds())
        for sink in sinks:
            sink.close()
    medians = {kind: statistics.median(taken) for kind, taken in rounds.items()}
    compared = ratios(medians)
    figures = {
        "python": platform.python_version(),
        "rounds": ROUNDS,
        "median_microseconds": {kind: round(taken * 1e6, 2) for kind, taken in medians.items()},
        "ratios": {kind: round(ratio, 2) for kind, ratio in compared.items()},
    }
    RESULT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"{'kind':<36} {'µs per record':>14}")
    for kind, taken in medians.items():
        print(f"{kind:<36} {taken * 1e6:>14.2f}")
    print(f"\n{'compared':<36} {'times':>14}")
    for kind, ratio in compared.items():
        print(f"{kind:<36} {ratio:>14.1f}")


if __name__ == "__main__":
    main()
