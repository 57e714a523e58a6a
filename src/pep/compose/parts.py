"""
The parts of a composition: what is one, how one is asked, and what the whole can do because they can.

Imports plans, the decision's words and the protocols only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from pep.decision import Decision, decision_of, malformed
from pep.errors import ConfigurationError, PDPMismatched
from pep.extract import is_asynchronous
from pep.model import AccessRequest
from pep.plan import Plan, Raised, Returned, attempt, contain, gather
from pep.protocols import PDP, BatchPDP

#: How many questions are in the air at once, where a decision point takes one at a time.
ABREAST: Final = 16

#: What came of one question.
Outcome: TypeAlias = "Returned[Decision] | Raised"


def checked_part(pdp: object) -> PDP:
    """
    Take a decision point as a part.

    Raises:
        ConfigurationError: When it is none.
    """
    if isinstance(pdp, type) or not isinstance(pdp, PDP):
        message = f"`{part_name(pdp)}` is no decision point; wrap a function in `FunctionPDP`"
        raise ConfigurationError(message)
    return pdp


def part_name(pdp: object) -> str:
    """Return what a part is called."""
    name = getattr(pdp, "name", None)
    return name if type(name) is str else pdp.__name__ if isinstance(pdp, type) else type(pdp).__name__


def awaited_part(pdps: Iterable[PDP]) -> bool:
    """Tell whether any of them can only be awaited."""
    return any(getattr(pdp, "asynchronous", False) is True or is_asynchronous(pdp.decide) for pdp in pdps)


def decided(pdp: PDP, request: AccessRequest) -> Plan[Decision]:
    """
    Ask a part one question.

    Raises:
        Exception: What it raised; a `PDPReplyError` where its answer is no decision.
    """
    threaded = getattr(pdp, "threaded", False) is True
    reply = yield from attempt(pdp.decide, request, threaded=threaded)
    if isinstance(reply, Raised):
        raise reply.error
    return decision_of(reply.value)


def decided_all(pdp: PDP, requests: Sequence[AccessRequest]) -> Plan[list[Outcome]]:
    """
    Ask a part many questions, at once where it takes batches, else side by side.

    Returns:
        What came of each, in order.

    Raises:
        Exception: What it raised in place of a batch; a `PDPReplyError` where its answer is none, or of another
            length.
    """
    if isinstance(pdp, BatchPDP):
        threaded = getattr(pdp, "threaded", False) is True
        reply = yield from attempt(pdp.decide_many, tuple(requests), threaded=threaded)
        if isinstance(reply, Raised):
            raise reply.error
        return _batch(reply.value, len(requests))
    found: list[Outcome] = []
    for start in range(0, len(requests), ABREAST):
        asked = [decided(pdp, request) for request in requests[start : start + ABREAST]]
        found += (yield from gather(*asked)) if len(asked) > 1 else [(yield from contain(asked[0]))]
    return found


def told(outcomes: Iterable[Outcome]) -> list[Decision | Raised]:
    """Return outcomes as a batch is answered."""
    return [one if isinstance(one, Raised) else one.value for one in outcomes]


def _batch(values: object, wanted: int) -> list[Outcome]:
    if type(values) is not list and type(values) is not tuple:
        raise malformed(values)
    if len(values) != wanted:
        message = "a batch was answered with more or fewer decisions than were asked for"
        raise PDPMismatched(message)
    return [value if type(value) is Raised else Returned(decision_of(value)) for value in values]
