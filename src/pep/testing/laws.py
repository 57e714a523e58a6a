"""
Laws: what must hold of every timeline of records, runs and results, whatever goes wrong.

Each law returns its complaints, so that a test can show that it is able to complain. Imports the
records, faults and verdicts only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pep.audit.record import Kind, Record
from pep.fault import AVAILABILITY
from pep.model import Effect
from pep.testing.performing import Event
from pep.verdict import ALLOWING, Outcome

_ALLOWED: Final = frozenset(outcome.value for outcome in ALLOWING)
_OPENABLE: Final = frozenset({Effect.PERMIT.value, None})
_EXCUSABLE: Final = frozenset(fault.value for fault in AVAILABILITY)

# What differs from one run to the next, and between the worlds.
_VARYING: Final = frozenset({"time", "latency"})


def complaints(timeline: Iterable[Event]) -> list[str]:
    """Return every way in which a timeline breaks a law; none is as it should be."""
    events = list(timeline)
    return [*unrecorded(events), *untrue(events), *unearned(_records(events))]


def unrecorded(timeline: Iterable[Event]) -> Iterator[str]:
    """
    Find what ran or was released without a permit of its own, acknowledged before.

    Args:
        timeline: ``"acknowledged"`` with a record, ``"ran"`` once per run of protected code,
            ``"delivered"`` once per result that was decided about after it was had, and ``"released"``
            with the (type, id) pairs of what a filter gave out.
    """
    standing: dict[str, Record] = {}
    delivering: dict[str, Record] = {}
    for event in timeline:
        match event.what:
            case "acknowledged":
                _stand(standing, event.about, frozenset())
                _stand(delivering, event.about, frozenset({"completed"}))
            case "ran":
                if standing.pop(next(iter(standing), ""), None) is None:
                    yield "protected code ran without a permit on record"
            case "delivered":
                if delivering.pop(next(iter(delivering), ""), None) is None:
                    yield "a result was delivered without a permit on record"
            case "released":
                yield from _unlisted(standing.values(), event.about)
            case _:
                message = f"nothing is known of an event `{event.what}`"
                raise ValueError(message)


def untrue(timeline: Iterable[Event]) -> Iterator[str]:
    """Find outcome records that say nothing ran where something did."""
    standing: list[str] = []
    ran: set[str] = set()
    for event in timeline:
        if event.what == "ran" and standing:
            ran.add(standing.pop(0))
        if event.what != "acknowledged":
            continue
        if event.about.kind is Kind.DECISION and event.about.outcome in _ALLOWED:
            standing.append(event.about.id)
        ended = event.about.get("decision") if event.about.kind is Kind.OUTCOME else None
        standing[:] = [permit for permit in standing if permit != ended]
        if ended in ran and not event.about["ran"]:
            yield f"recorded as `{event.about['status']}`, not run, and did run"


def unended(timeline: Iterable[Event]) -> Iterator[str]:
    """Find permits on record that nothing ran under, and whose end no record tells: for calls that were cut off."""
    standing: dict[str, Record] = {}
    for event in timeline:
        if event.what == "acknowledged":
            _stand(standing, event.about, frozenset())
        elif event.what in {"ran", "delivered"}:
            standing.pop(next(iter(standing), ""), None)
    yield from ("a permit is on record, and not what became of it" for _ in standing)


def unearned(records: Iterable[Record]) -> Iterator[str]:
    """Find decision records that allow what nothing allowed: no permit, no outage, no shadow."""
    for record in records:
        told = record.to_dict()
        if record.kind is not Kind.DECISION or record.outcome not in _ALLOWED or "asked" in told:
            continue
        parts = told.get("requests") or [told]
        effects = {part.get("effect") for part in parts}
        faults = {str(part["fault"]) for part in parts if part.get("fault")}
        permitted = effects == {Effect.PERMIT.value} and (not faults or "stale" in told)
        if record.outcome == Outcome.PERMITTED.value and not permitted:
            yield f"permitted on {sorted(map(str, effects))} with {sorted(faults)}"
        # Where a part is only shadowed, whatever befell that part was not enforced.
        enforced = "would" not in told
        opened = bool(faults & _EXCUSABLE) and not (enforced and (faults - _EXCUSABLE or effects - _OPENABLE))
        if record.outcome == Outcome.FAILED_OPEN.value and not opened:
            yield f"opened on {sorted(map(str, effects))} with {sorted(faults)}"
        if record.outcome == Outcome.SHADOWED.value and "would" not in told:
            yield "shadowed without telling what would have been"


def comparable(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return records without what varies from run to run; ids become the order in which they first occur."""
    known: dict[str, str] = {}
    return [_renamed(record.to_dict(), known) for record in records]


def _stand(standing: dict[str, Record], record: Record, harmless: frozenset[str]) -> None:
    """Let a permit stand once it is acknowledged, and fall once its outcome is known, unless that does no harm."""
    if record.kind is Kind.DECISION and record.outcome in _ALLOWED:
        standing[record.id] = record
    elif record.kind is Kind.OUTCOME and record.get("status") not in harmless:
        standing.pop(record.get("decision"), None)


def _unlisted(standing: Iterable[Record], items: Iterable[tuple[str, str]]) -> Iterator[str]:
    listed = [tuple(kept) for record in standing for kept in record.get("kept", ())]
    yield from (f"`{kind}` was released and is on no record" for kind, name in items if (kind, name) not in listed)


def _records(events: Iterable[Event]) -> list[Record]:
    return [event.about for event in events if event.what == "acknowledged"]


def _renamed(told: Mapping[str, Any], known: dict[str, str]) -> dict[str, Any]:
    changed = {name: value for name, value in told.items() if name not in _VARYING}
    for name in ("id", "decision"):
        if name in changed:
            changed[name] = known.setdefault(changed[name], f"record {len(known)}")
    return changed
