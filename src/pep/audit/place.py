"""
Where a writer of an audit log stands: the file it holds, and how it leaves one for the next.

Imports L0, protocols and its own folder only.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, final

import attrs

from pep.audit.chain import new_writer
from pep.audit.disk import Disk
from pep.audit.segments import Names, Segment, identity, open_segment
from pep.errors import AuditError, ConfigurationError
from pep.protocols import Clock

#: The descriptor of no file.
NO_FILE: Final = -1

# How often another writer may take a file before it is locked.
_TRIES: Final = 8


@final
@attrs.define(eq=False, repr=False)
class Place:
    """
    The file a writer holds.

    Args:
        names: What the files of the log are called.

        disk: Where they are.

        clock: Tells the time.

        durable: Whether names are had on disk too.
    """

    names: Names
    disk: Disk
    clock: Clock
    durable: bool
    #: The descriptor of the file.
    file: int = attrs.field(default=NO_FILE, init=False)
    #: When it was opened, on the monotonic clock, in seconds.
    since: float = attrs.field(default=0.0, init=False)
    _segment: Segment | None = attrs.field(default=None, init=False)
    _inherited: int = attrs.field(default=NO_FILE, init=False)

    @property
    def path(self) -> str:
        """Where the file was opened."""
        return self.names.active if self._segment is None else self._segment.path

    def open(self, writer: bytes) -> Segment:
        """
        Open the active file; where another writer holds that, one that a writer left, or else one of this one's own.

        Raises:
            ConfigurationError: When it cannot be opened, or is no file to keep a log in.
        """
        self.release()
        return self._hold(open_segment(self.disk, self.names.active) or self._left() or self._own(writer))

    def renew(self, writer: bytes, first: int, payload: bytes) -> None:
        """
        Leave the file for a new one that starts with *payload*; on disk, where that is asked for.

        Where this fails, nothing has changed but that a file may be left that nobody writes.

        Args:
            writer: The writer's id.

            first: The number of its first line in the file that is left.

            payload: Lines to write again.

        Raises:
            AuditError, ConfigurationError, OSError: When there is no new file, or it does not take *payload*.
        """
        fresh = self._fresh(writer, first)
        try:
            write_whole(self.disk, fresh, payload)
            if self.durable:
                self.disk.sync(fresh.file)
                self.disk.sync_folder(self.names.folder)
        except BaseException:
            self.disk.close(fresh.file)
            raise
        left = self.file
        self._hold(fresh)
        self.disk.close(left)

    def found(self) -> int | None:
        """Return the length of the file that the path names, in bytes; None where that is another file, or none."""
        try:
            found = self.disk.lstat(self.path)
        except FileNotFoundError:
            return None
        return found.st_size if self._segment is not None and identity(found) == self._segment.identity else None

    def set_aside(self, writer: bytes, first: int) -> None:
        """Rename the file to what it is called once it is done with; one that was moved stays where it is."""
        if self.found() is not None:
            self._rename(self.path, writer, first)

    def inherit(self) -> None:
        """Hold nothing in a forked child; what came with it is closed when it opens a file of its own."""
        self._segment = None
        if self.file != NO_FILE:
            # INVARIANT: a child that was forked in the middle of a write does not go on with it.
            self._inherited, self.file = self.file, NO_FILE

    def release(self) -> None:
        """Close what is open."""
        held, self.file = self.file, NO_FILE
        inherited, self._inherited = self._inherited, NO_FILE
        for file in (held, inherited):
            if file != NO_FILE:
                self.disk.close(file)

    def _hold(self, segment: Segment) -> Segment:
        self._segment, self.file = segment, segment.file
        self.since = self.clock.monotonic()
        return segment

    def _fresh(self, writer: bytes, first: int) -> Segment:
        """Open an empty file: where this one was, or else one of this writer's own."""
        own, segment = self.names.own(writer), None
        for path in (self.path, own):
            segment = open_segment(self.disk, path)
            if segment is not None:
                if not segment.size:
                    return segment
                self.disk.close(segment.file)
        if segment is not None:
            # What is left of an earlier attempt.
            self._rename(own, writer, first)
        return self._own(writer)

    def _left(self) -> Segment | None:
        """Open a file that another writer once found for itself and holds no longer."""
        for path in self.names.others(self.disk.names(self.names.folder)):
            with suppress(ConfigurationError):
                if (segment := open_segment(self.disk, path)) is not None:
                    return segment
        return None

    def _own(self, writer: bytes) -> Segment:
        """Open a file for this writer; another one may come upon it before it is locked, and take it."""
        for name in (writer, *[new_writer() for _ in range(_TRIES)]):
            segment = open_segment(self.disk, self.names.own(name))
            if segment is not None:
                return segment
        message = f"every file beside audit file `{self.names.active}` is locked; see whether its disk has locks"
        raise AuditError(message)

    def _rename(self, path: str, writer: bytes, first: int) -> None:
        seconds = self.clock.wall()
        while self._exists(target := self.names.rotated(writer, first, seconds)):
            seconds += 1
        self.disk.rename(path, target)
        if self.durable:
            self.disk.sync_folder(self.names.folder)

    def _exists(self, path: str) -> bool:
        try:
            self.disk.lstat(path)
        except FileNotFoundError:
            return False
        return True


def write_whole(disk: Disk, segment: Segment, payload: bytes) -> None:
    """
    Write all of *payload*.

    Raises:
        AuditError: When the disk took less.
    """
    written = disk.write(segment.file, payload) if payload else 0
    if written != len(payload):
        raise cut_short(segment.path, written, payload)


def cut_short(path: str, written: int, payload: bytes) -> AuditError:
    """Return the error of a write that was not taken whole."""
    return AuditError(f"the disk took {written} of {len(payload)} bytes of a record for audit file `{path}`")
