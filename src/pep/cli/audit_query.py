"""
Which records of an audit log are meant, what a row tells of one, and what all of them add up to.

Imports the formats' reading of a record, and the names of rules.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final

import attrs

from pep.audit.formats.common import VERDICTS, all_resources, microseconds, named, rfc3339, word
from pep.audit.record import Kind
from pep.errors import ConfigurationError
from pep.policy.rule import Target

_MILLION: Final = 1_000_000
_INSTANT: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2})(:[0-9]{2}(?:\.[0-9]{1,9})?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?)?"
)


class Ending(Enum):
    """What may come of a call: an outcome, or how its code ended."""

    PERMITTED = "permitted"
    DENIED = "denied"
    CONFIRMATION_REQUIRED = "confirmation_required"
    STEP_UP_REQUIRED = "step_up_required"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    FAILED_OPEN = "failed_open"
    SHADOWED = "shadowed"
    COMPLETED = "completed"
    RAISED = "raised"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    WITHHELD = "withheld"


@attrs.frozen
class Wanted:
    """
    Which records are meant; what is None is not asked for.

    Attributes:
        subject: ``type:id``, or a type.

        action: Names and patterns, as in a rule.

        resource: ``type:id``, or a type.

        outcome: An outcome, or how a call ended.

        kind: A kind of record.

        since: The earliest time, in microseconds since 1970.

        until: The time they must be before, in microseconds since 1970.
    """

    subject: str | None = None
    action: str | None = None
    resource: str | None = None
    outcome: str | None = None
    kind: str | None = None
    since: int | None = None
    until: int | None = None

    def matches(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a record is meant."""
        return (
            self.kind in (None, record.get("kind"))
            and (self.outcome is None or self.outcome in (record.get("outcome"), record.get("status")))
            and (self.subject is None or _is(record.get("subject"), self.subject))
            and (self.resource is None or any(_is(one, self.resource) for one in all_resources(record)))
            and self._is_in_time(record)
            and (self.action is None or any(self._is_action(*one) for one in _actions(record)))
        )

    def _is_in_time(self, record: Mapping[str, Any]) -> bool:
        if self.since is None and self.until is None:
            return True
        moment = microseconds(record)
        if moment is None:
            return False
        return (self.since is None or moment >= self.since) and (self.until is None or moment < self.until)

    def _is_action(self, name: str, resource: object) -> bool:
        kind = resource.get("type") if isinstance(resource, Mapping) else None
        qualified = f"{kind}:{name}" if type(kind) is str and ":" not in name else name
        return Target((self.action or "",)).matches(name, qualified)


@attrs.define
class Tally:
    """Counts names; of very many, the rarest are forgotten, and the rest counted too low."""

    most: int = 100_000
    approximate: bool = False
    _counts: Counter[str] = attrs.field(factory=Counter)

    def add(self, name: object) -> None:
        """Count a name; what is none is not counted."""
        if type(name) is not str or not name:
            return
        self._counts[name] += 1
        if len(self._counts) > self.most:
            self._counts = Counter(dict(self._counts.most_common(self.most // 2)))
            self.approximate = True

    def top(self, count: int | None = None) -> dict[str, int]:
        """Return the most frequent names, those first; of equally frequent ones, by name."""
        return dict(sorted(self._counts.items(), key=lambda one: (-one[1], one[0]))[:count])


@attrs.define
class Stats:
    """What the records of an audit log add up to."""

    kinds: Tally = attrs.field(factory=Tally, init=False)
    outcomes: Tally = attrs.field(factory=Tally, init=False)
    checks: Tally = attrs.field(factory=Tally, init=False)
    ended: Tally = attrs.field(factory=Tally, init=False)
    faults: Tally = attrs.field(factory=Tally, init=False)
    actions: Tally = attrs.field(factory=Tally, init=False)
    subjects: Tally = attrs.field(factory=Tally, init=False)
    records: int = 0
    lost: int = 0
    torn: int = 0
    first: int | None = None
    last: int | None = None

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a record."""
        self.records += 1
        kind = record.get("kind")
        self.kinds.add(kind)
        if word(record, "kind", VERDICTS):
            (self.checks if kind == Kind.CHECK.value else self.outcomes).add(record.get("outcome"))
            self.faults.add(record.get("fault"))
            self.actions.add(record.get("action"))
            self.subjects.add(named(record.get("subject")))
        elif kind == Kind.OUTCOME.value:
            self.ended.add(record.get("status"))
        elif kind == Kind.GAP.value:
            self._gap(record)
        self._moment(microseconds(record))

    def to_dict(self, top: int) -> dict[str, Any]:
        """Return it as JSON values: section → name → how often, of actions and subjects the *top* most frequent."""
        span = None if self.first is None or self.last is None else (self.last - self.first) / _MILLION
        approximate = [name for name in ("actions", "subjects") if getattr(self, name).approximate]
        return {
            "records": self.records,
            "first": _time(self.first),
            "last": _time(self.last),
            "seconds": span,
            "per_second": self.records / span if span else None,
            "kinds": self.kinds.top(),
            "outcomes": self.outcomes.top(),
            "checks": self.checks.top(),
            "ended": self.ended.top(),
            "faults": self.faults.top(),
            "gaps": {"gaps": self.kinds.top().get(Kind.GAP.value, 0), "lost": self.lost, "torn": self.torn},
            "actions": self.actions.top(top),
            "subjects": self.subjects.top(top),
            **({"approximate": approximate} if approximate else {}),
        }

    def _gap(self, record: Mapping[str, Any]) -> None:
        lost = record.get("lost")
        self.lost += lost if type(lost) is int and lost > 0 else 0
        self.torn += bool(record.get("torn"))

    def _moment(self, moment: int | None) -> None:
        if moment is not None:
            self.first = moment if self.first is None else min(self.first, moment)
            self.last = moment if self.last is None else max(self.last, moment)


def instant(text: str, option: str) -> int:
    """
    Read a moment: a day, or a date and time, in UTC where it names no offset.

    Returns:
        Microseconds since 1970.

    Raises:
        ConfigurationError: When it is none, or before 1970.
    """
    found = _INSTANT.fullmatch(text)
    if found is not None:
        day, clock, second, offset = found.groups()
        told = microseconds({"time": f"{day}T{clock or '00:00'}{second or ':00'}{(offset or 'Z').upper()}"})
        if told is not None:
            return told
    message = f"`{option}` is no date and time; write one as in `2030-01-31` or `2030-01-31T12:00:00Z`"
    raise ConfigurationError(message)


def cells(record: Mapping[str, Any]) -> Sequence[str]:
    """Tell a record in a row: time, kind, outcome, subject, action, resource, and why or what."""
    ended = record.get("outcome") or record.get("status") or record.get("change")
    parts = (record.get("time"), record.get("kind"), ended, named(record.get("subject")), record.get("action"))
    return [*map(_text, parts), named(record.get("resource")), ", ".join(_remarks(record))]


def _remarks(record: Mapping[str, Any]) -> Iterator[str]:
    yield from filter(None, (_text(record.get(name)) for name in ("fault", "cause", "error")))
    reasons, kept = record.get("reasons"), record.get("kept")
    if isinstance(reasons, (list, tuple)):
        yield from map(_text, reasons)
    if isinstance(kept, (list, tuple)):
        yield f"{len(kept)} kept"
    if type(record.get("lost")) is int:
        yield f"{record['lost']} lost"


def _text(value: object) -> str:
    return value if type(value) is str else ""


def _is(entity: object, wanted: str) -> bool:
    return isinstance(entity, Mapping) and wanted in (entity.get("type"), named(entity))


def _actions(record: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """List the actions a record names, each with its resource."""
    asked = record.get("requests")
    for one in (record, *(asked if isinstance(asked, (list, tuple)) else ())):
        if isinstance(one, Mapping) and type(one.get("action")) is str:
            yield one["action"], one.get("resource")


def _time(micros: int | None) -> str | None:
    return None if micros is None else rfc3339(micros)
