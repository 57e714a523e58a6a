"""
How fast a file of chained records is verified, and in how much memory.

The floor is what cannot be left out: reading the file, one SHA-256 of each line, and looking for the hash before it.
Memory is that of a process that does nothing else, beyond what it takes to start.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from footprint import peak
from harness import MICRO, Bench, Row, at_least, at_most, figure, main, whole
from scene import ALICE, TEMPLATE, Pure, expect, rename

from pep import Enforcer, acting_as
from pep.audit import FileSink
from pep.audit.verifying import verify

FLOOR: Final = "read, hash and compare"
OURS: Final = "verify"


def fill(bench: Bench) -> None:
    """Add every row."""
    bench.floor = FLOOR
    path = bench.folder() / "audit.jsonl"
    count = file_of(path, bench.size(200, 100_000, 1_000_000))

    def verified(_count: int) -> None:
        report = verify(path)
        expect("records verified, findings", (report.records, report.found), (count, 0))

    bench.time(FLOOR, whole(lambda _count: expect("lines hashed", hashed(path), count)), count)
    bench.time(OURS, whole(verified), count)
    bench.once(lambda: apart(path, count))


def file_of(path: Path, records: int) -> int:
    """Write a file of guarded calls; return how many lines it has."""
    with Enforcer(Pure().point, audit=FileSink(path)) as enforcer, acting_as(ALICE):
        guarded = enforcer.guard("edit", resource=TEMPLATE)(rename)
        for _ in range(records):
            guarded("42", "new")
    with path.open("rb") as file:
        return sum(1 for _ in file)


def hashed(path: Path) -> int:
    """Check the chain by hand, trusting everything else; return how many lines hold."""
    held, last = 0, b"0" * 64
    with path.open("rb") as file:
        for line in file:
            held += line[32 : 32 + 64] == last
            last = hashlib.sha256(line[:-1]).hexdigest().encode()
    return held


def apart(path: Path, count: int) -> Iterable[Row]:
    """Verify in a process of its own."""
    command = [sys.executable, __file__, "verify", str(path)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    records, found, seconds, most, more = json.loads(told)
    expect("records verified apart, findings", (records, found), (count, 0))
    yield figure("records", count, "", note=f"{path.stat().st_size / MICRO:,.0f} MB")
    yield figure("verified a second, apart", records / seconds, "/s", at_least(400_000))
    yield figure("memory of that process", most, "MB", at_most(100), note=f"{more:.1f} MB of it for verifying")


def alone(path: str) -> None:
    """Verify, and print what it took."""
    before, start = peak(), time.perf_counter()
    report = verify(path)
    seconds = time.perf_counter() - start
    print(json.dumps([report.records, report.found, seconds, peak(), peak() - before]))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["verify", path]:
            alone(path)
        case _:
            main("verifying", fill, rounds=5, quick=1)
