"""
One AuthZEN evaluation: an access request as JSON, and the JSON of a decision read strictly.

Imports the model, the frozen values, obligations in JSON and the error tree only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from pep.errors import ExtractionError, PDPReplyError
from pep.frozen import canonical
from pep.model import AccessRequest, Decision, Effect, Obligation, Resource
from pep.obligations.authzen import OBLIGATIONS, SUPPORTED, obligations_from_context
from pep.pdp.authzen.hints import reasons_of, step_up_of

#: The member of a context that holds what AuthZEN has no place for.
MEMBER: Final = "pep"

#: The id that stands for a resource that has none yet.
NEW_ID: Final = "pep:new"

#: The members of a decision's context that are understood, beside the library's own.
UNDERSTOOD: Final = frozenset({
    OBLIGATIONS, "acr_values", "amr_values", "evaluation_id", "max_age", "reason", "reason_admin", "reason_user",
})  # fmt: skip

# What a permit cannot come with: it would say two things at once.
_DENYING: Final = ("error", "access_request")

#: Members of a context that are spoken for, of a request's and of a decision's.
TAKEN: Final = UNDERSTOOD | {SUPPORTED, *_DENYING}


@attrs.frozen
class Codec:
    """
    How requests are written, and decisions read.

    Args:
        member: The member of a context that holds tenant and actors, and what a decision point of this library adds.

        new_id: The id that stands for a resource without one.

        supported: The obligation types that are told to be understood; none is told where there are none.

        strict_context: Whether a permit is refused whose context has a member that is not understood.
    """

    member: str = MEMBER
    new_id: str = NEW_ID
    supported: tuple[str, ...] = ()
    strict_context: bool = False

    def request(self, request: AccessRequest) -> dict[str, Any]:
        """
        Write an access request; its context always holds something, since some servers want one.

        Raises:
            PDPReplyError: When the request uses a name or an id that stands for something else on the wire.
        """
        return {
            "subject": request.subject.to_dict(),
            "action": request.action.to_dict(),
            "resource": self._resource(request.resource),
            "context": self._context(request),
        }

    def _resource(self, resource: Resource) -> dict[str, Any]:
        told = resource.to_dict()
        if resource.id == self.new_id:
            message = "the resource's id is the one that stands for a new resource; choose another `new_id`"
            raise PDPReplyError(message)
        return {**told, "id": self.new_id} if resource.is_new else told

    def _context(self, request: AccessRequest) -> dict[str, Any]:
        asked: dict[str, Any] = {}
        if request.tenant is not None:
            asked["tenant"] = request.tenant
        if request.actors:
            asked["actors"] = [actor.to_dict() for actor in request.actors]
        context: dict[str, Any] = dict(request.context)
        for name in (self.member, *([SUPPORTED] if self.supported else [])):
            if name in context:
                message = f"the context has a member `{name}` of its own; the adapter needs that name, choose another"
                raise PDPReplyError(message)
        if self.supported:
            context[SUPPORTED] = list(self.supported)
        if asked or not context:
            context[self.member] = asked
        return context

    def decision(self, told: object) -> Decision:
        """
        Read a decision: only an exact ``true`` permits.

        An error in its context is `Effect.INDETERMINATE`. A hint at a better authentication is an obligation of a
        permit, and advice of a denial, `step-up` both times.

        Raises:
            PDPReplyError: When it is none, contradicts itself, or demands what cannot be read.

        Source:
            AuthZEN Authorization API 1.0, Decision; AuthZEN obligations profile (draft 1).
        """
        permits = told.get("decision") if type(told) is dict else None
        if type(told) is not dict or (permits is not True and permits is not False):
            message = "a decision must be a JSON object whose `decision` is exactly `true` or `false`"
            raise PDPReplyError(message)
        context = {} if told.get("context") is None else told["context"]
        if type(context) is not dict:
            message = "a decision's context must be a JSON object"
            raise PDPReplyError(message)
        if permits:
            self._check_permit(context)
        elif context.get("error") is not None:
            return Decision(Effect.INDETERMINATE, reasons=reasons_of(context), id=_id(context))
        return self._read(context, permits=permits)

    def _check_permit(self, context: Mapping[str, Any]) -> None:
        contradicting = [name for name in _DENYING if context.get(name) is not None]
        if contradicting:
            message = f"a permit came with `{contradicting[0]}`; it says two things at once"
            raise PDPReplyError(message)
        if self.strict_context and not context.keys() <= UNDERSTOOD | {self.member}:
            message = "a permit came with a context that is not understood; see `strict_context`"
            raise PDPReplyError(message)

    def _read(self, context: Mapping[str, Any], *, permits: bool) -> Decision:
        more = _mapping(context.get(self.member))
        effect = Effect.PERMIT if permits else Effect.DENY
        if not permits and more.get("effect") == Effect.NOT_APPLICABLE.value:
            effect = Effect.NOT_APPLICABLE
        hint = step_up_of(context, strict=permits)
        hints = [] if hint is None else [hint]
        return Decision(
            effect,
            obligations=[*obligations_from_context(context), *(hints if permits else [])],
            advice=[*_advice(more.get("advice", [])), *([] if permits else hints)],
            reasons=reasons_of(context),
            policies=more.get("policies", ()),
            revision=more.get("revision"),
            ttl=more.get("ttl"),
            id=_id(context),
        )


def same(value: object) -> bytes:
    """Return bytes that are equal exactly when two parts of a request are: ``1``, ``True`` and ``1.0`` differ."""
    try:
        return canonical(value)
    except ExtractionError as error:
        raise PDPReplyError(str(error)) from None


def _mapping(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if type(value) is not dict:
        message = "the library's own member of a decision's context must be a JSON object; see `member`"
        raise PDPReplyError(message)
    return value


def _advice(told: object) -> list[Obligation]:
    if type(told) is not list or not all(type(one) is dict for one in told):
        message = "`advice` must be a JSON array of objects"
        raise PDPReplyError(message)
    return [Obligation(one.get("type", ""), one.get("properties", {}), one.get("id")) for one in told]


def _id(context: Mapping[str, Any]) -> str | None:
    name = context.get("evaluation_id")
    return name if type(name) is str and name else None
