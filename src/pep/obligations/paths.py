"""
Paths: which part of the arguments or of a result an obligation acts on.

Written as names joined by dots (``items.*.card``), or as a list of names where one holds a dot. Imports nothing of
the library.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, Final, TypeAlias, final

import attrs

#: How many segments a path may have.
MAX_SEGMENTS: Final = 32


class Wild(Enum):
    """A segment that names no single part."""

    #: Every item of a sequence or set, every value of a mapping, every field of an object.
    EVERY = "*"
    #: The positions of a sequence, without what stands there: items were taken out.
    POSITIONS = "#"


Segment: TypeAlias = "str | Wild"

_ESCAPED: Final = re.compile(r"\\([.*\\])")
_PARTS: Final = re.compile(r"((?:[^.\\]|\\[.*\\])+)(?:\.(?=.)|$)", re.DOTALL)
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")


@final
@attrs.frozen
class Path:
    """
    A path, by its segments from the outside in; without any, the whole value.

    Two paths are equal when their segments are; whether both lead to one part, `overlaps` tells.
    """

    segments: tuple[Segment, ...] = ()

    @classmethod
    def parse(cls, value: object) -> Path:
        r"""
        Read a path.

        Args:
            value: Text: names joined by dots, ``*`` for every part, ``.`` alone for the whole; ``\.``, ``\*`` and
                ``\\`` stand for themselves. Or a list of names, in which only ``"*"`` is special. A name of digits
                is an index where there is a sequence.

        Returns:
            The path.

        Raises:
            ValueError: When it cannot be read, or has more than `MAX_SEGMENTS` segments; without the value.
        """
        segments = _split(value) if type(value) is str else _listed(value)
        if len(segments) > MAX_SEGMENTS:
            message = f"a path has at most {MAX_SEGMENTS} segments"
            raise ValueError(message)
        return cls(segments)

    def overlaps(self, other: Path) -> bool:
        """Tell whether writing what one path leads to may change what the other leads to."""
        # Not past the shorter one: what contains a part is written with it.
        return all(_meet(mine, theirs) for mine, theirs in zip(self.segments, other.segments, strict=False))

    def positions(self) -> Path:
        """Return the path of the positions of the items in the sequence this one leads to."""
        return Path((*self.segments, Wild.POSITIONS))

    def __str__(self) -> str:
        return ".".join(_shown(segment) for segment in self.segments) or "."


def index_of(segment: str) -> int | None:
    """Return the position a segment names in a sequence; None where it names none."""
    return int(segment) if _INDEX.fullmatch(segment) else None


def _split(text: str) -> tuple[Segment, ...]:
    if text == ".":
        return ()
    parts, end = [], 0
    while end < len(text):
        found = _PARTS.match(text, end)
        if found is None:
            break
        parts.append(found[1])
        end = found.end()
    if end < len(text) or not parts:
        message = r"a path is names joined by dots; write `\.` for a dot in a name"
        raise ValueError(message)
    return tuple([_segment(part) for part in parts])


def _segment(part: str) -> Segment:
    if part == "*":
        return Wild.EVERY
    bare = _ESCAPED.sub("", part)
    if "*" in bare:
        message = r"`*` stands for a whole segment; write `\*` for one in a name"
        raise ValueError(message)
    return _ESCAPED.sub(r"\1", part)


def _listed(value: Any) -> tuple[Segment, ...]:  # noqa: ANN401  whatever was given
    if type(value) is not tuple and type(value) is not list:
        message = "a path is a text or a list of names"
        raise ValueError(message)
    if not all(type(name) is str and name for name in value):
        message = "a path's names are texts that are not empty"
        raise ValueError(message)
    return tuple([Wild.EVERY if name == "*" else name for name in value])


def _meet(one: Segment, other: Segment) -> bool:
    if one is Wild.POSITIONS or other is Wild.POSITIONS:
        # Who names a position is led elsewhere when items are taken out; who means every item is not.
        named = other if one is Wild.POSITIONS else one
        return type(named) is str and index_of(named) is not None
    return one is Wild.EVERY or other is Wild.EVERY or one == other


def _shown(segment: Segment) -> str:
    if type(segment) is Wild:
        return segment.value
    return re.sub(r"([.*\\])", r"\\\1", str(segment))
