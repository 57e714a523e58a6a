"""
A sink that appends chained JSON lines to a file. Imports L0, L1 and its own folder only.

A record is acknowledged once the kernel has it, so that it survives the process being killed; or once it is on
disk, so that it survives a loss of power.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from pep.audit.checkpoint import Checkpointer
from pep.audit.disk import Disk
from pep.audit.grouping import Group, loop_runs
from pep.audit.place import Place
from pep.audit.record import Record
from pep.audit.segments import Names, check_folder, reason
from pep.audit.writer import Writer
from pep.clock import SystemClock
from pep.errors import AuditError, ConfigurationError
from pep.plan import Plan
from pep.profile import Guarantee
from pep.protocols import Clock

if TYPE_CHECKING:
    import asyncio


@final
class FileSink:
    """
    Appends each record as one line to a file; each line carries the hash of the one before it.

    One process writes a file. Another that finds it taken, or a forked child, writes
    ``<name>.<writer>.<suffix>`` beside it. What a crash left of a last line is closed with a
    newline at open; that, and every record that was refused, is told of in a ``gap`` record. A
    file that was renamed is followed by a new one; one that was deleted is made anew.

    Args:
        path: The file; made with mode 0600 where it does not exist.

        guarantee: ``WRITTEN`` acknowledges what the kernel has; ``DURABLE`` what is on disk, where
            callers that wait together share one ``fdatasync``.

        rotate_bytes: From which length on a file is renamed to
            ``<name>.<time>-<writer>-<first seq>.<suffix>``, in bytes; None is never.

        rotate_seconds: From which age on it is, in seconds since this process opened it; None is never.

        checkpoints: Is told of every line that is in a file, and signs them every so often; see `Checkpoints`. One
            sink has it to itself.

        clock: Tells the time.

        disk: The operations of the operating system; for tests.

    Raises:
        ConfigurationError: When the file is a symbolic link, no regular file, or writable by everybody, or its
            folder is; when it cannot be written; on another guarantee, or a size or age that is none.
    """

    #: Takes the record of a note (`WRITTEN` only); raises `AuditError` when it could not.
    take: Callable[[tuple[Any, ...]], None]
    #: Has the record of a note on disk when it returns (`DURABLE` only); raises `AuditError` when it could not.
    durably: Callable[[tuple[Any, ...]], None]
    #: The same for tasks: returns what to await, and nobody else may (`DURABLE` only); None where no event loop runs,
    #: and it is on disk.
    adurably: Callable[[tuple[Any, ...]], asyncio.Future[None] | None]

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        guarantee: Guarantee = Guarantee.WRITTEN,
        rotate_bytes: int | None = None,
        rotate_seconds: float | None = None,
        checkpoints: Checkpointer | None = None,
        clock: Clock | None = None,
        disk: Disk | None = None,
    ) -> None:
        if guarantee not in {Guarantee.WRITTEN, Guarantee.DURABLE}:
            message = "`guarantee` of a file must be `Guarantee.WRITTEN` or `Guarantee.DURABLE`"
            raise ConfigurationError(message)
        largest, oldest = _limit(rotate_bytes, "rotate_bytes"), _limit(rotate_seconds, "rotate_seconds")
        self.path = Path(path)
        self.guarantee = guarantee
        durable = guarantee is Guarantee.DURABLE
        place = Place(Names.of(path), disk or Disk(), clock or SystemClock(), durable)
        check_folder(place.disk, place.names.folder)
        self._checkpoints = checkpoints
        self._writer = Writer(place, largest, oldest, checkpoints)
        self._started()
        self._record: Callable[[bytes], Plan[None] | None] = self._writer.append
        if durable:
            group = Group(self._writer.commit)
            self._record = partial(_grouped, group)
            self.durably, self.adurably = partial(_durably, group), partial(_adurably, group)
        else:
            self.take = self._writer.take

    @property
    def file(self) -> Path:
        """The file that is written: `path`, or the one of this process beside it."""
        return Path(self._writer.place.path)

    def record(self, record: Record) -> Plan[None] | None:
        """
        Append one record.

        Returns:
            None once it is written, or on disk; a plan to that end where an event loop runs and it has to
            be on disk, so that nothing holds up the loop.

        Raises:
            AuditError: When the disk did not take the whole line, or the sink is closed. Under ``DURABLE`` it may
                be in the file all the same.
        """
        return self._record(record.to_json())

    def close(self) -> None:
        """
        Say in the file that its writer ends, and close it; later records are refused.

        Raises:
            AuditError: When that could not be written; the file is closed all the same.
        """
        self._writer.close()

    def stats(self) -> dict[str, int]:
        """
        Count since the start.

        Returns:
            ``written`` lines, those of the sink itself among them; ``refused`` records; ``torn`` bytes of lines
            that were cut off; ``rotated`` files; ``deleted`` files; ``synced`` and ``unsynced``: syncs that
            succeeded and failed; and what the checkpoints count, where there are any.
        """
        names = ("refused", "torn", "rotated", "deleted", "synced", "unsynced")
        counts = {"written": self._writer.written, **{name: self._writer.counts[name] for name in names}}
        return counts if self._checkpoints is None else {**counts, **self._checkpoints.stats()}

    def __repr__(self) -> str:
        return f"FileSink({str(self.path)!r})"

    def _started(self) -> None:
        try:
            self._writer.start()
        except (OSError, AuditError) as error:
            why = reason(error) if isinstance(error, OSError) else str(error)
            message = f"cannot append to audit file `{self.path}`: {why}; make room on its disk"
            raise ConfigurationError(message) from error


def _grouped(group: Group, json: bytes) -> Plan[None] | None:
    if loop_runs():
        return group.plan(json)
    group.submit(json)
    return None


def _durably(group: Group, note: tuple[Any, ...]) -> None:
    group.submit(note[0].json(note))


def _adurably(group: Group, note: tuple[Any, ...]) -> asyncio.Future[None] | None:
    if loop_runs():
        return group.boarded(note[0].json(note))
    group.submit(note[0].json(note))
    return None


def _limit(value: float | None, name: str) -> float:
    if value is None:
        return math.inf
    if type(value) not in {int, float} or not 0 < value < math.inf:
        message = f"`{name}` must be a finite number greater than 0; leave it out to never rotate by it"
        raise ConfigurationError(message)
    return value
