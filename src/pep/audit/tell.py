"""
What decision and outcome records tell of an enforcement.

Imports L0 and L1 only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pep.ask import Answer
from pep.audit.record import decision_fields, duty_fields, entity, request_fields
from pep.extract import Constant, Requirement
from pep.model import Subject
from pep.scope import Frame, Scope
from pep.verdict import Verdict
from pep.wiring import Wiring


def asked_fields(needs: Sequence[Requirement], frame: Frame) -> dict[str, Any]:
    """Tell what is known of a call that was not, or not yet, turned into a request."""
    need, subject = needs[0], _who(needs[0], frame.scope)
    fields: dict[str, Any] = {"action": need.action.name}
    if type(subject) is Subject:
        fields["subject"] = entity(subject)
    if need.resource.type is not None:
        fields["resource"] = {"type": need.resource.type}
    return fields


def decision_told(
    told: Mapping[str, Any], wiring: Wiring, verdict: Verdict, answers: Sequence[Answer]
) -> dict[str, Any]:
    """Tell a decision: what is known of the call, and the verdict."""
    return {**told, **verdict_fields(wiring, verdict, answers)}


def verdict_fields(wiring: Wiring, verdict: Verdict, answers: Sequence[Answer]) -> dict[str, Any]:
    """Tell a verdict: what it rests on, how it was had, and what became of its obligations."""
    chief = next((answer for answer in answers if answer.request is verdict.request), None)
    fields = {} if verdict.request is None else request_fields(verdict.request)
    if verdict.decision is not None:
        fields |= decision_fields(verdict.decision)
    if chief is not None:
        fields |= _answer_fields(chief)
    return fields | {
        "outcome": verdict.outcome.value,
        "allowed": verdict.allowed,
        "would": None if verdict.would is None else verdict.would.value,
        "fault": None if verdict.fault is None else verdict.fault.value,
        "cause": None if verdict.cause is None else type(verdict.cause).__name__,
        "ran": True if verdict.ran else None,
        "obligations": duty_fields(verdict.obligations) or None,
        "pdp": wiring.pdp_name,
        "requests": _batch(answers),
    }


def outcome_fields(verdict: Verdict, status: str, *, ran: bool, error: BaseException | None) -> dict[str, Any]:
    """Tell how a recorded permit ended: completed, raised, cancelled, abandoned or withheld."""
    return {
        **({} if verdict.request is None else request_fields(verdict.request)),
        "decision": verdict.id,
        "status": status,
        "ran": ran,
        "error": None if error is None else type(error).__name__,
        "obligations": duty_fields(verdict.obligations) or None,
    }


def batch_ids(answers: Sequence[Answer]) -> list[tuple[str, str | None]]:
    """Name the resources of some answers, by type and id; each once."""
    return list(dict.fromkeys((answer.request.resource.type, answer.request.resource.id) for answer in answers))


def _who(need: Requirement, scope: Scope | None) -> object:
    """Return who was to act, as far as that is known: never who acts here where somebody else was named."""
    if need.subject is not None:
        return need.subject.value if isinstance(need.subject, Constant) else None
    return scope.subject if scope is not None and scope.is_open else None


def _answer_fields(answer: Answer) -> dict[str, Any]:
    return {
        "cached": answer.cached,
        "age": answer.age,
        "stale": True if answer.stale else None,
        "provided": list(answer.provided) or None,
    }


def _batch(answers: Sequence[Answer]) -> list[Mapping[str, Any]] | None:
    if len(answers) < 2:  # noqa: PLR2004  one request is told by the record itself
        return None
    return [
        {
            **request_fields(answer.request),
            **({} if answer.decision is None else decision_fields(answer.decision)),
            **({} if answer.fault is None else {"fault": answer.fault.value}),
        }
        for answer in answers
    ]
