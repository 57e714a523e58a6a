"""What a sink writes is verified as it was written, whatever it went through, and proven where it was signed."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pep import Guarantee
from pep.audit.checkpoint import Checkpoints, read_checkpoints
from pep.audit.file import FileSink
from pep.audit.notes import SignerKey
from pep.audit.verifying import Report, verify
from pep.audit.writer import LOOK_EVERY
from pep.errors import AuditError
from pep.testing import FakeClock
from tests.audit.disks import Faults, broken_links, contents, record
from tests.audit.test_checkpoint import Timers
from tests.proving import times

pytest.importorskip("cryptography")

ROOT = Path(__file__).resolve().parent.parent.parent
KEY = SignerKey("example.com/audit", bytes(32))
BOTH = pytest.mark.parametrize("guarantee", [Guarantee.WRITTEN, Guarantee.DURABLE])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder / "audit.jsonl"


def signing(to: Any, **options: Any) -> Checkpoints:
    """Checkpoints that no time makes, only lines and the end."""
    return Checkpoints(key=KEY, to=to, timer=Timers(), **{"every": 1000, **options})


def verified(path: Path, notes: Path) -> Report:
    found, forged = read_checkpoints(notes, KEY.verifier)
    assert forged == []
    return verify(path, checkpoints=found)


@BOTH
@pytest.mark.parametrize("every", [1, 4, 1000])
def test_every_record_is_proven(path: Path, tmp_path: Path, guarantee: Guarantee, every: int) -> None:
    """From the first line of a sink to its last, over all files it rotated; and it counts what it signed."""
    checkpoints = signing(tmp_path / "notes", every=every)
    sink = FileSink(path, guarantee=guarantee, rotate_bytes=1000, checkpoints=checkpoints)
    for at in range(20):
        sink.record(record(name=at))
    assert sink.stats()["lines_unsigned"] == 21 % every
    sink.close()
    report = verified(path, tmp_path / "notes")
    assert (report.intact, report.records, report.proven) == (True, 22, 22)
    assert len(report.files) > 3
    assert sink.stats()["checkpoints"] == math.ceil(22 / every)
    assert [sink.stats()[name] for name in ("lines_unsigned", "lines_strayed", "checkpoints_failed")] == [0, 0, 0]


def test_without_checkpoints_nothing_is_counted_of_them(path: Path) -> None:
    """A sink tells only of what it has."""
    sink = FileSink(path)
    assert "checkpoints" not in sink.stats()
    sink.close()


@BOTH
def test_two_writers_sign_to_one_place(path: Path, tmp_path: Path, guarantee: Guarantee) -> None:
    """Each has a tree of its own; all lines of both are proven."""
    sinks = [
        FileSink(path, guarantee=guarantee, rotate_bytes=1000, checkpoints=signing(tmp_path / "notes", every=3))
        for _ in range(2)
    ]
    for at in range(20):
        sinks[at % 2].record(record(name=at))
    for sink in sinks:
        sink.close()
    report = verified(path, tmp_path / "notes")
    assert (report.intact, report.proven) == (True, report.records)


PROCESS = """
import os, sys
from pep import Guarantee
from pep.audit import Checkpoints, FileSink
from pep.audit.notes import SignerKey
from tests.audit.disks import record

path, notes, guarantee, fork = sys.argv[1:]
checkpoints = Checkpoints(key=SignerKey("example.com/audit", bytes(32)), to=notes, every=7)
sink = FileSink(path, guarantee=Guarantee(guarantee), rotate_bytes=2000, checkpoints=checkpoints)
for at in range(25):
    sink.record(record(name=at))
    if fork == "fork" and at == 10:
        silent = os.fork()
        if not silent:
            sink.close()
            os._exit(0)
        child = os.fork()
        if not child:
            for at in range(10):
                sink.record(record(name=at))
            sink.close()
            os._exit(0)
        if any(os.waitpid(each, 0)[1] for each in (silent, child)):
            sys.exit(1)
sink.close()
"""


@BOTH
@pytest.mark.parametrize("fork", ["fork", "none"])
def test_processes_sign_what_they_wrote(path: Path, tmp_path: Path, guarantee: Guarantee, fork: str) -> None:
    """Two processes that share a path, and children forked in the midst, sign their own lines: all are proven."""
    command = [sys.executable, "-c", PROCESS, str(path), str(tmp_path / "notes"), guarantee.value, fork]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    started = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(each.communicate(timeout=60)[1], each.returncode) for each in started]
    assert ended == [("", 0)] * 2
    report = verified(path, tmp_path / "notes")
    assert (report.intact, report.proven) == (True, report.records)
    assert report.records == (2 * (27 + 12) if fork == "fork" else 2 * 27)
    assert len(report.chains) == (4 if fork == "fork" else 2)


def test_a_silent_child_signs_nothing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a forked child inherited unsigned is its parent's to sign."""
    sink = FileSink(path, checkpoints=signing(tmp_path / "notes"))
    parent = os.getpid()
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: parent + 1)
        sink._checkpoints.close()  # type: ignore[union-attr]
    assert sink.stats()["checkpoints"] == 0
    sink.close()
    assert sink.stats()["checkpoints"] == 1


@pytest.mark.parametrize("cut", [1, 30, 100, 150])
@BOTH
def test_lines_that_were_cut_short_are_not_signed(path: Path, tmp_path: Path, guarantee: Guarantee, cut: int) -> None:
    """What a full disk left of a line is in no tree; the lines around it are."""
    faults = Faults()
    sink = FileSink(path, guarantee=guarantee, checkpoints=signing(tmp_path / "notes"), disk=faults.disk)
    for at in range(4):
        sink.record(record(name=at))
        faults.cut(cut)
        with pytest.raises(AuditError):
            sink.record(record(name="cut"))
        faults.mend()
    sink.close()
    report = verified(path, tmp_path / "notes")
    assert (report.intact, report.torn, report.proven) == (True, 4, report.records)


def test_a_whole_line_that_was_refused_is_signed(path: Path, tmp_path: Path) -> None:
    """What is in the file though its call was refused belongs to the chain, and to the tree."""
    faults = Faults()
    sink = FileSink(path, guarantee=Guarantee.DURABLE, checkpoints=signing(tmp_path / "notes"), disk=faults.disk)
    for _ in range(3):
        # The line, but not its newline.
        faults.cut(len(path.read_bytes().splitlines()[-1]) + 1000)
        sink.record(record(name="whole"))
        faults.fail(errno.EIO, only="sync", until=9)
        with pytest.raises(AuditError):
            sink.record(record(name="refused"))
        faults.mend()
    sink.close()
    report = verified(path, tmp_path / "notes")
    assert (report.intact, report.proven) == (True, report.records)


@pytest.mark.parametrize(("writers", "cuts"), [(1, True), (2, False), (2, True), (3, True)])
def test_what_a_sink_went_through_verifies(path: Path, writers: int, cuts: bool) -> None:
    """Torn tails, full disks, other writers, rotation and syncs that fail leave nothing that looks like a forgery."""
    faults, clock = Faults(), FakeClock()
    for guarantee in (Guarantee.WRITTEN, Guarantee.DURABLE):
        options: Any = {"guarantee": guarantee, "rotate_bytes": 1500, "clock": clock, "disk": faults.disk}
        sinks = [FileSink(path, **options) for _ in range(writers)]
        for at in range(30):
            faults.mend()
            if at % 7 == 3 and cuts:
                faults.cut(at * 7 + 100)
            elif at % 7 == 5:
                faults.fail(errno.EIO, only="sync")
            clock.advance(LOOK_EVERY)
            with contextlib.suppress(AuditError):
                sinks[at % writers].record(record(name=at))
        faults.mend()
        for sink in sinks:
            sink.close()
        with path.open("ab") as torn:
            torn.write(b'{"schema":"pep.audit/1","prev":"')
        FileSink(path, clock=clock).close()
    report = verify(path)
    assert [str(finding) for finding in report.findings] == []
    assert report.torn >= 2
    assert broken_links(contents(path.parent)) == []


# A sink is told what may befall it by its random numbers.
TROUBLES: tuple[Callable[[Faults, random.Random], None], ...] = (
    lambda faults, chance: faults.cut(chance.choice((1, 10, 20, 100, 130, 150, 200, 300, 400))),
    lambda faults, _chance: faults.fail(errno.EIO, only="sync"),
    lambda faults, _chance: faults.fail(errno.ENOSPC, only="write"),
)


def _lived(path: Path, notes: Path, clock: FakeClock, chance: random.Random) -> None:
    """Let some writers share a path, with trouble now and then, and close them."""
    faults = Faults()
    sinks = [
        FileSink(
            path,
            guarantee=chance.choice((Guarantee.WRITTEN, Guarantee.DURABLE)),
            rotate_bytes=chance.choice((600, 1500, 5000)),
            checkpoints=signing(notes, every=chance.choice((1, 5, 1000))),
            clock=clock,
            disk=faults.disk,
        )
        for _ in range(chance.randint(1, 3))
    ]
    for at in range(chance.randint(5, 40)):
        faults.mend()
        if chance.random() < 0.4:
            chance.choice(TROUBLES)(faults, chance)
        clock.advance(chance.choice((0, LOOK_EVERY)))
        with contextlib.suppress(AuditError):
            chance.choice(sinks).record(record(name=at))
    faults.mend()
    for sink in sinks:
        sink.close()


def test_no_trouble_looks_like_a_forgery(tmp_path: Path) -> None:
    """Whatever befalls writers that share a path, nothing is found to be wrong, and all they wrote is proven."""
    for seed in range(times(60, 5_000)):
        chance, clock = random.Random(seed), FakeClock()  # noqa: S311  it is no secret
        folder, notes = tmp_path / str(seed), tmp_path / f"{seed}.notes"
        folder.mkdir()
        for _ in range(chance.randint(1, 3)):
            _lived(folder / "audit.jsonl", notes, clock, chance)
            with (folder / "audit.jsonl").open("ab") as torn:
                torn.write(b'{"schema":"pep.audit/1","prev":"'[: chance.randint(0, 32)])
            FileSink(folder / "audit.jsonl", clock=clock, checkpoints=signing(notes)).close()
        report = verified(folder / "audit.jsonl", notes)
        assert (seed, [str(finding) for finding in report.findings]) == (seed, [])
        assert (seed, report.proven) == (seed, report.records)
