"""
Weighing: from answers and ledger to one verdict. Pure.

Imports L0 and L1 only.
"""

from __future__ import annotations

from collections.abc import Sequence

from pep.ask import Answer
from pep.fault import Fault
from pep.model import AccessRequest, Effect
from pep.obligations.ledger import Duty, Handlers
from pep.profile import FailOpen
from pep.protocols import Phase
from pep.settle import excuses, prevailing, settle_duties, settle_effect, settle_fault
from pep.verdict import ALLOWING, Outcome, Verdict


def outcome_of(answer: Answer) -> Outcome:
    """Settle one answer by itself: closed where it is a fault."""
    if answer.decision is not None:
        return settle_effect(answer.decision.effect)
    return settle_fault(answer.fault or Fault.INTERNAL)


def may_open(answer: Answer) -> bool:
    """Tell whether the answer is a fault that its failure mode may open."""
    mode, fault = answer.profile.on_failure, answer.fault
    if answer.shadowed or answer.decision is not None or fault is None:
        return False
    return answer.excusable and isinstance(mode, FailOpen) and excuses(mode, fault)


def openings(answers: Sequence[Answer]) -> list[tuple[FailOpen, AccessRequest]]:
    """
    Name the failure modes that would have to open a call.

    Args:
        answers: Those that are enforced.

    Returns:
        Each request that has no permit, with its failure mode; nothing where one of them may not be opened.
    """
    found: list[tuple[FailOpen, AccessRequest]] = []
    for answer in answers:
        if outcome_of(answer) is Outcome.PERMITTED:
            continue
        mode = answer.profile.on_failure
        if not may_open(answer) or not isinstance(mode, FailOpen):
            return []
        found.append((mode, answer.request))
    return found


def open_ledger(
    handlers: Handlers, answers: Sequence[Answer], outcome: Outcome, phases: tuple[Phase, ...]
) -> list[Duty]:
    """
    Open the ledger of some answers.

    Args:
        handlers: What discharges obligations.

        answers: What was answered, and is enforced.

        outcome: What the answers come to.

        phases: The phases of this entry point for a permit.

    Returns:
        The duties: those of a denial only for denials, compensating ones for what is opened.
    """
    duties: list[Duty] = []
    for answer in answers:
        decision, mode = answer.decision, answer.profile.on_failure
        if decision is not None:
            if decision.obligations:
                denies = decision.effect is not Effect.PERMIT
                duties += handlers.open(decision.obligations, answer.request, (Phase.ON_DENIAL,) if denies else phases)
        elif outcome is Outcome.FAILED_OPEN and isinstance(mode, FailOpen):
            duties += handlers.open(mode.obligations, answer.request, phases)
    return duties


def would_be(handlers: Handlers, answers: Sequence[Answer], phases: tuple[Phase, ...]) -> Outcome:
    """Tell what shadowed answers would come to; their obligations are assessed, and left alone."""
    outcome = prevailing(outcome_of(answer) for answer in answers)
    if outcome not in ALLOWING:
        return outcome
    return with_duties(outcome, open_ledger(handlers, answers, outcome, phases))[0]


def with_duties(outcome: Outcome, duties: Sequence[Duty]) -> tuple[Outcome, Fault | None]:
    """Tell what an allowing outcome comes to with what became of its obligations so far."""
    if not duties:
        return outcome, None
    statuses = [duty.status for duty in duties if duty.refusal is None and not duty.excused]
    settled, fault = settle_duties(statuses, [duty.refusal for duty in duties if duty.refusal is not None])
    if settled is Outcome.PERMITTED:
        return outcome, None
    if outcome is Outcome.FAILED_OPEN:
        # A compensation that fails takes the opening back; the outage is the fault.
        return Outcome.UNAVAILABLE, None
    return settled, fault


def weigh(
    record_id: str,
    answers: Sequence[Answer],
    duties: Sequence[Duty],
    outcome: Outcome,
    *,
    would: Outcome = Outcome.PERMITTED,
    ran: bool = False,
) -> Verdict:
    """
    Weigh answers and ledger into the verdict.

    Args:
        record_id: The id of the record that will hold it.

        answers: What was answered.

        duties: What became of the obligations.

        outcome: What the enforced answers came to.

        would: What the shadowed answers would come to.

        ran: Whether the protected code has run already.

    Returns:
        The verdict; shadowed where something is only shadowed and nothing enforced refuses.
    """
    if len(answers) == 1 and not duties and not answers[0].shadowed:
        return _of_one(record_id, answers[0], outcome, ran=ran)
    fault = None
    if outcome in ALLOWING:
        outcome, fault = with_duties(outcome, duties)
    shadowing = outcome in ALLOWING and any(answer.shadowed for answer in answers)
    real = prevailing([outcome, would]) if shadowing else outcome
    chief = _chief(answers, real)
    causes = [*[duty.error for duty in duties if fault is Fault.OBLIGATION and duty.unmet], chief.cause]
    return Verdict(
        id=record_id,
        outcome=prevailing([outcome, Outcome.SHADOWED]) if shadowing else outcome,
        request=chief.request,
        decision=chief.decision,
        fault=fault or chief.fault,
        obligations=tuple([duty.told() for duty in duties]),
        cached=chief.cached,
        ran=ran,
        would=real if shadowing else None,
        demands={name: value for duty in duties if duty.refusal for name, value in duty.refusal.demands.items()},
        requests=tuple([answer.request for answer in answers]),
        hidden=any(answer.profile.hidden for answer in answers),
        cause=next((cause for cause in causes if cause is not None), None),
    )


def _of_one(record_id: str, answer: Answer, outcome: Outcome, *, ran: bool) -> Verdict:
    """Make the verdict that one answer comes to by itself, as most do."""
    return Verdict(
        id=record_id,
        outcome=outcome,
        request=answer.request,
        decision=answer.decision,
        fault=answer.fault,
        cached=answer.cached,
        ran=ran,
        requests=(answer.request,),
        hidden=answer.profile.hidden,
        cause=answer.cause,
    )


def without_answer(
    record_id: str,
    fault: Fault,
    cause: BaseException | None,
    *,
    requests: Sequence[AccessRequest],
    duties: Sequence[Duty],
    hidden: bool,
    shadowed: bool,
    ran: bool,
) -> Verdict:
    """Make the verdict of a call that no failure mode can excuse: something of ours, or of the caller's, is wrong."""
    closed = settle_fault(fault)
    return Verdict(
        id=record_id,
        outcome=Outcome.SHADOWED if shadowed else closed,
        request=requests[0] if requests else None,
        fault=fault,
        cause=cause,
        ran=ran,
        would=closed if shadowed else None,
        obligations=tuple(duty.told() for duty in duties),
        requests=tuple(requests),
        hidden=hidden,
    )


def _chief(answers: Sequence[Answer], outcome: Outcome) -> Answer:
    """Find the answer the verdict rests on: the first that came to its outcome, a stale one before others."""
    if len(answers) == 1:
        return answers[0]
    matching = [answer for answer in answers if outcome_of(answer) is outcome]
    matching.sort(key=lambda answer: answer.fault is None)
    faulted = [answer for answer in answers if answer.fault is not None and outcome is not Outcome.PERMITTED]
    return next(iter([*matching, *faulted, *answers]))
