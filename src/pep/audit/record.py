"""
The audit record: what every record has, and how it is written as JSON.

What a record may tell of a call is decided in `pep.audit.masking`. Imports frozen values, decisions, verdicts and
its own folder's first layer only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from enum import Enum
from functools import lru_cache
from typing import Any, Final, final

import attrs
import orjson

from pep.audit.ids import id_of, new_id, numbers
from pep.audit.safe import MAX_TEXT, tidy
from pep.decision import Decision
from pep.frozen import FrozenDict, thaw
from pep.verdict import Discharge

__all__ = [
    "SCHEMA",
    "Kind",
    "Record",
    "Telling",
    "decision_fields",
    "duty_fields",
    "id_of",
    "json_of",
    "masked",
    "new_id",
    "numbers",
    "record_of",
]

#: The name of the schema, in every record.
SCHEMA: Final = "pep.audit/1"

#: Tells the fields of a record when they are first asked for: name → JSON value, in mappings of its own.
Telling = Callable[[], Mapping[str, Any]]

# A moment or an object that found its way here is no JSON of ours: it is told safely instead.
_STRICTLY: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_EPOCH: Final = "1970-01-01T00:00:00.000000Z"


class Kind(Enum):
    """What a record tells of."""

    DECISION = "decision"
    OUTCOME = "outcome"
    CHECK = "check"
    INVALIDATION = "invalidation"
    CONFIGURATION = "configuration"
    GAP = "gap"
    OPEN = "open"
    CLOSE = "close"
    APPROVAL = "approval"

    # Members are one of a kind: by identity, without the call that `Enum` makes for it.
    __hash__ = object.__hash__


_HEAD: Final = frozenset({"schema", "kind", "id", "time"})
_KINDS: Final = {kind: kind.value for kind in Kind}


@final
class Record:
    """
    One audit record; immutable, masked.

    Attributes:
        kind: What it tells of.

        id: Its UUIDv7.

        time: When it was made: seconds since 1970 in UTC.

    Args:
        fields: Everything else: name → JSON value, masked already; or a function that tells it when it is first
            asked for, of values that do not change.
    """

    __slots__ = ("_fields", "_line", "id", "kind", "time")

    kind: Kind
    id: str
    time: float
    _fields: FrozenDict | dict[str, Any] | Telling
    _line: bytes | None

    def __init__(self, kind: Kind, id: str, time: float, fields: Mapping[str, Any] | Telling) -> None:  # noqa: A002  as in the JSON
        assign = object.__setattr__
        assign(self, "kind", kind)
        assign(self, "id", id)
        assign(self, "time", time)
        assign(self, "_fields", fields if type(fields) is FrozenDict or callable(fields) else masked(fields))
        assign(self, "_line", None)

    def __setattr__(self, name: str, value: object) -> None:
        raise attrs.exceptions.FrozenInstanceError

    def __delattr__(self, name: str) -> None:
        raise attrs.exceptions.FrozenInstanceError

    def __reduce__(self) -> tuple[Any, ...]:
        return Record, (self.kind, self.id, self.time, self.fields)

    def __repr__(self) -> str:
        return f"Record({self.kind}, {self.id!r}, {self.time!r}, {self.fields!r})"

    @property
    def fields(self) -> FrozenDict:
        """Everything else: name → JSON value; nothing in it needs masking any more."""
        told = self._told()
        if type(told) is not FrozenDict:
            told = masked(told)
            object.__setattr__(self, "_fields", told)
        return told

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  a JSON value
        return self.to_dict()[name]

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401  a JSON value
        """Return one field, or *default* where the record has none of that name."""
        return self.to_dict().get(name, default)

    @property
    def outcome(self) -> str | None:
        """The outcome, as in the JSON, where the record has one."""
        outcome: str | None = self._told().get("outcome")
        return outcome

    def to_dict(self) -> dict[str, Any]:
        """Return the whole record as JSON values, free to be changed."""
        told: dict[str, Any] = thaw(self._all(self.fields))
        return told

    def to_json(self) -> bytes:
        """Return the record as JSON without its newline; nothing in it breaks a line or steers a terminal."""
        line = self._line
        if line is None:
            # A copy: orjson keeps 4 KB behind every `bytes` it returns.
            line = bytes(memoryview(_harmless(self._written())))
            object.__setattr__(self, "_line", line)
        return line

    def _told(self) -> dict[str, Any]:
        told = self._fields
        if callable(told):
            told = dict(told())
            if None in told.values():
                told = {name: value for name, value in told.items() if value is not None}
            # INVARIANT: told once; the fields and the JSON never differ.
            object.__setattr__(self, "_fields", told)
        return told

    def _written(self) -> bytes:
        try:
            line = orjson.dumps(self._all(self._told()), option=_STRICTLY)
        except (TypeError, RecursionError):
            line = b"null"
        # `null` may be a NaN; what is long may hold text that is too long.
        if b"null" in line or len(line) > MAX_TEXT:
            line = orjson.dumps(self._all(masked(self._told())))
        return line

    def _all(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        told = {"schema": SCHEMA, "kind": _KINDS[self.kind], "id": self.id, "time": timestamp(self.time), **fields}
        if len(told) < len(fields) + len(_HEAD):
            # INVARIANT: no field stands in for what every record has.
            told = self._all({name: value for name, value in fields.items() if name not in _HEAD})
        return told


def record_of(taken: Record | tuple[Any, ...]) -> Record:
    """Return a record, or the one that a note of the hot path stands for."""
    if type(taken) is Record:
        return taken
    told: Record = taken[0].record(taken)
    return told


def json_of(taken: Record | tuple[Any, ...]) -> bytes:
    """Return the JSON of a record, or of the one that a note of the hot path stands for."""
    if type(taken) is Record:
        return taken.to_json()
    told: bytes = taken[0].json(taken)
    return told


def decision_fields(decision: Decision) -> dict[str, Any]:
    """Tell what a decision point answered; advice by type, obligations elsewhere, with what became of them."""
    fields: dict[str, Any] = {"effect": decision.effect._value_}
    if decision.policies:
        fields["policies"] = list(decision.policies)
    if decision.reasons:
        fields["reasons"] = list(decision.reasons)
    if decision.revision is not None:
        fields["revision"] = decision.revision
    if decision.id is not None:
        fields["pdp_decision"] = decision.id
    if decision.advice:
        fields["advice"] = [advice.type for advice in decision.advice]
    return fields


def duty_fields(discharges: Iterable[Discharge]) -> list[dict[str, Any]]:
    """Tell what became of each obligation."""
    return [
        {
            "type": line.obligation.type,
            **({"id": line.obligation.id} if line.obligation.id is not None else {}),
            "status": line.status.value,
            **({"before": line.before} if line.before is not None else {}),
            **({"after": line.after} if line.after is not None else {}),
            **({"approval": line.approval} if line.approval is not None else {}),
        }
        for line in discharges
    ]


def masked(fields: Mapping[str, Any]) -> FrozenDict:
    """Leave out what is None, freeze the rest, and mark what JSON has no value for: see `pep.audit.safe`."""
    return tidy({name: value for name, value in fields.items() if value is not None})


def _harmless(line: bytes) -> bytes:
    if line.isascii() and b"\x7f" not in line:
        return line
    return "".join([char if char.isprintable() else _escaped(char) for char in line.decode()]).encode()


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join([f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)])


def timestamp(seconds: float) -> str:
    """Write seconds since 1970 in UTC as RFC 3339, to the microsecond."""
    try:
        whole, fraction = divmod(round(seconds * 1_000_000), 1_000_000)
        return f"{_second(whole)}.{fraction:06d}Z"
    except (ValueError, OverflowError, OSError):
        # A clock that tells no time costs no record.
        return _EPOCH


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()[:19]
