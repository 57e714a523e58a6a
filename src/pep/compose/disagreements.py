"""
Disagreements: what two decision points said of one request, and how that becomes an audit record.

Types and ids, effects, policies and revisions; never the value of an attribute. Imports the audit record, clocks,
steps and the decision's words only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from pep.audit.record import Kind, Record, new_id
from pep.clock import SystemClock
from pep.decision import Decision, Effect
from pep.errors import ConfigurationError
from pep.frozen import canonical
from pep.model import AccessRequest
from pep.plan import Plan, Write, contain, unwrap
from pep.protocols import Clock, Sink

_OUTCOMES: Final = {Effect.PERMIT: "permitted", Effect.INDETERMINATE: "unavailable"}


@attrs.frozen
class Said:
    """
    What one decision point said.

    Attributes:
        effect: What it answered.

        policies: Ids of the policies that decided.

        revision: Which version of the policies decided.

        obligations: Types of the obligations.
    """

    effect: Effect
    policies: tuple[str, ...]
    revision: str | None
    obligations: tuple[str, ...]


@attrs.frozen
class Disagreement:
    """
    Two decision points said different things.

    Attributes:
        pdp: The name of the composition.

        action: What is done.

        subject: Type and id of who acts.

        resource: Type and id of what is acted upon; no id where it is new.

        actors: Type and id of each who acts for the subject, outermost first.

        tenant: Whose world it is.

        enforced: What holds.

        shadow: What the other one said.
    """

    pdp: str
    action: str
    subject: tuple[str, str]
    resource: tuple[str, str | None]
    actors: tuple[tuple[str, str], ...]
    tenant: str | None
    enforced: Said
    shadow: Said


def disagreement_of(pdp: str, request: AccessRequest, enforced: Decision, shadow: Decision) -> Disagreement | None:
    """
    Compare two decisions about one request.

    Returns:
        None where their effects are the same, and their obligations, in any order and whatever their ids.
    """
    if enforced.effect is shadow.effect and _duties(enforced) == _duties(shadow):
        return None
    subject, resource = request.subject, request.resource
    return Disagreement(
        pdp,
        request.action.name,
        (subject.type, subject.id),
        (resource.type, resource.id),
        tuple([(actor.type, actor.id) for actor in request.actors]),
        request.tenant,
        _said(enforced),
        _said(shadow),
    )


def disagreements_to(sink: Sink, *, clock: Clock | None = None) -> Callable[[Disagreement], Plan[None]]:
    """
    Return a listener of a `ShadowPDP` that writes each disagreement to an audit sink.

    The record is of kind ``check``: something was asked, and not enforced. ``outcome`` is what the enforced decision
    comes to, ``would`` what the other one would have; ``requests`` holds both, the other one with the mode
    ``shadow``.

    Args:
        sink: Where records go; the enforcer's own, or another one.

        clock: What time it is.

    Raises:
        ConfigurationError: When the sink is none.
    """
    if isinstance(sink, type) or not callable(getattr(sink, "record", None)):
        shown = sink.__name__ if isinstance(sink, type) else type(sink).__name__
        message = f"`{shown}` is no audit sink; it needs `record(record)`"
        raise ConfigurationError(message)
    timed: Clock = SystemClock() if clock is None else clock

    def tell(disagreement: Disagreement) -> Plan[None]:
        now = timed.wall()
        record = Record(Kind.CHECK, new_id(now), now, _fields(disagreement))
        answer = unwrap((yield Write(sink, record)))
        if hasattr(answer, "send"):
            # A sink may answer with a plan.
            unwrap((yield from contain(answer)))

    return tell


def _duties(decision: Decision) -> list[tuple[str, bytes]]:
    if decision.effect not in {Effect.PERMIT, Effect.DENY}:
        return []
    return sorted((duty.type, canonical(duty.properties)) for duty in decision.obligations)


def _said(decision: Decision) -> Said:
    duties = tuple([duty.type for duty in decision.obligations])
    return Said(decision.effect, decision.policies, decision.revision, duties)


def _fields(found: Disagreement) -> dict[str, Any]:
    about: dict[str, Any] = {
        "subject": _entity(*found.subject),
        "resource": _entity(*found.resource),
        "action": found.action,
    }
    if found.actors:
        about["actors"] = [_entity(*actor) for actor in found.actors]
    if found.tenant is not None:
        about["tenant"] = found.tenant
    return {
        "entry": "check",
        **about,
        **_answer(found.enforced),
        "outcome": _OUTCOMES.get(found.enforced.effect, "denied"),
        "would": _OUTCOMES.get(found.shadow.effect, "denied"),
        "mode": "shadow",
        "pdp": found.pdp,
        "requests": [{**about, **_answer(found.enforced)}, {**about, **_answer(found.shadow), "mode": "shadow"}],
    }


def _entity(kind: str, name: str | None) -> dict[str, str]:
    return {"type": kind} if name is None else {"type": kind, "id": name}


def _answer(said: Said) -> dict[str, Any]:
    told: dict[str, Any] = {"effect": said.effect.value}
    if said.policies:
        told["policies"] = list(said.policies)
    if said.revision is not None:
        told["revision"] = said.revision
    return told
