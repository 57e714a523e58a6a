"""
What an enforcer does beside enforcing: revoke, tell how it is, close.

Plans of the enforcer's own, written once for both worlds. Imports the core and what is below it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from pep.audit.record import Kind, Record
from pep.audit.tell import asked_fields
from pep.bus.seam import EVERYTHING, Floor
from pep.cache import DecisionCache
from pep.core import Core
from pep.drive import Performer, run
from pep.errors import AccessDenied, AuditError
from pep.extract import Requirement
from pep.plan import Plan, Raised, Reply, Returned, attempt, call
from pep.revoke import floor_of
from pep.scope import Frame
from pep.wiring import Wiring

#: How long a record of the enforcer's own may take, in seconds.
PATIENCE: Final = 5.0


def revoked(core: Core, wiring: Wiring, named: tuple[object, object, object], *, awaiting: bool = False) -> Plan[None]:
    """
    Revoke what a subject, resource or action touches; record it, and tell the others.

    Args:
        core: The enforcer's core.

        wiring: What it is made of.

        named: The subject, the resource and the action.

        awaiting: Whether the bus may be told by what has to be awaited.

    Raises:
        ConfigurationError: When nothing is named, or something cannot be.

        PublishError: When it is not known that the others heard of it.
    """
    floor = floor_of(core.registries, *named)
    wiring.generations.revoke(floor)
    yield from _told(wiring, floor, awaiting=awaiting)


def all_revoked(wiring: Wiring, *, awaiting: bool = False) -> Plan[None]:
    """Revoke everything; record it, and tell the others: see `revoked`."""
    wiring.generations.revoke_all()
    yield from _told(wiring, EVERYTHING, awaiting=awaiting)


def _told(wiring: Wiring, floor: Floor, *, awaiting: bool) -> Plan[None]:
    yield from _recorded(wiring, Kind.INVALIDATION, {"floor": list(floor)})
    if wiring.bus is not None:
        publish = wiring.bus.apublish if awaiting else wiring.bus.publish
        yield from call(publish, floor, deadline=wiring.clock.monotonic() + PATIENCE)


def follow(core: Core, wiring: Wiring) -> None:
    """Have a decision point that swaps its policies tell of it, where it can."""
    subscribe = getattr(wiring.pdp, "subscribe", None)
    if callable(subscribe):
        # A decision point may serve others after the enforcer is gone, and does not keep it.
        subscribe(partial(_revised, weakref.ref(core), weakref.ref(wiring)))


def _revised(following: weakref.ref[Core], wired: weakref.ref[Wiring], event: Any) -> None:  # noqa: ANN401  a swap, or a set that did not load
    """Drop what the old policies decided, and record both revisions; what did not load changes nothing."""
    core, wiring = following(), wired()
    if core is None or wiring is None or core.ended:
        return
    if hasattr(event, "kept"):
        fields = {"change": "policies rejected", "kept": event.kept, "error": type(event.error).__name__}
    else:
        wiring.generations.swap()
        fields = {"change": "policies", "old": event.old, "new": event.new}
    wiring.journal.announce(Kind.CONFIGURATION, fields)
    # On the thread that noticed; what this world's sink does not take stays due, and comes before the next record.
    run(wiring.journal.settle_due(wiring.clock.monotonic() + PATIENCE), Performer(wiring.clock))


def closed(wiring: Wiring, *, awaiting: bool = False) -> Plan[None]:
    """
    Record that an enforcer refuses every later call, and close its handlers and its sink.

    Args:
        wiring: What it is made of.

        awaiting: Whether the sink may be closed by what has to be awaited.

    Raises:
        AuditError: When the sink could not be closed.
    """
    yield from _recorded(wiring, Kind.CLOSE, {})
    if wiring.bus is not None:
        wiring.bus.close()
    for handler in wiring.handlers:
        yield from _closed(handler, wiring, awaiting=awaiting)
    sink = wiring.journal.sink
    reply = yield from _closed(sink, wiring, awaiting=awaiting)
    if isinstance(reply, Raised):
        message = f"audit sink `{type(sink).__name__}` could not be closed; its last records may be lost"
        raise AuditError(message) from reply.error


def _closed(part: object, wiring: Wiring, *, awaiting: bool) -> Plan[Reply]:
    """Close a part of an enforcer, where it can be."""
    close = getattr(part, "aclose", None) if awaiting else None
    close = close if callable(close) else getattr(part, "close", None)
    if not callable(close):
        return Returned(None)
    return (yield from attempt(close, deadline=wiring.clock.monotonic() + PATIENCE))


def dropped(core: Core, need: Requirement, frame: Frame) -> None:
    """Record a question that was never asked, because nobody awaited it."""
    try:
        wiring = core.wiring()
    except AccessDenied:
        return
    fields = {"entry": "aenforce", "status": "abandoned", **asked_fields([need], frame, wiring.masking)}
    run(_written(wiring, wiring.journal.make(Kind.DECISION, fields)), Performer(wiring.clock))


def stats(core: Core) -> dict[str, int]:
    """Count records, cache reads and joined flights since the start."""
    wiring = core.latest
    counts = dict.fromkeys(("recorded", "unrecorded", "lost", "unobserved", "uncorrelated"), 0)
    if wiring is None:
        return {**counts, **dict.fromkeys(DecisionCache().stats(), 0), "flights_joined": 0, "alerts": 0}
    counts = {name: wiring.journal.counts[name] for name in counts}
    cached = wiring.cache.stats()
    # The hot path counts with its notes alone.
    noted = wiring.journal.noting.count() - wiring.journal.counts["unnoted"]
    counts["recorded"] += noted
    cached["hits"] += noted
    return {**counts, **cached, "flights_joined": wiring.shapes.flights.joined, "alerts": wiring.alerts.told}


def health(core: Core) -> Mapping[str, Any]:
    """Tell how an enforcer is: its state, who answers, what it records with, what it does not enforce."""
    state = core.state
    told: dict[str, Any] = {"name": core.name, "state": state, "sites": len(core.sites)}
    if state != "bound":
        return told
    wiring = core.wiring()
    return {
        **told,
        "pdp": wiring.pdp_name,
        **_faring(core, wiring),
        "guarantee": wiring.journal.sink.guarantee.value,
        "not_enforced": wiring.unenforced(),
        "unrecorded": wiring.journal.counts["unrecorded"],
        **({} if wiring.bus is None else {"bus": wiring.bus.state}),
    }


def _faring(core: Core, wiring: Wiring) -> Mapping[str, Any]:
    """Tell how the decision point is faring, as far as it tells itself, and what its probes came to."""
    told: dict[str, Any] = {}
    tells: Callable[[], Mapping[str, Any]] | None = getattr(wiring.pdp, "health", None)
    if tells is not None:
        try:
            told["pdp_health"] = dict(tells())
        except Exception as error:  # noqa: BLE001  a decision point of a user's may raise anything
            told["pdp_health"] = {"state": "unknown", "error": type(error).__name__}
    if core.heartbeat is not None:
        told["heartbeat"] = dict(core.heartbeat.health())
    return told


def _recorded(wiring: Wiring, kind: Kind, fields: Mapping[str, Any]) -> Plan[None]:
    yield from _written(wiring, wiring.journal.make(kind, fields))


def _written(wiring: Wiring, record: Record) -> Plan[None]:
    if (yield from wiring.journal.write(record, wiring.clock.monotonic() + PATIENCE)):
        wiring.journal.owe()
