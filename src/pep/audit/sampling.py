"""
A sink that leaves records of permits out, by action and outcome: for those that are no proof.

Imports the record, patterns and the error tree only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Mapping
from hashlib import blake2b
from typing import Any, Final

from pep.audit.delivery import recording
from pep.audit.record import Kind, Record, masked
from pep.errors import ConfigurationError
from pep.locks import Lock
from pep.plan import Plan
from pep.profiles import Pattern
from pep.verdict import Outcome

#: How many decisions are remembered for the sake of their outcome records.
REMEMBERED: Final = 10_000

# The outcomes of which some may be left out: not a denial, a fault, an opening or a confirmation.
_SPARE: Final = (Outcome.PERMITTED.value, Outcome.SHADOWED.value)
_MAX_SECRET: Final = 64
_SCALE: Final = 2**64


class Sampled:
    """
    Hands a fraction of the records of permits to another sink, and everything else.

    Which ones is decided by a hash of the record's id, so that the same are kept everywhere. Denials, faults,
    fail-opens, confirmations, withheld results, and kinds other than ``decision``, ``check`` and ``outcome`` are
    always kept; so is a shadowed call that would not have been permitted. An outcome record goes where its
    decision went. What is kept says in ``sampled`` what fraction it stands for.

    It states no guarantee, since what it leaves out is not recorded: it can only be a best-effort sink.

    Args:
        sink: Where records go.

        fractions: Pattern of actions → the fraction to keep, from 0 to 1, or outcome (``"permitted"`` or
            ``"shadowed"``) → fraction. The narrowest pattern holds; what matches none is kept.

        secret: Makes unforeseeable what is kept; the same in every process, at most 64 bytes.

    Raises:
        ConfigurationError: On a misspelled or overlapping pattern, another outcome, or a number out of range.
    """

    def __init__(self, sink: Any, fractions: Mapping[str, float | Mapping[str, float]], *, secret: bytes = b"") -> None:  # noqa: ANN401  a sink may be one without a guarantee
        if type(secret) is not bytes or len(secret) > _MAX_SECRET:
            message = f"`secret` must be `bytes`, {_MAX_SECRET} at most"
            raise ConfigurationError(message)
        self.sink = recording(sink)
        self._rows = _rows(fractions)
        self._secret = secret
        self._kept = self._left_out = 0
        #: Decision → the fraction it was kept with; 0 where it was left out. Those kept for certain are not in it.
        self._fates: dict[str, float] = {}
        self._order: deque[str] = deque()
        self._lock = Lock()

    def record(self, record: Record) -> Plan[None] | Awaitable[None] | None:
        """Hand one record on, or leave it out; what the other sink answers."""
        fraction = self._fate(record)
        with self._lock:
            if fraction:
                self._kept += 1
            else:
                self._left_out += 1
        if not fraction:
            return None
        answer: Plan[None] | Awaitable[None] | None = self.sink.record(_marked(record, fraction))
        return answer

    def close(self) -> Any:  # noqa: ANN401  whatever the other sink answers
        """Close the other sink, where it can be."""
        end = getattr(self.sink, "close", None) or getattr(self.sink, "aclose", None)
        return None if end is None else end()

    def stats(self) -> dict[str, int]:
        """Count records: ``kept`` and ``left_out``."""
        with self._lock:
            return {"kept": self._kept, "left_out": self._left_out}

    def __repr__(self) -> str:
        return f"Sampled({self.sink!r})"

    def _fate(self, record: Record) -> float:
        """Return what fraction a record stands for; 0 when it is left out."""
        if record.kind is Kind.OUTCOME:
            return 1.0 if record.get("status") == "withheld" else self._fates.get(record.get("decision"), 1.0)
        fraction = self._fraction(record) if _is_spare(record) else 1.0
        if fraction == 1:
            return 1.0
        fate = fraction if self._drawn(record.id) < fraction else 0.0
        if record.kind is Kind.DECISION:
            self._remember(record.id, fate)
        return fate

    def _fraction(self, record: Record) -> float:
        names = _action(record).split(":")
        row = next((row for pattern, row in self._rows if pattern.matches(names)), {})
        return row.get(str(record.outcome), 1.0)

    def _drawn(self, record_id: str) -> float:
        return int.from_bytes(blake2b(record_id.encode(), digest_size=8, key=self._secret).digest(), "big") / _SCALE

    def _remember(self, record_id: str, fate: float) -> None:
        with self._lock:
            self._fates[record_id] = fate
            self._order.append(record_id)
            if len(self._order) > REMEMBERED:
                self._fates.pop(self._order.popleft(), None)


def _is_spare(record: Record) -> bool:
    """Tell whether a record is of a plain permit, which may be left out."""
    if record.kind not in (Kind.DECISION, Kind.CHECK) or record.get("fault") is not None:
        return False
    if record.outcome == Outcome.SHADOWED.value:
        return bool(record.get("would") == Outcome.PERMITTED.value)
    return record.outcome == Outcome.PERMITTED.value


def _action(record: Record) -> str:
    """Return the action of a record, qualified as for profiles."""
    name = str(record.get("action"))
    return name if ":" in name else f"{record.get('resource', {}).get('type')}:{name}"


def _marked(record: Record, fraction: float) -> Record:
    if fraction == 1:
        return record
    return Record(record.kind, record.id, record.time, masked({**record.fields, "sampled": fraction}))


def _rows(fractions: Mapping[str, float | Mapping[str, float]]) -> list[tuple[Pattern, dict[str, float]]]:
    """Check the fractions, and order them from the narrowest pattern to the widest."""
    rows = [(Pattern.parse(text), _by_outcome(text, given)) for text, given in fractions.items()]
    for at, (one, _) in enumerate(rows):
        for other, _ in rows[:at]:
            if one.meet(other) not in (None, one, other):
                message = f"patterns `{other.text}` and `{one.text}` overlap; make one lie within the other"
                raise ConfigurationError(message)
    return sorted(rows, key=lambda row: row[0].rank, reverse=True)


def _by_outcome(text: str, given: float | Mapping[str, float]) -> dict[str, float]:
    row: dict[str, float] = dict(given) if isinstance(given, Mapping) else dict.fromkeys(_SPARE, given)
    for outcome, fraction in row.items():
        if outcome not in _SPARE:
            message = f"records of outcome `{outcome}` are never left out; give a fraction of `permitted` or `shadowed`"
            raise ConfigurationError(message)
        if type(fraction) not in (int, float) or not 0 <= fraction <= 1:
            message = f"the fraction of `{text}` is out of range; give a number from 0 to 1"
            raise ConfigurationError(message)
    return row
