"""
Requests in files: JSON lines, a JSON array, or an audit log, read piece by piece.

Imports the model and what reports errors of files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import attrs

from pep.errors import ConfigurationError, ExtractionError
from pep.model import AccessRequest
from pep.policy.files import PolicyFileError

#: How many characters one request, or one audit record, may have.
MAX_ENTRY: Final = 1024 * 1024

#: Told how many bytes of how many were read.
Progress = Callable[[int, int], None]

_TOO_LONG: Final = f"a request may have at most {MAX_ENTRY} characters"
_NO_JSON: Final = "this is no JSON"
_CHUNK: Final = 64 * 1024
_AUDIT: Final = "pep.audit/"
_ASKING: Final = ("decision", "check")
_BLANK: Final = frozenset(" \t\r\n")


@attrs.frozen
class Asked:
    """
    A request from a file.

    Attributes:
        request: What was asked.

        line: Where it stands, counted from 1.

        masked: The attributes it had whose values the audit log does not tell.
    """

    request: AccessRequest
    line: int
    masked: tuple[str, ...] = ()


def read_requests(path: str | Path, progress: Progress | None = None) -> Iterator[Asked | None]:
    """
    Read requests one by one, in bounded memory.

    Args:
        path: AuthZEN requests as JSON, one on a line or in one array, those with ``evaluations`` as several; or an
            audit log, of whose records those of kind ``decision`` and ``check`` count.

        progress: Told how many bytes of how many were read.

    Yields:
        The requests; None for a record that tells of no decision on a single request, and for a line of an audit
        log that a crash cut short.

    Raises:
        PolicyFileError: On what is no request, with file, line and column.

        ConfigurationError: When the file cannot be read.
    """
    try:
        with Path(path).open("rb") as binary:
            size = binary.seek(0, 2)
            binary.seek(0)
            text = TextIOWrapper(binary, encoding="utf-8")
            for asked in _asked(str(path), text):
                yield asked
                if progress is not None:
                    progress(binary.tell(), size)
    except OSError as error:
        message = f"cannot read `{path}`: {error.strerror}"
        raise ConfigurationError(message) from error
    except UnicodeDecodeError:
        message = f"cannot read `{path}`: it is no UTF-8"
        raise ConfigurationError(message) from None


def _asked(path: str, text: IO[str]) -> Iterator[Asked | None]:
    audit = False
    for line, column, value in _entries(path, text):
        if value is None and audit:
            # What a crash leaves of a line in an audit log; anywhere else it is a mistake.
            yield None
            continue
        if value is None:
            _refuse(_NO_JSON, path, line, column)
        audit = audit or _is_record(value)
        try:
            yield from _requests(value, line)
        except ExtractionError as error:
            _refuse(str(error), path, line, column)


def _entries(path: str, text: IO[str]) -> Iterator[tuple[int, int, Any]]:
    """Read the entries of a file, and where they start; None stands for one that is no JSON."""
    line, first = 1, text.read(1)
    while first in _BLANK:
        line, first = line + (first == "\n"), text.read(1)
    return _array(path, text, line) if first == "[" else _lines(path, text, line, first)


def _lines(path: str, text: IO[str], number: int, first: str) -> Iterator[tuple[int, int, Any]]:
    line = first + text.readline(MAX_ENTRY)
    while line:
        if len(line) > MAX_ENTRY:
            _refuse(_TOO_LONG, path, number, 1)
        if not line.isspace():
            yield _parsed(line, number)
        number, line = number + 1, text.readline(MAX_ENTRY + 1)


def _parsed(line: str, number: int) -> tuple[int, int, Any]:
    try:
        return number, 1, json.loads(line)
    except json.JSONDecodeError as error:
        return number, error.colno, None
    except (ValueError, RecursionError):
        return number, 1, None


def _array(path: str, text: IO[str], line: int) -> Iterator[tuple[int, int, Any]]:
    window = _Window(text, line)
    closing = window.next()
    while closing != "]":
        yield window.line, window.column, window.entry(path)
        closing = window.next()
        if closing not in {",", "]"}:
            _refuse("expected `,` or `]`", path, window.line, window.column)
        window.skip(1)
        if closing == ",":
            window.next()


class _Window:
    """The part of an array that is looked at."""

    __slots__ = ("_file", "_text", "column", "line")

    def __init__(self, file: IO[str], line: int) -> None:
        self._file = file
        self._text = ""
        self.line = line
        self.column = 2

    def next(self) -> str:
        """Skip what is blank; return the character behind it, or nothing at the end of the file."""
        while True:
            blank = len(self._text) - len(self._text.lstrip())
            self.skip(blank)
            if self._text or not self._grow():
                return self._text[:1]

    def entry(self, path: str) -> Any:  # noqa: ANN401  JSON has no narrower type
        """Read one entry."""
        decoder = json.JSONDecoder()
        if self._text[:1] != "{":
            _refuse("a request is a JSON object", path, self.line, self.column)
        while True:
            try:
                value, end = decoder.raw_decode(self._text)
            except (ValueError, RecursionError):
                if len(self._text) > MAX_ENTRY:
                    _refuse(_TOO_LONG, path, self.line, self.column)
                if not self._grow():
                    _refuse(_NO_JSON, path, self.line, self.column)
            else:
                self.skip(end)
                return value

    def skip(self, count: int) -> None:
        """Go on by some characters."""
        passed, self._text = self._text[:count], self._text[count:]
        self.line += passed.count("\n")
        self.column = count - passed.rfind("\n") if "\n" in passed else self.column + count

    def _grow(self) -> bool:
        more = self._file.read(_CHUNK)
        self._text += more
        return bool(more)


def _requests(value: Any, line: int) -> Iterator[Asked | None]:  # noqa: ANN401  whatever the file says
    if _is_record(value):
        if value.get("kind") in _ASKING:
            parts = _objects(value, "requests") or [value]
            yield from (_recorded(part, line) if "effect" in part else None for part in parts)
    elif isinstance(value, dict) and "evaluations" in value:
        yield from (Asked(AccessRequest.from_dict(one), line) for one in _evaluations(value))
    else:
        yield Asked(AccessRequest.from_dict(value), line)


def _is_record(value: Any) -> bool:  # noqa: ANN401  whatever the file says
    return isinstance(value, dict) and str(value.get("schema", "")).startswith(_AUDIT)


def _evaluations(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Take apart several requests in one: each has what it leaves out from what surrounds it."""
    shared = {name: part for name, part in value.items() if name != "evaluations"}
    return ({**shared, **one} for one in _objects(value, "evaluations"))


def _recorded(part: Mapping[str, Any], line: int) -> Asked:
    masked: list[str] = []
    told = {
        "subject": _unmasked("subject", part.get("subject"), masked),
        "resource": _unmasked("resource", part.get("resource"), masked),
        "actors": [_unmasked("actors", one, masked) for one in _objects(part, "actors")],
        "action": {
            "name": part.get("action"),
            "properties": _shown("action", part.get("action_properties", {}), part.get("action_omitted", []), masked),
        },
        "context": _shown("context", part.get("context", {}), part.get("context_omitted", []), masked),
        "tenant": part.get("tenant"),
    }
    return Asked(AccessRequest.from_dict(told), line, tuple(masked))


def _unmasked(root: str, entity: Any, masked: list[str]) -> Any:  # noqa: ANN401  whatever the file says
    """Take what is told of a subject or resource, and note the names of what is not."""
    if not isinstance(entity, dict):
        return entity
    shown = _shown(root, entity.get("properties", {}), entity.get("omitted", []), masked)
    return {**{name: value for name, value in entity.items() if name != "omitted"}, "properties": shown}


def _shown(root: str, values: object, omitted: object, masked: list[str]) -> dict[str, Any]:
    """Take the values that a record shows whole, and note the names of all others."""
    if type(values) is not dict or type(omitted) is not list or any(type(name) is not str for name in omitted):
        message = f"an audit record holds values by name of the {root}, and the names of what it omits"
        raise ExtractionError(message)
    parts = {*omitted, *(name for name, value in values.items() if _has_mark(value))}
    masked += [f"{root}.{name}".encode("utf-8", "replace").decode() for name in sorted(parts)]
    return {name: value for name, value in values.items() if name not in parts}


def _has_mark(value: object) -> bool:
    """Tell whether something in a value stands for what it was, or looks as if it did."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            if any(name.startswith("$") for name in one):
                return True
            left += one.values()
        elif isinstance(one, list):
            left += one
    return False


def _objects(value: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = value.get(name, [])
    if type(found) is not list or any(type(one) is not dict for one in found):
        message = f"`{name}` must be a list of JSON objects"
        raise ExtractionError(message)
    return found


def _refuse(problem: str, path: str, line: int, column: int) -> NoReturn:
    raise PolicyFileError(problem, path, line, column) from None
