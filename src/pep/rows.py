"""
Row filters: which resources of a type may be acted upon, before any is loaded.

Imports the enforcement plan and what is below it; the policies where a filter is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from pep.ask import Answer
from pep.audit.record import Kind
from pep.audit.tell import asked_fields, verdict_fields
from pep.enforcement import Enforcement, denial
from pep.errors import AttributeProviderError, ConfigurationError, PDPReplyError
from pep.fault import Fault, fault_of
from pep.model import AccessRequest, Decision, Effect
from pep.plan import Plan, Raised, Reply, Returned, attempt
from pep.protocols import RowFilterPDP
from pep.settle import settle_fault
from pep.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from pep.policy.partial import RowFilter

_NAMES: Final = {"AllowAll": "allow_all", "DenyAll": "deny_all", "Conditional": "conditional"}


def row_filter(job: Enforcement) -> Plan[Reply]:
    """
    Have the decision point say which rows may be acted upon, for the subject and every actor.

    Args:
        job: Asks about a new resource of the type.

    Returns:
        `AllowAll`, `DenyAll` or `Conditional`, recorded; or what to raise, where no answer was had.
    """
    if not isinstance(job.wiring.pdp, RowFilterPDP):
        name = job.wiring.pdp_name
        message = f"`{name}` cannot filter rows; bring a decision point with `row_filter`, or use `filter`"
        return Raised(ConfigurationError(message))
    found = (yield from _asked(job, job.wiring.pdp)) if (yield from job.extract()) else None
    job.recheck()
    failed = yield from _record(job, found)
    if failed is not None:
        job.refuse(Fault.AUDIT, failed)
    elif found is not None and not job.holds():
        job.refuse(Fault.REVOKED)
    if found is None or job.verdict.fault is not None:
        return Raised(denial(job.verdict))
    return Returned(found)


def _record(job: Enforcement, found: RowFilter | None) -> Plan[Exception | None]:
    fields: dict[str, Any] = {"entry": job.entry, "filter": None if found is None else _NAMES[type(found).__name__]}
    if job.verdict.request is None:
        fields |= asked_fields(job.needs, job.frame)
    told = verdict_fields(job.wiring, job.verdict, job.answers)
    record = job.wiring.journal.make(Kind.DECISION, fields | told, record_id=job.record_id)
    return (yield from job.wiring.journal.write(record, job.deadline_from_now()))


def _asked(job: Enforcement, pdp: RowFilterPDP) -> Plan[RowFilter | None]:
    """Ask for every request, and join the answers; None where there is a fault, which the verdict then tells."""
    found: list[tuple[Answer, RowFilter]] = []
    for answer in job.answers:
        one = yield from _one(job, pdp, answer)
        if one is None:
            job.verdict = _verdict(job, answer, settle_fault(answer.fault or Fault.INTERNAL))
            return None
        found.append((answer, one))
    enforced = _joined([one for answer, one in found if not answer.shadowed])
    job.verdict = _verdict(job, job.answers[0], _outcome(enforced))
    if job.verdict.allowed and any(answer.shadowed for answer in job.answers):
        would = _outcome(_joined([one for _, one in found]))
        job.verdict = attrs.evolve(job.verdict, outcome=Outcome.SHADOWED, would=would)
    return enforced


def _outcome(rows: RowFilter) -> Outcome:
    from pep.policy.partial import DenyAll  # noqa: PLC0415  only who filters rows pays for policies

    return Outcome.DENIED if type(rows) is DenyAll else Outcome.PERMITTED


def _verdict(job: Enforcement, chief: Answer, outcome: Outcome) -> Verdict:
    revision = getattr(job.wiring.pdp, "revision", None)
    effect = Effect.PERMIT if outcome is Outcome.PERMITTED else Effect.DENY
    decision = Decision(effect, revision=revision if type(revision) is str else None)
    return Verdict(
        job.record_id,
        outcome,
        request=chief.request,
        decision=decision if chief.fault is None else None,
        fault=chief.fault,
        cause=chief.cause,
        requests=tuple(answer.request for answer in job.answers),
        hidden=any(answer.profile.hidden for answer in job.answers),
    )


def _one(job: Enforcement, pdp: RowFilterPDP, answer: Answer) -> Plan[RowFilter | None]:
    """Ask for one request; a fault is left in its answer."""
    from pep.policy.partial import AllowAll, Conditional, DenyAll  # noqa: PLC0415  only who filters rows pays for policies

    wiring, deadline = job.wiring, job.timing.deadline
    try:
        answer.request = yield from wiring.providers.enrich(answer.request, deadline, wiring.generations, rows=True)
    except AttributeProviderError as error:
        answer.fault, answer.cause = Fault.ATTRIBUTES, error
        return None
    reply = yield from attempt(_ask, pdp, answer.request, deadline=deadline)
    if isinstance(reply, Raised):
        answer.fault, answer.cause = fault_of(reply.error), reply.error
        return None
    if type(reply.value) in {AllowAll, Conditional, DenyAll}:
        rows: RowFilter = reply.value
        return rows
    answer.fault = Fault.MALFORMED
    answer.cause = PDPReplyError("a row filter must be `AllowAll`, `DenyAll` or `Conditional`")
    return None


def _ask(pdp: RowFilterPDP, request: AccessRequest) -> object:
    return pdp.row_filter(request.subject, request.action, request.resource.type, context=request.context)


def _joined(found: Sequence[RowFilter]) -> RowFilter:
    """Rows that every filter lets through; without any, nothing is enforced and all of them."""
    from pep.policy.condition import conjunction  # noqa: PLC0415  only who filters rows pays for policies
    from pep.policy.partial import AllowAll, Conditional, DenyAll  # noqa: PLC0415  only who filters rows pays for policies

    if any(type(one) is DenyAll for one in found):
        return DenyAll()
    conditions = [one.condition for one in found if isinstance(one, Conditional)]
    return Conditional(conjunction(*conditions)) if conditions else AllowAll()
