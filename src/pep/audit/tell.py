"""
What decision and outcome records tell of an enforcement.

Imports L0 and L1 only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pep.ask import Answer
from pep.audit.masking import Masking
from pep.audit.record import decision_fields, duty_fields
from pep.audit.safe import Room, class_name
from pep.extract import Constant, Requirement
from pep.model import AccessRequest, Subject
from pep.profile import Canary
from pep.scope import Frame, Scope
from pep.verdict import Discharge, Outcome, Verdict
from pep.wiring import Wiring

#: Tells no values at all.
NOTHING_SHOWN: Final = Masking()


def asked_fields(needs: Sequence[Requirement], frame: Frame, masking: Masking = NOTHING_SHOWN) -> dict[str, Any]:
    """Tell what is known of a call that was not, or not yet, turned into a request."""
    need, subject = needs[0], _who(needs[0], frame.scope)
    fields: dict[str, Any] = {"action": need.action.name}
    if type(subject) is Subject:
        fields["subject"] = masking.entity(subject)
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
    masking, room = wiring.masking, Room()
    fields = {} if verdict.request is None else masking.request(verdict.request, room)
    if verdict.decision is not None:
        fields.update(decision_fields(verdict.decision))
    for answer in answers:
        if answer.request is verdict.request:
            fields.update(_answer_fields(answer, masking, room))
            break
    fields["outcome"] = verdict.outcome._value_
    fields["allowed"] = verdict.allowed
    fields["pdp"] = wiring.pdp_name
    if verdict.outcome is not Outcome.PERMITTED or verdict.fault is not None or verdict.ran:
        fields.update(_trouble(verdict, answers))
    if verdict.obligations:
        fields["obligations"] = duty_fields(verdict.obligations)
    if len(answers) > 1:
        fields["requests"] = [_one_of_several(answer, masking, room) for answer in answers]
    return fields


def outcome_fields(
    verdict: Verdict,
    status: str,
    *,
    ran: bool,
    error: BaseException | None,
    masking: Masking = NOTHING_SHOWN,
) -> dict[str, Any]:
    """Tell how a recorded permit ended: completed, raised, cancelled, abandoned or withheld."""
    ended = ended_fields(verdict.id, status, verdict.obligations, ran=ran, error=error)
    return {**_request_fields(verdict.request, masking), **ended}


def ended_fields(
    decision: str, status: str, obligations: Sequence[Discharge], *, ran: bool, error: BaseException | None
) -> dict[str, Any]:
    """Tell what an outcome adds to its request: by the id of its decision record; None where it has nothing to tell."""
    return {
        "decision": decision,
        "status": status,
        "ran": ran,
        "error": None if error is None else class_name(type(error)),
        "obligations": duty_fields(obligations) if obligations else None,
    }


def outcome_told(
    entry: str, request: AccessRequest | None, ended: Mapping[str, Any], masking: Masking
) -> dict[str, Any]:
    """Tell an outcome, once somebody asks: its request, and what `ended_fields` told when it ended."""
    return {"entry": entry, **_request_fields(request, masking), **ended}


def _request_fields(request: AccessRequest | None, masking: Masking) -> dict[str, Any]:
    return {} if request is None else masking.request(request)


def batch_ids(answers: Sequence[Answer]) -> list[tuple[str, str | None]]:
    """Name the resources of some answers, by type and id; each once."""
    return list(dict.fromkeys((answer.request.resource.type, answer.request.resource.id) for answer in answers))


def _who(need: Requirement, scope: Scope | None) -> object:
    """Return who was to act, as far as that is known: never who acts here where somebody else was named."""
    if need.subject is not None:
        return need.subject.value if isinstance(need.subject, Constant) else None
    return scope.subject if scope is not None and scope.is_open else None


def _trouble(verdict: Verdict, answers: Sequence[Answer]) -> dict[str, Any]:
    """Tell what was not as it should be."""
    fields: dict[str, Any] = {}
    if verdict.would is not None:
        fields["would"] = verdict.would.value
    if verdict.fault is not None:
        fields["fault"] = verdict.fault.value
    if verdict.cause is not None:
        fields["cause"] = class_name(type(verdict.cause))
    if verdict.ran:
        fields["ran"] = True
    if verdict.outcome is Outcome.FAILED_OPEN:
        fields["failure_mode"] = "open"
    if verdict.outcome is Outcome.SHADOWED:
        # Without any answer nobody could be named, and no canary shadows nobody.
        fields["mode"] = next((_mode(answer) for answer in answers if answer.shadowed), "shadow")
    return fields


def _mode(answer: Answer) -> str:
    return "canary" if type(answer.profile.mode) is Canary else "shadow"


def _answer_fields(answer: Answer, masking: Masking, room: Room) -> dict[str, Any]:
    fields: dict[str, Any] = {"cached": answer.cached}
    if answer.age is not None:
        fields["age"] = answer.age
    if answer.stale:
        fields["stale"] = True
        fields["failure_mode"] = "stale"
    if answer.provided:
        fields["provided"] = list(answer.provided)
    if answer.profile.record_query:
        fields["query"] = masking.query(answer.request, room)
    return fields


def _one_of_several(answer: Answer, masking: Masking, room: Room) -> dict[str, Any]:
    fields = masking.request(answer.request, room)
    if answer.decision is not None:
        fields.update(decision_fields(answer.decision))
    if answer.fault is not None:
        fields["fault"] = answer.fault.value
    if answer.shadowed:
        fields["mode"] = _mode(answer)
    if answer.profile.record_query:
        fields["query"] = masking.query(answer.request, room)
    return fields
