"""
Noting: what the hot path leaves for a record to be made of, and how that record is told.

A *note* is ``(hot, moment, number, entry, scope, resource)``: who tells it; when the permit was found, in seconds on
the clock of expiry; its number; the cache entry that was found; who acted; and the resource, or its id. Nothing in it
changes, so time, id and JSON are made when somebody reads it. Imports L0 and L1 only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import attrs
import orjson

from pep.audit.ids import id_of, numbers, standing
from pep.audit.record import SCHEMA, Kind, Record, Telling, timestamp
from pep.cache import Entry
from pep.frozen import EMPTY
from pep.protocols import Clock

Note = tuple[Any, ...]

#: How many things a note holds; one more is what its record belongs to: see `pep.audit.correlation`.
NOTED: Final = 6

#: How long two clocks are taken to go alike, in seconds.
COMPARED: Final = 1.0

#: How many entries remember what the records of their hits share.
MAX_TAILS: Final = 4096

_HEAD: Final = f'{{"schema":"{SCHEMA}","kind":"{Kind.DECISION.value}","id":"'.encode()
# The head, an id, the name of the time, and the time.
_HEADED: Final = len(_HEAD) + 36 + len('","time":"') + 27 + len('"')


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
    _first: int = attrs.field(init=False)
    # When the clock of expiry was last compared with the wall clock, and their difference, in seconds.
    _compared: tuple[float, float] = attrs.field(default=(-math.inf, 0.0), init=False)
    # The second that was told last, as a number and as text.
    _told_second: tuple[int, str] = attrs.field(default=(-1, ""), init=False)
    _tailed: deque[Entry] = attrs.field(factory=deque, init=False)

    def __attrs_post_init__(self) -> None:
        self._first = self.number() + 1

    def count(self) -> int:
        """Return how many notes were numbered."""
        return standing(self.number.__self__) - self._first  # type: ignore[attr-defined]

    def id(self, note: Note) -> str:
        """Return the id of a note's record."""
        return id_of(self.wall(note[1]), note[2])

    def record(self, note: Note, telling: Telling) -> Record:
        """Make the record of a note."""
        seconds = self.wall(note[1])
        belongs = note[6] if len(note) > NOTED else EMPTY
        return Record(Kind.DECISION, id_of(seconds, note[2]), seconds, partial(self.told, telling, belongs))

    def json(self, note: Note) -> bytes:
        """Return the JSON of a note's record; what all hits on one entry share is made once."""
        hot, moment, number, entry = note[:4]
        tail = entry.tail
        if tail is None or tail[0] is not hot:
            tail = self._tail(hot, note, entry)
        seconds = self.wall(moment)
        second, micro = divmod(round(seconds * 1_000_000), 1_000_000)
        old, since = divmod(max(0, round((moment - entry.started) * 1_000_000)), 1_000_000)
        if second != self._told_second[0]:
            self._told_second = second, timestamp(second)[: -len(".000000Z")]
        told = f'{id_of(seconds, number)}","time":"{self._told_second[1]}.{micro:06d}Z","age":{old}.{since:06d}'
        if len(note) > NOTED and note[6]:
            told += "," + orjson.dumps(note[6]).decode()[1:-1]
        return b"".join((_HEAD, told.encode(), tail[1]))

    def wall(self, moment: float) -> float:
        """Turn a moment on the clock of expiry into seconds since 1970 in UTC."""
        compared, offset = self._compared
        if not compared <= moment < compared + COMPARED:
            now = self.clock.boottime()
            offset = self.clock.wall() - now
            self._compared = (min(now, moment), offset)
        return moment + offset

    def _tail(self, hot: Any, note: Note, entry: Entry) -> tuple[Any, bytes]:  # noqa: ANN401  who tells it
        tail = hot, hot.ageless(note[:NOTED]).to_json()[_HEADED:]
        entry.tail = tail
        self._tailed.append(entry)
        if len(self._tailed) > MAX_TAILS:
            self._tailed.popleft().tail = None
        return tail
