"""
Conformance: what every decision point, sink and obligation handler must do, as plain functions.

Each takes what makes one, tries it, and raises `NotConforming` on the first rule that does not hold.
Imports the drivers and what is below them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pep.decision import Obligation
from pep.plan import Raised
from pep.protocols import Call, ObligationHandler, Phase, Refusal
from pep.testing.conforming import HOSTILE, NotConforming, hold, worlds
from pep.testing.pdp_conformance import check_pdp
from pep.testing.sink_conformance import check_sink

__all__ = ["HOSTILE", "NotConforming", "check_handler", "check_pdp", "check_sink"]


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
