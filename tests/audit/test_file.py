from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pep.audit import file as file_module
from pep.audit.file import FileSink
from pep.audit.record import Kind, Record, masked, new_id
from pep.errors import AuditError, ConfigurationError
from pep.profile import Guarantee
from pep.protocols import Sink

SOURCE = Path(__file__).resolve().parent.parent.parent / "src"


def record(**fields: Any) -> Record:
    return Record(Kind.DECISION, new_id(1.0), 1.0, masked(fields))


def lines(path: Path) -> list[dict[str, Any]]:
    """Every line of a file that is a record; a fragment is told by what is left of it."""
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            found.append({"fragment": line.decode()})
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def test_records_are_lines(path: Path) -> None:
    """Each record is one whole line, there for everybody once `record` returns."""
    sink = FileSink(path)
    for at in range(3):
        sink.record(record(at=at))
        assert [line["at"] for line in lines(path)] == list(range(at + 1))
    assert path.read_bytes().endswith(b"}\n")
    assert isinstance(sink, Sink)
    assert sink.guarantee is Guarantee.WRITTEN
    assert repr(sink) == f"FileSink({str(path)!r})"
    sink.close()


def test_a_new_file_is_its_owners(path: Path) -> None:
    """A log names who did what: nobody else may read or write it."""
    before = os.umask(0)
    try:
        FileSink(path).close()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_existing_file_is_gone_on_with(path: Path) -> None:
    """What is in the file already stays there."""
    for at in range(2):
        sink = FileSink(str(path))
        sink.record(record(at=at))
        sink.close()
    assert [line["at"] for line in lines(path)] == [0, 1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=20), max_size=4), st.integers(1, 200))
def test_a_torn_tail_destroys_no_record(path: Path, others: list[bytes], cut: int) -> None:
    """Whatever a crash left, nothing whole is damaged, and what comes next is whole; the fragment is told of."""
    whole = record(at="before").to_json() + b"\n"
    before = whole + b"".join(text.replace(b"\n", b"") + b"\n" for text in others)
    path.write_bytes(before + whole[: min(cut, len(whole) - 1)])
    sink = FileSink(path)
    sink.record(record(at="after"))
    sink.close()
    found = path.read_bytes()
    assert found.startswith(before + whole[: min(cut, len(whole) - 1)] + b"\n")
    told = [json.loads(line) for line in found[len(before) :].splitlines()[1:]]
    assert [(line["kind"], line.get("torn"), line.get("at")) for line in told] == [
        ("gap", True, None),
        ("decision", None, "after"),
    ]


def test_a_whole_tail_needs_no_repair(path: Path) -> None:
    """A file that ends with a line, or is empty, is left as it is."""
    for content in (b"", b"{}\n"):
        path.write_bytes(content)
        FileSink(path).close()
        assert path.read_bytes() == content


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
    found = lines(path)
    assert len(found) == 400
    for number in range(4):
        assert [line["at"] for line in found if line["thread"] == number] == list(range(100))


CHILD = """
import sys
from pep.audit.file import FileSink
from pep.audit.record import Kind, Record, masked
sink = FileSink(sys.argv[1])
for at in range(200):
    sink.record(Record(Kind.DECISION, "id", 1.0, masked({"child": sys.argv[2], "at": at, "filler": "x" * (at * 100)})))
"""


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(child: subprocess.Popen[str]) -> str:
    out, error = child.communicate(timeout=60)
    assert child.returncode == 0, error
    return out


def test_several_processes_share_a_file(path: Path) -> None:
    """Processes that append to one file damage no line of one another's."""
    children = [started(CHILD, path, name) for name in "ab"]
    for child in children:
        finished(child)
    found = lines(path)
    for name in "ab":
        assert [line["at"] for line in found if line.get("child") == name] == list(range(200))
    assert len([line for line in found if "child" in line]) == 400


LIMITED = """
import resource, signal, sys
from pathlib import Path
from pep.audit.file import FileSink
from pep.audit.record import Kind, Record, masked
from pep.errors import AuditError, ConfigurationError

def record(name):
    return Record(Kind.DECISION, "id", 1.0, masked({"name": name, "filler": "x" * 100}))

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
sink = FileSink(path)
sink.record(record("whole"))
size = path.stat().st_size
limit(size + int(sys.argv[2]))
for name in ("short", "none"):
    try:
        sink.record(record(name))
        print(name, "acknowledged")
    except AuditError as error:
        print(name, error)
try:
    FileSink(path)
    print("open")
except ConfigurationError as error:
    print("refused", error)
limit(resource.RLIM_INFINITY)
sink.record(record("after"))
"""


@pytest.mark.parametrize("room", [0, 1, 20, 100])
def test_a_full_disk_refuses_and_recovers(path: Path, room: int) -> None:
    """A line the disk did not take whole is refused; once there is room, the next one is whole, its neighbours too."""
    told = finished(started(LIMITED, path, room))
    assert "acknowledged" not in told
    reasons = told.splitlines()
    assert ("the disk took" in reasons[0]) == (room > 0)
    assert "File too large" in reasons[1]
    assert reasons[2].startswith("open" if room == 0 else "refused cannot append to audit file")
    found = lines(path)
    assert [line["name"] for line in found if "name" in line] == ["whole", "after"]
    assert [len(line["fragment"]) for line in found if "fragment" in line] == [room] * (room > 0)


FORKED = """
import os, sys, threading
from pep.audit.file import FileSink
from pep.audit.record import Kind, Record, masked
sink = FileSink(sys.argv[1])
held, done = threading.Event(), threading.Event()

def record(name):
    return Record(Kind.DECISION, "id", 1.0, masked({"name": name}))

def hold():
    with sink._lock:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    sink.record(record("child"))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
done.set()
thread.join()
sink.record(record("parent"))
"""


def test_a_forked_child_writes_on(path: Path) -> None:
    """A child forked while another thread was writing neither hangs nor damages anything."""
    finished(started(FORKED, path))
    assert [line["name"] for line in lines(path)] == ["child", "parent"]


KILLED = """
import os, signal, sys
from pep.audit.file import FileSink
from pep.audit.record import Kind, Record, masked
sink = FileSink(sys.argv[1])
sink.record(Record(Kind.DECISION, "id", 1.0, masked({"name": "acknowledged"})))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_acknowledged_survives_being_killed(path: Path) -> None:
    """Once `record` has returned, the record is the kernel's."""
    child = started(KILLED, path)
    child.communicate(timeout=60)
    assert child.returncode == -9
    assert [line["name"] for line in lines(path)] == ["acknowledged"]


class Disk:
    """The machine's disk, with an operation that goes wrong: the k-th write is short, or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, taken: int | OSError) -> None:
        self.at, self.taken = at, taken
        self.write = os.write
        monkeypatch.setattr(file_module.os, "write", self)

    def __call__(self, file: int, content: bytes) -> int:
        self.at -= 1
        if self.at != 0:
            return self.write(file, content)
        if isinstance(self.taken, OSError):
            raise self.taken
        return self.write(file, content[: self.taken])


@pytest.mark.parametrize("taken", [0, 1, 30, OSError(errno.ENOSPC, "x"), OSError(errno.EIO, "x"), OSError()])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_whatever_write_fails(path: Path, monkeypatch: pytest.MonkeyPatch, at: int, taken: int | OSError) -> None:
    """At whichever write the disk fails, exactly the records that were acknowledged are there, whole."""
    sink = FileSink(path)
    Disk(monkeypatch, at, taken)
    acknowledged = []
    for name in range(5):
        with contextlib.suppress(AuditError):
            sink.record(record(name=name))
            acknowledged.append(name)
    sink.close()
    assert (
        [line["name"] for line in lines(path) if "name" in line] == acknowledged == [n for n in range(5) if n != at - 1]
    )


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("taken", [10, OSError(errno.ENOSPC, "x")])
def test_a_tail_that_cannot_be_closed_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, at: int, taken: int | OSError
) -> None:
    """Where the fragment of a crash can be neither closed nor told of, the sink refuses to start."""
    path.write_bytes(b'{"fragment')
    Disk(monkeypatch, at, taken)
    if at == 1 and isinstance(taken, int):
        FileSink(path).close()
        return
    with pytest.raises(ConfigurationError, match=f"cannot append to audit file `{path}`: .*; make room on its disk"):
        FileSink(path)


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


def descriptors() -> int | None:
    """How many file descriptors are open; None where that cannot be told."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else None


def test_refusing_leaves_nothing_open(path: Path) -> None:
    """A sink that was refused holds no file descriptor."""
    path.touch()
    path.chmod(0o602)
    before = descriptors()
    for _ in range(5):
        with pytest.raises(ConfigurationError):
            FileSink(path)
    assert descriptors() == before


# What happens to the file meanwhile.


def test_a_renamed_file_is_written_on(path: Path, tmp_path: Path) -> None:
    """Rotating by renaming loses nothing."""
    sink = FileSink(path)
    sink.record(record(name="before"))
    path.rename(tmp_path / "rotated")
    sink.record(record(name="after"))
    sink.close()
    assert [line["name"] for line in lines(tmp_path / "rotated")] == ["before", "after"]


def test_a_truncated_file_is_written_on(path: Path) -> None:
    """Rotating by copying and truncating leaves no hole."""
    sink = FileSink(path)
    sink.record(record(name="before"))
    os.truncate(path, 0)
    sink.record(record(name="after"))
    sink.close()
    assert [line["name"] for line in lines(path)] == ["after"]


def test_a_deleted_file_is_made_anew(path: Path) -> None:
    """Nobody would find what is written to a deleted file: it is never acknowledged there."""
    sink = FileSink(path)
    sink.record(record(name="before"))
    path.unlink()
    sink.record(record(name="after"))
    assert [line["name"] for line in lines(path)] == ["after"]
    path.unlink()
    path.symlink_to(path.parent / "elsewhere")
    with pytest.raises(AuditError, match="it is a symbolic link"):
        sink.record(record(name="trapped"))
    path.unlink()
    sink.record(record(name="again"))
    sink.close()
    assert [line["name"] for line in lines(path)] == ["again"]


def test_another_writers_fragment_is_closed_too(path: Path) -> None:
    """What another process left of its last line does not run into ours."""
    sink = FileSink(path)
    with path.open("ab") as other:
        other.write(b'{"name": "fragm')
    sink.record(record(name="after"))
    sink.close()
    assert lines(path)[0] == {"fragment": '{"name": "fragm'}
    assert lines(path)[1]["name"] == "after"


def test_a_line_that_is_still_growing_is_no_fragment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long line of another process, seen half written, gets no newline of ours in it."""
    sink = FileSink(path)
    path.write_bytes(b'{"name":')
    pread = os.pread

    def growing(file: int, count: int, at: int) -> bytes:
        found = pread(file, count, at)
        with path.open("ab") as other:
            other.write(b' "theirs"}\n')
        return found

    monkeypatch.setattr(file_module.os, "pread", growing)
    sink.record(record(name="ours"))
    sink.close()
    assert [line["name"] for line in lines(path)] == ["theirs", "ours"]


def test_a_closed_sink_takes_nothing(path: Path) -> None:
    """After closing, which may happen twice, every record is refused."""
    sink = FileSink(path)
    sink.close()
    sink.close()
    with pytest.raises(AuditError, match="the audit file is closed"):
        sink.record(record())
    assert path.read_bytes() == b""
