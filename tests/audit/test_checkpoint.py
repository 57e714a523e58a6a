from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.audit.checkpoint import Checkpoint, Checkpointer, Checkpoints, read_checkpoints
from pep.audit.findings import Wrong
from pep.audit.merkle import EMPTY, leaf_hash, tree_root
from pep.audit.notes import SignerKey, open_note
from pep.audit.verifying import verify
from pep.errors import AuditError, ConfigurationError
from tests.audit.families import Pen, name, put

KEY = SignerKey("example.com/audit", bytes(32))
LINES = Pen(name(1)).lines(40)


@attrs.define
class Timers:
    """Timers that run when they are told to."""

    due: list[tuple[float, Callable[[], None]]] = attrs.field(factory=list)
    cancelled: int = 0
    started: int = 0
    ending: bool = False

    def __call__(self, seconds: float, function: Callable[[], None]) -> Any:
        self.due.append((seconds, function))
        return self

    def start(self) -> None:
        if self.ending:
            message = "can't start new thread at interpreter shutdown"
            raise RuntimeError(message)
        self.started += 1

    def cancel(self) -> None:
        self.cancelled += 1

    def elapse(self) -> None:
        due, self.due = self.due, []
        for _, function in due:
            function()


@attrs.define
class Outside:
    """Somewhere the log's writer has no say."""

    notes: list[bytes] = attrs.field(factory=list)
    broken: bool = False

    def __call__(self, note: bytes) -> None:
        if self.broken:
            message = "unreachable"
            raise OSError(message)
        self.notes.append(note)

    def sizes(self) -> list[int]:
        return [Checkpoint.parse(open_note(note, [KEY.verifier])).size for note in self.notes]


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
def make(timers: Timers, outside: Outside) -> Callable[..., Checkpoints]:
    def made(**options: Any) -> Checkpoints:
        return Checkpoints(**{"key": KEY, "to": outside, "timer": timers, **options})

    return made


def test_a_checkpoint_every_so_many_lines(make: Any, outside: Outside) -> None:
    """One is made after so many lines, and at close for the rest; each tells of all lines so far."""
    checkpoints = make(every=15)
    assert isinstance(checkpoints, Checkpoints)
    checkpointer: Checkpointer = checkpoints
    for line in LINES:
        checkpointer.add(line)
    assert outside.sizes() == [15, 30]
    assert checkpoints.stats() == {
        "checkpoints": 2,
        "checkpoints_failed": 0,
        "lines_strayed": 0,
        "lines_unsigned": 10,
    }
    checkpointer.close()
    checkpointer.close()
    assert outside.sizes() == [15, 30, 40]
    last = Checkpoint.parse(open_note(outside.notes[-1], [KEY.verifier]))
    assert last == Checkpoint(f"example.com/audit/{name(1)}", 40, tree_root([leaf_hash(line) for line in LINES]))
    assert (last.log, last.writer) == ("example.com/audit", name(1))
    assert repr(checkpoints) == "<Checkpoints of `example.com/audit`>"


def test_a_checkpoint_every_so_often(make: Any, outside: Outside, timers: Timers) -> None:
    """The first line that none tells of waits no longer than was asked for; no lines, no wait."""
    checkpoints = make(seconds=5)
    checkpoints.close()
    assert timers.due == []
    checkpoints.add(LINES[0])
    checkpoints.add(LINES[1])
    assert [seconds for seconds, _ in timers.due] == [5]
    timers.elapse()
    assert (outside.sizes(), timers.due) == ([2], [])
    checkpoints.add(LINES[2])
    timers.elapse()
    checkpoints.add(LINES[3])
    checkpoints.close()
    assert (outside.sizes(), timers.cancelled, timers.started) == ([2, 3, 4], 1, 3)
    timers.elapse()
    assert outside.sizes() == [2, 3, 4]


def test_time_is_the_machines_by_default(outside: Outside) -> None:
    """Without a timer of its own it uses a thread, which does not keep the interpreter running."""
    told = threading.Event()

    def to(note: bytes) -> None:
        outside(note)
        told.set()

    checkpoints = Checkpoints(key=KEY.secret(), to=to, seconds=0.001)
    checkpoints.add(LINES[0])
    assert told.wait(30)
    checkpoints.close()
    assert outside.sizes() == [1]


def test_no_timer_starts_while_the_interpreter_ends(make: Any, outside: Outside, timers: Timers) -> None:
    """A line written at exit is told of when the sink is closed."""
    timers.ending = True
    checkpoints = make()
    checkpoints.add(LINES[0])
    checkpoints.close()
    assert outside.sizes() == [1]


def test_what_cannot_be_delivered_is_counted(make: Any, outside: Outside) -> None:
    """A place that cannot be reached fails no record; the next checkpoint tells of the same lines."""
    checkpoints = make(every=2)
    outside.broken = True
    for line in LINES[:5]:
        checkpoints.add(line)
    assert checkpoints.stats()["checkpoints_failed"] == 2
    assert checkpoints.stats()["lines_unsigned"] == 5
    outside.broken = False
    checkpoints.close()
    assert outside.sizes() == [5]


def test_a_new_writer_has_a_tree_of_its_own(make: Any, outside: Outside) -> None:
    """When the sink starts anew, the lines of the old writer are told of first."""
    checkpoints = make()
    second = Pen(name(2)).lines(3)
    for line in [*LINES[:4], *second]:
        checkpoints.add(line)
    checkpoints.close()
    found = [Checkpoint.parse(open_note(note, [KEY.verifier])) for note in outside.notes]
    assert [(one.writer, one.size) for one in found] == [(name(1), 4), (name(2), 3)]
    assert found[1].root == tree_root([leaf_hash(line) for line in second])


def test_lines_that_are_not_the_writers_are_never_signed(make: Any, outside: Outside) -> None:
    """Checkpoints of two sinks mixed would prove nothing: strays are counted."""
    checkpoints = make()
    for line in (LINES[3], b"{}", LINES[0], Pen(name(2), seq=4).line(), LINES[1]):
        checkpoints.add(line)
    checkpoints.close()
    assert outside.sizes() == [2]
    assert checkpoints.stats()["lines_strayed"] == 3


@pytest.mark.parametrize("missed", [1, 2, 4])
def test_a_missed_line_ends_the_signing(make: Any, outside: Outside, missed: int) -> None:
    """A tree that lacks a line would make a sound log look forged: it is not signed."""
    checkpoints = make(every=6)
    for line in LINES[:missed] + LINES[missed + 1 :]:
        checkpoints.add(line)
    checkpoints.close()
    assert outside.sizes() == []
    assert checkpoints.stats()["checkpoints_failed"] > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_signs_its_own_lines(tmp_path: Path) -> None:
    """A child tells of none of its parent's lines, and waits for a timer of its own."""
    path = tmp_path / "checkpoints"
    checkpoints = Checkpoints(key=KEY, to=path)
    checkpoints.add(LINES[0])
    child = os.fork()
    if child == 0:
        try:
            for line in Pen(name(2)).lines(3):
                checkpoints.add(line)
            checkpoints.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    checkpoints.close()
    found, wrong = read_checkpoints(path, KEY.verifier)
    assert [(one.writer, one.size) for one in found] == [(name(2), 3), (name(1), 1)]
    assert wrong == []


def test_a_child_waits_for_no_timer_of_its_parents(
    make: Any, outside: Outside, timers: Timers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that was to tell of the parent's lines does not exist in the child."""
    checkpoints = make()
    checkpoints.add(LINES[0])
    monkeypatch.setattr("pep.audit.checkpoint.os.getpid", lambda: -1)
    checkpoints.add(Pen(name(2)).line())
    assert (len(timers.due), outside.sizes()) == (2, [])


@pytest.mark.parametrize(
    "options", [{"every": 0}, {"seconds": 0}, {"seconds": float("nan")}, {"origin": "a b"}, {"origin": "a\nb"}]
)
def test_arguments_are_checked(make: Any, options: dict[str, Any]) -> None:
    """What could never make a checkpoint is refused at once."""
    with pytest.raises(ConfigurationError, match="`origin` has no spaces"):
        make(**options)


def test_a_file_must_be_writable(make: Any, tmp_path: Path) -> None:
    """A file that cannot be made, or is a link, is refused at once; one that is made is its owner's."""
    with pytest.raises(ConfigurationError, match="cannot write checkpoints to"):
        make(to=tmp_path / "none" / "checkpoints")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="name a file in a folder"):
        make(to=str(tmp_path / "link"))
    make(to=tmp_path / "own")
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o600


# Read back.


def written(path: Path, *batches: list[bytes]) -> Path:
    for lines in batches:
        checkpoints = Checkpoints(key=KEY, to=path, every=10)
        for line in lines:
            checkpoints.add(line)
        checkpoints.close()
    return path


def test_files_are_read_back(tmp_path: Path) -> None:
    """What was appended by one process after another is read back, and proves the log."""
    second = Pen(name(2)).lines(12)
    path = written(tmp_path / "checkpoints", LINES, second)
    found, wrong = read_checkpoints(path, KEY.verifier)
    assert [(one.writer, one.size) for one in found] == [
        *((name(1), size) for size in (10, 20, 30, 40)),
        *((name(2), size) for size in (10, 12)),
    ]
    assert wrong == []
    (tmp_path / "logs").mkdir()
    log = put(tmp_path / "logs", {"audit.jsonl": LINES, f"audit.{name(2)}.jsonl": second})
    assert verify(log, checkpoints=found).proven == 52


@given(st.data())
def test_torn_and_joined_files_are_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever is cut off an end, or lies between, whole checkpoints are found; joined files are one."""
    path = tmp_path_factory.mktemp("torn") / "checkpoints"
    content = written(path, LINES[:1]).read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    written(path, LINES[:2])
    assert 2 in [one.size for one in read_checkpoints(path, KEY.verifier)[0]]
    blank = data.draw(st.sampled_from([b"", b"\n", b"\n\n\n"]))
    path.write_bytes(content + blank + content)
    assert [one.size for one in read_checkpoints(path, KEY.verifier)[0]] == [1, 1]


def told(path: Path, content: str, **options: Any) -> list[tuple[Wrong, int, str]]:
    path.write_bytes(content.encode())
    found, wrong = read_checkpoints(path, KEY.verifier, **options)
    assert found == []
    return [(one.wrong, one.place.line if one.place else 0, one.detail) for one in wrong]


ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
ORIGIN = f"example.com/audit/{name(1)}"


def test_forged_checkpoints_are_told_of(tmp_path: Path) -> None:
    """A checkpoint whose signature does not fit, or that is of another log, is a finding at its line."""
    path = tmp_path / "checkpoints"
    good = KEY.sign(f"{ORIGIN}\n7\n{ROOT}\n")
    assert read_checkpoints(written(path, LINES[:1]), KEY.verifier)[1] == []
    forged = [(Wrong.FORGED, 1, "the signature of `example.com/audit` does not fit the text")]
    assert told(path, good.replace("\n7\n", "\n8\n")) == forged
    other = [(Wrong.FORGED, 1, "it is a checkpoint of another log than `example.com/other`")]
    assert told(path, good, origin="example.com/other") == other
    path.write_text(good + good.replace("\n7\n", "\n8\n"), encoding="utf-8")
    found, wrong = read_checkpoints(path, KEY.verifier)
    assert ([one.size for one in found], [one.place and one.place.line for one in wrong]) == ([7], [6])


def test_unsigned_text_is_read_over(tmp_path: Path) -> None:
    """What nobody trusted signed says nothing; if there is nothing else, that is told."""
    path = tmp_path / "checkpoints"
    nothing = [(Wrong.FORGED, 1, "no checkpoint in it is signed by `example.com/audit`")]
    stranger = SignerKey("example.com/audit", b"\1" * 32).sign(f"{ORIGIN}\n7\n{ROOT}\n")
    for content in ("", "\n", "text\n", f"{ORIGIN}\n7\n{ROOT}\n", stranger, "— a b\n", f"{ORIGIN}\n7\n\n— a\n"):
        assert told(path, content) == nothing
    with pytest.raises(AuditError, match="cannot read audit file"):
        read_checkpoints(tmp_path / "none", KEY.verifier)


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n7\n",
        f"{ORIGIN}\n07\n{ROOT}\n",
        f"{ORIGIN}\n-7\n{ROOT}\n",
        f"{ORIGIN}\n+7\n{ROOT}\n",
        f"{ORIGIN}\n7 \n{ROOT}\n",
        f"{ORIGIN}\n\u0667\n{ROOT}\n",
        f"{ORIGIN}\n{'9' * 19}\n{ROOT}\n",
        f"{ORIGIN}\n{'9' * 5000}\n{ROOT}\n",
        f"{ORIGIN}\n7\n{ROOT[:-1]}\n",
        f"{ORIGIN}\n7\n{ROOT[:-4]}\n",
        f"{ORIGIN}\n7\n{ROOT.replace('2I=', '2J=')}\n",
        f"{ORIGIN}\n7\n{ROOT}\n\n",
        f"{ORIGIN}\n7\n{ROOT}\n\nextension\n",
        f"{ORIGIN}\n0\n{ROOT}\n",
        f"\n7\n{ROOT}\n",
        f"example.com/audit\n7\n{ROOT}\n",
        f"/{name(1)}\n7\n{ROOT}\n",
        f"example.com/audit/{name(1).upper().replace('0', 'A')}\n7\n{ROOT}\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str, tmp_path: Path) -> None:
    """The rules of the format hold to the letter, even for what was rightly signed."""
    with pytest.raises(AuditError, match="it is no checkpoint"):
        Checkpoint.parse(text)
    assert told(tmp_path / "checkpoints", KEY.sign(text))[0][0] is Wrong.FORGED


def test_checkpoints_are_text() -> None:
    """A checkpoint is read back from its own text; lines past the third mean nothing to us."""
    for checkpoint in (Checkpoint(ORIGIN, 0, EMPTY), Checkpoint(ORIGIN, 10**17, bytes(32))):
        assert Checkpoint.parse(checkpoint.text) == checkpoint
        assert Checkpoint.parse(f"{checkpoint.text}extension\n") == checkpoint
