from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pep.audit.chain import GENESIS, digest
from pep.audit.disk import Disk, sync_folder
from pep.audit.segments import Names, check_folder, last_hash, open_segment, previous, read_span, tail_of
from pep.errors import ConfigurationError
from tests.audit.disks import descriptors

WRITER = b"0123456789abcdef"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def opened(path: Path, disk: Disk | None = None) -> Any:
    return open_segment(disk or Disk(), str(path))


@pytest.mark.parametrize(
    ("path", "own", "rotated"),
    [
        ("audit.jsonl", "audit.0123456789abcdef.jsonl", "audit.20230102T030405Z-0123456789abcdef-7.jsonl"),
        ("a/b.c.log", "b.c.0123456789abcdef.log", "b.c.20230102T030405Z-0123456789abcdef-7.log"),
        ("audit", "audit.0123456789abcdef", "audit.20230102T030405Z-0123456789abcdef-7"),
        (".audit", ".audit.0123456789abcdef", ".audit.20230102T030405Z-0123456789abcdef-7"),
    ],
)
def test_what_files_are_called(path: str, own: str, rotated: str) -> None:
    """A file's name says whose it is and when it was done with; all lie beside the one that was asked for."""
    names = Names.of(path)
    assert Path(names.active) == Path.cwd() / path
    for found, expected in ((names.own(WRITER), own), (names.rotated(WRITER, 7, 1672628645.9), rotated)):
        assert Path(found) == Path(names.folder, expected)


def test_the_file_that_was_rotated_last() -> None:
    """It is told by its name; files of other logs, and of writers that are not done, are none."""
    names = Names.of("/log/audit.jsonl")
    early, late = (f"audit.2023010{day}T030405Z-{'ab' * 8}-{seq}.jsonl" for day, seq in ((1, 99), (2, 3)))
    later = f"audit.20230102T030405Z-{'00' * 8}-20.jsonl"
    others = ["audit.jsonl", f"audit.{'ab' * 8}.jsonl", f"other.20240101T000000Z-{'ab' * 8}-1.jsonl", "audit.jsonl.gz"]
    assert names.latest([late, early, *others]) == f"/log/{late}"
    assert names.latest([late, early, later]) == f"/log/{later}"
    assert names.latest(others) is None
    assert names.others([late, *others]) == [f"/log/audit.{'ab' * 8}.jsonl"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 200_000), max_size=3), st.integers(0, 100))
def test_the_last_line_is_found(path: Path, lengths: list[int], rest: int) -> None:
    """However long lines are, the last whole one is read, and what comes after it."""
    lines = [str(at).encode() * length for at, length in enumerate(lengths)]
    content = b"".join(line + b"\n" for line in lines) + b"y" * rest
    path.write_bytes(content)
    file = os.open(path, os.O_RDONLY)
    try:
        assert tail_of(Disk(), file, len(content)) == (lines[-1] if lines else b"", b"y" * rest)
        assert read_span(Disk(), file, 1, len(content)) == content[1:]
        assert read_span(Disk(), file, 5, 5) == b""
    finally:
        os.close(file)


def test_reading_goes_on_where_it_was_cut_short(path: Path) -> None:
    """A read may return less than was asked for."""
    path.write_bytes(b"first\nsecond\n")
    file = os.open(path, os.O_RDONLY)
    slow = Disk(read=lambda file, size, start: os.pread(file, min(size, 2), start))
    try:
        assert tail_of(slow, file, 13) == (b"second", b"")
    finally:
        os.close(file)


def test_the_hash_to_go_on_from(path: Path, tmp_path: Path) -> None:
    """A new file goes on from the active one, else from the one rotated last, else from nothing."""
    names = Names.of(path)
    own = opened(Path(names.own(WRITER)))
    assert previous(Disk(), names, own) == (None, GENESIS)
    rotated = Path(names.rotated(WRITER, 0, 0.0))
    rotated.write_bytes(b"old\ntorn")
    path.touch()
    assert previous(Disk(), names, own) == (rotated.name, digest(b"old"))
    path.write_bytes(b"new\n")
    assert previous(Disk(), names, own) == ("audit.jsonl", digest(b"new"))
    Disk().close(own.file)
    active = opened(path)
    assert previous(Disk(), names, active) == (rotated.name, digest(b"old"))
    Disk().close(active.file)
    assert last_hash(Disk(), str(tmp_path)) is None


def test_a_lock_keeps_others_out(path: Path) -> None:
    """A file that somebody writes is nobody else's."""
    first = opened(path)
    assert opened(path) is None
    Disk().close(first.file)
    second = opened(path)
    assert second.identity == first.identity
    Disk().close(second.file)


def test_without_locks_there_is_no_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the platform cannot keep others out, the sink refuses to start."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ConfigurationError, match="need the file locks of POSIX; use another sink"):
        opened(path)


def test_a_file_that_is_renamed_while_it_is_locked_is_opened_again(path: Path, tmp_path: Path) -> None:
    """What was locked is what the path names, even if another process rotates meanwhile."""
    moves = [tmp_path / "first", tmp_path / "second"]

    def lock(file: int) -> bool:
        if moves:
            path.rename(moves.pop())
        return Disk().lock(file)

    found = opened(path, Disk(lock=lock))
    assert os.fstat(found.file).st_ino == path.stat().st_ino
    os.close(found.file)


def test_a_file_that_is_renamed_again_and_again_is_refused(path: Path, tmp_path: Path) -> None:
    """It is not tried forever."""

    def lock(_file: int) -> bool:
        path.replace(tmp_path / "away")
        return True

    with pytest.raises(ConfigurationError, match="is renamed again and again; let one process rotate it"):
        opened(path, Disk(lock=lock))


def test_folders_that_everybody_writes_are_refused(tmp_path: Path) -> None:
    """Whoever may write in the folder may replace the log, unless names are their owner's."""
    folder = tmp_path / "log"
    folder.mkdir()
    for mode, refused in ((0o777, True), (0o702, True), (0o1777, False), (0o770, False)):
        folder.chmod(mode)
        if refused:
            with pytest.raises(ConfigurationError, match="is writable by everybody; take that away with `chmod o-w`"):
                check_folder(Disk(), str(folder))
        else:
            check_folder(Disk(), str(folder))
    link = tmp_path / "link"
    link.symlink_to(folder)
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match="is writable by everybody"):
        check_folder(Disk(), str(link))
    with pytest.raises(ConfigurationError, match=r"cannot open audit folder .*: No such file or directory; name"):
        check_folder(Disk(), str(tmp_path / "missing"))


def test_a_folder_is_synced(tmp_path: Path) -> None:
    """Its names are on disk, and nothing stays open."""
    before = descriptors()
    sync_folder(str(tmp_path))
    assert descriptors() == before
    with pytest.raises(FileNotFoundError):
        sync_folder(str(tmp_path / "missing"))


def test_what_cannot_be_opened_says_why(path: Path) -> None:
    """The mend fits the reason."""

    def full(*_arguments: object) -> int:
        raise OSError(24, "")

    with pytest.raises(ConfigurationError, match="Too many open files; let the process open it"):
        opened(path, attrs.evolve(Disk(), open=full))
