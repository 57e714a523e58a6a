"""
Obligations in a decision's ``context``, as AuthZEN's obligations profile has them: both directions.

Imports L0 only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from pep.errors import PDPReplyError
from pep.frozen import thaw
from pep.model import Obligation

#: Where a response's context holds obligations, and where a request's context tells which are understood.
OBLIGATIONS: Final = "obligations"
SUPPORTED: Final = "supported_obligations"

_MEMBERS: Final = frozenset({"id", "type", "properties"})


def obligations_from_context(context: object) -> tuple[Obligation, ...]:
    """
    Read the obligations of a decision.

    Strict: what a decision point demands in a form that is not the profile's was not understood, and a decision that
    was not understood is none.

    Args:
        context: The response's ``context`` as parsed JSON; None where it has none.

    Returns:
        The obligations, in order; none where the context does not speak of any.

    Raises:
        PDPReplyError: When the context or an obligation is malformed: each has exactly ``id``, ``type`` and
            ``properties``, and an ``id`` of its own.

    Source:
        AuthZEN obligations profile (draft 1), the obligation object.
    """
    if context is None:
        return ()
    if not isinstance(context, Mapping):
        message = "a decision's context must be a JSON object"
        raise PDPReplyError(message)
    told = context.get(OBLIGATIONS, ())
    if type(told) is not list and type(told) is not tuple:
        message = f"`{OBLIGATIONS}` of a decision's context must be a JSON array"
        raise PDPReplyError(message)
    obligations = tuple([_obligation(one) for one in told])
    if len({obligation.id for obligation in obligations}) < len(obligations):
        message = "two obligations of one decision have one id"
        raise PDPReplyError(message)
    return obligations


def obligations_to_context(obligations: Iterable[Obligation]) -> dict[str, Any]:
    """
    Write obligations as the context of a decision holds them.

    Args:
        obligations: Any; those without an id get one that no other has.

    Returns:
        ``{"obligations": [...]}``, free to be changed and merged; empty where there are none.

    Raises:
        PDPReplyError: When two have one id; the profile could not tell them apart.
    """
    known = list(obligations)
    taken = [obligation.id for obligation in known if obligation.id is not None]
    if len(set(taken)) < len(taken):
        message = "two obligations of one decision have one id"
        raise PDPReplyError(message)
    free = (name for name in map("obligation-{}".format, range(1, 2 * len(known) + 1)) if name not in taken)
    told = [{"id": one.id or next(free), "type": one.type, "properties": thaw(one.properties)} for one in known]
    return {OBLIGATIONS: told} if told else {}


def supported_to_context(types: Collection[str]) -> dict[str, list[str]]:
    """
    Write which obligations are understood, as the context of a request tells it.

    Args:
        types: The types that handlers understand.

    Source:
        AuthZEN obligations profile (draft 1), negotiation.
    """
    return {SUPPORTED: sorted(types)}


def _obligation(told: object) -> Obligation:
    if not isinstance(told, Mapping) or told.keys() != _MEMBERS:
        message = "an obligation must be a JSON object of exactly `id`, `type` and `properties`"
        raise PDPReplyError(message)
    name = told["id"]
    if type(name) is not str:
        message = "an obligation's id must be a non-empty `str`"
        raise PDPReplyError(message)
    return Obligation(told["type"], told["properties"], name)
