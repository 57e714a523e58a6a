"""
What waiting together saves, where each record has to be on disk before the code runs.

Guarded calls of one thread, 16 threads and 64 tasks, and the sink alone beside them: on this machine's disk, and on one
whose sync takes a millisecond.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import attrs
from harness import Bench, Bound, Timed, at_least, main, repeated
from scene import ALICE, TEMPLATE, Pure, expect, rename

from pep import Enforcer, Guarantee, Profile, acting_as
from pep.audit import FileSink, Kind, Record
from pep.audit.disk import Disk
from pep.audit.record import masked, new_id

THREADS: Final = 16
TASKS: Final = 64
SLOW: Final = 0.001
#: Up to this many seconds for one sync, the first bound holds.
QUICK: Final = 0.0002


@attrs.frozen
class Slower:
    """How slow a disk is, as rows call it, and what 16 threads and 64 tasks are to reach on it; or why nothing."""

    name: str
    threads: Bound | None
    tasks: Bound | None
    note: str


async def arename(document_id: str, title: str) -> None:
    """Do the same as `rename`, as a coroutine."""
    rename(document_id, title)


def slowly(file: int) -> None:
    """Sync as a disk does that takes a millisecond."""
    start = time.perf_counter()
    os.fdatasync(file)
    time.sleep(max(0.0, SLOW - (time.perf_counter() - start)))


def fill(bench: Bench) -> None:
    """Add every row."""
    folder = bench.folder()
    bare = os.open(folder / "bare", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    bench.stack.callback(os.close, bare)

    def synced() -> None:
        os.write(bare, b"x" * 450 + b"\n")
        os.fdatasync(bare)

    calls = bench.size(2, 100)
    bench.time("write and fdatasync", repeated(synced), calls)
    quick = sync_seconds(bare) <= QUICK
    for disk, slower in (
        (Disk(), Slower("", at_least(4) if quick else None, None, "" if quick else "a sync takes over 0.2 ms here")),
        (Disk(sync=slowly), Slower(", 1 ms", at_least(8), at_least(15), "")),
    ):
        calling(bench, disk, folder, slower)
        recording(bench, disk, folder, slower)


def sync_seconds(file: int, tries: int = 20) -> float:
    """Return the median time of one sync of this disk."""
    found = []
    for _ in range(tries):
        os.write(file, b"x\n")
        start = time.perf_counter()
        os.fdatasync(file)
        found.append(time.perf_counter() - start)
    return sorted(found)[tries // 2]


def calling(bench: Bench, disk: Disk, folder: Path, slower: Slower) -> None:
    """Add guarded calls; each leaves a record before the code and one after it."""
    sink = FileSink(folder / f"calls{slower.name}.jsonl", guarantee=Guarantee.DURABLE, disk=disk)
    profiles = {"**": Profile(audit=Guarantee.DURABLE, deadline=30)}
    pure = Pure()
    bench.stack.callback(lambda: expect("questions of a warm enforcer", pure.asked, 1))
    enforcer = bench.stack.enter_context(Enforcer(pure.point, audit=sink, profiles=profiles))
    guard = enforcer.guard("edit", resource=TEMPLATE)
    guarded, coroutine = guard(rename), guard(arename)
    with acting_as(ALICE):
        guarded("42", "new")

    def call() -> object:
        return guarded("42", "new")

    ways = Ways(
        within(repeated(call)), in_threads(call), lambda tasks: within(in_tasks(lambda: coroutine("42", "new"), tasks))
    )
    compared(bench, "guarded", ways, sink, slower)


def recording(bench: Bench, disk: Disk, folder: Path, slower: Slower) -> None:
    """Add the sink alone."""
    sink = FileSink(folder / f"records{slower.name}.jsonl", guarantee=Guarantee.DURABLE, disk=disk)
    bench.stack.callback(sink.close)
    made = Record(Kind.DECISION, new_id(1.0), 1.0, masked({"outcome": "permitted", "filler": "x" * 170}))

    def write() -> object:
        return sink.record(made)

    async def awrite() -> None:
        plan: Any = sink.record(made)
        step = plan.send(None)
        await step.fn(*step.args)
        plan.close()

    ways = Ways(repeated(write), in_threads(write), lambda tasks: in_tasks(awrite, tasks))
    compared(bench, "sink", ways, sink, slower)


@attrs.frozen
class Ways:
    """One thing done by one thread, by 16, and by so many tasks."""

    alone: Timed
    threads: Timed
    tasks: Callable[[int], Timed]


def compared(bench: Bench, what: str, ways: Ways, sink: FileSink, slower: Slower) -> None:
    """Add one thing, alone and together."""
    settle, each = at_least_so_many(sink), bench.size(2, 25)
    one, name = f"{what}, 1 thread{slower.name}", slower.name
    told = {"over": one, "faster": True, "settle": settle}
    bench.time(one, ways.alone, each * 4, settle=settle)
    threads = f"{what}, {THREADS} threads{name}"
    bench.time(threads, ways.threads, THREADS * each, bound=slower.threads, note=slower.note, **told)
    bench.time(f"{what}, 1 task{name}", ways.tasks(1), each * 2, settle=settle)
    bench.time(f"{what}, {TASKS} tasks{name}", ways.tasks(TASKS), TASKS * each, bound=slower.tasks, **told)


def at_least_so_many(sink: FileSink) -> Callable[[int], None]:
    """Check that each call left a record on disk, or two, before and after."""
    seen = sink.stats()["written"]

    def settle(count: int) -> None:
        nonlocal seen
        before, seen = seen, sink.stats()["written"]
        expect("lines on disk", max(seen - before, count), seen - before)

    return settle


def within(seconds: Timed) -> Timed:
    """Let Alice act while it is timed."""

    def timed(count: int) -> float:
        with acting_as(ALICE):
            return seconds(count)

    return timed


def in_threads(call: Callable[[], object], threads: int = THREADS) -> Timed:
    """Time calls that so many threads share, from their common start."""

    def seconds(count: int) -> float:
        failures: list[BaseException] = []
        ready = threading.Barrier(threads + 1)

        def work() -> None:
            with acting_as(ALICE):
                ready.wait()
                try:
                    for _ in range(count // threads):
                        call()
                except BaseException as error:  # noqa: BLE001  told below
                    failures.append(error)

        running = [threading.Thread(target=work) for _ in range(threads)]
        for thread in running:
            thread.start()
        ready.wait()
        start = time.perf_counter()
        for thread in running:
            thread.join()
        taken = time.perf_counter() - start
        expect("failures in threads", failures, [])
        return taken

    return seconds


def in_tasks(call: Callable[[], Awaitable[object]], tasks: int) -> Timed:
    """Time calls that so many tasks share."""

    async def work(count: int) -> None:
        for _ in range(count):
            await call()

    async def several(count: int) -> float:
        start = time.perf_counter()
        await asyncio.gather(*[work(count // tasks) for _ in range(tasks)])
        return time.perf_counter() - start

    return lambda count: asyncio.run(several(count))


if __name__ == "__main__":
    main("durable", fill, rounds=7, quick=1)
