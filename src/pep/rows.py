"""
Row filters: which resources of a type may be acted upon, before any is loaded.

Imports the enforcement plan and what is below it; the policies where a filter is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pep.ask import Answer
from pep.audit.record import Kind
from pep.audit.tell import asked_fields, verdict_fields
from pep.enforcement import Enforcement, Stage, denial
from pep.errors import AttributeProviderError, ConfigurationError, ExtractionError, PDPReplyError
from pep.fault import Fault, fault_of
from pep.model import AccessRequest, Decision, Effect
from pep.plan import Plan, Raised, Reply, Returned, attempt
from pep.protocols import RowFilterPDP
from pep.settle import prevailing, settle_fault
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
    pdp = job.wiring.pdp
    if not isinstance(pdp, RowFilterPDP):
        name = job.wiring.pdp_name
        message = f"`{name}` cannot filter rows; bring a decision point with `row_filter`, or use `filter`"
        return Raised(ConfigurationError(message))
    rows: RowFilter | None = None
    for _again in range(2):
        rows = yield from _decided(job, pdp)
        failed = yield from _record(job, rows)
        if rows is None or not job.verdict.allowed:
            break
        if failed is None and job.holds():
            break
        rows = None
        if failed is not None:
            # INVARIANT: no filter that lets a row through is released without a record.
            job.refuse(Fault.AUDIT, failed)
            break
        yield from job.finish("withheld")
        job.refuse(Fault.REVOKED)
    return Raised(denial(job.verdict)) if rows is None else Returned(rows)


def _record(job: Enforcement, rows: RowFilter | None) -> Plan[Exception | None]:
    journal, verdict = job.wiring.journal, job.verdict
    fields: dict[str, Any] = {
        "entry": job.entry,
        "latency": job.deciding.latency(),
        "filter": None if rows is None else _NAMES[type(rows).__name__],
    }
    if verdict.request is None:
        fields |= asked_fields(job.needs, job.frame, job.wiring.masking)
    fields |= verdict_fields(job.wiring, verdict, job.answers)
    record = journal.make(Kind.DECISION, fields, record_id=job.record_id)
    # What the sink was handed it may have taken; without it, nothing is released.
    job.pending, job.stage = None if verdict.allowed else record, Stage.RECORDED
    failed = yield from journal.write(record, job.deciding.until(verdict.outcome))
    job.pending, job.stage = None, Stage.DONE
    return failed


def _decided(job: Enforcement, pdp: RowFilterPDP) -> Plan[RowFilter | None]:
    """Ask for every request, and join the answers; None where there is a fault, which the verdict then tells."""
    if not (yield from job.extract()):
        return _joined([]) if job.verdict.allowed else None
    enforced: list[RowFilter] = []
    for answer in job.answers:
        rows = yield from _one(job, pdp, answer)
        if answer.shadowed:
            continue
        if rows is None:
            job.verdict = _verdict(job, answer, _outcome(answer))
            return None
        enforced.append(rows)
    job.verdict = _weighed(job)
    return _joined(enforced)


def _weighed(job: Enforcement) -> Verdict:
    """Weigh the answers; those that are only shadowed tell what would have been, faults and all."""
    answers = job.answers
    real = prevailing(_outcome(answer) for answer in answers if not answer.shadowed)
    shadowing = real is Outcome.PERMITTED and any(answer.shadowed for answer in answers)
    if shadowing:
        real = prevailing(_outcome(answer) for answer in answers)
    chief = next(answer for answer in answers if _outcome(answer) is real)
    return _verdict(job, chief, Outcome.SHADOWED, would=real) if shadowing else _verdict(job, chief, real)


def _verdict(job: Enforcement, chief: Answer, outcome: Outcome, *, would: Outcome | None = None) -> Verdict:
    return Verdict(
        job.record_id,
        outcome,
        request=chief.request,
        decision=chief.decision,
        fault=chief.fault,
        cause=chief.cause,
        would=would,
        requests=tuple(answer.request for answer in job.answers),
        hidden=any(answer.profile.hidden for answer in job.answers),
    )


def _outcome(answer: Answer) -> Outcome:
    if answer.fault is not None:
        return settle_fault(answer.fault)
    decision = answer.decision
    return Outcome.PERMITTED if decision is not None and decision.effect is Effect.PERMIT else Outcome.DENIED


def _one(job: Enforcement, pdp: RowFilterPDP, answer: Answer) -> Plan[RowFilter | None]:
    """Ask for one request; its answer gets a decision, or a fault."""
    from pep.policy.partial import AllowAll, Conditional, DenyAll  # noqa: PLC0415  only who filters rows pays for policies

    wiring, deadline = job.wiring, job.timing.deadline
    names = tuple(name for name in wiring.providers.names(answer.request) if not name.startswith("resource."))
    try:
        answer.request = yield from wiring.providers.enrich(answer.request, deadline, wiring.generations, rows=True)
    except (AttributeProviderError, ExtractionError) as error:
        answer.fault = Fault.ATTRIBUTES if isinstance(error, AttributeProviderError) else Fault.EXTRACTION
        answer.cause = error
        return None
    answer.provided = names
    reply = yield from attempt(_ask, pdp, answer.request, deadline=deadline, threaded=wiring.threaded)
    if isinstance(reply, Raised):
        answer.fault, answer.cause = fault_of(reply.error), reply.error
        return None
    if type(reply.value) not in {AllowAll, Conditional, DenyAll}:
        answer.fault = Fault.MALFORMED
        answer.cause = PDPReplyError("a row filter must be `AllowAll`, `DenyAll` or `Conditional`")
        return None
    rows: RowFilter = reply.value
    answer.decision = _decision(pdp, rows)
    return rows


def _decision(pdp: RowFilterPDP, rows: RowFilter) -> Decision:
    """Tell a record what a filter comes to, and by which revision."""
    effect = Effect.DENY if _NAMES[type(rows).__name__] == "deny_all" else Effect.PERMIT
    revision = getattr(pdp, "revision", None)
    return Decision(effect, revision=revision if type(revision) is str and revision else None)


def _ask(pdp: RowFilterPDP, request: AccessRequest) -> object:
    # INVARIANT: everything but the resource: whose world it is, and for whom somebody acts, decide too.
    whose = {"context": request.context, "actors": request.actors, "tenant": request.tenant}
    return pdp.row_filter(request.subject, request.action, request.resource.type, **whose)  # type: ignore[arg-type]


def _joined(found: Sequence[RowFilter]) -> RowFilter:
    """Rows that every filter lets through; without any, nothing is enforced and all of them."""
    from pep.policy.condition import conjunction  # noqa: PLC0415  only who filters rows pays for policies
    from pep.policy.partial import AllowAll, Conditional, DenyAll  # noqa: PLC0415  only who filters rows pays for policies

    if any(type(one) is DenyAll for one in found):
        return DenyAll()
    conditions = [one.condition for one in found if isinstance(one, Conditional)]
    return Conditional(conjunction(*conditions)) if conditions else AllowAll()
