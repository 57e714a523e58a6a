"""
Whatever a loss of power leaves, a durable file sink has what it acknowledged.

The disk is simulated: unsynced writes and names are lost or torn, each by itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs
import pytest

from pep.audit.disk import Disk
from pep.audit.file import FileSink
from pep.audit.place import Place
from pep.audit.writer import Writer
from pep.errors import AuditError, ConfigurationError
from pep.profile import Guarantee
from pep.testing import FakeClock
from tests.audit.disks import Faults, MemoryDisk, broken_links, parsed, record, told
from tests.proving import times

BOOTS = 3
RECORDS = 6


class PowerLoss(BaseException):
    """The machine stops here."""


def lives(seed: int, broken: Callable[[MemoryDisk], Disk] = lambda disk: disk.disk) -> list[str]:
    """Let a machine write, lose its power somewhere, and start again, a few times; tell what is wrong then."""
    choose = random.Random(seed)  # noqa: S311  a simulation, and no secret
    machine, acknowledged, wrong = MemoryDisk(choose), set[str](), list[str]()
    for boot in range(BOOTS):
        lived(machine, broken(machine), acknowledged, f"{seed}.{boot}")
        machine = machine.crashed()
        missing = acknowledged - {line.get("name") for line in told(machine.contents())}
        if missing:
            wrong.append(f"seed {seed}: lost {sorted(missing)} after boot {boot}")
            return wrong
    try:
        sink = opened(machine.disk, None)
    except ConfigurationError as error:
        return [f"seed {seed}: does not start: {error}"]
    sink.record(record(name="after"))
    sink.close()
    files = machine.contents()
    names = {line.get("name") for line in told(files)}
    wrong += [f"seed {seed}: lost {name} at open" for name in acknowledged - names]
    wrong += [f"seed {seed}: the next record is damaged"] * ("after" not in names)
    # What was lost with the power leaves holes; what the last writer wrote has none.
    after = next((line for line in told(files) if line.get("name") == "after"), {})
    return wrong + [f"seed {seed}: {link}" for link in broken_links(files, after.get("writer"))]


def opened(disk: Disk, clock: FakeClock | None) -> FileSink:
    return FileSink(
        f"{MemoryDisk.FOLDER}/audit.jsonl",
        guarantee=Guarantee.DURABLE,
        rotate_bytes=900,
        clock=clock or FakeClock(),
        disk=disk,
    )


def lived(machine: MemoryDisk, disk: Disk, acknowledged: set[str], life: str) -> None:
    """Write until the power fails, which it does at any operation; some syncs and writes fail before."""
    choose, faults = machine.choose, Faults(disk)
    last = choose.randint(1, 90)
    rate = choose.choice((0.0, 0.05, 0.2))

    def strike(at: int, name: str) -> int | None:
        if at >= last:
            raise PowerLoss
        if name == "sync" and choose.random() < rate:
            machine.syncs_that_fail = 1
        if name in {"sync_folder", "rename", "open"} and choose.random() < rate / 2:
            raise OSError(5, "")
        return choose.randint(0, 40) if name == "write" and choose.random() < rate else None

    faults.strike = strike
    with suppress(PowerLoss, ConfigurationError):
        sink = opened(faults.disk, FakeClock())
        for at in range(RECORDS):
            name = f"{life}.{at}"
            with suppress(AuditError):
                sink.record(record(name=name, filler="x" * choose.randint(0, 300)))
                acknowledged.add(name)
        with suppress(AuditError):
            sink.close()
    # The machine is off: nothing that is still in memory reaches its disk.
    faults.strike = lambda _at, _name: None


def test_what_was_acknowledged_survives_a_loss_of_power() -> None:
    """In every state a crash can leave, each acknowledged record is there, whole, and the next one is too."""
    for seed in range(times(500, 20_000 // BOOTS + 1)):
        assert lives(seed) == []


def never(_handle: Any) -> None:
    """Promise what was not done."""


def without_sync(machine: MemoryDisk) -> Disk:
    return attrs.evolve(machine.disk, sync=never)


def without_folder_sync(machine: MemoryDisk) -> Disk:
    return attrs.evolve(machine.disk, sync_folder=never)


@pytest.mark.parametrize("broken", [without_sync, without_folder_sync])
def test_the_proof_notices_a_sync_that_is_left_out(broken: Callable[[MemoryDisk], Disk]) -> None:
    """Without either sync, some crash loses what was acknowledged."""
    assert any(lives(seed, broken) for seed in range(200))


def test_the_proof_notices_a_sync_that_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a failed sync is repeated on the same file, some crash loses what was acknowledged."""

    def again(writer: Writer) -> None:
        while True:
            try:
                writer.place.disk.sync(writer.place.file)
            except OSError:
                continue
            break
        writer._tip = (*writer._tip[:3], b"")

    monkeypatch.setattr(Writer, "_sync", again)
    assert any(lives(seed) for seed in range(200))


def test_the_proof_notices_records_that_are_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a new file starts without what the old one may have lost, some crash loses it."""
    real = Place.renew
    monkeypatch.setattr(Place, "renew", lambda place, writer, first, _payload: real(place, writer, first, b""))
    assert any(lives(seed) for seed in range(200))


def test_the_proof_notices_a_tail_that_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a fragment is not closed, some record runs into it."""
    real = Writer._mend

    def unmended(writer: Writer) -> None:
        prev, seq, _, unsynced = writer._tip
        size = writer.place.disk.fstat(writer.place.file).st_size
        writer._tip = (prev, seq, size, unsynced)

    assert real is not unmended
    monkeypatch.setattr(Writer, "_mend", unmended)
    assert any(lives(seed) for seed in range(200))


def test_the_proof_reads_whole_lines_only() -> None:
    """A record that ran into a fragment does not count as there."""
    assert parsed(b'{"name":1}\n{"na{"name":2}\n') == [{"name": 1}, {"fragment": '{"na{"name":2}'}]
