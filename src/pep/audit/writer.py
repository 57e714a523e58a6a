"""
A writer of an audit log: it appends chained lines, and goes on after whatever went wrong.

Imports the record, L0, protocols and its own folder only.
"""

from __future__ import annotations

import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum, auto
from hashlib import sha256
from typing import Any, Final, NoReturn, TypeAlias, final

import attrs

from pep.audit.chain import AFTER_HEAD, GENESIS, LINKED, digest, followed, linked_all, new_writer
from pep.audit.checkpoint import Checkpointer
from pep.audit.place import NO_FILE, Place, cut_short
from pep.audit.record import Kind, Record, masked, new_id
from pep.audit.segments import previous, read_span, reason, tail_of
from pep.errors import AuditError, ConfigurationError
from pep.forking import after_fork

#: How often it is looked whether the file is still where it was, in seconds.
LOOK_EVERY: Final = 1.0

# Where the chain stands: the hash of the last line, the number of the next one, the length of the
# file, and what of it is not on disk yet, where that is asked for. One tuple: replaced at once, or not at all.
_Tip: TypeAlias = "tuple[bytes, int, int, bytes]"


class _State(Enum):
    READY = auto()
    #: Something is being written. Only the thread that writes it can see this.
    BUSY = auto()
    #: Nobody knows how much of the last lines is in the file.
    DOUBT = auto()
    CLOSED = auto()


# Looked up once: this is the hot path.
_READY: Final = _State.READY
_BUSY: Final = _State.BUSY


@final
@attrs.define(eq=False, repr=False)
class Writer:
    """
    Appends the records of one process to the files of a log.

    A forked child goes on under an id of its own, in a file of its own.

    Args:
        place: Where the file is.

        rotate_bytes: From which length on a file is done with, in bytes.

        rotate_seconds: From which age on a file is done with, in seconds since this writer opened it.

        checkpoints: Is told of every line that is in a file.
    """

    place: Place
    _rotate_bytes: float = math.inf
    _rotate_seconds: float = math.inf
    _checkpoints: Checkpointer | None = None
    #: What went wrong, and how often.
    counts: Counter[str] = attrs.field(factory=Counter, init=False)
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    _now: Callable[[], float] = attrs.field(init=False)
    _write: Callable[[int, bytes], int] = attrs.field(init=False)
    _state: _State = attrs.field(default=_State.DOUBT, init=False)
    # From when on, and from which length on, it is looked at the file before anything else.
    _due: float = attrs.field(default=0.0, init=False)
    _full: float = attrs.field(default=math.inf, init=False)
    _id: bytes = attrs.field(default=b"", init=False)
    _tip: _Tip = attrs.field(default=(GENESIS, 0, 0, b""), init=False)
    # What was handed to the disk last.
    _attempt: bytes = attrs.field(default=b"", init=False)
    # Whether the file failed to sync.
    _broken: bool = attrs.field(default=False, init=False)
    # The number of the first line of this file, and its length when it was looked at last.
    _first: int = attrs.field(default=0, init=False)
    _seen: int = attrs.field(default=0, init=False)
    # What the next gap record must tell of.
    _gap: Counter[str] = attrs.field(factory=Counter, init=False)

    def __attrs_post_init__(self) -> None:
        self._now, self._write = self.place.clock.monotonic, self.place.disk.write
        after_fork(self._renewed)

    def __del__(self) -> None:
        self.place.release()

    @property
    def written(self) -> int:
        """How many lines this writer wrote."""
        return self._tip[1]

    def start(self) -> None:
        """
        Open the file, close what a crash left of its last line, and say that a writer starts here.

        Raises:
            ConfigurationError: When it cannot be opened, or is no file to keep a log in.

            AuditError, OSError: When the disk did not take it.
        """
        with self._lock:
            self._state = _BUSY
            try:
                self._start()
                self._tell()
                self._sync()
                self._state = _READY
            except BaseException:
                self._state = _State.CLOSED
                self.place.release()
                raise

    def take(self, note: tuple[Any, ...]) -> None:
        """Append the record of a note; see `append`."""
        self.append(note[0].json(note))

    def append(self, json: bytes) -> None:
        """
        Append one record; it is in the kernel when this returns.

        Raises:
            AuditError: When it is not.
        """
        with self._lock:
            if self._state is not _READY or self._now() >= self._due or self._tip[2] >= self._full:
                self._prepare(1)
            try:
                self._state = _BUSY
                prev, seq, size, _ = self._tip
                line = LINKED % (prev, seq, self._id, json[AFTER_HEAD:])
                self._attempt = whole = line + b"\n"
                written = self._write(self.place.file, whole)
                if written != len(whole):
                    self._cut_short(written)
                # INVARIANT: all replaced together, so that an interrupted writer still knows where it stands.
                self._tip = (sha256(line).hexdigest().encode(), seq + 1, size + written, b"")
                if self._checkpoints is not None:
                    self._checkpoints.add(line)
                self._state = _READY
            except BaseException as error:  # noqa: BLE001  raised again
                self._failed(error, 1)

    def commit(self, jsons: Sequence[bytes]) -> None:
        """
        Append several records with one ``write``, and have them on disk with one ``fdatasync``.

        Raises:
            AuditError: When they are not on disk; some may be.
        """
        with self._lock:
            self._prepare(len(jsons))
            try:
                self._state = _BUSY
                self._put(jsons)
                self._sync()
                self._state = _READY
            except BaseException as error:  # noqa: BLE001  raised again
                self._failed(error, len(jsons))

    def close(self) -> None:
        """
        Say that this writer ends here, and close its file; later records are refused.

        Raises:
            AuditError: When that could not be written; the file is closed all the same.
        """
        with self._lock:
            if self._state is _State.CLOSED:
                return
            if self._state is _BUSY:
                self._refuse_nested()
            self._rotate_bytes = self._rotate_seconds = math.inf
            try:
                if self.place.file != NO_FILE:
                    self.commit([self._made(Kind.CLOSE, {})])
            finally:
                self._state = _State.CLOSED
                self.place.release()
                if self._checkpoints is not None:
                    self._checkpoints.close()

    def _prepare(self, count: int) -> None:
        """Get ready to write: open the file, close a fragment, look whether it still is where it was."""
        if self._state is _State.CLOSED:
            message = "the audit file is closed"
            raise AuditError(message)
        if self._state is _BUSY:
            self._refuse_nested()
        doubtful = self._state is _State.DOUBT
        try:
            self._state = _BUSY
            if self.place.file == NO_FILE:
                self._start()
            else:
                if doubtful:
                    self._mend()
                if self._tip[3]:
                    self._sync()
                self._look()
            self._tell()
            self._state = _READY
        except BaseException as error:  # noqa: BLE001  raised again
            self._failed(error, count)

    def _refuse_nested(self) -> NoReturn:
        self._miss("refused", 1)
        message = "this very thread is writing a record already; guard no calls in signal handlers and finalisers"
        raise AuditError(message)

    def _failed(self, error: BaseException, count: int) -> NoReturn:
        self._state = _State.DOUBT
        self._miss("refused", count)
        if isinstance(error, OSError):
            message = f"cannot append to audit file `{self.place.path}`: {reason(error)}"
            raise AuditError(message) from error
        if isinstance(error, ConfigurationError):
            raise AuditError(str(error)) from error
        raise error

    def _cut_short(self, written: int) -> NoReturn:
        raise cut_short(self.place.path, written, self._attempt)

    def _miss(self, what: str, count: int) -> None:
        self._gap[what] += count
        self.counts[what] += count

    def _tell(self) -> None:
        """Tell of what went wrong since it was last told."""
        gap, self._gap = self._gap, Counter()
        if not gap:
            return
        try:
            self._put([self._made(Kind.GAP, gap)])
        except BaseException:
            self._gap += gap
            raise

    def _made(self, kind: Kind, fields: Mapping[str, Any]) -> bytes:
        now = self.place.clock.wall()
        return Record(kind, new_id(now), now, masked(fields)).to_json()

    def _put(self, jsons: Sequence[bytes]) -> None:
        prev, seq, size, unsynced = self._tip
        self._attempt, prev = linked_all(jsons, prev, seq, self._id)
        written = self._write(self.place.file, self._attempt)
        if written != len(self._attempt):
            self._cut_short(written)
        self._tip = (prev, seq + len(jsons), size + written, self._kept(unsynced + self._attempt))
        self._checkpoint(len(jsons))

    def _checkpoint(self, count: int) -> None:
        """Have the first lines of the last attempt, which are in the file, checkpointed."""
        if self._checkpoints is not None:
            for line in self._attempt.split(b"\n", count)[:count]:
                self._checkpoints.add(line)

    def _kept(self, unsynced: bytes) -> bytes:
        return unsynced if self.place.durable else b""

    def _start(self) -> None:
        """Open a file as a new writer."""
        self._id = new_writer()
        place, segment = self.place, self.place.open(self._id)
        try:
            last, fragment = tail_of(place.disk, segment.file, segment.size)
            before: str | None = os.path.basename(segment.path)  # noqa: PTH119
            prev = digest(fragment or last)
            if not segment.size:
                before, prev = previous(place.disk, place.names, segment)
            self._attempt, self._broken, self._first = b"", False, 0
            self._tip = (prev, 0, segment.size - len(fragment), b"")
            self._mend()
            self._put([self._made(Kind.OPEN, {"pid": os.getpid(), "previous": before})])
            if place.durable:
                place.disk.sync_folder(place.names.folder)
            self._settle_in(segment.size)
        except BaseException:
            place.release()
            raise

    def _settle_in(self, seen: int) -> None:
        self._seen = seen
        self._due = self._now() + (0.0 if self.place.durable else LOOK_EVERY)
        self._full = self._rotate_bytes

    def _renewed(self) -> None:
        """Inherit nothing in a forked child; it opens a file of its own at its first record."""
        self._lock = threading.RLock()
        if self._state is not _State.CLOSED:
            self._state = _State.DOUBT
        # Whatever this thread is in the middle of: the next record starts anew.
        self._due = -math.inf
        self._gap = Counter()
        self.place.inherit()

    def _mend(self) -> None:
        """Find out how much of the last lines is in the file, and close a fragment."""
        prev, seq, size, unsynced = self._tip
        disk, file = self.place.disk, self.place.file
        end = disk.fstat(file).st_size
        # What was truncated meanwhile holds nothing from before.
        start = size if end >= size else 0
        found = read_span(disk, file, start, end)
        torn = bool(found) and not found.endswith(b"\n")
        if torn:
            # INVARIANT: a fragment never runs into the next record, whoever left it.
            if self._write(file, b"\n") != 1:
                raise cut_short(self.place.path, 0, b"\n")
            found += b"\n"
        prev, whole, cut = followed(found, self._attempt, prev)
        if cut or torn:
            self._miss("torn", cut or len(found[:-1].rpartition(b"\n")[2]))
        self._tip = (prev, seq + whole, start + len(found), self._kept(unsynced + found))
        self._checkpoint(whole)
        self._attempt = b""

    def _sync(self) -> None:
        """Have everything on disk: in this file, or, where that failed once, in another."""
        prev, seq, size, unsynced = self._tip
        if not unsynced:
            return
        if not self._broken:
            # INVARIANT: never tried twice on one file: what did not reach the disk counts as clean from then on.
            self._broken = True
            try:
                self.place.disk.sync(self.place.file)
            except OSError:
                self._miss("unsynced", 1)
            else:
                self._broken = False
        if self._broken:
            self.place.set_aside(self._id, self._first)
            self._renew(unsynced)
        else:
            self._tip = (prev, seq, size, b"")
        self.counts["synced"] += 1

    def _renew(self, payload: bytes) -> None:
        """Go on in a new file that starts with *payload*."""
        self.place.renew(self._id, self._first, payload)
        prev, seq, _, _ = self._tip
        self._tip = (prev, seq, len(payload), b"")
        self._first, self._broken = seq - payload.count(b"\n"), False
        self._settle_in(len(payload))
        self.counts["rotated"] += 1

    def _look(self) -> None:
        """See whether the file is still where it was; leave it where it is full, old, moved or deleted."""
        size = self.place.found()
        if size is None:
            self._follow()
        elif size != self._tip[2]:
            self._attempt = b""
            self._mend()
        elif self._is_done_with(size):
            with suppress(OSError, ConfigurationError, AuditError):
                self.place.set_aside(self._id, self._first)
                self._renew(b"")
        self._settle_in(self._tip[2])
        if self._tip[2] >= self._full:
            # It could not be rotated; not tried again before the next look.
            self._full = math.inf

    def _is_done_with(self, size: int) -> bool:
        if self._tip[1] == self._first:
            return False
        return size >= self._rotate_bytes or self._now() - self.place.since >= self._rotate_seconds

    def _follow(self) -> None:
        """Go on in a new file where this one was renamed or deleted."""
        disk, file = self.place.disk, self.place.file
        left = disk.fstat(file)
        if left.st_nlink:
            # It can be found under its new name, so it may be written on for a while.
            with suppress(OSError, ConfigurationError, AuditError):
                self._renew(b"")
            return
        # What was written since the last look, nobody can have meant to delete.
        self._renew(read_span(disk, file, min(self._seen, left.st_size), left.st_size))
        self._miss("deleted", 1)
