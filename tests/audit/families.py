"""Families of audit files, written by the rules of the format but by nobody's sink."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

HEAD = '{"schema":"pep.audit/1",'
ZERO = "0" * 64


def hashed(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def chained(prev: str, seq: int, writer: str, **fields: Any) -> bytes:
    """One line of a chain, without its newline."""
    told = {"kind": "decision", "id": f"{seq}", "time": f"2026-01-01T00:{seq // 60 % 60:02}:{seq % 60:02}.000000Z"}
    rest = json.dumps({**told, **fields}, separators=(",", ":"), ensure_ascii=False)
    return f'{HEAD}"prev":"{prev}","seq":{seq},"writer":"{writer}",{rest[1:]}'.encode()


@attrs.define
class Pen:
    """Writes lines of one writer."""

    writer: str
    prev: str = ZERO
    seq: int = 0

    def line(self, **fields: Any) -> bytes:
        """The next line of this writer, without its newline."""
        line = chained(self.prev, self.seq, self.writer, **({"kind": "open"} if self.seq == 0 else {}), **fields)
        self.prev, self.seq = hashed(line), self.seq + 1
        return line

    def lines(self, count: int) -> list[bytes]:
        return [
            self.line(subject={"type": "user", "id": f"u{self.seq}"}, filler="x" * (self.seq % 7)) for _ in range(count)
        ]


def name(number: int) -> str:
    """The id of a writer."""
    return f"{number:016x}"


def rotated(writer: str, first: int, second: int = 0) -> str:
    return f"audit.20260101T0000{second:02}Z-{writer}-{first}.jsonl"


def put(folder: Path, files: dict[str, Sequence[bytes]], tails: dict[str, bytes] | None = None) -> Path:
    """Write a family's files, each from its lines; return the path of the log."""
    for old in folder.iterdir():
        old.unlink()
    for file, content in files.items():
        (folder / file).write_bytes(b"".join(line + b"\n" for line in content) + (tails or {}).get(file, b""))
    return folder / "audit.jsonl"


def rechained(lines: Sequence[bytes], start: int) -> list[bytes]:
    """The lines of one chain, linked anew from *start* on, as a forger would."""
    done = list(lines[:start])
    for line in lines[start:]:
        prev = hashed(done[-1]) if done else ZERO
        done.append(line[:32] + prev.encode() + line[96:])
    return done
