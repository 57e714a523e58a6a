"""
Disks for tests of audit files: one that fails where it is told to, and one in memory that can lose its power.

A reader of what they hold that checks the chain by hand, too.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from pep.audit.disk import Disk
from pep.audit.record import Kind, Record, masked, new_id

OPERATIONS = tuple(field.name for field in attrs.fields(Disk))
OWN_KINDS = {"open", "close", "gap"}


def record(**fields: Any) -> Record:
    """A record that is told by its fields."""
    return Record(Kind.DECISION, new_id(1.0), 1.0, masked(fields))


def parsed(content: bytes) -> list[dict[str, Any]]:
    """Every line that is a record; a fragment is told by what is left of it."""
    found = []
    for line in content.split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            found.append(value)
        elif line:
            found.append({"fragment": line.decode("latin-1")})
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """File name -> what is in it."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def told(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Every record in some files but those of the sinks themselves."""
    return [line for content in files.values() for line in parsed(content) if line.get("kind") not in OWN_KINDS]


def broken_links(files: Mapping[str, bytes], writer: str | None = None) -> list[str]:
    """
    What is wrong with the chain, or with the part of it that one writer wrote.

    Every chained line goes on from the line before it in its file, the first from any other line
    of the log; the numbers of a writer have no hole; a number stands for one line.
    """
    wrong, hashes, numbered = [], {"0" * 64}, {}
    for content in files.values():
        hashes |= {hashlib.sha256(line).hexdigest() for line in content.split(b"\n")}
    for name, content in files.items():
        before: bytes | None = None
        for at, line in enumerate(content.split(b"\n")[:-1]):
            value = parsed(line)[0] if line else {}
            if "prev" in value and writer in {None, value["writer"]}:
                expected = hashes if before is None else {hashlib.sha256(before).hexdigest()}
                if value["prev"] not in expected:
                    wrong.append(f"{name}:{at + 1} goes on from another line")
                if numbered.setdefault((value["writer"], value["seq"]), line) != line:
                    wrong.append(f"{name}:{at + 1} has the number of another line")
            before = line
    for each in {each for each, _ in numbered}:
        numbers = sorted(seq for other, seq in numbered if other == each)
        if numbers != list(range(len(numbers))):
            wrong.append(f"writer {each} has numbers {numbers}")
    return wrong


def descriptors() -> int | None:
    """How many file descriptors are open; None where that cannot be told."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else None


class Faults:
    """A disk some of whose operations fail; all are counted, those that `names` tells at least."""

    def __init__(self, disk: Disk | None = None, names: tuple[str, ...] = OPERATIONS) -> None:
        self.real = disk or Disk()
        self.names = names
        self.seen = 0
        self.log: list[str] = []
        #: Asked before every operation for its number, name and arguments; raises, or returns how many bytes to write.
        self.strike: Callable[[int, str], int | None] = lambda _at, _name: None
        self.disk = Disk(**{name: self._wrapped(name) for name in OPERATIONS})

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = getattr(self.real, name)

        def operation(*args: Any) -> Any:
            if name not in self.names:
                return real(*args)
            self.seen += 1
            self.log.append(name)
            taken = self.strike(self.seen, name)
            if taken is not None and name == "write":
                return real(args[0], args[1][:taken])
            return real(*args)

        return operation

    def fail(self, code: int, *, at: int = 1, only: str | None = None, until: int | None = None) -> None:
        """Fail the operations from number *at* on, counted from now and of one kind, up to *until*; by default one."""
        counter = [0]

        def strike(_at: int, name: str) -> None:
            if only is None or name == only:
                counter[0] += 1
                if at <= counter[0] <= (at if until is None else until):
                    raise OSError(code, os.strerror(code))

        self.strike = strike

    def cut(self, taken: int, *, at: int = 1) -> None:
        """Write so many bytes only, at the given write from now on."""
        counter = [0]

        def strike(_at: int, name: str) -> int | None:
            counter[0] += name == "write"
            return taken if name == "write" and counter[0] == at else None

        self.strike = strike

    def mend(self) -> None:
        """Let everything succeed from now on."""
        self.strike = lambda _at, _name: None


@attrs.define(eq=False)
class Inode:
    """A file in memory: what the kernel holds, what is on disk, and what was written in between."""

    number: int
    content: bytearray = attrs.field(factory=bytearray)
    image: bytearray = attrs.field(factory=bytearray)
    dirty: list[tuple[int, bytes]] = attrs.field(factory=list)


class MemoryDisk:
    """
    A disk in memory, with one folder, `/log`.

    What was not synced may be lost, or torn, when the power fails, each write by itself; names
    too, those that were given last. A sync that fails counts everything as written.
    """

    FOLDER = "/log"

    def __init__(self, choose: random.Random) -> None:
        self.choose = choose
        self.names: dict[str, Inode] = {}
        self.kept_names: dict[str, Inode] = {}
        self.changes: list[dict[str, Inode]] = []
        self.files: dict[int, Inode] = {}
        self.locks: dict[Inode, int] = {}
        self.numbers = iter(range(3, 1 << 30))
        self.syncs_that_fail = 0
        self.disk = Disk(
            open=self.open,
            close=self.close,
            write=self.write,
            read=self.read,
            fstat=self.fstat,
            lstat=self.lstat,
            rename=self.rename,
            names=lambda _folder: [path.rpartition("/")[2] for path in self.names],
            sync=self.sync,
            sync_folder=self.sync_folder,
            lock=self.lock,
        )

    def open(self, path: str, flags: int, _mode: int) -> int:
        if path not in self.names:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "", path)
            self._name({**self.names, path: Inode(next(self.numbers))})
        file = next(self.numbers)
        self.files[file] = self.names[path]
        return file

    def close(self, file: int) -> None:
        inode = self.files.pop(file)
        if self.locks.get(inode) == file:
            del self.locks[inode]

    def write(self, file: int, content: bytes) -> int:
        inode = self.files[file]
        inode.dirty.append((len(inode.content), content))
        inode.content += content
        return len(content)

    def read(self, file: int, size: int, start: int) -> bytes:
        return bytes(self.files[file].content[start : start + size])

    def fstat(self, file: int) -> os.stat_result:
        inode = self.files[file]
        return self._stat(inode, stat.S_IFREG | 0o600, links=inode in self.names.values())

    def lstat(self, path: str) -> os.stat_result:
        if path == self.FOLDER:
            return self._stat(Inode(1), stat.S_IFDIR | 0o700, links=1)
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "", path)
        return self._stat(self.names[path], stat.S_IFREG | 0o600, links=1)

    def rename(self, old: str, new: str) -> None:
        others = {path: inode for path, inode in self.names.items() if path != old}
        self._name({**others, new: self.names[old]})

    def lock(self, file: int) -> bool:
        return self.locks.setdefault(self.files[file], file) == file

    def sync(self, file: int) -> None:
        inode = self.files[file]
        if self.syncs_that_fail:
            self.syncs_that_fail -= 1
            self._lose(inode)
            raise OSError(errno.EIO, "")
        for start, content in inode.dirty:
            _put(inode.image, start, content)
        inode.dirty.clear()

    def sync_folder(self, _folder: str) -> None:
        self.kept_names, self.changes = dict(self.names), []

    def contents(self) -> dict[str, bytes]:
        """File name -> what is in it."""
        return {path.rpartition("/")[2]: bytes(inode.content) for path, inode in sorted(self.names.items())}

    def crashed(self) -> MemoryDisk:
        """What is there when the power is back."""
        after = MemoryDisk(self.choose)
        survived = self.choose.randint(0, len(self.changes))
        names = [self.kept_names, *self.changes][survived]
        for path, inode in names.items():
            self._lose(inode)
            copy = Inode(next(after.numbers), bytearray(inode.image), bytearray(inode.image))
            after.names[path] = copy
        after.kept_names = dict(after.names)
        return after

    def _lose(self, inode: Inode) -> None:
        """Let each write that was not synced reach the disk, or not, or in part."""
        for start, content in inode.dirty:
            kept = self.choose.choice((0, len(content), self.choose.randint(0, len(content))))
            if kept:
                _put(inode.image, start, content[:kept])
        inode.dirty.clear()

    def _name(self, names: dict[str, Inode]) -> None:
        self.names = names
        self.changes.append(dict(names))

    def _stat(self, inode: Inode, mode: int, *, links: int) -> os.stat_result:
        return os.stat_result((mode, inode.number, 1, int(links), 0, 0, len(inode.content), 0, 0, 0))


def _put(image: bytearray, start: int, content: bytes) -> None:
    image.extend(b"\0" * (start - len(image)))
    image[start : start + len(content)] = content
