"""
The audit record: what it holds, and how it is masked.

Types, ids and names are recorded; the values of properties, context and arguments are not, only
their names. Imports the model, faults, verdicts and profiles only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Final, final

import attrs
import orjson

from pep.frozen import FrozenDict, frozen_items, thaw
from pep.model import AccessRequest, Decision, Resource, Subject
from pep.verdict import Discharge

#: The name of the schema, in every record.
SCHEMA: Final = "pep.audit/1"

# A random digit → one that says RFC 9562; its lower two bits stay random.
_VARIANTS: Final = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
# What is frozen as it is.
_PLAIN: Final = frozenset({bool, int, float})


#: Tells the fields of a record when they are first asked for.
Telling = Callable[[], Mapping[str, Any]]


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

    __slots__ = ("_fields", "id", "kind", "time")

    kind: Kind
    id: str
    time: float
    _fields: Mapping[str, Any] | Telling

    def __init__(self, kind: Kind, id: str, time: float, fields: Mapping[str, Any] | Telling) -> None:  # noqa: A002  as in the JSON
        assign = object.__setattr__
        assign(self, "kind", kind)
        assign(self, "id", id)
        assign(self, "time", time)
        assign(self, "_fields", fields)

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
        told = self._fields
        if type(told) is not FrozenDict:
            told = masked(told() if callable(told) else told)
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
        outcome: str | None = self.fields.get("outcome")
        return outcome

    def to_dict(self) -> dict[str, Any]:
        """Return the whole record as JSON values, free to be changed."""
        told: dict[str, Any] = thaw(self._all())
        return told

    def to_json(self) -> bytes:
        """Return the record as JSON without its newline; nothing in it breaks a line or steers a terminal."""
        line = orjson.dumps(self._all())
        if line.isascii() and b"\x7f" not in line:
            return line
        return "".join([char if char.isprintable() else _escaped(char) for char in line.decode()]).encode()

    def _all(self) -> dict[str, Any]:
        head = {"schema": SCHEMA, "kind": self.kind.value, "id": self.id, "time": _timestamp(self.time)}
        return {**head, **self.fields, **head}


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


def new_id(now: float) -> str:
    """
    Make a UUIDv7.

    Args:
        now: Seconds since 1970 in UTC.

    Source:
        RFC 9562 §5.7.
    """
    milliseconds = f"{int(now * 1000) & 0xFFFF_FFFF_FFFF:012x}"
    noise = os.urandom(10).hex()
    variant = _VARIANTS[noise[18]]
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7{noise[:3]}-{variant}{noise[3:6]}-{noise[6:18]}"


def request_fields(request: AccessRequest) -> dict[str, Any]:
    """Mask an access request: types, ids and names, no values."""
    fields: dict[str, Any] = {
        "subject": entity(request.subject),
        "action": request.action.name,
        "resource": entity(request.resource),
    }
    if request.action.properties:
        fields["action_properties"] = sorted(request.action.properties)
    if request.context:
        fields["context"] = sorted(request.context)
    if request.actors:
        fields["actors"] = [entity(actor) for actor in request.actors]
    if request.tenant is not None:
        fields["tenant"] = request.tenant
    return fields


def entity(value: Subject | Resource) -> dict[str, Any]:
    """Mask a subject or resource: its type, its id, and the names of its properties."""
    fields: dict[str, Any] = {"type": value.type}
    if value.id is not None:
        fields["id"] = value.id
    if value.properties:
        fields["properties"] = sorted(value.properties)
    return fields


def decision_fields(decision: Decision) -> dict[str, Any]:
    """Tell what a decision point answered; obligations by type and id."""
    optional = (
        ("policies", list(decision.policies)),
        ("reasons", list(decision.reasons)),
        ("revision", decision.revision),
        ("pdp_decision", decision.id),
        ("advice", [advice.type for advice in decision.advice]),
    )
    fields: dict[str, Any] = {"effect": decision.effect.value}
    fields.update([pair for pair in optional if pair[1]])
    return fields


def duty_fields(discharges: Iterable[Discharge]) -> list[dict[str, Any]]:
    """Tell what became of each obligation."""
    return [
        {
            "type": line.obligation.type,
            **({"id": line.obligation.id} if line.obligation.id is not None else {}),
            "status": line.status.value,
        }
        for line in discharges
    ]


def masked(fields: Mapping[str, Any]) -> FrozenDict:
    """Leave out what is None, and freeze the rest; text that is not valid Unicode has its surrogates replaced."""
    return frozen_items({name: _frozen(value) for name, value in fields.items() if value is not None})


def _frozen(value: Any) -> Any:  # noqa: ANN401  a JSON value
    if type(value) is str:
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if type(value) in _PLAIN:
        return value
    # An exact `dict` first: asking an abstract class costs more than the copy.
    if isinstance(value, (dict, Mapping)):
        return frozen_items({name: _frozen(item) for name, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple([_frozen(item) for item in value])
    return value


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join([f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)])


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
