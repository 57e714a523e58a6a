"""
Messages between processes that share invalidations: written, and read strictly.

Imports the seam of the bus only. One message is one JSON object in ASCII, at most 64 KiB.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NoReturn, TypeGuard

import attrs

from pep.bus.seam import EVERYTHING, Floor

#: How large a message may be, in bytes.
MAX_BYTES: Final = 65_536

SCHEMA: Final = "pep.bus/1"

_ID: Final = 16
_HEX: Final = frozenset("0123456789abcdef")
# Beyond it a number is no longer exact everywhere.
_MOST: Final = 2**53
_COMMON: Final = {"schema", "publisher", "sequence"}
#: The first text of a floor -> how many texts it may have.
_LENGTHS: Final = {"subject": (2, 3), "resource": (2, 3), "action": (2,), "all": (1,)}


@attrs.frozen
class Message:
    """
    What one publisher says.

    Args:
        publisher: Who says it, 16 hexadecimal digits; new for every process.

        sequence: How many invalidations it has published, counting this one.

        floor: What is invalidated; None where the message is a heartbeat or a farewell.

        beat: The number of a heartbeat.

        bye: Whether it is the last message of its publisher.
    """

    publisher: str
    sequence: int
    floor: Floor | None = None
    beat: int | None = None
    bye: bool = False

    def encode(self) -> bytes:
        """Return its bytes; a floor that they cannot carry is widened to everything."""
        common = {"schema": SCHEMA, "publisher": self.publisher, "sequence": self.sequence}
        if self.floor is not None:
            coded = _coded({**common, "floor": self.floor}) if _is_exact(self.floor) else b""
            return coded if 0 < len(coded) <= MAX_BYTES else _coded({**common, "floor": EVERYTHING})
        return _coded({**common, "bye": True} if self.bye else {**common, "beat": self.beat})


def decode(payload: object) -> Message | None:
    """Read a message; None where it is none, in any respect."""
    if type(payload) is not bytes or len(payload) > MAX_BYTES:
        return None
    try:
        found = json.loads(payload.decode("ascii"), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return _message(found) if type(found) is dict else None


def _message(found: dict[str, Any]) -> Message | None:
    said = found.keys() - _COMMON
    publisher, sequence = found.get("publisher"), found.get("sequence")
    if len(said) != 1 or found.get("schema") != SCHEMA or not _is_id(publisher) or not _is_count(sequence):
        return None
    match said.pop(), found:
        case "floor", {"floor": list(texts)} if sequence and _is_floor(texts):
            return Message(publisher, sequence, floor=tuple(texts))
        case "beat", {"beat": beat} if _is_count(beat):
            return Message(publisher, sequence, beat=beat)
        case "bye", {"bye": True as bye} if type(bye) is bool:
            return Message(publisher, sequence, bye=bye)
    return None


def _is_id(value: object) -> TypeGuard[str]:
    return type(value) is str and len(value) == _ID and _HEX.issuperset(value)


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _MOST


def _is_floor(texts: Sequence[Any]) -> bool:
    if not all(type(text) is str and text for text in texts):
        return False
    return bool(texts) and len(texts) in _LENGTHS.get(texts[0], ())


def _is_exact(floor: Floor) -> bool:
    # Two lone surrogates in a row would be read as the one character they make together.
    return _is_floor(floor) and not any("\ud800" <= char <= "\udfff" for text in floor for char in text)


def _coded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "a name occurs twice"
        raise ValueError(message)
    return found


def _refuse(constant: str) -> NoReturn:
    message = f"`{constant}` is not JSON"
    raise ValueError(message)
