"""
Conformance: what every decision point, sink and obligation handler must do, as plain functions.

Each takes what makes one, tries it, and raises `NotConforming` on the first rule that does not hold.
Imports the drivers and what is below them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pep.decision import Decision, Effect, Obligation
from pep.errors import PDPError
from pep.model import AccessRequest, Subject
from pep.plan import Raised, Reply
from pep.protocols import PDP, BatchPDP, Call, ObligationHandler, Phase, Refusal
from pep.testing.conforming import HOSTILE, NotConforming, hold, worlds
from pep.testing.sink_conformance import check_sink

__all__ = ["HOSTILE", "NotConforming", "check_handler", "check_pdp", "check_sink"]


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
    hold(isinstance(pdp, PDP), "a decision point has `decide(request)`")
    hold(type(getattr(pdp, "pure", False)) is bool, "`pure` is a bool")
    name = getattr(pdp, "name", None)
    hold(name is None or (type(name) is str and name == getattr(make(), "name", None)), "`name` is a constant text")
    for request, permits in ((permitted, True), (denied, False)):
        for reply in worlds(pdp, pdp.decide, request):
            hold(_permits(reply) is permits, f"it {'permits' if permits else 'refuses'} {request!r}, in both worlds")
    if getattr(pdp, "pure", False):
        hold(_permits(worlds(pdp, pdp.decide, permitted)[0]) is True, "what is pure answers the same again")
    for hostile in HOSTILE:
        for reply in worlds(pdp, pdp.decide, denied.evolve(subject=Subject("user", hostile))):
            answered = not isinstance(reply, Raised) or isinstance(reply.error, PDPError)
            hold(answered, "it answers any id, or raises a `PDPError`")
    if isinstance(pdp, BatchPDP):
        _check_batches(pdp, permitted, denied)


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
    hold(isinstance(handler, ObligationHandler), "a handler has `types`, `phase` and `discharge(obligation, call)`")
    types: object = handler.types
    phase: object = handler.phase
    hold(not isinstance(types, str) and obligation.type in handler.types, "`types` is a set of obligation types")
    hold(isinstance(phase, Phase) and bool(phase & call.phase), "`phase` says when it acts")
    for reply in worlds(handler, handler.discharge, obligation, call):
        answered = type(reply) is not Raised and type(reply.value) in {Call, Refusal}
        hold(answered, "it returns the call, changed or not, or a `Refusal`")
    for wrong in malformed:
        for reply in worlds(make(), make().discharge, wrong, call):
            hold(isinstance(reply, Raised), f"it raises on what it does not understand: {dict(wrong.properties)!r}")


def _check_batches(pdp: BatchPDP, permitted: AccessRequest, denied: AccessRequest) -> None:
    for batch in ((permitted,), (denied, permitted), (permitted, denied, permitted)):
        for reply in worlds(pdp, pdp.decide_many, batch):
            values = () if isinstance(reply, Raised) else reply.value
            given = [_effect(value) is Effect.PERMIT for value in values]
            wanted = [request is permitted for request in batch]
            hold(given == wanted, "a batch is answered like its questions, in order")


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
