"""
Noting: what the hot path leaves for a record to be made of, and how that record is told.

A *note* is ``(hot, moment, number, entry, scope, resource)``: who tells it; when the permit was found, in seconds on
the clock of expiry; its number; the cache entry that was found; who acted; and the resource, or its id. Nothing in it
changes, so time, id and JSON are made when somebody reads it. The note of how a call ended is ``(ending, moment,
number, note)``: who tells it, when that was, its number, and the note it began with. Imports L0 and L1 only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import attrs
import orjson

from pep.audit.ids import alike, id_at, numbers, standing
from pep.audit.record import SCHEMA, Kind, Record, Telling, timestamp
from pep.cache import Entry
from pep.frozen import EMPTY
from pep.protocols import Clock

Note = tuple[Any, ...]

#: What taking a note returns where the record after the code is owed; nothing else does.
OWED: Final = object()

#: How many things a note holds; one more is what its record belongs to: see `pep.audit.correlation`.
NOTED: Final = 6

#: How long two clocks are taken to go alike, in seconds.
COMPARED: Final = 1.0

#: How many entries remember what the records of their hits share.
MAX_TAILS: Final = 4096

#: The same of a note of how a call ended.
ENDED: Final = 4

_HEAD: Final = f'{{"schema":"{SCHEMA}","kind":"%s","id":"'
# An id, the name of the time, and the time.
_STAMPED: Final = 36 + len('","time":"') + 27 + len('"')
_HEADED: Final = len(_HEAD % Kind.DECISION.value) + _STAMPED
_END_HEADED: Final = len(_HEAD % Kind.OUTCOME.value) + _STAMPED
# How the record of a call that completed ends.
_COMPLETED: Final = b',"decision":"%b","status":"completed","ran":true}'
_LAST: Final = len(_COMPLETED) - len("%b") + 36


@attrs.define(eq=False, repr=False)
class Noting:
    """
    Tells the notes of one journal.

    Args:
        clock: What time it is.

        told: Adds what every record of the journal tells.
    """

    clock: Clock
    told: Callable[[Telling, Mapping[str, Any]], Mapping[str, Any]]
    #: Gives the next number of a note.
    number: Callable[[], int] = attrs.field(factory=numbers, init=False)
    #: The same for notes of how calls ended, which are counted by nobody here.
    ends: Callable[[], int] = attrs.field(factory=numbers, init=False)
    _first: int = attrs.field(init=False)
    # When the clock of expiry was last compared with the wall clock, and their difference, in seconds.
    _compared: tuple[float, float] = attrs.field(default=(-math.inf, 0.0), init=False)
    # A millisecond, the upper bits of a number, and what heads share then.
    _heads: tuple[int, int, bytes] = attrs.field(default=(-1, -1, b""), init=False)
    _tailed: deque[Entry] = attrs.field(factory=deque, init=False)
    _end_heads: tuple[int, int, bytes] = attrs.field(default=(-1, -1, b""), init=False)
    # Who tells how a call ended, and what it was a hit on → what of that all such calls share.
    _end_tails: dict[tuple[Any, Entry], bytes] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._first = self.number() + 1

    def count(self) -> int:
        """Return how many notes were numbered."""
        return standing(self.number.__self__) - self._first  # type: ignore[attr-defined]

    def id(self, note: Note) -> str:
        """Return the id of a note's record."""
        return id_at(self._micros(note[1]) // 1000, note[2])

    def record(self, note: Note, telling: Telling) -> Record:
        """Make the record of a note."""
        micros = self._micros(note[1])
        belongs = note[6] if len(note) > NOTED else EMPTY
        told = partial(self.told, telling, belongs)
        return Record(Kind.DECISION, id_at(micros // 1000, note[2]), micros / 1_000_000, told)

    def ended_record(self, ended: Note, telling: Telling) -> Record:
        """Make the record of a note of how a call ended."""
        micros = self._micros(ended[1])
        belongs = ended[ENDED] if len(ended) > ENDED else EMPTY
        told = partial(self.told, telling, belongs)
        return Record(Kind.OUTCOME, id_at(micros // 1000, ended[2]), micros / 1_000_000, told)

    def json(self, note: Note) -> bytes:
        """Return the JSON of a note's record; what all hits on one entry share is made once."""
        hot, moment, number, entry = note[0], note[1], note[2], note[3]
        tail = entry.tail
        if tail is None or tail[0] is not hot:
            tail = self._tail(hot, note, entry)
        compared, offset = self._compared
        # As `_micros` says, without its calls.
        known = compared <= moment < compared + COMPARED
        micros = round((moment + offset) * 1_000_000) if known else self._micros(moment)
        age = round((moment - entry.started) * 1_000_000) if moment > entry.started else 0
        heads = self._heads
        if heads[0] != micros // 1000 or heads[1] != number >> 14:
            heads = self._heads = self._shared(Kind.DECISION, micros // 1000, number, ',"age":%d.%06d')
        head = heads[2] % (0x8000 | number & 0x3FFF, micros % 1_000_000, age // 1_000_000, age % 1_000_000)
        if len(note) > NOTED and note[6]:
            return b"%b,%b%b" % (head, orjson.dumps(note[6])[1:-1], tail[1])
        told: bytes = head + tail[1]
        return told

    def ended(self, ended: Note) -> bytes:
        """Return the JSON of the record that a call completed; what all calls that hit one entry share is made once."""
        ending, moment, number, note = ended[:ENDED]
        tail = self._end_tails.get((ending, note[3]))
        if tail is None:
            tail = self._end_tail(ended)
        micros = self._micros(moment)
        heads = self._end_heads
        if heads[0] != micros // 1000 or heads[1] != number >> 14:
            heads = self._end_heads = self._shared(Kind.OUTCOME, micros // 1000, number)
        head = heads[2] % (0x8000 | number & 0x3FFF, micros % 1_000_000)
        last = _COMPLETED % self.id(note).encode()
        if len(ended) > ENDED and ended[ENDED]:
            return b"%b,%b%b%b" % (head, orjson.dumps(ended[ENDED])[1:-1], tail, last)
        told: bytes = head + tail + last
        return told

    def _shared(self, kind: Kind, milliseconds: int, number: int, more: str = "") -> tuple[int, int, bytes]:
        """Write what the heads of one millisecond, and of numbers that differ in their last 14 bits, share."""
        second = timestamp(milliseconds // 1000)[: -len("000000Z")]
        head = f'{_HEAD % kind.value}{alike(milliseconds, number)}","time":"{second}%06dZ"{more}'
        return milliseconds, number >> 14, head.encode()

    def _micros(self, moment: float) -> int:
        """Turn a moment on the clock of expiry into microseconds since 1970 in UTC."""
        try:
            return round(self.wall(moment) * 1_000_000)
        except (ValueError, OverflowError):
            # A clock that tells no time costs no record.
            return 0

    def wall(self, moment: float) -> float:
        """Turn a moment on the clock of expiry into seconds since 1970 in UTC."""
        compared, offset = self._compared
        if not compared <= moment < compared + COMPARED:
            now = self.clock.boottime()
            offset = self.clock.wall() - now
            if math.isfinite(offset):
                self._compared = (min(now, moment), offset)
        return moment + offset

    def _tail(self, hot: Any, note: Note, entry: Entry) -> tuple[Any, bytes]:  # noqa: ANN401  who tells it
        tail = hot, hot.ageless(note[:NOTED]).to_json()[_HEADED:]
        entry.tail = tail
        self._tailed.append(entry)
        if len(self._tailed) > MAX_TAILS:
            self._tailed.popleft().tail = None
        return tail

    def _end_tail(self, ended: Note) -> bytes:
        known = self._end_tails
        if len(known) >= MAX_TAILS:
            known.clear()
        tail: bytes = ended[0].record(ended[:ENDED]).to_json()[_END_HEADED:-_LAST]
        return known.setdefault((ended[0], ended[3][3]), tail)
