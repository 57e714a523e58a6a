"""
The parts of a composition: what is one, how one is asked, and what the whole can do because they can.

Imports plans, the decision's words and the protocols only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from pep.decision import Decision, decision_of, malformed
from pep.errors import ConfigurationError, PDPMismatched, PDPReplyError
from pep.extract import is_asynchronous
from pep.fault import AVAILABILITY, fault_of
from pep.model import AccessRequest, Action, Subject
from pep.plan import Plan, Raised, Returned, attempt, call, contain, gather, unwrap
from pep.protocols import PDP, BatchPDP, Clock, RowFilterPDP

if TYPE_CHECKING:
    from pep.policy.partial import RowFilter

T = TypeVar("T")

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


def whole_name(kind: str, parts: Iterable[object]) -> str:
    """Return what a composition is called, unless it is given a name: its kind, and its parts."""
    return f"{kind}({','.join(map(part_name, parts))})"


def awaited_part(pdps: Iterable[PDP]) -> bool:
    """Tell whether any of them can only be awaited."""
    return any(getattr(pdp, "asynchronous", False) is True or is_asynchronous(pdp.decide) for pdp in pdps)


def pure_part(pdp: PDP) -> bool:
    """Tell whether its answers depend on the request and its policy revision alone."""
    return getattr(pdp, "pure", False) is True


def consistent_part(pdps: Iterable[PDP]) -> bool:
    """
    Tell whether the revisions of any of them are consistency tokens.

    Those of the whole are then too: what another part has decided since may end what is reused, and never prolongs it.
    """
    return any(getattr(pdp, "consistent", False) is True for pdp in pdps)


def has(pdp: PDP, method: str) -> bool:
    """Tell whether a part has an optional method."""
    return callable(getattr(pdp, method, None))


def filters_rows(pdps: Iterable[PDP]) -> bool:
    """Tell whether each of them can filter rows."""
    return all(isinstance(pdp, RowFilterPDP) for pdp in pdps)


def decided(pdp: PDP, request: AccessRequest) -> Plan[Decision]:
    """
    Ask a part one question.

    Raises:
        Exception: What it raised; a `PDPReplyError` where its answer is no decision.
    """
    reply = yield from attempt(pdp.decide, request, threaded=_threaded(pdp))
    return decision_of(unwrap(reply))


def decided_all(pdp: PDP, requests: Sequence[AccessRequest]) -> Plan[list[Outcome]]:
    """
    Ask a part many questions, at once where it takes batches, else side by side.

    Returns:
        What came of each, in order.

    Raises:
        Exception: What it raised in place of a batch; a `PDPReplyError` where its answer is none, or of another
            length.
    """
    if len(requests) > 1 and isinstance(pdp, BatchPDP):
        reply = yield from attempt(pdp.decide_many, tuple(requests), threaded=_threaded(pdp))
        return _batch(unwrap(reply), len(requests))
    found: list[Outcome] = []
    for start in range(0, len(requests), ABREAST):
        asked = [decided(pdp, request) for request in requests[start : start + ABREAST]]
        found += (yield from gather(*asked)) if len(asked) > 1 else [(yield from contain(asked[0]))]
    return found


def told(outcomes: Iterable[Outcome]) -> list[Decision | Raised]:
    """Return outcomes as a batch is answered."""
    return [one if isinstance(one, Raised) else one.value for one in outcomes]


def for_each(reply: Returned[list[Outcome]] | Raised, wanted: int) -> list[Outcome]:
    """Return what came of each question of a batch; where the batch has no answer, no question has."""
    return [reply] * wanted if isinstance(reply, Raised) else reply.value


def rows_of(  # noqa: PLR0917  what a row filter depends on
    pdp: PDP,
    subject: Subject,
    action: Action | str,
    resource_type: str,
    context: Mapping[str, Any],
    actors: Sequence[Subject],
    tenant: str | None,
) -> Plan[RowFilter]:
    """
    Have a part that can filter rows do so.

    Raises:
        Exception: What it raised; a `PDPReplyError` where its answer is no row filter.
    """
    from pep.policy.partial import AllowAll, Conditional, DenyAll  # noqa: PLC0415  only who filters rows pays for policies

    fn: Callable[..., Any] = getattr(pdp, "row_filter")  # noqa: B009  checked when the whole was made
    asking = partial(fn, subject, action, resource_type, context=context, actors=actors, tenant=tenant)
    reply = yield from attempt(asking, threaded=_threaded(pdp))
    rows = unwrap(reply)
    if not isinstance(rows, (AllowAll, Conditional, DenyAll)):
        message = "a row filter must be `AllowAll`, `DenyAll` or `Conditional`"
        raise PDPReplyError(message)
    return rows


def unavailable(reply: Returned[Any] | Raised) -> bool:
    """Tell whether there is no answer because a part is down, slow or overloaded: the faults of availability."""
    return isinstance(reply, Raised) and fault_of(reply.error) in AVAILABILITY


def share_of(plan: Plan[T], left: float, share: float, clock: Clock) -> Plan[Returned[T] | Raised]:
    """
    Run a plan in a share of the time that is left; what it raises comes back as a value.

    Args:
        plan: What is run.

        left: How many seconds are left.

        share: The share of them that it may take; all of it adds no bound.

        clock: What time it is.
    """
    return (yield from contain(plan, None if share == 1 else clock.monotonic() + left * share))


def with_reason(decision: Decision, reason: str) -> Decision:
    """Return a decision that gives one more reason, for the record."""
    return Decision(
        decision.effect,
        decision.obligations,
        decision.advice,
        (*decision.reasons, reason),
        decision.policies,
        decision.revision,
        decision.ttl,
        decision.id,
    )


def probed(pdp: PDP) -> Plan[None]:
    """
    Ask a part whether it is up, where it can tell.

    Raises:
        Exception: What it raised.
    """
    if has(pdp, "probe"):
        yield from call(pdp.probe, threaded=_threaded(pdp))  # type: ignore[attr-defined]


def probed_all(pdps: Sequence[PDP]) -> Plan[None]:
    """
    Ask parts side by side whether they are up.

    Raises:
        Exception: What the first of them raised that is not.
    """
    for reply in (yield from gather(*[probed(pdp) for pdp in pdps])):
        unwrap(reply)


def health_of(pdp: PDP) -> dict[str, Any]:
    """Tell what a part is called, and how it is, where it can tell."""
    found = pdp.health() if has(pdp, "health") else {}  # type: ignore[attr-defined]
    return {"name": part_name(pdp), **found}


def distinct(pdps: Iterable[PDP]) -> Iterator[PDP]:
    """Return every part once, in order."""
    yield from {id(pdp): pdp for pdp in pdps}.values()


def _threaded(pdp: PDP) -> bool:
    return getattr(pdp, "threaded", False) is True


def _batch(values: object, wanted: int) -> list[Outcome]:
    if type(values) is not list and type(values) is not tuple:
        raise malformed(values)
    if len(values) != wanted:
        message = "a batch was answered with more or fewer decisions than were asked for"
        raise PDPMismatched(message)
    return [_one_of_batch(value) for value in values]


def _one_of_batch(value: object) -> Outcome:
    if type(value) is Raised:
        return value
    try:
        return Returned(decision_of(value))
    except PDPReplyError as error:
        return Raised(error)
