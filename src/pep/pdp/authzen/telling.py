"""
Answers as an AuthZEN server tells them: only an exact permit is ``true``.

Imports answers, the model, obligations in JSON and plain values only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from pep.fault import AVAILABILITY, Fault
from pep.frozen import thaw
from pep.model import Action, Decision, Effect, Obligation, Resource, Subject
from pep.obligations.authzen import obligations_to_context
from pep.pdp.authzen.answering import Answer


@attrs.frozen
class Telling:
    """
    How answers are told.

    Args:
        member: The member of a context that holds what AuthZEN has no place for.

        explain: Whether reasons, policies and revision are told.
    """

    member: str
    explain: bool

    def answer(self, answer: Answer) -> dict[str, Any]:
        """Tell one answer; where there is no decision, it is a denial with an error."""
        decision = answer.decision
        if decision is None or decision.effect is Effect.INDETERMINATE:
            return failed(*problem_of(answer), evaluation=answer.id)
        context = {"evaluation_id": answer.id, **obligations_to_context(_told_apart(decision.obligations))}
        if self.explain and decision.reasons:
            context["reason_admin"] = {str(place): reason for place, reason in enumerate(decision.reasons, 1)}
        more = self._more(decision)
        if more:
            context[self.member] = more
        return {"decision": decision.effect is Effect.PERMIT, "context": context}

    def hit(self, hit: Subject | Resource | Action, answer: Answer) -> dict[str, Any] | None:
        """Tell one hit of a search, with what it obliges to; None where it is not permitted."""
        decision = answer.decision
        if decision is None or decision.effect is not Effect.PERMIT:
            return None
        return {**hit.to_dict(), **obligations_to_context(_told_apart(decision.obligations))}

    def hits(self, told: Iterable[dict[str, Any] | None], *, complete: bool) -> dict[str, Any]:
        """Tell what a search found."""
        results = [one for one in told if one is not None]
        if complete:
            return {"results": results}
        return {"context": {self.member: {"complete": False}}, "results": results}

    def _more(self, decision: Decision) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if decision.ttl is not None:
            more["ttl"] = decision.ttl
        if decision.advice:
            more["advice"] = [_obligation(one) for one in decision.advice]
        if self.explain and decision.effect is Effect.NOT_APPLICABLE:
            more["effect"] = decision.effect.value
        if self.explain and decision.policies:
            more["policies"] = list(decision.policies)
        if self.explain and decision.revision is not None:
            more["revision"] = decision.revision
        return more


def failed(status: int, message: str, *, evaluation: str | None = None) -> dict[str, Any]:
    """Tell that there is no decision: a denial with an error."""
    known = {} if evaluation is None else {"evaluation_id": evaluation}
    return {"decision": False, "context": {**known, "error": {"status": status, "message": message}}}


def problem_of(answer: Answer) -> tuple[int, str]:
    """Return status and message of an answer that is none."""
    if answer.decision is not None:
        return 500, "the policies could not be evaluated"
    return status_of(answer.fault), "no decision was had"


def status_of(fault: Fault | None) -> int:
    """Return the status of a fault: 503 where the decision point is down or late, else 500."""
    return 503 if fault in AVAILABILITY else 500


def _told_apart(obligations: Iterable[Obligation]) -> list[Obligation]:
    """Take the id from all obligations of one id but the first: ids tell them apart."""
    found: list[Obligation] = []
    for one in obligations:
        taken = any(one.id == other.id for other in found)
        found.append(Obligation(one.type, one.properties) if taken else one)
    return found


def _obligation(one: Obligation) -> dict[str, Any]:
    known = {} if one.id is None else {"id": one.id}
    return {"type": one.type, "properties": thaw(one.properties), **known}
