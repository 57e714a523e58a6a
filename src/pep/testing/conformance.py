"""
Conformance: what every decision point, sink and obligation handler must do, as plain functions.

Each takes what makes one, tries it, and raises `NotConforming` on the first rule that does not hold.
Imports the drivers and what is below them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from pep.audit.record import Kind, Record, new_id
from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.errors import PDPError
from pep.extract import is_asynchronous
from pep.frozen import FrozenDict
from pep.model import AccessRequest, Decision, Effect, Obligation, Resource, Subject
from pep.plan import Raised, Reply, attempt
from pep.profile import Guarantee
from pep.protocols import PDP, BatchPDP, Call, ObligationHandler, Phase, Refusal, Sink

#: Ids that have broken a line, a terminal, a path or a comparison.
HOSTILE: Final = (
    "\x00",
    "\r\n{}\n",
    "\u2028",
    "\x1b[31m",
    "\u202e",
    '"',
    "\\",
    "../..",
    "é",
    "e\u0301",
    " a",
    "x" * 999,
)

#: How many threads write at once, and how many records each.
THREADS: Final = 4
EACH: Final = 25

#: How long a step may take, in seconds.
PATIENCE: Final = 10.0


class NotConforming(AssertionError):  # noqa: N818  reads as a verdict
    """A rule of the protocol did not hold."""


def check_pdp(make: Callable[[], PDP], *, permitted: AccessRequest, denied: AccessRequest) -> None:
    """
    Check a decision point.

    Args:
        make: Makes one; called more than once.

        permitted: A request it permits.

        denied: A request it does not permit.

    Raises:
        NotConforming: Naming the rule that does not hold.
    """
    pdp = make()
    _hold(isinstance(pdp, PDP), "a decision point has `decide(request)`")
    _hold(type(getattr(pdp, "pure", False)) is bool, "`pure` is a bool")
    name = getattr(pdp, "name", None)
    _hold(name is None or (type(name) is str and name == getattr(make(), "name", None)), "`name` is a constant text")
    for request, permits in ((permitted, True), (denied, False)):
        for reply in _worlds(pdp, pdp.decide, request):
            _hold(_permits(reply) is permits, f"it {'permits' if permits else 'refuses'} {request!r}, in both worlds")
    if getattr(pdp, "pure", False):
        _hold(_permits(_worlds(pdp, pdp.decide, permitted)[0]) is True, "what is pure answers the same again")
    for hostile in HOSTILE:
        for reply in _worlds(pdp, pdp.decide, denied.evolve(subject=Subject("user", hostile))):
            answered = not isinstance(reply, Raised) or isinstance(reply.error, PDPError)
            _hold(answered, "it answers any id, or raises a `PDPError`")
    if isinstance(pdp, BatchPDP):
        _check_batches(pdp, permitted, denied)


def check_sink(make: Callable[[], Sink], *, read: Callable[[Any], Sequence[bytes]]) -> None:
    """
    Check a sink.

    Args:
        make: Makes an empty one; called more than once.

        read: Returns the JSON of every record a sink holds, in order.

    Raises:
        NotConforming: Naming the rule that does not hold.
    """
    sink = make()
    _hold(isinstance(sink, Sink), "a sink has `record(record)` and `guarantee`")
    _hold(type(sink.guarantee) is Guarantee, "`guarantee` is a `Guarantee`")
    given = [_record(text) for text in HOSTILE]
    expected: list[bytes] = []
    for record in given:
        replies = _worlds(sink, sink.record, record)
        _hold(not any(isinstance(reply, Raised) for reply in replies), "it takes every record, in both worlds")
        expected += [record.to_json()] * len(replies)
    held = list(read(sink))
    _hold(held == expected, "it holds every record it acknowledged, in order, as it was")
    _hold(all(len(line.splitlines()) == 1 for line in held), "one record is one line")
    if not _awaited(sink, sink.record):
        _check_threads(make(), read)
    close = getattr(sink, "close", None)
    if close is not None:
        close()
        refused = _worlds(sink, sink.record, given[0])[0]
        _hold(isinstance(refused, Raised), "a closed sink refuses")


def check_handler(
    make: Callable[[], ObligationHandler], *, obligation: Obligation, call: Call, malformed: Iterable[Obligation] = ()
) -> None:
    """
    Check an obligation handler.

    Args:
        make: Makes one; called more than once.

        obligation: One that it can discharge.

        call: The call it is discharged on.

        malformed: Obligations of its types that it cannot understand.

    Raises:
        NotConforming: Naming the rule that does not hold.
    """
    handler = make()
    _hold(isinstance(handler, ObligationHandler), "a handler has `types`, `phase` and `discharge(obligation, call)`")
    types: object = handler.types
    phase: object = handler.phase
    _hold(not isinstance(types, str) and obligation.type in handler.types, "`types` is a set of obligation types")
    _hold(isinstance(phase, Phase) and bool(phase & call.phase), "`phase` says when it acts")
    for reply in _worlds(handler, handler.discharge, obligation, call):
        answered = type(reply) is not Raised and type(reply.value) in {Call, Refusal}
        _hold(answered, "it returns the call, changed or not, or a `Refusal`")
    for wrong in malformed:
        for reply in _worlds(make(), make().discharge, wrong, call):
            _hold(isinstance(reply, Raised), f"it raises on what it does not understand: {dict(wrong.properties)!r}")


def _check_batches(pdp: BatchPDP, permitted: AccessRequest, denied: AccessRequest) -> None:
    for batch in ((permitted,), (denied, permitted), (permitted, denied, permitted)):
        for reply in _worlds(pdp, pdp.decide_many, batch):
            values = () if isinstance(reply, Raised) else reply.value
            given = [_effect(value) is Effect.PERMIT for value in values]
            wanted = [request is permitted for request in batch]
            _hold(given == wanted, "a batch is answered like its questions, in order")


def _check_threads(sink: Sink, read: Callable[[Any], Sequence[bytes]]) -> None:
    records = [[_record(f"{thread}.{number}") for number in range(EACH)] for thread in range(THREADS)]
    threads = [threading.Thread(target=lambda few=few: [sink.record(record) for record in few]) for few in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    expected = sorted(record.to_json() for few in records for record in few)
    _hold(sorted(read(sink)) == expected, "it keeps every record of every thread whole")


def _worlds(part: object, method: Callable[..., Any], *args: Any) -> list[Reply]:  # noqa: ANN401  whatever it takes
    """Call an extension point in every world it serves."""
    clock = SystemClock()
    deadline = clock.monotonic() + PATIENCE
    awaited = asyncio.run(arun(attempt(method, *args, deadline=deadline), APerformer(clock)))
    if _awaited(part, method):
        return [awaited]
    return [run(attempt(method, *args, deadline=deadline), Performer(clock)), awaited]


def _awaited(part: object, method: Callable[..., Any]) -> bool:
    return getattr(part, "asynchronous", False) is True or is_asynchronous(method)


def _permits(reply: Reply) -> bool | None:
    """Tell whether a reply permits; None where it is no answer."""
    if isinstance(reply, Raised):
        return None
    effect = _effect(reply.value)
    return None if effect is None else effect is Effect.PERMIT


def _effect(value: object) -> Effect | None:
    if type(value) is Decision:
        return value.effect
    if type(value) is bool:
        return Effect.PERMIT if value else Effect.DENY
    return None


def _record(text: str) -> Record:
    clock = SystemClock()
    told: Mapping[str, Any] = {"resource": Resource("document", text).to_dict()}
    return Record(Kind.DECISION, new_id(clock.wall()), clock.wall(), FrozenDict(told))


def _hold(holds: bool, rule: str) -> None:
    if not holds:
        message = f"does not conform: {rule}"
        raise NotConforming(message)
