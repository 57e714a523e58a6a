"""
What every format needs: a record made safe and taken apart, its moment, and text that breaks no line.

Imports the record, verdicts, and what tells a record's severity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from math import isfinite
from typing import Any, Final

import attrs
import orjson

from pep.audit.record import Kind
from pep.audit.severity import OF_KIND, OF_OUTCOME, Severity
from pep.verdict import ALLOWING, Outcome

#: How deep a converted record nests at most; below that stands a mark.
MAX_DEPTH: Final = 64

#: The kinds of record there are.
KINDS: Final = frozenset(kind.value for kind in Kind)

#: The outcomes there are.
OUTCOMES: Final = frozenset(outcome.value for outcome in Outcome)

#: Those under which the code runs.
LETTING_THROUGH: Final = frozenset(outcome.value for outcome in ALLOWING)

#: The kinds of record that tell a verdict.
VERDICTS: Final = frozenset({Kind.DECISION.value, Kind.CHECK.value})

_TOO_DEEP: Final = "<nested too deep>"
# No decision takes so many seconds.
_ENDLESS: Final = 2**31
_INTEGERS: Final = range(-(2**63), 2**64)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
# What a `datetime` in UTC can tell, in microseconds since 1970.
_MOMENTS: Final = range((datetime.max.replace(tzinfo=timezone.utc) - _EPOCH) // timedelta(microseconds=1) + 1)
_TIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_UUID7: Final = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_ESCAPE: Final = re.compile(r"\\(?=u[0-9a-f]{4})")
_TRACE: Final = {"trace_id": 32, "span_id": 16}
_ENDED_WELL: Final = {"completed": True, "raised": False, "withheld": False}


def _copied(fields: Mapping[str, Any]) -> dict[str, Any]:
    return dict(fields)


@attrs.define
class Fields:
    """
    The fields of a record, taken out one by one; what is left has no place in a format.

    What is missing or of another type is not taken. The record itself stays as it is.
    """

    _left: dict[str, Any] = attrs.field(converter=_copied)
    _inner: dict[str, Fields] = attrs.field(factory=dict, init=False)

    def text(self, name: str, among: frozenset[str] | None = None) -> str | None:
        """Take a text that is not empty; with *among*, only one of those."""
        value = self._left.get(name)
        if type(value) is not str or not value or (among is not None and value not in among):
            return None
        del self._left[name]
        return value

    def texts(self, name: str) -> list[str]:
        """Take a list of texts, none of them empty."""
        value = self._left.get(name)
        if type(value) is not list or not _are_texts(value):
            return []
        del self._left[name]
        return value

    def only(self, name: str) -> str | None:
        """Take the one text of a list that has no other."""
        value = self._left.get(name)
        return self.texts(name)[0] if type(value) is list and len(value) == 1 and _are_texts(value) else None

    def integer(self, name: str) -> int | None:
        """Take an integer that is not negative, and fits into 63 bits."""
        value = self._left.get(name)
        if type(value) is not int or not 0 <= value < 2**63:
            return None
        del self._left[name]
        return value

    def moment(self) -> int | None:
        """Take the time, as `microseconds` reads it."""
        found = microseconds(self._left)
        if found is not None:
            del self._left["time"]
        return found

    def inner(self, name: str) -> Fields:
        """Take an object apart as well; an empty one where there is none."""
        value = self._left.get(name)
        if type(value) is not dict:
            return Fields({})
        if name not in self._inner:
            self._inner[name] = Fields(value)
        return self._inner[name]

    def trace_id(self, name: str) -> str | None:
        """Take ``trace_id`` or ``span_id``, if it is a valid one of W3C Trace Context."""
        value = self._left.get(name)
        valid = type(value) is str and re.fullmatch(f"[0-9a-f]{{{_TRACE[name]}}}", value) and value.strip("0")
        return self.text(name) if valid else None

    def rest(self) -> dict[str, Any]:
        """Return what was not taken."""
        emptied = {name: inner.rest() for name, inner in self._inner.items()}
        return {name: value for name, value in (self._left | emptied).items() if name not in emptied or value}


def plain_object(record: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a record with nothing in it but what JSON can tell."""
    return {_name(name): plain(value, 1) for name, value in record.items()}


def plain(value: object, depth: int = 0) -> Any:  # noqa: ANN401  a JSON value
    """Copy a value with nothing in it but what JSON can tell; what it cannot is marked."""
    if depth > MAX_DEPTH:
        return _TOO_DEEP
    if value is None or type(value) is bool:
        return value
    if type(value) is int:
        return value if value in _INTEGERS else hex(value)
    if type(value) is float:
        return value if isfinite(value) else repr(value)
    if type(value) is str:
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_name(name): plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    return f"<{type(value).__name__}>"


def to_line(value: Mapping[str, Any]) -> str:
    """
    Write an object as one line of JSON in which nothing breaks a line or steers a terminal.

    Args:
        value: The object, of JSON values; what is none is marked.

    Returns:
        The line, without a newline.
    """
    try:
        line = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        line = orjson.dumps(plain_object(value)).decode()
    return line if line.isprintable() else "".join(map(_escaped, line))


def visible(text: str, keep: str = "") -> str:
    r"""
    Show what is invisible or steers a terminal as ``\uXXXX``, so that it can be read back.

    Args:
        text: Any text. A backslash in front of what looks like such an escape is shown as one too.

        keep: Characters to leave as they are.

    Returns:
        Printable text, different for every text.
    """
    if text.isprintable() and "\\u" not in text:
        return text
    return "".join([char if char in keep else _escaped(char) for char in _ESCAPE.sub(r"\\u005c", text)])


def microseconds(record: Mapping[str, Any]) -> int | None:
    """
    Read a record's time.

    Returns:
        Microseconds since 1970 in UTC; None where there is no time, it is before 1970, or not as in RFC 3339.
    """
    time = record.get("time")
    found = _TIME.fullmatch(time) if type(time) is str else None
    if found is None:
        return None
    offset = "+00:00" if found[3] == "Z" else found[3]
    try:
        moment = datetime.fromisoformat(found[1] + offset)
    except ValueError:
        return None
    told = (moment - _EPOCH) // timedelta(microseconds=1) + int((found[2] or "0").ljust(6, "0")[:6])
    return told if told in _MOMENTS else None


def milliseconds(record: Mapping[str, Any]) -> int:
    """Tell when a record was made, in milliseconds since 1970: by its time, else by its id; 0 where neither tells."""
    told = microseconds(record)
    if told is not None:
        return told // 1000
    name = record.get("id")
    found = _UUID7.fullmatch(name) if type(name) is str else None
    told = int(found[1] + found[2], 16) if found else 0
    return told if told * 1000 in _MOMENTS else 0


def rfc3339(micros: int) -> str:
    """Write microseconds since 1970 as a time in UTC."""
    moment = _EPOCH + timedelta(microseconds=micros)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds_taken(record: Mapping[str, Any]) -> float | None:
    """Tell how long deciding took, in seconds: ``latency``, or its ``total``."""
    told = record.get("latency")
    if isinstance(told, Mapping):
        told = told.get("total")
    if type(told) is int or type(told) is float:
        return float(told) if 0 <= told < _ENDLESS else None
    return None


def word(record: Mapping[str, Any], name: str, among: frozenset[str]) -> str | None:
    """Read a field that has one of a few values; None for anything else."""
    value = record.get(name)
    return value if type(value) is str and value in among else None


def severity(record: Mapping[str, Any]) -> Severity | None:
    """Tell how grave a record is, as `pep.audit.severity` does; None where neither outcome nor kind is known."""
    outcome = word(record, "outcome", OUTCOMES)
    kind = word(record, "kind", KINDS)
    return OF_OUTCOME[outcome] if outcome else OF_KIND[kind] if kind else None


def succeeded(record: Mapping[str, Any]) -> bool | None:
    """
    Tell whether the enforcement point did its work, which is not whether it let the call through.

    Returns:
        True also for a denial; False for a fault, for code that raised, for a result that was
        withheld and for lost records; None where the record does not tell.
    """
    kind = word(record, "kind", KINDS)
    if kind in VERDICTS:
        outcome = word(record, "outcome", OUTCOMES)
        return None if outcome is None else outcome != Outcome.UNAVAILABLE.value and not record.get("fault")
    if kind == Kind.OUTCOME.value:
        status = record.get("status")
        return _ENDED_WELL.get(status) if type(status) is str else None
    return None if kind is None else kind != Kind.GAP.value and not record.get("error")


def summary(record: Mapping[str, Any]) -> str:
    """Tell a record in one sentence, made of what is in it."""
    ended = record.get("outcome") or record.get("status") or record.get("change")
    head = " ".join([part for part in (record.get("kind"), ended) if type(part) is str])
    parts = [named(record.get("subject")), record.get("action"), named(record.get("resource")), record.get("fault")]
    return ", ".join([part for part in (head, *parts) if type(part) is str and part])


def named(entity: object) -> str:
    """Name a subject or resource as ``type:id``, as far as it tells."""
    if not isinstance(entity, Mapping):
        return ""
    return ":".join([part for part in (entity.get("type"), entity.get("id")) if type(part) is str])


def all_resources(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List every resource a record names, each once: its own, those decided with it, those kept and those revoked."""
    asked = record.get("requests")
    found = [record.get("resource")]
    found += [one.get("resource") for one in _listed(asked) if isinstance(one, Mapping)]
    pairs = [pair for name in ("kept", "revoked") for pair in _listed(record.get(name))]
    found += [{"type": pair[0], "id": pair[1]} for pair in pairs if len(_listed(pair)) == 2]  # noqa: PLR2004  a pair
    named_once = {(repr(one.get("type")), repr(one.get("id"))): one for one in found if isinstance(one, Mapping)}
    return list(named_once.values())


def _are_texts(items: Sequence[object]) -> bool:
    return all(type(item) is str and item for item in items)


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _name(name: object) -> str:
    if type(name) is str and name.isascii():
        return name
    told = plain(name)
    return told if type(told) is str else str(told)


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join([f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)])
