"""
The chain: each line of an audit file carries the hash of the line before it, a number, and its writer.

Pure; imports the standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

#: How the JSON of every record starts.
HEAD: Final = b'{"schema":"pep.audit/1",'
#: What the very first line carries as the hash of the one before it.
GENESIS: Final = b"0" * 64

AFTER_HEAD: Final = len(HEAD)
#: A chained line: what goes into the schema's place.
LINKED: Final = HEAD + b'"prev":"%b","seq":%d,"writer":"%b",%b'


def new_writer() -> bytes:
    """Make the id of a new writer: 16 random hexadecimal digits."""
    return os.urandom(8).hex().encode()


def linked(json: bytes, prev: bytes, seq: int, writer: bytes) -> bytes:
    """
    Splice the chain's members into the JSON of a record, right after its schema.

    Args:
        json: The record's JSON, which starts with `HEAD`.

        prev: The hash of the line before it.

        seq: How many lines this writer wrote before it.

        writer: The writer's id.

    Returns:
        The line, without its newline.
    """
    return LINKED % (prev, seq, writer, json[AFTER_HEAD:])


def digest(line: bytes) -> bytes:
    """Hash a line without its newline: SHA-256, in lower-case hexadecimal digits."""
    return sha256(line).hexdigest().encode()


def linked_all(jsons: Sequence[bytes], prev: bytes, seq: int, writer: bytes) -> tuple[bytes, bytes]:
    """
    Chain several records.

    Returns:
        Their lines, each with its newline, as one text; and the hash of the last one, or *prev* where there is none.
    """
    lines = []
    for at, json in enumerate(jsons):
        line = linked(json, prev, seq + at, writer)
        prev = digest(line)
        lines.append(line)
    return b"".join([line + b"\n" for line in lines]), prev


def followed(found: bytes, attempt: bytes, prev: bytes) -> tuple[bytes, int, int]:
    """
    Find out where the chain stands after lines that nobody knows the fate of.

    Args:
        found: What the file holds after the last line that is known of, every line of it closed.

        attempt: The lines that were to be written there, each with its newline.

        prev: The hash of the last line that is known of.

    Returns:
        The hash of the last line there is, how many of the attempted ones are there whole, and the length of
        a fragment of one that is not.
    """
    there, wanted = found.split(b"\n")[:-1], attempt.split(b"\n")[:-1]
    if not there:
        return prev, 0, 0
    pairs = zip(there, wanted, strict=False)
    whole = next((at for at, (line, other) in enumerate(pairs) if line != other), min(len(there), len(wanted)))
    cut = there[whole] if whole < min(len(there), len(wanted)) else b""
    return digest(there[-1]), whole, len(cut) if cut and wanted[whole].startswith(cut) else 0
