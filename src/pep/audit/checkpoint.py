"""
Signed checkpoints: what a writer had written by then, to be held where nobody can write who can write the log.

Imports L0 and its own folder only.
"""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import attrs

from pep.audit.family import HEAD, open_file
from pep.audit.findings import Finding, Wrong
from pep.audit.merkle import EMPTY, Tree
from pep.audit.notes import SignatureError, SignerKey, VerifierKey, decoded, encoded, is_name, open_note
from pep.audit.reading import Place
from pep.errors import AuditError, ConfigurationError
from pep.locks import Lock

_WRITER: Final = re.compile(r"[0-9a-f]{16}")
# Up to what no log reaches.
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_HASH: Final = 32
# How much of a file of checkpoints is read, in bytes.
_MAX_FILE: Final = 64 << 20
_DASH: Final = "\u2014 ".encode()
# Where the writer of a chained line is named.
_AFTER_PREV: Final = slice(96, 160)
_SAFELY: Final = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NOCTTY", "O_NONBLOCK"))
_APPEND: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | _SAFELY


@attrs.frozen
class Checkpoint:
    """
    What one writer had written at some time.

    Attributes:
        origin: Which log it is of: the log's own name, a slash and the writer's id.

        size: How many lines the writer had written.

        root: The root of the RFC 9162 tree over those lines, each without its newline.
    """

    origin: str
    size: int
    root: bytes

    @property
    def writer(self) -> str:
        """The writer's id."""
        return self.origin.rpartition("/")[2]

    @property
    def log(self) -> str:
        """The log's own name."""
        return self.origin.rpartition("/")[0]

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """
        Read the text of a note as a checkpoint; lines past the third are read over.

        Raises:
            AuditError: When it is none of an audit log.

        Source:
            C2SP tlog-checkpoint.
        """
        lines = text.removesuffix("\n").split("\n")
        root = decoded(lines[2]) if len(lines) > 2 else None  # noqa: PLR2004  origin, size and root
        if root is None or len(root) != _HASH or not all(lines) or not _SIZE.fullmatch(lines[1]):
            message = "it is no checkpoint"
            raise AuditError(message)
        checkpoint = cls(lines[0], int(lines[1]), root)
        if not _WRITER.fullmatch(checkpoint.writer) or not checkpoint.log or (not checkpoint.size and root != EMPTY):
            message = "it is no checkpoint of an audit log"
            raise AuditError(message)
        return checkpoint

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{encoded(self.root)}\n"


#: Where checkpoints go: a file they are appended to, or whatever takes each as a signed note.
Destination: TypeAlias = "str | os.PathLike[str] | Callable[[bytes], object]"


class Checkpointer(Protocol):
    """What a sink that chains its lines tells of them."""

    def add(self, line: bytes, /) -> None:
        """Take note of a chained line, without its newline, that was written; in order."""
        ...

    def close(self) -> None:
        """Take note that no line follows."""
        ...

    def stats(self) -> dict[str, int]:
        """Return counts."""
        ...


class Timer(Protocol):
    """Something that happens later, once."""

    def start(self) -> None:
        """Begin to wait."""
        ...

    def cancel(self) -> None:
        """Have it not happen."""
        ...


def daemon_timer(seconds: float, function: Callable[[], None]) -> Timer:
    """Make a timer that does not keep the interpreter running."""
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    return timer


class Checkpoints:
    """
    Signs what a sink has written, every so often and when it is closed.

    A checkpoint that cannot be made or delivered fails no call: it is counted, and the next one tells of
    the same lines. In a forked child it goes on with the child's own lines.

    Args:
        key: Signs them; or its text form.

        to: Where they go: a file they are appended to, or a callable that takes each as a signed
            note. Only where the writer of the log cannot change them do they prove anything.

        origin: The name of the log; the key's name by default.

        every: After how many lines, at most, one is made.

        seconds: How long after a line, at most, one is made.

        timer: Makes what waits for that.

    Raises:
        ConfigurationError: When an argument cannot be used, or the extra `cryptography` is missing.
    """

    def __init__(
        self,
        *,
        key: SignerKey | str,
        to: Destination,
        origin: str | None = None,
        every: int = 1000,
        seconds: float = 60.0,
        timer: Callable[[float, Callable[[], None]], Timer] = daemon_timer,
    ) -> None:
        self._key = SignerKey.parse(key) if isinstance(key, str) else key
        self._origin = origin or self._key.name
        if not is_name(self._origin) or every < 1 or not seconds > 0:
            message = "`origin` has no spaces, and `every` and `seconds` are over 0, as in `every=1000, seconds=60`"
            raise ConfigurationError(message)
        self._to = to if callable(to) else _Appender(Path(to)).append
        self._every, self._seconds, self._timer = every, seconds, timer
        self._lock = Lock()
        self._counts = {"checkpoints": 0, "checkpoints_failed": 0, "lines_strayed": 0}
        self._waiting: Timer | None = None
        self._signed: int = 0
        # How many lines there were, and the last of them.
        self._latest: tuple[int, bytes] = 0, b""
        self._begin(b"")

    def add(self, line: bytes, /) -> None:
        """Take note of a chained line, without its newline, that was written; in order."""
        if self._mark not in line[_AFTER_PREV] and not self._change(line):
            return
        self._leaves.append(sha256(b"\0" + line).digest())
        self._latest = self._latest[0] + 1, line
        if self._waiting is None:
            self._wait()
        if len(self._leaves) >= self._every:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Make a checkpoint of the lines there are, unless the last one tells of them all."""
        with self._lock:
            self._grow()
            # What a forked child inherited is its parent's to sign.
            if self._tree.size == self._signed or self._process != os.getpid():
                return
            size, root = self._tree.size, self._tree.root()
            try:
                self._check()
                text = Checkpoint(f"{self._origin}/{self._writer}", size, root).text
                self._to(self._key.sign(text).encode())
            except Exception:  # noqa: BLE001  the lines are written, whatever becomes of their checkpoint
                self._counts["checkpoints_failed"] += 1
            else:
                self._signed = size
                self._counts["checkpoints"] += 1

    def close(self) -> None:
        """Make the last checkpoint."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
        self.checkpoint()

    def stats(self) -> dict[str, int]:
        """
        Return counts.

        Returns:
            ``checkpoints`` made, ``checkpoints_failed``, ``lines_strayed`` (of another sink, or not
            from its first on: never signed) and ``lines_unsigned`` (no checkpoint tells of them yet).
        """
        with self._lock:
            return {**self._counts, "lines_unsigned": self._tree.size + len(self._leaves) - self._signed}

    def __repr__(self) -> str:
        return f"<Checkpoints of `{self._origin}`>"

    def _begin(self, writer: bytes) -> None:
        self._writer, self._process = writer.decode(), os.getpid()
        self._mark = b'"writer":"%b",' % writer
        self._tree, self._signed = Tree(), 0
        self._leaves: list[bytes] = []
        self._latest = 0, b""

    def _change(self, line: bytes) -> bool:
        """Go on with another writer; return False where a line is not its first."""
        head = HEAD.match(line)
        if head is None or int(head[2]) != 0:
            # Its tree would not be the one of its writer's lines: nothing of it is signed.
            self._counts["lines_strayed"] += 1
            return False
        if self._process == os.getpid():
            self.checkpoint()
        else:
            # The timer, like the lines not signed yet, is the parent's.
            self._waiting = None
        with self._lock:
            self._begin(head[3])
        return True

    def _check(self) -> None:
        """Refuse to sign what is not the lines of the writer, every one of them."""
        count, line = self._latest
        head = HEAD.match(line)
        # INVARIANT: a line that was missed, by an interrupt say, never makes a sound log look forged.
        if head is None or int(head[2]) + 1 != count:
            message = "a line was missed"
            raise AuditError(message)

    def _grow(self) -> None:
        # A line may be added meanwhile: only what was seen is taken out.
        leaves = self._leaves[:]
        del self._leaves[: len(leaves)]
        for leaf in leaves:
            self._tree.add(leaf)

    def _wait(self) -> None:
        self._waiting = self._timer(self._seconds, self._elapsed)
        # None can be started while the interpreter ends; closing makes the last checkpoint.
        with suppress(RuntimeError):
            self._waiting.start()

    def _elapsed(self) -> None:
        self._waiting = None
        self.checkpoint()


def read_checkpoints(
    path: str | os.PathLike[str], key: VerifierKey, *, origin: str | None = None
) -> tuple[list[Checkpoint], list[Finding]]:
    """
    Read a file of checkpoints, one after another.

    Args:
        path: The file.

        key: Who must have signed them; what nobody signed is read over.

        origin: The name of the log; the key's name by default.

    Returns:
        Those that the key signed, and what is wrong: signatures that do not fit, checkpoints of
        something else, or that there is none.

    Raises:
        AuditError: When there is no such file, or it cannot be read.
        ConfigurationError: When the extra `cryptography` is missing.
    """
    file = Path(path)
    with open_file(file) as stream:
        content = stream.read(_MAX_FILE)
    found: list[Checkpoint] = []
    wrong: list[Finding] = []
    for line, offset, note in _notes(content):
        try:
            found.append(_opened(note, key, origin or key.name))
        except SignatureError as error:
            wrong.append(Finding(Wrong.FORGED, Place(file, line, offset), str(error)))
        except AuditError:
            continue
    if not found and not wrong:
        detail = f"no checkpoint in it is signed by `{key.name}`"
        wrong.append(Finding(Wrong.FORGED, Place(file, 1, 0), detail))
    return found, wrong


def _opened(note: bytes, key: VerifierKey, log: str) -> Checkpoint:
    text = open_note(note, [key])
    try:
        checkpoint = Checkpoint.parse(text)
    except AuditError as error:
        raise SignatureError(str(error)) from error
    if checkpoint.log != log:
        message = f"it is a checkpoint of another log than `{log}`"
        raise SignatureError(message)
    return checkpoint


def _notes(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Part a file into notes: the line and offset each begins at, and its bytes; what has no signature is left out."""
    text: list[bytes] = []
    signed, begins, offset = 0, (1, 0), 0
    for number, line in enumerate(io.BytesIO(content), 1):
        if text and signed and not line.startswith(_DASH):
            yield (*begins, b"".join(text))
            text, signed = [], 0
        if line.startswith(_DASH):
            signed += 1
        elif text and text[-1] == b"\n":
            # What was before the empty line was never signed.
            text = []
        if not text:
            begins = number, offset
        if text or line != b"\n":
            text.append(line)
        offset += len(line)
    if signed:
        yield (*begins, b"".join(text))


@attrs.frozen
class _Appender:
    """Appends notes to a file, made with mode 0600 where there is none."""

    path: Path

    def __attrs_post_init__(self) -> None:
        try:
            os.close(self._open())
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            message = f"cannot write checkpoints to `{self.path}`: {reason}; name a file in a folder that exists"
            raise ConfigurationError(message) from error

    def append(self, note: bytes) -> None:
        """Append one note; an empty line parts it from what is there, whole or not."""
        file = self._open()
        try:
            size = os.fstat(file).st_size
            torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            os.write(file, b"\n" * (bool(size) + torn) + note)
        finally:
            os.close(file)

    def _open(self) -> int:
        return os.open(self.path, _APPEND, 0o600)
