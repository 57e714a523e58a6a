"""
What Rego policies are asked, and how their results are read: the same behind OPA and in process.

Imports L0 and obligations in a context only.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import attrs

from pep.errors import ConfigurationError, PDPReplyError
from pep.frozen import fields_repr
from pep.model import AccessRequest, Decision, Effect
from pep.obligations.authzen import OBLIGATIONS, obligations_from_context


class Undefined(Enum):
    """What a Rego query without a result has."""

    UNDEFINED = "undefined"


#: The query has no result: no rule of it applied.
UNDEFINED: Final = Undefined.UNDEFINED


@attrs.frozen(init=False, repr=False)
class ResultMapping:
    """
    Where in a result that is an object a decision is read.

    Each part is the name of a member, or names with dots between them; None is not read at all. Members that no
    part names are ignored, since the document of a package holds every rule of it.

    Args:
        allow: Exactly ``true`` permits, ``false`` denies; absent is not applicable.

        obligations: An array of objects with exactly ``id``, ``type`` and ``properties``.

        advice: The same, for what may be ignored.

        reasons: An array of texts, for the record.

        policies: An array of ids.

        ttl: How long the decision may be reused, in seconds.

    Raises:
        ConfigurationError: When a part is no path.
    """

    allow: tuple[str, ...]
    obligations: tuple[str, ...] | None
    advice: tuple[str, ...] | None
    reasons: tuple[str, ...] | None
    policies: tuple[str, ...] | None
    ttl: tuple[str, ...] | None

    __repr__ = fields_repr

    def __init__(
        self,
        *,
        allow: str = "allow",
        obligations: str | None = "obligations",
        advice: str | None = "advice",
        reasons: str | None = "reasons",
        policies: str | None = "policies",
        ttl: str | None = "ttl",
    ) -> None:
        parts = (obligations, advice, reasons, policies, ttl)
        self.__attrs_init__(_path(allow), *[None if part is None else _path(part) for part in parts])  # pyright: ignore[reportAttributeAccessIssue]


def input_of(request: AccessRequest) -> dict[str, Any]:
    """
    Return the ``input`` document of a request: its AuthZEN JSON.

    ``subject`` (``type``, ``id``, ``properties``), ``action`` (``name``, ``properties``) and ``resource`` (``type``,
    ``id``, ``properties``) are always there, ``context``, ``actors`` (an array of subjects, outermost first),
    ``tenant`` and ``properties`` where there are any. A new resource has no ``id``.
    """
    return request.to_dict()


def decision_of_result(
    result: object,
    mapping: ResultMapping | None = None,
    *,
    revision: str | None = None,
    id: str | None = None,  # noqa: A002  AuthZEN's name
) -> Decision:
    """
    Read the result of a query.

    Args:
        result: As parsed JSON; `UNDEFINED` where there is none.

        mapping: Where in an object the decision is; without one, exactly ``true`` permits and ``false`` denies.

        revision: Which version of the policies decided.

        id: The engine's own id of the decision.

    Returns:
        A decision; `Effect.NOT_APPLICABLE` where the result, or what the mapping calls ``allow``, is undefined.

    Raises:
        PDPReplyError: On any other result, however true it may look.
    """
    if result is UNDEFINED:
        return Decision(Effect.NOT_APPLICABLE, revision=revision, id=id)
    if mapping is None:
        return Decision(_effect(result), revision=revision, id=id)
    if not isinstance(result, Mapping):
        message = f"the result must be a JSON object, as the mapping reads it, not `{type(result).__name__}`"
        raise PDPReplyError(message)
    return Decision(
        _effect(_found(result, mapping.allow, UNDEFINED)),
        obligations=obligations_from_context({OBLIGATIONS: _found(result, mapping.obligations, ())}),
        advice=obligations_from_context({OBLIGATIONS: _found(result, mapping.advice, ())}),
        reasons=_found(result, mapping.reasons, ()),
        policies=_found(result, mapping.policies, ()),
        revision=revision,
        ttl=_found(result, mapping.ttl, None),
        id=id,
    )


def _effect(value: object) -> Effect:
    if value is UNDEFINED:
        return Effect.NOT_APPLICABLE
    if value is True or value is False:
        return Effect.PERMIT if value else Effect.DENY
    message = f"only exactly `true` and `false` are results of a decision, not a `{type(value).__name__}`"
    raise PDPReplyError(message)


def _found(result: Mapping[str, Any], path: tuple[str, ...] | None, absent: Any) -> Any:  # noqa: ANN401  a JSON value
    """Return what is at a path; *absent* where it ends early. Something in the way is no decision."""
    found: Any = result
    for name in path or ():
        if not isinstance(found, Mapping):
            message = f"the result has no object around `{name}`"
            raise PDPReplyError(message)
        if name not in found:
            return absent
        found = found[name]
    return absent if path is None else found


def _path(text: object) -> tuple[str, ...]:
    names = text.split(".") if type(text) is str else ()
    if names and all(names):
        return tuple(names)
    message = "a part of a result mapping is a name, or names with dots between them, such as `decision.allow`"
    raise ConfigurationError(message)
