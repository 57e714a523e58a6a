"""
Where things stand in a policy file: the line and column of each key and value of a TOML or JSON text.

Runs only to report an error: the text was parsed already, so scanning is loose. Imports nothing of the library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

#: A place in a document: keys and indices from the root.
Place = tuple[str | int, ...]

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY: Final = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_STRING: Final = re.compile(r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'''', re.DOTALL)
_SCALAR: Final = re.compile(r"[^,\]}\n#]*")
_HEADER: Final = re.compile(r"\[\[?")
_UNIT: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}"
    r"|\\x[0-9a-fA-F]{2}|(?P<none>\\[ \t]*\r?\n\s*)|\\.|\r\n|.",
    re.DOTALL,
)

_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Places:
    """
    The places of a document.

    Attributes:
        duplicate: Offset of the first key that its table has already, if any.
    """

    __slots__ = ("_arrays", "_keys", "_text", "_values", "duplicate")

    def __init__(self, text: str, *, toml: bool) -> None:
        self._text = text
        self._keys: dict[Place, int] = {}
        self._values: dict[Place, int] = {}
        self._arrays: dict[Place, int] = {}
        self.duplicate: int | None = None
        try:
            if toml:
                self._document()
            else:
                self._value(self._blank(0), ())
        except (IndexError, RecursionError):
            # What was found until then is enough to name a place near by.
            return

    def of(self, place: Place) -> int:
        """Return the offset of a place's key or, in a list, its value; of what surrounds it if it has none."""
        while place:
            found = self._keys.get(place, self._values.get(place))
            if found is not None:
                return found
            place = place[:-1]
        return 0

    def within(self, place: Place, index: int) -> int:
        """Return the offset of a character of the text that stands at a place."""
        start = self._values.get(place)
        if start is None:
            return self.of(place)
        return next((at for at, counted in _characters(self._text, start) if counted == index), start)

    def _document(self) -> None:
        table: Place = ()
        at = self._blank(0)
        while at < len(self._text):
            header = _HEADER.match(self._text, at)
            if header is None:
                at = self._blank(self._pair(at, table))
                continue
            path, end = self._key(self._blank(header.end()))
            table = self._table(path, repeated=header[0] == "[[")
            self._keys.setdefault(table, at)
            at = self._blank(end + len(header[0]))

    def _table(self, path: tuple[str, ...], *, repeated: bool) -> Place:
        """Resolve a header: each name may stand for the last table of an array."""
        table: Place = ()
        for depth, name in enumerate(path, 1):
            table = (*table, name)
            if depth == len(path) and repeated:
                self._arrays[table] = self._arrays.get(table, -1) + 1
            if table in self._arrays:
                table = (*table, self._arrays[table])
        return table

    def _pair(self, at: int, table: Place) -> int:
        """Scan ``key = value`` or ``"key": value``; return where it ends."""
        path, end = self._key(at)
        place = (*table, *path)
        if place in self._keys and self.duplicate is None:
            self.duplicate = at
        self._keys.setdefault(place, at)
        return self._value(self._blank(self._blank(end) + 1), place)

    def _key(self, at: int) -> tuple[tuple[str, ...], int]:
        parts = []
        while True:
            found = _KEY.match(self._text, at)
            if found is None:
                raise IndexError
            parts.append(_unquoted(found[0]))
            at = self._blank(found.end())
            if self._text[at] != ".":
                return tuple(parts), at
            at = self._blank(at + 1)

    def _value(self, at: int, place: Place) -> int:
        self._values.setdefault(place, at)
        string = _STRING.match(self._text, at)
        if string is not None:
            return string.end()
        if self._text[at] == "{":
            return self._sequence(at, place, "}")
        if self._text[at] == "[":
            return self._sequence(at, place, "]")
        scalar = _SCALAR.match(self._text, at)
        return at + 1 if scalar is None else scalar.end()

    def _sequence(self, at: int, place: Place, closing: str) -> int:
        at, index = self._blank(at + 1), 0
        while self._text[at] != closing:
            at = self._pair(at, place) if closing == "}" else self._value(at, (*place, index))
            index += 1
            at = self._blank(at)
            if self._text[at] == ",":
                at = self._blank(at + 1)
            elif self._text[at] != closing:
                raise IndexError
        return at + 1

    def _blank(self, at: int) -> int:
        found = _BLANK.match(self._text, at)
        return at if found is None else found.end()


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return the line and column, both from 1, of an offset."""
    before = text[:offset]
    return before.count("\n") + 1, offset - before.rfind("\n")


def _characters(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Walk a quoted text: where each character stands, and which one it is."""
    quote = text[start]
    at = start + (3 if text.startswith(quote * 3, start) else 1)
    if at == start + 3:
        at += 2 * text.startswith("\r\n", at) or text.startswith("\n", at)
    index = 0
    while at < len(text):
        if quote == "'":
            length, counts = 2 if text.startswith("\r\n", at) else 1, True
        else:
            unit = _UNIT.match(text, at)
            length, counts = (1, True) if unit is None else (len(unit[0]), unit["none"] is None)
        if counts:
            yield at, index
        index += counts
        at += length


def _unquoted(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    if key[0] != '"':
        return key
    return re.sub(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", _unescaped, key[1:-1])


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2]
    return chr(int(code, 16)) if code else _ESCAPED.get(found[3], found[3])
