"""
Ids of records: UUIDs of version 7, told from the time, a number, and what is random about this process.

Imports nothing of the library.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final, final

from pep.forking import after_fork

# The digits of a number that count last within a millisecond, and those that count before them.
_LOW, _HIGH = 14, 12
_NODES: Final = 2**48
# Odd, so that no two of a process's numbers share a node.
_STRIDE: Final = 0x9E37_79B9_7F4B
# Each enforcer's numbers: enough for a million records a second, for twelve days; then they run into the next.
_BLOCK: Final = 40
# Where the numbers of `new_id` begin: no enforcer's get there.
_LONE: Final = 1 << 70


@final
class _Writer:
    """What is random about this process, and the numbers it gives away; another one in a forked child."""

    __slots__ = ("__weakref__", "blocks", "lone", "node")

    blocks: Iterator[int]
    lone: Iterator[int]
    node: int

    def __init__(self) -> None:
        self.blocks = itertools.count(1)
        self.lone = itertools.count(_LONE + _start())
        self.node = _random(48)
        after_fork(self.renew)

    def renew(self) -> None:
        """Be another one: no id of the parent's comes up again."""
        self.node = _random(48)
        _but_four_digits.cache_clear()


def _start() -> int:
    # Anywhere but at the end of what counts within a millisecond: how many there were is nobody's business.
    return _random(_LOW + _HIGH - 1)


def _random(bits: int) -> int:
    # Not by way of `secrets`, which loads OpenSSL.
    return int.from_bytes(os.urandom(8), "big") >> (64 - bits)


@lru_cache(maxsize=16)
def _but_four_digits(milliseconds: int, upper: int) -> str:
    """Tell an id but for the digits that count last: they go where the ``%04x`` is."""
    time, tail = f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}", (_WRITER.node + (upper >> _HIGH) * _STRIDE) % _NODES
    return f"{time[:8]}-{time[8:]}-7{upper & 0xFFF:03x}-%04x-{tail:012x}"


# The one thing of its kind in a process, as the process is.
_WRITER: Final = _Writer()


def new_id(now: float) -> str:
    """
    Make a UUIDv7.

    Args:
        now: Seconds since 1970 in UTC.

    Returns:
        An id that this process gives once; later ones of one millisecond sort after earlier ones.

    Source:
        RFC 9562 §5.7, and §6.2 method 1 (a counter of fixed length).
    """
    return id_of(now, next(_WRITER.lone))


def id_of(seconds: float, number: int) -> str:
    """
    Return the UUIDv7 of a moment and a number: the same every time in one process.

    Args:
        seconds: Since 1970 in UTC.

        number: Which of the process's records it is, of those that `numbers` gives, or counted from zero by whoever is
            the only one who counts like that.
    """
    try:
        milliseconds = int(seconds * 1000)
    except (ValueError, OverflowError):
        # A clock that tells no time costs no record.
        milliseconds = 0
    return id_at(milliseconds, number)


def id_at(milliseconds: int, number: int) -> str:
    """Return the UUIDv7 of a moment in milliseconds since 1970 in UTC, and a number; see `id_of`."""
    return _but_four_digits(milliseconds, number >> _LOW) % (0x8000 | number & 0x3FFF)


def alike(milliseconds: int, number: int) -> str:
    """Return what the ids of a moment share with this number's: ``%04x`` stands for ``0x8000 | number & 0x3FFF``."""
    return _but_four_digits(milliseconds, number >> _LOW)


def standing(counter: Iterator[int]) -> int:
    """Return the number that an `itertools.count` gives next, without taking it."""
    # It tells that in its repr alone.
    return int(repr(counter).partition("(")[2][:-1])


def numbers() -> Callable[[], int]:
    """Return a source of numbers for `id_of`, such as an enforcer's; no two sources give the same one."""
    start = next(_WRITER.blocks) << _BLOCK
    return itertools.count(start + _start()).__next__
