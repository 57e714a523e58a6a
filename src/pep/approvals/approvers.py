"""
Who may approve: conditions on an approver, and what of a request they look at.

Imports conditions, the approvals' values and the model only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from pep.approvals.refused import ApprovalRefused, Reason
from pep.approvals.values import Approval, Point
from pep.frozen import EMPTY
from pep.model import AccessRequest, Action, Resource, Subject
from pep.plan import Plan, Raised, attempt
from pep.policy.condition import Condition, Property, leaves, terms
from pep.policy.evaluate import Facts, evaluate
from pep.policy.parse import parse

#: A Python predicate on an approver: asked with who wants to approve, and what; only exactly ``True`` allows.
MayApprove = Callable[[Subject, Approval], Any]

_ROOTS: Final = ("resource", "action", "context")


@lru_cache(maxsize=256)
def condition(text: str) -> Condition:
    """
    Read a condition on an approver; its subject is who wants to approve.

    Raises:
        ConfigurationError: When it cannot be read.
    """
    return parse(text)


def named(predicate: MayApprove | None) -> str | None:
    """Return the name a predicate is known by in approvals."""
    if predicate is None:
        return None
    kind: Any = predicate if hasattr(predicate, "__qualname__") else type(predicate)
    return f"{kind.__module__}.{kind.__qualname__}"


def pared(request: AccessRequest, who: str | None) -> AccessRequest:
    """Return a request with those properties and circumstances only that a condition on the approver looks at."""
    needed: dict[str, set[str]] = {root: set() for root in _ROOTS}
    for leaf in leaves(condition(who)) if who is not None else ():
        for term in terms(leaf):
            if type(term) is Property and term.root in needed:
                needed[term.root].add(term.path[0])
    resource, action = request.resource, request.action
    kept = _some(resource.properties, needed["resource"])
    return AccessRequest(
        request.subject.reference(),
        Action(action.name, _some(action.properties, needed["action"])),
        Resource.new(resource.type, kept) if resource.id is None else Resource(resource.type, resource.id, kept),
        _some(request.context, needed["context"]),
        [actor.reference() for actor in request.actors],
        request.tenant,
    )


def allowed_points(
    approval: Approval, names: tuple[Subject, ...], predicate: MayApprove | None, now: float
) -> Plan[tuple[int, ...]]:
    """
    Tell which points of an approval somebody may approve.

    Args:
        approval: What is to be approved.

        names: Who wants to, with the other names of the same person.

        predicate: The Python predicate that points may ask for.

        now: The store's time.

    Raises:
        ApprovalRefused: When there is none, and why.
    """
    own = any(name.reference() in approval.requesters for name in names)
    open_to = [at for at, point in enumerate(approval.points) if not (own and point.four_eyes)]
    if not open_to:
        raise ApprovalRefused(Reason.REQUESTER)
    found = []
    for at in open_to:
        if (yield from _allowed(approval, approval.points[at], names[0], predicate, now)):
            found.append(at)  # noqa: PERF401  a comprehension yields nothing
    if not found:
        raise ApprovalRefused(Reason.NOT_ALLOWED)
    return tuple(found)


def _allowed(
    approval: Approval, point: Point, approver: Subject, predicate: MayApprove | None, now: float
) -> Plan[bool]:
    if point.who is not None:
        asked = point.request.evolve(subject=approver, actors=())
        if evaluate(condition(point.who), Facts(asked, now)) is not True:
            return False
    if point.predicate is None:
        return True
    if predicate is None or named(predicate) != point.predicate:
        return False
    reply = yield from attempt(predicate, approver, approval)
    return type(reply) is not Raised and reply.value is True


def _some(values: Mapping[str, Any], names: set[str]) -> Mapping[str, Any]:
    return {name: values[name] for name in names if name in values} or EMPTY
