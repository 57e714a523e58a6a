"""
Row filters: which resources of a type may be acted upon, before any is loaded.

Imports the enforcement plan and what is below it; the policies where a filter is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from pep.audit.record import Kind
from pep.audit.tell import asked_fields, verdict_fields
from pep.enforcement import Enforcement, denial
from pep.errors import AttributeProviderError, ConfigurationError, PDPReplyError
from pep.fault import Fault, fault_of
from pep.model import Decision, Effect
from pep.plan import Plan, Raised, Reply, Returned, attempt
from pep.protocols import RowFilterPDP
from pep.settle import settle_effect
from pep.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from pep.ask import Answer
    from pep.policy.partial import RowFilter

T = TypeVar("T")


def row_filter(job: Enforcement) -> Plan[Reply]:
    """
    Have the decision point say which rows may be acted upon, for the subject and every actor.

    Args:
        job: Asks about a new resource of the type.

    Returns:
        `AllowAll`, `DenyAll` or `Conditional`, recorded; or the denial to raise, where no answer was had.
    """
    if not isinstance(job.wiring.pdp, RowFilterPDP):
        message = (
            f"`{job.wiring.pdp_name}` cannot filter rows; bring a decision point with `row_filter`, or use `filter`"
        )
        return Raised(ConfigurationError(message))
    found: RowFilter | None = None
    if (yield from job.extract()):
        found = yield from _asked(job)
    fields = {"entry": job.entry, "filter": None if found is None else _NAMES[type(found).__name__]}
    if job.verdict.request is None:
        fields |= asked_fields(job.needs, job.frame)
    told = verdict_fields(job.wiring, job.verdict, job.answers)
    record = job.wiring.journal.make(Kind.DECISION, fields | told, record_id=job.verdict.id)
    failed = yield from job.wiring.journal.write(record, job.timing.deadline)
    if found is None:
        return Raised(denial(job.verdict))
    if failed is not None or not job.holds():
        job.refuse(Fault.AUDIT if failed is not None else Fault.REVOKED, failed)
        return Raised(denial(job.verdict))
    return Returned(found)


_NAMES = {"AllowAll": "allow_all", "DenyAll": "deny_all", "Conditional": "conditional"}


def _asked(job: Enforcement) -> Plan[RowFilter | None]:
    """Ask for every request, and join the answers; None where there is a fault, which the verdict then tells."""
    from pep.policy.partial import AllowAll, DenyAll  # noqa: PLC0415  only who filters rows pays for policies

    found: list[RowFilter] = []
    for answer in job.answers:
        one = yield from _one(job, answer)
        if answer.fault is not None or one is None:
            job.refuse(answer.fault or Fault.INTERNAL, answer.cause)
            job.verdict = attrs.evolve(job.verdict, request=answer.request)
            return None
        found.append(one)
    joined = _joined(found)
    effect = Effect.DENY if type(joined) is DenyAll else Effect.PERMIT
    shadowed = all(answer.shadowed for answer in job.answers)
    outcome = Outcome.SHADOWED if shadowed else settle_effect(effect)
    revision = getattr(job.wiring.pdp, "revision", None)
    job.verdict = Verdict(
        job.verdict.id or job.record_id,
        outcome,
        request=job.answers[0].request,
        decision=Decision(effect, revision=revision if type(revision) is str else None),
        would=settle_effect(effect) if shadowed else None,
        requests=tuple(answer.request for answer in job.answers),
        hidden=any(answer.profile.hidden for answer in job.answers),
    )
    return AllowAll() if shadowed else joined


def _one(job: Enforcement, answer: Answer) -> Plan[Any]:
    """Ask for one request; a fault is left in its answer."""
    pdp: Any = job.wiring.pdp
    try:
        request = yield from job.wiring.providers.enrich(
            answer.request, job.timing.deadline, generations=job.wiring.generations, rows=True
        )
    except AttributeProviderError as error:
        answer.fault, answer.cause = Fault.ATTRIBUTES, error
        return None
    answer.request = request
    reply = yield from attempt(_ask_pdp, pdp, request, deadline=job.timing.deadline)
    if type(reply) is Raised:
        answer.fault, answer.cause = fault_of(reply.error), reply.error
        return None
    from pep.policy.partial import AllowAll, Conditional, DenyAll  # noqa: PLC0415  only who filters rows pays for policies

    value = reply.value
    if type(value) not in {AllowAll, Conditional, DenyAll}:
        answer.fault = Fault.MALFORMED
        answer.cause = PDPReplyError("a row filter must be `AllowAll`, `DenyAll` or `Conditional`")
        return None
    return value


def _ask_pdp(pdp: Any, request: Any) -> Any:  # noqa: ANN401  whatever the decision point answers
    return pdp.row_filter(request.subject, request.action, request.resource.type, context=request.context)


def _joined(found: list[RowFilter]) -> RowFilter:
    """Rows that every filter lets through."""
    from pep.policy.condition import conjunction  # noqa: PLC0415  only who filters rows pays for policies
    from pep.policy.partial import AllowAll, Conditional, DenyAll  # noqa: PLC0415  only who filters rows pays for policies

    if any(type(one) is DenyAll for one in found):
        return DenyAll()
    conditions = [one.condition for one in found if isinstance(one, Conditional)]
    if not conditions:
        return AllowAll()
    return Conditional(conjunction(*conditions))
