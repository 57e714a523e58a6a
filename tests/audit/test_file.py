from __future__ import annotations

import contextlib
import errno
import gc
import math
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pep import Enforcer, Guarantee, Resource, Subject
from pep.audit.chain import GENESIS, digest
from pep.audit.disk import Disk
from pep.audit.family import family
from pep.audit.file import FileSink
from pep.audit.writer import LOOK_EVERY
from pep.errors import AuditError, ConfigurationError
from pep.pdp.function import FunctionPDP
from pep.protocols import Sink
from pep.testing import FakeClock
from tests.audit.disks import Faults, broken_links, contents, descriptors, parsed, record, told

SOURCE = Path(__file__).resolve().parent.parent.parent / "src"
ROOT = SOURCE.parent


def lines(path: Path) -> list[dict[str, Any]]:
    return parsed(path.read_bytes())


def names(folder: Path) -> list[Any]:
    """The names of the records in all files of a folder, the sinks' own left out."""
    return [line["name"] for line in told(contents(folder)) if "name" in line]


def gaps(folder: Path) -> list[dict[str, Any]]:
    """What every gap record of a folder tells."""
    found = [line for content in contents(folder).values() for line in parsed(content) if line.get("kind") == "gap"]
    common = {"schema", "prev", "seq", "writer", "kind", "id", "time"}
    return [{name: value for name, value in line.items() if name not in common} for line in found]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_records_are_lines(path: Path) -> None:
    """Each record is one whole line, there for everybody once `record` returns, between an open and a close."""
    sink = FileSink(path)
    for at in range(3):
        sink.record(record(at=at))
        assert [line["at"] for line in lines(path)[1:]] == list(range(at + 1))
    assert path.read_bytes().endswith(b"}\n")
    assert isinstance(sink, Sink)
    assert sink.guarantee is Guarantee.WRITTEN
    assert repr(sink) == f"FileSink({str(path)!r})"
    assert sink.path == sink.file == path
    sink.close()
    assert [line["kind"] for line in lines(path)] == ["open", "decision", "decision", "decision", "close"]
    assert lines(path)[0]["pid"] == os.getpid()
    assert sink.stats() == {
        "written": 5,
        "refused": 0,
        "torn": 0,
        "rotated": 0,
        "deleted": 0,
        "synced": 0,
        "unsynced": 0,
    }


class Source:
    """Makes the records of notes."""

    def json(self, note: tuple[Any, ...]) -> bytes:
        return record(name=note[1]).to_json()


def test_notes_are_taken_without_a_plan(path: Path) -> None:
    """A note is written as its record would be."""
    sink = FileSink(path)
    assert sink.take((Source(), "noted")) is None
    assert names(path.parent) == ["noted"]
    sink.close()
    with pytest.raises(AuditError, match="the audit file is closed"):
        sink.take((Source(), "late"))


def test_lines_are_chained(path: Path) -> None:
    """Every line carries the hash of the one before it, also across writers; the first has none to carry."""
    for at in range(3):
        sink = FileSink(path)
        sink.record(record(name=at))
        sink.close()
    found = lines(path)
    assert broken_links(contents(path.parent)) == []
    assert found[0]["prev"] == GENESIS.decode()
    assert [line.get("previous") for line in found if line["kind"] == "open"] == [None, "audit.jsonl", "audit.jsonl"]
    assert [line["seq"] for line in found] == [0, 1, 2] * 3
    assert len({line["writer"] for line in found}) == 3


def test_a_line_that_was_changed_breaks_the_chain(path: Path) -> None:
    """The reader of these tests is able to tell."""
    sink = FileSink(path)
    for at in range(3):
        sink.record(record(name=at))
    sink.close()
    whole = path.read_bytes()
    rows = whole.splitlines(keepends=True)
    assert broken_links({"edited": whole.replace(b'"name":1', b'"name":2')}) != []
    assert broken_links({"cut": b"".join([*rows[:2], *rows[3:]])}) != []
    assert broken_links({"reordered": b"".join([rows[0], rows[2], rows[1], *rows[3:]])}) != []


def test_a_new_file_is_its_owners(path: Path) -> None:
    """A log names who did what: nobody else may read or write it."""
    before = os.umask(0)
    try:
        FileSink(path).close()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_existing_file_is_gone_on_with(path: Path) -> None:
    """What is in the file already stays there, be it chained or not."""
    path.write_bytes(b'{"name":"old"}\n')
    sink = FileSink(str(path))
    sink.record(record(name="new"))
    sink.close()
    assert names(path.parent) == ["old", "new"]
    assert lines(path)[1]["prev"] == digest(b'{"name":"old"}').decode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=20), max_size=4), st.integers(1, 200))
def test_a_torn_tail_destroys_no_record(path: Path, others: list[bytes], cut: int) -> None:
    """Whatever a crash left, nothing whole is damaged, and what comes next is whole; the fragment is told of."""
    whole = record(name="before").to_json() + b"\n"
    fragment = whole[: min(cut, len(whole) - 1)]
    before = whole + b"".join(text.replace(b"\n", b"") + b"\n" for text in others)
    path.write_bytes(before + fragment)
    sink = FileSink(path)
    sink.record(record(name="after"))
    sink.close()
    found = path.read_bytes()
    assert found.startswith(before + fragment + b"\n")
    rest = parsed(found[len(before) + len(fragment) + 1 :])
    assert [line["kind"] for line in rest] == ["open", "gap", "decision", "close"]
    assert rest[0]["prev"] == digest(fragment).decode()
    assert (rest[1]["torn"], rest[2]["name"]) == (len(fragment), "after")
    assert broken_links({"rest": b"\n" + fragment + b"\n" + found[len(before) + len(fragment) + 1 :]}) == []


def test_a_whole_tail_needs_no_repair(path: Path) -> None:
    """A file that ends with a line, or is empty, has no gap."""
    for content in (b"", b"{}\n"):
        path.write_bytes(content)
        FileSink(path).close()
        assert path.read_bytes().startswith(content)
        assert gaps(path.parent) == []


def test_many_threads_write_whole_lines(path: Path) -> None:
    """Threads neither interleave nor lose anything."""
    sink = FileSink(path)

    def write(thread: int) -> None:
        for at in range(100):
            sink.record(record(thread=thread, at=at, filler="x" * (at * 50)))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close()
    found = told(contents(path.parent))
    assert len(found) == 400
    for number in range(4):
        assert [line["at"] for line in found if line["thread"] == number] == list(range(100))
    assert broken_links(contents(path.parent)) == []


# Several processes.

CHILD = """
import sys
from pep.audit.file import FileSink
from tests.audit.disks import record
sink = FileSink(sys.argv[1])
for at in range(200):
    sink.record(record(name=f"{sys.argv[2]}{at}", filler="x" * (at * 100)))
"""


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{ROOT}"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(child: subprocess.Popen[str]) -> str:
    out, error = child.communicate(timeout=60)
    assert child.returncode == 0, error
    return out


def test_several_processes_have_a_file_each(path: Path) -> None:
    """A process that finds the file taken writes one of its own beside it; nothing is lost, no chain is broken."""
    held = FileSink(path)
    children = [started(CHILD, path, name) for name in "ab"]
    for child in children:
        finished(child)
    held.record(record(name="held"))
    held.close()
    files = contents(path.parent)
    assert 2 <= len(files) <= 3
    assert sorted(names(path.parent)) == sorted([*(f"{name}{at}" for name in "ab" for at in range(200)), "held"])
    assert broken_links(files) == []
    assert {file.name for file in family(path)} == set(files)


def test_a_second_writer_goes_on_from_the_first(path: Path) -> None:
    """Its own file starts with the hash of the last whole line of the one it found taken."""
    first = FileSink(path)
    second = FileSink(path)
    assert second.file != second.path == path
    opening = lines(second.file)[0]
    assert (opening["kind"], opening["previous"], opening["seq"]) == ("open", "audit.jsonl", 0)
    assert opening["prev"] == digest(path.read_bytes().splitlines()[-1]).decode()
    assert second.file.name == f"audit.{opening['writer']}.jsonl"
    first.close()
    second.close()


def test_a_file_that_a_writer_left_is_gone_on_with(path: Path, tmp_path: Path) -> None:
    """There are never more files than writers at once, and what a killed one left torn is closed and told of."""
    first, second = FileSink(path), FileSink(path)
    left = second.file
    second.close()
    with left.open("ab") as torn:
        torn.write(b'{"fragm')
    third, fourth = FileSink(path), FileSink(path)
    assert third.file == left
    assert fourth.file not in {left, path}
    (tmp_path / f"audit.{'0' * 16}.jsonl").symlink_to(left)
    fifth = FileSink(path)
    assert fifth.file not in {path, left, fourth.file}
    for sink in (first, third, fourth, fifth):
        sink.close()
    assert gaps(tmp_path) == [{"torn": 7}] * 2  # the link shows it twice
    (tmp_path / f"audit.{'0' * 16}.jsonl").unlink()
    assert broken_links(contents(tmp_path)) == []


def test_a_file_of_its_own_must_be_its_own(path: Path) -> None:
    """A writer that can lock no file at all refuses to start."""
    with pytest.raises(ConfigurationError, match=r"every file beside .* is locked; see whether its disk has locks"):
        FileSink(path, disk=Disk(lock=lambda _file: False))


def test_a_new_file_that_another_writer_comes_upon_is_left_to_it(path: Path) -> None:
    """Between making a file and locking it, another writer may take it for one that was left."""
    first = FileSink(path)
    taken: list[str] = []

    def lock(file: int) -> bool:
        name = str(Path(f"/proc/self/fd/{file}").readlink())
        if name != str(path) and not taken:
            taken.append(name)
            return False
        return Disk().lock(file)

    second = FileSink(path, disk=Disk(lock=lock))
    assert second.file not in {path, *map(Path, taken)}
    first.close()
    second.close()


FORKED = """
import os, sys, threading
from pep.audit.file import FileSink
from tests.audit.disks import record
sink = FileSink(sys.argv[1])
sink.record(record(name="before"))
held, done = threading.Event(), threading.Event()

def hold():
    with sink._writer._lock:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    sink.record(record(name="child"))
    grandchild = os.fork()
    if grandchild == 0:
        silent = os.fork()
        if silent == 0:
            sink.close()
            sink.close()
            os._exit(0)
        assert os.waitpid(silent, 0)[1] == 0
        sink.record(record(name="grandchild"))
        sink.close()
        os._exit(0)
    assert os.waitpid(grandchild, 0)[1] == 0
    sink.record(record(name="child again"))
    sink.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
done.set()
thread.join()
sink.record(record(name="parent"))
sink.close()
"""


def test_a_forked_child_has_a_file_of_its_own(path: Path) -> None:
    """A child forked while another thread was writing neither hangs nor damages anything, nor inherits an id."""
    finished(started(FORKED, path))
    files = contents(path.parent)
    assert [line["name"] for line in told({"": files.pop(path.name)})] == ["before", "parent"]
    rest = sorted([line["name"] for line in told({"": content})] for content in files.values())
    assert rest == [["child", "child again"], ["grandchild"]]
    assert broken_links(contents(path.parent)) == []


def test_what_the_hook_leaves_for_a_child(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does nothing on a disk; the next record opens a file under a new id, and closes what came with the child."""
    faults = Faults()
    before = descriptors()
    sink = FileSink(path, disk=faults.disk, rotate_bytes=400)
    sink.record(record(name="parent"))
    sink.record(record(name="parent"))
    parents = set(contents(path.parent)) - {path.name}
    faults.log.clear()
    sink._writer._renewed()
    sink._writer._renewed()
    assert faults.log == []
    sink.record(record(name="child"))
    sink.record(record(name="child again"))
    (aside,) = set(contents(path.parent)) - {path.name} - parents
    assert aside.endswith("-0.jsonl")
    sink._writer._renewed()
    sink.close()
    sink._writer._renewed()
    with pytest.raises(AuditError, match="closed"):
        sink.record(record(name="late"))
    assert descriptors() == before
    assert broken_links(contents(path.parent)) == []


FORKED_WITHIN = """
import os, sys
from pep.audit.disk import Disk
from pep.audit.file import FileSink
from pep.errors import AuditError
from tests.audit.disks import record

children = []

def write(file, content):
    if b"forking" in content and not children:
        children.append(os.fork())
    return os.write(file, content)

sink = FileSink(sys.argv[1], disk=Disk(write=write))
try:
    sink.record(record(name="forking"))
except AuditError:
    assert children == [0]
sink.record(record(name="child" if children == [0] else "parent"))
sink.close()
if children == [0]:
    os._exit(0)
assert os.waitpid(children[0], 0)[1] == 0
"""


def test_a_child_forked_within_a_write_writes_nothing_of_it(path: Path) -> None:
    """What its parent was writing is its parent's; a signal handler may fork at any time."""
    finished(started(FORKED_WITHIN, path))
    assert sorted(names(path.parent)) in (["child", "forking", "parent"], ["child", "forking", "forking", "parent"])


KILLED = """
import os, signal, sys
from pep.audit.file import FileSink
from tests.audit.disks import record
sink = FileSink(sys.argv[1])
sink.record(record(name="acknowledged"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_acknowledged_survives_being_killed(path: Path) -> None:
    """Once `record` has returned, the record is the kernel's; the lock is gone with the process."""
    child = started(KILLED, path)
    child.communicate(timeout=60)
    assert child.returncode == -9
    assert names(path.parent) == ["acknowledged"]
    sink = FileSink(path)
    assert sink.file == path
    sink.close()
    assert broken_links(contents(path.parent)) == []


# Disks that fail.

LIMITED = """
import resource, signal, sys
from pathlib import Path
from pep.audit.file import FileSink
from pep.errors import AuditError, ConfigurationError
from tests.audit.disks import record

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
sink = FileSink(path)
sink.record(record(name="whole"))
size = path.stat().st_size
limit(size + int(sys.argv[2]))
for name in ("short", "none"):
    try:
        sink.record(record(name=name, filler="x" * 100))
        print(name, "acknowledged")
    except AuditError as error:
        print(name, error)
try:
    FileSink(path.with_name("other.jsonl")).close()
    print("open")
except ConfigurationError as error:
    print("refused", error)
limit(resource.RLIM_INFINITY)
sink.record(record(name="after"))
sink.close()
"""


@pytest.mark.parametrize("room", [0, 1, 20, 100])
def test_a_full_disk_refuses_and_recovers(path: Path, room: int) -> None:
    """A line the disk did not take whole is refused; once there is room, the next one is whole, its neighbours too."""
    reasons = finished(started(LIMITED, path, room)).splitlines()
    assert "acknowledged" not in " ".join(reasons)
    assert ("the disk took" in reasons[0]) == (room > 0)
    assert "File too large" in reasons[1]
    assert reasons[2].startswith("open")
    assert names(path.parent) == ["whole", "after"]
    found = lines(path)
    assert [len(line["fragment"]) for line in found if "fragment" in line] == [room] * (room > 0)
    assert [gap["refused"] for gap in gaps(path.parent)] == [2]
    assert sum(gap.get("torn", 0) for gap in gaps(path.parent)) == room
    assert broken_links(contents(path.parent)) == []


@pytest.mark.parametrize("taken", [0, 1, 30, errno.ENOSPC, errno.EIO, -1])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_whatever_write_fails(path: Path, at: int, taken: int) -> None:
    """At whichever write the disk fails, exactly the records that were acknowledged are there, whole."""
    faults = Faults()
    sink = FileSink(path, disk=faults.disk)
    if taken in {errno.ENOSPC, errno.EIO}:
        faults.fail(taken, at=at, only="write")
    else:
        faults.cut(taken, at=at)
    acknowledged = []
    for name in range(5):
        with contextlib.suppress(AuditError):
            sink.record(record(name=name))
            acknowledged.append(name)
    sink.close()
    assert acknowledged == [name for name in range(5) if name != at - 1]
    # All but its newline was taken: then the record is there, though it was refused.
    assert [name for name in names(path.parent) if name in acknowledged] == acknowledged
    assert (at - 1 in names(path.parent)) == (taken == -1)
    assert [gap["refused"] for gap in gaps(path.parent)] == [1]
    assert broken_links(contents(path.parent)) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_gap_that_cannot_be_told_is_told_later(path: Path, code: int) -> None:
    """However long a disk is full, how many records it did not take is known in the end."""
    faults = Faults()
    sink = FileSink(path, disk=faults.disk)
    faults.fail(code, only="write", until=10)
    for name in range(10):
        with pytest.raises(AuditError, match=f"cannot append to audit file `{path}`: {os.strerror(code)}"):
            sink.record(record(name=name))
    sink.record(record(name="after"))
    assert gaps(path.parent) == [{"refused": 10}]
    assert sink.stats()["refused"] == 10
    sink.close()
    assert names(path.parent) == ["after"]


@pytest.mark.parametrize(("at", "taken"), [(1, 0), (2, 10), (2, None), (1, None)])
def test_a_tail_that_cannot_be_closed_is_refused(path: Path, at: int, taken: int | None) -> None:
    """Where the fragment of a crash can be neither closed nor told of, the sink refuses to start."""
    path.write_bytes(b'{"fragment')
    faults = Faults()
    if taken is None:
        faults.fail(errno.ENOSPC, at=at, only="write")
    else:
        faults.cut(taken, at=at)
    before = descriptors()
    with pytest.raises(ConfigurationError, match=f"cannot append to audit file `{path}`: .*; make room on its disk"):
        FileSink(path, disk=faults.disk)
    assert descriptors() == before
    faults.mend()
    FileSink(path, disk=faults.disk).close()
    assert broken_links(contents(path.parent)) == []


def test_a_write_that_is_interrupted_is_accounted_for(path: Path) -> None:
    """What a signal handler raises in the middle of a write neither breaks the chain nor counts a line twice."""
    for when in ("before", "after"):
        strike: list[str] = []

        def write(file: int, content: bytes, when: str = when, strike: list[str] = strike) -> int:
            if strike and when == "before":
                strike.clear()
                raise KeyboardInterrupt
            taken = os.write(file, content)
            if strike:
                strike.clear()
                raise KeyboardInterrupt
            return taken

        sink = FileSink(path, disk=Disk(write=write))
        strike.append("now")
        with pytest.raises(KeyboardInterrupt):
            sink.record(record(name=f"interrupted {when}"))
        sink.record(record(name="next"))
        sink.close()
    assert names(path.parent) == ["next", "interrupted after", "next"]
    assert broken_links(contents(path.parent)) == []


# Where it refuses to start.


def test_symbolic_links_are_refused(path: Path, tmp_path: Path) -> None:
    """A link could lead the log anywhere."""
    target = tmp_path / "elsewhere"
    target.touch()
    path.symlink_to(target)
    with pytest.raises(ConfigurationError, match="it is a symbolic link; name a regular file"):
        FileSink(path)
    target.unlink()
    with pytest.raises(ConfigurationError, match="it is a symbolic link"):
        FileSink(path)
    assert not target.exists()


def test_files_that_everybody_writes_are_refused(path: Path) -> None:
    """A log that anybody can write proves nothing."""
    path.touch()
    path.chmod(0o602)
    with pytest.raises(ConfigurationError, match="is writable by everybody; take that away with `chmod o-w`"):
        FileSink(path)
    path.chmod(0o660)
    FileSink(path).close()
    path.parent.chmod(0o777)
    with pytest.raises(ConfigurationError, match=r"audit folder .* is writable by everybody"):
        FileSink(path)


def test_what_is_no_file_is_refused(path: Path, tmp_path: Path) -> None:
    """A folder, a pipe or a device keeps no log, and opening one does not wait."""
    os.mkfifo(path)
    for other in (path, Path(os.devnull)):
        with pytest.raises(ConfigurationError, match="is no regular file; name one"):
            FileSink(other)
    with pytest.raises(ConfigurationError, match="Is a directory; name a regular file"):
        FileSink(tmp_path)
    with pytest.raises(
        ConfigurationError, match="No such file or directory; name a regular file in a folder that exists"
    ):
        FileSink(tmp_path / "missing" / "audit.jsonl")


def test_refusing_leaves_nothing_open(path: Path) -> None:
    """A sink that was refused holds no file descriptor."""
    path.touch()
    path.chmod(0o602)
    before = descriptors()
    for _ in range(5):
        with pytest.raises(ConfigurationError):
            FileSink(path)
    assert descriptors() == before


@pytest.mark.parametrize("name", ["rotate_bytes", "rotate_seconds"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "1", True])
def test_limits_are_numbers(path: Path, name: str, value: Any) -> None:
    """A limit that is none is told at once, and nothing is made."""
    with pytest.raises(ConfigurationError, match=f"`{name}` must be a finite number greater than 0"):
        FileSink(path, **{name: value})
    with pytest.raises(ConfigurationError, match="`guarantee` of a file must be"):
        FileSink(path, guarantee=Guarantee.BUFFERED)
    assert not path.exists()


# What happens to the file meanwhile.


def test_a_renamed_file_is_followed_by_a_new_one(path: Path, tmp_path: Path, clock: FakeClock) -> None:
    """Rotating by renaming loses nothing: it is written on until that is noticed, at most a second later."""
    sink = FileSink(path, clock=clock)
    sink.record(record(name="before"))
    path.rename(tmp_path / "audit.jsonl.1")
    sink.record(record(name="meanwhile"))
    assert not path.exists()
    clock.advance(LOOK_EVERY)
    sink.record(record(name="after"))
    sink.close()
    assert [line["name"] for line in told({"": (tmp_path / "audit.jsonl.1").read_bytes()})] == ["before", "meanwhile"]
    assert [line["name"] for line in told({"": path.read_bytes()})] == ["after"]
    assert broken_links(contents(tmp_path)) == []


def test_a_renamed_file_is_written_on_while_there_is_no_new_one(path: Path, clock: FakeClock) -> None:
    """A record is refused only where it would be lost."""
    faults = Faults()
    sink = FileSink(path, clock=clock, disk=faults.disk)
    path.rename(path.with_suffix(".1"))
    faults.fail(errno.EMFILE, only="open")
    clock.advance(LOOK_EVERY)
    sink.record(record(name="first"))
    clock.advance(LOOK_EVERY)
    sink.record(record(name="second"))
    sink.close()
    assert names(path.parent) == ["first", "second"]
    assert [line["name"] for line in told({"": path.read_bytes()})] == ["second"]


@pytest.mark.parametrize("theirs", [b"", b'{"name":"theirs"}\n'])
def test_a_file_that_was_put_in_its_place_is_used_where_it_is_empty(
    path: Path, tmp_path: Path, clock: FakeClock, theirs: bytes
) -> None:
    """Rotation may make the new file itself; one that has lines is somebody else's."""
    sink = FileSink(path, clock=clock)
    path.rename(tmp_path / "rotated")
    path.write_bytes(theirs)
    path.chmod(0o600)
    clock.advance(LOOK_EVERY)
    sink.record(record(name="after"))
    assert (sink.file == path) == (theirs == b"")
    sink.close()
    assert names(tmp_path) == ["after", *["theirs"] * bool(theirs)]
    assert path.read_bytes().startswith(theirs)


def test_a_file_that_another_writer_came_upon_is_not_renamed(path: Path, clock: FakeClock, tmp_path: Path) -> None:
    """A file of its own name that somebody else holds is somebody else's."""
    held: list[str] = []

    def lock(file: int) -> bool:
        name = str(Path(f"/proc/self/fd/{file}").readlink())
        if name in own:
            held.append(name)
            return False
        return Disk().lock(file)

    own: list[str] = []
    sink = FileSink(path, clock=clock, disk=Disk(lock=lock))
    own.append(sink._writer.place.names.own(sink._writer._id))
    path.rename(tmp_path / "rotated")
    path.write_bytes(b"theirs\n")
    path.chmod(0o600)
    clock.advance(LOOK_EVERY)
    sink.record(record(name="after"))
    assert held == own * 2
    assert not list(tmp_path.glob("*Z-*"))
    assert Path(own[0]).read_bytes() == b""
    assert [line["name"] for line in told({"": sink.file.read_bytes()}) if "name" in line] == ["after"]
    sink.close()


def test_a_truncated_file_is_written_on(path: Path, clock: FakeClock) -> None:
    """Rotating by copying and truncating leaves no hole, and a fragment of afterwards is still noticed."""
    faults = Faults()
    sink = FileSink(path, clock=clock, disk=faults.disk)
    sink.record(record(name="before"))
    os.truncate(path, 0)
    sink.record(record(name="after"))
    assert names(path.parent) == ["after"]
    clock.advance(LOOK_EVERY)
    sink.record(record(name="looked"))
    os.truncate(path, 0)
    faults.cut(20)
    with pytest.raises(AuditError, match="the disk took 20 of "):
        sink.record(record(name="cut"))
    sink.record(record(name="again"))
    sink.close()
    assert names(path.parent) == ["again"]
    assert [sum(gap.values()) for gap in gaps(path.parent)] == [21]


def test_a_deleted_file_is_made_anew(path: Path, clock: FakeClock) -> None:
    """What was written since the last look is written again, since nobody can have meant to delete it."""
    sink = FileSink(path, clock=clock)
    sink.record(record(name="before"))
    clock.advance(LOOK_EVERY)
    sink.record(record(name="looked"))
    path.unlink()
    sink.record(record(name="meanwhile"))
    clock.advance(LOOK_EVERY)
    sink.record(record(name="after"))
    assert names(path.parent) == ["looked", "meanwhile", "after"]
    assert gaps(path.parent) == [{"deleted": 1}]
    assert sink.stats()["deleted"] == 1
    path.unlink()
    path.symlink_to(path.parent / "elsewhere")
    clock.advance(LOOK_EVERY)
    for _ in range(2):
        with pytest.raises(AuditError, match="it is a symbolic link"):
            sink.record(record(name="trapped"))
    path.unlink()
    sink.record(record(name="again"))
    sink.close()
    assert names(path.parent) == ["after", "again"]


def test_a_deleted_file_cannot_be_replaced_by_half(path: Path, clock: FakeClock) -> None:
    """Where what was acknowledged cannot be written again, records are refused until it can."""
    faults = Faults()
    sink = FileSink(path, clock=clock, disk=faults.disk)
    sink.record(record(name="kept"))
    for name in ("first", "second"):
        path.unlink()
        clock.advance(LOOK_EVERY)
        faults.cut(10)
        with pytest.raises(AuditError, match="the disk took 10 of"):
            sink.record(record(name="refused"))
        # Again, where what is left of that is in the way, and where that fails too.
        faults.cut(10)
        with pytest.raises(AuditError, match="the disk took 10 of"):
            sink.record(record(name="refused"))
        faults.mend()
        sink.record(record(name=name))
        path = sink.file
    sink.close()
    assert [name for name in names(path.parent) if name != "kept"] == ["first", "second"]


def test_another_writers_fragment_is_closed_too(path: Path, clock: FakeClock) -> None:
    """What a program that knows of no lock left of its last line does not run into ours for long."""
    sink = FileSink(path, clock=clock)
    with path.open("ab") as other:
        other.write(b'{"name": "fragm')
    clock.advance(LOOK_EVERY)
    sink.record(record(name="after"))
    sink.close()
    assert [line.get("fragment") or line.get("name") for line in lines(path)] == [
        None,
        '{"name": "fragm',
        None,
        "after",
        None,
    ]
    assert gaps(path.parent) == [{"torn": 15}]
    assert broken_links(contents(path.parent)) == []


# Rotation.


def test_a_file_is_rotated_by_size(path: Path) -> None:
    """Nothing is lost between files; the chain and the numbers go on, and each is named after its first line."""
    sink = FileSink(path, rotate_bytes=1000)
    for name in range(50):
        sink.record(record(name=name))
    sink.close()
    files = contents(path.parent)
    assert broken_links(files) == []
    assert [line["name"] for file in family(path) for line in told({"": file.read_bytes()})] == list(range(50))
    assert len(files) > 5
    assert sink.stats()["rotated"] == len(files) - 1
    for name, content in files.items():
        assert len(content) < 1400
        if name != path.name:
            assert len(content) >= 1000
            first = parsed(content)[0]
            assert name.endswith(f"Z-{first['writer']}-{first['seq']}.jsonl")


def test_a_file_is_rotated_by_age(path: Path, clock: FakeClock) -> None:
    """It is done with once it is old enough and another record comes; one without records stays."""
    sink = FileSink(path, rotate_seconds=3600, clock=clock)
    for _ in range(3):
        sink.record(record(name="young"))
        clock.advance(3599)
        sink.record(record(name="old"))
        clock.advance(LOOK_EVERY)
        sink.record(record(name="new"))
        clock.advance(3600)
    sink.close()
    files = contents(path.parent)
    assert len(files) == 6
    assert broken_links(files) == []
    assert not any(content == b"" for content in files.values())


def test_an_empty_file_is_not_rotated(path: Path, clock: FakeClock) -> None:
    """A file whose first record was refused is kept for the next one, however old it is."""
    faults = Faults()
    sink = FileSink(path, rotate_seconds=10, clock=clock, disk=faults.disk)
    clock.advance(10)
    faults.cut(0)
    with pytest.raises(AuditError):
        sink.record(record(name="refused"))
    clock.advance(10)
    sink.record(record(name="after"))
    sink.close()
    assert len(contents(path.parent)) == 2
    assert names(path.parent) == ["after"]


def test_a_file_that_cannot_be_rotated_is_written_on(path: Path, clock: FakeClock) -> None:
    """A full table of files or a folder that takes no names refuses no record."""
    faults = Faults()
    sink = FileSink(path, rotate_bytes=1, clock=clock, disk=faults.disk)
    for operation in ("rename", "open"):
        faults.fail(errno.EMFILE, only=operation)
        clock.advance(LOOK_EVERY)
        faults.log.clear()
        sink.record(record(name=operation))
        sink.record(record(name=f"{operation} again"))
        # Tried once until the next look.
        assert faults.log.count(operation) == 1
    faults.mend()
    clock.advance(LOOK_EVERY)
    sink.record(record(name="after"))
    sink.close()
    files = contents(path.parent)
    assert sorted(names(path.parent)) == ["after", "open", "open again", "rename", "rename again"]
    assert broken_links(files) == []
    assert [line["name"] for line in told({"": files[path.name]})] == ["after"]


def test_two_files_never_share_a_name(path: Path, clock: FakeClock) -> None:
    """A file that is put aside replaces no other, even if it starts with the same line in the same second."""
    faults = Faults()
    sink = FileSink(path, guarantee=Guarantee.DURABLE, clock=clock, disk=faults.disk)
    sink.record(record(name="acknowledged"))
    # Three files in a row cannot be had on disk: the first is put aside, the next is left, the third in the way.
    for _ in range(3):
        faults.fail(errno.EIO, only="sync", until=2)
        with pytest.raises(AuditError):
            sink.record(record(name="refused"))
    faults.mend()
    sink.record(record(name="after"))
    sink.close()
    assert {"acknowledged", "after"} <= set(names(path.parent))
    assert broken_links(contents(path.parent)) == []


# Its end.


def test_a_closed_sink_takes_nothing(path: Path) -> None:
    """After closing, which may happen twice, every record is refused."""
    sink = FileSink(path)
    sink.close()
    sink.close()
    with pytest.raises(AuditError, match="the audit file is closed"):
        sink.record(record())
    assert [line["kind"] for line in lines(path)] == ["open", "close"]


def test_a_sink_that_cannot_say_that_it_ends_is_closed_all_the_same(path: Path) -> None:
    """Whoever closes it is told, and nothing stays open."""
    before = descriptors()
    faults = Faults()
    sink = FileSink(path, disk=faults.disk)
    faults.fail(errno.ENOSPC, only="write")
    with pytest.raises(AuditError, match="No space left on device"):
        sink.close()
    assert descriptors() == before
    sink.close()


def test_a_sink_that_is_dropped_leaves_nothing_open(path: Path) -> None:
    """Another one may have the file as soon as nobody has this one."""
    gc.collect()
    before = descriptors()
    FileSink(path).record(record(name="dropped"))
    gc.collect()
    assert descriptors() == before
    sink = FileSink(path)
    assert sink.file == path
    sink.close()


# Within another record.


@pytest.mark.parametrize("what", ["record", "close"])
def test_a_record_within_a_record_is_refused(path: Path, what: str) -> None:
    """A signal handler or finaliser in the middle of a write neither waits for itself nor breaks the chain."""
    refused: list[AuditError] = []

    def handle(*_arguments: object) -> None:
        try:
            sink.record(record(name="nested")) if what == "record" else sink.close()
        except AuditError as error:
            refused.append(error)

    def write(file: int, content: bytes) -> int:
        if b"outer" in content:
            signal.raise_signal(signal.SIGUSR1)
        return os.write(file, content)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        sink = FileSink(path, disk=Disk(write=write))
        sink.record(record(name="outer"))
        sink.record(record(name="next"))
        sink.close()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [str(error) for error in refused] == [
        "this very thread is writing a record already; guard no calls in signal handlers and finalisers"
    ]
    assert names(path.parent) == ["outer", "next"]
    assert broken_links(contents(path.parent)) == []


def test_a_record_within_a_gap_is_told_of(path: Path) -> None:
    """What is refused while a gap is told of is not forgotten, whether that is told or not."""
    sinks: list[FileSink] = []
    for fails in (False, True):
        nested: list[str] = []

        def write(file: int, content: bytes, fails: bool = fails, nested: list[str] = nested) -> int:
            if b'"gap"' in content and not nested:
                nested.append("now")
                with pytest.raises(AuditError, match="this very thread"):
                    sinks[-1].record(record(name="nested"))
                if fails:
                    raise OSError(errno.ENOSPC, "")
            return os.write(file, content)

        faults = Faults(Disk(write=write))
        sink = FileSink(path, disk=faults.disk)
        sinks.append(sink)
        faults.fail(errno.ENOSPC, only="write")
        for name in ("refused", "next", "last"):
            with contextlib.suppress(AuditError):
                sink.record(record(name=name))
        sink.close()
        assert sum(gap["refused"] for gap in gaps(path.parent)) == sink.stats()["refused"]
        path.unlink()


def test_the_directory_mode_is_looked_at_before_the_file_is_made(tmp_path: Path) -> None:
    """A folder that is refused has no new file in it."""
    tmp_path.chmod(tmp_path.stat().st_mode | stat.S_IWOTH)
    with pytest.raises(ConfigurationError):
        FileSink(tmp_path / "audit.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_an_enforcer_writes_to_it(path: Path) -> None:
    """A decision is in the file before the call goes on, and the file ends with the enforcer."""
    enforcer = Enforcer(FunctionPDP(lambda _request: True), audit=FileSink(path))
    enforcer.enforce("read", Resource("page", "1"), subject=Subject("user", "alice"))
    assert [line["kind"] for line in lines(path)] == ["open", "decision"]
    enforcer.close()
    assert [line["kind"] for line in lines(path)] == ["open", "decision", "close", "close"]
    assert broken_links(contents(path.parent)) == []
